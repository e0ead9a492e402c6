//! The end of a session: CLOSE both ways, and the timers of a live one.

use super::{
    control::Control,
    io::{CloseHow, Event},
    machine::Machine,
};
use crate::error::{CloseCode, Error, HandshakeStage};

/// The end.
impl Machine {
    pub(super) fn on_close(&mut self, code: CloseCode, reason: String) {
        let now = self.now.monotonic;
        let graceful = now + self.config.timeouts.close;
        if self.talk().is_some_and(|talk| talk.established) && !self.is_listening() {
            return self.close_suspended(code, reason);
        }
        let Some(secure) = self
            .secure
            .as_mut()
            .filter(|secure| secure.progress.established)
        else {
            return self.finish(Event::Closed {
                code,
                reason,
                unacked: 0,
            });
        };
        if secure.closing.wanted.is_none() {
            let by = if code == CloseCode::NORMAL {
                graceful
            } else {
                now
            };
            secure.closing.wanted = Some((code, reason, by));
        }
        self.continue_close();
    }

    pub(super) fn close_at_once(&mut self, code: CloseCode, reason: &str) {
        let now = self.now.monotonic;
        if let Some(secure) = &mut self.secure {
            secure.closing.wanted = Some((code, reason.to_owned(), now));
        }
        self.continue_close();
    }

    /// Sends CLOSE once everything was acknowledged, or the time is up.
    pub(super) fn continue_close(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else {
            return;
        };
        let Some((code, reason, by)) = secure.closing.wanted.clone() else {
            return;
        };
        if secure.closing.sent.is_some() || (secure.talk.unacked() > 0 && now < by) {
            return;
        }
        secure.closing.report.get_or_insert((code, reason.clone()));
        self.send_close(code, reason);
    }

    pub(super) fn send_close(&mut self, code: CloseCode, reason: String) {
        self.send_acks();
        self.send_control(&Control::Close { code, reason });
        if let Some(secure) = &mut self.secure {
            //
            secure.closing.sent = Some(self.now.monotonic);
            secure.rekey.abandon();
        }
    }

    pub(super) fn on_peer_close(&mut self, code: CloseCode, reason: String) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else {
            return;
        };
        secure.closing.received = Some(now);
        secure.closing.report.get_or_insert((code, reason));
        //
        if secure.closing.sent.is_none() {
            self.send_close(code, String::new());
        }
        self.deliver_left();
        self.report_closed();
    }

    pub(super) fn report_closed(&mut self) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if std::mem::replace(&mut secure.closing.reported, true) {
            return;
        }
        let unacked = secure.talk.unacked();
        if let Some((code, reason)) = secure.closing.report.clone() {
            self.event(Event::Closed {
                code,
                reason,
                unacked,
            });
        }
    }

    /// The link is gone or its time is up: the session ends, in good order only if the peer's CLOSE came.
    ///
    pub(super) fn finish_close(&mut self) {
        let Some(secure) = &self.secure else { return };
        if secure.closing.received.is_some() {
            self.report_closed();
        } else {
            let error = Error::Disconnected {
                unacked: secure.talk.unacked(),
            };
            self.deliver_left();
            self.event(Event::Failed { error });
        }
        self.drop_secure(CloseHow::Graceful);
        self.end();
    }

    pub(super) fn run_secure_timers(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &self.secure else { return };
        if let Some(deadline) = secure.close_deadline() {
            if deadline <= now {
                self.finish_close();
            }
            return;
        }
        if !secure.progress.established {
            if secure.ready_by <= now {
                let stage = if secure.progress.link_open {
                    HandshakeStage::Ready
                } else {
                    HandshakeStage::Connect
                };
                self.fail_attempt(Error::Timeout { stage });
            }
            return;
        }
        //
        if secure.liveness.heard + self.config.timeouts.lost_after <= now {
            return self.suspend(None);
        }
        if secure.liveness.probe_until.is_some_and(|at| at <= now) {
            return self.suspend(None);
        }
        if secure.ack_at.is_some_and(|at| at <= now) {
            self.send_acks();
        }
        self.answer_ping();
        self.send_ping();
        self.run_rekey();
        self.run_sas_timer();
        self.continue_close();
    }

    pub(super) fn send_ping(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.ping_due(&self.config) <= now {
            secure.liveness.ping_sent = Some(now);
            let opaque = self.random();
            self.send_control(&Control::Ping(opaque));
        }
    }
}
