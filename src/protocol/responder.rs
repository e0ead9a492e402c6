//! The responder's side of a join: the larger endpoint id answers HS1 by HS2.

use super::{
    attempt::{Attempt, AttemptLink, Stage},
    blob::{Blob, Mode},
    commit::{Ending, Verdict, sig_of},
    handshake::{self, HandshakeFault, Hello},
    io::{CloseHow, Output},
    join::MAX_PENDING,
    machine::{Machine, Side},
    record::{Bye, MAX_CANDIDATES, Payload, PayloadKind, SigSender},
    sdp,
    sig::seal_sig,
};
use crate::{
    crypto::{
        epoch::Role,
        noise::{Finished, Reader, Writer},
    },
    error::{HandshakeStage, RefusalCode},
    identity::PeerId,
    room::EndpointId,
    trust::PeerTrust,
};

/// Links that a paired responder may have open at once, that of a committed attempt included.
const MAX_ANSWER_LINKS: usize = 2;
/// First messages a second that an open room takes.
const OPEN_HS1_PER_SECOND: u32 = 4;

/// The responder's side.
impl Machine {
    /// what is not spoken here is not looked at.
    pub(super) fn on_other_version(&mut self, from: EndpointId) {
        if self.expects_hs1(from) {
            self.refuse(from, RefusalCode::Version);
        }
    }

    /// Whether an HS1 of this endpoint is to be looked at. A used invite has its own answer.
    fn expects_hs1(&mut self, from: EndpointId) -> bool {
        let Some(join) = &mut self.join else {
            return false;
        };
        let known = join.done.contains(&from) || join.attempt(from).is_some();
        if from >= join.endpoint || known {
            return false;
        }
        if self.invite_is_used() {
            self.tell_used(from);
            return false;
        }
        true
    }

    pub(super) fn on_hs1(
        &mut self,
        from: EndpointId,
        mode: Mode,
        psk_id: [u8; 16],
        message: &[u8],
    ) {
        if !self.expects_hs1(from) {
            return;
        }
        if !self.terms.admits(mode, psk_id) {
            return self.refuse(from, RefusalCode::UnknownPsk);
        }
        if self.is_taken() && !matches!(self.side, Side::Inviter { .. }) {
            return self.refuse(from, RefusalCode::Busy);
        }
        if !self.admit_hs1() {
            return self.report_flood();
        }
        match self.read_hs1(from, psk_id, message) {
            Ok((writer, hello)) => {
                self.make_room();
                self.answer_hs1(from, writer, hello);
            }
            Err(fault) => {
                if let Some(join) = &mut self.join {
                    join.done.insert(from);
                }
                self.attempt_failed(fault, HandshakeStage::Hello);
            }
        }
    }

    /// Whether an HS1 is looked at.
    pub(super) fn admit_hs1(&mut self) -> bool {
        let second = self.now.monotonic.as_secs();
        let open = self.terms.mode == Mode::Open;
        let Some(join) = &mut self.join else {
            return false;
        };
        let no_room =
            join.attempts.len() >= MAX_PENDING && !join.attempts.iter().any(Attempt::is_responder);
        if join.is_full() || no_room {
            return false;
        }
        if open {
            join.hs1 = if join.hs1.0 == second {
                (second, join.hs1.1 + 1)
            } else {
                (second, 1)
            };
            if join.hs1.1 > OPEN_HS1_PER_SECOND {
                return false;
            }
        }
        true
    }

    /// Room for one more pending attempt, after its HS1 proved valid: the oldest that proved no more makes place and
    /// may come again.
    pub(super) fn make_room(&mut self) {
        let Some(join) = &mut self.join else { return };
        if join.attempts.len() < MAX_PENDING {
            return;
        }
        let oldest = join
            .attempts
            .iter()
            .find(|attempt| attempt.is_responder())
            .map(|old| old.peer);
        let link = oldest
            .and_then(|oldest| join.take_attempt(oldest))
            .and_then(|attempt| attempt.link);
        if let Some(link) = link {
            self.close_link(link.id, CloseHow::Abrupt);
        }
        self.report_flood();
    }

