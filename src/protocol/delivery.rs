//! Numbering, splitting, batching, windows and acknowledgement of one reliable channel. Not: keys, frames, time.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::control::{DATA, DATA_BATCH, DATA_PART};

/// What a message costs beside its length, in the window's account.
const MESSAGE_COST: usize = 64;
/// Message numbers are 48 bits on the wire.
const LAST_NUMBER: u64 = 0xffff_ffff_ffff;

fn cost(len: usize) -> usize {
    len + MESSAGE_COST
}

/// What the peer did wrong in its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryError {
    /// A part without content.
    EmptyPart,
    /// A batch between the parts of a message.
    Interleaved,
    /// A batch that does not add up, or of fewer than two messages.
    Batch,
    /// A kind that carries no message.
    Kind,
    /// A message longer than agreed.
    TooLong,
    /// More bytes than the window allows.
    Window,
}

/// An acknowledgement that goes back, or beyond what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadAck {
    /// What was acknowledged before.
    pub(super) low: u64,
    /// What was sent.
    pub(super) high: u64,
}

/// The sending half: messages wait here until the peer took them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Number of the first message in `queue`.
    base: u64,
    /// Unacknowledged first, then unsent, in order.
    queue: VecDeque<Bytes>,
    /// How many of `queue` were sent whole.
    sent: usize,
    /// Bytes of `queue[sent]` that were sent.
    part: usize,
    /// Cost of what was sent and not acknowledged, a message begun included.
    in_flight: usize,
    /// One more than the number of the newest message ever sent whole.
    high: u64,
}

/// A frame's worth of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filled {
    /// The kind of the frame.
    pub(super) kind: u8,
}

impl Outbox {
    /// Queues a message.
    pub(super) fn push(&mut self, body: Bytes) {
        debug_assert!(self.base + (self.queue.len() as u64) < LAST_NUMBER);
        self.queue.push_back(body);
    }

    /// Appends the next frame's body, of at most `max` bytes, to `frame`; `None` when nothing may be sent now.
    pub(super) fn fill(
        &mut self,
        max: usize,
        window: usize,
        frame: &mut Vec<u8>,
    ) -> Option<Filled> {
        let next = self.queue.get(self.sent)?;
        if self.part == 0 {
            if self.in_flight + cost(next.len()) > window {
                return None;
            }
            if let Some(last) = self.batch_end(max, window) {
                self.fill_batch(last, frame);
                return Some(Filled { kind: DATA_BATCH });
            }
            self.in_flight += cost(next.len());
        }
        let next = self.queue.get(self.sent)?;
        let rest = &next[self.part..];
        if rest.len() > max {
            frame.extend_from_slice(&rest[..max]);
            self.part += max;
            return Some(Filled { kind: DATA_PART });
        }
        frame.extend_from_slice(rest);
        self.part = 0;
        self.note_sent(self.sent + 1);
        Some(Filled { kind: DATA })
    }

    /// The end of the run of waiting messages that fit one batch and the window; `None` for fewer than two.
    fn batch_end(&self, max: usize, window: usize) -> Option<usize> {
        let (mut bytes, mut in_flight, mut end) = (0, self.in_flight, self.sent);
        for body in self.queue.iter().skip(self.sent) {
            bytes += 2 + body.len();
            in_flight += cost(body.len());
            if bytes > max || in_flight > window {
                break;
            }
            end += 1;
        }
        (end - self.sent >= 2).then_some(end)
    }

    fn fill_batch(&mut self, end: usize, frame: &mut Vec<u8>) {
        for body in self.queue.range(self.sent..end) {
            let len =
                u16::try_from(body.len()).expect("a batch fits a frame of at most 65 536 bytes");
            frame.extend_from_slice(&len.to_be_bytes());
            frame.extend_from_slice(body);
            self.in_flight += cost(body.len());
        }
        self.note_sent(end);
    }

    fn note_sent(&mut self, sent: usize) {
        self.sent = sent;
        self.high = self.high.max(self.base + sent as u64);
    }

    /// The size of buffer that the next frame needs, so that filling it allocates once.
    pub(super) fn next_len(&self, max: usize) -> usize {
        let mut bytes = 0;
        for body in self.queue.iter().skip(self.sent) {
            bytes += 2 + body.len();
            if bytes >= max {
                return max;
            }
        }
        bytes
    }

