//! One session's part in the history: both chains, what is stored of them, and the comparison with the
//! peer's. Not: who asks for it (history.rs).

mod ends;

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    control::{DATA, ReadyHistory, push_u48},
    history::{STAMP, unstamp},
    io::{Event, LinkId},
};
use crate::{
    error::ProtocolViolation,
    history::{
        chain::{Author, Chain, Head, Standing, body_hash},
        record::{Body, Record},
    },
};

/// One session's part in the history.
pub(super) struct Ledger {
    pub(super) id: LinkId,
    pub(super) channel: u8,
    stage: Stage,
    own: Own,
    theirs: Theirs,
    /// What was given to be stored and is not durable yet, in order.
    storing: VecDeque<Storing>,
    /// The peer's history as its first READY states it, until ours is known.
    stated: Option<Option<ReadyHistory>>,
    /// The histories differ, and the host has not decided.
    held: bool,
    /// What the host is to be told once the session is established.
    reports: Vec<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What is stored is not known yet.
    Loading,
    /// READY states it.
    Loaded,
    /// The history makes itself ready for this session.
    Beginning(Links),
    /// Messages flow.
    Running(Links),
}

/// Whether messages of this session are chained: only if both sides keep a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    Chained,
    Loose,
}

/// This side's messages.
struct Own {
    chain: Chain,
    /// The number in the chain of the session's first message.
    base: u64,
    confirmed: u64,
    /// Hashes after `confirmed` messages first, of `chain` last.
    tail: VecDeque<[u8; 32]>,
    /// What the host sent while nothing could be recorded.
    waiting: VecDeque<Bytes>,
    /// Where the chain goes on if the host accepts that the histories differ.
    rebase: Option<Head>,
    /// The host accepted a difference within this session: heads say nothing any more.
    unchecked: bool,
}

/// The peer's messages. Numbers count within the session.
struct Theirs {
    chain: Chain,
    /// The number in the chain of the session's first message.
    base: u64,
    /// Of the next message that is new.
    next: u64,
    /// All below are durable.
    stored: u64,
    /// All below were taken by the host.
    taken: u64,
    taken_hash: [u8; 32],
    /// Hashes after each message from `taken` on.
    hashes: VecDeque<[u8; 32]>,
    /// What the host has not taken of all that was given to be stored. No more than the window, as long as it waits.
    kept: VecDeque<(u64, Bytes)>,
    /// All below were handed to the host, since it last gave back what it had not taken.
    handed: u64,
    /// What came while the histories differed, or before the session was established.
    waiting: VecDeque<(u64, Bytes)>,
    /// The host accepted a difference: what the peer says that it had seen is not compared any more.
    unchecked: bool,
}

/// A message that is not durable yet.
pub(super) enum Storing {
    /// To be sent.
    Sent(Bytes),
    /// To be delivered, unless it is to come again.
    Received(u64, Option<Bytes>),
}

/// The two sides do not hold the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Difference {
    author: Author,
    here: u64,
    there: u64,
}

/// Why a message of the peer is not recorded.
pub(super) enum Refusal {
    Violation(ProtocolViolation),
    Difference(Difference),
}

impl Ledger {
    pub(super) fn new(id: LinkId, channel: u8) -> Self {
        let nothing = Chain {
            head: Head {
                n: 0,
                hash: [0; 32],
            },
            seen: 0,
        };
        Self {
            id,
            channel,
            stage: Stage::Loading,
            own: Own {
                chain: nothing,
                base: 0,
                confirmed: 0,
                tail: VecDeque::new(),
                waiting: VecDeque::new(),
                rebase: None,
                unchecked: false,
            },
            theirs: Theirs {
                chain: nothing,
                base: 0,
                next: 0,
                stored: 0,
                taken: 0,
                taken_hash: [0; 32],
                hashes: VecDeque::new(),
                kept: VecDeque::new(),
                handed: 0,
                waiting: VecDeque::new(),
                unchecked: false,
            },
            storing: VecDeque::new(),
            stated: None,
            held: false,
            reports: Vec::new(),
        }
    }

    pub(super) fn is_loading(&self) -> bool {
        self.stage == Stage::Loading
    }

