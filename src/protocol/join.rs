//! One stay in a room: who initiates, which attempts run, which one wins, and when to come again under a fresh
//! endpoint id. Not: what the winner does with its keys (secure.rs).

use std::{collections::BTreeSet, time::Duration};

use super::{
    VERSION,
    attempt::{Attempt, AttemptLink, Stage},
    blob::{Blob, Mode},
    channel::{Channels, live_channels},
    claim::{Claim, Claimant},
    handshake::{self, Description, HandshakeFault, Hello},
    io::{CloseHow, Event, LinkId, Output, Reason},
    machine::{Machine, Side},
    record::{Bye, MAX_CANDIDATES, Payload, PayloadKind, SigSender},
    sdp,
    secure::{Completed, Secure, Sig, seal_sig},
};
use crate::{
    crypto::{
        epoch::{self, Role},
        noise::Finished,
    },
    error::{Error, Evidence, HandshakeStage, RefusalCode},
    identity::PeerId,
    room::EndpointId,
    trust::PeerTrust,
};

/// Attempts that may be pending at once.
const MAX_PENDING: usize = 8;
/// Links that a paired responder may have open for attempts at once.
const MAX_ANSWER_LINKS: usize = 2;
/// First messages a second that an open room takes.
const OPEN_HS1_PER_SECOND: u32 = 4;
/// Endpoints remembered per join; whoever floods beyond that is not heard until the next join.
const MAX_REMEMBERED: usize = 1_024;
/// The wait that is left after a REJECT.
const REJECTED_WAIT: Duration = Duration::from_secs(2);
/// Without a newcomer for this long, a join with nothing left to try is given up for a fresh one.
const STALE: Duration = Duration::from_secs(10);
/// The earliest and latest of a jittered rejoin, in milliseconds.
const REJOIN_MS: std::ops::Range<u64> = 500..8_000;
/// A joiner refuses an invite only this many seconds after its expiry: clocks differ.
const EXPIRY_GRACE: u64 = 300;
/// How long a used invite without expiry is listened to.
const LISTEN_UNLIMITED: Duration = Duration::from_secs(24 * 60 * 60);

/// A membership of the room, under one endpoint id.
#[derive(Debug)]
pub(super) struct Join {
    endpoint: EndpointId,
    welcome_by: Option<Duration>,
    /// Others in the room that were not tried yet or answer us.
    members: BTreeSet<EndpointId>,
    /// Endpoints that had their one attempt.
    done: BTreeSet<EndpointId>,
    /// Endpoints that were told once that the invite is used.
    told: BTreeSet<EndpointId>,
    attempts: Vec<Attempt>,
    /// The one offer that every HS1 of a paired join carries.
    offer: Option<Offer>,
    committed: Option<EndpointId>,
    last_newcomer: Duration,
    rejected: Option<(RefusalCode, Duration)>,
    /// Second and count of the last HS1 in an open room.
    hs1: (u64, u32),
    flood_reported: bool,
}

#[derive(Debug)]
struct Offer {
    link: LinkId,
    described: Option<(String, Vec<String>)>,
    late_candidates: Vec<String>,
    used: bool,
}

/// What a proven key means here.
enum Verdict {
    Accept(PeerTrust),
    /// The claimed key tries again.
    Again(PeerTrust),
    /// Tell it by SIG and REJECT.
    Refuse(RefusalCode),
    /// End the attempt and say nothing.
    Silent(Error),
}

/// Membership.
impl Machine {
    pub(super) fn start(&mut self) {
        if let Side::Redeemer { expires_at, .. } = self.side {
            if expires_at != 0 && self.unix_seconds() > u64::from(expires_at) + EXPIRY_GRACE {
                return self.fail(Error::InviteExpired { evidence: Evidence::Authenticated });
            }
            self.peer_deadline = Some(self.now.monotonic + self.config.timeouts.peer);
        }
        self.join_room();
    }

