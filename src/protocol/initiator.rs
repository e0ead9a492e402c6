//! The initiator's side of a join: the smaller endpoint id sends HS1 and HS3.

use std::ops::Bound;

use super::{
    attempt::{Attempt, AttemptLink, Stage},
    blob::{Blob, Mode},
    claim::Claim,
    commit::{Ending, Verdict},
    handshake::{self, Hello},
    io::{CloseHow, Output},
    join::{MAX_PENDING, Offer},
    machine::{Machine, Side},
    record::{MAX_CANDIDATES, Payload, PayloadKind},
    sdp,
};
use crate::{
    crypto::{epoch::Role, noise::Writer},
    error::{Error, HandshakeStage, RefusalCode},
    identity::PeerId,
    room::EndpointId,
    trust::PeerTrust,
};

/// The initiator's side.
impl Machine {
    /// Starts an attempt with every member that we initiate to, as long as there is room for more.
    pub(super) fn start_next_attempts(&mut self) {
        loop {
            let unused = matches!(
                self.side,
                Side::Inviter {
                    claim: Claim::Open | Claim::Claimed(_),
                    ..
                }
            );
            let may_start = !self.is_taken() || unused;
            let Some(join) = &mut self.join else { return };
            if !may_start || join.attempts.len() >= MAX_PENDING {
                return;
            }
            let own = join.endpoint;
            //
            let larger = (Bound::Excluded(own), Bound::Unbounded);
            let Some(peer) = join.members.range(larger).next().copied() else {
                return;
            };
            join.members.remove(&peer);
            let attempt = Attempt::new(
                peer,
                Stage::Offer,
                self.now.monotonic,
                &self.config.timeouts,
            );
            join.attempts.push(attempt);
            self.start_attempt(peer);
        }
    }

    pub(super) fn start_attempt(&mut self, peer: EndpointId) {
        if self.terms.mode == Mode::Open {
            return self.send_hs1(peer, &[]);
        }
        let Some(join) = &mut self.join else { return };
        match &join.offer {
            None => {
                let link = self.new_link(None);
                if let Some(join) = &mut self.join {
                    join.offer = Some(Offer {
                        link,
                        described: None,
                        late_candidates: Vec::new(),
                        used: false,
                    });
                }
            }
            Some(Offer {
                described: Some((sdp, candidates)),
                ..
            }) => {
                let (sdp, candidates) = (Some(sdp.clone()), candidates.clone());
                self.send_paired_hs1(peer, sdp, candidates);
            }
            Some(_) => {}
        }
    }

    /// The offer is made: which of its candidates every HS1 carries, and which travel later.
    pub(super) fn split_candidates(
        &self,
        sdp: &str,
        mut candidates: Vec<String>,
    ) -> (Vec<String>, Vec<String>) {
        candidates.truncate(MAX_CANDIDATES);
        let (_, late) = self
            .hello(Some(sdp.to_owned()), candidates.clone())
            .encode(PayloadKind::Hs1);
        candidates.retain(|candidate| !late.contains(candidate));
        (candidates, late)
    }

    pub(super) fn send_paired_hs1(
        &mut self,
        peer: EndpointId,
        sdp: Option<String>,
        candidates: Vec<String>,
    ) {
        let (payload, _) = self.hello(sdp, candidates).encode(PayloadKind::Hs1);
        self.send_hs1(peer, &payload);
    }

    pub(super) fn send_hs1(&mut self, peer: EndpointId, payload: &[u8]) {
        let Some(join) = &mut self.join else { return };
        let ends = (join.endpoint, peer);
        let (blob, reader) =
            self.terms
                .write_hs1(&self.identity, ends, payload, self.entropy.as_mut());
        if let Some(attempt) = join.attempt(peer) {
            attempt.await_hs2(reader, self.now.monotonic, &self.config.timeouts);
        }
        self.out.push(Output::SendBlob { to: peer, blob });
    }

    /// CAPS, CHANNELS, and what else belongs to a hello.
    pub(super) fn hello(&self, sdp: Option<String>, mut candidates: Vec<String>) -> Payload {
        candidates.truncate(MAX_CANDIDATES);
        Payload {
            caps: Some(handshake::own_caps(&self.config.limits)),
            channels: Some(self.channels.clone()),
            sdp,
            candidates,
            bye: None,
        }
    }

    pub(super) fn on_hs2(&mut self, from: EndpointId, message: &[u8]) {
        let Some(join) = &mut self.join else { return };
        // Only a pending HS1 waits for one; whatever else this is, it consumes nothing.
        let waits = join
            .attempt(from)
            .is_some_and(|attempt| matches!(attempt.stage, Stage::Hs2(_)));
        let Some(Attempt {
            stage: Stage::Hs2(reader),
            ..
        }) = waits.then(|| join.take_attempt(from)).flatten()
        else {
            return;
        };
        join.done.insert(from);
        let kind = PayloadKind::Hs2(self.terms.mode);
        let read = handshake::read(reader, message).and_then(|(payload, writer)| {
            let hello = self.read_hello(kind, &payload)?;
            let key = handshake::proven_key(&self.identity, writer.remote_static())?;
            Ok((writer, hello, key))
        });
        match read {
            Ok((writer, hello, key)) => self.decide_hs2(from, writer, hello, key),
            Err(fault) => self.attempt_failed(fault, HandshakeStage::Answer),
        }
    }

