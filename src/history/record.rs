//! One line of a history, and its bytes (R-237).
//!
//! ```text
//! kind 1 | author 1 (0 me, 1 peer) | ts_ms u64 | rest
//!   1 chained   n u64 | seen u64 | 0 | body            or  n u64 | seen u64 | 1 | SHA-256 of the body
//!   2 loose     body
//!   3 queued    body
//!   4 break     n u64 | hash 32
//! ```
//! There is one encoding of each record.

use bytes::Bytes;

use super::chain::{Author, Chain, Head, body_hash};

const CHAINED: u8 = 1;
const LOOSE: u8 = 2;
const QUEUED: u8 = 3;
const BREAK: u8 = 4;

/// Bytes of a record that come before what is particular to its kind.
const PREFIX: usize = 1 + 1 + 8;

/// One line of a history.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A message that is part of its author's chain.
    Chained {
        /// Who wrote it.
        author: Author,
        /// Its number in the chain, from 0.
        n: u64,
        /// How many messages of the other its author had accepted.
        seen: u64,
        /// When it was sent, by its author's clock: unix time in milliseconds.
        ts_ms: u64,
        /// What it says.
        body: Body,
    },
    /// A message of a session without chains, because the peer keeps none: nothing ever compares it.
    Loose {
        /// Who wrote it.
        author: Author,
        /// When it was sent or received, by this side's clock.
        ts_ms: u64,
        /// What it says.
        body: Bytes,
    },
    /// A message of this side that waits for a session.
    Queued {
        /// When it was written.
        ts_ms: u64,
        /// What it says.
        body: Bytes,
    },
    /// This side's chain goes on from here: the two sides differed, and the host went on all the same.
    Break {
        /// When.
        ts_ms: u64,
        /// From where.
        head: Head,
    },
}

/// What a chained message says.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// It was deleted here: its SHA-256, for the chain's sake.
    Erased([u8; 32]),
}

impl Body {
    /// Its SHA-256.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        match self {
            Self::Whole(body) => body_hash(body),
            Self::Erased(hash) => *hash,
        }
    }
}

impl std::fmt::Debug for Body {
    /// How long it is: what people write stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(body) => write!(f, "Whole({} bytes)", body.len()),
            Self::Erased(_) => f.write_str("Erased"),
        }
    }
}

impl std::fmt::Debug for Record {
    /// What it is and how long: what people write stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (author, len) = (self.author(), self.len());
        match self {
            Self::Chained { n, seen, .. } => {
                write!(f, "Chained({author:?} {n}, seen {seen}, {len} bytes)")
            }
            Self::Loose { .. } => write!(f, "Loose({author:?}, {len} bytes)"),
            Self::Queued { .. } => write!(f, "Queued({len} bytes)"),
            Self::Break { head, .. } => write!(f, "Break({})", head.n),
        }
    }
}

impl Record {
    /// When it was written.
    #[must_use]
    pub const fn ts_ms(&self) -> u64 {
        match self {
            Self::Chained { ts_ms, .. }
            | Self::Loose { ts_ms, .. }
            | Self::Queued { ts_ms, .. }
            | Self::Break { ts_ms, .. } => *ts_ms,
        }
    }

    /// Whose chain it belongs to, or stands beside.
    #[must_use]
    pub const fn author(&self) -> Author {
        match self {
            Self::Chained { author, .. } | Self::Loose { author, .. } => *author,
            Self::Queued { .. } | Self::Break { .. } => Author::Me,
        }
    }

