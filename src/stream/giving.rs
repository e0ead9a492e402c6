//! One stream that this side gives.

use super::wire::{MAX_CONTENT, Message, Offer, Reason, Violation};

/// How far this side's last word about a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastWord {
    /// It is not spoken.
    Unspoken,
    /// It waits for the channel.
    Queued,
    /// It was handed to the channel.
    Sent,
}

/// What a message of the taker means to the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing: the host has turned away.
    Nothing,
    Accepted,
    Credit,
    Stopped(Reason),
    Done,
}

#[derive(Debug)]
pub(super) struct Giving {
    size: Option<u64>,
    /// Whether the taker may have some of it already.
    resumable: bool,
    /// The offset of ACCEPT.
    accepted: Option<u64>,
    /// The offset of our BEGIN.
    began: Option<u64>,
    /// Bytes that may be sent and that were, from BEGIN on.
    credit: u64,
    sent: u64,
    /// END is spoken, or waits to be.
    ended: bool,
    pub(super) last_word: LastWord,
    /// DONE or STOP came.
    answered: bool,
}

impl Giving {
    pub(super) fn new(offer: &Offer) -> Self {
        Self {
            size: offer.size,
            resumable: offer.content != [0; 32],
            accepted: None,
            began: None,
            credit: 0,
            sent: 0,
            ended: false,
            last_word: LastWord::Unspoken,
            answered: false,
        }
    }

    /// Neither side has anything to say about it (S-3).
    pub(super) fn is_over(&self) -> bool {
        self.last_word == LastWord::Sent && self.answered
    }

    pub(super) fn is_open(&self) -> bool {
        self.last_word == LastWord::Unspoken
    }

    /// Bytes that may be sent now.
    pub(super) fn sendable(&self) -> u64 {
        let Some(start) = self.began.filter(|_| self.is_open()) else {
            return 0;
        };
        let left = self.size.unwrap_or(MAX_CONTENT) - start - self.sent;
        left.min(self.credit - self.sent)
    }

    /// Starts at the offset of ACCEPT or at 0. Whether it may.
    pub(super) fn begin(&mut self, offset: u64) -> bool {
        let may = self.is_open()
            && self.began.is_none()
            && self
                .accepted
                .is_some_and(|accepted| offset == accepted || offset == 0);
        if may {
            self.began = Some(offset);
        }
        may
    }

    pub(super) fn note_sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Whether END may be said: all bytes of a known size were sent.
    pub(super) fn end(&mut self) -> bool {
        let whole = self.began.is_some_and(|start| {
            let total = start + self.sent;
            self.size.is_none_or(|size| size == total)
        });
        if whole && self.is_open() {
            (self.ended, self.last_word) = (true, LastWord::Queued);
            return true;
        }
        false
    }

    /// A message of the taker about this stream (S-13 to S-19).
    pub(super) fn receive(&mut self, stream: u32, message: &Message) -> Result<Heard, Violation> {
        let out_of_turn = Violation::OutOfTurn {
            kind: message.kind(),
            stream,
        };
        let heard = match *message {
            Message::Accept { offset, credit, .. } if self.accepted.is_none() => {
                let most = if self.resumable {
                    self.size.unwrap_or(MAX_CONTENT)
                } else {
                    0
                };
                if offset > most {
                    return Err(Violation::WrongSize { stream });
                }
                (self.accepted, self.credit) = (Some(offset), credit);
                Heard::Accepted
            }
            Message::Credit { credit, .. } if self.accepted.is_some() && credit > self.credit => {
                self.credit = credit;
                Heard::Credit
            }
            Message::Done { .. } if self.ended && self.last_word == LastWord::Sent => Heard::Done,
            Message::Stop { reason, .. } => Heard::Stopped(reason),
            Message::Accept { .. }
            | Message::Credit { .. }
            | Message::Done { .. }
            | Message::Offer { .. }
            | Message::Begin { .. }
            | Message::Data { .. }
            | Message::End { .. }
            | Message::Abort { .. }
            | Message::Fault => return Err(out_of_turn),
        };
        if self.answered {
            return Err(out_of_turn);
        }
        let is_last = matches!(heard, Heard::Done | Heard::Stopped(_));
        self.answered = is_last;
        if self.is_open() || (self.ended && is_last) {
            return Ok(heard);
        }
        Ok(Heard::Nothing)
    }
}
