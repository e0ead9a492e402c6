//! A peer that was restarted: it does not know the session any more, and comes to where the two first met. A
//! suspended session looks there as well, and gives way to a new one when the peer has proved its key again.

use std::{collections::BTreeSet, time::Duration};

use super::{
    conversation::Conversation,
    handshake::Terms,
    io::{Event, Output},
    machine::{Machine, Side},
    resume::{Suspended, resume_terms},
    watch::Purpose,
};

/// How long the peer is met with in that room before the session goes back to wait for its old self.
const VISIT: Duration = Duration::from_secs(15);

/// How long the session stays where it would resume when somebody comes to where the two first met: that may be the peer
/// who looks there for us, as we do for it, and resumes.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// The same while somebody is there who may be the peer: a server can take its time to notice that one is dead.
const PATIENCE: Duration = Duration::from_secs(15);

/// A stay where the peer would come that has lost the session.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) until: Duration,
    /// The session that gives way, once the new handshake is complete.
    pub(super) old: Option<Conversation>,
}

impl Machine {
    /// Remembers where the two meet, if they can meet there again.
    pub(super) fn keep_home(&mut self) {
        let can_meet_again = matches!(
            self.side,
            Side::Contact { .. } | Side::Open { pinned: Some(_) }
        );
        if can_meet_again {
            self.home = Some(self.terms.duplicate());
        }
    }

    /// Looks whether somebody comes there.
    pub(super) fn watch_home(&mut self) {
        let until = self.resume_deadline();
        if let (Some(home), Some(until)) = (&self.home, until) {
            self.begin_watch(home.room, until, Purpose::Home, BTreeSet::new());
        }
    }

    /// Somebody came: only the peer can prove to be the peer.
    pub(super) fn visit_home(&mut self) {
        let until = self.now.monotonic + VISIT;
        let idle = self.suspended.as_ref().is_some_and(|one| !one.parked);
        let Some(home) = self.home.as_ref().map(Terms::duplicate).filter(|_| idle) else {
            return;
        };
        self.end_watch();
        self.terms = home;
        self.visit = Some(Visit { until, old: None });
        self.drop_join();
        self.join_room();
    }

    /// Nobody proved anything: back to where the session would resume.
    pub(super) fn end_visit(&mut self) {
        let Some(visit) = self.visit.take() else {
            return;
        };
        if let Some(talk) = visit.old {
            let parked = false;
            self.suspended = Some(Suspended { talk, parked });
        }
        if let Some(suspended) = &self.suspended {
            self.terms = resume_terms(&suspended.talk);
        }
        self.watch_home();
    }

    pub(super) fn visit_deadline(&self) -> Option<Duration> {
        let visit = self.visit.as_ref().filter(|_| self.secure.is_none());
        let next = self.watch.as_ref().and_then(|watch| watch.visit_at);
        visit.map(|visit| visit.until).or(next)
    }

    /// Whether somebody is where the session would resume.
    fn is_accompanied(&self) -> bool {
        self.join
            .as_ref()
            .is_some_and(|join| !join.members.is_empty() || !join.attempts.is_empty())
    }

    /// Meets whoever came, unless the session can still resume.
    fn run_watch_timer(&mut self) {
        let now = self.now.monotonic;
        let is_accompanied = self.is_accompanied();
        let is_resuming = self.secure.is_some();
        let Some(watch) = &mut self.watch else { return };
        let Some(at) = watch.visit_at.filter(|at| *at <= now) else {
            return;
        };
        // It may be the peer. Should it not be, there is another look.
        if is_resuming {
            watch.visit_at = Some(now + GRACE);
            return;
        }
        // The first look comes after the grace, a second one when patience is over.
        if is_accompanied && !watch.was_patient {
            watch.was_patient = true;
            watch.visit_at = Some(at + (PATIENCE - GRACE));
            return;
        }
        watch.visit_at = None;
        self.visit_home();
    }

    pub(super) fn run_visit_timer(&mut self) {
        let is_over = |visit: &Visit| visit.until <= self.now.monotonic;
        if self.secure.is_some() || !self.visit.as_ref().is_some_and(is_over) {
            return self.run_watch_timer();
        }
        self.end_visit();
        self.drop_join();
        self.join_room();
    }

    /// The new session is established: what the old one had not brought over is reported.
    pub(super) fn finish_visit(&mut self) {
        if self.visit.is_some() {
            self.deliver_left();
        }
        let old = self.visit.take().and_then(|visit| visit.old);
        if let Some(unacked) = old.as_ref().map(Conversation::unacked) {
            self.event(Event::SessionReset { unacked });
        }
    }

    /// Takes the suspended session out of the way of a handshake: continued by it, or replaced.
    pub(super) fn take_suspended(&mut self) -> Option<Conversation> {
        let talk = self.suspended.take()?.talk;
        match &mut self.visit {
            Some(visit) => {
                visit.old = Some(talk);
                self.out.push(Output::Discard);
                None
            }
            None => Some(talk),
        }
    }
}
