//! What is known of one pair's history while it is open: where both chains stand, and where to begin reading. It is
//! built by reading everything once, which verifies it; then no page needs more than a few blocks.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Change, Durability, HistoryError, Place, Record, State,
    chain::{Author, Head, Pair, Standing},
};

/// Records of a block.
const BLOCK_RECORDS: usize = 64;
/// Bytes of bodies after which a block ends.
const BLOCK_BYTES: usize = 1 << 20;
/// Messages that may wait for a session, and the bytes of their bodies.
const MAX_QUEUED: usize = 10_000;
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// A run of records, and the times in it.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) start: Place,
    records: usize,
    bytes: usize,
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
}

/// One pair's history.
#[derive(Debug)]
pub(super) struct Book {
    pair: Pair,
    state: State,
    end: Place,
    blocks: Vec<Block>,
    /// Hashes of this side's chain from `state.confirmed` on.
    tail: VecDeque<[u8; 32]>,
    /// The oldest position of this side's chained messages that are not confirmed, or a later one.
    unconfirmed: VecDeque<u64>,
    /// Positions of messages that wait, and their lengths.
    queued: BTreeMap<u64, usize>,
    queued_bytes: usize,
    /// A session has taken what waits, and would not send what is queued from here on.
    is_taken: bool,
}

impl Book {
    /// A book without records, to be filled by [`Book::note`].
    pub(super) fn new(pair: Pair, state: State) -> Self {
        let sent = state.floor.sent.head;
        Self {
            pair,
            end: state.floor,
            blocks: Vec::new(),
            tail: VecDeque::from_iter((sent.n >= state.confirmed).then_some(sent.hash)),
            unconfirmed: VecDeque::new(),
            queued: BTreeMap::new(),
            queued_bytes: 0,
            is_taken: false,
            state,
        }
    }

