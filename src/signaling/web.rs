//! The signaling server at an address, over the browser's WebSocket.
//!
//! The browser answers the server's pings by itself and offers none of its own: a server that vanishes without closing
//! is noticed when the operating system gives the connection up. A running session does not need it.

mod socket;

use std::time::Duration;

use tokio::sync::oneshot;

use super::{
    Carrier, Membership, Outgoing, Signaling, SignalingError, SignalingEvent,
    bucket::TokenBucket,
    envelope::{Blob, ClientEnvelope, ServerEnvelope},
    reading::{self, PACE},
};
use crate::{
    config::{IceServer, PlainSignaling},
    relay_url::RelayUrl,
    room::{EndpointId, RoomId},
    shell::{self, Clock},
};
use socket::{Incoming, Socket};

/// How often a connection that takes nothing is looked at again: the browser does not tell when it does.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A signaling server, reached over `wss://` or `ws://`. Each join has a connection of its own.
///
/// Which certificates are trusted, the browser decides. A page from `https://` reaches `wss://` only, and this machine.
#[derive(Debug, Clone)]
pub struct WebSocketSignaling {
    url: RelayUrl,
}

impl WebSocketSignaling {
    /// The server at `url`: `wss://`, or `ws://` as far as `plain` allows. `/v1` is appended to the path, a query is
    /// kept. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`SignalingError::InvalidUrl`] says what is wrong with the address.
    pub fn new(url: &str, plain: PlainSignaling) -> Result<Self, SignalingError> {
        let parsed = RelayUrl::parse(url, plain).map_err(|reason| SignalingError::InvalidUrl {
            url: url.to_owned(),
            reason,
        })?;
        Ok(Self { url: parsed })
    }
}

#[async_trait::async_trait]
impl Signaling for WebSocketSignaling {
    /// Resolves once the server welcomed the endpoint. No deadline is set here.
    async fn join(&self, room: RoomId, endpoint: EndpointId) -> Result<Membership, SignalingError> {
        let (tell, told) = oneshot::channel();
        let join = ClientEnvelope::Join { room, ep: endpoint }.encode();
        // JavaScript's objects stay in that task, so that this future can be sent between threads like every other.
        shell::spawn(visit(self.url.clone(), join, tell));
        told.await.unwrap_or_else(|_| {
            Err(SignalingError::Lost {
                reason: "the task of the connection ended".to_owned(),
            })
        })
    }

    fn describe(&self) -> String {
        self.url.describe()
    }
}

type Joined = Result<Membership, SignalingError>;

/// One stay in a room, from the first packet to the last.
async fn visit(url: RelayUrl, join: String, mut tell: oneshot::Sender<Joined>) {
    let entered = tokio::select! {
        () = tell.closed() => return,
        entered = enter(&url, &join) => entered,
    };
    let (socket, peers, ice) = match entered {
        Ok(entered) => entered,
        Err(error) => {
            // Nobody waits any more: nothing is lost.
            let _ = tell.send(Err(error));
            return;
        }
    };
    let (membership, carrier) = Membership::pair();
    // First, for the welcome may lead to a connection at once.
    if !ice.is_empty() {
        carrier.deliver(SignalingEvent::IceServers(ice)).await;
    }
    carrier.deliver(SignalingEvent::Welcome { peers }).await;
    if tell.send(Ok(membership)).is_ok() {
        Stay::new(url.describe(), socket, carrier).run().await;
    }
}

/// Connects, joins and waits for the welcome: the others in the room, and the ICE servers that the server offers.
async fn enter(
    url: &RelayUrl,
    join: &str,
) -> Result<(Socket, Vec<EndpointId>, Vec<IceServer>), SignalingError> {
    let server = url.describe();
    let unreachable = |reason: String| SignalingError::Unreachable {
        server: server.clone(),
        reason,
    };
    let mut socket = Socket::open(&url.endpoint()).map_err(unreachable)?;
    if !matches!(socket.next().await, Incoming::Open) {
        let reason = "no WebSocket could be opened, and browsers do not tell why";
        return Err(unreachable(reason.to_owned()));
    }
    socket.send(join).map_err(unreachable)?;
    loop {
        let incoming = socket.next().await;
        if let Some(envelope) = read(&server, &incoming)? {
            let (peers, ice) = reading::welcome(&server, envelope)?;
            return Ok((socket, peers, ice));
        }
    }
}

fn read<'a>(
    server: &str,
    incoming: &'a Incoming,
) -> Result<Option<ServerEnvelope<'a>>, SignalingError> {
    match incoming {
        Incoming::Open => Ok(None),
        Incoming::Text(text) => reading::envelope(server, text),
        Incoming::Foreign(what) => Err(reading::garbage(server, what)),
        Incoming::Closed(frame) => Err(reading::closed(frame.clone())),
    }
}

/// Moves between a socket that was welcomed and a session.
struct Stay {
    server: String,
    socket: Socket,
    carrier: Carrier,
    clock: Clock,
    pace: TokenBucket<Duration>,
}

impl Stay {
    fn new(server: String, socket: Socket, carrier: Carrier) -> Self {
        Self {
            server,
            socket,
            carrier,
            clock: Clock::start(),
            pace: TokenBucket::new(PACE.0, PACE.1),
        }
    }

    /// Carries until the session leaves (what it sent before goes first) or the connection ends.
    async fn run(mut self) {
        match self.carry().await {
            // Closing, which dropping the socket does, sends this first.
            Ok(()) => drop(self.socket.send(&ClientEnvelope::Leave.encode())),
            Err(error) => {
                self.carrier.deliver(SignalingEvent::Lost(error)).await;
            }
        }
    }

    /// `Ok` when the session left.
    async fn carry(&mut self) -> Result<(), SignalingError> {
        let mut token = self.take();
        loop {
            let may_send = token.is_ok() && self.socket.is_writable();
            let again = token
                .err()
                .unwrap_or_else(|| self.clock.elapsed() + LOOK_AGAIN);
            tokio::select! {
                incoming = self.socket.next() => self.receive(incoming).await?,
                outgoing = self.carrier.next(), if may_send => match outgoing {
                    Some(outgoing) => {
                        self.send(outgoing).await?;
                        token = self.take();
                    }
                    None => return Ok(()),
                },
                () = self.clock.sleep_until(again), if !may_send => if token.is_err() {
                    token = self.take();
                },
            }
        }
    }

    fn take(&mut self) -> Result<(), Duration> {
        self.pace.take(self.clock.elapsed())
    }

    async fn send(&mut self, Outgoing { to, blob }: Outgoing) -> Result<(), SignalingError> {
        match Blob::new(&blob) {
            Ok(blob) => {
                let envelope = ClientEnvelope::Send { to, blob }.encode();
                let sent = self.socket.send(&envelope);
                sent.map_err(|reason| SignalingError::Lost { reason })
            }
            Err(error) => {
                self.carrier.deliver(reading::refused(error)).await;
                Ok(())
            }
        }
    }

    async fn receive(&mut self, incoming: Incoming) -> Result<(), SignalingError> {
        if let Some(event) = read(&self.server, &incoming)?.and_then(reading::event) {
            // When the session left, `carrier.next()` ends the loop after what was sent before.
            self.carrier.deliver(event).await;
        }
        Ok(())
    }
}
