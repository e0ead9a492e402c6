//! What the machine asks of its history, and what follows from the answers (R-205 to R-210, R-234 to R-236): each message is
//! durable before it is sent, delivered or acknowledged. Not: what is compared (ledger.rs), nor where it is stored.
//!
//! ```text
//! sending    host ─► number, time, seen ─► Record ─► Recorded ─► outbox ─► peer
//! receiving  peer ─► whole message ─► chain ─► Record ─► Recorded ─► host ─► taken ─► ACK with head
//! ```

use bytes::Bytes;

use super::{
    control::{DATA, Ready, u48},
    io::{HistoryInput, HistoryOutput, HistoryUse, LinkId, Output},
    ledger::{Ledger, Received, Refusal, Storing},
    machine::Machine,
};
use crate::error::{CloseCode, ProtocolViolation};

/// Bytes before each message: `ts_ms u64 || seen u48` (R-207).
pub(super) const STAMP: usize = 8 + 6;

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
                if ledger.begin() {
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
            ledger.note_stated(stated);
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
        let ledger_id = ledger.id;
        if let Some(agreed) = ledger.compare() {
            let ledger = ledger_id;
            self.ask_history(HistoryOutput::Begin { ledger, agreed });
        }
    }

    /// The session is established: what was found out is told, and a side without a history that has to have one is
    /// left (R-205).
    pub(super) fn report_history(&mut self) {
        let required = self.history == HistoryUse::Required;
        let Some(talk) = self.talk_mut() else { return };
        let mut reports = Vec::new();
        let mut chained = false;
        if let Some(ledger) = &mut talk.history {
            reports = ledger.take_reports();
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

    /// The host goes on although the histories differ (R-239).
    fn on_accept_history(&mut self) {
        let Some(ledger) = self.talk_mut().and_then(|talk| talk.history.as_mut()) else {
            return;
        };
        let id = ledger.id;
        let Some(rebase) = ledger.accept() else {
            return;
        };
        if let Some(head) = rebase {
            self.ask_history(HistoryOutput::Rebase { ledger: id, head });
        }
        self.send_waiting();
        self.record_waiting();
    }

    /// What came before it could be recorded.
    pub(super) fn record_waiting(&mut self) {
        let ledger = self.talk_mut().and_then(|talk| talk.history.as_mut());
        let Some(ledger) = ledger.filter(|ledger| !ledger.is_held()) else {
            return;
        };
        let came = ledger.take_came();
        self.record_received(DATA, came);
    }

    /// The longest message and the peer's window, in bytes, when a stamp may go before each message (R-234).
    pub(super) fn stamped(&self, (max, window): (usize, usize)) -> (usize, usize) {
        let stamp = match self.history {
            HistoryUse::Off => 0,
            HistoryUse::Kept | HistoryUse::Required => STAMP,
        };
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
        for body in ledger.take_waiting() {
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
            let established = secure.progress.established;
            let talk = &mut secure.talk;
            let Some(ledger) = &mut talk.history else {
                return;
            };
            // R-141: what the peer cannot know to have arrived is not stored as if it had.
            if !established {
                ledger.wait(number, message);
                continue;
            }
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
        let reports = reports.map(Ledger::take_reports);
        for event in reports.into_iter().flatten() {
            self.event(event);
        }
    }

    fn deliver(&mut self, channel: u8, number: u64, body: Bytes) {
        self.out.push(Output::Deliver {
            channel,
            number,
            body,
        });
    }

    /// Records are durable: they are sent, or delivered.
    fn on_recorded(&mut self, id: LinkId, records: u64) {
        for _ in 0..records {
            let Some(ledger) = self.ledger(id) else {
                return;
            };
            let channel = ledger.channel;
            match ledger.note_recorded() {
                None => return,
                Some(Storing::Sent(message)) => self.enqueue(id, channel, message),
                Some(Storing::Received(number, deliver)) => {
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

    /// What the peer acknowledged is compared.
    pub(super) fn note_confirmed(&mut self, channel: u8, next: u64, head: Option<[u8; 32]>) {
        let ledger = self.talk_mut().and_then(|talk| talk.history.as_mut());
        let ledger = ledger.filter(|one| one.covers(channel) && one.is_chained());
        match (ledger, head) {
            (None, None) => {}
            (Some(ledger), Some(hash)) => {
                let (id, news) = (ledger.id, ledger.acknowledge(next, hash));
                self.tell_confirmed(id, news);
                self.report_difference();
            }
            (None, Some(_)) | (Some(_), None) => {
                self.fatal(ProtocolViolation::AckHead { channel }.into());
            }
        }
    }

    /// The session ends or is replaced. What was stored of it, or is on its way to be, and was not handed to the host
    /// would not come again: it is delivered now, and not acknowledged (R-244).
    pub(super) fn deliver_left(&mut self) {
        let secure = self.secure.as_mut().map(|secure| &mut secure.talk);
        let suspended = self.suspended.as_mut().map(|one| &mut one.talk);
        let replaced = self.visit.as_mut().and_then(|visit| visit.old.as_mut());
        let talks = replaced.into_iter().chain(suspended).chain(secure);
        for ledger in talks.filter_map(|talk| talk.history.as_mut()) {
            let channel = ledger.channel;
            let left = ledger.take_left().into_iter();
            let deliver = |(number, body)| Output::Deliver {
                channel,
                number,
                body,
            };
            self.out.extend(left.map(deliver));
        }
    }
}

/// The time that stands before a message, how many of ours its author had seen, and the message itself (R-207).
pub(super) fn unstamp(message: &Bytes) -> Option<(u64, u64, Bytes)> {
    let (ts, rest) = message.split_first_chunk()?;
    let (seen, _) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*ts), u48(seen), message.slice(STAMP..)))
}
