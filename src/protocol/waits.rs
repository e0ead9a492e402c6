//! What a join waits for, how long, and what a used invite still answers.

use std::time::Duration;

use super::{
    attempt::Attempt,
    claim::Claim,
    handshake::Keys,
    io::{Event, Reason},
    join::Join,
    machine::{Machine, Side},
};
use crate::{
    error::{Error, Evidence, HandshakeStage, RefusalCode},
    room::EndpointId,
};

/// Without a newcomer for this long, a join with nothing left to try is given up for a fresh one.
const STALE: Duration = Duration::from_secs(10);
/// How long a used invite without expiry is listened to.
const LISTEN_UNLIMITED: Duration = Duration::from_secs(24 * 60 * 60);

/// Invites.
impl Machine {
    pub(super) fn invite_is_used(&self) -> bool {
        matches!(
            self.side,
            Side::Inviter {
                claim: Claim::Used,
                ..
            }
        )
    }

    /// The peer's READY came: the secret is erased, the room is listened to until the invite expires.
    pub(super) fn redeem_invite(&mut self) {
        let now = self.now.monotonic;
        let unix = self.unix_seconds();
        if let Side::Inviter {
            claim,
            claim_until,
            expires_at,
            listen_until,
        } = &mut self.side
        {
            claim.redeem();
            *claim_until = None;
            let left = u64::from(*expires_at).saturating_sub(unix);
            let left = if *expires_at == 0 {
                LISTEN_UNLIMITED
            } else {
                Duration::from_secs(left)
            };
            *listen_until = Some(now + left);
        }
        self.terms.keys = Keys::none();
        let Some(join) = &mut self.join else { return };
        let losers: Vec<EndpointId> = join.attempts.iter().map(|attempt| attempt.peer).collect();
        join.done.extend(&losers);
        // Their links, and the offer that nobody may answer any more.
        self.drop_attempts();
        for peer in losers {
            self.tell_used(peer);
        }
    }

    /// Once per endpoint that shows up after the invite was used.
    pub(super) fn tell_used(&mut self, peer: EndpointId) {
        let own_peer = self.secure.as_ref().map(|secure| secure.peer_endpoint);
        let Some(join) = &mut self.join else { return };
        join.members.remove(&peer);
        if own_peer == Some(peer) || join.is_full() || !join.told.insert(peer) {
            return;
        }
        self.reject(peer, RefusalCode::Used);
        self.event(Event::InviteAlreadyUsed);
    }
}

