//! What the datagrams of one connection tell about its path without being read: when the peer was last heard, how long
//! an answer takes, whether some are missing.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Requests whose answer is still waited for. The stack sends one a second, and more while connecting.
const REQUESTS: usize = 16;

/// After a gap so many datagrams are looked at one by one: SCTP sends a lost packet again when three acknowledgements
/// showed it missing.
const AFTER_GAP: u32 = 8;

/// For so long after a gap the path counts as one that loses datagrams.
const LOSSY: Duration = Duration::from_secs(1);

/// No more than this is sent twice: what is longer is several datagrams in one system call.
const ONE_DATAGRAM: usize = 1_500;

const STUN_HEADER: usize = 20;
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const SEND_INDICATION: u16 = 0x0016;
const DATA_INDICATION: u16 = 0x0017;
const DATA_ATTRIBUTE: u16 = 0x0013;
const RECORD_HEADER: usize = 13;

/// Watches one connection's datagrams.
#[derive(Debug)]
pub(super) struct Path(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    heard: Instant,
    requests: VecDeque<(Transaction, Instant)>,
    answers: Option<Answers>,
    /// Epoch and number of the DTLS record that should come next.
    next_record: Option<(u16, u64)>,
    gap_at: Option<Instant>,
    left_after_gap: u32,
    /// Datagrams of records.
    sent: u64,
    is_owed: bool,
    is_doubled: bool,
}

/// How long answers take, smoothed as RFC 6298 has it.
#[derive(Debug, Clone, Copy)]
struct Answers {
    mean: Duration,
    deviation: Duration,
}

type Transaction = [u8; 12];

/// What a datagram is, by its first bytes (RFC 7983).
#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    /// A check of the path.
    Request(Transaction),
    /// Its answer.
    Answer(Transaction),
    /// Records of DTLS.
    Records(&'a [u8]),
    Other,
}

impl Path {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Seen {
            heard: now,
            requests: VecDeque::new(),
            answers: None,
            next_record: None,
            gap_at: None,
            left_after_gap: 0,
            sent: 0,
            is_owed: false,
            is_doubled: false,
        }))
    }

    /// Whether it should be sent once more.
    pub(super) fn note_sent(&self, now: Instant, datagram: &[u8]) -> bool {
        match kind(datagram) {
            Kind::Request(transaction) => {
                let mut seen = self.seen();
                if seen.requests.len() == REQUESTS {
                    seen.requests.pop_front();
                }
                seen.requests.push_back((transaction, now));
                false
            }
            Kind::Records(_) => {
                let mut seen = self.seen();
                seen.sent += 1;
                seen.is_owed = false;
                std::mem::take(&mut seen.is_doubled) && datagram.len() <= ONE_DATAGRAM
            }
            Kind::Answer(_) | Kind::Other => false,
        }
    }

    pub(super) fn note_received(&self, now: Instant, datagram: &[u8]) {
        let mut seen = self.seen();
        seen.heard = now;
        match kind(datagram) {
            Kind::Answer(transaction) => seen.note_answer(now, transaction),
            Kind::Records(records) => seen.note_records(now, records),
            Kind::Request(_) | Kind::Other => {}
        }
    }

    /// The next records are sent twice: the peer's DTLS drops what it has.
    pub(super) fn double_next(&self) {
        self.seen().is_doubled = true;
    }

    /// When anything came last.
    pub(super) fn heard(&self) -> Instant {
        self.seen().heard
    }

    /// How many datagrams of records were sent.
    pub(super) fn sent(&self) -> u64 {
        self.seen().sent
    }

    /// How long an answer takes; `None` before the first.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        Some(self.seen().answers?.mean)
    }

    /// How long an answer takes at most, most of the time; `None` before the first.
    pub(super) fn answers_within(&self) -> Option<Duration> {
        let Answers { mean, deviation } = self.seen().answers?;
        Some(mean + 4 * deviation)
    }

    /// Whether a datagram of the peer was missing just now, or came out of order.
    pub(super) fn is_after_gap(&self) -> bool {
        self.seen().left_after_gap > 0
    }

    /// An answer to the last records is on its way.
    pub(super) fn note_answering(&self) {
        self.seen().is_owed = false;
    }

    /// Whether records came since any were sent, on a path that lost some lately.
    pub(super) fn owes_soon(&self, now: Instant) -> bool {
        let seen = self.seen();
        seen.is_owed && seen.gap_at.is_some_and(|gap_at| now < gap_at + LOSSY)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note_answer(&mut self, now: Instant, transaction: Transaction) {
        let is_it = |(asked, _): &(Transaction, Instant)| *asked == transaction;
        let Some(index) = self.requests.iter().position(is_it) else {
            return;
        };
        if let Some((_, asked_at)) = self.requests.remove(index) {
            let took = now.saturating_duration_since(asked_at);
            self.answers = Some(Answers::with(self.answers, took));
        }
    }

    fn note_records(&mut self, now: Instant, records: &[u8]) {
        self.is_owed = true;
        self.left_after_gap = self.left_after_gap.saturating_sub(1);
        for (epoch, number) in record_numbers(records) {
            let is_expected = self
                .next_record
                .is_none_or(|(known, next)| epoch != known || number == next);
            if !is_expected {
                self.gap_at = Some(now);
                self.left_after_gap = AFTER_GAP;
            }
            // Not the highest: a forged number must not make a gap of all that follow.
            self.next_record = Some((epoch, number + 1));
        }
    }
}

