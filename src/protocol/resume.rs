//! A session without a transport, and the way to its next one: suspending, the room where both ends
//! meet again, and the listening there by which one end wakes the other.

use std::time::Duration;

use super::{
    blob::Mode,
    conversation::{Conversation, ResumeKey},
    handshake::{Keys, Terms},
    io::{CloseHow, Event, Output},
    ledger::Ledger,
    machine::Machine,
    secure::{PROBE, Secure},
};
use crate::{
    error::{CloseCode, Error, HandshakeStage},
    room::RoomId,
};

/// A session between two transports.
#[derive(Debug)]
pub(super) struct Suspended {
    pub(super) talk: Conversation,
    /// The host wants no transport for now.
    pub(super) parked: bool,
}

/// The session, whatever transport it is on.
impl Machine {
    pub(super) fn talk(&self) -> Option<&Conversation> {
        let secure = self.secure.as_ref().map(|secure| &secure.talk);
        secure.or(self.suspended.as_ref().map(|suspended| &suspended.talk))
    }

    pub(super) fn talk_mut(&mut self) -> Option<&mut Conversation> {
        match &mut self.secure {
            Some(secure) => Some(&mut secure.talk),
            None => self.suspended.as_mut().map(|suspended| &mut suspended.talk),
        }
    }

    /// The established transport, unless it is being closed.
    pub(super) fn live_secure(&mut self) -> Option<&mut Secure> {
        self.secure.as_mut().filter(|secure| {
            let closing = &secure.closing;
            secure.is_established() && closing.sent.is_none() && closing.received.is_none()
        })
    }

    /// The established transport is gone: the session waits for another, if it may.
    pub(super) fn suspend(&mut self, reason: Option<Error>) {
        self.lose_transport(reason);
        if self.suspended.is_some() {
            self.watch_home();
            self.event(Event::Reconnecting);
            self.join_room();
        }
    }

    fn lose_transport(&mut self, reason: Option<Error>) {
        let window = self.config.timeouts.resume;
        let until = self.now.monotonic + window;
        let Some(mut secure) = self.secure.take() else {
            return;
        };
        self.close_link(secure.link, CloseHow::Abrupt);
        let unacked = secure.talk.unacked();
        if window.is_zero() || secure.closing.wanted.is_some() {
            return self.fail(Error::Disconnected { unacked });
        }
        if secure.sas.next_timeout().is_some() {
            self.event(Event::ShortCodeFailed);
        }
        secure.talk.end_transport();
        secure.talk.resume_by.get_or_insert(until);
        self.out.push(Output::Discard);
        let error = reason.unwrap_or(Error::Disconnected { unacked });
        self.event(Event::Disconnected { error });
        self.enter_suspension(secure.talk);
    }

    /// Keys, queues and peer of a transport that ended are all that is left.
    fn enter_suspension(&mut self, talk: Conversation) {
        self.terms = resume_terms(&talk);
        self.suspended = Some(Suspended {
            talk,
            parked: false,
        });
        self.drop_join();
    }

    /// A transport that was to continue the session failed before it did: the session waits for the next.
    pub(super) fn resume_failed(&mut self, error: Error) {
        let Some(mut secure) = self.secure.take() else {
            // It had won and no link yet: in an open room, where a restarted peer was looked for.
            self.end_visit();
            self.retrying(error);
            return self.rejoin_jittered();
        };
        self.close_link(secure.link, CloseHow::Abrupt);
        if let Some(visit) = &self.visit {
            // The history was made ready for the new session: the old one cannot go on with it.
            let history = secure.talk.history.as_ref();
            if history.is_some_and(Ledger::has_compared) {
                let unacked = visit.old.as_ref().map_or(0, Conversation::unacked);
                return self.fail(Error::Disconnected { unacked });
            }
            self.end_visit();
        } else {
            secure.talk.end_transport();
            self.out.push(Output::Discard);
            self.terms = resume_terms(&secure.talk);
            self.suspended = Some(Suspended {
                talk: secure.talk,
                parked: false,
            });
        }
        self.retrying(error);
        self.rejoin_jittered();
    }

    /// The host wants no traffic until it says otherwise.
    pub(super) fn on_suspend(&mut self) {
        if let Some(suspended) = &mut self.suspended {
            suspended.parked = true;
            self.end_visit();
            self.rest_watch();
            self.rejoin_at = None;
            return self.drop_join();
        }
        if self.is_listening() {
            self.lose_transport(None);
            self.on_suspend();
        } else if self.talk().is_some_and(|talk| talk.established) {
            self.resume_failed(Error::HandshakeFailed {
                stage: HandshakeStage::Connect,
            });
            self.on_suspend();
        }
    }

    /// The host wants traffic again.
    pub(super) fn on_resume(&mut self) {
        let Some(suspended) = self.suspended.as_mut().filter(|one| one.parked) else {
            return;
        };
        suspended.parked = false;
        self.watch_home();
        self.wake_watch();
        self.event(Event::Reconnecting);
        self.join_room();
    }

    /// The host ends a session that has no transport: the peer cannot be told.
    pub(super) fn close_suspended(&mut self, code: CloseCode, reason: String) {
        let unacked = self.talk().map_or(0, Conversation::unacked);
        self.finish(Event::Closed {
            code,
            reason,
            unacked,
        });
    }

    /// The wait for a new transport is over.
    pub(super) fn run_resume_timer(&mut self) {
        let Some(Suspended { talk, .. }) = &self.suspended else {
            return;
        };
        if talk.resume_by.is_some_and(|at| at <= self.now.monotonic) {
            let unacked = talk.unacked();
            self.fail(Error::Disconnected { unacked });
        }
    }

    pub(super) fn resume_deadline(&self) -> Option<Duration> {
        self.suspended.as_ref()?.talk.resume_by
    }
}

/// Listening.
impl Machine {
    /// Stays where the peer would come to resume: it joins there when it lost us.
    pub(super) fn listen(&mut self) {
        if self.config.timeouts.resume.is_zero() {
            return self.drop_join();
        }
        let Some(secure) = &self.secure else { return };
        self.terms = resume_terms(&secure.talk);
        self.drop_join();
        self.join_room();
    }

    /// Whether the join is there to listen only.
    pub(super) fn is_listening(&self) -> bool {
        self.secure.as_ref().is_some_and(Secure::is_established)
    }

    /// Somebody came or went: if it is the peer, then the transport may be gone without our notice.
    pub(super) fn probe_peer(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.closing.sent.is_some() || secure.liveness.probe_until.is_some() {
            return;
        }
        secure.liveness.probe_until = Some(now + PROBE);
        self.send_ping();
    }
}

/// Where a session meets again, and how it is known there.
pub(super) fn resume_terms(talk: &Conversation) -> Terms {
    let key = |key: &ResumeKey| (key.psk_id, key.psk.duplicate());
    Terms {
        mode: Mode::Paired,
        room: RoomId(talk.resume_room),
        keys: Keys::of(talk.resume_keys().into_iter().map(key)),
    }
}
