//! Two machines that talk, and one that is lied to.

use sha2::{Digest as _, Sha256};

use super::{
    wire::{DATA_OVERHEAD, Message},
    *,
};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

const WINDOW: u64 = 1_000;

fn offer(name: &str, size: u64) -> Offer {
    Offer {
        kind: Kind::File,
        name: name.into(),
        size: Some(size),
        content: [1; 32],
    }
}

/// Carries all that waits from one to the other: what it means there.
fn carry(from: &mut Machine, to: &mut Machine) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(message) = from.next_message() {
        to.receive(&message, &mut events).unwrap();
    }
    events
}

/// One stream that was offered, accepted and begun.
fn begun(size: u64) -> (Machine, Machine, GivenId, TakenId) {
    let (mut giver, mut taker) = (Machine::default(), Machine::default());
    let given = giver.offer(offer("a", size)).unwrap();
    let events = carry(&mut giver, &mut taker);
    let [Event::Offered(taken, _)] = events[..] else {
        panic!("{events:?}")
    };
    assert!(taker.accept(taken, (0, [0; 32]), WINDOW));
    assert_eq!(carry(&mut taker, &mut giver).len(), 1);
    assert!(giver.begin(given, 0));
    assert_eq!(carry(&mut giver, &mut taker), [Event::Began(taken, 0)]);
    (giver, taker, given, taken)
}

fn lie(machine: &mut Machine, message: Message) -> Result<(), Violation> {
    machine.receive(&message.encode(), &mut Vec::new())
}

#[test]
fn s_8_a_stream_sends_what_it_was_granted_and_goes_on_when_its_reader_does() {
    let (mut giver, mut taker, given, taken) = begun(3_000);
    let content = vec![7; 3_000];
    let (mut sent, mut taken_bytes) = (0, 0);
    while sent < content.len() {
        let before = sent;
        while let Some((message, len)) = giver.data(given, &content[sent..], 100 + DATA_OVERHEAD) {
            assert!(len <= 100);
            sent += len;
            taker.receive(&message, &mut Vec::new()).unwrap();
        }
        assert!(sent > before, "it goes on");
        assert!(sent as u64 - taken_bytes <= WINDOW, "within the window");
        taker.consume(taken, sent as u64 - taken_bytes);
        taken_bytes = sent as u64;
        carry(&mut taker, &mut giver);
    }
    assert!(giver.end(given, [9; 32]));
    assert_eq!(
        carry(&mut giver, &mut taker),
        [Event::Ended(taken, [9; 32])]
    );
    assert!(taker.done(taken) && !taker.done(taken));
    assert_eq!(carry(&mut taker, &mut giver), [Event::Done(given)]);
}

#[test]
fn s_10_bytes_beyond_credit_or_size_end_all_streams() {
    for (size, len, violation) in [
        (
            5_000,
            1_001,
            Violation::BeyondCredit {
                stream: 0,
                excess: 1,
            },
        ),
        (500, 501, Violation::WrongSize { stream: 0 }),
    ] {
        let (mut giver, mut taker, ..) = begun(size);
        let bytes = Bytes::from(vec![0; len]);
        let lied = lie(&mut taker, Message::Data { stream: 0, bytes });
        assert_eq!(lied, Err(violation));
        assert!(taker.is_over() && taker.offer(offer("late", 1)).is_err());
        assert_eq!(carry(&mut taker, &mut giver), [Event::Faulted]);
        assert!(giver.is_over() && giver.next_message().is_none());
        // What still comes is not even looked at.
        assert_eq!(lie(&mut taker, Message::Done { stream: 99 }), Ok(()));
    }
}

