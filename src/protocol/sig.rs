//! Signaling records after the handshake: candidates, the open answer, an authenticated refusal.

use super::{
    blob::{Blob, Mode},
    handshake::Description,
    io::{LinkId, Output},
    machine::{Machine, Side},
    record::{MAX_CANDIDATES, Payload, PayloadKind, SigSender},
    secure::Sig,
};
use crate::{
    crypto::{epoch::Role, noise},
    error::{Error, Evidence, HandshakeStage, RefusalCode},
    room::EndpointId,
};

/// SIG blobs of one attempt, in each direction.
const MAX_SIG: u64 = 64;

/// Signaling records.
impl Machine {
    /// Seals records for the peer and sends them through the server, while that channel lives. Candidates that did not
    /// fit are returned.
    pub(super) fn send_sig(&mut self, payload: Payload) -> Vec<String> {
        let Some(secure) = &mut self.secure else {
            return Vec::new();
        };
        let kind = sig_kind(self.terms.mode, secure.role);
        let Some((blob, left)) = secure
            .sig
            .as_mut()
            .and_then(|sig| seal_sig(sig, kind, payload))
        else {
            return Vec::new();
        };
        self.out.push(Output::SendBlob {
            to: secure.peer_endpoint,
            blob,
        });
        left
    }

    pub(super) fn on_sig(&mut self, from: EndpointId, n: u64, ciphertext: &[u8]) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let mode = self.terms.mode;
        let kind = sig_kind(mode, other(secure.role));
        let Some(sig) = &mut secure.sig else { return };
        //
        if from != secure.peer_endpoint || n < sig.next || n >> 32 != 0 || sig.received >= MAX_SIG {
            return;
        }
        // A changed SIG is never acted on: the state stays as it is until one verifies.
        let Ok(plaintext) = noise::transport_open(&sig.receive, n, ciphertext) else {
            return;
        };
        sig.next = n + 1;
        sig.received += 1;
        match Payload::decode(kind, &plaintext) {
            Ok(payload) if sig.candidates + payload.candidates.len() <= MAX_CANDIDATES => {
                sig.candidates += payload.candidates.len();
                self.on_sig_payload(payload);
            }
            _ => self.fail_attempt(Error::HandshakeFailed {
                stage: HandshakeStage::Signal,
            }),
        }
    }

    pub(super) fn on_sig_payload(&mut self, payload: Payload) {
        if let Some(bye) = payload.bye {
            return self.on_refused(bye.0);
        }
        let Some(secure) = &mut self.secure else {
            return;
        };
        let link = secure.link;
        if let Some(sdp) = payload.sdp {
            let answer = Description::check(&sdp, super::sdp::SdpKind::Answer);
            match answer {
                Ok(answer) if secure.description.is_none() => {
                    self.out.push(Output::LinkAnswer {
                        link,
                        sdp: answer.sdp.clone(),
                    });
                    secure.describe(answer);
                }
                _ => {
                    return self.fail_attempt(Error::HandshakeFailed {
                        stage: HandshakeStage::Signal,
                    });
                }
            }
        }
        self.add_candidates(link, payload.candidates);
    }

    pub(super) fn add_candidates(&mut self, link: LinkId, candidates: Vec<String>) {
        self.out.extend(
            candidates
                .into_iter()
                .map(|candidate| Output::LinkCandidate { link, candidate }),
        );
    }

    /// The peer proved its keys and refuses: authenticated by the encryption of SIG.
    pub(super) fn on_refused(&mut self, code: u8) {
        let Some(code) = RefusalCode::from_wire(code) else {
            return;
        };
        match self.side {
            Side::Redeemer { .. } => self.fail(Error::Refused {
                code,
                evidence: Evidence::Authenticated,
            }),
            Side::Open { .. } | Side::Inviter { .. } | Side::Contact { .. } | Side::Continued => {
                self.fail_attempt(Error::Refused {
                    code,
                    evidence: Evidence::Authenticated,
                })
            }
        }
    }

    /// The responder of an open handshake answers here; what it found and what it was told follows.
    pub(super) fn answer_by_sig(&mut self, sdp: &str, candidates: Vec<String>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let Some(remote) = secure.owes_answer.take() else {
            return;
        };
        let link = secure.link;
        let sdp = Some(super::sdp::strip_candidates(sdp));
        let left = self.send_sig(Payload {
            sdp,
            candidates,
            ..Payload::default()
        });
        self.send_candidates(left);
        self.add_candidates(link, remote);
    }
}

/// Where a SIG stands, by who sent it.
fn sig_kind(mode: Mode, sender: Role) -> PayloadKind {
    match (mode, sender) {
        (Mode::Open, Role::Responder) => PayloadKind::Sig(SigSender::OpenResponder),
        (Mode::Open, Role::Initiator) | (Mode::Paired, _) => PayloadKind::Sig(SigSender::Other),
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Initiator => Role::Responder,
        Role::Responder => Role::Initiator,
    }
}

/// The next SIG blob, while the attempt has any left, with as many candidates as it has left; those that do not fit
/// into one blob are returned.
pub(super) fn seal_sig(
    sig: &mut Sig,
    kind: PayloadKind,
    mut payload: Payload,
) -> Option<(Vec<u8>, Vec<String>)> {
    if sig.sent >= MAX_SIG {
        return None;
    }
    payload.candidates.truncate(MAX_CANDIDATES - sig.told);
    sig.told += payload.candidates.len();
    let (plaintext, left) = payload.encode(kind);
    sig.told -= left.len();
    let ciphertext = noise::transport_seal(&sig.send, sig.sent, &plaintext);
    let blob = Blob::Sig {
        n: sig.sent,
        ciphertext: &ciphertext,
    }
    .encode();
    sig.sent += 1;
    Some((blob, left))
}