    /// Whether a message could be sent now.
    pub(super) fn is_sendable(&self, window: usize) -> bool {
        self.part > 0
            || self
                .queue
                .get(self.sent)
                .is_some_and(|next| self.in_flight + cost(next.len()) <= window)
    }

    /// The peer took all messages below `next`. `true` when that is news.
    pub(super) fn acknowledge(&mut self, next: u64) -> Result<bool, BadAck> {
        let bad = BadAck {
            low: self.base,
            high: self.base + self.sent as u64,
        };
        let taken = next
            .checked_sub(self.base)
            .and_then(|taken| usize::try_from(taken).ok())
            .ok_or(bad)?;
        //
        if taken > self.sent {
            return Err(bad);
        }
        for body in self.queue.drain(..taken) {
            self.in_flight -= cost(body.len());
        }
        self.base = next;
        self.sent -= taken;
        Ok(taken > 0)
    }

    /// The transport is gone: all that the peer has not taken is to be sent again.
    pub(super) fn suspend(&mut self) {
        self.sent = 0;
        self.part = 0;
        self.in_flight = 0;
    }

    /// On a new transport the peer said that it took all messages below `next` of those ever sent. `true` when that is
    /// news.
    pub(super) fn resume(&mut self, next: u64) -> Result<bool, BadAck> {
        let (low, high) = (self.base, self.high);
        if next < low || next > high {
            return Err(BadAck { low, high });
        }
        let taken = usize::try_from(next - low).unwrap_or(usize::MAX);
        self.queue.drain(..taken.min(self.queue.len()));
        self.base = next;
        Ok(taken > 0)
    }

    /// How many messages were ever sent whole.
    pub(super) fn ever_sent(&self) -> u64 {
        self.high
    }

    /// Messages that the peer has not taken, sent or not.
    pub(super) fn unacked(&self) -> u64 {
        self.queue.len() as u64
    }
}

/// The receiving half: from frames to whole messages, counted until the host takes them.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Number of the next message to be complete.
    next: u64,
    /// Number of the next message for the host to take.
    taken: u64,
    /// What the peer was told.
    acknowledged: u64,
    /// Parts of a message that is not complete.
    partial: Option<BytesMut>,
    /// Costs of complete messages that were not taken.
    waiting: VecDeque<usize>,
    /// Their sum.
    waiting_cost: usize,
    /// Cost of what was taken and not acknowledged.
    unacknowledged_cost: usize,
}

/// The limits of a receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest message, in bytes.
    pub(super) max_message: usize,
    /// Cost of messages held, partial ones included.
    pub(super) window: usize,
}

impl Inbox {
    /// Takes an application frame's body and calls `deliver(number, message)` for each message it completes.
    pub(super) fn accept(
        &mut self,
        kind: u8,
        body: Bytes,
        bounds: Bounds,
        deliver: impl FnMut(u64, Bytes),
    ) -> Result<(), DeliveryError> {
        match kind {
            DATA => self.accept_last(body, bounds, deliver),
            DATA_PART => self.accept_part(&body, bounds),
            DATA_BATCH => self.accept_batch(&body, bounds, deliver),
            _ => Err(DeliveryError::Kind),
        }
    }

    fn accept_part(&mut self, body: &Bytes, bounds: Bounds) -> Result<(), DeliveryError> {
        //
        if body.is_empty() {
            return Err(DeliveryError::EmptyPart);
        }
        // The rest is often short: a message of 64 KiB and a few bytes.
        let partial = self
            .partial
            .get_or_insert_with(|| BytesMut::with_capacity(body.len() + 4_096));
        partial.extend_from_slice(body);
        let len = partial.len();
        self.check(len, bounds)
    }

    fn accept_last(
        &mut self,
        body: Bytes,
        bounds: Bounds,
        mut deliver: impl FnMut(u64, Bytes),
    ) -> Result<(), DeliveryError> {
        let message = match self.partial.take() {
            None => body,
            Some(mut partial) => {
                partial.extend_from_slice(&body);
                partial.freeze()
            }
        };
        self.complete(message, bounds, &mut deliver)
    }

