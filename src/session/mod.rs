//! The session: the one type that a host holds.

mod builder;
mod clock;
mod driver;
mod joining;
mod queue;
mod security;

use std::sync::Arc;

pub use builder::{Bodies, Builder};
pub use security::{Path, Security};

use queue::{Facts, Item, Shared};

use crate::{
    error::{CloseCode, Error, Result},
    identity::{Identity, PeerId},
    message::{Content, Message, MessageDirection, MessageId, Timestamp, codec},
    protocol::Event,
    trust::{MinTrust, PeerTrust, Verification},
    verify::SafetyNumber,
};

/// An end-to-end encrypted session with one peer.
///
/// Cheap to clone: all clones are the same session. When the last one is dropped the session is closed in good order
/// in the background; [`Session::close`] does the same and waits for it.
#[derive(Debug, Clone)]
pub struct Session {
    shared: Arc<Shared>,
    me: PeerId,
    peer: PeerId,
    session: [u8; 16],
    direction: MessageDirection,
    max_message: usize,
    required: MinTrust,
    bodies: Bodies,
    _guard: Arc<Guard>,
}

/// Closes the session when the last handle is dropped.
#[derive(Debug)]
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(CloseCode::NORMAL, String::new());
    }
}

impl Session {
    /// Starts to describe a session of this identity.
    pub fn builder(me: Identity) -> Builder {
        Builder::new(me)
    }

    /// Queues a message: text, bytes, or a [`Content::value`]. It waits while more than the peer's window (8 MiB by
    /// default) is on its way and not taken.
    ///
    /// The [`Delivery`] that is returned can be awaited, or dropped: the message is sent either way.
    ///
    /// # Errors
    /// [`Error::MessageTooLarge`] and [`Error::Untrusted`], before anything is queued; the reason of the end when the
    /// session is over.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing was queued; it never queues half.
    pub async fn send(&self, content: impl Into<Content>) -> Result<Delivery> {
        let body = self.encode(content.into())?;
        if body.len() > self.max_message {
            return Err(Error::MessageTooLarge {
                len: body.len(),
                max: self.max_message,
            });
        }
        loop {
            self.check_trust()?;
            if let Some(number) = self.shared.push(&body)? {
                return Ok(self.delivery(number));
            }
            let room = self.shared.acked.notified();
            if let Some(number) = self.shared.push(&body)? {
                return Ok(self.delivery(number));
            }
            room.await;
        }
    }

    /// The next thing that happened, in order; `None` once the session is over and everything was taken.
    ///
    /// Messages count as taken, and are acknowledged to the peer, when this returns them: a host that stops calling
    /// it slows the peer down instead of filling memory. Below the required trust messages stay where they are.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing was taken.
    pub async fn next(&self) -> Option<Event> {
        loop {
            if let Some(done) = self.try_next() {
                return done;
            }
            let arrived = self.shared.arrived.notified();
            if let Some(done) = self.try_next() {
                return done;
            }
            arrived.await;
        }
    }

    /// `Some(None)` at the end, `None` when nothing is there.
    fn try_next(&self) -> Option<Option<Event>> {
        let (item, finished) = self.shared.take(self.check_trust().is_ok());
        match item {
            Some(Item::Event(event)) => Some(Some(event)),
            Some(Item::Message { number, body }) => Some(Some(self.decode(number, body))),
            None => finished.then_some(None),
        }
    }

    /// The peer's key.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// How well the peer is known.
    #[must_use]
    pub fn trust(&self) -> PeerTrust {
        self.facts().map_or(PeerTrust::Unknown, |facts| facts.trust)
    }

    /// The number that both sides see, and nobody in between can bring about: compare it over a call or in person,
    /// then [`confirm`](Self::confirm).
    #[must_use]
    pub fn safety_number(&self) -> SafetyNumber {
        SafetyNumber::between(self.me, self.peer)
    }