#[test]
fn s_5_messages_out_of_turn_end_all_streams() {
    let (stream, hash) = (0, [0; 32]);
    let bytes = Bytes::from_static(b"x");
    let accept = |offset| Message::Accept {
        stream,
        offset,
        credit: 5,
        prefix: hash,
    };
    // Before ACCEPT, to the taker.
    for message in [
        Message::Begin { stream, offset: 0 },
        Message::Data {
            stream,
            bytes: bytes.clone(),
        },
        Message::End { stream, hash },
    ] {
        let mut taker = Machine::default();
        let offer = offer("a", 5);
        assert_eq!(lie(&mut taker, Message::Offer { stream, offer }), Ok(()));
        let lied = lie(&mut taker, message);
        assert!(matches!(lied, Err(Violation::OutOfTurn { .. })), "{lied:?}");
    }
    // To the giver.
    for (lies, last) in [
        (vec![], Message::Done { stream }),
        (vec![], Message::Credit { stream, credit: 9 }),
        (vec![accept(0)], accept(0)),
        (vec![accept(0)], Message::Done { stream }),
        (vec![accept(0)], Message::Credit { stream, credit: 5 }),
        (
            vec![Message::Stop {
                stream,
                reason: Reason::Refused,
            }],
            accept(0),
        ),
    ] {
        let mut giver = Machine::default();
        giver.offer(offer("a", 5)).unwrap();
        for message in lies {
            assert_eq!(lie(&mut giver, message), Ok(()));
        }
        let lied = lie(&mut giver, last);
        assert!(matches!(lied, Err(Violation::OutOfTurn { .. })), "{lied:?}");
    }
    // Where nothing is.
    for message in [
        Message::Done { stream: 3 },
        Message::Data { stream: 3, bytes },
        accept(0),
    ] {
        let lied = lie(&mut Machine::default(), message);
        assert!(
            matches!(lied, Err(Violation::UnknownStream { .. })),
            "{lied:?}"
        );
    }
}

#[test]
fn s_11_only_a_stream_with_a_content_id_is_taken_up_within_its_size() {
    for (content, offset, fine) in [([1; 32], 5, true), ([1; 32], 6, false), ([0; 32], 1, false)] {
        let mut giver = Machine::default();
        let offer = Offer {
            content,
            ..offer("a", 5)
        };
        giver.offer(offer.clone()).unwrap();
        let (stream, credit, prefix) = (0, 5, [0; 32]);
        let accept = Message::Accept {
            stream,
            offset,
            credit,
            prefix,
        };
        assert_eq!(lie(&mut giver, accept).is_ok(), fine);

        let mut taker = Machine::default();
        assert_eq!(lie(&mut taker, Message::Offer { stream, offer }), Ok(()));
        assert_eq!(taker.accept(TakenId(0), (offset, prefix), 5), fine);
    }
    let (mut giver, mut taker) = (Machine::default(), Machine::default());
    let given = giver.offer(offer("a", 5)).unwrap();
    carry(&mut giver, &mut taker);
    assert!(taker.accept(TakenId(0), (3, [0; 32]), WINDOW));
    carry(&mut taker, &mut giver);
    assert!(
        !giver.begin(given, 2) && giver.begin(given, 0),
        "from there, or from the start"
    );
    assert_eq!(giver.sendable(given), 5);
}

#[test]
fn s_4_ten_thousand_offers_are_sixty_four_and_a_violation() {
    let mut taker = Machine::default();
    let mut events = Vec::new();
    for stream in 0..64 {
        let offer = offer("a", 5);
        taker
            .receive(&Message::Offer { stream, offer }.encode(), &mut events)
            .unwrap();
    }
    assert_eq!(events.len(), MAX_STREAMS);
    let one_more = Message::Offer {
        stream: 64,
        offer: offer("a", 5),
    };
    // It does not help the peer to take its offers back while it does not take our answers.
    for stream in 0..64 {
        let reason = Reason::Cancelled;
        lie(&mut taker, Message::Abort { stream, reason }).unwrap();
    }
    assert_eq!(lie(&mut taker, one_more), Err(Violation::TooManyStreams));
    assert_eq!(taker.next_message(), Some(Message::Fault.encode()));

    let mut giver = Machine::default();
    for _ in 0..MAX_STREAMS {
        giver.offer(offer("a", 5)).unwrap();
    }
    assert_eq!(giver.offer(offer("a", 5)), Err(TooMany));
}

