//! Histories on both sides, compared: attack C7, restarts, and what is sent once in spite of them.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sealwire::{
    CloseCode, Identity, MinTrust, PeerId, Timestamp,
    history::{
        Archive, Author, Body, EntryState, HistoryError, MemoryHistory, Page, Pair, Record,
        export::Export,
    },
    message,
    protocol::{Event, HistoryInput, HistoryUse, Input, Meeting},
};

use super::world::{Case, World, now, parse};

const SECRET: [u8; 32] = [5; 32];

/// Two contacts, each with a history, who meet as often as they want.
pub struct Pals {
    pub world: World<'static>,
    identities: [Identity; 2],
    stores: [MemoryHistory; 2],
    /// The newest node of each.
    pub nodes: [usize; 2],
}

impl Pals {
    pub fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let identities = [world.identity(), world.identity()];
        Self {
            world,
            identities,
            stores: Default::default(),
            nodes: [0, 1],
        }
    }

    pub fn pair(&self, side: usize) -> Pair {
        Pair {
            me: self.identities[side].peer_id(),
            peer: self.peer(side),
        }
    }

    pub fn peer(&self, side: usize) -> PeerId {
        self.identities[1 - side].peer_id()
    }

    /// A process begins, with what is stored.
    pub fn start(&mut self, side: usize) {
        self.start_with(side, HistoryUse::Kept);
    }

    pub fn start_with(&mut self, side: usize, history: HistoryUse) {
        let archive = Archive::new(self.stores[side].clone());
        (self.world.history, self.world.archive) = (history, Some(archive));
        let (identity, peer) = (self.identities[side].clone(), self.peer(side));
        self.nodes[side] = self.world.add_contact(identity, peer, SECRET);
    }

    /// Both meet by an invite, not as contacts: after an outage the session always goes on.
    pub fn redeem(&mut self, uses: [HistoryUse; 2]) {
        let text = self.world.invite(&self.identities[0]);
        let meetings = [Meeting::Invite(parse(&text)), Meeting::Redeem(parse(&text))];
        self.meet_by(meetings, uses, MinTrust::Invited);
    }

    fn meet_by(&mut self, meetings: [Meeting; 2], uses: [HistoryUse; 2], required: MinTrust) {
        for (side, meeting) in meetings.into_iter().enumerate() {
            let archive = Archive::new(self.stores[side].clone());
            (self.world.history, self.world.archive) = (uses[side], Some(archive));
            let identity = self.identities[side].clone();
            self.nodes[side] = self.world.add(identity, meeting, required);
        }
        self.connect();
    }

    pub fn kill(&mut self, side: usize) {
        self.world.kill(self.nodes[side]);
    }

    pub fn archive(&self, side: usize) -> Archive {
        Archive::new(self.stores[side].clone())
    }

    pub fn meet(&mut self) {
        self.start(0);
        self.start(1);
        self.connect();
    }

    #[track_caller]
    pub fn connect(&mut self) {
        let nodes = self.nodes;
        let up = self.world.run_until(|world| {
            nodes
                .iter()
                .all(|node| world.nodes[*node].machine.is_connected())
        });
        assert!(up, "no session");
    }

    pub fn part(&mut self) {
        for side in 0..2 {
            self.kill(side);
        }
    }

    pub fn send(&mut self, side: usize, body: impl Into<Bytes>) {
        self.world.send(self.nodes[side], body);
    }

    pub fn run(&mut self) {
        self.world.run(Duration::from_secs(2));
    }

    pub fn got(&self, side: usize) -> Vec<Bytes> {
        self.world.bodies(self.nodes[side])
    }

    pub fn events(&self, side: usize) -> &[Event] {
        &self.world.nodes[self.nodes[side]].events
    }

    pub fn diverged(&self, side: usize) -> bool {
        let diverged = |event: &Event| matches!(event, Event::HistoryDiverged { .. });
        self.events(side).iter().any(diverged)
    }

    pub fn export(&self, side: usize) -> Export {
        let mut out = Vec::new();
        now(self.archive(side).export_json(self.pair(side), &mut out)).expect("it reads");
        Export::parse(&out).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&out));
        })
    }

    /// Bodies of the whole history, the oldest first.
    pub fn bodies(&self, side: usize, author: Author) -> Vec<Bytes> {
        let page = Page::newest(usize::MAX);
        let entries = now(self.archive(side).page(self.pair(side), &page)).expect("it reads");
        let entries = entries.into_iter().rev();
        let wanted = entries.filter(|entry| entry.author == author);
        wanted.filter_map(|entry| entry.body).collect()
    }

    pub fn heads_agree(&self) -> bool {
        let heads = |side| now(self.archive(side).heads(self.pair(side))).expect("it reads");
        let ((a, b), (c, d)) = (heads(0), heads(1));
        (a, b) == (d, c)
    }
}

