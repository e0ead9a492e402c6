//! One handshake with one endpoint of the room. Not: which of several wins (join.rs).

use std::time::Duration;

use bytes::BytesMut;

use super::{handshake::Hello, io::LinkId};
use crate::{
    config::Timeouts,
    crypto::noise::{Reader, Writer},
    error::{HandshakeStage, RefusalCode},
    identity::PeerId,
    room::EndpointId,
    trust::PeerTrust,
};

/// A handshake under way. Its stage is consumed by the first message processed, whatever comes of it.
pub(super) struct Attempt {
    pub(super) peer: EndpointId,
    pub(super) stage: Stage,
    /// The link of this attempt alone; the offer of a paired join belongs to the join.
    pub(super) link: Option<AttemptLink>,
    /// When the peer's next message must have come.
    pub(super) step: Duration,
    /// When the whole must be done.
    pub(super) end: Duration,
    /// The code of a REJECT that shortened the wait.
    pub(super) rejected: Option<RefusalCode>,
}

/// What an attempt waits for.
pub(super) enum Stage {
    /// Paired initiator: the join's offer is being made; then HS1.
    Offer,
    /// Initiator: HS2.
    Hs2(Reader),
    /// Open initiator, committed: its own offer is being made; then HS3.
    OwnOffer {
        writer: Box<Writer>,
        hello: Box<Hello>,
        key: PeerId,
        trust: PeerTrust,
    },
    /// Paired responder: a free link, or the link's answer; then HS2.
    Answer {
        writer: Box<Writer>,
        hello: Box<Hello>,
    },
    /// Responder: HS3. In paired mode HS1 said hello already.
    Hs3 {
        reader: Reader,
        hello: Option<Box<Hello>>,
    },
}

/// A link that belongs to one attempt, with what happened on it before the handshake was complete.
pub(super) struct AttemptLink {
    pub(super) id: LinkId,
    /// Candidates that the message with its description carried.
    pub(super) told: usize,
    /// Candidates that it found too late for that message.
    pub(super) late_candidates: Vec<String>,
    /// It opened, with the fingerprint that the stack saw.
    pub(super) opened: Option<Option<[u8; 32]>>,
    /// The one frame, on channel 0, that may arrive early.
    pub(super) held: Option<BytesMut>,
}

impl AttemptLink {
    pub(super) fn new(id: LinkId) -> Self {
        Self {
            id,
            told: 0,
            late_candidates: Vec::new(),
            opened: None,
            held: None,
        }
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            peer,
            stage,
            link,
            step,
            end,
            rejected,
        } = self;
        f.debug_struct("Attempt")
            .field("peer", peer)
            .field("stage", &stage.name())
            .field("link", &link.as_ref().map(|link| link.id))
            .field("step", step)
            .field("end", end)
            .field("rejected", rejected)
            .finish()
    }
}

impl Stage {
    fn name(&self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Hs2(_) => "hs2",
            Self::OwnOffer { .. } => "own offer",
            Self::Answer { .. } => "answer",
            Self::Hs3 { .. } => "hs3",
        }
    }
}

impl Attempt {
    pub(super) fn new(peer: EndpointId, stage: Stage, now: Duration, timeouts: &Timeouts) -> Self {
        Self {
            peer,
            stage,
            link: None,
            step: now + timeouts.handshake_step,
            end: now + timeouts.handshake,
            rejected: None,
        }
    }

    /// HS1 is sent, and its answer awaited: for as long as any, unless the peer refused before it could come.
    pub(super) fn await_hs2(&mut self, reader: Reader, now: Duration, timeouts: &Timeouts) {
        self.stage = Stage::Hs2(reader);
        if self.rejected.is_none() {
            self.step = now + timeouts.handshake_step;
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.step.min(self.end)
    }

    /// Whether this endpoint answers in it.
    pub(super) fn is_responder(&self) -> bool {
        matches!(self.stage, Stage::Answer { .. } | Stage::Hs3 { .. })
    }

    pub(super) fn link_id(&self) -> Option<LinkId> {
        self.link.as_ref().map(|link| link.id)
    }

    /// Whom to answer and with what offer, when this attempt waits for a link.
    pub(super) fn offer_to_answer(&self) -> Option<(EndpointId, String)> {
        match &self.stage {
            Stage::Answer { hello, .. } => {
                Some((self.peer, hello.description.as_ref()?.sdp.clone()))
            }
            Stage::Offer | Stage::Hs2(_) | Stage::OwnOffer { .. } | Stage::Hs3 { .. } => None,
        }
    }

    /// What has not come.
    pub(super) fn awaited(&self) -> HandshakeStage {
        match self.stage {
            Stage::Offer | Stage::OwnOffer { .. } | Stage::Answer { .. } => HandshakeStage::Connect,
            Stage::Hs2(_) => HandshakeStage::Answer,
            Stage::Hs3 { .. } => HandshakeStage::Proof,
        }
    }
}