    fn join_room(&mut self) {
        self.drop_attempts();
        let endpoint = self.fresh_endpoint();
        self.rejoin_at = None;
        self.join = Some(Join {
            endpoint,
            welcome_by: Some(self.now.monotonic + self.config.timeouts.handshake_step),
            members: BTreeSet::new(),
            done: BTreeSet::new(),
            told: BTreeSet::new(),
            attempts: Vec::new(),
            offer: None,
            committed: None,
            last_newcomer: self.now.monotonic,
            rejected: None,
            hs1: (0, 0),
            flood_reported: false,
        });
        self.out.push(Output::Join { room: self.terms.room, endpoint });
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

    fn drop_attempts(&mut self) {
        let Some(join) = &mut self.join else { return };
        let secure = self.secure.as_ref().map(|secure| secure.link);
        let links = join.attempts.drain(..).filter_map(|attempt| attempt.link.map(|link| link.id));
        let offer = join.offer.take().map(|offer| offer.link);
        let links: Vec<LinkId> = links.chain(offer).filter(|link| Some(*link) != secure).collect();
        for link in links {
            self.close_link(link, CloseHow::Abrupt);
        }
    }

    /// The session is up: nothing is left to do in the room but, for an inviter, to say that the invite is used.
    pub(super) fn settle_join(&mut self) {
        self.peer_deadline = None;
        if !matches!(self.side, Side::Inviter { .. }) {
            self.drop_join();
        }
    }

    pub(super) fn on_signaling_lost(&mut self) {
        let secured = self.secure.is_some();
        if self.join.is_none() {
            return;
        }
        self.event(Event::SignalingLost);
        self.drop_attempts();
        self.join = None;
        let established = self.secure.as_ref().is_some_and(Secure::is_established);
        if !established || matches!(self.side, Side::Inviter { .. }) {
            // A committed attempt may yet come up without the server; its own deadline decides.
            self.rejoin_at = (!secured || established).then_some(self.now.monotonic);
        }
    }

    pub(super) fn on_welcome(&mut self, peers: &[EndpointId]) {
        let Some(join) = &mut self.join else { return };
        join.welcome_by = None;
        join.last_newcomer = self.now.monotonic;
        for &peer in peers.iter().take(32) {
            self.on_peer_joined(peer);
        }
    }

    pub(super) fn on_peer_joined(&mut self, peer: EndpointId) {
        let now = self.now.monotonic;
        let Some(join) = &mut self.join else { return };
        let known = join.members.contains(&peer) || join.done.contains(&peer) || join.attempt(peer).is_some();
        if peer == join.endpoint || known || join.is_full() {
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
        let Some(join) = &mut self.join else { return };
        join.members.remove(&peer);
        let committed = join.committed == Some(peer);
        let open = self.secure.as_ref().is_some_and(|secure| secure.progress.link_open);
        if committed && !open && self.secure.is_some() && matches!(self.side, Side::Inviter { .. }) {
            return self.fail_attempt(Error::HandshakeFailed { stage: HandshakeStage::Connect });
        }
        if !committed {
            self.end_attempt(peer);
            self.start_next_attempts();
        }
    }

    /// An attempt is over and its endpoint had its chance.
    fn end_attempt(&mut self, peer: EndpointId) {
        let Some(join) = &mut self.join else { return };
        let Some(attempt) = join.take_attempt(peer) else { return };
        join.done.insert(peer);
        if let Some(link) = attempt.link {
            self.close_link(link.id, CloseHow::Abrupt);
        }
        self.open_next_answer();
    }

    fn reject(&mut self, to: EndpointId, code: RefusalCode) {
        self.out.push(Output::SendBlob { to, blob: Blob::Reject(code.to_wire()).encode() });
    }

    fn report_flood(&mut self) {
        let Some(join) = &mut self.join else { return };
        if !std::mem::replace(&mut join.flood_reported, true) {
            self.event(Event::Flood);
        }
    }
}

impl Join {
    fn attempt(&mut self, peer: EndpointId) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.peer == peer)
    }

    fn take_attempt(&mut self, peer: EndpointId) -> Option<Attempt> {
        let at = self.attempts.iter().position(|attempt| attempt.peer == peer)?;
        Some(self.attempts.remove(at))
    }

    fn is_full(&self) -> bool {
        self.members.len() + self.done.len() + self.told.len() >= MAX_REMEMBERED
    }

    fn answer_links(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.is_responder() && attempt.link.is_some()).count()
    }
}

/// The initiator's side.
impl Machine {
    /// Starts an attempt with every member that we initiate to, as long as there is room for more.
    fn start_next_attempts(&mut self) {
        loop {
            let may_start = self.secure.is_none() || matches!(self.side, Side::Inviter { claim: Claim::Claimed(_), .. });
            let Some(join) = &mut self.join else { return };
            if !may_start || join.attempts.len() >= MAX_PENDING {
                return;
            }
            let own = join.endpoint;
            let Some(peer) = join.members.iter().copied().find(|&peer| peer > own) else { return };
            join.members.remove(&peer);
            let attempt = Attempt::new(peer, Stage::Offer, self.now.monotonic, &self.config.timeouts);
            join.attempts.push(attempt);
            self.start_attempt(peer);
        }
    }

    fn start_attempt(&mut self, peer: EndpointId) {
        if self.terms.mode == Mode::Open {
            return self.send_hs1(peer, &[]);
        }
        let Some(join) = &mut self.join else { return };
        match &join.offer {
            None => {
                let link = self.new_link(None);
                if let Some(join) = &mut self.join {
                    join.offer = Some(Offer { link, described: None, late_candidates: Vec::new(), used: false });
                }
            }
            Some(Offer { described: Some((sdp, candidates)), .. }) => {
                let (sdp, candidates) = (Some(sdp.clone()), candidates.clone());
                self.send_paired_hs1(peer, sdp, candidates);
            }
            Some(_) => {}
        }
    }

    fn send_paired_hs1(&mut self, peer: EndpointId, sdp: Option<String>, candidates: Vec<String>) {
        let (payload, late) = self.hello(sdp, candidates).encode(PayloadKind::Hs1);
        if let Some(offer) = self.join.as_mut().and_then(|join| join.offer.as_mut()) {
            offer.late_candidates.extend(late);
        }
        self.send_hs1(peer, &payload);
    }

    fn send_hs1(&mut self, peer: EndpointId, payload: &[u8]) {
        let Some(join) = &mut self.join else { return };
        let ends = (join.endpoint, peer);
        let (blob, reader) = self.terms.write_hs1(&self.identity, ends, payload, self.entropy.as_mut());
        if let Some(attempt) = join.attempt(peer) {
            attempt.advance(Stage::Hs2(reader), self.now.monotonic, &self.config.timeouts);
        }
        self.out.push(Output::SendBlob { to: peer, blob });
    }

    /// CAPS, CHANNELS, and what else belongs to a hello.
    fn hello(&self, sdp: Option<String>, mut candidates: Vec<String>) -> Payload {
        candidates.truncate(MAX_CANDIDATES);
        Payload {
            caps: Some(handshake::own_caps(&self.config.limits)),
            channels: Some(self.channels.clone()),
            sdp,
            candidates,
            bye: None,
        }
    }

