//! One channel's queues between the host and the task: bounded, and apart from every other channel's.

use std::collections::VecDeque;

use bytes::Bytes;

/// The channel whose messages come with the events.
pub(super) const MAIN: u8 = 1;
/// The channel of streams and files, where they are declared: always the last, so that both sides agree on it
/// (S-1).
pub(super) const STREAMS: u8 = 15;
/// Channel numbers end below this; 0 is the protocol's own.
pub(super) const CHANNELS: usize = 16;
/// What a message costs beside its length, in the window's account (protocol rule R-169).
pub(super) const MESSAGE_COST: usize = 64;
/// What datagrams that wait may cost in each direction; beyond, the oldest go, which would be late.
const MAX_DATAGRAMS: usize = 256 << 10;

/// What the host sends on one channel.
#[derive(Debug, Default)]
pub(super) struct OutLane {
    /// What the task has not seen.
    pub(super) queue: VecDeque<Bytes>,
    /// Number of the next message.
    next: u64,
    /// All below were taken by the peer.
    acked: u64,
    /// Costs of messages that the peer has not taken.
    costs: VecDeque<usize>,
    cost: usize,
    /// Of datagrams in `queue`.
    datagram_cost: usize,
}

impl OutLane {
    /// Queues a message if the window has room for it: its number.
    pub(super) fn push(&mut self, body: &Bytes, window: usize) -> Option<u64> {
        let cost = body.len() + MESSAGE_COST;
        if self.cost + cost > window {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.cost += cost;
        self.costs.push_back(cost);
        self.queue.push_back(body.clone());
        Some(number)
    }

    pub(super) fn has_room(&self, len: usize, window: usize) -> bool {
        self.cost + len + MESSAGE_COST <= window
    }

    /// Queues a message of a lossy channel; older ones make room for it.
    pub(super) fn push_datagram(&mut self, body: Bytes) {
        self.datagram_cost += body.len() + MESSAGE_COST;
        self.queue.push_back(body);
        while self.datagram_cost > MAX_DATAGRAMS
            && let Some(oldest) = self.queue.pop_front()
        {
            self.datagram_cost -= oldest.len() + MESSAGE_COST;
        }
    }

    /// The task takes what is queued, and leaves an empty queue.
    pub(super) fn swap(&mut self, empty: &mut VecDeque<Bytes>) {
        std::mem::swap(&mut self.queue, empty);
        self.datagram_cost = 0;
    }

    /// The peer took all messages below `next`.
    pub(super) fn acknowledge(&mut self, next: u64) {
        let news = usize::try_from(next.saturating_sub(self.acked)).unwrap_or(usize::MAX);
        let count = news.min(self.costs.len());
        let cost: usize = self.costs.drain(..count).sum();
        self.cost -= cost;
        self.acked = self.acked.max(next);
    }

    pub(super) fn is_delivered(&self, number: u64) -> bool {
        number < self.acked
    }

    /// The peer took all messages below this.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Messages that the peer did not confirm.
    pub(super) fn unacked(&self) -> u64 {
        self.next - self.acked
    }
}

/// What came on one channel. The messages of [`MAIN`] wait among the events instead.
#[derive(Debug, Default)]
pub(super) struct InLane {
    messages: VecDeque<(u64, Bytes)>,
    /// How many of them, the first ones, came in sessions that were replaced.
    former: usize,
    datagrams: VecDeque<Bytes>,
    /// Of the datagrams.
    cost: usize,
    /// Messages taken that the task does not know of.
    pub(super) taken: u64,
}

impl InLane {
    pub(super) fn push(&mut self, number: u64, body: Bytes) {
        self.messages.push_back((number, body));
    }

    pub(super) fn push_datagram(&mut self, body: Bytes) {
        self.cost += body.len() + MESSAGE_COST;
        self.datagrams.push_back(body);
        while self.cost > MAX_DATAGRAMS && self.pop_datagram().is_some() {}
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Bytes)> {
        self.former = self.former.saturating_sub(1);
        self.messages.pop_front()
    }

    /// Whether the next message came in a session that was replaced.
    pub(super) fn is_former(&self) -> bool {
        self.former > 0
    }

    /// All that is here, and what was taken of it, belongs to a session that is replaced: the cost of it.
    pub(super) fn keep_former(&mut self) -> usize {
        (self.former, self.taken) = (self.messages.len(), 0);
        let costs = self
            .messages
            .iter()
            .map(|(_, body)| body.len() + MESSAGE_COST);
        costs.sum()
    }

    pub(super) fn pop_datagram(&mut self) -> Option<Bytes> {
        let body = self.datagrams.pop_front()?;
        self.cost -= body.len() + MESSAGE_COST;
        Some(body)
    }

    /// Drops what the host has not taken, and will come again.
    pub(super) fn clear(&mut self) {
        self.messages.truncate(self.former);
        self.datagrams.clear();
        self.cost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_takes_nothing_until_the_peer_took_something() {
        let mut lane = OutLane::default();
        let body = Bytes::from_static(&[0; 36]);
        let window = 250;
        assert_eq!(lane.push(&body, window), Some(0));
        assert_eq!(lane.push(&body, window), Some(1));
        assert_eq!(lane.push(&body, window), None);
        lane.acknowledge(1);
        assert!(lane.is_delivered(0) && !lane.is_delivered(1));
        assert_eq!(lane.push(&body, window), Some(2));
        // A transport later: what was acknowledged before is said again, and takes nothing back.
        lane.acknowledge(1);
        assert_eq!(lane.unacked(), 2);
        assert_eq!(lane.push(&body, window), None);
    }

    #[test]
    fn datagrams_that_nobody_takes_are_bounded_even_when_empty() {
        let (mut out, mut came) = (OutLane::default(), InLane::default());
        for n in 0..10_000_u32 {
            out.push_datagram(Bytes::new());
            came.push_datagram(Bytes::copy_from_slice(&n.to_be_bytes()));
        }
        assert_eq!(out.queue.len(), MAX_DATAGRAMS / MESSAGE_COST);
        let mut kept = Vec::new();
        while let Some(body) = came.pop_datagram() {
            kept.push(body);
        }
        assert_eq!(kept.len(), MAX_DATAGRAMS / (MESSAGE_COST + 4));
        assert_eq!(kept.last().unwrap().as_ref(), 9_999_u32.to_be_bytes());
        assert_eq!(came.cost, 0);
    }
}