    /// People compared the safety number and this is what the other side read out: the peer is verified if it is
    /// ours.
    ///
    /// # Errors
    /// [`Error::SafetyNumberDiffers`]; the trust stays as it was.
    pub fn confirm(&self, compared: &SafetyNumber) -> Result<()> {
        if *compared != self.safety_number() {
            return Err(Error::SafetyNumberDiffers);
        }
        let when = clock::timestamp();
        self.shared.set_trust(PeerTrust::Verified {
            how: Verification::SafetyNumber,
            when,
        });
        Ok(())
    }

    /// What protects this session, and what does not.
    #[must_use]
    pub fn security(&self) -> Security {
        Security::of(self.facts())
    }

    /// Ends the session: waits until the peer took everything that was sent (5 s at most), says goodbye, and waits
    /// until that has left this device.
    ///
    /// # Errors
    /// [`Error::Disconnected`] with the number of messages that the peer did not confirm.
    ///
    /// # Cancel safety
    /// Dropped, the session closes all the same.
    pub async fn close(&self) -> Result<()> {
        self.close_with(CloseCode::NORMAL, "").await
    }

    /// [`close`](Self::close) with a code and a reason (128 bytes at most, cut there) for the peer. Any other code than
    /// [`CloseCode::NORMAL`] is sent at once, without waiting for messages on their way.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub async fn close_with(&self, code: CloseCode, reason: &str) -> Result<()> {
        self.shared.close(code, reason.to_owned());
        loop {
            let finished = self.shared.acked.notified();
            if self.shared.is_finished() {
                break;
            }
            finished.await;
        }
        match self.shared.ended() {
            Some(Error::Closed { .. }) | None => match self.shared.unacked() {
                0 => Ok(()),
                unacked => Err(Error::Disconnected { unacked }),
            },
            Some(error) => Err(error),
        }
    }

    fn facts(&self) -> Option<Facts> {
        self.shared.facts()
    }

    fn check_trust(&self) -> Result<()> {
        let (trust, required) = (self.trust(), self.required);
        if trust.meets(required) {
            Ok(())
        } else {
            Err(Error::Untrusted { trust, required })
        }
    }

    fn encode(&self, content: Content) -> Result<bytes::Bytes> {
        match self.bodies {
            Bodies::Messages => Ok(codec::encode(&content, clock::timestamp())?),
            Bodies::Raw => Ok(content.into_raw()),
        }
    }

    fn decode(&self, number: u64, body: bytes::Bytes) -> Event {
        let decoded = match self.bodies {
            Bodies::Messages => codec::decode(&body),
            Bodies::Raw => Ok((Content::Bytes(body), clock::timestamp())),
        };
        match decoded {
            Ok((content, timestamp)) => Event::Message(self.message(number, content, timestamp)),
            Err(error) => Event::Unreadable {
                error: error.into(),
            },
        }
    }

    /// The sender is the session's key: there is nothing on the wire that could say otherwise.
    fn message(&self, number: u64, content: Content, timestamp: Timestamp) -> Message {
        let direction = match self.direction {
            MessageDirection::FromInitiator => MessageDirection::FromResponder,
            MessageDirection::FromResponder => MessageDirection::FromInitiator,
        };
        Message {
            id: MessageId::new(&self.session, direction, 1, number),
            sender: self.peer,
            content,
            timestamp,
        }
    }

    fn delivery(&self, number: u64) -> Delivery {
        let id = MessageId::new(&self.session, self.direction, 1, number);
        Delivery {
            shared: Arc::clone(&self.shared),
            id,
            number,
        }
    }
}

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Delivery {
    shared: Arc<Shared>,
    id: MessageId,
    number: u64,
}

impl Delivery {
    /// The id by which both sides know the message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Waits until the peer's host took the message.
    ///
    /// # Errors
    /// Why the session ended before that: the peer may or may not have the message.
    ///
    /// # Cancel safety
    /// Dropped, only the waiting ends. It can be asked again.
    pub async fn delivered(&self) -> Result<()> {
        loop {
            let acked = self.shared.acked.notified();
            if self.shared.is_delivered(self.number)? {
                return Ok(());
            }
            acked.await;
        }
    }
}