    pub(super) fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Running(_))
    }

    /// Whether the stored history was told to begin this session, which no other can then go on from.
    pub(super) fn has_compared(&self) -> bool {
        matches!(self.stage, Stage::Beginning(_) | Stage::Running(_))
    }

    /// Whether the histories differ and the host has not decided.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    pub(super) fn covers(&self, channel: u8) -> bool {
        self.channel == channel
    }

    pub(super) fn is_chained(&self) -> bool {
        matches!(
            self.stage,
            Stage::Running(Links::Chained) | Stage::Beginning(Links::Chained)
        )
    }

    /// Messages of the host that are in no outbox yet.
    pub(super) fn unsent(&self) -> u64 {
        let storing = self.storing.iter();
        let sent = storing.filter(|one| matches!(one, Storing::Sent(_)));
        (self.own.waiting.len() + sent.count()) as u64
    }

    /// What READY says. Later READYs say what applied at the first.
    pub(super) fn ready(&self) -> Option<ReadyHistory> {
        if !self.is_chained() && self.stage != Stage::Loaded {
            return None;
        }
        let Head { n, hash } = self.own.chain.head;
        Some(ReadyHistory {
            channel: self.channel,
            sent: (n, hash),
            received: self.theirs.held(),
        })
    }

    /// The head in ACK.
    pub(super) fn taken_head(&self, channel: u8) -> Option<[u8; 32]> {
        (self.covers(channel) && self.is_chained()).then_some(self.theirs.taken_hash)
    }

    pub(super) fn note_taken(&mut self, taken: u64) {
        let theirs = &mut self.theirs;
        while theirs.taken < taken {
            theirs.taken += 1;
            if let Some(hash) = theirs.hashes.pop_front() {
                theirs.taken_hash = hash;
            }
        }
        let is_taken = |one: &(u64, Bytes)| one.0 < taken;
        while theirs.kept.front().is_some_and(is_taken) {
            theirs.kept.pop_front();
        }
    }

    /// The host gave back what it had not taken: it comes again. What is being stored is stored all the same.
    pub(super) fn discard(&mut self) {
        for storing in &mut self.storing {
            if let Storing::Received(_, deliver) = storing {
                *deliver = None;
            }
        }
        self.theirs.waiting.clear();
        self.theirs.handed = self.theirs.taken;
    }

    pub(super) fn load(&mut self, standing: Standing) {
        let Standing {
            sent,
            received,
            confirmed,
            tail,
        } = standing;
        (self.own.chain, self.own.confirmed) = (sent, confirmed);
        self.own.tail = tail.into();
        self.theirs.chain = received;
        self.theirs.base = received.head.n;
        self.theirs.taken_hash = received.head.hash;
        self.stage = Stage::Loaded;
    }

    /// The peer's first READY says this of its history.
    pub(super) fn note_stated(&mut self, stated: Option<ReadyHistory>) {
        self.stated = Some(stated);
    }

    /// Compares, once both sides have said what they hold: what the history has to cut back to, if it has to.
    pub(super) fn compare(&mut self) -> Option<Option<u64>> {
        let (Stage::Loaded, Some(stated)) = (self.stage, self.stated) else {
            return None;
        };
        let Some(stated) = stated.filter(|stated| stated.channel == self.channel) else {
            self.stage = Stage::Beginning(Links::Loose);
            return Some(None);
        };
        self.stage = Stage::Beginning(Links::Chained);
        Some(self.compare_first(&stated))
    }

    /// The history is ready for this session. `false`: that was known.
    pub(super) fn begin(&mut self) -> bool {
        let Stage::Beginning(links) = self.stage else {
            return false;
        };
        self.stage = Stage::Running(links);
        true
    }

    /// What the host is to be told.
    pub(super) fn take_reports(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.reports)
    }

    /// The host goes on although the histories differ: where this side's chain has to go on from, if it is known.
    /// `None`: there is no difference to accept.
    pub(super) fn accept(&mut self) -> Option<Option<Head>> {
        if !std::mem::take(&mut self.held) {
            return None;
        }
        self.theirs.unchecked = true;
        let rebase = self.own.rebase.take();
        match rebase {
            Some(head) => self.own.begin_at(head),
            None => self.own.unchecked = true,
        }
        Some(rebase)
    }

    /// What the host sent while nothing could be recorded.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Bytes> {
        std::mem::take(&mut self.own.waiting)
    }

    /// Keeps a message for later: the session is not established.
    pub(super) fn wait(&mut self, number: u64, message: Bytes) {
        self.theirs.waiting.push_back((number, message));
    }

    /// What came while the histories differed, or before the session was established.
    pub(super) fn take_came(&mut self) -> Vec<(u64, Bytes)> {
        self.theirs.waiting.drain(..).collect()
    }

    /// The oldest record that was not durable is.
    pub(super) fn note_recorded(&mut self) -> Option<Storing> {
        let stored = self.storing.pop_front()?;
        if let Storing::Received(number, deliver) = &stored {
            self.theirs.stored = number + 1;
            if deliver.is_some() {
                self.theirs.handed = number + 1;
            }
        }
        Some(stored)
    }

    /// The peer acknowledged all below `next`, with this hash: how much of it is news.
    pub(super) fn acknowledge(&mut self, next: u64, hash: [u8; 32]) -> Option<u64> {
        let n = self.own.base.saturating_add(next);
        self.confirm(Head { n, hash })
    }

    /// What is stored, or on its way to be, and was not handed to the host: it is now.
    pub(super) fn take_left(&mut self) -> Vec<(u64, Bytes)> {
        for storing in &mut self.storing {
            if let Storing::Received(_, deliver) = storing {
                *deliver = None;
            }
        }
        let Theirs { kept, handed, .. } = &mut self.theirs;
        let left = kept.iter().filter(|(number, _)| number >= handed);
        let left: Vec<(u64, Bytes)> = left.cloned().collect();
        self.theirs.handed = self.theirs.next;
        left
    }

    /// Compares what both sides hold, at the first READY. What the history has to cut back to.
    fn compare_first(&mut self, peer: &ReadyHistory) -> Option<u64> {
        let (there, hash) = peer.received;
        if let Some(difference) = self.theirs.difference(peer) {
            self.hold(difference);
        }
        let head = Head { n: there, hash };
        if self.own.knows(head) {
            let undelivered = self.own.chain.head.n - there;
            if undelivered > 0 {
                let messages = undelivered;
                self.reports.push(Event::Undelivered { messages });
            }
            if self.held {
                // The host decides; until then nothing is cut.
                self.own.rebase = Some(head);
                return None;
            }
            self.own.begin_at(head);
            return Some(there);
        }
        self.own.rebase = Some(head);
        self.hold(Difference {
            author: Author::Me,
            here: self.own.chain.head.n,
            there,
        });
        None
    }

    /// Compares on a later transport: nothing is cut, for what was not taken is sent again.
    pub(super) fn compare_again(&mut self, peer: &ReadyHistory) -> Option<u64> {
        if self.own.unchecked || self.held {
            return None;
        }
        let differs = !self.theirs.unchecked;
        if let Some(difference) = self.theirs.difference(peer).filter(|_| differs) {
            self.hold(difference);
        }
        let (n, hash) = peer.received;
        self.confirm(Head { n, hash })
    }

    /// The peer holds this much: how much of it is news.
    fn confirm(&mut self, head: Head) -> Option<u64> {
        if self.own.unchecked || self.held {
            return None;
        }
        if !self.own.knows(head) {
            self.hold(Difference {
                author: Author::Me,
                here: self.own.chain.head.n,
                there: head.n,
            });
            return None;
        }
        self.own.confirm(head.n).then_some(head.n)
    }

    pub(super) fn hold(&mut self, difference: Difference) {
        let Difference {
            author,
            here,
            there,
        } = difference;
        self.held = true;
        self.reports.push(Event::HistoryDiverged {
            author,
            here,
            there,
        });
    }

    /// A message of the host, as it travels, and what to store of it first. `None`: it waits.
    pub(super) fn record_sent(&mut self, body: Bytes, now_ms: u64) -> Option<Record> {
        let Stage::Running(links) = self.stage else {
            self.own.waiting.push_back(body);
            return None;
        };
        if self.held {
            self.own.waiting.push_back(body);
            return None;
        }
        if links == Links::Loose {
            self.storing.push_back(Storing::Sent(body.clone()));
            return Some(Record::Loose {
                author: Author::Me,
                ts_ms: now_ms,
                body,
            });
        }
        let seen = self.theirs.base.saturating_add(self.theirs.taken);
        let n = self.own.chain.head.n;
        self.own.chain = self.own.chain.with(seen, now_ms, &body_hash(&body));
        self.own.tail.push_back(self.own.chain.head.hash);
        let mut stamped = Vec::with_capacity(STAMP + body.len());
        stamped.extend_from_slice(&now_ms.to_be_bytes());
        push_u48(seen, &mut stamped);
        stamped.extend_from_slice(&body);
        self.storing.push_back(Storing::Sent(stamped.into()));
        Some(Record::Chained {
            author: Author::Me,
            n,
            seen,
            ts_ms: now_ms,
            body: Body::Whole(body),
        })
    }

    /// A whole message of the peer: what to store of it, or, when it came again, what to deliver at once.
    pub(super) fn receive(
        &mut self,
        number: u64,
        message: Bytes,
        (now_ms, ever_sent): (u64, u64),
    ) -> Result<Received, Refusal> {
        if self.held {
            self.theirs.waiting.push_back((number, message));
            return Ok(Received::Nothing);
        }
        if !self.is_chained() {
            if number < self.theirs.next {
                return Ok(self.repeat(number, message));
            }
            self.note_received(number, &message);
            return Ok(Received::Record(Record::Loose {
                author: Author::Peer,
                ts_ms: now_ms,
                body: message,
            }));
        }
        let (ts_ms, seen, body) =
            unstamp(&message).ok_or(Refusal::Violation(ProtocolViolation::MalformedBody {
                kind: DATA,
                len: message.len(),
            }))?;
        let hash = body_hash(&body);
        if number < self.theirs.next {
            let changed = ProtocolViolation::MessageChanged {
                channel: self.channel,
            };
            if !self.theirs.is_repeat(number, (seen, ts_ms), &hash) {
                return Err(Refusal::Violation(changed));
            }
            return Ok(self.repeat(number, body));
        }
        let n = self.theirs.chain.head.n;
        let sent = self.own.base.saturating_add(ever_sent);
        if !self.theirs.unchecked && (seen < self.theirs.chain.seen || seen > sent) {
            self.theirs.waiting.push_back((number, message));
            return Err(Refusal::Difference(Difference {
                author: Author::Me,
                here: sent,
                there: seen,
            }));
        }
        self.theirs.chain = self.theirs.chain.with(seen, ts_ms, &hash);
        self.theirs.hashes.push_back(self.theirs.chain.head.hash);
        self.note_received(number, &body);
        Ok(Received::Record(Record::Chained {
            author: Author::Peer,
            n,
            seen,
            ts_ms,
            body: Body::Whole(body),
        }))
    }

    fn note_received(&mut self, number: u64, body: &Bytes) {
        self.theirs.next = number + 1;
        self.theirs.kept.push_back((number, body.clone()));
        let deliver = Some(body.clone());
        self.storing.push_back(Storing::Received(number, deliver));
    }

    /// A message that came on an earlier transport already: stored or on its way to be.
    fn repeat(&mut self, number: u64, body: Bytes) -> Received {
        // The copy that is there is as good, and needs no more room.
        let mut kept = self.theirs.kept.iter();
        let kept = kept.find(|(held, _)| *held == number);
        let body = kept.map_or(body, |(_, kept)| kept.clone());
        if number < self.theirs.stored {
            self.theirs.handed = number + 1;
            return Received::Again(number, body);
        }
        let is_it =
            |storing: &&mut Storing| matches!(storing, Storing::Received(n, _) if *n == number);
        if let Some(Storing::Received(_, deliver)) = self.storing.iter_mut().find(is_it) {
            *deliver = Some(body);
        }
        Received::Nothing
    }
}

