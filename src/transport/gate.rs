//! Keeps the peer's first messages from a stack that would drop them.
//!
//! SCTP's four packets end with COOKIE ACK, to the side that began: the answerer. Its peer may send messages from then
//! on, and where COOKIE ACK is lost or overtaken they come first. rtc 0.21.1 keeps them until the late COOKIE ACK comes,
//! but hands them on in the same breath, to negotiated channels that are not dialed yet, and there they are dropped for
//! good: acknowledged, and never seen. (`handler/sctp.rs`, `resume_pending_reads` at the end of `handle_read`.)
//!
//! So they wait here. What a record holds cannot be seen, but how long it is: INIT ACK is in the first, and nothing that
//! may come before COOKIE ACK is as short as that.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// COOKIE ACK has 16 bytes, a FORWARD TSN 20 or more. What DTLS makes of 16: with an AEAD and a nonce that is not sent
/// or a short tag, with any other AEAD, with CBC and SHA-1, with CBC and SHA-256.
const COOKIE_ACK: [usize; 4] = [45, 53, 77, 93];

/// Nothing waits longer: where DTLS made COOKIE ACK longer than any that is known, connecting must not fail.
const AT_MOST: Duration = Duration::from_secs(5);

/// What waits may be this many datagrams; SCTP sends again what is dropped here.
const WAITING: usize = 256;

const APPLICATION_DATA: u8 = 23;

/// Stands between the socket and the stack until the channels are open.
#[derive(Debug)]
pub(super) struct Gate<T> {
    had_first: bool,
    is_open: bool,
    waiting: VecDeque<T>,
    waiting_since: Option<Instant>,
}

impl<T> Gate<T> {
    pub(super) fn new() -> Self {
        Self {
            had_first: false,
            is_open: false,
            waiting: VecDeque::new(),
            waiting_since: None,
        }
    }

    /// Whether a datagram with these records goes on at once. Otherwise [`Gate::keep`] it.
    pub(super) fn passes(&mut self, now: Instant, records: &[u8]) -> bool {
        if self
            .waiting_since
            .is_some_and(|since| now >= since + AT_MOST)
        {
            self.is_open = true;
        }
        if self.is_open || records.first() != Some(&APPLICATION_DATA) {
            return true;
        }
        if COOKIE_ACK.contains(&records.len()) {
            self.is_open = true;
        }
        !std::mem::replace(&mut self.had_first, true) || self.is_open
    }

    pub(super) fn keep(&mut self, now: Instant, datagram: T) {
        self.waiting_since.get_or_insert(now);
        if self.waiting.len() < WAITING {
            self.waiting.push_back(datagram);
        }
    }

    /// The channels are open.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// The next that waited and may go on.
    pub(super) fn next(&mut self) -> Option<T> {
        if self.is_open {
            self.waiting.pop_front()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::real_now;
    use super::*;

    fn records(kind: u8, length: usize) -> Vec<u8> {
        let mut records = vec![0; length];
        records[0] = kind;
        records
    }

    #[test]
    fn messages_wait_for_the_cookie_to_be_acknowledged() {
        let now = real_now();
        let mut gate = Gate::new();
        // DTLS itself, INIT ACK, a message, FORWARD TSN, a message, COOKIE ACK.
        for (kind, length, passes) in [
            (22, 700, true),
            (23, 421, true),
            (23, 141, false),
            (23, 57, false),
            (23, 1_228, false),
            (23, 53, true),
        ] {
            let records = records(kind, length);
            assert_eq!(gate.passes(now, &records), passes, "{length}");
            if !passes {
                gate.keep(now, length);
                assert_eq!(gate.next(), None);
            }
        }
        assert!(gate.passes(now, &records(23, 141)));
        let waited: Vec<usize> = std::iter::from_fn(|| gate.next()).collect();
        assert_eq!(waited, [141, 57, 1_228]);
    }

    #[test]
    fn a_flood_is_not_kept() {
        let mut gate = Gate::new();
        for datagram in 0..10 * WAITING {
            gate.keep(real_now(), datagram);
        }
        gate.open();
        assert_eq!(std::iter::from_fn(|| gate.next()).count(), WAITING);
    }

    #[test]
    fn nothing_waits_for_ever() {
        let now = real_now();
        let mut gate = Gate::new();
        assert!(gate.passes(now, &records(23, 421)));
        assert!(!gate.passes(now, &records(23, 141)));
        gate.keep(now, 1);
        assert!(gate.passes(now + AT_MOST, &records(23, 141)));
        assert_eq!(gate.next(), Some(1));
    }
}
