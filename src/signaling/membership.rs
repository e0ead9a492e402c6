//! One endpoint's stay in a room: the two halves of the pipe between the session and whatever carries the blobs.

use tokio::sync::mpsc;

use super::SignalingError;
use crate::{config::IceServer, room::EndpointId};

/// Blobs that may wait in each direction; a carrier that falls further behind is lost, never a leak.
const QUEUE: usize = 256;

/// What happens in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignalingEvent {
    /// The join succeeded; these others are there. The first event.
    Welcome {
        /// Everybody else in the room.
        peers: Vec<EndpointId>,
    },
    /// STUN and TURN servers that the server offers, with credentials for some time. Nothing uses them by itself: what an
    /// untrusted server names is for the host to judge.
    IceServers(Vec<IceServer>),
    /// Somebody came.
    Joined(EndpointId),
    /// Somebody left. A hint: a live session never ends because of it.
    Left(EndpointId),
    /// A blob, as the named endpoint sent it if the server is honest.
    Message {
        /// Who sent it, says the server.
        from: EndpointId,
        /// The blob.
        blob: Vec<u8>,
    },
    /// The server answered a request with an error; the membership goes on.
    Error {
        /// A word in snake case.
        code: String,
        /// A sentence.
        message: String,
    },
    /// The membership ended. The last event.
    Lost(SignalingError),
}

/// A blob on its way to one member of the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The member.
    pub to: EndpointId,
    /// At most 16 384 bytes.
    pub blob: Vec<u8>,
}

/// The session's half. Dropping it leaves the room, after what was sent before.
#[derive(Debug)]
pub struct Membership {
    outgoing: mpsc::Sender<Outgoing>,
    events: mpsc::Receiver<SignalingEvent>,
}

/// The carrier's half, for implementations of [`Signaling`](super::Signaling).
#[derive(Debug)]
pub struct Carrier {
    outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<SignalingEvent>,
}

impl Membership {
    /// Both halves.
    #[must_use]
    pub fn pair() -> (Self, Carrier) {
        let (out_tx, out_rx) = mpsc::channel(QUEUE);
        let (event_tx, event_rx) = mpsc::channel(QUEUE);
        (
            Self {
                outgoing: out_tx,
                events: event_rx,
            },
            Carrier {
                outgoing: out_rx,
                events: event_tx,
            },
        )
    }

    /// Hands a blob to the carrier without waiting.
    ///
    /// # Errors
    /// [`SignalingError::Lost`] when the carrier is gone or hopelessly behind.
    pub fn send(&self, outgoing: Outgoing) -> Result<(), SignalingError> {
        self.outgoing
            .try_send(outgoing)
            .map_err(|error| SignalingError::Lost {
                reason: match error {
                    mpsc::error::TrySendError::Full(_) => "too many blobs wait to be sent".into(),
                    mpsc::error::TrySendError::Closed(_) => "the connection is gone".into(),
                },
            })
    }

    /// The next event; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<SignalingEvent> {
        self.events.recv().await
    }
}

impl Carrier {
    /// The next blob to carry; `None` when the session left the room. Cancel-safe.
    pub async fn next(&mut self) -> Option<Outgoing> {
        self.outgoing.recv().await
    }

    /// Tells the session what happened, waiting while it is behind. `false` when it left. Not cancel-safe: the
    /// event is lost when the future is dropped.
    pub async fn deliver(&self, event: SignalingEvent) -> bool {
        self.events.send(event).await.is_ok()
    }
}