/// What becomes of a message of the peer.
pub(super) enum Received {
    Record(Record),
    Again(u64, Bytes),
    Nothing,
}

impl std::fmt::Debug for Ledger {
    /// How far it is: what people write stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("id", &self.id)
            .field("channel", &self.channel)
            .field("stage", &self.stage)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{history::chain::Pair, identity::PeerId};

    const PAIR: Pair = Pair {
        me: PeerId::from_bytes([1; 32]),
        peer: PeerId::from_bytes([2; 32]),
    };

    /// A ledger of two that begin, with three messages sent.
    fn running() -> Ledger {
        let mut ledger = Ledger::new(LinkId(1), 1);
        ledger.load(Standing::new(&PAIR));
        let [own, peer] = [Author::Me, Author::Peer].map(|author| PAIR.start(author).head);
        ledger.note_stated(Some(ReadyHistory {
            channel: 1,
            sent: (0, peer.hash),
            received: (0, own.hash),
        }));
        assert_eq!(ledger.compare(), Some(Some(0)));
        assert!(ledger.begin());
        ledger
    }

    fn stamped(ts_ms: u64, seen: u64, body: &[u8]) -> Bytes {
        let mut message = ts_ms.to_be_bytes().to_vec();
        push_u48(seen, &mut message);
        message.extend_from_slice(body);
        message.into()
    }

