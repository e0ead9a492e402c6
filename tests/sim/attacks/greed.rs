//! A peer, or a member of the room, that asks again and again, or for more than this side would give.

use std::time::Duration;

use sealwire::{
    Config, MinTrust,
    error::RefusalCode,
    protocol::{Event, Input, LinkId, Meeting, Output, PayloadKind},
};

use crate::{
    mallory::{DUMMY, Mallory, Peer},
    victim::{Seat, Victim, blobs, frames},
    world::{World, parse},
};

const START: u8 = 0x20;
const COMMIT: u8 = 0x21;
const NONCE: u8 = 0x22;
const OPEN: u8 = 0x23;
const PAIR_REQ: u8 = 0x28;
const PAIR_OK: u8 = 0x29;

#[track_caller]
fn say(victim: &mut Victim, peer: &mut Peer, link: LinkId, kind: u8, body: &[u8]) -> Vec<u8> {
    let frame = peer.frame(0, kind, body);
    let out = victim.frame(link, 0, &frame);
    let answers = frames(&out);
    let kinds = answers
        .iter()
        .map(|(channel, frame)| peer.open(*channel, frame).0);
    kinds.collect()
}

fn count(victim: &Victim, wanted: impl Fn(&Event) -> bool) -> usize {
    victim.events.iter().filter(|event| wanted(event)).count()
}

fn codes(victim: &Victim) -> usize {
    count(victim, |event| matches!(event, Event::ShortCode { .. }))
}

fn failures(victim: &Victim) -> usize {
    count(victim, |event| matches!(event, Event::ShortCodeFailed))
}

///
#[test]
fn a_large_window_of_the_peer_makes_this_side_hold_no_more_than_its_own() {
    let mut world = World::new(420);
    let (inviter, redeemer) = (world.identity(), world.identity());
    let text = world.invite(&inviter);
    let mut vast = Config::default();
    vast.limits.window = u32::MAX;
    world.add(inviter, Meeting::Invite(parse(&text)), MinTrust::Invited);
    let meeting = Meeting::Redeem(parse(&text));
    world.add_with(vast, redeemer, meeting, MinTrust::Invited);
    world.establish();
    let own = Config::default().limits.window as usize;
    let window = |node: usize| world.nodes[node].machine.agreed().map(|(_, window)| window);
    assert_eq!(
        [window(0), window(1)],
        [Some(own); 2],
        "the smaller of both"
    );
    world.nodes[1].takes = false;
    for _ in 0..24 {
        world.send(0, vec![0; 1 << 20]);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.bodies(1).len(), 7, "what fits 8 MiB");
}

/// One whole run that the peer, an initiator, starts: what the victim answers.
fn run(victim: &mut Victim, peer: &mut Peer, link: LinkId) -> Vec<u8> {
    let mut answers = say(victim, peer, link, START, b"");
    answers.extend(say(victim, peer, link, NONCE, &[7; 32]));
    answers
}

///
#[test]
fn c6_a_peer_that_starts_run_after_run_gets_four_codes_and_then_one_in_10_s() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 421);
    let mut answers = Vec::new();
    for _ in 0..1_000 {
        answers.extend(run(&mut victim, &mut peer, link));
    }
    assert_eq!(answers, [COMMIT, OPEN].repeat(4));
    assert_eq!((codes(&victim), failures(&victim)), (4, 0));
    for more in 1..4 {
        for _ in 0..10 {
            victim.wait(Duration::from_secs(1));
            for _ in 0..50 {
                run(&mut victim, &mut peer, link);
            }
        }
        assert_eq!((codes(&victim), failures(&victim)), (4 + more, 0));
    }
    // Whoever sits in front of this device may ask all the same.
    assert_eq!(
        frames(&victim.give(Input::Compare)).len(),
        2,
        "START, COMMIT"
    );
}

///
#[test]
fn c6_a_peer_that_waited_for_long_gets_no_more_codes_at_once() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 428);
    for _ in 0..10 {
        victim.wait(Duration::from_secs(4));
        say(&mut victim, &mut peer, link, DUMMY, b"");
    }
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.extend(run(&mut victim, &mut peer, link));
    }
    assert_eq!(answers, [COMMIT, OPEN].repeat(4));
}

