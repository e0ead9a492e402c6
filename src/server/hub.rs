//! The rooms, shared by all connections: who hears what, in which order.
//!
//! A welcome is in its client's mailbox before anybody else can find that client, and everything is put into
//! mailboxes in the order in which it happened: hence K2's order without any waiting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    limits::ServerLimits,
    mailbox::Mailbox,
    rooms::{Member, Rooms},
};
use crate::{
    room::{EndpointId, RoomId},
    signaling::envelope::{Blob, ErrorCode, MAX_MEMBERS, ServerEnvelope},
};

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) limits: ServerLimits,
    rooms: Mutex<Rooms<Arc<Mailbox>>>,
}

/// A client's place in a room. Dropping it gives the place up and tells the others, however the connection ended.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Arc<Hub>,
    room: RoomId,
    ep: EndpointId,
}

impl Hub {
    pub(super) fn new(limits: ServerLimits) -> Self {
        let rooms = Mutex::new(Rooms::new(limits.members.min(MAX_MEMBERS)));
        Self { limits, rooms }
    }

    /// Lets a client into a room, with a welcome in its mailbox and a word to the others.
    ///
    /// # Errors
    /// [`ErrorCode::DuplicateEp`], [`ErrorCode::RoomFull`].
    pub(super) fn join(
        self: &Arc<Self>,
        room: RoomId,
        ep: EndpointId,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Seat, ErrorCode> {
        let mut rooms = self.rooms();
        let others = rooms.join(room, ep, Arc::clone(mailbox))?;
        let peers = others.iter().map(|member| member.ep).collect();
        mailbox.push(encode(&ServerEnvelope::Welcome { peers }));
        tell(others, &ServerEnvelope::Joined { ep });
        Ok(Seat {
            hub: Arc::clone(self),
            room,
            ep,
        })
    }

    /// How many rooms have members.
    pub(super) fn room_count(&self) -> usize {
        self.rooms().len()
    }

    /// Nothing that can panic runs half way through a change, so a poisoned lock would still guard sound rooms.
    fn rooms(&self) -> MutexGuard<'_, Rooms<Arc<Mailbox>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Puts a blob into another member's mailbox.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownPeer`].
    pub(super) fn send(&self, to: EndpointId, blob: Blob<'_>) -> Result<(), ErrorCode> {
        let mailbox = Arc::clone(self.hub.rooms().route(self.room, self.ep, to)?);
        mailbox.push(encode(&ServerEnvelope::Message {
            from: self.ep,
            blob,
        }));
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rooms = self.hub.rooms();
        tell(
            rooms.leave(self.room, self.ep),
            &ServerEnvelope::Left { ep: self.ep },
        );
    }
}

/// The frame of an envelope; its clones share the bytes.
pub(super) fn encode(envelope: &ServerEnvelope<'_>) -> Utf8Bytes {
    envelope.encode().into()
}

fn tell(members: &[Member<Arc<Mailbox>>], envelope: &ServerEnvelope<'_>) {
    if members.is_empty() {
        return;
    }
    let frame = encode(envelope);
    for member in members {
        member.mailbox.push(frame.clone());
    }
}
