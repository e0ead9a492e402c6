//! What one side of a ledger knows of its chain: which heads are of it, and how much is confirmed or held.

use std::collections::VecDeque;

use super::{super::control::ReadyHistory, Difference, Own, Theirs};
use crate::history::chain::{Author, Chain, Head};

impl Own {
    /// Whether the peer's head is one of this chain, from the last one confirmed on.
    pub(super) fn knows(&self, head: Head) -> bool {
        let at = head.n.checked_sub(self.confirmed);
        let at = at.and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.tail.get(at)) == Some(&head.hash)
    }

    /// The peer holds the first `n`, which are known. `true` when that is news.
    pub(super) fn confirm(&mut self, n: u64) -> bool {
        let news = n - self.confirmed;
        let count = usize::try_from(news).unwrap_or(usize::MAX);
        self.tail.drain(..count.min(self.tail.len()));
        self.confirmed = n;
        news > 0
    }

    /// The session's first message follows this head.
    pub(super) fn begin_at(&mut self, head: Head) {
        self.chain.head = head;
        (self.base, self.confirmed) = (head.n, head.n);
        self.tail = VecDeque::from([head.hash]);
    }
}

impl Theirs {
    /// How many are stored, and their hash.
    pub(super) fn held(&self) -> (u64, [u8; 32]) {
        let untaken = usize::try_from(self.stored - self.taken).unwrap_or(usize::MAX);
        let hash = match untaken.checked_sub(1) {
            None => self.taken_hash,
            Some(at) => self.hashes.get(at).copied().unwrap_or(self.taken_hash),
        };
        (self.base.saturating_add(self.stored), hash)
    }

    /// What the peer says of its own messages does not fit what is here.
    pub(super) fn difference(&self, peer: &ReadyHistory) -> Option<Difference> {
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
    pub(super) fn is_repeat(
        &self,
        number: u64,
        (seen, ts_ms): (u64, u64),
        body: &[u8; 32],
    ) -> bool {
        let Some(at) = number.checked_sub(self.taken) else {
            return false;
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let before = match at.checked_sub(1) {
            None => Some(self.taken_hash),
            Some(before) => self.hashes.get(before).copied(),
        };
        let again = before.map(|hash| {
            let n = self.base.saturating_add(number);
            let head = Head { n, hash };
            Chain { head, seen: 0 }.with(seen, ts_ms, body).head.hash
        });
        again.is_some() && again.as_ref() == self.hashes.get(at)
    }
}