///
#[test]
fn both_sides_store_the_same_chains_and_learn_what_arrived_r206_r208() {
    let mut pals = Pals::new(1);
    pals.meet();
    for round in 0..20_u8 {
        pals.send(usize::from(round % 2), vec![round; 3]);
    }
    pals.send(0, vec![1; 100_000]);
    pals.send(1, Bytes::new());
    pals.run();
    assert_eq!((pals.got(0).len(), pals.got(1).len()), (11, 11));
    assert!(pals.heads_agree());
    for side in 0..2 {
        let entries = now(pals.archive(side).page(pals.pair(side), &Page::newest(100)));
        let entries = entries.expect("it reads");
        assert_eq!(entries.len(), 22);
        let states = |state| entries.iter().filter(|entry| entry.state == state).count();
        assert_eq!(states(EntryState::Delivered), 11);
        assert_eq!(states(EntryState::Received), 11);
        let report = pals.export(side).compare(&pals.export(1 - side));
        assert_eq!(report.expect("the same").alike, 22);
    }
}

///
#[test]
fn nothing_is_sent_delivered_or_acknowledged_before_it_is_durable_r236() {
    let mut pals = Pals::new(2);
    pals.meet();
    pals.send(0, "one");
    let sent = pals.world.seen_on_wire.iter();
    assert!(
        sent.clone().all(|(_, channel, _)| *channel == 0),
        "stored first"
    );
    pals.run();
    assert_eq!(pals.got(1), ["one"]);
    pals.world.nodes[pals.nodes[1]].takes = false;
    pals.send(0, "two");
    pals.run();
    assert_eq!(pals.world.nodes[pals.nodes[0]].acknowledged[&1], 1);
    let stored = pals.bodies(1, Author::Peer);
    assert_eq!(stored, ["one", "two"], "stored, and not taken by the host");
}

///
#[test]
fn a_history_that_is_read_before_the_link_is_open_makes_no_ready_leave_early_r136() {
    // The initiator in an open room has a session before it has the answer by which its link opens.
    let meeting = || Meeting::Open {
        room: "lobby".into(),
        pinned: None,
    };
    let mut pals = Pals::new(20);
    pals.meet_by(
        [meeting(), meeting()],
        [HistoryUse::Kept; 2],
        MinTrust::Unknown,
    );
    for side in 0..2 {
        let failed = |event: &Event| matches!(event, Event::Retrying { .. });
        assert!(!pals.events(side).iter().any(failed));
    }
}

///
#[test]
fn a_history_goes_on_over_lost_transports_r209() {
    let mut pals = Pals::new(3);
    pals.redeem([HistoryUse::Kept; 2]);
    for round in 0..30_u8 {
        for side in 0..2 {
            pals.send(side, vec![round, side as u8]);
        }
        if round % 3 == 0 {
            let node = pals.nodes[usize::from(round % 2)];
            pals.world.steps(u64::from(round));
            pals.world.cut(node);
            pals.connect();
        }
    }
    pals.run();
    for side in 0..2 {
        let expected: Vec<Bytes> = (0..30)
            .map(|round| Bytes::from(vec![round, 1 - side as u8]))
            .collect();
        assert_eq!(pals.got(side), expected, "{:?}", pals.events(side));
        assert!(!pals.diverged(side));
    }
    assert!(pals.heads_agree());
}