    /// Bytes of its body.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Chained { body, .. } => match body {
                Body::Whole(body) => body.len(),
                Body::Erased(hash) => hash.len(),
            },
            Self::Loose { body, .. } | Self::Queued { body, .. } => body.len(),
            Self::Break { .. } => 0,
        }
    }

    /// Whether it has no body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, appended to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Chained { .. } => CHAINED,
            Self::Loose { .. } => LOOSE,
            Self::Queued { .. } => QUEUED,
            Self::Break { .. } => BREAK,
        };
        let author = match self.author() {
            Author::Me => 0,
            Author::Peer => 1,
        };
        out.extend_from_slice(&[kind, author]);
        out.extend_from_slice(&self.ts_ms().to_be_bytes());
        match self {
            Self::Chained { n, seen, body, .. } => {
                out.extend_from_slice(&n.to_be_bytes());
                out.extend_from_slice(&seen.to_be_bytes());
                match body {
                    Body::Whole(body) => {
                        out.push(0);
                        out.extend_from_slice(body);
                    }
                    Body::Erased(hash) => {
                        out.push(1);
                        out.extend_from_slice(hash);
                    }
                }
            }
            Self::Loose { body, .. } | Self::Queued { body, .. } => out.extend_from_slice(body),
            Self::Break { head, .. } => {
                out.extend_from_slice(&head.n.to_be_bytes());
                out.extend_from_slice(&head.hash);
            }
        }
    }

    /// What [`encode`](Self::encode) wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let (&[kind, author, ref ts @ ..], rest) = bytes.split_first_chunk::<PREFIX>()?;
        let ts_ms = u64::from_be_bytes(*ts);
        let author = match author {
            0 => Author::Me,
            1 => Author::Peer,
            _ => return None,
        };
        let body = bytes.slice(PREFIX..);
        match (kind, author) {
            (CHAINED, _) => {
                let (n, rest) = rest.split_first_chunk()?;
                let (seen, rest) = rest.split_first_chunk()?;
                let (&erased, rest) = rest.split_first()?;
                let body = match erased {
                    0 => Body::Whole(bytes.slice(PREFIX + 17..)),
                    1 => Body::Erased(rest.try_into().ok()?),
                    _ => return None,
                };
                Some(Self::Chained {
                    author,
                    n: u64::from_be_bytes(*n),
                    seen: u64::from_be_bytes(*seen),
                    ts_ms,
                    body,
                })
            }
            (LOOSE, _) => Some(Self::Loose {
                author,
                ts_ms,
                body,
            }),
            (QUEUED, Author::Me) => Some(Self::Queued { ts_ms, body }),
            (BREAK, Author::Me) => {
                let (n, hash) = rest.split_first_chunk()?;
                let n = u64::from_be_bytes(*n);
                let hash = hash.try_into().ok()?;
                let head = Head { n, hash };
                Some(Self::Break { ts_ms, head })
            }
            _ => None,
        }
    }
}

/// How far both chains go at some place of a history, when all before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The position of the next record, at least.
    pub position: u64,
    /// This side's chain.
    pub sent: Chain,
    /// The peer's chain.
    pub received: Chain,
}

impl Place {
    /// The chain of an author.
    #[must_use]
    pub const fn chain(&self, author: Author) -> &Chain {
        match author {
            Author::Me => &self.sent,
            Author::Peer => &self.received,
        }
    }

    /// The place behind a record at `position`. `None`: it does not follow, so records were removed, added or moved.
    #[must_use]
    pub fn after(&self, position: u64, record: &Record) -> Option<Self> {
        if position < self.position {
            return None;
        }
        let mut place = Self {
            position: position.checked_add(1)?,
            ..*self
        };
        match record {
            Record::Chained {
                author,
                n,
                seen,
                ts_ms,
                body,
            } => {
                let chain = match author {
                    Author::Me => &mut place.sent,
                    Author::Peer => &mut place.received,
                };
                if *n != chain.head.n {
                    return None;
                }
                *chain = chain.with(*seen, *ts_ms, &body.hash());
            }
            Record::Break { head, .. } => place.sent.head = *head,
            Record::Loose { .. } | Record::Queued { .. } => {}
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<Record> {
        let body = Bytes::from_static(b"body");
        let chained = |author, body| Record::Chained {
            author,
            n: 1,
            seen: 2,
            ts_ms: 3,
            body,
        };
        vec![
            chained(Author::Me, Body::Whole(body.clone())),
            chained(Author::Peer, Body::Whole(Bytes::new())),
            chained(Author::Peer, Body::Erased([4; 32])),
            Record::Loose {
                author: Author::Peer,
                ts_ms: 5,
                body: body.clone(),
            },
            Record::Queued { ts_ms: 6, body },
            Record::Break {
                ts_ms: 7,
                head: Head {
                    n: 8,
                    hash: [9; 32],
                },
            },
        ]
    }

    /// R-237.
    #[test]
    fn every_record_reads_back_as_it_was_written_r237() {
        for record in every_kind() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes.into()), Some(record));
        }
    }

    /// R-237.
    #[test]
    fn what_is_no_record_is_refused_r237() {
        for record in every_kind() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for at in [0, 1] {
                let mut other = bytes.clone();
                other[at] = 9;
                assert_eq!(Record::decode(&other.into()), None);
            }
            let fixed = match record {
                Record::Loose { .. } | Record::Queued { .. } => PREFIX,
                Record::Chained {
                    body: Body::Whole(_),
                    ..
                } => PREFIX + 17,
                Record::Chained { .. } | Record::Break { .. } => bytes.len(),
            };
            for len in 0..fixed {
                assert_eq!(Record::decode(&bytes[..len].to_vec().into()), None);
            }
        }
    }
}