#[test]
fn s_3_a_place_is_free_once_both_sides_spoke_their_last_word() {
    let (mut giver, mut taker) = (Machine::default(), Machine::default());
    for n in 0..10 * MAX_STREAMS {
        let given = giver.offer(offer("a", 5)).unwrap();
        carry(&mut giver, &mut taker);
        let taken = TakenId(given.0);
        match n % 3 {
            0 => taker.stop(taken, Reason::Refused),
            1 => giver.abort(given, Reason::Cancelled),
            // Both at once.
            _ => {
                taker.stop(taken, Reason::Refused);
                giver.abort(given, Reason::Cancelled);
                let message = giver.next_message().unwrap();
                carry(&mut taker, &mut giver);
                taker.receive(&message, &mut Vec::new()).unwrap();
            }
        }
        for _ in 0..2 {
            carry(&mut giver, &mut taker);
            carry(&mut taker, &mut giver);
        }
        assert!(
            giver.offer(offer(&"x".repeat(256), 5)).is_err(),
            "not valid"
        );
    }
}

#[test]
fn s_7_what_was_under_way_to_a_side_that_turned_away_is_dropped() {
    let (mut giver, mut taker, given, taken) = begun(3_000);
    let (message, _) = giver.data(given, &[1; 500], 600).unwrap();
    taker.stop(taken, Reason::Full);
    let mut events = Vec::new();
    taker.receive(&message, &mut events).unwrap();
    assert!(events.is_empty());
    assert_eq!(
        carry(&mut taker, &mut giver),
        [Event::Stopped(given, Reason::Full)]
    );
    assert_eq!(giver.sendable(given), 0);
    assert!(giver.data(given, &[1; 500], 600).is_none() && !giver.end(given, [0; 32]));
    assert!(carry(&mut giver, &mut taker).is_empty());
    // And both have forgotten it.
    let reason = Reason::Cancelled;
    assert!(lie(&mut taker, Message::Abort { stream: 0, reason }).is_err());
    assert!(lie(&mut giver, Message::Stop { stream: 0, reason }).is_err());
}

#[test]
fn many_grants_leave_as_one_message_behind_what_was_said_before() {
    let (mut giver, mut taker, given, taken) = begun(1_000_000);
    for _ in 0..3 {
        let (message, _) = giver.data(given, &[1; 300], 400).unwrap();
        taker.receive(&message, &mut Vec::new()).unwrap();
    }
    for _ in 0..9 {
        taker.consume(taken, 100);
    }
    assert_eq!(carry(&mut taker, &mut giver), [Event::Credit(given)]);
    assert!(giver.sendable(given) >= 500);
    // A host that takes more than there was gains nothing.
    taker.consume(taken, u64::MAX);
    carry(&mut taker, &mut giver);
    assert_eq!(giver.sendable(given), 600);
}

/// The random source of the simulation.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % sides
    }
}

/// One side of the simulation: what it gives, and what of the other's survives a restart.
#[derive(Default)]
struct Side {
    machine: Machine,
    /// Contents, by name, and whether the peer confirmed them.
    contents: BTreeMap<String, Vec<u8>>,
    confirmed: Vec<String>,
    giving: BTreeMap<GivenId, (String, usize)>,
    taking: BTreeMap<TakenId, String>,
    kept: BTreeMap<String, Vec<u8>>,
    untaken: VecDeque<(TakenId, u64)>,
    whole: Vec<String>,
    inbox: VecDeque<Bytes>,
}

impl Side {
    fn offer_some(&mut self) {
        let under_way: Vec<&String> = self.giving.values().map(|(name, _)| name).collect();
        let next = self
            .contents
            .iter()
            .find(|(name, _)| !self.confirmed.contains(name) && !under_way.contains(name));
        if let Some((name, content)) = next {
            let offered = self.machine.offer(offer(name, content.len() as u64));
            self.giving.insert(offered.unwrap(), (name.clone(), 0));
        }
    }

