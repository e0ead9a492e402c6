//! One stay in a room: who initiates, which attempts run, which one wins, and when to come again under a fresh
//! endpoint id. Not: what the winner does with its keys (secure.rs).

use std::{collections::BTreeSet, time::Duration};

use super::{
    attempt::{Attempt, AttemptLink},
    blob::Blob,
    io::{CloseHow, Event, LinkId, Output},
    machine::{Machine, Side},
    watch::Purpose,
};
use crate::{
    error::{Error, Evidence, HandshakeStage, RefusalCode},
    room::EndpointId,
};

/// Attempts that may be pending at once.
pub(super) const MAX_PENDING: usize = 8;
/// Members of a room. Beyond it the server invents them, and each costs the time of an attempt.
const MAX_MEMBERS: usize = 32;
/// Endpoints remembered per join; whoever floods beyond that is not heard until the next join.
const MAX_REMEMBERED: usize = 1_024;
/// The earliest and latest of a jittered rejoin, in milliseconds.
const REJOIN_MS: std::ops::Range<u64> = 500..8_000;
/// A joiner refuses an invite only this many seconds after its expiry: clocks differ.
const EXPIRY_GRACE: u64 = 300;

/// A membership of the room, under one endpoint id.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) endpoint: EndpointId,
    pub(super) welcome_by: Option<Duration>,
    /// Others in the room that were not tried yet or answer us.
    pub(super) members: BTreeSet<EndpointId>,
    /// Endpoints that had their one attempt.
    pub(super) done: BTreeSet<EndpointId>,
    /// Endpoints whose HS1 was answered by REJECT.
    refused: BTreeSet<EndpointId>,
    /// Endpoints that were told once that the invite is used.
    pub(super) told: BTreeSet<EndpointId>,
    pub(super) attempts: Vec<Attempt>,
    /// The one offer that every HS1 of a paired join carries.
    pub(super) offer: Option<Offer>,
    pub(super) committed: Option<EndpointId>,
    pub(super) last_newcomer: Duration,
    pub(super) rejected: Option<(RefusalCode, Duration)>,
    /// Second and count of the last HS1 in an open room.
    pub(super) hs1: (u64, u32),
    pub(super) flood_reported: bool,
}

pub(super) struct Offer {
    pub(super) link: LinkId,
    pub(super) described: Option<(String, Vec<String>)>,
    pub(super) late_candidates: Vec<String>,
    pub(super) used: bool,
}

impl std::fmt::Debug for Offer {
    /// Without descriptions and addresses.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            link,
            described,
            late_candidates: _,
            used,
        } = self;
        f.debug_struct("Offer")
            .field("link", link)
            .field("described", &described.is_some())
            .field("used", used)
            .finish_non_exhaustive()
    }
}

/// Membership.
impl Machine {
    pub(super) fn start(&mut self) {
        if let Side::Redeemer { expires_at, .. } = self.side {
            if expires_at != 0 && self.unix_seconds() > u64::from(expires_at) + EXPIRY_GRACE {
                return self.fail(Error::InviteExpired {
                    evidence: Evidence::Authenticated,
                });
            }
            self.peer_deadline = Some(self.now.monotonic + self.config.timeouts.peer);
        }
        self.join_room();
    }

    pub(super) fn join_room(&mut self) {
        self.drop_attempts();
        let endpoint = self.fresh_endpoint();
        self.rejoin_at = None;
        self.join = Some(Join {
            endpoint,
            welcome_by: Some(self.now.monotonic + self.config.timeouts.handshake_step),
            members: BTreeSet::new(),
            done: BTreeSet::new(),
            refused: BTreeSet::new(),
            told: BTreeSet::new(),
            attempts: Vec::new(),
            offer: None,
            committed: None,
            last_newcomer: self.now.monotonic,
            rejected: None,
            hs1: (0, 0),
            flood_reported: false,
        });
        self.out.push(Output::Join {
            room: self.terms.room,
            endpoint,
        });
    }

    pub(super) fn rejoin_jittered(&mut self) {
        let span = REJOIN_MS.end - REJOIN_MS.start;
        let jitter = REJOIN_MS.start + u64::from_be_bytes(self.random()) % span;
        self.drop_join();
        self.rejoin_at = Some(self.now.monotonic + Duration::from_millis(jitter));
    }

    /// Leaves the room; links of attempts are closed.
    pub(super) fn drop_join(&mut self) {
        self.drop_attempts();
        if self.join.take().is_some() {
            self.out.push(Output::Leave);
        }
    }

    pub(super) fn drop_attempts(&mut self) {
        let Some(join) = &mut self.join else { return };
        let secure = self.secure.as_ref().map(|secure| secure.link);
        let links = join
            .attempts
            .drain(..)
            .filter_map(|attempt| attempt.link.map(|link| link.id));
        let offer = join.offer.take().map(|offer| offer.link);
        let links: Vec<LinkId> = links
            .chain(offer)
            .filter(|link| Some(*link) != secure)
            .collect();
        for link in links {
            self.close_link(link, CloseHow::Abrupt);
        }
    }

