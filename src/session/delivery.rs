//! A message's way: into its channel's queue, out of it, and what became of it.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Bodies, Session, clock,
    queue::{Owner, Shared},
};
use crate::{
    error::{Error, Result},
    message::{Content, Message, MessageDirection, MessageId, Timestamp, codec},
};

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Delivery {
    shared: Arc<Shared>,
    id: MessageId,
}

impl Delivery {
    /// The id by which both sides know the message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Waits until the peer's host took the message, over whichever transport.
    ///
    /// # Errors
    /// Why the session ended before that, or [`Error::SessionReset`]: the peer may or may not have the message.
    ///
    /// # Cancel safety
    /// Dropped, only the waiting ends. It can be asked again.
    pub async fn delivered(&self) -> Result<()> {
        loop {
            let acked = self.shared.acked.notified();
            if self.shared.is_delivered(self.id)? {
                return Ok(());
            }
            acked.await;
        }
    }
}

/// The way there.
impl Session {
    /// [`Session::send`] on any reliable channel.
    pub(super) async fn send_on(&self, channel: u8, content: Content) -> Result<Delivery> {
        let body = self.encode(content)?;
        let (len, max) = (body.len(), self.max_message);
        if len > max {
            return Err(Error::MessageTooLarge { len, max });
        }
        loop {
            self.check_trust()?;
            if let Some(id) = self.shared.push(channel, &body)? {
                return Ok(self.delivery(id));
            }
            let room = self.shared.acked.notified();
            if let Some(id) = self.shared.push(channel, &body)? {
                return Ok(self.delivery(id));
            }
            room.await;
        }
    }

    fn encode(&self, content: Content) -> Result<Bytes> {
        match self.bodies {
            Bodies::Messages => Ok(codec::encode(&content, clock::timestamp())?),
            Bodies::Raw => Ok(content.into_raw()),
        }
    }

    fn delivery(&self, id: MessageId) -> Delivery {
        let shared = Arc::clone(&self.shared);
        Delivery { shared, id }
    }
}

/// The way back.
impl Session {
    /// What `take` finds on a channel, once there is something and the trust suffices; `None` at the end.
    pub(super) async fn wait_for<T>(
        &self,
        channel: u8,
        take: impl Fn(&Shared) -> (Option<T>, bool),
    ) -> Option<T> {
        loop {
            let arrived = self.shared.arrived(channel).notified();
            if self.check_trust().is_ok() {
                let (item, finished) = take(&self.shared);
                if item.is_some() || finished {
                    return item;
                }
            } else if self.shared.is_finished() {
                return None;
            }
            arrived.await;
        }
    }

    /// The content of a message's bytes, and its id in the session that it came in.
    pub(super) fn open_message(
        &self,
        place: (u8, u64),
        body: Bytes,
        former: Option<Owner>,
    ) -> Result<Message> {
        let (content, timestamp) = match self.bodies {
            Bodies::Messages => codec::decode(&body)?,
            Bodies::Raw => (Content::Bytes(body), clock::timestamp()),
        };
        let current = || self.facts().map(|facts| (facts.session, facts.direction));
        let owner = former.or_else(current);
        Ok(self.message(owner, place, content, timestamp))
    }

    /// The sender is the session's key: there is nothing on the wire that could say otherwise.
    fn message(
        &self,
        owner: Option<Owner>,
        (channel, number): (u8, u64),
        content: Content,
        timestamp: Timestamp,
    ) -> Message {
        let (session, own) = owner.unwrap_or(([0; 16], MessageDirection::FromInitiator));
        let theirs = match own {
            MessageDirection::FromInitiator => MessageDirection::FromResponder,
            MessageDirection::FromResponder => MessageDirection::FromInitiator,
        };
        Message {
            id: MessageId::new(&session, theirs, channel, number),
            sender: self.peer,
            content,
            timestamp,
        }
    }
}
