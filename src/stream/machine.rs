//! All streams of one channel, in both directions.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{
    MAX_STREAMS,
    giving::{self, Giving, LastWord},
    taking::{self, Taking},
    wire::{self, DATA_OVERHEAD, GivenId, MAX_CONTENT, Message, Offer, Reason, TakenId, Violation},
};

/// What happened to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer offers a stream: answer by [`Machine::accept`] or [`Machine::stop`].
    Offered(TakenId, Offer),
    /// The peer takes a stream of ours: go on by [`Machine::begin`].
    Accepted {
        /// Which.
        id: GivenId,
        /// So many bytes it has already.
        offset: u64,
        /// SHA-256 of those.
        prefix: [u8; 32],
    },
    /// More of a stream of ours may be sent.
    Credit(GivenId),
    /// The peer wants no more of a stream of ours; nothing needs to be said to that.
    Stopped(GivenId, Reason),
    /// The peer has all of a stream of ours.
    Done(GivenId),
    /// What follows starts at this offset: the one that was accepted, or 0.
    Began(TakenId, u64),
    /// Bytes, in order: tell [`Machine::consume`] when they are taken.
    Data(TakenId, Bytes),
    /// That was all, and this is its hash: answer by [`Machine::done`] or [`Machine::stop`].
    Ended(TakenId, [u8; 32]),
    /// There is no more to come of a stream; nothing needs to be said to that.
    Aborted(TakenId, Reason),
    /// The peer says that this side broke a rule. All streams are over.
    Faulted,
}

/// This side has as many streams as it may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_STREAMS} streams of this side are under way: wait for one of them")]
pub struct TooMany;

/// What waits for the channel.
#[derive(Debug)]
enum Queued {
    Message(Message),
    /// The number is filled in when it leaves, so that one message does for many.
    Credit(TakenId),
}

/// The streams of one session. After a violation, or the peer's word of one, it is over: it takes and says nothing more.
#[derive(Debug, Default)]
pub struct Machine {
    given: BTreeMap<u32, Giving>,
    taken: BTreeMap<u32, Taking>,
    /// Numbers of the next streams; a side that used all has no more.
    next_given: u64,
    next_taken: u64,
    queue: VecDeque<Queued>,
    over: bool,
}

/// What this side gives.
impl Machine {
    /// Offers a stream.
    ///
    /// # Errors
    /// [`TooMany`], also when the offer is not valid or all streams are over: nothing was offered.
    pub fn offer(&mut self, offer: Offer) -> Result<GivenId, TooMany> {
        let id = u32::try_from(self.next_given).map_err(|_| TooMany)?;
        if self.over || self.given.len() >= MAX_STREAMS || !offer.is_valid() {
            return Err(TooMany);
        }
        self.next_given += 1;
        self.given.insert(id, Giving::new(&offer));
        self.say(Message::Offer { stream: id, offer });
        Ok(GivenId(id))
    }

    /// Says from where the content follows: the offset of [`Event::Accepted`], or 0. Whether that was possible.
    pub fn begin(&mut self, GivenId(stream): GivenId, offset: u64) -> bool {
        let may = self
            .given
            .get_mut(&stream)
            .is_some_and(|one| one.begin(offset));
        if may {
            self.say(Message::Begin { stream, offset });
        }
        may
    }

    /// How many bytes of a stream may be sent now.
    #[must_use]
    pub fn sendable(&self, GivenId(stream): GivenId) -> u64 {
        self.given.get(&stream).map_or(0, Giving::sendable)
    }

    /// A message with the first of `bytes`, at most `max` bytes long, and how many it holds; `None` while there is no
    /// credit or while other messages wait ([`next_message`](Self::next_message)). It must be sent.
    pub fn data(&mut self, id: GivenId, bytes: &[u8], max: usize) -> Option<(Bytes, usize)> {
        let sendable = usize::try_from(self.sendable(id)).unwrap_or(usize::MAX);
        let len = bytes
            .len()
            .min(sendable)
            .min(max.saturating_sub(DATA_OVERHEAD));
        if len == 0 || !self.queue.is_empty() {
            return None;
        }
        self.given.get_mut(&id.0)?.note_sent(len as u64);
        Some((wire::encode_data(id.0, &bytes[..len]), len))
    }