    pub(super) fn end(&self) -> Place {
        self.end
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Takes a record that is stored, in order.
    pub(super) fn note(&mut self, position: u64, record: &Record) -> Result<(), HistoryError> {
        let damaged = |reason| HistoryError::Damaged { position, reason };
        if position >= self.state.next {
            return Err(damaged("it was added"));
        }
        let end = self.end.after(position, record);
        let end = end.ok_or(damaged("it does not follow the one before"))?;
        self.add_to_block(position, record);
        match record {
            Record::Chained {
                author: Author::Me, ..
            } => {
                let head = end.sent.head;
                if head.n == self.state.confirmed {
                    self.tail.clear();
                }
                if head.n >= self.state.confirmed {
                    self.tail.push_back(head.hash);
                }
                if head.n > self.state.confirmed {
                    self.unconfirmed.push_back(position);
                }
            }
            Record::Break { head, .. } => {
                self.tail = VecDeque::from([head.hash]);
                self.unconfirmed.clear();
            }
            Record::Queued { body, .. } => {
                self.queued.insert(position, body.len());
                self.queued_bytes += body.len();
            }
            Record::Chained { .. } | Record::Loose { .. } => {}
        }
        self.end = end;
        Ok(())
    }

    fn add_to_block(&mut self, position: u64, record: &Record) {
        let (ts_ms, len) = (record.ts_ms(), record.len());
        let full =
            |block: &Block| block.records >= BLOCK_RECORDS || block.bytes + len > BLOCK_BYTES;
        if self.blocks.last().is_none_or(full) {
            self.blocks.push(Block {
                start: Place {
                    position,
                    ..self.end
                },
                records: 0,
                bytes: 0,
                from_ms: ts_ms,
                until_ms: ts_ms,
            });
        }
        if let Some(block) = self.blocks.last_mut() {
            block.records += 1;
            block.bytes += len;
            block.from_ms = block.from_ms.min(ts_ms);
            block.until_ms = block.until_ms.max(ts_ms);
        }
    }

    /// Where both chains stand.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            sent: self.end.sent,
            received: self.end.received,
            confirmed: self.state.confirmed,
            tail: self.tail.iter().copied().collect(),
        }
    }

    /// The change that adds these records. `settled`: positions of waiting messages that are among them.
    pub(super) fn add(
        &mut self,
        records: Vec<Record>,
        settled: &[u64],
    ) -> Result<Change, HistoryError> {
        let mut put = Vec::with_capacity(records.len());
        for record in records {
            let position = self.state.next;
            let before = self.hash_before(&self.end, &record);
            self.state.next += 1;
            self.note(position, &record)?;
            put.push((position, before, record));
        }
        Ok(Change {
            state: Some(self.state.clone()),
            remove: settled.iter().map(|at| self.unqueue(*at)).collect(),
            put,
            durability: Durability::Now,
        })
    }

    fn unqueue(&mut self, position: u64) -> std::ops::Range<u64> {
        let len = self.queued.remove(&position).unwrap_or_default();
        self.queued_bytes -= len;
        position..position + 1
    }

    /// From here on what is queued would not be sent by the session that is on.
    #[cfg(feature = "session")]
    pub(super) fn set_taken(&mut self, is_taken: bool) {
        self.is_taken = is_taken;
    }

    /// Whether another message of this length may wait.
    pub(super) fn check_queue(&self, len: usize) -> Result<(), HistoryError> {
        if self.is_taken {
            return Err(HistoryError::InUse("a session with this peer sends"));
        }
        if self.queued.len() >= MAX_QUEUED || self.queued_bytes + len > MAX_QUEUED_BYTES {
            return Err(HistoryError::QueueFull);
        }
        Ok(())
    }

    /// Positions of the messages that wait, in their order.
    pub(super) fn queued(&self) -> Vec<u64> {
        self.queued.keys().copied().collect()
    }

    /// The hash that a record is stored with: of its author's chain before it, or of where that begins.
    pub(super) fn hash_before(&self, place: &Place, record: &Record) -> [u8; 32] {
        hash_before(&self.pair, place, record)
    }

    /// The peer confirmed this many messages of this side's chain.
    pub(super) fn confirm(&mut self, n: u64) -> Change {
        let news = n.saturating_sub(self.state.confirmed);
        for _ in 0..news {
            if self.tail.len() > 1 {
                self.tail.pop_front();
            }
            self.unconfirmed.pop_front();
        }
        self.state.confirmed = self.state.confirmed.max(n);
        Change {
            state: Some(self.state.clone()),
            remove: Vec::new(),
            put: Vec::new(),
            durability: Durability::Soon,
        }
    }

    /// The position of this side's message number `n`, when it is not confirmed.
    pub(super) fn unconfirmed_from(&self, n: u64) -> Option<u64> {
        let at = usize::try_from(n.checked_sub(self.state.confirmed)?).ok()?;
        self.unconfirmed.get(at).copied()
    }

    /// Cuts this side's chain back to `n` messages: what came after them, from `records`, waits to be sent again.
    /// What was deleted here goes.
    pub(super) fn cut(&mut self, n: u64, records: &[(u64, Record)]) -> Option<Change> {
        let at = usize::try_from(n.checked_sub(self.state.confirmed)?).ok()?;
        let head = Head {
            n,
            hash: *self.tail.get(at)?,
        };
        let first = self.unconfirmed_from(n)?;
        let (mut put, mut remove) = (Vec::new(), Vec::new());
        let start = self.pair.start(Author::Me).head.hash;
        for (position, record) in records.iter().filter(|(position, _)| *position >= first) {
            let Record::Chained {
                author: Author::Me,
                ts_ms,
                body,
                ..
            } = record
            else {
                continue;
            };
            match body {
                super::Body::Whole(body) => {
                    let (ts_ms, body) = (*ts_ms, body.clone());
                    self.queued.insert(*position, body.len());
                    self.queued_bytes += body.len();
                    put.push((*position, start, Record::Queued { ts_ms, body }));
                }
                super::Body::Erased(_) => remove.push(*position..position + 1),
            }
        }
        self.unconfirmed.truncate(at);
        self.tail.truncate(at + 1);
        self.end.sent.head = head;
        for block in &mut self.blocks {
            if block.start.position > first {
                block.start.sent.head = head;
            }
        }
        Some(Change {
            state: Some(self.state.clone()),
            remove,
            put,
            durability: Durability::Now,
        })
    }

    /// The change that deletes all content: what is confirmed goes, and of what is not the hashes stay, out of `records`.
    pub(super) fn delete(&mut self, records: &[(u64, Record)]) -> Change {
        let erased = records.iter().filter_map(|(position, record)| {
            let Record::Chained {
                author: Author::Me,
                n,
                seen,
                ts_ms,
                body,
            } = record
            else {
                return None;
            };
            let erased = Record::Chained {
                author: Author::Me,
                n: *n,
                seen: *seen,
                ts_ms: *ts_ms,
                body: super::Body::Erased(body.hash()),
            };
            let unconfirmed = self.unconfirmed.contains(position);
            unconfirmed.then_some((*position, erased))
        });
        let erased: Vec<(u64, Record)> = erased.collect();
        let mut sent = self.end.sent;
        if let (Some(hash), false) = (self.tail.front(), erased.is_empty()) {
            sent.head = Head {
                n: self.state.confirmed,
                hash: *hash,
            };
        }
        let state = State {
            floor: Place {
                position: erased.first().map_or(self.state.next, |(at, _)| *at),
                sent,
                received: self.end.received,
            },
            ..self.state.clone()
        };
        let mut fresh = Self::new(self.pair, state);
        let mut put = Vec::new();
        for (position, record) in erased {
            put.push((
                position,
                fresh.hash_before(&fresh.end, &record),
                record.clone(),
            ));
            if fresh.note(position, &record).is_err() {
                break;
            }
        }
        *self = fresh;
        Change {
            state: Some(self.state.clone()),
            remove: std::iter::once(0..u64::MAX).collect(),
            put,
            durability: Durability::Now,
        }
    }

    /// This side's chain goes on from `head`, which is not its own.
    pub(super) fn rebase(&mut self, head: Head, ts_ms: u64) -> Result<Change, HistoryError> {
        self.state.confirmed = head.n;
        self.add(vec![Record::Break { ts_ms, head }], &[])
    }

    /// Blocks that may hold records before this position, the newest first.
    pub(super) fn blocks_before(&self, position: u64) -> impl Iterator<Item = (&Block, u64)> {
        let ends = self.blocks.iter().skip(1).map(|block| block.start.position);
        let ends = ends.chain([self.end.position]);
        let blocks: Vec<_> = self.blocks.iter().zip(ends).collect();
        let before = move |(block, _): &(&Block, u64)| block.start.position < position;
        blocks.into_iter().rev().filter(before)
    }

    /// Where to begin reading in order to read the record at this position.
    pub(super) fn place_of(&self, position: u64) -> Place {
        let after = self
            .blocks
            .partition_point(|block| block.start.position <= position);
        match after.checked_sub(1) {
            Some(at) => self.blocks[at].start,
            None => self.state.floor,
        }
    }
}

/// The hash that a record is stored with: of its author's chain before it; outside of the chains, of where that begins.
pub(crate) fn hash_before(pair: &Pair, place: &Place, record: &Record) -> [u8; 32] {
    match record {
        Record::Chained { author, .. } => place.chain(*author).head.hash,
        Record::Loose { .. } | Record::Queued { .. } | Record::Break { .. } => {
            pair.start(record.author()).head.hash
        }
    }
}