    fn receive(ledger: &mut Ledger, number: u64, message: Bytes) -> Result<Received, Refusal> {
        ledger.receive(number, message, (9, 3))
    }

    ///
    #[test]
    fn a_message_travels_behind_its_time_and_what_was_seen_r207() {
        let mut ledger = running();
        let record = ledger.record_sent(Bytes::from_static(b"text"), 7);
        assert!(matches!(
            record,
            Some(Record::Chained {
                n: 0,
                seen: 0,
                ts_ms: 7,
                ..
            })
        ));
        let Some(Storing::Sent(message)) = ledger.note_recorded() else {
            panic!("it is to be sent");
        };
        assert_eq!(message, stamped(7, 0, b"text"));
        assert_eq!(message.len(), STAMP + 4);
    }

    ///
    #[test]
    fn a_message_without_a_stamp_is_a_violation_r207() {
        for len in 0..STAMP {
            let short = Bytes::from(vec![0; len]);
            let refused = receive(&mut running(), 0, short);
            assert!(matches!(
                refused,
                Err(Refusal::Violation(ProtocolViolation::MalformedBody { .. }))
            ));
        }
    }

    ///
    #[test]
    fn seen_neither_decreases_nor_exceeds_what_was_sent_r210() {
        for (first, second) in [(0, 4), (2, 1)] {
            let mut ledger = running();
            let fits = receive(&mut ledger, 0, stamped(1, first, b"a"));
            assert!(matches!(fits, Ok(Received::Record(_))));
            let refused = receive(&mut ledger, 1, stamped(1, second, b"b"));
            assert!(matches!(refused, Err(Refusal::Difference(_))), "{second}");
        }
    }