    fn receive(&mut self) {
        let Some(message) = self.inbox.pop_front() else {
            return;
        };
        let mut events = Vec::new();
        self.machine.receive(&message, &mut events).unwrap();
        for event in events {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Offered(id, offer) => {
                let kept = self.kept.entry(offer.name.clone()).or_default();
                let prefix: [u8; 32] = Sha256::digest(&kept).into();
                assert!(self.machine.accept(id, (kept.len() as u64, prefix), WINDOW));
                self.taking.insert(id, offer.name);
            }
            Event::Accepted { id, offset, prefix } => {
                let (name, at) = self.giving.get_mut(&id).unwrap();
                let here: [u8; 32] = Sha256::digest(&self.contents[name][..offset as usize]).into();
                assert_eq!(here, prefix);
                *at = offset as usize;
                assert!(self.machine.begin(id, offset));
            }
            Event::Data(id, bytes) => {
                self.untaken.push_back((id, bytes.len() as u64));
                let kept = self.kept.get_mut(&self.taking[&id]).unwrap();
                kept.extend_from_slice(&bytes);
            }
            Event::Ended(id, hash) => {
                let name = self.taking[&id].clone();
                let here: [u8; 32] = Sha256::digest(&self.kept[&name]).into();
                assert_eq!(here, hash);
                self.whole.push(name);
                assert!(self.machine.done(id));
            }
            Event::Done(id) => {
                let (name, _) = self.giving.remove(&id).unwrap();
                self.confirmed.push(name);
            }
            Event::Stopped(id, _) => drop(self.giving.remove(&id)),
            Event::Aborted(id, _) => drop(self.taking.remove(&id)),
            Event::Credit(_) | Event::Began(..) => {}
            Event::Faulted => panic!("nobody broke a rule"),
        }
    }

    /// Sends one message, a control message before any other.
    fn send(&mut self, dice: &mut Dice, to: &mut Side) {
        if let Some(message) = self.machine.next_message() {
            return to.inbox.push_back(message);
        }
        let at = dice.roll(8) as usize;
        let Some((&id, (name, at))) = self.giving.iter_mut().nth(at) else {
            return;
        };
        let content = &self.contents[name];
        let max = 6 + dice.roll(400) as usize;
        if let Some((message, len)) = self.machine.data(id, &content[*at..], max) {
            *at += len;
            return to.inbox.push_back(message);
        }
        if *at == content.len() {
            self.machine.end(id, Sha256::digest(content).into());
        } else if dice.roll(2_000) == 0 {
            self.machine.abort(id, Reason::Cancelled);
            self.giving.remove(&id);
        }
    }

    fn take(&mut self, dice: &mut Dice) {
        if let Some((id, bytes)) = self.untaken.pop_front() {
            self.machine.consume(id, bytes);
            if dice.roll(3_000) == 0 {
                self.machine.stop(id, Reason::Cancelled);
            }
        }
    }

    /// Only what is on disk survives.
    fn restart(&mut self) {
        self.machine = Machine::default();
        self.giving.clear();
        self.taking.clear();
        self.untaken.clear();
        self.inbox.clear();
    }
}

#[test]
fn everything_arrives_whole_whatever_the_order_and_however_often_it_is_cut() {
    let mut resumed = 0;
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut sides = [Side::default(), Side::default()];
        for side in &mut sides {
            for n in 0..dice.roll(6) {
                let content = (0..dice.roll(20_000)).map(|_| dice.roll(256) as u8);
                side.contents.insert(format!("{n}"), content.collect());
            }
        }
        let mut steps = 0;
        while sides
            .iter()
            .any(|side| side.confirmed.len() < side.contents.len())
        {
            steps += 1;
            assert!(steps < 1_000_000, "seed {seed} hangs");
            let turn = dice.roll(2) as usize;
            let [a, b] = &mut sides;
            let (one, other) = if turn == 0 { (a, b) } else { (b, a) };
            match dice.roll(10) {
                0 => one.offer_some(),
                1..=3 => one.receive(),
                4..=7 => one.send(&mut dice, other),
                _ => one.take(&mut dice),
            }
            let late: u64 = one.untaken.iter().map(|(_, bytes)| bytes).sum();
            assert!(late <= WINDOW * one.taking.len() as u64, "seed {seed}");
            if dice.roll(3_000) == 0 {
                sides.iter_mut().for_each(Side::restart);
                resumed += sides.iter().map(|side| side.kept.len()).sum::<usize>();
            }
        }
        let [a, b] = &sides;
        for (from, to) in [(a, b), (b, a)] {
            assert_eq!(to.kept, from.contents, "seed {seed}");
        }
    }
    assert!(resumed > 100, "{resumed} were taken up again");
}