impl Answers {
    fn with(before: Option<Self>, took: Duration) -> Self {
        match before {
            None => Self {
                mean: took,
                deviation: took / 2,
            },
            Some(Self { mean, deviation }) => Self {
                mean: (7 * mean + took) / 8,
                deviation: (3 * deviation + mean.abs_diff(took)) / 4,
            },
        }
    }
}

/// The records of DTLS in a datagram, if it holds any.
pub(super) fn records(datagram: &[u8]) -> Option<&[u8]> {
    match kind(datagram) {
        Kind::Records(records) => Some(records),
        Kind::Request(_) | Kind::Answer(_) | Kind::Other => None,
    }
}

fn kind(datagram: &[u8]) -> Kind<'_> {
    match datagram {
        // TURN ChannelData: the channel and a length, then what it carries.
        [64..=79, _, _, _, inner @ ..] => plain_kind(inner),
        [0..=3, ..] => relayed(datagram).map_or_else(|| plain_kind(datagram), plain_kind),
        _ => plain_kind(datagram),
    }
}

fn plain_kind(datagram: &[u8]) -> Kind<'_> {
    match datagram.first() {
        Some(20..=63) => Kind::Records(datagram),
        Some(0..=3) => check_kind(datagram).unwrap_or(Kind::Other),
        _ => Kind::Other,
    }
}

/// A check has attributes, by which it differs from the question to a STUN server for one's own address.
fn check_kind(datagram: &[u8]) -> Option<Kind<'_>> {
    let (kind, transaction, attributes) = stun(datagram)?;
    match kind {
        BINDING_REQUEST if !attributes.is_empty() => Some(Kind::Request(transaction)),
        BINDING_SUCCESS => Some(Kind::Answer(transaction)),
        _ => None,
    }
}