    /// Ends a stream, with the SHA-256 of its whole content. Whether that was possible: not before the bytes that were
    /// offered were sent.
    pub fn end(&mut self, GivenId(stream): GivenId, hash: [u8; 32]) -> bool {
        let may = self.given.get_mut(&stream).is_some_and(Giving::end);
        if may {
            self.say(Message::End { stream, hash });
        }
        may
    }

    /// Gives a stream up. Nothing, if it is past its end.
    pub fn abort(&mut self, GivenId(stream): GivenId, reason: Reason) {
        if let Some(giving) = self.given.get_mut(&stream).filter(|one| one.is_open()) {
            giving.last_word = LastWord::Queued;
            self.say(Message::Abort { stream, reason });
        }
    }
}

/// What this side takes.
impl Machine {
    /// Takes a stream of which `offset` bytes with this hash are here, and which may be `window` bytes ahead of the
    /// host. Whether that was possible.
    pub fn accept(
        &mut self,
        TakenId(stream): TakenId,
        (offset, prefix): (u64, [u8; 32]),
        window: u64,
    ) -> bool {
        let credit = window.min(MAX_CONTENT);
        let taking = self.taken.get_mut(&stream);
        let may = taking.is_some_and(|one| one.accept(offset, credit));
        if may {
            self.say(Message::Accept {
                stream,
                offset,
                credit,
                prefix,
            });
        }
        may
    }

    /// The host took bytes: more may come.
    pub fn consume(&mut self, id: TakenId, bytes: u64) {
        let taking = self.taken.get_mut(&id.0);
        if taking.is_some_and(|one| one.consume(bytes)) {
            self.queue.push_back(Queued::Credit(id));
        }
    }

    /// All of it is here and its hash is right. Whether that was possible: only after [`Event::Ended`].
    pub fn done(&mut self, TakenId(stream): TakenId) -> bool {
        let may = self.taken.get_mut(&stream).is_some_and(Taking::done);
        if may {
            self.say(Message::Done { stream });
        }
        may
    }

    /// Wants no more of a stream, or none at all.
    pub fn stop(&mut self, TakenId(stream): TakenId, reason: Reason) {
        if let Some(taking) = self.taken.get_mut(&stream).filter(|one| one.is_open()) {
            taking.last_word = LastWord::Queued;
            self.say(Message::Stop { stream, reason });
        }
    }
}

/// The channel.
impl Machine {
    /// Takes in a message of the peer; what it means goes to `out`.
    ///
    /// # Errors
    /// What the peer did that no correct peer does. All streams are over, and the peer is told so (S-5).
    pub fn receive(&mut self, message: &Bytes, out: &mut Vec<Event>) -> Result<(), Violation> {
        if self.over {
            return Ok(());
        }
        let result = Message::decode(message).and_then(|message| self.handle(message, out));
        if result.is_err() {
            self.stop_all();
            self.queue.push_back(Queued::Message(Message::Fault));
        }
        result
    }

    /// The next message for the peer. It must be sent, before any that is asked for later.
    pub fn next_message(&mut self) -> Option<Bytes> {
        loop {
            let message = match self.queue.pop_front()? {
                Queued::Message(message) => message,
                Queued::Credit(TakenId(stream)) => {
                    let taking = self.taken.get_mut(&stream);
                    let Some(credit) = taking.and_then(Taking::send_credit) else {
                        continue;
                    };
                    Message::Credit { stream, credit }
                }
            };
            self.note_sent(&message);
            return Some(message.encode());
        }
    }

