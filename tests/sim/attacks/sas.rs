//! The short code under attack (C6), and contacts by consent.

use std::time::Duration;

use sealwire::{
    crypto::kdf,
    protocol::{Event, Input, LinkId, Output},
};

use crate::{
    mallory::{PING, Peer},
    victim::{Seat, Victim, frames},
    world::{Case, Honest, World},
};

const START: u8 = 0x20;
const COMMIT: u8 = 0x21;
const NONCE: u8 = 0x22;
const OPEN: u8 = 0x23;
const PAIR_REQ: u8 = 0x28;
const PAIR_OK: u8 = 0x29;

fn codes(events: &[Event]) -> Vec<[u16; 3]> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::ShortCode { code } => Some(code.groups()),
            _ => None,
        })
        .collect()
}

fn failed(events: &[Event]) -> usize {
    let failed = |event: &&Event| matches!(event, Event::ShortCodeFailed);
    events.iter().filter(failed).count()
}

#[track_caller]
fn say(victim: &mut Victim, peer: &mut Peer, link: LinkId, kind: u8, body: &[u8]) -> Vec<Output> {
    let frame = peer.frame(0, kind, body);
    victim.frame(link, 0, &frame)
}

#[track_caller]
fn said(peer: &mut Peer, out: &[Output]) -> Vec<(u8, Vec<u8>)> {
    frames(out)
        .iter()
        .map(|(channel, frame)| peer.open(*channel, frame))
        .collect()
}

///
#[test]
fn both_sides_see_the_same_code_whoever_asks_or_both() {
    for case in Case::ALL {
        for who in [&[0][..], &[1], &[0, 1], &[1, 0]] {
            let mut world = World::of(case, 1, Honest);
            world.establish();
            for &node in who {
                world.give(node, Input::Compare);
            }
            world.run(Duration::from_secs(1));
            let shown = codes(&world.nodes[0].events);
            assert_eq!(shown.len(), 1, "{case:?} {who:?}");
            assert_eq!(codes(&world.nodes[1].events), shown);
            // Each run has a code of its own.
            world.give(who[0], Input::Compare);
            world.run(Duration::from_secs(1));
            assert_ne!(codes(&world.nodes[0].events)[1], shown[0]);
        }
    }
}

#[test]
fn a2_a_man_in_the_middle_shows_two_different_codes() {
    // Two honest sessions with one attacker between: the keys differ, and so does all that goes into the code.
    let mut worlds = [1, 2].map(|seed| World::open(seed, Honest));
    let shown: Vec<_> = worlds
        .iter_mut()
        .map(|world| {
            world.establish();
            world.give(0, Input::Compare);
            world.run(Duration::from_secs(1));
            codes(&world.nodes[0].events)
        })
        .collect();
    assert_ne!(shown[0], shown[1]);
}

///
#[test]
fn c6_a_commitment_opened_to_another_value_fails_the_run_and_no_other_begins_for_10_s() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 3);
    let out = victim.give(Input::Compare);
    assert_eq!(said(&mut peer, &out), [(START, Vec::new())]);
    let commitment = kdf::sas_commit(&peer.epoch.hash, &[1; 32]);
    let out = say(&mut victim, &mut peer, link, COMMIT, &commitment);
    assert_eq!(said(&mut peer, &out)[0].0, NONCE);
    say(&mut victim, &mut peer, link, OPEN, &[2; 32]);
    assert_eq!(
        (codes(&victim.events).len(), failed(&victim.events)),
        (0, 1)
    );
    assert!(victim.failure().is_none(), "the session stays");
    // Neither side gets another guess for a while.
    assert!(frames(&victim.give(Input::Compare)).is_empty());
    say(&mut victim, &mut peer, link, START, b"");
    let out = say(&mut victim, &mut peer, link, COMMIT, &commitment);
    assert!(frames(&out).is_empty());
    let heard = victim.wait(Duration::from_secs(11));
    said(&mut peer, &heard);
    let out = victim.give(Input::Compare);
    assert_eq!(said(&mut peer, &out), [(START, Vec::new())]);
}

