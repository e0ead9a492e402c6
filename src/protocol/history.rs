//! What is stored of a session and compared with what the peer stored (R-205 to R-210): one chain per direction, and
//! each message durable before it is sent, delivered or acknowledged. Not: where it is stored.
//!
//! ```text
//! sending    host ─► number, time, seen ─► Record ─► Recorded ─► outbox ─► peer
//! receiving  peer ─► whole message ─► chain ─► Record ─► Recorded ─► host ─► taken ─► ACK with head
//! ```

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    control::{DATA, Ready, ReadyHistory, push_u48, u48},
    io::{Event, HistoryInput, HistoryOutput, HistoryUse, LinkId, Output},
    machine::Machine,
};
use crate::{
    error::{CloseCode, ProtocolViolation},
    history::{
        chain::{Author, Chain, Head, Standing, body_hash},
        record::{Body, Record},
    },
};

/// Bytes before each message: `ts_ms u64 || seen u48` (R-207).
pub(super) const STAMP: usize = 8 + 6;

/// One session's part in the history.
#[derive(Debug)]
pub(super) struct Ledger {
    id: LinkId,
    channel: u8,
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
#[derive(Debug)]
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
#[derive(Debug)]
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
    /// What came while the histories differed.
    waiting: VecDeque<(u64, Bytes)>,
    /// The host accepted a difference: what the peer says that it had seen is not compared any more.
    unchecked: bool,
}

#[derive(Debug)]
enum Storing {
    /// To be sent.
    Sent(Bytes),
    /// To be delivered, unless it is to come again.
    Received(u64, Option<Bytes>),
}

/// The two sides do not hold the same.
#[derive(Debug, Clone, Copy)]
struct Difference {
    author: Author,
    here: u64,
    there: u64,
}

/// Why a message of the peer is not recorded.
enum Refusal {
    Violation(ProtocolViolation),
    Difference(Difference),
}

impl Ledger {
    fn new(id: LinkId, channel: u8) -> Self {
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

    /// Whether the histories differ and the host has not decided.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    pub(super) fn covers(&self, channel: u8) -> bool {
        self.channel == channel
    }

    fn is_chained(&self) -> bool {
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

    /// What READY says (R-208). Later READYs say what applied at the first (R-205).
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

    /// The head in ACK (R-208).
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
    }

    /// The host gave back what it had not taken: it comes again. What is being stored is stored all the same.
    pub(super) fn discard(&mut self) {
        for storing in &mut self.storing {
            if let Storing::Received(_, deliver) = storing {
                *deliver = None;
            }
        }
        self.theirs.waiting.clear();
    }

