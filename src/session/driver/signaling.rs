//! Memberships: the room where the machine wants to be, and the second one that it watches.

use std::{sync::Arc, time::Duration};

use super::{
    super::joining::{from_signaling, join, random},
    Driver,
};
use crate::{
    error::CloseCode,
    protocol::{Event, Input},
    room::{EndpointId, RoomId},
    shell,
    signaling::{Membership, Outgoing, SignalingError, SignalingEvent},
};

/// A membership that lasted this long was a good one: the next is tried soon, and its loss is told.
const GOOD_MEMBERSHIP: Duration = Duration::from_secs(30);

impl Driver {
    pub(super) fn join(&mut self, room: RoomId, endpoint: EndpointId) {
        self.leave();
        let limit = (!self.state.joined_once).then_some(self.config.timeouts.signaling);
        let pause = std::mem::take(&mut self.state.pause);
        let joining = join(Arc::clone(&self.signaling), room, endpoint, limit);
        self.state.joining = Some(Box::pin(async move {
            shell::sleep(pause).await;
            joining.await
        }));
    }

    pub(super) fn leave(&mut self) {
        self.state.joining = None;
        self.state.membership = None;
    }

    /// The membership ended by itself. A server that welcomes and hangs up must not be asked in a loop.
    fn lose_membership(&mut self) -> Input {
        self.leave();
        if self
            .clock
            .now()
            .monotonic
            .saturating_sub(self.state.joined_at)
            >= GOOD_MEMBERSHIP
        {
            self.losses.reset();
            self.state.loss_told = false;
        }
        self.state.pause = self.losses.next(random());
        Input::SignalingLost
    }

    pub(super) fn on_joined(&mut self, joined: Result<Membership, SignalingError>) {
        self.state.joining = None;
        match joined {
            Ok(membership) => {
                self.state.joined_once = true;
                self.state.joined_at = self.clock.now().monotonic;
                self.state.membership = Some(membership);
            }
            Err(error) => {
                self.on_event(Event::Failed {
                    error: from_signaling(error),
                });
                self.input(Input::Close {
                    code: CloseCode::GOING_AWAY,
                    reason: String::new(),
                });
            }
        }
    }

    pub(super) fn on_signaling(&mut self, event: Option<SignalingEvent>) {
        let input = match event {
            Some(SignalingEvent::Welcome { peers }) => Input::Welcome { peers },
            Some(SignalingEvent::Joined(peer)) => Input::PeerJoined(peer),
            Some(SignalingEvent::Left(peer)) => Input::PeerLeft(peer),
            Some(SignalingEvent::Message { from, blob }) => Input::Blob { from, blob },
            // Which relays a session may use is the host's choice, not an untrusted server's.
            Some(SignalingEvent::IceServers(_)) => return,
            Some(SignalingEvent::Error { code, .. }) => {
                return tracing::debug!(%code, "the server answered an error");
            }
            Some(SignalingEvent::Lost(_)) | None => self.lose_membership(),
        };
        self.input(input);
    }

    pub(super) fn join_watch(&mut self, room: RoomId, endpoint: EndpointId) {
        self.leave_watch();
        let joining = join(Arc::clone(&self.signaling), room, endpoint, None);
        self.state.joining_watch = Some(Box::pin(joining));
    }

    pub(super) fn leave_watch(&mut self) {
        self.state.joining_watch = None;
        self.state.watch = None;
    }

    pub(super) fn on_watched(&mut self, event: Option<SignalingEvent>) {
        match event {
            Some(SignalingEvent::Welcome { peers }) => {
                for peer in peers {
                    self.input(Input::Watched(peer));
                }
            }
            Some(SignalingEvent::Joined(peer)) => self.input(Input::Watched(peer)),
            Some(SignalingEvent::Message { from, .. }) => self.input(Input::Watched(from)),
            Some(
                SignalingEvent::Left(_)
                | SignalingEvent::IceServers(_)
                | SignalingEvent::Error { .. },
            ) => {}
            Some(SignalingEvent::Lost(_)) | None => {
                self.leave_watch();
                self.input(Input::WatchLost);
            }
        }
    }

    pub(super) fn send_blob(&mut self, to: EndpointId, blob: Vec<u8>) {
        let Some(membership) = &self.state.membership else {
            return;
        };
        if membership.send(Outgoing { to, blob }).is_err() {
            let lost = self.lose_membership();
            self.state.pending.push_back(lost);
        }
    }
}