    ///
    #[test]
    fn what_comes_again_is_compared_and_not_stored_twice_r236() {
        let mut ledger = running();
        for (number, body) in [(0, b"a"), (1, b"b")] {
            let stored = receive(&mut ledger, number, stamped(1, 0, body));
            assert!(matches!(stored, Ok(Received::Record(_))));
        }
        ledger.note_recorded();
        ledger.discard();
        let again = receive(&mut ledger, 0, stamped(1, 0, b"a"));
        assert!(matches!(again, Ok(Received::Again(0, _))), "it is durable");
        let again = receive(&mut ledger, 1, stamped(1, 0, b"b"));
        assert!(matches!(again, Ok(Received::Nothing)), "it is not yet");
        let stored = ledger.note_recorded();
        assert!(matches!(stored, Some(Storing::Received(1, Some(_)))));
        for changed in [
            stamped(2, 0, b"b"),
            stamped(1, 1, b"b"),
            stamped(1, 0, b"c"),
        ] {
            let refused = receive(&mut ledger, 1, changed);
            let is_fatal = matches!(
                refused,
                Err(Refusal::Violation(ProtocolViolation::MessageChanged { .. }))
            );
            assert!(is_fatal);
        }
    }

    ///
    #[test]
    fn an_acknowledgement_of_another_head_holds_everything_r239() {
        let mut ledger = running();
        ledger.record_sent(Bytes::from_static(b"text"), 7);
        assert_eq!(ledger.acknowledge(1, [9; 32]), None);
        assert!(ledger.is_held());
        assert_eq!(ledger.record_sent(Bytes::from_static(b"waits"), 8), None);
        assert_eq!(ledger.accept(), Some(None));
        assert_eq!((ledger.is_held(), ledger.take_waiting().len()), (false, 1));
    }

    ///
    #[test]
    fn a_head_is_confirmed_once() {
        let mut ledger = running();
        ledger.record_sent(Bytes::from_static(b"text"), 7);
        let head = ledger.own.chain.head;
        assert_eq!(ledger.acknowledge(1, head.hash), Some(1));
        assert_eq!(ledger.acknowledge(1, head.hash), None);
        assert!(!ledger.is_held());
    }

    #[test]
    fn what_is_stored_and_what_waits_counts_as_unsent() {
        let mut ledger = running();
        assert_eq!(ledger.unsent(), 0);
        for at in 0..2 {
            ledger.record_sent(Bytes::from_static(b"text"), at);
        }
        assert_eq!(ledger.unsent(), 2);
        ledger.acknowledge(1, [9; 32]);
        for at in 2..5 {
            ledger.record_sent(Bytes::from_static(b"waits"), at);
        }
        assert_eq!(ledger.unsent(), 5);
        ledger.note_recorded();
        assert_eq!(ledger.unsent(), 4);
    }