/// What an indication to or from a TURN server carries.
fn relayed(datagram: &[u8]) -> Option<&[u8]> {
    let (kind, _, mut attributes) = stun(datagram)?;
    if kind != SEND_INDICATION && kind != DATA_INDICATION {
        return None;
    }
    loop {
        let (header, rest) = attributes.split_at_checked(4)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if u16::from_be_bytes([header[0], header[1]]) == DATA_ATTRIBUTE {
            return rest.get(..length);
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// Type, transaction and attributes of a STUN message.
fn stun(datagram: &[u8]) -> Option<(u16, Transaction, &[u8])> {
    let (header, attributes) = datagram.split_at_checked(STUN_HEADER)?;
    let transaction = header[8..].try_into().ok()?;
    let kind = u16::from_be_bytes([header[0], header[1]]);
    (header[4..8] == STUN_COOKIE).then_some((kind, transaction, attributes))
}

/// Epoch and number of each record. Those of DTLS 1.3 hide them, and end the list.
fn record_numbers(mut records: &[u8]) -> impl Iterator<Item = (u16, u64)> {
    std::iter::from_fn(move || {
        let (header, rest) = records.split_at_checked(RECORD_HEADER)?;
        if header[1] != 0xfe {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        records = rest.get(length..)?;
        let both = u64::from_be_bytes(header[3..11].try_into().ok()?);
        Some(((both >> 48) as u16, both & 0xffff_ffff_ffff))
    })
}

#[cfg(test)]
mod tests {
    use super::super::clock::real_now;
    use super::*;

    fn stun_message(kind: u16, transaction: u8, attributes: &[u8]) -> Vec<u8> {
        let mut message = kind.to_be_bytes().to_vec();
        message.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
        message.extend(STUN_COOKIE);
        message.extend([transaction; 12]);
        message.extend(attributes);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = kind.to_be_bytes().to_vec();
        attribute.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    fn check(transaction: u8) -> Vec<u8> {
        stun_message(BINDING_REQUEST, transaction, &attribute(0x0006, b"us:er"))
    }

    fn record(epoch: u16, number: u64) -> Vec<u8> {
        let mut record = vec![23, 0xfe, 0xfd];
        record.extend(((u64::from(epoch) << 48) | number).to_be_bytes());
        record.extend([0, 3, 1, 2, 3]);
        record
    }

    fn channel_data(inner: &[u8]) -> Vec<u8> {
        let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
        [&[0x40, 0][..], &length, inner].concat()
    }

    fn indication(inner: &[u8]) -> Vec<u8> {
        let peer = attribute(0x0012, &[0; 8]);
        let attributes = [peer, attribute(DATA_ATTRIBUTE, inner)].concat();
        stun_message(SEND_INDICATION, 9, &attributes)
    }

    #[test]
    fn a_datagram_is_told_by_its_first_bytes_within_turn_as_well() {
        let (check, record) = (check(7), record(1, 5));
        for wrapped in [check.clone(), channel_data(&check), indication(&check)] {
            assert_eq!(kind(&wrapped), Kind::Request([7; 12]));
        }
        for wrapped in [record.clone(), channel_data(&record), indication(&record)] {
            assert_eq!(kind(&wrapped), Kind::Records(&record));
        }
        let answer = stun_message(BINDING_SUCCESS, 8, &[]);
        assert_eq!(kind(&answer), Kind::Answer([8; 12]));
        // A question for one's own address, and what is not looked into.
        for other in [
            stun_message(BINDING_REQUEST, 7, &[]),
            indication(&indication(&record)),
            channel_data(&channel_data(&record)),
            vec![0x80; 40],
            Vec::new(),
        ] {
            assert_eq!(kind(&other), Kind::Other);
        }
    }

    #[test]
    fn cut_short_or_garbled_nothing_breaks() {
        for whole in [
            check(7),
            indication(&check(7)),
            channel_data(&record(1, 5)),
            [record(1, 5), record(1, 6)].concat(),
        ] {
            for end in 0..whole.len() {
                let path = Path::new(real_now());
                path.note_received(real_now(), &whole[..end]);
                for bit in 0..8 {
                    let mut garbled = whole.clone();
                    garbled[end] ^= 1 << bit;
                    path.note_received(real_now(), &garbled);
                    path.note_sent(real_now(), &garbled);
                }
            }
        }
    }

    #[test]
    fn answers_are_timed_and_strangers_ignored() {
        let start = real_now();
        let path = Path::new(start);
        let later = start + Duration::from_millis(40);
        path.note_sent(start, &check(1));
        path.note_received(later, &stun_message(BINDING_SUCCESS, 2, &[]));
        assert_eq!(path.answers_within(), None);
        path.note_received(later, &stun_message(BINDING_SUCCESS, 1, &[]));
        assert_eq!(path.answers_within(), Some(Duration::from_millis(120)));
        // Twice is no second answer, and equal ones make it surer.
        path.note_received(
            later + Duration::from_secs(9),
            &stun_message(BINDING_SUCCESS, 1, &[]),
        );
        for n in 3..100 {
            path.note_sent(later, &check(n));
            let answered = later + Duration::from_millis(40);
            path.note_received(answered, &stun_message(BINDING_SUCCESS, n, &[]));
        }
        let within = path.answers_within().unwrap();
        assert!(within >= Duration::from_millis(40) && within < Duration::from_millis(42));
    }

    #[test]
    fn a_gap_in_the_record_numbers_counts_for_some_datagrams() {
        let start = real_now();
        let path = Path::new(start);
        for number in 0..5 {
            path.note_received(start, &record(1, number));
            assert!(!path.is_after_gap() && !path.owes_soon(start));
        }
        path.note_received(start, &record(1, 6));
        for number in 7..7 + u64::from(AFTER_GAP) {
            assert!(path.is_after_gap() && path.owes_soon(start));
            path.note_received(start, &record(1, number));
        }
        assert!(!path.is_after_gap());
        assert!(!path.owes_soon(start + LOSSY));
        path.note_sent(start, &record(1, 0));
        assert!(!path.owes_soon(start));
        // New keys begin a new count.
        path.note_received(start, &record(2, 0));
        assert!(!path.is_after_gap());
        path.note_answering();
        assert!(!path.owes_soon(start));
    }

    #[test]
    fn a_forged_number_makes_no_gap_of_all_that_follows() {
        let now = real_now();
        let path = Path::new(now);
        path.note_received(now, &record(1, 1));
        path.note_received(now, &record(1, 1 << 47));
        for number in 2..4 + u64::from(AFTER_GAP) {
            path.note_received(now, &record(1, number));
        }
        assert!(!path.is_after_gap());
    }

    #[test]
    fn only_the_next_records_are_doubled() {
        let now = real_now();
        let path = Path::new(now);
        assert!(!path.note_sent(now, &record(1, 0)));
        path.double_next();
        assert!(!path.note_sent(now, &check(1)));
        assert!(path.note_sent(now, &record(1, 1)));
        assert!(!path.note_sent(now, &record(1, 2)));
        assert_eq!(path.sent(), 3);
    }
}