    fn on_hs2(&mut self, from: EndpointId, message: &[u8]) {
        let Some(join) = &mut self.join else { return };
        // Only a pending HS1 waits for one; whatever else this is, it consumes nothing.
        let waits = join.attempt(from).is_some_and(|attempt| matches!(attempt.stage, Stage::Hs2(_)));
        let Some(Attempt { stage: Stage::Hs2(reader), .. }) = waits.then(|| join.take_attempt(from)).flatten() else {
            return;
        };
        join.done.insert(from);
        let kind = PayloadKind::Hs2(self.terms.mode);
        let read = handshake::read(reader, message).and_then(|(payload, writer)| {
            let hello = Hello::read(kind, &payload, &self.channels)?;
            let key = handshake::proven_key(&self.identity, writer.remote_static())?;
            Ok((writer, hello, key))
        });
        match read {
            Ok((writer, hello, key)) => self.decide_hs2(from, writer, hello, key),
            Err(fault) => self.attempt_failed(fault, HandshakeStage::Answer),
        }
    }

    fn decide_hs2(&mut self, from: EndpointId, writer: crate::crypto::noise::Writer, hello: Hello, key: PeerId) {
        match self.judge(key) {
            Verdict::Accept(trust) => self.commit_hs2(from, writer, hello, (key, trust)),
            Verdict::Again(trust) => {
                let used = self.join.as_ref().and_then(|join| join.offer.as_ref()).is_none_or(|offer| offer.used);
                if used {
                    // The offer belongs to the older attempt: come again with a new one; the claim stays.
                    self.drop_secure();
                    self.drop_join();
                    return self.join_room();
                }
                self.drop_secure();
                self.commit_hs2(from, writer, hello, (key, trust));
            }
            Verdict::Refuse(code @ (RefusalCode::Used | RefusalCode::Expired)) => self.reject(from, code),
            Verdict::Refuse(_) => {}
            Verdict::Silent(error) => self.attempt_refused(error),
        }
        self.start_next_attempts();
    }

    fn commit_hs2(
        &mut self,
        from: EndpointId,
        writer: crate::crypto::noise::Writer,
        hello: Hello,
        (key, trust): (PeerId, PeerTrust),
    ) {
        self.commit(from);
        if self.terms.mode == Mode::Paired {
            return self.finish_paired_initiator(from, writer, hello, (key, trust));
        }
        let link = self.new_link(None);
        let stage = Stage::OwnOffer { writer: Box::new(writer), hello: Box::new(hello), key, trust };
        let mut attempt = Attempt::new(from, stage, self.now.monotonic, &self.config.timeouts);
        attempt.link = Some(AttemptLink::new(link));
        if let Some(join) = &mut self.join {
            join.attempts.push(attempt);
        }
    }

    /// The answer is set before HS3 leaves: the other side connects as soon as HS3 arrives.
    fn finish_paired_initiator(
        &mut self,
        from: EndpointId,
        writer: crate::crypto::noise::Writer,
        hello: Hello,
        (key, trust): (PeerId, PeerTrust),
    ) {
        let offer = self.join.as_mut().and_then(|join| join.offer.as_mut());
        let (Some(offer), Some(answer)) = (offer, hello.description.clone()) else { return };
        offer.used = true;
        let (link, late) = (offer.link, std::mem::take(&mut offer.late_candidates));
        self.out.push(Output::LinkAnswer { link, sdp: answer.sdp.clone() });
        let kind = PayloadKind::Hs3(Mode::Paired);
        let (payload, left) = Payload { candidates: late, ..Payload::default() }.encode(kind);
        let Ok((message, finished)) = handshake::write_last(writer, &payload, self.entropy.as_mut()) else {
            return self.fail_attempt(Error::HandshakeFailed { stage: HandshakeStage::Answer });
        };
        self.out.push(Output::SendBlob { to: from, blob: Blob::Hs3(&message).encode() });
        let candidates = hello.candidates.clone();
        self.complete(Ending { from, finished, key, trust, link, role: Role::Initiator, owes_answer: None }, hello);
        self.add_candidates(link, candidates);
        self.send_candidates(left);
    }

    /// The offer of an open initiator is made: HS3 carries it.
    fn finish_open_initiator(&mut self, peer: EndpointId, sdp: &str, candidates: Vec<String>) {
        let Some(join) = &mut self.join else { return };
        let Some(Attempt { stage: Stage::OwnOffer { writer, hello, key, trust }, link: Some(link), .. }) =
            join.take_attempt(peer)
        else {
            return;
        };
        let kind = PayloadKind::Hs3(Mode::Open);
        let (payload, left) = self.hello(Some(sdp::strip_candidates(sdp)), candidates).encode(kind);
        let Ok((message, finished)) = handshake::write_last(*writer, &payload, self.entropy.as_mut()) else {
            self.close_link(link.id, CloseHow::Abrupt);
            return self.fail_attempt(Error::HandshakeFailed { stage: HandshakeStage::Answer });
        };
        self.out.push(Output::SendBlob { to: peer, blob: Blob::Hs3(&message).encode() });
        let ending = Ending {
            from: peer,
            finished,
            key,
            trust,
            link: link.id,
            role: Role::Initiator,
            owes_answer: None,
        };
        self.complete(ending, *hello);
        self.send_candidates(left);
        self.send_candidates(link.late_candidates);
    }
}

