//! What belongs to a session and outlives its transports: who the peer is, messages on their way, and the secrets by
//! which the next transport proves that it continues the session.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    channel::Live,
    delivery::{Bounds, Inbox, Outbox},
    ledger::Ledger,
    lossy::LossyOutbox,
    record::Caps,
};
use crate::{
    crypto::{
        epoch::Role,
        kdf::{self, PairingKind},
        secret::Secret,
    },
    identity::PeerId,
    message::MessageDirection,
    trust::PeerTrust,
};

/// Transports of which resumption keys may be kept; with a ninth the session ends.
const MAX_GENERATIONS: usize = 8;
/// Epochs of a transport out of which the session can resume.
const KEPT_EPOCHS: usize = 2;

/// One reliable channel of a session.
pub(super) struct Lane {
    pub(super) channel: u8,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
}

/// A session, whatever transport it is on.
pub(super) struct Conversation {
    pub(super) peer: PeerId,
    pub(super) trust: PeerTrust,
    /// Whether the trust suffices for messages to flow.
    pub(super) trusted: bool,
    /// Our role in the first handshake, which names the directions of messages.
    first_role: Role,
    session_id: [u8; 16],
    pub(super) resume_room: [u8; 32],
    pub(super) live: Vec<Live>,
    pub(super) lanes: Vec<Lane>,
    pub(super) lossy: Vec<LossyOutbox>,
    own_caps: Caps,
    peer_caps: Caps,
    /// The transports that resumption can start from, the newest last.
    generations: VecDeque<Generation>,
    /// The session was established once.
    pub(super) established: bool,
    /// When a suspended session is given up.
    pub(super) resume_by: Option<Duration>,
    /// The peer sent more than the window: a message was refused, and none may follow the gap.
    pub(super) overrun: bool,
    /// What is stored of it, and compared with what the peer stored.
    pub(super) history: Option<Ledger>,
}

/// What is kept of a transport to resume from.
#[derive(Default)]
struct Generation {
    ready_sent: bool,
    ready_received: bool,
    /// The epoch that this side sends under.
    sending: u16,
    keys: VecDeque<ResumeKey>,
}

/// The pairing secret of a resumption out of one epoch.
pub(super) struct ResumeKey {
    epoch: u16,
    pub(super) psk_id: [u8; 16],
    pub(super) psk: Secret,
}

/// What a session begins with.
pub(super) struct Beginning {
    pub(super) peer: PeerId,
    pub(super) trust: PeerTrust,
    pub(super) trusted: bool,
    pub(super) role: Role,
    pub(super) session_id: [u8; 16],
    pub(super) resume_room: [u8; 32],
    pub(super) live: Vec<Live>,
}

impl Conversation {
    pub(super) fn new(beginning: Beginning, own_caps: Caps, peer_caps: Caps) -> Self {
        let lanes = beginning.live.iter().filter(|live| !live.lossy);
        let lossy = beginning.live.iter().filter(|live| live.lossy);
        Self {
            lanes: lanes.map(|live| Lane::new(live.id)).collect(),
            lossy: lossy.map(|live| LossyOutbox::new(live.id)).collect(),
            peer: beginning.peer,
            trust: beginning.trust,
            trusted: beginning.trusted,
            first_role: beginning.role,
            session_id: beginning.session_id,
            resume_room: beginning.resume_room,
            live: beginning.live,
            own_caps,
            peer_caps,
            generations: VecDeque::new(),
            established: false,
            resume_by: None,
            overrun: false,
            history: None,
        }
    }

    pub(super) fn lane(&mut self, channel: u8) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.channel == channel)
    }

    /// Queues a message; on a lossy channel it goes, at the latest, when others push it out.
    pub(super) fn send(&mut self, channel: u8, body: Bytes) {
        if let Some(lane) = self.lane(channel) {
            lane.outbox.push(body);
        } else if let Some(lossy) = self.lossy.iter_mut().find(|lossy| lossy.channel == channel) {
            lossy.push(body);
        }
    }

    /// Messages of all channels that the peer has not taken.
    pub(super) fn unacked(&self) -> u64 {
        let lanes: u64 = self.lanes.iter().map(|lane| lane.outbox.unacked()).sum();
        lanes + self.history.as_ref().map_or(0, Ledger::unsent)
    }

    /// What may be on its way: what the peer takes, and no more than this side wants to hold.
    pub(super) fn window(&self) -> usize {
        self.peer_caps.window.min(self.own_caps.window) as usize
    }

    pub(super) fn own_window(&self) -> usize {
        self.own_caps.window as usize
    }

    /// The longest message and the window, in bytes.
    pub(super) fn agreed(&self) -> (usize, usize) {
        let max = self.own_caps.max_message.min(self.peer_caps.max_message);
        (max as usize, self.window())
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            max_message: self.agreed().0,
            window: self.own_window(),
        }
    }

    /// The session's id, and which direction is ours.
    pub(super) fn session(&self) -> ([u8; 16], MessageDirection) {
        let direction = match self.first_role {
            Role::Initiator => MessageDirection::FromInitiator,
            Role::Responder => MessageDirection::FromResponder,
        };
        (self.session_id, direction)
    }
}

