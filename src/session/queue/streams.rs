//! How messages of streams are queued: without waiting, and only in the session that they are of.

use bytes::Bytes;

use super::{Shared, lock};

impl Shared {
    /// Queues a message, unless the window is full, the session over, or another in the place of `session`.
    pub(in crate::session) fn push_in(
        &self,
        session: &[u8; 16],
        channel: u8,
        body: &Bytes,
    ) -> bool {
        let mut outgoing = lock(&self.outgoing);
        let same = outgoing.session.is_some_and(|(now, _)| now == *session);
        if !same || outgoing.check_open().is_err() {
            return false;
        }
        let window = outgoing.window;
        let lane = outgoing.lane(channel);
        let first = lane.queue.is_empty();
        if lane.push(body, window).is_none() {
            return false;
        }
        drop(outgoing);
        if first {
            self.wake.notify_one();
        }
        true
    }

    /// Whether the window has room for a message of this length.
    pub(in crate::session) fn has_room(&self, channel: u8, len: usize) -> bool {
        let mut outgoing = lock(&self.outgoing);
        let window = outgoing.window;
        outgoing.lane(channel).has_room(len, window)
    }
}
