//! One client, from its open WebSocket to its end: a task that holds no buffer while nothing happens.
//!
//! It reads into a buffer that belongs to the thread, and writes only what could not be written at once (line.rs). It
//! has no timer: the registry's sweep looks at all clocks. Every well-formed message that is no envelope is answered by
//! an `error` and the connection goes on. What breaks WebSocket itself ends this connection, and no other.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, tcp::OwnedReadHalf},
};
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::{
    farewell::Farewell,
    guests::Visit,
    hub::{Hub, NotJoined, Seat},
    legacy,
    line::{Line, Outlet, View},
    quota::Quota,
    websocket::{self, Decoder, Frame, Kind, MAX_CONTROL},
};
use crate::{
    room::{EndpointId, RoomId},
    signaling::envelope::{Blob, ClientEnvelope, ErrorCode},
};

/// Bytes read at once: more than the largest frame with what is held of it.
const READ_BUFFER: usize = 64 << 10;

thread_local! {
    /// Where all connections of a thread read into. Only what is incomplete is copied out of it.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into());
}

/// A client with an open WebSocket.
#[derive(Debug)]
pub(super) struct Connection {
    inlet: Inlet,
    line: Arc<Line>,
    hub: Arc<Hub>,
    visit: Visit,
    seat: Option<Seat>,
    pass: Pass,
    decoder: Decoder,
    /// The start of a frame whose end has not come.
    held: Vec<u8>,
    messages: Quota,
    bytes: Quota,
    end: End,
}

/// What a client may do, as decided before its WebSocket was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// The only room that it may join.
    pub(super) only: Option<RoomId>,
    /// The legacy room that it is in.
    pub(super) legacy: Option<RoomId>,
}

/// Where bytes come from.
#[derive(Debug)]
pub(super) enum Inlet {
    /// The socket, which others write to.
    Plain(OwnedReadHalf),
    /// Both directions: what others write waits for this connection's task.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How far the end of the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has not begun.
    No,
    /// The close frame waits behind what was sent before it.
    Writing,
    /// What still comes is thrown away: bytes left unread when a socket is dropped reset the connection, and the client
    /// would never see the reason.
    Discarding,
}

/// A byte stream that becomes a connection.
pub(super) trait Wire {
    /// Its two directions.
    fn split(self) -> (Inlet, Outlet);
}

impl Wire for TcpStream {
    fn split(self) -> (Inlet, Outlet) {
        let (read, write) = self.into_split();
        (Inlet::Plain(read), Outlet::Socket(write))
    }
}

impl Wire for TlsStream<TcpStream> {
    fn split(self) -> (Inlet, Outlet) {
        (Inlet::Tls(Box::new(self)), Outlet::Task)
    }
}

impl Connection {
    /// A connection that has just opened.
    pub(super) fn new(wire: impl Wire, hub: Arc<Hub>, visit: Visit, pass: Pass) -> Self {
        let now = super::now();
        let (inlet, outlet) = wire.split();
        let line = Arc::new(Line::new(outlet, now, &hub.limits));
        hub.registry.add(&line);
        hub.metrics.opened.fetch_add(1, Relaxed);
        // Whoever was in the handshake when the others were told has to be told too.
        if hub.is_stopping.load(Relaxed) {
            line.close(Farewell::GoingAway(0));
        }
        let mut connection = Self {
            inlet,
            line,
            visit,
            seat: None,
            pass,
            decoder: Decoder::new(hub.limits.bounds()),
            held: Vec::new(),
            messages: Quota::default(),
            bytes: Quota::default(),
            end: End::No,
            hub,
        };
        if let Some(room) = pass.legacy
            && let Err(farewell) = connection.join_legacy(room, now)
        {
            connection.line.close(farewell);
        }
        connection
    }

    /// Takes in what came with the handshake.
    pub(super) fn with_early(mut self, early: &mut [u8]) -> Self {
        self.receive(early, super::now());
        self
    }

