//! What waits to be sent on one lossy channel: little, and the oldest goes first when it is more.

use std::collections::VecDeque;

use bytes::Bytes;

/// What a message costs beside its length.
const MESSAGE_COST: usize = 64;
/// Bytes that wait at most; beyond, the oldest messages are dropped. They would be late.
const MAX_WAITING: usize = 256 << 10;

/// The sending half of a lossy channel.
pub(super) struct LossyOutbox {
    pub(super) channel: u8,
    queue: VecDeque<Bytes>,
    bytes: usize,
    dropped: u64,
}

impl LossyOutbox {
    pub(super) fn new(channel: u8) -> Self {
        Self {
            channel,
            queue: VecDeque::new(),
            bytes: 0,
            dropped: 0,
        }
    }

    pub(super) fn push(&mut self, body: Bytes) {
        self.bytes += body.len() + MESSAGE_COST;
        self.queue.push_back(body);
        while self.bytes > MAX_WAITING && self.queue.len() > 1 {
            self.pop();
            self.dropped += 1;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let body = self.queue.pop_front()?;
        self.bytes -= body.len() + MESSAGE_COST;
        Some(body)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.dropped += self.queue.len() as u64;
        self.queue.clear();
        self.bytes = 0;
    }

    /// Messages that waited and never left.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_for_the_newest() {
        let mut outbox = LossyOutbox::new(2);
        for byte in 0..5_u8 {
            outbox.push(Bytes::from(vec![byte; (64 << 10) - MESSAGE_COST]));
        }
        assert_eq!(outbox.dropped(), 1);
        assert_eq!(outbox.pop().map(|body| body[0]), Some(1));
        outbox.clear();
        assert!(outbox.is_empty());
        assert_eq!(outbox.dropped(), 4);
    }

    #[test]
    fn what_fits_stays_and_what_left_makes_room_once() {
        let body = || Bytes::from(vec![0; (64 << 10) - MESSAGE_COST]);
        let mut outbox = LossyOutbox::new(2);
        for _ in 0..4 {
            outbox.push(body());
        }
        assert_eq!(outbox.dropped(), 0);
        for _ in 0..4 {
            outbox.push(body());
        }
        assert_eq!(outbox.dropped(), 4);
    }

    #[test]
    fn the_newest_stays_however_long_it_is() {
        let mut outbox = LossyOutbox::new(2);
        outbox.push(Bytes::from(vec![0; MAX_WAITING + 1]));
        assert_eq!((outbox.is_empty(), outbox.dropped()), (false, 0));
    }
}
