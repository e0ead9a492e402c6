//! The writing end of a stream of bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWrite;

use super::{StreamError, end::Giver};
use crate::{session::Session, stream::Reason};

/// The writing end of a stream of bytes. It keeps the session alive, as a clone of it does.
///
/// Dropped before [`finish`](Self::finish), the stream is aborted: the reader gets an error, not an end.
#[derive(Debug)]
pub struct StreamWriter {
    giver: Giver,
    hash: Sha256,
    ended: bool,
    _session: Session,
}

impl StreamWriter {
    pub(super) fn new(giver: Giver, session: Session) -> Self {
        Self {
            giver,
            hash: Sha256::new(),
            ended: false,
            _session: session,
        }
    }

    /// Sends all these bytes. It waits while the reader has not taken what came before (2 MiB by default), as it does
    /// while the session has no transport.
    ///
    /// # Errors
    /// Why the stream ended: [`StreamError::Ended`] or [`StreamError::Refused`] by the reader, [`StreamError::Reset`], or
    /// the end of the session.
    ///
    /// # Cancel safety
    /// Dropped while it waits, some of the bytes may have been sent: use the [`AsyncWrite`] where that matters.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let sent = self.giver.write(bytes).await?;
            self.hash.update(&bytes[..sent]);
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Ends the stream, and waits until the reader has taken all of it and found its hash right.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    /// Dropped, the stream ends all the same; only the waiting is given up.
    pub async fn finish(mut self) -> Result<(), StreamError> {
        self.end()?;
        self.giver.done().await
    }

    /// Gives the stream up: the reader gets an error. Dropping it does the same.
    pub fn abort(self) {
        self.giver.abort(Reason::Cancelled);
    }

    fn end(&mut self) -> Result<(), StreamError> {
        if !std::mem::replace(&mut self.ended, true) {
            self.giver.end(self.hash.clone().finalize().into())?;
        }
        Ok(())
    }
}

/// Shutting down is [`StreamWriter::finish`]; flushing does nothing, for nothing is held back.
impl AsyncWrite for StreamWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(self.giver.poll_write(cx, bytes))?;
        self.hash.update(&bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end()?;
        ready!(self.giver.poll_done(cx))?;
        Poll::Ready(Ok(()))
    }
}