    /// Reads once and does what is to be done.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        BUFFER.with_borrow_mut(|buffer| {
            let held = self.held.len();
            let read = ready!(self.inlet.poll_read(context, &mut buffer[held..]));
            match read {
                Ok(read @ 1..) => {
                    buffer[..held].copy_from_slice(&self.held);
                    let now = super::now();
                    if self.bytes.take(now, read, self.hub.limits.byte_rate()) {
                        self.receive(&mut buffer[..held + read], now);
                    } else {
                        self.line.close(Farewell::TooManyBytes);
                    }
                }
                Ok(0) | Err(_) => self.line.abort(),
            }
            Poll::Ready(())
        })
    }

    /// Takes in what came, and keeps what is incomplete.
    fn receive(&mut self, mut bytes: &mut [u8], now: Instant) {
        let rest = loop {
            match self.decoder.decode(bytes) {
                Ok(None) => break bytes,
                Ok(Some((size, frame))) => {
                    if let Err(farewell) = self.handle(frame, now) {
                        self.line.close(farewell);
                        return;
                    }
                    bytes = &mut bytes[size..];
                }
                Err(violation) => {
                    self.line.close(Farewell::Broken(violation));
                    return;
                }
            }
        };
        if rest.is_empty() {
            self.held = Vec::new();
        } else {
            self.held.clear();
            self.held.extend_from_slice(rest);
        }
    }

    fn handle(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), Farewell> {
        self.line.heard(now);
        //
        if !self.messages.take(now, 1, self.hub.limits.message_rate()) {
            return Err(Farewell::TooManyMessages);
        }
        match frame {
            Frame::Text(text) if self.pass.legacy.is_some() => {
                return self.relay_legacy(text.as_bytes(), now);
            }
            Frame::Binary(bytes) if self.pass.legacy.is_some() => {
                return self.relay_legacy(&bytes, now);
            }
            Frame::Text(text) => return self.handle_text(&text, now),
            Frame::Binary(_) => self.refuse(ErrorCode::BadFrame),
            Frame::Ping(payload) => self.pong(payload),
            Frame::Fragment | Frame::Pong => {}
            Frame::Close(code) => return Err(Farewell::Closed(code)),
        }
        Ok(())
    }

    fn handle_text(&mut self, text: &str, now: Instant) -> Result<(), Farewell> {
        let result = match ClientEnvelope::decode(text) {
            Ok(ClientEnvelope::Join { room, ep }) => self.join(room, ep, now)?,
            Ok(ClientEnvelope::Send { to, blob }) => self.send(to, blob, now),
            Ok(ClientEnvelope::Leave) if self.seat.is_some() => return Err(Farewell::Left),
            Ok(ClientEnvelope::Leave) => Err(ErrorCode::NotJoined),
            Err(error) => Err(error.code()),
        };
        if let Err(code) = result {
            self.refuse(code);
        }
        Ok(())
    }

    /// The outer error ends the connection.
    fn join(
        &mut self,
        room: RoomId,
        ep: EndpointId,
        now: Instant,
    ) -> Result<Result<(), ErrorCode>, Farewell> {
        if self.seat.is_some() {
            return Ok(Err(ErrorCode::AlreadyJoined));
        }
        self.check_join(room, now)?;
        match self.hub.join(room, ep, &self.line, &self.visit) {
            Ok(seat) => {
                self.sit_down(seat);
                Ok(Ok(()))
            }
            Err(NotJoined::Error(code)) => Ok(Err(code)),
            Err(NotJoined::End(farewell)) => Err(farewell),
        }
    }

    fn join_legacy(&mut self, room: RoomId, now: Instant) -> Result<(), Farewell> {
        self.check_join(room, now)?;
        let seat = self.hub.join_legacy(room, &self.line, &self.visit)?;
        self.sit_down(seat);
        Ok(())
    }

    fn check_join(&self, room: RoomId, now: Instant) -> Result<(), Farewell> {
        if self.pass.only.is_some_and(|only| only != room) {
            return Err(Farewell::WrongRoom);
        }
        if !self.visit.may_join(now, &self.hub.limits) {
            return Err(Farewell::TooManyJoins);
        }
        Ok(())
    }

    fn sit_down(&mut self, seat: Seat) {
        self.seat = Some(seat);
        self.line.joined();
    }

    fn relay_legacy(&self, message: &[u8], now: Instant) -> Result<(), Farewell> {
        let text = legacy::check(message)?;
        if let Some(seat) = self.seat {
            self.hub.relay_legacy(seat, text, now);
        }
        Ok(())
    }

    fn send(&self, to: EndpointId, blob: Blob<'_>, now: Instant) -> Result<(), ErrorCode> {
        let seat = self.seat.ok_or(ErrorCode::NotJoined)?;
        self.hub.send(seat, to, blob, now)
    }

    fn refuse(&self, code: ErrorCode) {
        self.hub.metrics.error();
        self.hub.answer(&self.line, &code.into());
    }

    fn pong(&self, payload: &[u8]) {
        let (header, start) = websocket::header(Kind::Pong, payload.len());
        let mut frame = [0; 2 + MAX_CONTROL];
        frame[..2].copy_from_slice(&header[start..]);
        frame[2..2 + payload.len()].copy_from_slice(payload);
        self.hub.push(&self.line, &frame[..2 + payload.len()]);
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> View {
        let inlet = &mut self.inlet;
        self.line
            .poll(context, |context, bytes| inlet.poll_write(context, bytes))
    }

    /// The way from the close frame to the end of the stream. The sweep gives it its deadline.
    fn poll_end(&mut self, context: &mut Context<'_>, why: Farewell, is_flushed: bool) -> Poll<()> {
        if self.end == End::No {
            self.end = End::Writing;
            self.give_up_seat();
            self.held = Vec::new();
            self.hub.metrics.close(why);
            debug!(reason = Farewell::WORDS[why.place()], "connection closes");
        }
        if self.end == End::Writing {
            if !is_flushed {
                return Poll::Pending;
            }
            if ready!(self.inlet.poll_shutdown(context, &self.line)).is_err() {
                return Poll::Ready(());
            }
            self.end = End::Discarding;
        }
        BUFFER.with_borrow_mut(|buffer| {
            while let Ok(1..) = ready!(self.inlet.poll_read(context, buffer)) {}
            Poll::Ready(())
        })
    }

    fn give_up_seat(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        match self.pass.legacy {
            Some(_) => self.hub.leave_legacy(seat),
            None => self.hub.leave(seat),
        }
    }
}