/// The responder's side.
impl Machine {
    fn on_hs1(&mut self, from: EndpointId, version: u8, mode: Mode, psk_id: [u8; 16], message: &[u8]) {
        let Some(join) = &mut self.join else { return };
        let own = join.endpoint;
        let known = join.done.contains(&from) || join.attempt(from).is_some();
        if from >= own || known {
            return;
        }
        if self.invite_is_used() {
            return self.tell_used(from);
        }
        if version != VERSION {
            return self.reject(from, RefusalCode::Version);
        }
        if mode != self.terms.mode || psk_id != self.terms.psk_id {
            return self.reject(from, RefusalCode::UnknownPsk);
        }
        if self.secure.is_some() && !matches!(self.side, Side::Inviter { .. }) {
            return self.reject(from, RefusalCode::Busy);
        }
        if !self.admit_hs1() {
            return self.report_flood();
        }
        match self.read_hs1(from, message) {
            Ok((writer, hello)) => self.answer_hs1(from, writer, hello),
            Err(fault) => {
                if let Some(join) = &mut self.join {
                    join.done.insert(from);
                }
                self.attempt_failed(fault, HandshakeStage::Hello);
            }
        }
    }

    /// Room for one more pending attempt: the oldest that proved nothing makes place and may come again.
    fn admit_hs1(&mut self) -> bool {
        let second = self.now.monotonic.as_secs();
        let open = self.terms.mode == Mode::Open;
        let Some(join) = &mut self.join else { return false };
        if join.is_full() {
            return false;
        }
        if open {
            join.hs1 = if join.hs1.0 == second { (second, join.hs1.1 + 1) } else { (second, 1) };
            if join.hs1.1 > OPEN_HS1_PER_SECOND {
                return false;
            }
        }
        if join.attempts.len() >= MAX_PENDING {
            let Some(oldest) = join.attempts.iter().find(|attempt| attempt.is_responder()).map(|old| old.peer) else {
                return false;
            };
            let link = join.take_attempt(oldest).and_then(|attempt| attempt.link);
            if let Some(link) = link {
                self.close_link(link.id, CloseHow::Abrupt);
            }
            self.report_flood();
        }
        true
    }

    fn read_hs1(
        &mut self,
        from: EndpointId,
        message: &[u8],
    ) -> Result<(crate::crypto::noise::Writer, Option<Hello>), HandshakeFault> {
        let own = self.join.as_ref().map(|join| join.endpoint).ok_or(HandshakeFault::Noise)?;
        let (payload, writer) = self.terms.read_hs1(&self.identity, (own, from), message)?;
        match self.terms.mode {
            Mode::Open if payload.is_empty() => Ok((writer, None)),
            Mode::Open => Err(HandshakeFault::Records),
            Mode::Paired => Ok((writer, Some(Hello::read(PayloadKind::Hs1, &payload, &self.channels)?))),
        }
    }

    fn answer_hs1(&mut self, from: EndpointId, writer: crate::crypto::noise::Writer, hello: Option<Hello>) {
        let (now, timeouts) = (self.now.monotonic, &self.config.timeouts);
        let Some(join) = &mut self.join else { return };
        join.members.remove(&from);
        match hello {
            Some(hello) => {
                let stage = Stage::Answer { writer: Box::new(writer), hello: Box::new(hello) };
                join.attempts.push(Attempt::new(from, stage, now, timeouts));
                self.open_next_answer();
            }
            None => self.send_open_hs2(from, writer),
        }
    }

    fn send_open_hs2(&mut self, from: EndpointId, writer: crate::crypto::noise::Writer) {
        let (payload, _) = self.hello(None, Vec::new()).encode(PayloadKind::Hs2(Mode::Open));
        let (now, timeouts) = (self.now.monotonic, &self.config.timeouts);
        let Some(join) = &mut self.join else { return };
        match handshake::write(writer, &payload, self.entropy.as_mut()) {
            Ok((message, reader)) => {
                let stage = Stage::Hs3 { reader, hello: None };
                join.attempts.push(Attempt::new(from, stage, now, timeouts));
                self.out.push(Output::SendBlob { to: from, blob: Blob::Hs2(&message).encode() });
            }
            Err(fault) => {
                join.done.insert(from);
                self.attempt_failed(fault, HandshakeStage::Hello);
            }
        }
    }

    /// Gives the next paired attempt in line a link, while fewer than two have one.
    fn open_next_answer(&mut self) {
        let Some(join) = &mut self.join else { return };
        if join.answer_links() >= MAX_ANSWER_LINKS {
            return;
        }
        let waiting = join.attempts.iter().find(|attempt| attempt.link.is_none() && attempt.is_responder());
        let Some((peer, offer)) = waiting.and_then(Attempt::offer_to_answer) else { return };
        let link = self.new_link(Some(offer));
        if let Some(attempt) = self.join.as_mut().and_then(|join| join.attempt(peer)) {
            attempt.link = Some(AttemptLink::new(link));
        }
    }

    /// The answer of a paired responder is made: HS2 carries it.
    fn send_paired_hs2(&mut self, peer: EndpointId, sdp: &str, candidates: Vec<String>) {
        let Some(join) = &mut self.join else { return };
        let Some(mut attempt) = join.take_attempt(peer) else { return };
        let Stage::Answer { writer, hello } = attempt.stage else { return };
        let kind = PayloadKind::Hs2(Mode::Paired);
        let (payload, left) = self.hello(Some(sdp::strip_candidates(sdp)), candidates).encode(kind);
        let written = handshake::write(*writer, &payload, self.entropy.as_mut());
        let Some(join) = &mut self.join else { return };
        match written {
            Ok((message, reader)) => {
                if let Some(link) = &mut attempt.link {
                    link.late_candidates.splice(0..0, left);
                }
                let stage = Stage::Hs3 { reader, hello: Some(hello) };
                let mut next = Attempt::new(peer, stage, self.now.monotonic, &self.config.timeouts);
                (next.end, next.link) = (attempt.end, attempt.link);
                join.attempts.push(next);
                self.out.push(Output::SendBlob { to: peer, blob: Blob::Hs2(&message).encode() });
            }
            Err(fault) => {
                join.done.insert(peer);
                if let Some(link) = attempt.link {
                    self.close_link(link.id, CloseHow::Abrupt);
                }
                self.attempt_failed(fault, HandshakeStage::Hello);
            }
        }
    }