    #[test]
    fn a_ledger_is_of_one_channel_and_says_whether_it_compared() {
        let ledger = Ledger::new(LinkId(1), 2);
        assert!(!ledger.has_compared());
        assert!(ledger.covers(2) && !ledger.covers(1));
        assert!(running().has_compared());
    }

    fn states(sent: Head, received: Head) -> ReadyHistory {
        ReadyHistory {
            channel: 1,
            sent: (sent.n, sent.hash),
            received: (received.n, received.hash),
        }
    }

    ///
    #[test]
    fn of_equal_histories_nothing_is_told() {
        assert!(running().take_reports().is_empty());
    }

    ///
    #[test]
    fn an_acknowledgement_has_a_head_where_messages_are_chained() {
        let ledger = running();
        assert_eq!(
            ledger.taken_head(1),
            Some(PAIR.start(Author::Peer).head.hash)
        );
        assert_eq!(ledger.taken_head(2), None);
        let mut loose = Ledger::new(LinkId(1), 1);
        loose.load(Standing::new(&PAIR));
        loose.note_stated(None);
        assert_eq!(loose.compare(), Some(None));
        assert!(loose.begin());
        assert_eq!(loose.taken_head(1), None);
    }

    ///
    #[test]
    fn what_the_host_had_is_not_left_for_it_and_what_it_took_is_not_kept() {
        let mut ledger = running();
        for number in 0..3 {
            let stored = receive(&mut ledger, number, stamped(1, 0, b"a"));
            assert!(matches!(stored, Ok(Received::Record(_))));
            ledger.note_recorded();
        }
        ledger.note_taken(2);
        let kept: Vec<u64> = ledger.theirs.kept.iter().map(|one| one.0).collect();
        assert_eq!(kept, [2]);
        assert!(ledger.take_left().is_empty());
        ledger.discard();
        let again = receive(&mut ledger, 2, stamped(1, 0, b"a"));
        assert!(matches!(again, Ok(Received::Again(2, _))));
        assert!(ledger.take_left().is_empty());
        ledger.discard();
        assert_eq!(ledger.take_left(), [(2, Bytes::from_static(b"a"))]);
    }

    ///
    #[test]
    fn what_the_peer_holds_is_compared_on_later_transports_as_well_r209() {
        let mut ledger = running();
        ledger.record_sent(Bytes::from_static(b"text"), 7);
        let (own, peer) = (ledger.own.chain.head, ledger.theirs.chain.head);
        assert_eq!(ledger.compare_again(&states(peer, own)), Some(1));
        assert_eq!(ledger.compare_again(&states(peer, own)), None, "no news");
        assert!(!ledger.is_held());
        let other = Head {
            hash: [9; 32],
            ..own
        };
        assert_eq!(ledger.compare_again(&states(peer, other)), None);
        assert!(ledger.is_held());
    }

    ///
    #[test]
    fn messages_that_the_peer_denies_are_told_once_and_held_until_the_host_accepts_r209() {
        let denials: [fn(Head) -> Head; 2] = [
            |_| PAIR.start(Author::Peer).head,
            |Head { n, .. }| Head { n, hash: [9; 32] },
        ];
        for deny in denials {
            let mut ledger = running();
            let own = ledger.own.chain.head;
            let stored = receive(&mut ledger, 0, stamped(1, 0, b"a"));
            assert!(matches!(stored, Ok(Received::Record(_))));
            let denied = deny(ledger.theirs.chain.head);
            for _ in 0..2 {
                assert_eq!(ledger.compare_again(&states(denied, own)), None);
                assert_eq!(ledger.acknowledge(0, [8; 32]), None);
            }
            let there = denied.n;
            assert!(matches!(
                ledger.take_reports()[..],
                [Event::HistoryDiverged { author: Author::Peer, here: 1, there: told }] if told == there
            ));
            assert_eq!(ledger.accept(), Some(None));
            assert_eq!(ledger.compare_again(&states(denied, own)), None);
            assert_eq!(ledger.acknowledge(0, [8; 32]), None);
            assert!(!ledger.is_held() && ledger.take_reports().is_empty());
        }
    }

    ///
    #[test]
    fn debug_output_holds_no_message() {
        let mut ledger = running();
        ledger.record_sent(Bytes::from_static(b"between us"), 7);
        let shown = format!("{ledger:?}");
        assert!(shown.starts_with("Ledger { id: ") && shown.ends_with(", held: false, .. }"));
        assert!(!shown.contains("between us"));
    }
}
