//! A WebSocket that reads and writes at once: neither direction ever waits for the other.
//!
//! Its buffers are bounded. No extension is ever negotiated: there is no decompression to abuse.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Sink as _, Stream as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error, Message, Utf8Bytes,
        error::ProtocolError,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::envelope::MAX_FRAME;

/// Bytes collected before they are written without a flush.
const WRITE_BUFFER: usize = 4 << 10;

/// The most bytes that may wait for the network: enough, the largest frame, pongs and a close frame.
const MAX_WRITE_BUFFER: usize = 64 << 10;

/// Bytes thrown away at once while waiting for the other end to close.
const DISCARD: usize = 2 << 10;

/// Bounded buffers, of which `read_buffer` bytes exist for every idle connection (the library's default is 128 KiB).
pub(crate) fn bounded(read_buffer: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}

/// What a socket has to tell.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message, which no envelope is.
    Binary,
    /// A ping (answered already) or a pong: a sign of life.
    Alive,
    /// The other end's close frame.
    Closed(Option<CloseFrame>),
    /// Everything that was queued was handed to the network.
    Flushed,
}

/// A WebSocket after its handshake.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    stream: WebSocketStream<S>,
    /// Bytes queued since the last complete flush, headers not counted.
    unflushed: Option<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(crate) fn new(stream: WebSocketStream<S>) -> Self {
        Self {
            stream,
            unflushed: None,
        }
    }

    /// Queues a text message. It is written while [`Socket::next`] is awaited.
    ///
    /// # Errors
    /// When the connection is closed, or more was queued than [`Socket::is_writable`] allows.
    pub(crate) fn queue(&mut self, text: Utf8Bytes) -> Result<(), Error> {
        self.queue_message(text.len(), Message::Text(text))
    }

    /// Queues an empty ping.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) fn queue_ping(&mut self) -> Result<(), Error> {
        self.queue_message(0, Message::Ping(Bytes::new()))
    }

    /// What happens next, after writing as much of the queue as the network takes. Cancel-safe.
    ///
    /// # Errors
    /// The connection failed, or the other end broke the WebSocket protocol ([`close_code`] says how).
    pub(crate) async fn next(&mut self) -> Result<Incoming, Error> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Writes what is queued and waits until the other end closes the connection, at most `within`.
    pub(crate) async fn finish(mut self, within: Duration) {
        let _ = timeout(within, async { while self.next().await.is_ok() {} }).await;
    }

    /// Closes the connection, at most `within`. What was queued goes before it.
    ///
    /// What still arrives is thrown away: bytes left unread when a socket is dropped reset the connection, and the
    /// other end would never see the reason.
    pub(crate) async fn close(mut self, code: CloseCode, reason: &'static str, within: Duration) {
        let frame = CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        };
        let _ = timeout(within, async {
            self.queue_message(0, Message::Close(Some(frame))).ok()?;
            poll_fn(|context| Pin::new(&mut self.stream).poll_flush(context))
                .await
                .ok()?;
            let stream = self.stream.get_mut();
            stream.shutdown().await.ok()?;
            let mut discarded = vec![0; DISCARD];
            while stream.read(&mut discarded).await.ok()? > 0 {}
            Some(())
        })
        .await;
    }

    /// Whether everything queued was handed to the network.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unflushed.is_none()
    }

    fn queue_message(&mut self, bytes: usize, message: Message) -> Result<(), Error> {
        *self.unflushed.get_or_insert(0) += bytes;
        Pin::new(&mut self.stream).start_send(message)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, Error>> {
        if self.unflushed.is_some() && Pin::new(&mut self.stream).poll_flush(context)?.is_ready() {
            self.unflushed = None;
            return Poll::Ready(Ok(Incoming::Flushed));
        }
        Pin::new(&mut self.stream)
            .poll_next(context)
            .map(|message| match message {
                Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => Ok(Incoming::Binary),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Incoming::Alive),
                Some(Ok(Message::Close(frame))) => Ok(Incoming::Closed(frame)),
                Some(Err(error)) => Err(error),
                None => Err(Error::ConnectionClosed),
            })
    }
}

/// The code that tells the other end which rule of WebSocket it broke; `None` when the connection simply failed.
pub(crate) fn close_code(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::AlreadyClosed
        | Error::AttackAttempt
        | Error::ConnectionClosed
        | Error::Http(_)
        | Error::HttpFormat(_)
        | Error::Io(_)
        | Error::Tls(_)
        | Error::Url(_)
        | Error::WriteBufferFull(_) => None,
    }
}