    pub(super) fn read_hs1(
        &mut self,
        from: EndpointId,
        psk_id: [u8; 16],
        message: &[u8],
    ) -> Result<(Writer, Option<Hello>), HandshakeFault> {
        let own = self
            .join
            .as_ref()
            .map(|join| join.endpoint)
            .ok_or(HandshakeFault::Noise)?;
        let (payload, writer) =
            self.terms
                .read_hs1(&self.identity, (own, from), psk_id, message)?;
        match self.terms.mode {
            Mode::Open if payload.is_empty() => Ok((writer, None)),
            Mode::Open => Err(HandshakeFault::Records),
            Mode::Paired => Ok((writer, Some(self.read_hello(PayloadKind::Hs1, &payload)?))),
        }
    }

    pub(super) fn answer_hs1(&mut self, from: EndpointId, writer: Writer, hello: Option<Hello>) {
        let (now, timeouts) = (self.now.monotonic, &self.config.timeouts);
        let Some(join) = &mut self.join else { return };
        join.members.remove(&from);
        match hello {
            Some(hello) => {
                let stage = Stage::Answer {
                    writer: Box::new(writer),
                    hello: Box::new(hello),
                };
                join.attempts.push(Attempt::new(from, stage, now, timeouts));
                self.open_next_answer();
            }
            None => self.send_open_hs2(from, writer),
        }
    }

    pub(super) fn send_open_hs2(&mut self, from: EndpointId, writer: Writer) {
        let (payload, _) = self
            .hello(None, Vec::new())
            .encode(PayloadKind::Hs2(Mode::Open));
        let (now, timeouts) = (self.now.monotonic, &self.config.timeouts);
        let Some(join) = &mut self.join else { return };
        match handshake::write(writer, &payload, self.entropy.as_mut()) {
            Ok((message, reader)) => {
                let stage = Stage::Hs3 {
                    reader,
                    hello: None,
                };
                join.attempts.push(Attempt::new(from, stage, now, timeouts));
                self.out.push(Output::SendBlob {
                    to: from,
                    blob: Blob::Hs2(&message).encode(),
                });
            }
            Err(fault) => {
                join.done.insert(from);
                self.attempt_failed(fault, HandshakeStage::Hello);
            }
        }
    }

    /// Gives the next paired attempt in line a link, while fewer than two have one.
    pub(super) fn open_next_answer(&mut self) {
        let committed = self
            .secure
            .as_ref()
            .is_some_and(|secure| secure.role == Role::Responder);
        let Some(join) = &mut self.join else { return };
        if join.answer_links() + usize::from(committed) >= MAX_ANSWER_LINKS {
            return;
        }
        let waiting = join
            .attempts
            .iter()
            .find(|attempt| attempt.link.is_none() && attempt.is_responder());
        let Some((peer, offer)) = waiting.and_then(Attempt::offer_to_answer) else {
            return;
        };
        let link = self.new_link(Some(offer));
        if let Some(attempt) = self.join.as_mut().and_then(|join| join.attempt(peer)) {
            attempt.link = Some(AttemptLink::new(link));
        }
    }

    /// The answer of a paired responder is made: HS2 carries it.
    pub(super) fn send_paired_hs2(&mut self, peer: EndpointId, sdp: &str, candidates: Vec<String>) {
        let Some(join) = &mut self.join else { return };
        let Some(mut attempt) = join.take_attempt(peer) else {
            return;
        };
        let Stage::Answer { writer, hello } = attempt.stage else {
            return;
        };
        let kind = PayloadKind::Hs2(Mode::Paired);
        let hello_back = self.hello(Some(sdp::strip_candidates(sdp)), candidates);
        let told = hello_back.candidates.len();
        let (payload, left) = hello_back.encode(kind);
        let written = handshake::write(*writer, &payload, self.entropy.as_mut());
        let Some(join) = &mut self.join else { return };
        match written {
            Ok((message, reader)) => {
                if let Some(link) = &mut attempt.link {
                    link.told = told - left.len();
                    link.late_candidates.splice(0..0, left);
                }
                let stage = Stage::Hs3 {
                    reader,
                    hello: Some(hello),
                };
                let mut next = Attempt::new(peer, stage, self.now.monotonic, &self.config.timeouts);
                (next.end, next.link) = (attempt.end, attempt.link);
                join.attempts.push(next);
                self.out.push(Output::SendBlob {
                    to: peer,
                    blob: Blob::Hs2(&message).encode(),
                });
            }
            Err(fault) => {
                join.done.insert(peer);
                self.abandon(attempt.link);
                self.attempt_failed(fault, HandshakeStage::Hello);
            }
        }
    }

