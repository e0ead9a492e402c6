//! One client, from its open WebSocket to its end: frames in, the mailbox out, and the clocks.
//!
//! Every well-formed WebSocket message that is no envelope, binary ones included, is answered by an `error` and the
//! connection goes on. A message that breaks WebSocket itself ends this connection, and no other.

use std::{pin::pin, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};
use tracing::debug;

use super::{
    deadlines::{Deadlines, Due},
    farewell::Farewell,
    hub::{self, Hub, Seat},
    listener::Shutdown,
    mailbox::{Mailbox, Overflow},
};
use crate::{
    room::{EndpointId, RoomId},
    signaling::{
        bucket::TokenBucket,
        envelope::{Blob, ClientEnvelope, ErrorCode},
        socket::{self, Incoming, Socket},
    },
};

/// A client with an open WebSocket.
#[derive(Debug)]
pub(super) struct Connection<S> {
    socket: Socket<S>,
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    seat: Option<Seat>,
    bucket: TokenBucket,
    deadlines: Deadlines,
}

/// How a connection ends.
#[derive(Debug)]
enum End {
    /// The server closes it.
    Farewell(Farewell),
    /// The client closed it.
    Closed,
    /// The network did.
    Failed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(socket: Socket<S>, hub: Arc<Hub>) -> Self {
        let limits = &hub.limits;
        Self {
            mailbox: Arc::new(Mailbox::new(limits.queue)),
            seat: None,
            bucket: TokenBucket::new(limits.messages_per_second, limits.message_burst),
            deadlines: Deadlines::new(Instant::now().into_std(), limits),
            socket,
            hub,
        }
    }

    /// Serves the client until either side ends it. Dropping the future ends it at once; the room learns of it.
    pub(super) async fn run(mut self: Box<Self>, shutdown: Shutdown) {
        let end = self.exchange(shutdown).await;
        debug!(?end, "connection ends");
        let Self {
            mut socket,
            hub,
            mailbox,
            seat,
            ..
        } = *self;
        drop(seat);
        if let End::Farewell(_) = end {
            // Answers to what came before the end.
            while socket.is_writable()
                && let Some(frame) = mailbox.try_next()
                && socket.queue(frame).is_ok()
            {}
        }
        drop(mailbox);
        match end {
            End::Farewell(farewell) => {
                socket
                    .close(farewell.code(), farewell.reason(), hub.limits.close)
                    .await;
            }
            End::Closed => socket.finish(hub.limits.close).await,
            End::Failed => {}
        }
    }

    async fn exchange(&mut self, mut shutdown: Shutdown) -> End {
        let mut stopped = pin!(shutdown.wait());
        let mut alarm = pin!(sleep_until(self.next_deadline()));
        loop {
            let next_deadline = self.next_deadline();
            if next_deadline < alarm.deadline() {
                alarm.as_mut().reset(next_deadline);
            }
            let step = tokio::select! {
                () = &mut stopped => Err(End::Farewell(Farewell::GoingAway)),
                incoming = self.socket.next() => self.receive(incoming),
                frame = self.mailbox.next(), if self.socket.is_flushed() => self.write(frame),
                overflow = self.mailbox.overflow(), if !self.socket.is_flushed() => self.write(Err(overflow)),
                () = &mut alarm => {
                    let step = self.check_deadlines();
                    alarm.as_mut().reset(self.next_deadline());
                    step
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn receive(&mut self, incoming: Result<Incoming, Error>) -> Result<(), End> {
        let incoming = incoming.map_err(|error| broken(&error))?;
        if let Incoming::Flushed = incoming {
            self.deadlines.flushed();
            return Ok(());
        }
        let now = Instant::now().into_std();
        self.deadlines.heard(now);
        if self.bucket.take(now).is_err() {
            return Err(End::Farewell(Farewell::TooManyMessages));
        }
        match incoming {
            Incoming::Text(text) => self.handle(&text),
            Incoming::Binary => self.reply(Err(ErrorCode::BadFrame)),
            Incoming::Alive | Incoming::Flushed => Ok(()),
            Incoming::Closed(frame) => {
                debug!(
                    code = frame.map(|frame| u16::from(frame.code)),
                    "the client closes"
                );
                Err(End::Closed)
            }
        }
    }

    fn handle(&mut self, text: &str) -> Result<(), End> {
        let result = match ClientEnvelope::decode(text) {
            Ok(ClientEnvelope::Join { room, ep }) => self.join(room, ep),
            Ok(ClientEnvelope::Send { to, blob }) => self.send(to, blob),
            Ok(ClientEnvelope::Leave) if self.seat.is_some() => {
                return Err(End::Farewell(Farewell::Left));
            }
            Ok(ClientEnvelope::Leave) => Err(ErrorCode::NotJoined),
            Err(error) => Err(error.code()),
        };
        self.reply(result)
    }

    fn join(&mut self, room: RoomId, ep: EndpointId) -> Result<(), ErrorCode> {
        if self.seat.is_some() {
            return Err(ErrorCode::AlreadyJoined);
        }
        self.seat = Some(self.hub.join(room, ep, &self.mailbox)?);
        self.deadlines.joined();
        Ok(())
    }

    fn send(&self, to: EndpointId, blob: Blob<'_>) -> Result<(), ErrorCode> {
        let seat = self.seat.as_ref().ok_or(ErrorCode::NotJoined)?;
        seat.send(to, blob)
    }

    /// Errors wait in the mailbox like everything else: in order, and within its bound.
    fn reply(&self, result: Result<(), ErrorCode>) -> Result<(), End> {
        if let Err(code) = result {
            self.mailbox.push(hub::encode(&code.into()));
        }
        Ok(())
    }

    /// Hands the socket a frame, and with it what else waits, up to what it takes at once.
    fn write(&mut self, frame: Result<Utf8Bytes, Overflow>) -> Result<(), End> {
        let mut next = Some(frame.map_err(|Overflow| End::Farewell(Farewell::TooSlow))?);
        self.deadlines.writing(Instant::now().into_std());
        while let Some(frame) = next {
            self.socket.queue(frame).map_err(|error| broken(&error))?;
            next = if self.socket.is_writable() {
                self.mailbox.try_next()
            } else {
                None
            };
        }
        Ok(())
    }

    fn check_deadlines(&mut self) -> Result<(), End> {
        let now = Instant::now().into_std();
        match self.deadlines.check(now, &self.hub.limits) {
            Due::Nothing => Ok(()),
            Due::End(farewell) => Err(End::Farewell(farewell)),
            Due::Ping => {
                self.deadlines.writing(now);
                self.socket.queue_ping().map_err(|error| broken(&error))
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        self.deadlines.next(&self.hub.limits).into()
    }
}

fn broken(error: &Error) -> End {
    match socket::close_code(error) {
        Some(code) => End::Farewell(Farewell::Broken(code)),
        None => End::Failed,
    }
}