///
#[test]
fn c6_what_belongs_to_no_run_tells_the_host_once_and_not_again_and_again() {
    for (initiates, kinds) in [
        (true, [COMMIT, OPEN, START]),
        (false, [NONCE, START, NONCE]),
    ] {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, initiates, 422);
        let mut answers = 0;
        for _ in 0..1_000 {
            for kind in kinds {
                let len = if kind == START { 0 } else { 32 };
                answers += say(&mut victim, &mut peer, link, kind, &vec![7; len]).len();
            }
        }
        assert_eq!((failures(&victim), answers), (1, 0), "{initiates}");
        assert!(victim.failure().is_none(), "the session stays");
    }
}

///
#[test]
fn a_peer_that_asks_to_be_a_contact_again_and_again_is_answered_once() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 423);
    let mut answers = Vec::new();
    for _ in 0..1_000 {
        answers.extend(say(&mut victim, &mut peer, link, PAIR_REQ, b""));
    }
    assert!(answers.is_empty());
    let asked = |event: &Event| matches!(event, Event::ContactRequested);
    assert_eq!(count(&victim, asked), 1);
    let out = victim.give(Input::Pair);
    let contact = |output: &&Output| matches!(output, Output::Contact { .. });
    assert_eq!(out.iter().filter(contact).count(), 1);
    assert_eq!(peer.open(0, &frames(&out)[0].1).0, PAIR_OK);
    for _ in 0..1_000 {
        answers.extend(say(&mut victim, &mut peer, link, PAIR_REQ, b""));
        answers.extend(say(&mut victim, &mut peer, link, PAIR_OK, b""));
    }
    assert_eq!((answers, count(&victim, asked)), (Vec::new(), 1));
    // The same where this side asked first.
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 424);
    victim.give(Input::Pair);
    peer.epoch.recv[0].key().expect("a fresh chain");
    peer.epoch.recv[0].commit();
    let mut answers = Vec::new();
    for _ in 0..1_000 {
        answers.extend(say(&mut victim, &mut peer, link, PAIR_REQ, b""));
    }
    assert_eq!(answers, [PAIR_OK]);
}

/// An HS1 of another version, or with an unknown secret.
fn refused(mallory: &mut Mallory, victim: &Victim, code: RefusalCode) -> Vec<u8> {
    let payload = mallory.payload(PayloadKind::Hs1);
    let (mut hs1, _) = mallory.hs1(victim.endpoint, &payload);
    match code {
        RefusalCode::Version => hs1[1] = 2,
        _ => hs1[3] ^= 1,
    }
    hs1
}

///
#[test]
fn a_member_that_repeats_a_hopeless_hs1_is_refused_once() {
    for code in [RefusalCode::Version, RefusalCode::UnknownPsk] {
        let (mut victim, mut mallory) = Victim::against(Seat::Redeemer, false, 425);
        let mut said = Vec::new();
        for _ in 0..100 {
            let hs1 = refused(&mut mallory, &victim, code);
            said.extend(blobs(&victim.blob(mallory.endpoint, &hs1)));
        }
        assert_eq!(said, [[5, code.to_wire()]]);
        // It may still come with a better one.
        victim.shake(&mut mallory);
    }
}

///
#[test]
fn a_member_that_comes_again_and_again_to_a_taken_room_is_told_once() {
    for seat in [Seat::Open, Seat::Redeemer] {
        let (mut victim, mut mallory) = Victim::against(seat, false, 426);
        let mut other = Mallory::new(0x10, 427, mallory.terms.clone());
        victim.shake(&mut mallory);
        let mut said = Vec::new();
        for _ in 0..100 {
            let payload = other.payload(PayloadKind::Hs1);
            let (hs1, _) = other.hs1(victim.endpoint, &payload);
            said.extend(blobs(&victim.blob(other.endpoint, &hs1)));
        }
        assert_eq!(said, [[5, RefusalCode::Busy.to_wire()]], "{seat:?}");
    }
}
