//! Memberships: the room where the machine wants to be, and the second one that it watches.

use std::sync::Arc;

use super::{
    super::joining::{from_signaling, join, rejoin},
    Driver,
};
use crate::{
    error::CloseCode,
    protocol::{Event, Input},
    room::{EndpointId, RoomId},
    signaling::{Membership, Outgoing, SignalingError, SignalingEvent},
};

impl Driver {
    pub(super) fn join(&mut self, room: RoomId, endpoint: EndpointId) {
        self.leave();
        let signaling = Arc::clone(&self.signaling);
        let pause = self.state.stays.take_pause();
        self.state.joining = Some(if self.state.joined_once {
            Box::pin(rejoin(signaling, room, endpoint, pause))
        } else {
            let limit = self.config.timeouts.signaling;
            Box::pin(join(signaling, room, endpoint, limit))
        });
    }

    pub(super) fn leave(&mut self) {
        self.state.joining = None;
        self.state.membership = None;
        self.state.relays.leave();
    }

    /// The membership ended by itself, or could not be had again.
    pub(super) fn lose_membership(&mut self) -> Input {
        self.leave();
        if self.state.stays.end(self.clock.now().monotonic) {
            self.state.loss_told = false;
        }
        Input::SignalingLost
    }

    pub(super) fn on_joined(&mut self, joined: Result<Membership, SignalingError>) {
        self.state.joining = None;
        match joined {
            Ok(membership) => {
                self.state.joined_once = true;
                self.state.stays.begin(self.clock.now().monotonic);
                self.state.membership = Some(membership);
            }
            Err(error) if self.state.joined_once => {
                tracing::debug!(%error, "the server cannot be joined again");
                let lost = self.lose_membership();
                self.input(lost);
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
            Some(SignalingEvent::IceServers(servers)) => return self.on_offered(servers),
            Some(SignalingEvent::Error { code, .. }) => {
                return tracing::debug!(%code, "the server answered an error");
            }
            Some(SignalingEvent::Lost(_)) | None => self.lose_membership(),
        };
        self.input(input);
    }

    pub(super) fn join_watch(&mut self, room: RoomId, endpoint: EndpointId) {
        self.leave_watch();
        let pause = self.state.watch_stays.take_pause();
        let joining = rejoin(Arc::clone(&self.signaling), room, endpoint, pause);
        self.state.joining_watch = Some(Box::pin(joining));
    }

    pub(super) fn leave_watch(&mut self) {
        self.state.joining_watch = None;
        self.state.watch = None;
    }

    fn lose_watch(&mut self) {
        self.leave_watch();
        self.state.watch_stays.end(self.clock.now().monotonic);
        self.input(Input::WatchLost);
    }

    pub(super) fn on_watch_joined(&mut self, joined: Result<Membership, SignalingError>) {
        self.state.joining_watch = None;
        match joined {
            Ok(membership) => {
                self.state.watch_stays.begin(self.clock.now().monotonic);
                self.state.watch = Some(membership);
            }
            Err(_) => self.lose_watch(),
        }
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
            Some(SignalingEvent::Lost(_)) | None => self.lose_watch(),
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
