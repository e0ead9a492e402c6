//! The reading end of a stream of bytes.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use super::{StreamError, end::Taker};
use crate::{session::Session, stream::Reason};

/// The reading end of a stream of bytes. It keeps the session alive, as a clone of it does.
///
/// An end is only told once all bytes were read and their hash is the writer's. Dropped before that, the writer gets an
/// error.
#[derive(Debug)]
pub struct StreamReader {
    taker: Taker,
    hash: Sha256,
    /// What [`AsyncRead`] has not handed out.
    rest: Bytes,
    whole: bool,
    _session: Session,
}

impl StreamReader {
    pub(super) fn new(taker: Taker, session: Session) -> Self {
        Self {
            taker,
            hash: Sha256::new(),
            rest: Bytes::new(),
            whole: false,
            _session: session,
        }
    }

    /// The next bytes, at least one and as many as came together; `None` behind the last.
    ///
    /// What is not read waits, 2 MiB by default ([`StreamLimits::window`](super::StreamLimits::window)); then the writer
    /// waits, and no other stream does.
    ///
    /// # Errors
    /// Why the stream ended early, and [`StreamError::HashMismatch`] in the place of the end.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing was taken.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|cx| self.poll_read_chunk(cx)).await
    }

    /// SHA-256 of what was read so far by [`read_chunk`](Self::read_chunk): behind the end of the whole, the same on both
    /// sides.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamError>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        if self.whole {
            return Poll::Ready(Ok(None));
        }
        let theirs = match ready!(self.taker.poll_chunk(cx))? {
            Ok(chunk) => {
                self.hash.update(&chunk);
                return Poll::Ready(Ok(Some(chunk)));
            }
            Err(hash) => hash,
        };
        let ours: [u8; 32] = self.hash.clone().finalize().into();
        if ours != theirs {
            self.taker.stop(Reason::Hash);
            return Poll::Ready(Err(StreamError::HashMismatch));
        }
        self.taker.done()?;
        self.whole = true;
        Poll::Ready(Ok(None))
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut chunk) = ready!(self.poll_read_chunk(cx))? else {
            return Poll::Ready(Ok(()));
        };
        let len = chunk.len().min(into.remaining());
        into.put_slice(&chunk[..len]);
        chunk.advance(len);
        self.rest = chunk;
        Poll::Ready(Ok(()))
    }
}