    fn load(&mut self, standing: Standing) {
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

    /// Compares what both sides hold, at the first READY (R-209). What the history has to cut back to.
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

    /// Compares on a later transport: nothing is cut, for what was not taken is sent again (R-209).
    fn compare_again(&mut self, peer: &ReadyHistory) -> Option<u64> {
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

    fn hold(&mut self, difference: Difference) {
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
    fn record_sent(&mut self, body: Bytes, now_ms: u64) -> Option<Record> {
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
        let seen = self.theirs.base + self.theirs.taken;
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
    fn receive(
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
        let sent = self.own.base + ever_sent;
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
        let deliver = Some(body.clone());
        self.storing.push_back(Storing::Received(number, deliver));
    }

    /// A message that came on an earlier transport already: stored or on its way to be.
    fn repeat(&mut self, number: u64, body: Bytes) -> Received {
        if number < self.theirs.stored {
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
enum Received {
    Record(Record),
    Again(u64, Bytes),
    Nothing,
}

impl Own {
    /// Whether the peer's head is one of this chain, from the last one confirmed on.
    fn knows(&self, head: Head) -> bool {
        let at = head.n.checked_sub(self.confirmed);
        let at = at.and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.tail.get(at)) == Some(&head.hash)
    }

    /// The peer holds the first `n`, which are known. `true` when that is news.
    fn confirm(&mut self, n: u64) -> bool {
        let news = n - self.confirmed;
        let count = usize::try_from(news).unwrap_or(usize::MAX);
        self.tail.drain(..count.min(self.tail.len()));
        self.confirmed = n;
        news > 0
    }

    /// The session's first message follows this head.
    fn begin_at(&mut self, head: Head) {
        self.chain.head = head;
        (self.base, self.confirmed) = (head.n, head.n);
        self.tail = VecDeque::from([head.hash]);
    }
}

impl Theirs {
    /// How many are stored, and their hash.
    fn held(&self) -> (u64, [u8; 32]) {
        let untaken = usize::try_from(self.stored - self.taken).unwrap_or(usize::MAX);
        let hash = match untaken.checked_sub(1) {
            None => self.taken_hash,
            Some(at) => self.hashes.get(at).copied().unwrap_or(self.taken_hash),
        };
        (self.base + self.stored, hash)
    }

    /// What the peer says of its own messages does not fit what is here.
    fn difference(&self, peer: &ReadyHistory) -> Option<Difference> {
        let (there, hash) = peer.sent;
        let here = self.chain.head;
        let differs = there < here.n || (there == here.n && hash != here.hash);
        let (author, here) = (Author::Peer, here.n);
        differs.then_some(Difference {
            author,
            here,
            there,
        })
    }

    /// Whether this is the message that came under this number before.
    fn is_repeat(&self, number: u64, (seen, ts_ms): (u64, u64), body: &[u8; 32]) -> bool {
        let Some(at) = number.checked_sub(self.taken) else {
            return false;
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let before = match at.checked_sub(1) {
            None => Some(self.taken_hash),
            Some(before) => self.hashes.get(before).copied(),
        };
        let again = before.map(|hash| {
            let n = self.base + number;
            let head = Head { n, hash };
            Chain { head, seen: 0 }.with(seen, ts_ms, body).head.hash
        });
        again.is_some() && again.as_ref() == self.hashes.get(at)
    }
}

/// Time, seen and the message itself.
fn unstamp(message: &Bytes) -> Option<(u64, u64, Bytes)> {
    let (ts, rest) = message.split_first_chunk()?;
    let (seen, _) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*ts), u48(seen), message.slice(STAMP..)))
}

/// Beginning.
impl Machine {
    /// A session begins: what was stored with this peer is asked for. One that goes on knows it.
    pub(super) fn load_history(&mut self) {
        let (wanted, Some(secure)) = (self.history != HistoryUse::Off, &mut self.secure) else {
            return;
        };
        let talk = &mut secure.talk;
        let Some(lane) = talk.lanes.first().filter(|_| wanted && !talk.established) else {
            return;
        };
        if talk.history.is_some() {
            return;
        }
        let (ledger, peer) = (secure.link, talk.peer);
        talk.history = Some(Ledger::new(ledger, lane.channel));
        self.ask_history(HistoryOutput::Load { ledger, peer });
    }

    pub(super) fn on_history(&mut self, input: HistoryInput) {
        match input {
            HistoryInput::Loaded { ledger, standing } => {
                let Some(ledger) = self.ledger(ledger).filter(|one| one.is_loading()) else {
                    return;
                };
                ledger.load(*standing);
                self.send_ready();
                self.compare_histories();
            }
            HistoryInput::Begun { ledger } => {
                let Some(ledger) = self.ledger(ledger) else {
                    return;
                };
                if let Stage::Beginning(links) = ledger.stage {
                    ledger.stage = Stage::Running(links);
                    self.send_ready_ok();
                    self.send_waiting();
                }
            }
            HistoryInput::Recorded { ledger, records } => self.on_recorded(ledger, records),
            HistoryInput::Accept => self.on_accept_history(),
        }
    }

    /// Of the session that this asks for, wherever it is kept at present.
    fn ledger(&mut self, id: LinkId) -> Option<&mut Ledger> {
        let secure = self.secure.as_mut().map(|secure| &mut secure.talk);
        let suspended = self.suspended.as_mut().map(|one| &mut one.talk);
        let replaced = self.visit.as_mut().and_then(|visit| visit.old.as_mut());
        let talks = secure.into_iter().chain(suspended).chain(replaced);
        let mut ledgers = talks.filter_map(|talk| talk.history.as_mut());
        ledgers.find(|ledger| ledger.id == id)
    }

    /// The peer's READY says what it holds. `false`: that broke a rule, and the session is over.
    pub(super) fn note_peer_history(&mut self, ready: &Ready) -> bool {
        let stated = ready.history;
        let Some(secure) = &mut self.secure else {
            return false;
        };
        let resumed = secure.talk.established;
        let Some(ledger) = &mut secure.talk.history else {
            // None is kept here, so none applied to this session (R-205).
            if resumed && stated.is_some() {
                self.fatal(ProtocolViolation::ReadyHistory.into());
                return false;
            }
            return true;
        };
        if !resumed {
            ledger.stated = Some(stated);
            self.compare_histories();
            return true;
        }
        let same = stated.map(|stated| stated.channel) == ledger.ready().map(|own| own.channel);
        if !same {
            self.fatal(ProtocolViolation::ReadyHistory.into());
            return false;
        }
        let id = ledger.id;
        let news = stated.and_then(|stated| ledger.compare_again(&stated));
        self.tell_confirmed(id, news);
        true
    }

    /// Once both sides have said what they hold.
    fn compare_histories(&mut self) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let Some(ledger) = secure.talk.history.as_mut() else {
            return;
        };
        let (Stage::Loaded, Some(stated)) = (ledger.stage, ledger.stated) else {
            return;
        };
        let id = ledger.id;
        let agreed = match stated.filter(|stated| stated.channel == ledger.channel) {
            Some(stated) => {
                ledger.stage = Stage::Beginning(Links::Chained);
                ledger.compare_first(&stated)
            }
            None => {
                ledger.stage = Stage::Beginning(Links::Loose);
                None
            }
        };
        self.ask_history(HistoryOutput::Begin { ledger: id, agreed });
    }

    /// The session is established: what was found out is told, and a side without a history that has to have one is
    /// left (R-205).
    pub(super) fn report_history(&mut self) {
        let required = self.history == HistoryUse::Required;
        let Some(talk) = self.talk_mut() else { return };
        let mut reports = Vec::new();
        let mut chained = false;
        if let Some(ledger) = &mut talk.history {
            reports.append(&mut ledger.reports);
            chained = ledger.is_chained();
        }
        self.out.extend(reports.into_iter().map(Output::Event));
        if required && !chained {
            self.close_at_once(
                CloseCode::HISTORY_DIVERGED,
                "a history is required on both sides",
            );
        }
    }

    /// The host goes on although the histories differ.
    fn on_accept_history(&mut self) {
        let Some(ledger) = self.talk_mut().and_then(|talk| talk.history.as_mut()) else {
            return;
        };
        if !std::mem::take(&mut ledger.held) {
            return;
        }
        let id = ledger.id;
        ledger.theirs.unchecked = true;
        match ledger.own.rebase.take() {
            Some(head) => {
                ledger.own.begin_at(head);
                self.ask_history(HistoryOutput::Rebase { ledger: id, head });
            }
            None => ledger.own.unchecked = true,
        }
        self.send_waiting();
        let Some(ledger) = self.talk_mut().and_then(|talk| talk.history.as_mut()) else {
            return;
        };
        let came = ledger.theirs.waiting.drain(..).collect();
        self.record_received(DATA, came);
    }

    /// The longest message and the peer's window, in bytes, when a stamp goes before each message.
    pub(super) fn stamped(&self, (max, window): (usize, usize)) -> (usize, usize) {
        let ledger = self.talk().and_then(|talk| talk.history.as_ref());
        let stamp = ledger.filter(|one| one.is_chained()).map_or(0, |_| STAMP);
        (max - stamp, window)
    }

    fn ask_history(&mut self, asked: HistoryOutput) {
        self.out.push(Output::History(asked));
    }

    fn tell_confirmed(&mut self, ledger: LinkId, news: Option<u64>) {
        if let Some(n) = news {
            self.ask_history(HistoryOutput::Confirmed { ledger, n });
        }
    }
}

/// Messages.
impl Machine {
    /// What the host sends is stored before it is sent. What is returned needs no storing.
    pub(super) fn record_sent(&mut self, channel: u8, body: Bytes) -> Option<Bytes> {
        let now_ms = self.now.unix_ms;
        let ledger = self.talk_mut().and_then(|talk| talk.history.as_mut());
        let Some(ledger) = ledger.filter(|ledger| ledger.covers(channel)) else {
            return Some(body);
        };
        let id = ledger.id;
        if let Some(record) = ledger.record_sent(body, now_ms) {
            self.ask_history(HistoryOutput::Record { ledger: id, record });
        }
        None
    }

    /// What the host sent before anything could be recorded.
    fn send_waiting(&mut self) {
        let Some(ledger) = self.talk_mut().and_then(|talk| talk.history.as_mut()) else {
            return;
        };
        let channel = ledger.channel;
        for body in std::mem::take(&mut ledger.own.waiting) {
            self.record_sent(channel, body);
        }
    }

    /// Whole messages of the peer, on the history's channel.
    pub(super) fn record_received(&mut self, kind: u8, messages: Vec<(u64, Bytes)>) {
        let now_ms = self.now.unix_ms;
        for (number, message) in messages {
            let Some(secure) = &mut self.secure else {
                return;
            };
            let talk = &mut secure.talk;
            let Some(ledger) = &mut talk.history else {
                return;
            };
            let (id, channel) = (ledger.id, ledger.channel);
            let lanes = talk.lanes.iter();
            let lane = lanes.clone().find(|lane| lane.channel == channel);
            let ever_sent = lane.map_or(0, |lane| lane.outbox.ever_sent());
            match ledger.receive(number, message, (now_ms, ever_sent)) {
                Ok(Received::Record(record)) => {
                    self.ask_history(HistoryOutput::Record { ledger: id, record });
                }
                Ok(Received::Again(number, body)) => self.deliver(channel, number, body),
                Ok(Received::Nothing) => {}
                Err(Refusal::Difference(difference)) => {
                    ledger.hold(difference);
                    self.report_difference();
                }
                Err(Refusal::Violation(ProtocolViolation::MalformedBody { len, .. })) => {
                    return self.fatal(ProtocolViolation::MalformedBody { kind, len }.into());
                }
                Err(Refusal::Violation(violation)) => return self.fatal(violation.into()),
            }
        }
    }

    /// At once, unless the session is about to be established: then it is told first.
    fn report_difference(&mut self) {
        if !self.is_listening() {
            return;
        }
        let reports = self.talk_mut().and_then(|talk| talk.history.as_mut());
        let reports = reports.map(|ledger| std::mem::take(&mut ledger.reports));
        for event in reports.into_iter().flatten() {
            self.event(event);
        }
    }

    fn deliver(&mut self, channel: u8, number: u64, body: Bytes) {
        let message = Output::Deliver {
            channel,
            number,
            body,
        };
        match &mut self.secure {
            Some(secure) if !secure.progress.established => secure.early.push(message),
            _ => self.out.push(message),
        }
    }

    /// Records are durable: they are sent, or delivered.
    fn on_recorded(&mut self, id: LinkId, records: u64) {
        for _ in 0..records {
            let Some(ledger) = self.ledger(id) else {
                return;
            };
            let channel = ledger.channel;
            match ledger.storing.pop_front() {
                None => return,
                Some(Storing::Sent(message)) => self.enqueue(id, channel, message),
                Some(Storing::Received(number, deliver)) => {
                    ledger.theirs.stored = number + 1;
                    if let Some(body) = deliver {
                        self.deliver(channel, number, body);
                    }
                }
            }
        }
    }

    fn enqueue(&mut self, id: LinkId, channel: u8, message: Bytes) {
        let ours = |ledger: &Ledger| ledger.id == id;
        if let Some(talk) = self.talk_mut()
            && talk.history.as_ref().is_some_and(ours)
            && let Some(lane) = talk.lane(channel)
        {
            return lane.outbox.push(message);
        }
        let replaced = self.visit.as_mut().and_then(|visit| visit.old.as_mut());
        if let Some(talk) = replaced
            && let Some(lane) = talk.lane(channel)
        {
            lane.outbox.push(message);
        }
    }

    /// What the peer acknowledged is compared. `false`: that broke a rule, and the session is over.
    pub(super) fn note_confirmed(
        &mut self,
        channel: u8,
        next: u64,
        head: Option<[u8; 32]>,
    ) -> bool {
        let ledger = self.talk_mut().and_then(|talk| talk.history.as_mut());
        let ledger = ledger.filter(|one| one.covers(channel) && one.is_chained());
        match (ledger, head) {
            (None, None) => {}
            (Some(ledger), Some(hash)) => {
                let n = ledger.own.base + next;
                let (id, news) = (ledger.id, ledger.confirm(Head { n, hash }));
                self.tell_confirmed(id, news);
                self.report_difference();
            }
            (None, Some(_)) | (Some(_), None) => {
                self.fatal(ProtocolViolation::AckHead { channel }.into());
                return false;
            }
        }
        true
    }

    /// The peer says goodbye: what it sent is delivered although it may not be durable yet; it is not acknowledged.
    pub(super) fn deliver_unrecorded(&mut self) {
        let Some(ledger) = self.talk_mut().and_then(|talk| talk.history.as_mut()) else {
            return;
        };
        let channel = ledger.channel;
        let take = |storing: &mut Storing| match storing {
            Storing::Received(number, deliver) => deliver.take().map(|body| (*number, body)),
            Storing::Sent(_) => None,
        };
        let messages: Vec<_> = ledger.storing.iter_mut().filter_map(take).collect();
        for (number, body) in messages {
            self.deliver(channel, number, body);
        }
    }
}