///
#[test]
fn what_did_not_arrive_before_a_restart_is_cut_and_sent_once_after_it_r209() {
    let mut pals = Pals::new(4);
    pals.meet();
    pals.send(0, "arrives");
    pals.run();
    let node = pals.nodes[1];
    pals.world.give(node, Input::Suspend);
    pals.world.run(Duration::from_millis(1));
    pals.send(0, "waits");
    pals.send(0, "waits too");
    pals.run();
    pals.part();
    pals.meet();
    pals.send(0, "new");
    pals.run();
    let undelivered = |event: &Event| matches!(event, Event::Undelivered { messages: 2 });
    assert!(
        pals.events(0).iter().any(undelivered),
        "{:?}",
        pals.events(0)
    );
    assert_eq!(pals.got(1), ["waits", "waits too", "new"]);
    let all = ["arrives", "waits", "waits too", "new"];
    assert_eq!(pals.bodies(1, Author::Peer), all);
    assert_eq!(pals.bodies(0, Author::Me), all);
    assert!(pals.heads_agree());
}

///
#[test]
fn messages_queued_without_a_session_are_sent_once_r235() {
    let mut pals = Pals::new(5);
    for text in ["one", "two"] {
        let time = Timestamp::from_unix_ms(7);
        now(pals.archive(0).queue(pals.pair(0), text, time)).expect("kept");
    }
    for _ in 0..3 {
        pals.meet();
        pals.run();
        pals.part();
    }
    let got = pals.bodies(1, Author::Peer);
    let texts: Vec<_> = got
        .iter()
        .map(|body| message::decode(body).unwrap().0)
        .collect();
    assert_eq!(texts, ["one".into(), "two".into()]);
    assert!(pals.heads_agree());
}

///
#[test]
fn one_side_without_a_history_still_talks_and_the_other_keeps_what_is_said_r205() {
    let mut pals = Pals::new(6);
    pals.redeem([HistoryUse::Kept, HistoryUse::Off]);
    for round in 0..5_u8 {
        pals.send(0, vec![round]);
        pals.send(1, vec![round]);
        let node = pals.nodes[0];
        pals.world.cut(node);
        pals.connect();
    }
    pals.run();
    let expected: Vec<Bytes> = (0..5).map(|round| Bytes::from(vec![round])).collect();
    assert_eq!(pals.got(0), expected);
    assert_eq!(pals.got(1), expected);
    assert_eq!(pals.bodies(0, Author::Me), expected);
    assert_eq!(pals.bodies(0, Author::Peer), expected);
    let heads = now(pals.archive(0).heads(pals.pair(0))).expect("it reads");
    assert_eq!((heads.0.n, heads.1.n), (0, 0), "no chain grew");
}

///
#[test]
fn a_side_that_requires_a_history_leaves_one_that_keeps_none_r205() {
    let mut pals = Pals::new(7);
    pals.start_with(0, HistoryUse::Required);
    pals.start_with(1, HistoryUse::Off);
    pals.run();
    pals.run();
    for side in 0..2 {
        let closed = |event: &Event| matches!(event, Event::Closed { code, .. } if *code == CloseCode::HISTORY_DIVERGED);
        assert!(
            pals.events(side).iter().any(closed),
            "{:?}",
            pals.events(side)
        );
    }
}

/// One way to change a stored copy.
type Tamper = fn(&mut BTreeMap<u64, Record>);

fn edit(records: &mut BTreeMap<u64, Record>) {
    for record in records.values_mut() {
        if let Record::Chained { n: 2, body, .. } = record {
            *body = Body::Whole(Bytes::from_static(b"never said"));
        }
    }
}

fn edit_time(records: &mut BTreeMap<u64, Record>) {
    for record in records.values_mut() {
        if let Record::Chained { n: 1, ts_ms, .. } = record {
            *ts_ms += 1;
        }
    }
}

fn delete(records: &mut BTreeMap<u64, Record>) {
    records.retain(|_, record| !matches!(record, Record::Chained { n: 1, .. }));
}

/// Numbers are made to fit again, as a careful forger would.
fn delete_and_renumber(records: &mut BTreeMap<u64, Record>) {
    delete(records);
    for record in records.values_mut() {
        if let Record::Chained { n, .. } = record
            && *n > 1
        {
            *n -= 1;
        }
    }
}

fn insert(records: &mut BTreeMap<u64, Record>) {
    let last = records
        .iter()
        .next_back()
        .map(|(at, record)| (*at, record.clone()));
    if let Some((
        at,
        Record::Chained {
            author,
            n,
            seen,
            ts_ms,
            ..
        },
    )) = last
    {
        let body = Body::Whole(Bytes::from_static(b"never said"));
        let forged = Record::Chained {
            author,
            n: n + 1,
            seen,
            ts_ms,
            body,
        };
        records.insert(at + 1, forged);
    }
}

