//! Blobs and links: which attempt, offer or session each of them belongs to.

use std::time::Duration;

use super::{
    attempt::Stage, blob::Blob, io::LinkId, machine::Machine, record::MAX_CANDIDATES, sdp,
};
use crate::{
    error::{Error, HandshakeStage, ProtocolViolation, RefusalCode},
    room::EndpointId,
};

/// The wait that is left after a REJECT.
const REJECTED_WAIT: Duration = Duration::from_secs(2);

/// Blobs and links.
impl Machine {
    pub(super) fn on_blob(&mut self, from: EndpointId, blob: &[u8]) {
        let own = self.join.as_ref().map(|join| join.endpoint);
        if own == Some(from) || self.is_listening() {
            return;
        }
        match Blob::decode(blob) {
            Ok(Blob::Hs1 {
                mode,
                psk_id,
                noise,
            }) => self.on_hs1(from, mode, psk_id, noise),
            Ok(Blob::OtherVersion { .. }) => self.on_other_version(from),
            Ok(Blob::Hs2(noise)) => self.on_hs2(from, noise),
            Ok(Blob::Hs3(noise)) => self.on_hs3(from, noise),
            Ok(Blob::Sig { n, ciphertext }) => self.on_sig(from, n, ciphertext),
            Ok(Blob::Reject(code)) => self.on_reject(from, code),
            Err(_) => tracing::debug!("a blob that is none was dropped"),
        }
    }

    /// A hint that nobody signed: it shortens the wait and changes nothing else.
    pub(super) fn on_reject(&mut self, from: EndpointId, code: u8) {
        let Some(code) = RefusalCode::from_wire(code) else {
            return;
        };
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
        let Some(join) = &mut self.join else {
            return self.described_secure(link, sdp, candidates);
        };
        if join
            .offer
            .as_ref()
            .is_some_and(|offer| offer.link == link && offer.described.is_none())
        {
            let sdp = sdp::strip_candidates(sdp);
            let (candidates, late) = self.split_candidates(&sdp, candidates);
            let Some(join) = &mut self.join else { return };
            if let Some(offer) = &mut join.offer {
                offer.described = Some((sdp.clone(), candidates.clone()));
                offer.late_candidates.splice(0..0, late);
            }
            let waiting = join
                .attempts
                .iter()
                .filter(|attempt| matches!(attempt.stage, Stage::Offer));
            let waiting: Vec<EndpointId> = waiting.map(|attempt| attempt.peer).collect();
            for peer in waiting {
                self.send_paired_hs1(peer, Some(sdp.clone()), candidates.clone());
            }
            return;
        }
        let attempt = join
            .attempts
            .iter()
            .find(|attempt| attempt.link_id() == Some(link));
        match attempt.map(|attempt| (attempt.peer, &attempt.stage)) {
            Some((peer, Stage::OwnOffer { .. })) => {
                self.finish_open_initiator(peer, sdp, candidates)
            }
            Some((peer, Stage::Answer { .. })) => self.send_paired_hs2(peer, sdp, candidates),
            Some(_) => {}
            None => self.described_secure(link, sdp, candidates),
        }
    }

    pub(super) fn described_secure(&mut self, link: LinkId, sdp: &str, candidates: Vec<String>) {
        if self
            .secure
            .as_ref()
            .is_some_and(|secure| secure.link == link)
        {
            self.answer_by_sig(sdp, candidates);
        }
    }

    pub(super) fn on_link_candidate(&mut self, link: LinkId, candidate: String) {
        if self
            .secure
            .as_ref()
            .is_some_and(|secure| secure.link == link)
        {
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
        if self
            .secure
            .as_ref()
            .is_some_and(|secure| secure.link == link)
        {
            return self.secure_link_open(fingerprint);
        }
        if let Some(link) = self.join.as_mut().and_then(|join| join.attempt_of(link)) {
            link.opened = Some(fingerprint);
        }
    }

    pub(super) fn on_link_frame(&mut self, link: LinkId, channel: u8, frame: bytes::BytesMut) {
        if self
            .secure
            .as_ref()
            .is_some_and(|secure| secure.link == link)
        {
            return self.secure_frame(channel, frame);
        }
        let Some(join) = &mut self.join else { return };
        let Some(early) = join.attempt_of(link) else {
            return;
        };
        // Before the handshake is complete exactly one frame, on channel 0, is held.
        if channel == 0 && early.held.is_none() {
            early.held = Some(frame);
        } else {
            self.link_misused(link);
        }
    }

    //
    pub(super) fn on_link_foreign(&mut self, link: LinkId) {
        if self
            .secure
            .as_ref()
            .is_some_and(|secure| secure.link == link)
        {
            return self.fatal(Error::Protocol(ProtocolViolation::TextFrame { channel: 0 }));
        }
        self.link_misused(link);
    }

    /// The link of an attempt carries what it must not: the attempt fails.
    pub(super) fn link_misused(&mut self, link: LinkId) {
        let Some(join) = &self.join else { return };
        let peer = join
            .attempts
            .iter()
            .find(|attempt| attempt.link_id() == Some(link))
            .map(|attempt| attempt.peer);
        match peer {
            Some(peer) if join.committed == Some(peer) => {
                self.fail_attempt(Error::HandshakeFailed {
                    stage: HandshakeStage::Connect,
                });
            }
            Some(peer) => self.end_attempt(peer),
            None => {}
        }
    }

    pub(super) fn on_link_closed(&mut self, link: LinkId, reason: Option<Error>) {
        if self
            .secure
            .as_ref()
            .is_some_and(|secure| secure.link == link)
        {
            return self.secure_link_closed(reason);
        }
        let Some(join) = &mut self.join else { return };
        if let Some(offer) = join.offer.as_mut().filter(|offer| offer.link == link) {
            // Nobody can use it any more; a committed attempt on another link goes on.
            offer.used = true;
            if self.secure.is_none() {
                join.offer = None;
                self.rejoin_jittered();
            }
            return;
        }
        let committed = join.committed;
        let peer = join
            .attempts
            .iter()
            .find(|attempt| attempt.link_id() == Some(link))
            .map(|attempt| attempt.peer);
        match peer {
            Some(peer) if committed == Some(peer) => {
                let failed = Error::HandshakeFailed {
                    stage: HandshakeStage::Connect,
                };
                self.fail_attempt(reason.unwrap_or(failed));
            }
            Some(peer) => self.end_attempt(peer),
            None => {}
        }
    }
}
