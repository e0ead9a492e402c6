//! The room of a used invite: whoever comes there holds a copy of its text. Nothing is left to protect there;
//! the newcomer and the host are told.

use std::{collections::BTreeSet, time::Duration};

use super::{
    blob::Blob,
    io::{Event, Output},
    machine::Machine,
    reset::GRACE,
};
use crate::{
    error::RefusalCode,
    room::{EndpointId, RoomId},
};

/// Endpoints that are told, at most.
const MAX_TOLD: usize = 1_024;

/// A stay in the room of a used invite, beside whatever the session does.
#[derive(Debug)]
pub(super) struct Watch {
    room: RoomId,
    pub(super) until: Duration,
    purpose: Purpose,
    /// The host wants no traffic: nobody is in the room for now.
    resting: bool,
    /// Who knows already; the session's own peer among them.
    told: BTreeSet<EndpointId>,
    /// When somebody who came to a session's home is met there.
    pub(super) visit_at: Option<Duration>,
    /// It was put off once already.
    pub(super) was_patient: bool,
}

impl Watch {
    fn is_home(&self) -> bool {
        self.purpose == Purpose::Home
    }
}

/// Why a room is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The invite that was redeemed there is used.
    UsedInvite,
    /// A peer that was restarted would come there.
    Home,
}

impl Machine {
    /// Looks who comes to a room: after a pairing until the invite would have expired, and where a restarted peer would
    /// come for as long as the session is suspended.
    pub(super) fn begin_watch(
        &mut self,
        room: RoomId,
        until: Duration,
        purpose: Purpose,
        told: BTreeSet<EndpointId>,
    ) {
        self.watch = Some(Watch {
            room,
            until,
            purpose,
            resting: false,
            told,
            visit_at: None,
            was_patient: false,
        });
        self.join_watch();
    }

    fn join_watch(&mut self) {
        let endpoint = self.fresh_endpoint();
        if let Some(Watch { room, .. }) = self.watch {
            self.out.push(Output::Watch { room, endpoint });
        }
    }

    /// A member of that room.
    pub(super) fn on_watched(&mut self, peer: EndpointId) {
        let now = self.now.monotonic;
        let Some(watch) = self.watch.as_mut().filter(|watch| !watch.resting) else {
            return;
        };
        if watch.told.len() >= MAX_TOLD || !watch.told.insert(peer) {
            return;
        }
        if watch.is_home() {
            watch.visit_at.get_or_insert(now + GRACE);
            return;
        }
        self.out.push(Output::WatchBlob {
            to: peer,
            blob: Blob::Reject(RefusalCode::Used.to_wire()).encode(),
        });
        self.event(Event::InviteAlreadyUsed);
    }

    /// The server went; the shell joins when it is back.
    pub(super) fn on_watch_lost(&mut self) {
        if self.watch.as_ref().is_some_and(|watch| !watch.resting) {
            self.join_watch();
        }
    }

    pub(super) fn end_watch(&mut self) {
        if self.watch.take().is_some_and(|watch| !watch.resting) {
            self.out.push(Output::Unwatch);
        }
    }

    /// The session goes on, or another has taken its place: nobody is looked for.
    pub(super) fn end_home_watch(&mut self) {
        if self.watch.as_ref().is_some_and(Watch::is_home) {
            self.end_watch();
        }
    }

    /// The host wants no traffic. A used invite is watched again when it wants some.
    pub(super) fn rest_watch(&mut self) {
        self.end_home_watch();
        if let Some(watch) = self.watch.as_mut().filter(|watch| !watch.resting) {
            watch.resting = true;
            self.out.push(Output::Unwatch);
        }
    }

    pub(super) fn wake_watch(&mut self) {
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.resting) {
            watch.resting = false;
            self.join_watch();
        }
    }
}