    fn accept_batch(
        &mut self,
        body: &Bytes,
        bounds: Bounds,
        mut deliver: impl FnMut(u64, Bytes),
    ) -> Result<(), DeliveryError> {
        //
        if self.partial.is_some() {
            return Err(DeliveryError::Interleaved);
        }
        let (mut at, mut count) = (0, 0);
        while at < body.len() {
            let len = body.get(at..at + 2).ok_or(DeliveryError::Batch)?;
            let start = at + 2;
            let end = start + usize::from(u16::from_be_bytes([len[0], len[1]]));
            if end > body.len() {
                return Err(DeliveryError::Batch);
            }
            self.complete(body.slice(start..end), bounds, &mut deliver)?;
            at = end;
            count += 1;
        }
        if count >= 2 {
            Ok(())
        } else {
            Err(DeliveryError::Batch)
        }
    }

    fn complete(
        &mut self,
        message: Bytes,
        bounds: Bounds,
        deliver: &mut impl FnMut(u64, Bytes),
    ) -> Result<(), DeliveryError> {
        self.check(message.len(), bounds)?;
        self.waiting.push_back(cost(message.len()));
        self.waiting_cost += cost(message.len());
        let number = self.next;
        self.next += 1;
        deliver(number, message);
        Ok(())
    }

    fn check(&self, len: usize, bounds: Bounds) -> Result<(), DeliveryError> {
        //
        if len > bounds.max_message {
            return Err(DeliveryError::TooLong);
        }
        if self.waiting_cost + cost(len) > bounds.window {
            return Err(DeliveryError::Window);
        }
        Ok(())
    }

    /// The host took `messages` of those delivered.
    pub(super) fn take(&mut self, messages: u64) {
        for _ in 0..messages {
            let Some(cost) = self.waiting.pop_front() else {
                return;
            };
            self.waiting_cost -= cost;
            self.unacknowledged_cost += cost;
            self.taken += 1;
        }
    }

    /// How many messages the host took so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether the peer should be told at once.
    pub(super) fn is_ack_urgent(&self, window: usize) -> bool {
        self.unacknowledged_cost >= window / 8
    }

    /// Whether there is something to tell.
    pub(super) fn is_ack_due(&self) -> bool {
        self.taken > self.acknowledged
    }

    /// The transport is gone: a message of which parts came will come again.
    pub(super) fn suspend(&mut self) {
        self.partial = None;
    }

    /// The host gave back what it had not taken: it will come again, under the same numbers.
    pub(super) fn discard(&mut self) {
        self.next = self.taken;
        self.waiting.clear();
        self.waiting_cost = 0;
    }

    /// What READY says: all below were taken.
    pub(super) fn state(&mut self) -> u64 {
        self.acknowledge()
    }

    /// What to tell, once.
    pub(super) fn acknowledge(&mut self) -> u64 {
        self.acknowledged = self.taken;
        self.unacknowledged_cost = 0;
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 1 << 20;
    const BOUNDS: Bounds = Bounds {
        max_message: 1_000,
        window: WINDOW,
    };

    fn outbox(bodies: &[&'static [u8]]) -> Outbox {
        let mut outbox = Outbox::default();
        for body in bodies {
            outbox.push(Bytes::from_static(body));
        }
        outbox
    }

    fn drain(outbox: &mut Outbox, max: usize) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        loop {
            let mut frame = Vec::new();
            match outbox.fill(max, WINDOW, &mut frame) {
                Some(filled) => frames.push((filled.kind, frame)),
                None => return frames,
            }
        }
    }

    fn deliver(
        inbox: &mut Inbox,
        frames: Vec<(u8, Vec<u8>)>,
    ) -> Result<Vec<(u64, Bytes)>, DeliveryError> {
        let mut messages = Vec::new();
        for (kind, body) in frames {
            inbox.accept(kind, body.into(), BOUNDS, |number, body| {
                messages.push((number, body))
            })?;
        }
        Ok(messages)
    }

    ///
    #[test]
    fn messages_travel_whole_batched_and_in_parts_and_arrive_in_order() {
        let bodies: [&'static [u8]; 5] = [
            b"one",
            b"",
            b"a message too long for a frame",
            b"four",
            b"five",
        ];
        let frames = drain(&mut outbox(&bodies), 16);
        let kinds: Vec<u8> = frames.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [DATA_BATCH, DATA_PART, DATA, DATA_BATCH]);
        let messages = deliver(&mut Inbox::default(), frames);
        let expected = bodies
            .iter()
            .enumerate()
            .map(|(n, body)| (n as u64, Bytes::from_static(body)))
            .collect();
        assert_eq!(messages, Ok(expected));
    }

