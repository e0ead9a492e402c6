//! Which attempt wins, and what its completed handshake hands over to secure.rs.

use super::{
    attempt::{Attempt, Stage},
    channel::{Channels, live_channels},
    claim::Claimant,
    conversation::{Beginning, Conversation},
    handshake::{self, HandshakeFault, Hello},
    io::{CloseHow, Event, LinkId},
    machine::{Machine, Side},
    pair::Pairing,
    record::{MAX_CANDIDATES, Payload, PayloadKind},
    rekey::Rekey,
    resume::Suspended,
    sas::Sas,
    secure::{Completed, Secure, Sig},
};
use crate::{
    crypto::{
        epoch::{self, Role},
        noise::Finished,
    },
    error::{Error, HandshakeStage, RefusalCode},
    identity::PeerId,
    room::EndpointId,
    trust::PeerTrust,
};

/// What a proven key means here.
pub(super) enum Verdict {
    Accept(PeerTrust),
    /// In the place of an older attempt: the claimed key tries again, or the claim of another ran out.
    Instead(PeerTrust),
    /// Tell it by SIG and REJECT.
    Refuse(RefusalCode),
    /// End the attempt and say nothing.
    Silent(Error),
}

/// Winning.
impl Machine {
    /// Whether an attempt of this join has won; in an open room its link may yet have to be made.
    pub(super) fn is_taken(&self) -> bool {
        self.secure.is_some()
            || self
                .join
                .as_ref()
                .is_some_and(|join| join.committed.is_some())
    }