    fn on_hs3(&mut self, from: EndpointId, message: &[u8]) {
        let Some(join) = &mut self.join else { return };
        let waits = join.attempt(from).is_some_and(|attempt| matches!(attempt.stage, Stage::Hs3 { .. }));
        let Some(Attempt { stage: Stage::Hs3 { reader, hello }, link, .. }) =
            waits.then(|| join.take_attempt(from)).flatten()
        else {
            return;
        };
        join.done.insert(from);
        match self.read_hs3(reader, hello, message) {
            Ok(proof) => self.decide_hs3(from, link, proof),
            Err(fault) => {
                if let Some(link) = link {
                    self.close_link(link.id, CloseHow::Abrupt);
                }
                self.open_next_answer();
                self.attempt_failed(fault, HandshakeStage::Proof);
            }
        }
    }

    fn read_hs3(
        &self,
        reader: crate::crypto::noise::Reader,
        hello: Option<Box<Hello>>,
        message: &[u8],
    ) -> Result<Proof, HandshakeFault> {
        let (payload, finished) = handshake::read_last(reader, message)?;
        let key = handshake::proven_key(&self.identity, finished.remote_static)?;
        let hello = match hello {
            None => Hello::read(PayloadKind::Hs3(Mode::Open), &payload, &self.channels)?,
            Some(mut hello) => {
                let kind = PayloadKind::Hs3(Mode::Paired);
                let payload = Payload::decode(kind, &payload).map_err(|_| HandshakeFault::Records)?;
                hello.candidates.extend(payload.candidates);
                if hello.candidates.len() > MAX_CANDIDATES {
                    return Err(HandshakeFault::Records);
                }
                *hello
            }
        };
        Ok(Proof { finished, key, hello })
    }

    fn decide_hs3(&mut self, from: EndpointId, link: Option<AttemptLink>, proof: Proof) {
        match self.judge(proof.key) {
            Verdict::Accept(trust) => self.commit_hs3(from, link, proof, trust),
            Verdict::Again(trust) => {
                self.drop_secure();
                self.commit_hs3(from, link, proof, trust);
            }
            Verdict::Refuse(code) => {
                self.refuse_hs3(from, &proof.finished, code);
                self.abandon(link);
            }
            Verdict::Silent(error) => {
                self.abandon(link);
                self.attempt_refused(error);
            }
        }
    }

    fn abandon(&mut self, link: Option<AttemptLink>) {
        if let Some(link) = link {
            self.close_link(link.id, CloseHow::Abrupt);
        }
        self.open_next_answer();
    }

    /// The refusal is authenticated first, and hinted after.
    fn refuse_hs3(&mut self, to: EndpointId, finished: &Finished, code: RefusalCode) {
        let mut sig = sig_of(finished, Role::Responder, 0);
        let payload = Payload { bye: Some(Bye(code.to_wire())), ..Payload::default() };
        if let Some(blob) = seal_sig(&mut sig, PayloadKind::Sig(SigSender::Other), payload) {
            self.out.push(Output::SendBlob { to, blob });
        }
        if matches!(code, RefusalCode::Used | RefusalCode::Expired) {
            self.reject(to, code);
        }
    }

    fn commit_hs3(&mut self, from: EndpointId, link: Option<AttemptLink>, proof: Proof, trust: PeerTrust) {
        self.commit(from);
        let Proof { finished, key, hello } = proof;
        let candidates = hello.candidates.clone();
        let open = self.terms.mode == Mode::Open;
        let (link, owes_answer) = match link {
            Some(link) => (link, None),
            None => {
                let offer = hello.description.as_ref().map(|offer| offer.sdp.clone());
                (AttemptLink::new(self.new_link(offer)), Some(candidates.clone()))
            }
        };
        let id = link.id;
        self.complete(Ending { from, finished, key, trust, link: id, role: Role::Responder, owes_answer }, hello);
        if !open {
            self.add_candidates(id, candidates);
            self.send_candidates(link.late_candidates);
        }
        if let Some(fingerprint) = link.opened {
            self.secure_link_open(fingerprint);
        }
        if let Some(frame) = link.held {
            self.secure_frame(0, frame);
        }
    }
}

/// A handshake that the responder has read to its end.
struct Proof {
    finished: Finished,
    key: PeerId,
    hello: Hello,
}

/// A handshake that is complete, on either side.
struct Ending {
    from: EndpointId,
    finished: Finished,
    key: PeerId,
    trust: PeerTrust,
    link: LinkId,
    role: Role,
    owes_answer: Option<Vec<String>>,
}

fn sig_of(finished: &Finished, role: Role, candidates: usize) -> Sig {
    let (send, receive) = match role {
        Role::Initiator => (&finished.k1, &finished.k2),
        Role::Responder => (&finished.k2, &finished.k1),
    };
    Sig { send: send.duplicate(), receive: receive.duplicate(), sent: 0, next: 0, received: 0, candidates }
}