    /// A rule was broken, by either side.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn handle(&mut self, message: Message, out: &mut Vec<Event>) -> Result<(), Violation> {
        let kind = message.kind();
        match message {
            Message::Offer { stream, offer } => self.on_offer(stream, offer, out),
            Message::Begin { stream, .. }
            | Message::Data { stream, .. }
            | Message::End { stream, .. }
            | Message::Abort { stream, .. } => {
                let unknown = Violation::UnknownStream { kind, stream };
                let taking = self.taken.get_mut(&stream).ok_or(unknown)?;
                let heard = taking.receive(stream, &message)?;
                self.on_giver(stream, heard, message, out);
                Ok(())
            }
            Message::Accept { stream, .. }
            | Message::Credit { stream, .. }
            | Message::Done { stream }
            | Message::Stop { stream, .. } => {
                let unknown = Violation::UnknownStream { kind, stream };
                let giving = self.given.get_mut(&stream).ok_or(unknown)?;
                let heard = giving.receive(stream, &message)?;
                self.on_taker(stream, heard, &message, out);
                Ok(())
            }
            Message::Fault => {
                self.stop_all();
                out.push(Event::Faulted);
                Ok(())
            }
        }
    }

    fn on_offer(
        &mut self,
        stream: u32,
        offer: Offer,
        out: &mut Vec<Event>,
    ) -> Result<(), Violation> {
        if u64::from(stream) != self.next_taken {
            return Err(Violation::OfferOrder {
                expected: u32::try_from(self.next_taken).unwrap_or(u32::MAX),
                found: stream,
            });
        }
        if self.taken.len() >= MAX_STREAMS {
            return Err(Violation::TooManyStreams);
        }
        self.next_taken += 1;
        self.taken.insert(stream, Taking::new(&offer));
        out.push(Event::Offered(TakenId(stream), offer));
        Ok(())
    }

    fn on_giver(
        &mut self,
        stream: u32,
        heard: taking::Heard,
        message: Message,
        out: &mut Vec<Event>,
    ) {
        let id = TakenId(stream);
        match (heard, message) {
            (taking::Heard::Began(offset), _) => out.push(Event::Began(id, offset)),
            (taking::Heard::Data, Message::Data { bytes, .. }) => out.push(Event::Data(id, bytes)),
            (taking::Heard::Ended(hash), _) => out.push(Event::Ended(id, hash)),
            (taking::Heard::Aborted(reason), _) => {
                self.stop(id, Reason::Cancelled);
                out.push(Event::Aborted(id, reason));
            }
            (taking::Heard::Nothing | taking::Heard::Data, _) => {}
        }
        self.forget_taken(stream);
    }

    fn on_taker(
        &mut self,
        stream: u32,
        heard: giving::Heard,
        message: &Message,
        out: &mut Vec<Event>,
    ) {
        let id = GivenId(stream);
        match (heard, message) {
            (giving::Heard::Accepted, Message::Accept { offset, prefix, .. }) => {
                out.push(Event::Accepted {
                    id,
                    offset: *offset,
                    prefix: *prefix,
                });
            }
            (giving::Heard::Credit, _) => out.push(Event::Credit(id)),
            (giving::Heard::Done, _) => out.push(Event::Done(id)),
            (giving::Heard::Stopped(reason), _) => {
                self.abort(id, Reason::Cancelled);
                out.push(Event::Stopped(id, reason));
            }
            (giving::Heard::Nothing | giving::Heard::Accepted, _) => {}
        }
        self.forget_given(stream);
    }

    fn say(&mut self, message: Message) {
        self.queue.push_back(Queued::Message(message));
    }

    /// A last word that was handed over may be all that a stream waited for (S-3).
    fn note_sent(&mut self, message: &Message) {
        match message {
            Message::End { stream, .. } | Message::Abort { stream, .. } => {
                if let Some(giving) = self.given.get_mut(stream) {
                    giving.last_word = LastWord::Sent;
                }
                self.forget_given(*stream);
            }
            Message::Done { stream } | Message::Stop { stream, .. } => {
                if let Some(taking) = self.taken.get_mut(stream) {
                    taking.last_word = LastWord::Sent;
                }
                self.forget_taken(*stream);
            }
            Message::Offer { .. }
            | Message::Accept { .. }
            | Message::Begin { .. }
            | Message::Data { .. }
            | Message::Credit { .. }
            | Message::Fault => {}
        }
    }

    fn forget_given(&mut self, stream: u32) {
        if self.given.get(&stream).is_some_and(Giving::is_over) {
            self.given.remove(&stream);
        }
    }

    fn forget_taken(&mut self, stream: u32) {
        if self.taken.get(&stream).is_some_and(Taking::is_over) {
            self.taken.remove(&stream);
        }
    }

    fn stop_all(&mut self) {
        self.over = true;
        self.given.clear();
        self.taken.clear();
        self.queue.clear();
    }
}
