//! One stream that the peer gives.

use super::{
    giving::LastWord,
    wire::{MAX_CONTENT, Message, Offer, Reason, Violation},
};

/// What a message of the giver means to the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing: the host has turned away.
    Nothing,
    Began(u64),
    Data,
    Ended([u8; 32]),
    Aborted(Reason),
}

#[derive(Debug)]
pub(super) struct Taking {
    size: Option<u64>,
    /// Whether some of it may be here already.
    resumable: bool,
    /// The offset of our ACCEPT.
    accepted: Option<u64>,
    /// The offset of BEGIN.
    began: Option<u64>,
    /// Bytes that came, that the host took, and that may come, from BEGIN on.
    received: u64,
    consumed: u64,
    granted: u64,
    window: u64,
    /// A CREDIT waits for the channel.
    credit_queued: bool,
    /// END or ABORT came.
    finished: bool,
    ended: bool,
    pub(super) last_word: LastWord,
}

impl Taking {
    pub(super) fn new(offer: &Offer) -> Self {
        Self {
            size: offer.size,
            resumable: offer.content != [0; 32],
            accepted: None,
            began: None,
            received: 0,
            consumed: 0,
            granted: 0,
            window: 0,
            credit_queued: false,
            finished: false,
            ended: false,
            last_word: LastWord::Unspoken,
        }
    }

    /// Neither side has anything to say about it (S-3).
    pub(super) fn is_over(&self) -> bool {
        self.last_word == LastWord::Sent && self.finished
    }

    pub(super) fn is_open(&self) -> bool {
        self.last_word == LastWord::Unspoken
    }

    /// Takes it from `offset` on, `window` bytes at a time. Whether it may.
    pub(super) fn accept(&mut self, offset: u64, window: u64) -> bool {
        let most = if self.resumable {
            self.size.unwrap_or(MAX_CONTENT)
        } else {
            0
        };
        let fits = offset <= most;
        let may = self.is_open() && !self.finished && self.accepted.is_none() && fits;
        if may {
            self.accepted = Some(offset);
            (self.granted, self.window) = (window, window);
        }
        may
    }

    /// The host took bytes. Whether a CREDIT is to be queued: once half of the window is free, and bytes are to come.
    pub(super) fn consume(&mut self, bytes: u64) -> bool {
        self.consumed = self.received.min(self.consumed.saturating_add(bytes));
        let granted = self.consumed.saturating_add(self.window).min(MAX_CONTENT);
        let to_come = self.size.unwrap_or(MAX_CONTENT) - self.began.unwrap_or_default();
        let worth = granted - self.granted.min(granted) >= self.window.div_ceil(2);
        if self.finished || !self.is_open() || !worth || self.granted >= to_come {
            return false;
        }
        self.granted = granted;
        !std::mem::replace(&mut self.credit_queued, true)
    }

    /// The CREDIT that leaves now, if it still matters.
    pub(super) fn send_credit(&mut self) -> Option<u64> {
        self.credit_queued = false;
        (self.is_open() && !self.finished).then_some(self.granted)
    }

    /// Whether DONE may be said.
    pub(super) fn done(&mut self) -> bool {
        let may = self.ended && self.is_open();
        if may {
            self.last_word = LastWord::Queued;
        }
        may
    }

    /// A message of the giver about this stream (S-20 to S-26).
    pub(super) fn receive(&mut self, stream: u32, message: &Message) -> Result<Heard, Violation> {
        let out_of_turn = Violation::OutOfTurn {
            kind: message.kind(),
            stream,
        };
        if self.finished {
            return Err(out_of_turn);
        }
        let heard = match (message, self.accepted, self.began) {
            (Message::Begin { offset, .. }, Some(accepted), None) => {
                if *offset != accepted && *offset != 0 {
                    return Err(Violation::WrongSize { stream });
                }
                self.began = Some(*offset);
                Heard::Began(*offset)
            }
            (Message::Data { bytes, .. }, _, Some(start)) => {
                self.receive_data(stream, start, bytes.len() as u64)?;
                Heard::Data
            }
            (Message::End { hash, .. }, _, Some(start)) => {
                if self.size.is_some_and(|size| size != start + self.received) {
                    return Err(Violation::WrongSize { stream });
                }
                (self.finished, self.ended) = (true, true);
                Heard::Ended(*hash)
            }
            (Message::Abort { reason, .. }, _, _) => {
                self.finished = true;
                Heard::Aborted(*reason)
            }
            _ => return Err(out_of_turn),
        };
        Ok(if self.is_open() {
            heard
        } else {
            Heard::Nothing
        })
    }

    fn receive_data(&mut self, stream: u32, start: u64, len: u64) -> Result<(), Violation> {
        let received = self.received.saturating_add(len);
        if received > self.granted {
            let excess = received - self.granted;
            return Err(Violation::BeyondCredit { stream, excess });
        }
        if received > self.size.unwrap_or(MAX_CONTENT) - start {
            return Err(Violation::WrongSize { stream });
        }
        self.received = received;
        Ok(())
    }
}