/// Winning.
impl Machine {
    /// This attempt wins: all others are told that we are busy, or, at an inviter, go on as far as learning the key.
    fn commit(&mut self, peer: EndpointId) {
        let inviter = matches!(self.side, Side::Inviter { .. });
        let Some(join) = &mut self.join else { return };
        join.committed = Some(peer);
        if inviter {
            return;
        }
        let offer = join.offer.as_ref().map(|offer| offer.link);
        let losers: Vec<Attempt> = join.attempts.drain(..).collect();
        for loser in losers {
            if !matches!(loser.stage, Stage::Offer) {
                self.reject(loser.peer, RefusalCode::Busy);
            }
            if let Some(link) = loser.link.filter(|link| Some(link.id) != offer) {
                self.close_link(link.id, CloseHow::Abrupt);
            }
        }
    }

    fn complete(&mut self, ending: Ending, hello: Hello) {
        let Ending { from, finished, key, trust, link, role, owes_answer } = ending;
        let own_caps = handshake::own_caps(&self.config.limits);
        let sig = sig_of(&finished, role, hello.candidates.len());
        let secrets = epoch::session_secrets(&finished.exporter, &finished.hash);
        let keys = epoch::derive(finished.exporter, finished.hash, role);
        let live = live_channels(&self.channels, &hello.channels);
        let completed = Completed {
            peer_endpoint: from,
            peer: key,
            trust,
            trusted: trust.meets(self.required),
            link,
            role,
            sig,
            owes_answer,
            // In open mode the responder's answer follows by SIG.
            description: hello.description,
            channels: Channels::new(keys, live, own_caps, hello.caps, self.config.padding),
            secrets,
            own_caps,
            peer_caps: hello.caps,
        };
        self.secure = Some(Secure::new(completed, self.now.monotonic, &self.config));
    }

    fn send_candidates(&mut self, candidates: Vec<String>) {
        for candidate in candidates {
            self.send_sig(Payload { candidates: vec![candidate], ..Payload::default() });
        }
    }

    /// The older attempt of the same key ends; nothing is said, for it is the same peer.
    fn drop_secure(&mut self) {
        if let Some(secure) = self.secure.take() {
            self.close_link(secure.link, CloseHow::Abrupt);
        }
    }

    /// Whether this key may go on.
    fn judge(&mut self, key: PeerId) -> Verdict {
        let expired = |at: u32, now: u64| at != 0 && now >= u64::from(at);
        let (unix, now, ready) = (self.unix_seconds(), self.now.monotonic, self.config.timeouts.ready);
        match &mut self.side {
            Side::Open { pinned: Some(expected) } if *expected != key => {
                Verdict::Silent(Error::KeyChanged { expected: *expected, found: key })
            }
            Side::Open { pinned } => {
                let trust = if pinned.is_some() { PeerTrust::Pinned } else { PeerTrust::Unknown };
                Verdict::Accept(trust)
            }
            Side::Redeemer { inviter, .. } if *inviter != key => Verdict::Silent(Error::NotInviter { found: key }),
            Side::Redeemer { .. } => Verdict::Accept(PeerTrust::Invited),
            Side::Inviter { expires_at, .. } if expired(*expires_at, unix) => Verdict::Refuse(RefusalCode::Expired),
            Side::Inviter { claim, claim_until, .. } => match claim.prove(key) {
                Claimant::First => {
                    *claim_until = Some(now + ready);
                    Verdict::Accept(PeerTrust::Invited)
                }
                Claimant::Again if self.secure.is_some() => Verdict::Again(PeerTrust::Invited),
                Claimant::Again => Verdict::Accept(PeerTrust::Invited),
                Claimant::Contested { first } => {
                    self.event(Event::InviteContested { first, second: key });
                    Verdict::Refuse(RefusalCode::Used)
                }
                Claimant::Late => Verdict::Refuse(RefusalCode::Used),
            },
        }
    }

    /// Something in an attempt was not right. Nothing is said to the peer; the join goes on.
    fn attempt_failed(&mut self, fault: HandshakeFault, stage: HandshakeStage) {
        let error = fault.into_error(stage);
        tracing::debug!(%error, "attempt failed");
        self.event(Event::Retrying { error });
        self.start_next_attempts();
    }

    /// The key proved is not one that we want: the host is told, and the wait goes on.
    fn attempt_refused(&mut self, error: Error) {
        match error {
            Error::KeyChanged { .. } => self.fail(error),
            _ => self.event(Event::Retrying { error }),
        }
    }
}

/// Blobs and links.
impl Machine {
    pub(super) fn on_blob(&mut self, from: EndpointId, blob: &[u8]) {
        let own = self.join.as_ref().map(|join| join.endpoint);
        if own == Some(from) {
            return;
        }
        match Blob::decode(blob) {
            Ok(Blob::Hs1 { version, mode, psk_id, noise }) => self.on_hs1(from, version, mode, psk_id, noise),
            Ok(Blob::Hs2(noise)) => self.on_hs2(from, noise),
            Ok(Blob::Hs3(noise)) => self.on_hs3(from, noise),
            Ok(Blob::Sig { n, ciphertext }) => self.on_sig(from, n, ciphertext),
            Ok(Blob::Reject(code)) => self.on_reject(from, code),
            Err(_) => tracing::debug!("a blob that is none was dropped"),
        }
    }

    /// A hint that nobody signed: it shortens the wait and changes nothing else.
    fn on_reject(&mut self, from: EndpointId, code: u8) {
        let Some(code) = RefusalCode::from_wire(code) else { return };
        let soon = self.now.monotonic + REJECTED_WAIT;
        if self.secure.is_some() {
            return;
        }
        let Some(join) = &mut self.join else { return };
        match join.attempt(from) {
            Some(attempt) => {
                attempt.step = attempt.step.min(soon);
                attempt.rejected = Some(code);
            }
            None => {
                join.rejected.get_or_insert((code, soon));
            }
        }
    }