/// Transports.
impl Conversation {
    /// A new transport, under the keys of its handshake. `false`: there were too many without one that worked.
    pub(super) fn begin_generation(&mut self, caps: (Caps, Caps), resume: &Secret) -> bool {
        (self.own_caps, self.peer_caps) = caps;
        if self.generations.len() >= MAX_GENERATIONS {
            return false;
        }
        self.generations.push_back(Generation::default());
        self.keep_resumption(0, resume);
        true
    }

    /// An epoch was derived: its resumption key replaces that of the epoch before the last.
    pub(super) fn keep_resumption(&mut self, epoch: u16, resume: &Secret) {
        let context = self.session_id;
        let Some(generation) = self.generations.back_mut() else {
            return;
        };
        let pairing = kdf::pairing(PairingKind::Resume, resume, &context);
        if generation.keys.len() >= KEPT_EPOCHS {
            generation.keys.pop_front();
        }
        generation.keys.push_back(ResumeKey {
            epoch,
            psk_id: pairing.psk_id,
            psk: pairing.psk,
        });
    }

    pub(super) fn note_sending(&mut self, epoch: u16) {
        if let Some(generation) = self.generations.back_mut() {
            generation.sending = epoch;
        }
    }

    pub(super) fn note_ready_sent(&mut self) {
        if let Some(generation) = self.generations.back_mut() {
            generation.ready_sent = true;
        }
    }

    pub(super) fn note_ready_received(&mut self) {
        if let Some(generation) = self.generations.back_mut() {
            generation.ready_received = true;
        }
    }

    /// READY_OK came: the peer has the newest keys, and those of older transports are erased.
    pub(super) fn note_established(&mut self) {
        self.established = true;
        self.resume_by = None;
        while self.generations.len() > 1 {
            self.generations.pop_front();
        }
    }

    /// The transport is gone. Its keys are of no use when the peer cannot have counted on it.
    pub(super) fn end_transport(&mut self) {
        if self
            .generations
            .back()
            .is_some_and(|generation| !generation.ready_sent)
        {
            self.generations.pop_back();
        }
        for lane in &mut self.lanes {
            lane.outbox.suspend();
            lane.inbox.suspend();
        }
        self.overrun = false;
        for lossy in &mut self.lossy {
            lossy.clear();
        }
    }

    /// The keys to resume with: first the one that an initiator uses, then what a responder also accepts.
    pub(super) fn resume_keys(&self) -> Vec<&ResumeKey> {
        let own = self.generations.iter().rev().find(|one| one.ready_received);
        let own = own.and_then(|one| one.keys.iter().find(|key| key.epoch == one.sending));
        let rest = self.generations.iter().rev().flat_map(|one| &one.keys);
        let is_other = |key: &&ResumeKey| own.is_none_or(|own| own.psk_id != key.psk_id);
        own.into_iter().chain(rest.filter(is_other)).collect()
    }
}

impl Lane {
    fn new(channel: u8) -> Self {
        Self {
            channel,
            outbox: Outbox::default(),
            inbox: Inbox::default(),
        }
    }
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation")
            .field("peer", &self.peer)
            .field("trust", &self.trust)
            .field("live", &self.live)
            .field("generations", &self.generations.len())
            .field("established", &self.established)
            .field("resume_by", &self.resume_by)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        max_version: 1,
        max_frame: 65_536,
        max_message: 65_536,
        window: 262_144,
    };
    const SESSION: [u8; 16] = [1; 16];

    fn conversation() -> Conversation {
        let beginning = Beginning {
            peer: PeerId::from_bytes([7; 32]),
            trust: PeerTrust::Unknown,
            trusted: true,
            role: Role::Initiator,
            session_id: SESSION,
            resume_room: [2; 32],
            live: Vec::new(),
        };
        Conversation::new(beginning, CAPS, CAPS)
    }

    fn begin(talk: &mut Conversation, resume: u8) {
        let begun = talk.begin_generation((CAPS, CAPS), &Secret::new([resume; 32]));
        assert!(begun);
        talk.note_ready_sent();
    }

    /// Asserts that these are the secrets to resume with, in this order.
    #[track_caller]
    fn assert_keys(talk: &Conversation, expected: &[u8]) {
        let id = |resume: &u8| {
            let secret = Secret::new([*resume; 32]);
            kdf::pairing(PairingKind::Resume, &secret, &SESSION).psk_id
        };
        let keys = talk.resume_keys().into_iter().map(|key| key.psk_id);
        assert!(keys.eq(expected.iter().map(id)), "not {expected:?}");
    }

    ///
    #[test]
    fn an_initiator_resumes_with_the_secret_of_the_epoch_that_it_sends_under() {
        let mut talk = conversation();
        begin(&mut talk, 10);
        talk.note_ready_received();
        talk.keep_resumption(1, &Secret::new([11; 32]));
        assert_keys(&talk, &[10, 11]);
        talk.note_sending(1);
        assert_keys(&talk, &[11, 10]);
        talk.keep_resumption(2, &Secret::new([12; 32]));
        assert_keys(&talk, &[11, 12]);
        talk.note_sending(2);
        assert_keys(&talk, &[12, 11]);
    }

    ///
    #[test]
    fn an_initiator_resumes_out_of_the_newest_transport_on_which_the_peer_was_ready() {
        let mut talk = conversation();
        begin(&mut talk, 10);
        talk.note_ready_received();
        talk.end_transport();
        begin(&mut talk, 20);
        assert_keys(&talk, &[10, 20]);
        talk.note_ready_received();
        assert_keys(&talk, &[20, 10]);
    }
}