    /// The session is up: nothing is left to do in the room. An inviter watches it from outside.
    pub(super) fn settle_join(&mut self) {
        self.peer_deadline = None;
        if let Side::Inviter {
            listen_until: Some(until),
            ..
        } = self.side
        {
            let told = self.join.as_ref().map(|join| join.told.clone());
            let peer = self.secure.as_ref().map(|secure| secure.peer_endpoint);
            let told = told.into_iter().flatten().chain(peer).collect();
            self.begin_watch(self.terms.room, until, Purpose::UsedInvite, told);
        }
        self.keep_home();
        self.end_home_watch();
        self.side = Side::Continued;
        self.listen();
    }

    pub(super) fn on_signaling_lost(&mut self) {
        let secured = self.secure.is_some();
        if self.join.is_none() {
            return;
        }
        self.event(Event::SignalingLost);
        self.drop_attempts();
        self.join = None;
        // A committed attempt may yet come up without the server; its own deadline decides.
        self.rejoin_at = (!secured || self.is_listening()).then_some(self.now.monotonic);
    }

    pub(super) fn on_welcome(&mut self, peers: &[EndpointId]) {
        let listening = self.is_listening();
        let Some(join) = &mut self.join else { return };
        join.welcome_by = None;
        join.last_newcomer = self.now.monotonic;
        if listening {
            return;
        }
        for &peer in peers.iter().take(MAX_MEMBERS) {
            self.on_peer_joined(peer);
        }
    }

    pub(super) fn on_peer_joined(&mut self, peer: EndpointId) {
        let now = self.now.monotonic;
        if self.is_listening() {
            return self.probe_peer();
        }
        let Some(join) = &mut self.join else { return };
        let known = join.members.contains(&peer)
            || join.done.contains(&peer)
            || join.attempt(peer).is_some();
        if peer == join.endpoint || known || join.is_full() || join.members.len() >= MAX_MEMBERS {
            return;
        }
        join.last_newcomer = now;
        join.members.insert(peer);
        if self.invite_is_used() {
            return self.tell_used(peer);
        }
        self.start_next_attempts();
    }

    pub(super) fn on_peer_left(&mut self, peer: EndpointId) {
        if self.is_listening() {
            return self.probe_peer();
        }
        let Some(join) = &mut self.join else { return };
        join.members.remove(&peer);
        let committed = join.committed == Some(peer);
        let secure = self.secure.as_ref();
        let open = secure.is_some_and(|secure| secure.progress.link_open);
        //
        if committed && !open {
            let stage = HandshakeStage::Connect;
            // A peer that tried for long gave up on a connection that did not come up, moments before this side would.
            let patience = self.config.timeouts.ready / 2;
            let tried_long =
                secure.is_some_and(|secure| secure.ready_by <= self.now.monotonic + patience);
            return self.fail_attempt(match tried_long {
                true => Error::Timeout { stage },
                false => Error::HandshakeFailed { stage },
            });
        }
        if !committed {
            self.end_attempt(peer);
            self.start_next_attempts();
        }
    }

    /// An attempt is over and its endpoint had its chance.
    pub(super) fn end_attempt(&mut self, peer: EndpointId) {
        let Some(join) = &mut self.join else { return };
        let Some(attempt) = join.take_attempt(peer) else {
            return;
        };
        join.done.insert(peer);
        if let Some(link) = attempt.link {
            self.close_link(link.id, CloseHow::Abrupt);
        }
        self.open_next_answer();
    }

    /// An HS1 that is hopeless is answered once, however often it comes.
    pub(super) fn refuse(&mut self, to: EndpointId, code: RefusalCode) {
        let Some(join) = &mut self.join else { return };
        if join.refused.len() < MAX_REMEMBERED && join.refused.insert(to) {
            self.reject(to, code);
        }
    }

    pub(super) fn reject(&mut self, to: EndpointId, code: RefusalCode) {
        self.out.push(Output::SendBlob {
            to,
            blob: Blob::Reject(code.to_wire()).encode(),
        });
    }

    pub(super) fn report_flood(&mut self) {
        let Some(join) = &mut self.join else { return };
        if !std::mem::replace(&mut join.flood_reported, true) {
            self.event(Event::Flood);
        }
    }
}

impl Join {
    pub(super) fn attempt(&mut self, peer: EndpointId) -> Option<&mut Attempt> {
        self.attempts
            .iter_mut()
            .find(|attempt| attempt.peer == peer)
    }

    pub(super) fn take_attempt(&mut self, peer: EndpointId) -> Option<Attempt> {
        let at = self
            .attempts
            .iter()
            .position(|attempt| attempt.peer == peer)?;
        Some(self.attempts.remove(at))
    }

    pub(super) fn is_full(&self) -> bool {
        self.members.len() + self.done.len() + self.told.len() >= MAX_REMEMBERED
    }

    /// A REJECT that belongs to no attempt, and when it counts: there may be an answer as long as anything is tried.
    pub(super) fn due_reject(&self) -> Option<(RefusalCode, Duration)> {
        self.rejected.filter(|_| self.attempts.is_empty())
    }

    pub(super) fn answer_links(&self) -> usize {
        self.attempts
            .iter()
            .filter(|attempt| attempt.is_responder() && attempt.link.is_some())
            .count()
    }

    pub(super) fn attempt_of(&mut self, link: LinkId) -> Option<&mut AttemptLink> {
        self.attempts
            .iter_mut()
            .filter_map(|attempt| attempt.link.as_mut())
            .find(|own| own.id == link)
    }
}