    pub(super) fn on_link_described(&mut self, link: LinkId, sdp: &str, candidates: Vec<String>) {
        let Some(join) = &mut self.join else { return self.described_secure(link, sdp, candidates) };
        if let Some(offer) = join.offer.as_mut().filter(|offer| offer.link == link && offer.described.is_none()) {
            let sdp = sdp::strip_candidates(sdp);
            offer.described = Some((sdp.clone(), candidates.clone()));
            let waiting = join.attempts.iter().filter(|attempt| matches!(attempt.stage, Stage::Offer));
            let waiting: Vec<EndpointId> = waiting.map(|attempt| attempt.peer).collect();
            for peer in waiting {
                self.send_paired_hs1(peer, Some(sdp.clone()), candidates.clone());
            }
            return;
        }
        let attempt = join.attempts.iter().find(|attempt| attempt.link_id() == Some(link));
        match attempt.map(|attempt| (attempt.peer, &attempt.stage)) {
            Some((peer, Stage::OwnOffer { .. })) => self.finish_open_initiator(peer, sdp, candidates),
            Some((peer, Stage::Answer { .. })) => self.send_paired_hs2(peer, sdp, candidates),
            Some(_) => {}
            None => self.described_secure(link, sdp, candidates),
        }
    }

    fn described_secure(&mut self, link: LinkId, sdp: &str, candidates: Vec<String>) {
        if self.secure.as_ref().is_some_and(|secure| secure.link == link) {
            self.answer_by_sig(sdp, candidates);
        }
    }

    pub(super) fn on_link_candidate(&mut self, link: LinkId, candidate: String) {
        if self.secure.as_ref().is_some_and(|secure| secure.link == link) {
            return self.send_candidates(vec![candidate]);
        }
        let Some(join) = &mut self.join else { return };
        let offer = join.offer.as_mut().filter(|offer| offer.link == link);
        let late = match offer {
            Some(offer) => Some(&mut offer.late_candidates),
            None => join.attempt_of(link).map(|link| &mut link.late_candidates),
        };
        if let Some(late) = late.filter(|late| late.len() < MAX_CANDIDATES) {
            late.push(candidate);
        }
    }

    pub(super) fn on_link_open(&mut self, link: LinkId, fingerprint: Option<[u8; 32]>) {
        if self.secure.as_ref().is_some_and(|secure| secure.link == link) {
            return self.secure_link_open(fingerprint);
        }
        if let Some(link) = self.join.as_mut().and_then(|join| join.attempt_of(link)) {
            link.opened = Some(fingerprint);
        }
    }

    pub(super) fn on_link_frame(&mut self, link: LinkId, channel: u8, frame: bytes::BytesMut) {
        if self.secure.as_ref().is_some_and(|secure| secure.link == link) {
            return self.secure_frame(channel, frame);
        }
        let Some(join) = &mut self.join else { return };
        let Some(early) = join.attempt_of(link) else { return };
        // Before the handshake is complete exactly one frame, on channel 0, is held.
        if channel == 0 && early.held.is_none() {
            early.held = Some(frame);
        } else {
            self.link_misused(link);
        }
    }

    pub(super) fn on_link_foreign(&mut self, link: LinkId) {
        if self.secure.as_ref().is_some_and(|secure| secure.link == link) {
            return self.fatal(Error::Protocol(crate::error::ProtocolViolation::ForeignTraffic));
        }
        self.link_misused(link);
    }

    /// The link of an attempt carries what it must not: the attempt fails.
    fn link_misused(&mut self, link: LinkId) {
        let Some(join) = &self.join else { return };
        let peer = join.attempts.iter().find(|attempt| attempt.link_id() == Some(link)).map(|attempt| attempt.peer);
        if let Some(peer) = peer {
            self.end_attempt(peer);
        }
    }

    pub(super) fn on_link_closed(&mut self, link: LinkId, reason: Option<Error>) {
        if self.secure.as_ref().is_some_and(|secure| secure.link == link) {
            return self.secure_link_closed(reason);
        }
        let Some(join) = &mut self.join else { return };
        if join.offer.as_ref().is_some_and(|offer| offer.link == link) {
            join.offer = None;
            join.attempts.retain(|attempt| attempt.is_responder());
            return self.rejoin_jittered();
        }
        let committed = join.committed;
        let peer = join.attempts.iter().find(|attempt| attempt.link_id() == Some(link)).map(|attempt| attempt.peer);
        match peer {
            Some(peer) if committed == Some(peer) => {
                let failed = Error::HandshakeFailed { stage: HandshakeStage::Connect };
                self.fail_attempt(reason.unwrap_or(failed));
            }
            Some(peer) => self.end_attempt(peer),
            None => {}
        }
    }
}

impl Join {
    fn attempt_of(&mut self, link: LinkId) -> Option<&mut AttemptLink> {
        self.attempts.iter_mut().filter_map(|attempt| attempt.link.as_mut()).find(|own| own.id == link)
    }
}

/// Invites.
impl Machine {
    fn invite_is_used(&self) -> bool {
        matches!(self.side, Side::Inviter { claim: Claim::Used, .. })
    }

