//! Messages of a history as hosts see them, and which of them are wanted.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{Author, Body, Record};
use crate::message::{CodecError, Content, Timestamp, codec};

/// One message of a history.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its place: later ones have higher positions. A message that waited moves to the end when it is sent.
    pub position: u64,
    /// Who wrote it.
    pub author: Author,
    /// When it was sent, by its author's clock.
    pub timestamp: Timestamp,
    /// What became of it.
    pub state: EntryState,
    /// Its number in its author's chain, from 0, and how many messages of the other its author had accepted. `None`: it
    /// is in no chain.
    pub chained: Option<(u64, u64)>,
    /// The body as it travelled; `None`: it was deleted here.
    pub body: Option<Bytes>,
}

impl std::fmt::Debug for Entry {
    /// All but what it says, which stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            position,
            author,
            timestamp,
            state,
            chained,
            body,
        } = self;
        f.debug_struct("Entry")
            .field("position", position)
            .field("author", author)
            .field("timestamp", timestamp)
            .field("state", state)
            .field("chained", chained)
            .field("len", &body.as_ref().map(Bytes::len))
            .finish()
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryState {
    /// It waits for a session.
    Queued,
    /// It was given to a session, and the peer has not confirmed it.
    Sent,
    /// The peer confirmed it by an equal head.
    Delivered,
    /// It came from the peer.
    Received,
}

/// Which messages of a conversation are wanted, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Only those before this position: that of the last entry of the page before. Default: from the newest on.
    pub before: u64,
    /// At most this many. Default 50.
    pub limit: usize,
    /// Only those sent in this time, by their authors' clocks, both ends included. Default: any.
    pub between: RangeInclusive<Timestamp>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            before: u64::MAX,
            limit: 50,
            between: Timestamp::from_unix_ms(0)..=Timestamp::from_unix_ms(u64::MAX),
        }
    }
}

impl Page {
    /// The newest messages.
    #[must_use]
    pub fn newest(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Those before this position.
    #[must_use]
    pub fn before(mut self, position: u64) -> Self {
        self.before = position;
        self
    }

    /// Those sent in this time, both ends included.
    #[must_use]
    pub fn between(mut self, times: RangeInclusive<Timestamp>) -> Self {
        self.between = times;
        self
    }
}

impl Entry {
    /// What it says, where it is a message of this crate; `None`: it was deleted here.
    ///
    /// # Errors
    /// [`CodecError`] where this version cannot read it, as with [`Bodies::Raw`](crate::session::Bodies::Raw).
    pub fn content(&self) -> Option<std::result::Result<Content, CodecError>> {
        let decoded = codec::decode(self.body.as_ref()?);
        Some(decoded.map(|(content, _)| content))
    }

    pub(super) fn new(position: u64, record: Record, confirmed: u64) -> Option<Self> {
        let timestamp = Timestamp::from_unix_ms(record.ts_ms());
        let author = record.author();
        let sent = |delivered| match (author, delivered) {
            (Author::Peer, _) => EntryState::Received,
            (Author::Me, true) => EntryState::Delivered,
            (Author::Me, false) => EntryState::Sent,
        };
        let (state, chained, body) = match record {
            Record::Chained { n, seen, body, .. } => {
                let body = match body {
                    Body::Whole(body) => Some(body),
                    Body::Erased(_) => None,
                };
                (sent(n < confirmed), Some((n, seen)), body)
            }
            Record::Loose { body, .. } => (sent(false), None, Some(body)),
            Record::Queued { body, .. } => (EntryState::Queued, None, Some(body)),
            Record::Break { .. } => return None,
        };
        Some(Self {
            position,
            author,
            timestamp,
            state,
            chained,
            body,
        })
    }
}
