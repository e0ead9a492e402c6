//! One stay in a room over a WebSocket: blobs out, events in, heartbeats, until either side ends it.
//!
//! It keeps below the server's token bucket by itself: a session may send as it likes and is never put out for it.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Duration, Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_tungstenite::tungstenite::{
    Error,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    Carrier, Outgoing, SignalingError, SignalingEvent,
    bucket::TokenBucket,
    envelope::{Blob, ClientEnvelope, ServerEnvelope, printable},
    reading::{self, PACE, event, garbage},
    socket::{Incoming, Socket, close_code},
};

/// How often the server is pinged: often enough for the idle limits of proxies and home routers.
const PING: Duration = Duration::from_secs(25);

/// Pings without any sign of life after which the server is gone.
const MISSED: u32 = 2;

/// How long a leave may take.
const LEAVE: Duration = Duration::from_secs(5);

/// How long a server that broke the protocol may take to close.
const CLOSE: Duration = Duration::from_secs(1);

/// Moves between a socket that was welcomed and a session.
#[derive(Debug)]
pub(super) struct Pump<S> {
    server: String,
    socket: Socket<S>,
    carrier: Carrier,
    pace: TokenBucket,
    heartbeat: Interval,
    /// Pings since the last sign of life.
    pings: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    /// `server` is for messages to people.
    pub(super) fn new(server: String, socket: Socket<S>, carrier: Carrier) -> Self {
        let mut heartbeat = interval_at(Instant::now() + PING, PING);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            server,
            socket,
            carrier,
            pace: TokenBucket::new(PACE.0, PACE.1),
            heartbeat,
            pings: 0,
        }
    }

    /// Carries until the session leaves (what it sent before goes first) or the connection ends.
    pub(super) async fn run(mut self) {
        match self.carry().await {
            Ok(()) => {
                if self
                    .socket
                    .queue(ClientEnvelope::Leave.encode().into())
                    .is_ok()
                {
                    self.socket.finish(LEAVE).await;
                }
            }
            Err(error) => {
                let is_garbage = matches!(error, SignalingError::Garbage { .. });
                let code = if is_garbage {
                    CloseCode::Protocol
                } else {
                    CloseCode::Normal
                };
                let tell = self.carrier.deliver(SignalingEvent::Lost(error));
                tokio::join!(tell, self.socket.close(code, "", CLOSE));
            }
        }
    }

    /// `Ok` when the session left.
    async fn carry(&mut self) -> Result<(), SignalingError> {
        let mut token = self.pace.take(now());
        loop {
            let may_send = token.is_ok() && self.socket.is_flushed();
            let next_token = token.err().unwrap_or_else(now);
            tokio::select! {
                incoming = self.socket.next() => self.receive(incoming).await?,
                outgoing = self.carrier.next(), if may_send => match outgoing {
                    Some(outgoing) => {
                        self.send(outgoing).await?;
                        token = self.pace.take(now());
                    }
                    None => return Ok(()),
                },
                () = sleep_until(next_token.into()), if token.is_err() => token = self.pace.take(now()),
                _ = self.heartbeat.tick() => self.beat()?,
            }
        }
    }

    async fn send(&mut self, Outgoing { to, blob }: Outgoing) -> Result<(), SignalingError> {
        match Blob::new(&blob) {
            Ok(blob) => self.queue(&ClientEnvelope::Send { to, blob }),
            Err(error) => {
                self.carrier.deliver(reading::refused(error)).await;
                Ok(())
            }
        }
    }

    fn queue(&mut self, envelope: &ClientEnvelope<'_>) -> Result<(), SignalingError> {
        let queued = self.socket.queue(envelope.encode().into());
        queued.map_err(|error| lost(&self.server, &error))
    }

    /// Waits while the session is behind, so that the server is held up and not this process.
    async fn receive(&mut self, incoming: Result<Incoming, Error>) -> Result<(), SignalingError> {
        let incoming = incoming.map_err(|error| lost(&self.server, &error))?;
        if !matches!(incoming, Incoming::Flushed) {
            self.pings = 0;
        }
        if let Some(event) = read(&self.server, &incoming)?.and_then(event) {
            // When the session left, `carrier.next()` ends the loop after what was sent before.
            self.carrier.deliver(event).await;
        }
        Ok(())
    }

    fn beat(&mut self) -> Result<(), SignalingError> {
        if self.pings >= MISSED {
            return Err(SignalingError::Lost {
                reason: "the server answers no pings".to_owned(),
            });
        }
        self.pings += 1;
        self.socket
            .queue_ping()
            .map_err(|error| lost(&self.server, &error))
    }
}