    pub(super) fn on_hs3(&mut self, from: EndpointId, message: &[u8]) {
        let Some(join) = &mut self.join else { return };
        let waits = join
            .attempt(from)
            .is_some_and(|attempt| matches!(attempt.stage, Stage::Hs3 { .. }));
        let Some(Attempt {
            stage: Stage::Hs3 { reader, hello },
            link,
            ..
        }) = waits.then(|| join.take_attempt(from)).flatten()
        else {
            return;
        };
        join.done.insert(from);
        match self.read_hs3(reader, hello, message) {
            Ok(proof) => self.decide_hs3(from, link, proof),
            Err(fault) => {
                self.abandon(link);
                self.attempt_failed(fault, HandshakeStage::Proof);
            }
        }
    }

    pub(super) fn read_hs3(
        &self,
        reader: Reader,
        hello: Option<Box<Hello>>,
        message: &[u8],
    ) -> Result<Proof, HandshakeFault> {
        let (payload, finished) = handshake::read_last(reader, message)?;
        let key = handshake::proven_key(&self.identity, finished.remote_static)?;
        let hello = match hello {
            None => self.read_hello(PayloadKind::Hs3(Mode::Open), &payload)?,
            Some(mut hello) => {
                let kind = PayloadKind::Hs3(Mode::Paired);
                let payload =
                    Payload::decode(kind, &payload).map_err(|_| HandshakeFault::Records)?;
                hello.candidates.extend(payload.candidates);
                if hello.candidates.len() > MAX_CANDIDATES {
                    return Err(HandshakeFault::Records);
                }
                *hello
            }
        };
        Ok(Proof {
            finished,
            key,
            hello,
        })
    }

    pub(super) fn decide_hs3(&mut self, from: EndpointId, link: Option<AttemptLink>, proof: Proof) {
        // The verdict is there at once, so no SIG has to be held for it.
        match self.judge(proof.key) {
            Verdict::Accept(trust) => self.commit_hs3(from, link, proof, trust),
            Verdict::Instead(trust) => {
                self.drop_secure(CloseHow::Abrupt);
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

    pub(super) fn abandon(&mut self, link: Option<AttemptLink>) {
        if let Some(link) = link {
            self.close_link(link.id, CloseHow::Abrupt);
        }
        self.open_next_answer();
    }

    /// The refusal is authenticated first, and hinted after.
    pub(super) fn refuse_hs3(&mut self, to: EndpointId, finished: &Finished, code: RefusalCode) {
        let mut sig = sig_of(finished, Role::Responder, 0, 0);
        let payload = Payload {
            bye: Some(Bye(code.to_wire())),
            ..Payload::default()
        };
        if let Some((blob, _)) = seal_sig(&mut sig, PayloadKind::Sig(SigSender::Other), payload) {
            self.out.push(Output::SendBlob { to, blob });
        }
        if matches!(code, RefusalCode::Used | RefusalCode::Expired) {
            self.reject(to, code);
        }
    }

    pub(super) fn commit_hs3(
        &mut self,
        from: EndpointId,
        link: Option<AttemptLink>,
        proof: Proof,
        trust: PeerTrust,
    ) {
        self.commit(from);
        let Proof {
            finished,
            key,
            hello,
        } = proof;
        let candidates = hello.candidates.clone();
        let open = self.terms.mode == Mode::Open;
        //
        let (link, owes_answer) = match link {
            Some(link) => (link, None),
            None => {
                let offer = hello.description.as_ref().map(|offer| offer.sdp.clone());
                (
                    AttemptLink::new(self.new_link(offer)),
                    Some(candidates.clone()),
                )
            }
        };
        let (id, told) = (link.id, link.told);
        let ending = Ending {
            from,
            finished,
            key,
            trust,
            link: id,
            role: Role::Responder,
            told,
            owes_answer,
        };
        self.complete(ending, hello);
        // it may have been one transport too many.
        if self.is_ended() {
            return;
        }
        //
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
pub(super) struct Proof {
    finished: Finished,
    key: PeerId,
    hello: Hello,
}