    /// This attempt wins: all others are told that we are busy, or, at an inviter, go on as far as learning the key.
    ///
    pub(super) fn commit(&mut self, peer: EndpointId) {
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
                self.refuse(loser.peer, RefusalCode::Busy);
            }
            if let Some(link) = loser.link.filter(|link| Some(link.id) != offer) {
                self.close_link(link.id, CloseHow::Abrupt);
            }
        }
    }

    pub(super) fn complete(&mut self, ending: Ending, hello: Hello) {
        let Ending {
            from,
            finished,
            key,
            trust,
            link,
            role,
            told,
            owes_answer,
        } = ending;
        let own_caps = handshake::own_caps(&self.config.limits);
        let sig = sig_of(&finished, role, hello.candidates.len(), told);
        let secrets = epoch::session_secrets(&finished.exporter, &finished.hash);
        let mut talk = match self.take_suspended() {
            Some(talk) => talk,
            None => {
                let beginning = Beginning {
                    peer: key,
                    trust,
                    trusted: trust.meets(self.required),
                    role,
                    session_id: secrets.session_id,
                    resume_room: secrets.resume_room,
                    live: live_channels(&self.channels, &hello.channels),
                };
                Conversation::new(beginning, own_caps, hello.caps)
            }
        };
        let keys = epoch::derive(finished.exporter, finished.hash, role);
        if !talk.begin_generation((own_caps, hello.caps), &keys.resume) {
            let unacked = talk.unacked();
            self.close_link(link, CloseHow::Abrupt);
            let parked = false;
            self.suspended = Some(Suspended { talk, parked });
            return self.fail(Error::Disconnected { unacked });
        }
        let now = self.now.monotonic;
        let hash = keys.hash;
        let rekey = Rekey::new(role, hash, keys.rekey_psk.duplicate(), now);
        let (live, padding) = (talk.live.clone(), self.config.padding);
        let completed = Completed {
            peer_endpoint: from,
            talk,
            link,
            role,
            sig,
            owes_answer,
            // In open mode the responder's answer follows by SIG.
            description: hello.description,
            channels: Channels::new(keys, &live, own_caps, hello.caps, padding),
            rekey,
            sas: Sas::new(secrets.sas_key, hash),
            pairing: Pairing::new(secrets.contact),
        };
        self.secure = Some(Secure::new(completed, now, &self.config));
        self.load_history();
    }

    /// Reads what a peer tells of itself; on a session that goes on, the channels have to be those it has. One
    /// that replaces it may have others.
    pub(super) fn read_hello(
        &self,
        kind: PayloadKind,
        payload: &[u8],
    ) -> Result<Hello, HandshakeFault> {
        let hello = Hello::read(kind, payload, &self.channels)?;
        let live = live_channels(&self.channels, &hello.channels);
        let continued = self.talk().filter(|_| self.visit.is_none());
        if continued.is_some_and(|talk| talk.established && talk.live != live) {
            return Err(HandshakeFault::Channels);
        }
        Ok(hello)
    }

    pub(super) fn send_candidates(&mut self, candidates: Vec<String>) {
        let over = |sig: &Sig| sig.told >= MAX_CANDIDATES;
        for candidate in candidates {
            if self
                .secure
                .as_ref()
                .and_then(|secure| secure.sig.as_ref())
                .is_none_or(over)
            {
                return;
            }
            self.send_sig(Payload {
                candidates: vec![candidate],
                ..Payload::default()
            });
        }
    }

    /// Whether this key may go on.
    pub(super) fn judge(&mut self, key: PeerId) -> Verdict {
        let expired = |at: u32, now: u64| at != 0 && now >= u64::from(at);
        let (unix, now, ready) = (
            self.unix_seconds(),
            self.now.monotonic,
            self.config.timeouts.ready,
        );
        let at_least_invited = |trust: PeerTrust| trust.max(PeerTrust::Invited);
        let continued = self
            .suspended
            .as_ref()
            .map(|suspended| (suspended.talk.peer, suspended.talk.trust));
        match &mut self.side {
            Side::Continued => match continued {
                Some((peer, trust)) if peer == key => Verdict::Accept(trust),
                Some((expected, _)) => Verdict::Silent(Error::KeyChanged {
                    expected,
                    found: key,
                }),
                None => Verdict::Refuse(RefusalCode::Busy),
            },
            Side::Contact { peer, trust } if *peer == key => {
                Verdict::Accept(at_least_invited(*trust))
            }
            //
            Side::Contact { peer, .. } => Verdict::Silent(Error::KeyChanged {
                expected: *peer,
                found: key,
            }),
            Side::Open {
                pinned: Some(expected),
            } if *expected != key => Verdict::Silent(Error::KeyChanged {
                expected: *expected,
                found: key,
            }),
            Side::Open { pinned } => {
                let trust = if pinned.is_some() {
                    PeerTrust::Pinned
                } else {
                    PeerTrust::Unknown
                };
                Verdict::Accept(trust)
            }
            //
            Side::Redeemer { inviter, .. } if *inviter != key => {
                Verdict::Silent(Error::NotInviter { found: key })
            }
            Side::Redeemer { .. } => Verdict::Accept(PeerTrust::Invited),
            //
            Side::Inviter { expires_at, .. } if expired(*expires_at, unix) => {
                Verdict::Refuse(RefusalCode::Expired)
            }
            Side::Inviter {
                claim, claim_until, ..
            } => match claim.prove(key) {
                claimant @ (Claimant::First | Claimant::Again) => {
                    if claimant == Claimant::First {
                        *claim_until = Some(now + ready);
                    }
                    match self.secure {
                        Some(_) => Verdict::Instead(PeerTrust::Invited),
                        None => Verdict::Accept(PeerTrust::Invited),
                    }
                }
                //
                Claimant::Contested { first } => {
                    self.event(Event::InviteContested { first, second: key });
                    Verdict::Refuse(RefusalCode::Used)
                }
                Claimant::Late => Verdict::Refuse(RefusalCode::Used),
            },
        }
    }

    /// Something in an attempt was not right. Nothing is said to the peer; the join goes on.
    pub(super) fn attempt_failed(&mut self, fault: HandshakeFault, stage: HandshakeStage) {
        let error = fault.into_error(stage);
        tracing::debug!(%error, "attempt failed");
        self.retrying(error);
        self.start_next_attempts();
    }

    /// The key proved is not one that we want: the host is told, and the wait goes on.
    pub(super) fn attempt_refused(&mut self, error: Error) {
        let continued = matches!(self.side, Side::Continued);
        if matches!(error, Error::KeyChanged { .. }) && !continued {
            self.fail(error);
        } else {
            self.retrying(error);
        }
    }
}

/// A handshake that is complete, on either side.
pub(super) struct Ending {
    pub(super) from: EndpointId,
    pub(super) finished: Finished,
    pub(super) key: PeerId,
    pub(super) trust: PeerTrust,
    pub(super) link: LinkId,
    pub(super) role: Role,
    /// Candidates of ours that the handshake carried.
    pub(super) told: usize,
    pub(super) owes_answer: Option<Vec<String>>,
}

pub(super) fn sig_of(finished: &Finished, role: Role, candidates: usize, told: usize) -> Sig {
    let (send, receive) = match role {
        Role::Initiator => (&finished.k1, &finished.k2),
        Role::Responder => (&finished.k2, &finished.k1),
    };
    Sig {
        send: send.duplicate(),
        receive: receive.duplicate(),
        sent: 0,
        next: 0,
        received: 0,
        candidates,
        told,
    }
}