///
#[test]
fn c6_what_comes_out_of_order_fails_the_run_alone() {
    let runs: [(bool, &[(u8, usize)]); 6] = [
        (true, &[(COMMIT, 32)]),
        (true, &[(OPEN, 32)]),
        (true, &[(START, 0), (COMMIT, 32), (START, 0)]),
        (true, &[(START, 0), (OPEN, 32)]),
        (false, &[(NONCE, 32)]),
        (false, &[(START, 0), (NONCE, 32), (NONCE, 32)]),
    ];
    for (initiates, kinds) in runs {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, initiates, 4);
        for &(kind, len) in kinds {
            say(&mut victim, &mut peer, link, kind, &vec![7; len]);
        }
        assert_eq!(failed(&victim.events), 1, "{kinds:?}");
        assert!(victim.failure().is_none());
        say(&mut victim, &mut peer, link, PING, b"12345678");
    }
}

///
#[test]
fn c6_what_belongs_to_no_run_is_told_again_as_soon_as_a_run_may_begin_again() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 12);
    for (pause, told) in [(0, 1), (9_999, 1), (1, 2)] {
        victim.wait(Duration::from_millis(pause));
        say(&mut victim, &mut peer, link, OPEN, &[7; 32]);
        assert_eq!(failed(&victim.events), told, "{pause} ms later");
    }
}

#[test]
fn c6_a_run_that_is_not_finished_is_given_up() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 5);
    say(&mut victim, &mut peer, link, START, b"");
    for _ in 0..4 {
        victim.wait(Duration::from_secs(8));
        say(&mut victim, &mut peer, link, 0x7f, b"");
    }
    assert_eq!(failed(&victim.events), 1);
}

fn contacts(out: &[Output]) -> usize {
    let contact = |output: &&Output| matches!(output, Output::Contact { .. });
    out.iter().filter(contact).count()
}

///
#[test]
fn a_contact_is_made_when_both_hosts_agree_and_not_before() {
    for case in Case::ALL {
        for first in [0, 1] {
            let mut world = World::of(case, 6, Honest);
            world.establish();
            world.give(first, Input::Pair);
            world.run(Duration::from_secs(1));
            let asked = |event: &Event| matches!(event, Event::ContactRequested);
            assert!(world.nodes[1 - first].events.iter().any(asked));
            assert!(world.nodes.iter().all(|node| node.contacts.is_empty()));
            world.give(1 - first, Input::Pair);
            world.run(Duration::from_secs(1));
            let [one, other] = [0, 1].map(|node| world.nodes[node].contacts.clone());
            assert_eq!(one.len(), 1, "{case:?}");
            assert_eq!(one[0].1, other[0].1, "the same secret");
            assert_eq!(one[0].0, world.peer_id(1));
        }
    }
}

///
#[test]
fn crossing_questions_are_consent() {
    let mut world = World::of(Case::Open, 7, Honest);
    world.establish();
    world.give(0, Input::Pair);
    world.give(1, Input::Pair);
    world.run(Duration::from_secs(1));
    assert_eq!(world.nodes[0].contacts.len(), 1);
    assert_eq!(world.nodes[0].contacts[0].1, world.nodes[1].contacts[0].1);
}

#[test]
fn consent_that_nobody_asked_for_makes_no_contact() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 8);
    let out = say(&mut victim, &mut peer, link, PAIR_OK, b"");
    assert_eq!(contacts(&out), 0);
    let out = say(&mut victim, &mut peer, link, PAIR_REQ, b"");
    assert_eq!((contacts(&out), frames(&out).len()), (0, 0));
    assert!(victim.failure().is_none());
}

///
#[test]
fn contacts_meet_again_without_an_invite_and_nobody_else_meets_them() {
    let mut world = World::of(Case::Open, 9, Honest);
    world.establish();
    world.give(0, Input::Pair);
    world.give(1, Input::Pair);
    world.run(Duration::from_secs(1));
    let secret = world.nodes[0].contacts[0].1;
    let identities = [0, 1].map(|node| world.nodes[node].identity.clone());
    let mut later = World::new(10);
    for (identity, peer) in identities.iter().zip(identities.iter().rev()) {
        later.add_contact(identity.clone(), peer.peer_id(), secret);
    }
    later.establish();
    later.send(0, "hello again");
    later.run(Duration::from_secs(1));
    assert_eq!(later.bodies(1), ["hello again"]);
    // A thief of the secret without the key is told nothing and changes nothing.
    let mut stolen = World::new(11);
    stolen.add_contact(identities[0].clone(), identities[1].peer_id(), secret);
    let thief = stolen.identity();
    stolen.add_contact(thief, identities[0].peer_id(), secret);
    stolen.run(Duration::from_secs(60));
    assert!(!stolen.is_established(0));
}