/// Time.
impl Machine {
    pub(super) fn join_timeout(&self) -> Option<(Duration, Reason)> {
        let rejoin = self.rejoin_at.map(|at| (at, Reason::Rejoin));
        let peer = self
            .peer_deadline
            .filter(|_| self.secure.is_none())
            .map(|at| (at, Reason::PeerAbsent));
        let invite = self.invite_deadline().map(|at| (at, Reason::InviteExpiry));
        let join = self
            .join
            .as_ref()
            .and_then(|join| self.membership_timeout(join));
        let resume = self.resume_deadline().map(|at| (at, Reason::Resume));
        let visit = self.visit_deadline().map(|at| (at, Reason::Resume));
        [rejoin, peer, invite, join, resume, visit]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    pub(super) fn membership_timeout(&self, join: &Join) -> Option<(Duration, Reason)> {
        let welcome = join.welcome_by.map(|at| (at, Reason::Welcome));
        let attempt = join
            .attempts
            .iter()
            .map(Attempt::deadline)
            .min()
            .map(|at| (at, Reason::Handshake));
        let rejected = join.due_reject().map(|(_, at)| (at, Reason::Handshake));
        let stale = self
            .is_stuck(join)
            .then_some((join.last_newcomer + STALE, Reason::Rejoin));
        [welcome, attempt, rejected, stale]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// Somebody is or was there, and nothing is under way with anybody.
    pub(super) fn is_stuck(&self, join: &Join) -> bool {
        let nothing_pending =
            join.attempts.is_empty() && self.secure.is_none() && !self.invite_is_used();
        nothing_pending && !(join.members.is_empty() && join.done.is_empty())
    }

    pub(super) fn invite_deadline(&self) -> Option<Duration> {
        let Side::Inviter {
            claim,
            claim_until,
            expires_at,
            ..
        } = &self.side
        else {
            return self.watch.as_ref().map(|watch| watch.until);
        };
        let expiry = match claim {
            Claim::Open if *expires_at != 0 => {
                let left = (u64::from(*expires_at) * 1_000).saturating_sub(self.now.unix_ms);
                Some(self.now.monotonic + Duration::from_millis(left))
            }
            Claim::Open | Claim::Claimed(_) => None,
            Claim::Used => None,
        };
        [expiry, *claim_until].into_iter().flatten().min()
    }

    pub(super) fn run_join_timers(&mut self) {
        let now = self.now.monotonic;
        if self.secure.is_none() && self.peer_deadline.is_some_and(|at| at <= now) {
            let error = self.absence();
            return self.fail(error);
        }
        self.run_resume_timer();
        self.run_visit_timer();
        self.run_invite_timers(now);
        self.run_attempt_timers(now);
        self.run_membership_timers(now);
        if self.rejoin_at.is_some_and(|at| at <= now) {
            self.join_room();
        }
    }

    /// Why nobody came: an attempt that hangs or failed says more than that nobody was there.
    fn absence(&self) -> Error {
        let pending = self.join.as_ref().and_then(|join| join.attempts.first());
        match (pending, &self.last_fault) {
            (Some(attempt), _) => Error::Timeout {
                stage: attempt.awaited(),
            },
            (None, Some(fault)) => fault.clone(),
            (None, None) => Error::PeerAbsent {
                waited: self.config.timeouts.peer,
            },
        }
    }

    pub(super) fn run_invite_timers(&mut self, now: Duration) {
        while !self.is_ended() && self.invite_deadline().is_some_and(|at| at <= now) {
            let Side::Inviter {
                claim, claim_until, ..
            } = &mut self.side
            else {
                return self.end_watch();
            };
            match claim {
                //
                Claim::Open => self.fail(Error::InviteExpired {
                    evidence: Evidence::Authenticated,
                }),
                Claim::Claimed(_) => {
                    // However often its key tried again. An attempt under way goes on until another key comes.
                    *claim_until = None;
                    claim.release();
                }
                Claim::Used => return,
            }
        }
    }

    pub(super) fn run_attempt_timers(&mut self, now: Duration) {
        let Some(join) = &self.join else { return };
        let late = join
            .attempts
            .iter()
            .find(|attempt| attempt.deadline() <= now);
        let Some((peer, rejected)) = late.map(|attempt| (attempt.peer, attempt.rejected)) else {
            return;
        };
        let committed = join.committed == Some(peer);
        let stage = late.map_or(HandshakeStage::Hello, Attempt::awaited);
        if committed && self.secure.is_none() {
            return self.fail_attempt(Error::Timeout { stage });
        }
        self.end_attempt(peer);
        match rejected {
            Some(code) => self.hinted(code),
            None => self.retrying(Error::Timeout { stage }),
        }
        self.start_next_attempts();
        self.run_attempt_timers(now);
    }

    pub(super) fn run_membership_timers(&mut self, now: Duration) {
        let Some(join) = &mut self.join else { return };
        if join.welcome_by.is_some_and(|at| at <= now) {
            return self.rejoin_jittered();
        }
        if let Some((code, _)) = join.due_reject().filter(|(_, at)| *at <= now) {
            join.rejected = None;
            self.hinted(code);
        }
        let Some(join) = self.join.as_ref().filter(|_| !self.is_ended()) else {
            return;
        };
        if self.is_stuck(join) && join.last_newcomer + STALE <= now {
            self.rejoin_jittered();
        }
    }

    /// A REJECT came, and nothing better within its time. Only a redeemer has one peer that could have sent it, and
    /// it gives up only when it tries nothing else: anybody in the room could have sent it as well.
    pub(super) fn hinted(&mut self, code: RefusalCode) {
        if self.secure.is_some() {
            return;
        }
        let pending = self.join.as_mut().filter(|join| !join.attempts.is_empty());
        let evidence = Evidence::Hint;
        let error = match code {
            RefusalCode::Used => Error::InviteUsed { evidence },
            RefusalCode::Expired => Error::InviteExpired { evidence },
            RefusalCode::Version
            | RefusalCode::UnknownPsk
            | RefusalCode::Busy
            | RefusalCode::Policy => Error::Refused { code, evidence },
        };
        match (&self.side, code) {
            (Side::Redeemer { .. }, RefusalCode::Busy)
            | (
                Side::Open { .. } | Side::Inviter { .. } | Side::Contact { .. } | Side::Continued,
                _,
            ) => {
                self.retrying(error);
            }
            (Side::Redeemer { .. }, _) => match pending {
                Some(join) => {
                    join.rejected.get_or_insert((code, self.now.monotonic));
                    self.event(Event::Retrying { error });
                }
                None => self.fail(error),
            },
        }
    }
}
