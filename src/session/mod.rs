//! The session: the one type that a host holds.

mod acquaintance;
mod builder;
mod channel;
mod clock;
mod delivery;
#[cfg(feature = "client")]
mod diagnose;
mod diagnosis;
mod driver;
mod file;
mod history;
mod joining;
mod lanes;
mod lifecycle;
mod network;
mod queue;
mod security;
mod stream;

use std::sync::Arc;

pub use builder::{Bodies, Builder};
pub use channel::{ChannelKind, ChannelReceiver, ChannelSender, LossyReceiver, LossySender};
pub use delivery::Delivery;
pub use diagnosis::{Diagnosis, Finding};
pub use file::{FileReport, FileSource, FileTransfer, Progress};
pub use history::SessionHistory;
pub use lifecycle::State;
pub use security::{Path, Security};
pub use stream::{
    FileOffer, IncomingOffer, StreamError, StreamLimits, StreamOffer, StreamReader, StreamWriter,
};

use channel::Declared;
#[cfg(feature = "client")]
use diagnose::Surroundings;
use lanes::MAIN;
use queue::{Facts, Item, Owner, Shared};
use stream::Hub;

use crate::{
    error::{CloseCode, Error, Result},
    history::Archive,
    identity::{Identity, PeerId},
    message::Content,
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
    max_message: usize,
    required: MinTrust,
    bodies: Bodies,
    declared: Arc<[Declared]>,
    /// Streams, if they were declared.
    hub: Option<Arc<Hub>>,
    archive: Option<Archive>,
    #[cfg(feature = "client")]
    surroundings: Surroundings,
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
    /// default) is on its way and not taken, as it is while the session has no transport ([`state`](Self::state)).
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
        self.send_on(MAIN, content.into()).await
    }

    /// The next thing that happened, in order; `None` once the session is over and everything was taken.
    ///
    /// Messages count as taken, and are acknowledged to the peer, when this returns them; with a history
    /// ([`Builder::history`]) each is stored before. A host that stops calling it slows the peer down instead of filling memory. Below the required trust messages stay where they are.
    ///
    /// A lost transport is no end: [`Event::Disconnected`], [`Event::Reconnecting`] and [`Event::Resumed`] may come any
    /// number of times, and nothing needs to be done. After [`Event::Closed`] or [`Event::Failed`] comes `None`. When
    /// 1 024 events wait, those that a host can do without are dropped, then outages that are over.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing was taken.
    pub async fn next(&self) -> Option<Event> {
        loop {
            if let Some(done) = self.try_next() {
                return done;
            }
            let arrived = self.shared.arrived(MAIN).notified();
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
            Some(Item::Message {
                number,
                body,
                former,
                ..
            }) => Some(Some(self.decode(number, body, former))),
            Some(Item::Datagram { .. }) => None,
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
            //
            Err(Error::Untrusted { trust, required })
        }
    }

    fn decode(&self, number: u64, body: bytes::Bytes, former: Option<Owner>) -> Event {
        match self.open_message((MAIN, number), body, former) {
            Ok(message) => Event::Message(message),
            Err(error) => Event::Unreadable { error },
        }
    }
}