impl Future for Connection {
    type Output = ();

    /// Serves the client until either side ends it.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let view = this.poll_line(context);
            if view.has_failed {
                if this.end == End::No {
                    this.hub.metrics.lost.fetch_add(1, Relaxed);
                    debug!("connection is lost");
                }
                return Poll::Ready(());
            }
            if let Some(why) = view.closing {
                return this.poll_end(context, why, view.is_flushed);
            }
            ready!(this.poll_read(context));
        }
    }
}

impl Drop for Connection {
    /// However it ends: the room learns of it, and nothing of it is left.
    fn drop(&mut self) {
        self.give_up_seat();
        self.hub.registry.remove(&self.line);
    }
}

impl Inlet {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match self {
            Self::Plain(socket) => ready!(Pin::new(socket).poll_read(context, &mut buffer))?,
            Self::Tls(stream) => ready!(Pin::new(stream).poll_read(context, &mut buffer))?,
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes what only this task can write; no bytes flush it.
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
            Self::Tls(stream) if bytes.is_empty() => {
                Pin::new(stream).poll_flush(context).map_ok(|()| 0)
            }
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>, line: &Line) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => line.poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs beside its socket; the figures are in docs/signaling-server.md.
    #[test]
    fn a_connection_is_small() {
        let size = size_of::<Connection>();
        assert!(size <= 320, "{size}");
    }
}