    pub(super) fn decide_hs2(
        &mut self,
        from: EndpointId,
        writer: Writer,
        hello: Hello,
        key: PeerId,
    ) {
        match self.judge(key) {
            Verdict::Accept(trust) => self.commit_hs2(from, writer, hello, (key, trust)),
            Verdict::Instead(trust) => {
                let used = self
                    .join
                    .as_ref()
                    .and_then(|join| join.offer.as_ref())
                    .is_none_or(|offer| offer.used);
                if used {
                    // The offer belongs to the older attempt: come again with a new one; the claim stays.
                    self.drop_secure(CloseHow::Abrupt);
                    self.drop_join();
                    return self.join_room();
                }
                self.drop_secure(CloseHow::Abrupt);
                self.commit_hs2(from, writer, hello, (key, trust));
            }
            Verdict::Refuse(code @ (RefusalCode::Used | RefusalCode::Expired)) => {
                self.reject(from, code)
            }
            Verdict::Refuse(_) => {}
            Verdict::Silent(error) => self.attempt_refused(error),
        }
        self.open_next_answer();
        self.start_next_attempts();
    }

    pub(super) fn commit_hs2(
        &mut self,
        from: EndpointId,
        writer: Writer,
        hello: Hello,
        (key, trust): (PeerId, PeerTrust),
    ) {
        self.commit(from);
        if self.terms.mode == Mode::Paired {
            return self.finish_paired_initiator(from, writer, hello, (key, trust));
        }
        let link = self.new_link(None);
        //
        let stage = Stage::OwnOffer {
            writer: Box::new(writer),
            hello: Box::new(hello),
            key,
            trust,
        };
        let mut attempt = Attempt::new(from, stage, self.now.monotonic, &self.config.timeouts);
        attempt.link = Some(AttemptLink::new(link));
        if let Some(join) = &mut self.join {
            join.attempts.push(attempt);
        }
    }

    /// The answer is set before HS3 leaves: the other side connects as soon as HS3 arrives.
    pub(super) fn finish_paired_initiator(
        &mut self,
        from: EndpointId,
        writer: Writer,
        hello: Hello,
        (key, trust): (PeerId, PeerTrust),
    ) {
        let offer = self.join.as_mut().and_then(|join| join.offer.as_mut());
        let (Some(offer), Some(answer)) = (offer, hello.description.clone()) else {
            return;
        };
        offer.used = true;
        let (link, mut late) = (offer.link, std::mem::take(&mut offer.late_candidates));
        let told = offer
            .described
            .as_ref()
            .map_or(0, |(_, candidates)| candidates.len());
        late.truncate(MAX_CANDIDATES.saturating_sub(told));
        let told = told + late.len();
        self.out.push(Output::LinkAnswer {
            link,
            sdp: answer.sdp.clone(),
        });
        let kind = PayloadKind::Hs3(Mode::Paired);
        let (payload, left) = Payload {
            candidates: late,
            ..Payload::default()
        }
        .encode(kind);
        let Ok((message, finished)) =
            handshake::write_last(writer, &payload, self.entropy.as_mut())
        else {
            return self.fail_attempt(Error::HandshakeFailed {
                stage: HandshakeStage::Answer,
            });
        };
        self.out.push(Output::SendBlob {
            to: from,
            blob: Blob::Hs3(&message).encode(),
        });
        let candidates = hello.candidates.clone();
        let told = told - left.len();
        let ending = Ending {
            from,
            finished,
            key,
            trust,
            link,
            role: Role::Initiator,
            told,
            owes_answer: None,
        };
        self.complete(ending, hello);
        // it may have been one transport too many.
        if self.is_ended() {
            return;
        }
        self.add_candidates(link, candidates);
        self.send_candidates(left);
    }

    /// The offer of an open initiator is made: HS3 carries it.
    pub(super) fn finish_open_initiator(
        &mut self,
        peer: EndpointId,
        sdp: &str,
        candidates: Vec<String>,
    ) {
        let Some(join) = &mut self.join else { return };
        let Some(Attempt {
            stage:
                Stage::OwnOffer {
                    writer,
                    hello,
                    key,
                    trust,
                },
            link: Some(link),
            ..
        }) = join.take_attempt(peer)
        else {
            return;
        };
        let kind = PayloadKind::Hs3(Mode::Open);
        let own = self.hello(Some(sdp::strip_candidates(sdp)), candidates);
        let told = own.candidates.len();
        let (payload, left) = own.encode(kind);
        let Ok((message, finished)) =
            handshake::write_last(*writer, &payload, self.entropy.as_mut())
        else {
            self.close_link(link.id, CloseHow::Abrupt);
            return self.fail_attempt(Error::HandshakeFailed {
                stage: HandshakeStage::Answer,
            });
        };
        self.out.push(Output::SendBlob {
            to: peer,
            blob: Blob::Hs3(&message).encode(),
        });
        let ending = Ending {
            from: peer,
            finished,
            key,
            trust,
            link: link.id,
            role: Role::Initiator,
            told: told - left.len(),
            owes_answer: None,
        };
        self.complete(ending, *hello);
        // it may have been one transport too many.
        if self.is_ended() {
            return;
        }
        self.send_candidates(left);
        self.send_candidates(link.late_candidates);
    }
}