    /// The peer's READY came: the secret is erased, the room is listened to until the invite expires.
    pub(super) fn redeem_invite(&mut self) {
        let now = self.now.monotonic;
        let unix = self.unix_seconds();
        if let Side::Inviter { claim, claim_until, expires_at, listen_until } = &mut self.side {
            claim.redeem();
            *claim_until = None;
            let left = u64::from(*expires_at).saturating_sub(unix);
            let left = if *expires_at == 0 { LISTEN_UNLIMITED } else { Duration::from_secs(left) };
            *listen_until = Some(now + left);
        }
        self.terms.psk = None;
        let Some(join) = &self.join else { return };
        let losers: Vec<EndpointId> = join.attempts.iter().map(|attempt| attempt.peer).collect();
        for peer in losers {
            self.end_attempt(peer);
            self.tell_used(peer);
        }
    }

    /// Once per endpoint that shows up after the invite was used.
    fn tell_used(&mut self, peer: EndpointId) {
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
        let peer = self.peer_deadline.map(|at| (at, Reason::PeerAbsent));
        let invite = self.invite_deadline().map(|at| (at, Reason::InviteExpiry));
        let join = self.join.as_ref().and_then(|join| self.membership_timeout(join));
        [rejoin, peer, invite, join].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn membership_timeout(&self, join: &Join) -> Option<(Duration, Reason)> {
        let welcome = join.welcome_by.map(|at| (at, Reason::Welcome));
        let attempt = join.attempts.iter().map(Attempt::deadline).min().map(|at| (at, Reason::Handshake));
        let rejected = join.rejected.map(|(_, at)| (at, Reason::Handshake));
        let stale = self.is_stuck(join).then_some((join.last_newcomer + STALE, Reason::Rejoin));
        [welcome, attempt, rejected, stale].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Somebody is or was there, and nothing is under way with anybody.
    fn is_stuck(&self, join: &Join) -> bool {
        let nothing_pending = join.attempts.is_empty() && self.secure.is_none() && !self.invite_is_used();
        nothing_pending && !(join.members.is_empty() && join.done.is_empty())
    }

    fn invite_deadline(&self) -> Option<Duration> {
        let Side::Inviter { claim, claim_until, expires_at, listen_until } = &self.side else { return None };
        let expiry = match claim {
            Claim::Open if *expires_at != 0 => {
                let left = (u64::from(*expires_at) * 1_000).saturating_sub(self.now.unix_ms);
                Some(self.now.monotonic + Duration::from_millis(left))
            }
            Claim::Open | Claim::Claimed(_) => None,
            Claim::Used => self.join.as_ref().and(*listen_until),
        };
        [expiry, *claim_until].into_iter().flatten().min()
    }

    pub(super) fn run_join_timers(&mut self) {
        let now = self.now.monotonic;
        if self.secure.is_none() && self.peer_deadline.is_some_and(|at| at <= now) {
            let waited = self.config.timeouts.peer;
            return self.fail(Error::PeerAbsent { waited });
        }
        self.run_invite_timers(now);
        self.run_attempt_timers(now);
        self.run_membership_timers(now);
        if self.rejoin_at.is_some_and(|at| at <= now) {
            self.join_room();
        }
    }

    fn run_invite_timers(&mut self, now: Duration) {
        let due = self.invite_deadline().is_some_and(|at| at <= now);
        let Side::Inviter { claim, claim_until, .. } = &mut self.side else { return };
        if !due {
            return;
        }
        match claim {
            Claim::Open => self.fail(Error::InviteExpired { evidence: Evidence::Authenticated }),
            Claim::Claimed(_) => {
                *claim_until = None;
                if self.secure.is_none() {
                    claim.release();
                }
            }
            Claim::Used => self.drop_join(),
        }
    }

    fn run_attempt_timers(&mut self, now: Duration) {
        let Some(join) = &self.join else { return };
        let late = join.attempts.iter().find(|attempt| attempt.deadline() <= now);
        let Some((peer, rejected)) = late.map(|attempt| (attempt.peer, attempt.rejected)) else { return };
        let committed = join.committed == Some(peer);
        let stage = late.map_or(HandshakeStage::Hello, Attempt::awaited);
        if committed && self.secure.is_none() {
            return self.fail_attempt(Error::Timeout { stage });
        }
        self.end_attempt(peer);
        match rejected {
            Some(code) => self.hinted(code),
            None => self.event(Event::Retrying { error: Error::Timeout { stage } }),
        }
        self.start_next_attempts();
        self.run_attempt_timers(now);
    }

    fn run_membership_timers(&mut self, now: Duration) {
        let Some(join) = &mut self.join else { return };
        if join.welcome_by.is_some_and(|at| at <= now) {
            return self.rejoin_jittered();
        }
        if let Some((code, _)) = join.rejected.filter(|(_, at)| *at <= now) {
            join.rejected = None;
            return self.hinted(code);
        }
        let Some(join) = &self.join else { return };
        if self.is_stuck(join) && join.last_newcomer + STALE <= now {
            self.rejoin_jittered();
        }
    }

    /// A REJECT came, and nothing better within its time. Only a redeemer has one peer that could have sent it.
    fn hinted(&mut self, code: RefusalCode) {
        if self.secure.is_some() {
            return;
        }
        let evidence = Evidence::Hint;
        let error = match code {
            RefusalCode::Used => Error::InviteUsed { evidence },
            RefusalCode::Expired => Error::InviteExpired { evidence },
            RefusalCode::Version | RefusalCode::UnknownPsk | RefusalCode::Busy | RefusalCode::Policy => {
                Error::Refused { code, evidence }
            }
        };
        match (&self.side, code) {
            (Side::Redeemer { .. }, RefusalCode::Busy) | (Side::Open { .. } | Side::Inviter { .. }, _) => {
                self.event(Event::Retrying { error });
            }
            (Side::Redeemer { .. }, _) => self.fail(error),
        }
    }
}