fn reorder(records: &mut BTreeMap<u64, Record>) {
    let swap = |number: u64, records: &BTreeMap<u64, Record>| {
        let is_it = |record: &&Record| matches!(record, Record::Chained { author: Author::Me, n, .. } if *n == number);
        records.values().find(is_it).cloned()
    };
    let (one, two) = (swap(1, records), swap(2, records));
    for record in records.values_mut() {
        if let Record::Chained {
            author: Author::Me,
            n,
            body,
            ..
        } = record
        {
            let other = match n {
                1 => &two,
                2 => &one,
                _ => continue,
            };
            if let Some(Record::Chained {
                body: Body::Whole(other),
                ..
            }) = other
            {
                *body = Body::Whole(other.clone());
            }
        }
    }
}

fn truncate(records: &mut BTreeMap<u64, Record>) {
    for _ in 0..3 {
        records.pop_last();
    }
}

fn empty(records: &mut BTreeMap<u64, Record>) {
    records.clear();
}

#[test]
fn c7_every_change_of_a_stored_copy_is_detected_at_the_next_meeting() {
    let ways: [(&str, Tamper); 8] = [
        ("edit", edit),
        ("edit of a time", edit_time),
        ("deletion", delete),
        ("deletion with new numbers", delete_and_renumber),
        ("insertion", insert),
        ("reorder", reorder),
        ("truncation", truncate),
        ("everything", empty),
    ];
    for (name, tamper) in ways {
        for side in 0..2 {
            let mut pals = Pals::new(8);
            pals.meet();
            for round in 0..5_u8 {
                for side in 0..2 {
                    pals.send(side, vec![round, side as u8]);
                }
                pals.run();
            }
            pals.part();
            pals.stores[side].tamper(pals.pair(side), tamper);
            let readable = now(pals.archive(side).heads(pals.pair(side)));
            pals.start(0);
            pals.start(1);
            pals.run();
            pals.run();
            let errors = &pals.world.nodes[pals.nodes[side]].history_errors;
            let damaged = errors
                .iter()
                .any(|error| matches!(error, HistoryError::Damaged { .. }));
            assert_eq!(damaged, readable.is_err(), "{name} on side {side}");
            if damaged {
                assert!(!pals.world.is_established(pals.nodes[1 - side]));
                continue;
            }
            let told = pals.diverged(0) || pals.diverged(1);
            assert!(
                told,
                "{name} on side {side}: {:?} {:?}",
                pals.events(0),
                pals.events(1)
            );
            assert!(
                pals.export(side).compare(&pals.export(1 - side)).is_err(),
                "{name}"
            );
        }
    }
}

///
#[test]
fn after_a_difference_nothing_flows_until_the_host_says_so_and_then_it_does_r209() {
    for side in 0..2 {
        let mut pals = Pals::new(9);
        pals.meet();
        for round in 0..5_u8 {
            pals.send(0, vec![round]);
            pals.send(1, vec![round]);
            pals.run();
        }
        pals.part();
        pals.stores[side].tamper(pals.pair(side), empty);
        // As if the file was lost: its state as well.
        let lost = MemoryHistory::new();
        pals.stores[side] = lost;
        pals.meet();
        pals.send(0, "first");
        pals.send(1, "second");
        pals.run();
        assert!(pals.diverged(0) && pals.diverged(1));
        assert_eq!((pals.got(0).len(), pals.got(1).len()), (0, 0));
        for side in 0..2 {
            let node = pals.nodes[side];
            pals.world.give(node, Input::History(HistoryInput::Accept));
            pals.world.flush(node);
        }
        pals.run();
        assert_eq!(
            (pals.got(0), pals.got(1)),
            (vec!["second".into()], vec!["first".into()])
        );
        pals.part();
        pals.meet();
        pals.send(0, "third");
        pals.run();
        assert!(!pals.diverged(0) && !pals.diverged(1), "told once");
        assert_eq!(pals.got(1), ["third"]);
    }
}