    ///
    #[test]
    fn a_single_waiting_message_is_not_batched() {
        assert_eq!(
            drain(&mut outbox(&[b"alone"]), 100),
            [(DATA, b"alone".to_vec())]
        );
    }

    ///
    #[test]
    fn the_window_holds_messages_back_until_they_are_acknowledged() {
        let mut outbox = outbox(&[&[0; 100], &[1; 100], &[2; 100]]);
        let window = 2 * (100 + 64);
        let mut frame = Vec::new();
        assert_eq!(
            outbox.fill(1_000, window, &mut frame),
            Some(Filled { kind: DATA_BATCH })
        );
        assert_eq!(outbox.fill(1_000, window, &mut frame), None);
        assert!(!outbox.is_sendable(window));
        assert_eq!(outbox.acknowledge(1), Ok(true));
        assert!(outbox.is_sendable(window));
        assert_eq!(
            outbox.fill(1_000, window, &mut frame),
            Some(Filled { kind: DATA })
        );
        assert_eq!(outbox.unacked(), 2);
    }

    ///
    #[test]
    fn acknowledgements_never_go_back_nor_ahead() {
        let mut outbox = outbox(&[b"a", b"b"]);
        assert_eq!(
            outbox.acknowledge(1),
            Err(BadAck { low: 0, high: 0 }),
            "nothing was sent"
        );
        drain(&mut outbox, 100);
        assert_eq!(outbox.acknowledge(2), Ok(true));
        assert_eq!(outbox.acknowledge(2), Ok(false));
        assert_eq!(outbox.acknowledge(1), Err(BadAck { low: 2, high: 2 }));
        assert_eq!(outbox.acknowledge(3), Err(BadAck { low: 2, high: 2 }));
        assert_eq!(
            outbox.acknowledge(u64::MAX),
            Err(BadAck { low: 2, high: 2 })
        );
    }

    ///
    #[test]
    fn malformed_bodies_are_refused() {
        let bad: [(u8, &[u8], DeliveryError); 6] = [
            (DATA_PART, b"", DeliveryError::EmptyPart),
            (DATA_BATCH, b"", DeliveryError::Batch),
            (DATA_BATCH, b"\x00\x01a", DeliveryError::Batch),
            (DATA_BATCH, b"\x00\x01a\x00", DeliveryError::Batch),
            (DATA_BATCH, b"\x00\x01a\x00\x02b", DeliveryError::Batch),
            (0x7f, b"", DeliveryError::Kind),
        ];
        for (kind, body, error) in bad {
            assert_eq!(
                deliver(&mut Inbox::default(), vec![(kind, body.to_vec())]),
                Err(error)
            );
        }
        let between = vec![
            (DATA_PART, b"a".to_vec()),
            (DATA_BATCH, b"\x00\x01a\x00\x01b".to_vec()),
        ];
        assert_eq!(
            deliver(&mut Inbox::default(), between),
            Err(DeliveryError::Interleaved)
        );
    }

    ///
    #[test]
    fn a_message_longer_than_agreed_is_refused_as_soon_as_its_parts_show_it() {
        let parts = vec![(DATA_PART, vec![1; 600]), (DATA_PART, vec![1; 401])];
        assert_eq!(
            deliver(&mut Inbox::default(), parts),
            Err(DeliveryError::TooLong)
        );
        assert_eq!(
            deliver(&mut Inbox::default(), vec![(DATA, vec![1; 1_001])]),
            Err(DeliveryError::TooLong)
        );
    }