/// What came, as far as it is an envelope of this version; `None` for what is to be ignored.
///
/// # Errors
/// [`SignalingError::Garbage`] for what is no envelope, and the end that a close frame tells of.
pub(super) fn read<'a>(
    server: &str,
    incoming: &'a Incoming,
) -> Result<Option<ServerEnvelope<'a>>, SignalingError> {
    match incoming {
        Incoming::Text(text) => reading::envelope(server, text),
        Incoming::Binary => Err(garbage(server, "a binary message")),
        Incoming::Closed(frame) => {
            let code = |frame: &CloseFrame| (u16::from(frame.code), frame.reason.to_string());
            Err(reading::closed(frame.as_ref().map(code)))
        }
        Incoming::Alive | Incoming::Flushed => Ok(None),
    }
}

/// Why an open WebSocket failed.
pub(super) fn lost(server: &str, error: &Error) -> SignalingError {
    match close_code(error) {
        Some(_) => garbage(server, error),
        None => SignalingError::Lost {
            reason: printable(&error.to_string()),
        },
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio::{io::DuplexStream, task::JoinHandle, time::timeout};
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };

    use super::*;
    use crate::{room::EndpointId, signaling::Membership, signaling::socket::bounded};

    type Server = WebSocketStream<DuplexStream>;

    const OTHER: EndpointId = EndpointId([2; 16]);

    /// A pump between a session and a server that may do what it likes.
    async fn pump() -> (Membership, Server, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let near =
            WebSocketStream::from_raw_socket(near, Role::Client, Some(bounded(1 << 10))).await;
        let far = WebSocketStream::from_raw_socket(far, Role::Server, Some(bounded(1 << 10))).await;
        let (membership, carrier) = Membership::pair();
        let pump = Pump::new("ws://test".to_owned(), Socket::new(near), carrier);
        (membership, far, tokio::spawn(pump.run()))
    }

    fn blob(bytes: usize) -> Outgoing {
        Outgoing {
            to: OTHER,
            blob: vec![7; bytes],
        }
    }

    async fn next_text(server: &mut Server) -> Option<String> {
        loop {
            match server.next().await?.ok()? {
                Message::Text(text) => return Some(text.to_string()),
                Message::Close(_) => return None,
                Message::Binary(_) | Message::Frame(_) => panic!("the client sends text"),
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_without_a_sign_of_life_is_lost_after_75_s() {
        let (mut membership, _server, pump) = pump().await;
        let start = Instant::now();
        let event = membership.next().await;
        assert!(
            matches!(
                event,
                Some(SignalingEvent::Lost(SignalingError::Lost { .. }))
            ),
            "{event:?}"
        );
        assert_eq!(start.elapsed().as_secs(), 75);
        pump.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_pings_is_kept() {
        let (mut membership, mut server, _pump) = pump().await;
        let an_hour = Duration::from_secs(3_600);
        // Reading is what answers pings.
        tokio::select! {
            event = membership.next() => panic!("{event:?}"),
            ended = timeout(an_hour, async { while server.next().await.is_some() {} }) => assert!(ended.is_err()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_stays_below_the_bucket_of_a_server_whatever_it_sends() {
        let (membership, mut server, _pump) = pump().await;
        let mut bucket = TokenBucket::new(32, 64);
        for _ in 0..250 {
            membership.send(blob(10)).unwrap();
        }
        let start = Instant::now();
        for _ in 0..250 {
            next_text(&mut server).await.unwrap();
            assert!(bucket.take(now()).is_ok());
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_membership_sends_what_waits_and_leaves() {
        let (membership, mut server, pump) = pump().await;
        for _ in 0..200 {
            membership.send(blob(16_384)).unwrap();
        }
        drop(membership);
        for _ in 0..200 {
            assert!(next_text(&mut server).await.unwrap().contains("\"send\""));
        }
        assert_eq!(
            next_text(&mut server).await.as_deref(),
            Some("{\"type\":\"leave\"}")
        );
        server.close(None).await.unwrap();
        while server.next().await.is_some() {}
        pump.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_close_after_a_leave_is_left_anyway() {
        let (membership, _server, pump) = pump().await;
        let start = Instant::now();
        drop(membership);
        pump.await.unwrap();
        assert_eq!(start.elapsed(), LEAVE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_does_not_stop_what_comes() {
        let (mut membership, mut server, _pump) = pump().await;
        for _ in 0..50 {
            membership.send(blob(16_384)).unwrap();
        }
        tokio::task::yield_now().await;
        let joined = ServerEnvelope::Joined { ep: OTHER }.encode();
        for _ in 0..1_000 {
            server.send(Message::text(joined.clone())).await.unwrap();
            assert_eq!(membership.next().await, Some(SignalingEvent::Joined(OTHER)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_does_not_listen_holds_its_server_up() {
        let (membership, mut server, pump) = pump().await;
        let joined = ServerEnvelope::Joined { ep: OTHER }.encode();
        let flood = async { while server.send(Message::text(joined.clone())).await.is_ok() {} };
        assert!(timeout(Duration::from_secs(1), flood).await.is_err());
        drop(membership);
        assert_eq!(
            next_text(&mut server).await.as_deref(),
            Some("{\"type\":\"leave\"}")
        );
        drop(server);
        pump.await.unwrap();
    }
}