#[test]
fn a_deleted_history_leaves_no_content_and_no_difference() {
    let mut pals = Pals::new(10);
    pals.meet();
    for round in 0..5_u8 {
        pals.send(0, vec![round]);
        pals.send(1, vec![round]);
    }
    pals.run();
    let node = pals.nodes[1];
    pals.world.give(node, Input::Suspend);
    pals.world.run(Duration::from_millis(1));
    pals.send(0, "unconfirmed");
    pals.run();
    pals.part();
    now(pals.archive(0).delete(pals.pair(0))).expect("deleted");
    assert!(pals.bodies(0, Author::Me).is_empty() && pals.bodies(0, Author::Peer).is_empty());
    pals.export(0).verify().expect("the hashes still fit");
    pals.meet();
    pals.send(0, "new");
    pals.send(1, "new");
    pals.run();
    assert!(!pals.diverged(0) && !pals.diverged(1));
    assert_eq!(pals.bodies(0, Author::Me), ["new"]);
    assert!(pals.heads_agree());
    pals.export(0)
        .compare(&pals.export(1))
        .expect("no difference");
}

#[test]
fn every_message_arrives_once_and_in_order_whatever_is_killed_when() {
    for seed in 0..20 {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut pals = Pals::new(100 + seed);
        let mut queued = [0_u32; 2];
        pals.start(0);
        pals.start(1);
        for _ in 0..40 {
            let side = (rng.next_u64() % 2) as usize;
            match rng.next_u64() % 8 {
                0 => {
                    pals.kill(side);
                    pals.start(side);
                }
                1 => {
                    let node = pals.nodes[side];
                    pals.world.cut(node);
                }
                2 => pals.world.run(Duration::from_secs(rng.next_u64() % 20)),
                _ => {
                    // What is in the archive when this returns is sent; what a machine was only given may be lost with
                    // it, so only the former is counted on.
                    let number = &mut queued[side];
                    let body = number.to_be_bytes().to_vec();
                    *number += 1;
                    let time = Timestamp::from_unix_ms(1);
                    let archive = pals.world.nodes[pals.nodes[side]].archive.clone();
                    let archive = archive.expect("it keeps one");
                    now(archive.queue(pals.pair(side), body, time)).expect("kept");
                }
            }
            pals.world.steps(rng.next_u64() % 60);
        }
        pals.part();
        for _ in 0..2 {
            pals.meet();
            pals.run();
            pals.part();
        }
        for side in 0..2 {
            let got = pals.bodies(side, Author::Peer);
            let numbers: Vec<u32> = got
                .iter()
                .map(|body| {
                    let (content, _) = message::decode(body).expect("a message");
                    let bytes = content.as_bytes().expect("bytes");
                    u32::from_be_bytes(bytes.try_into().expect("a number"))
                })
                .collect();
            let expected: Vec<u32> = (0..queued[1 - side]).collect();
            assert_eq!(numbers, expected, "seed {seed}, side {side}");
        }
        assert!(pals.heads_agree(), "seed {seed}");
        pals.export(0)
            .compare(&pals.export(1))
            .expect("no difference");
    }
}

///
#[test]
fn the_stamp_counts_as_part_of_a_message_r234() {
    let mut pals = Pals::new(11);
    pals.redeem([HistoryUse::Kept; 2]);
    let agreed = |world: &World<'_>| world.nodes[0].machine.agreed().expect("a session").0;
    let (max, plain) = (
        agreed(&pals.world),
        agreed(&{
            let mut world = World::of(Case::Open, 1, super::world::Honest);
            world.establish();
            world
        }),
    );
    assert_eq!(max, plain - 14);
    pals.send(0, vec![1; max]);
    pals.run();
    assert_eq!(pals.got(1), [vec![1; max]]);
}

#[test]
fn without_a_history_on_either_side_nothing_on_the_wire_tells_of_it() {
    let mut world = World::of(Case::Open, 1, super::world::Honest);
    world.establish();
    world.send(0, "text");
    world.run(Duration::from_secs(1));
    let ready = world
        .seen_on_wire
        .iter()
        .find(|(_, channel, _)| *channel == 0);
    // 9 bytes of READY, padded to 32, with header and tag.
    assert_eq!(ready.map(|(.., frame)| frame.len()), Some(8 + 32 + 16));
}