    ///
    #[test]
    fn a_peer_that_overruns_the_window_is_refused_until_the_host_takes() {
        let bounds = Bounds {
            max_message: 1_000,
            window: 2 * 164,
        };
        let mut inbox = Inbox::default();
        let body = Bytes::from_static(&[0; 100]);
        for _ in 0..2 {
            assert_eq!(inbox.accept(DATA, body.clone(), bounds, |_, _| ()), Ok(()));
        }
        assert_eq!(
            inbox.accept(DATA, body.clone(), bounds, |_, _| ()),
            Err(DeliveryError::Window)
        );
        inbox.take(1);
        assert_eq!(inbox.accept(DATA, body, bounds, |_, _| ()), Ok(()));
        assert!(inbox.is_ack_due() && inbox.is_ack_urgent(bounds.window));
        assert_eq!(inbox.acknowledge(), 1);
        assert!(!inbox.is_ack_due());
    }

    ///
    #[test]
    fn a_message_taken_makes_room_for_one_as_long_and_no_more() {
        let bounds = Bounds {
            max_message: 1_000,
            window: 3 * cost(100),
        };
        let mut inbox = Inbox::default();
        let body = Bytes::from_static(&[0; 100]);
        let accept = |inbox: &mut Inbox| inbox.accept(DATA, body.clone(), bounds, |_, _| ());
        for _ in 0..3 {
            assert_eq!(accept(&mut inbox), Ok(()));
        }
        for _ in 0..3 {
            inbox.take(1);
            assert_eq!(accept(&mut inbox), Ok(()));
            assert_eq!(accept(&mut inbox), Err(DeliveryError::Window));
        }
    }

    ///
    #[test]
    fn parts_of_a_message_that_was_cut_are_forgotten_with_their_transport() {
        let mut inbox = Inbox::default();
        let part = vec![(DATA_PART, b"half of ".to_vec())];
        assert_eq!(deliver(&mut inbox, part), Ok(Vec::new()));
        inbox.suspend();
        let whole = vec![(DATA, b"a message".to_vec())];
        let expected = vec![(0, Bytes::from_static(b"a message"))];
        assert_eq!(deliver(&mut inbox, whole), Ok(expected));
    }

    ///
    #[test]
    fn frame_and_window_are_filled_to_the_last_byte() {
        let (short, long): (&[u8], &[u8]) = (&[1; 10], &[2; 20]);
        let window = cost(short.len()) + cost(long.len());
        let mut both = outbox(&[short, long]);
        let (mut frame, room) = (Vec::new(), 2 + short.len() + 2 + long.len());
        let filled = both.fill(room, window, &mut frame);
        assert_eq!(filled, Some(Filled { kind: DATA_BATCH }));
        assert_eq!(frame.len(), room);
        let mut one = outbox(&[long]);
        assert!(one.fill(room, cost(long.len()) - 1, &mut frame).is_none());
        let filled = one.fill(long.len(), cost(long.len()), &mut frame);
        assert_eq!(filled, Some(Filled { kind: DATA }));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "LAST_NUMBER")]
    fn messages_are_numbered_as_far_as_48_bits_go_and_no_further() {
        let mut outbox = Outbox {
            base: (1 << 48) - 2,
            ..Outbox::default()
        };
        for _ in 0..2 {
            outbox.push(Bytes::new());
        }
    }

    #[test]
    fn a_buffer_is_as_long_as_its_frame() {
        let waiting = outbox(&[&[1; 10], &[2; 20]]);
        assert_eq!(waiting.next_len(1_000), 34);
        assert_eq!(waiting.next_len(30), 30);
        assert_eq!(outbox(&[]).next_len(1_000), 0);
    }

    ///
    #[test]
    fn an_acknowledgement_gives_back_what_its_messages_took() {
        let mut outbox = outbox(&[&[1; 10], &[2; 20], &[3; 30]]);
        drain(&mut outbox, 1_000);
        assert_eq!(outbox.acknowledge(2), Ok(true));
        assert_eq!(outbox.in_flight, cost(30));
        assert_eq!(outbox.acknowledge(3), Ok(true));
        assert_eq!(outbox.in_flight, 0);
    }

    #[test]
    fn what_is_acknowledged_on_a_new_transport_is_news_once() {
        let mut outbox = outbox(&[&[1; 10], &[2; 20]]);
        drain(&mut outbox, 1_000);
        outbox.suspend();
        assert_eq!(outbox.resume(1), Ok(true));
        assert_eq!(outbox.resume(1), Ok(false));
    }
}
