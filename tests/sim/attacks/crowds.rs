//! Many who come to one room, and come again: who is tried once, who is told, and when the room is left.

use std::time::Duration;

use sealwire::{
    EndpointId,
    protocol::{Blob, Event, Input, Output, PayloadKind},
};

use super::bounds::floods;
use crate::{
    mallory::{Mallory, READY, READY_BODY},
    victim::{Seat, Victim, blobs, knock, opened},
};

/// Endpoints that a join remembers.
const REMEMBERED: u32 = 1_024;

/// The endpoint id of one of many, below or above all others.
fn name(first: u8, number: u32) -> EndpointId {
    let mut name = [first; 16];
    name[12..].copy_from_slice(&number.to_be_bytes());
    EndpointId(name)
}

///
#[test]
fn whoever_comes_again_does_so_after_half_a_second_to_8_at_random() {
    let (mut victim, _) = Victim::against(Seat::Inviter, true, 350);
    let mut waits = Vec::new();
    for _ in 0..100 {
        let link = opened(&victim.sees(EndpointId([0xff; 16])))[0];
        victim.give(Input::LinkClosed { link, reason: None });
        let (at, _) = victim.machine.next_timeout().expect("it comes again");
        waits.push(at - victim.now);
        victim.wait_until_joined();
    }
    waits.sort_unstable();
    let (first, last) = (waits[0], waits[99]);
    assert!((500..1_000).contains(&first.as_millis()), "{first:?}");
    assert!((7_000..8_000).contains(&last.as_millis()), "{last:?}");
}

///
#[test]
fn who_is_announced_again_is_neither_tried_again_nor_a_new_member() {
    for seat in [Seat::Open, Seat::Inviter, Seat::Redeemer] {
        for initiates in [true, false] {
            let (mut victim, mallory) = Victim::against(seat, initiates, 351);
            let out = victim.sees(mallory.endpoint);
            if let Some(link) = opened(&out).first() {
                victim.describe(*link, "actpass");
            }
            if initiates {
                victim.blob(mallory.endpoint, &Blob::Hs2(&[7; 1_712]).encode());
            }
            assert_eq!(victim.retried().len(), usize::from(initiates));
            victim.wait(Duration::from_secs(5));
            assert!(victim.sees(mallory.endpoint).is_empty(), "{seat:?}");
            victim.wait(Duration::from_millis(4_999));
            assert!(victim.joined);
            victim.wait(Duration::from_millis(1));
            assert!(!victim.joined, "10 s without a new member");
        }
    }
}

///
#[test]
fn a17_an_hs1_that_starts_no_attempt_is_answered_to_so_many_and_no_more() {
    let (mut victim, mut mallory) = Victim::against(Seat::Open, false, 352);
    let (mut other_version, _) = mallory.hs1(victim.endpoint, &[]);
    other_version[1] = 2;
    let mut told = 0;
    for number in 0..REMEMBERED + 100 {
        told += blobs(&victim.blob(name(0, number), &other_version)).len();
    }
    assert_eq!(told, REMEMBERED as usize);
}

///
#[test]
fn a17_a_join_that_remembers_as_many_as_it_can_hears_nobody_else() {
    let (mut victim, mut mallory) = Victim::against(Seat::Inviter, false, 353);
    let payload = mallory.payload(PayloadKind::Hs1);
    let (of_another, _) = mallory.hs1(victim.endpoint, &payload);
    for number in 1..REMEMBERED {
        victim.blob(name(0, number), &of_another);
    }
    let mut last = Mallory::new(0x70, 354, mallory.terms.clone());
    assert_eq!(opened(&knock(&mut victim, &mut last).0).len(), 1);
    victim.blob(name(0, REMEMBERED), &of_another);
    assert_eq!(floods(&victim), 0);
    let (out, _) = knock(&mut victim, &mut mallory);
    assert!(matches!(out[..], [Output::Event(Event::Flood)]), "{out:?}");
    assert!(victim.sees(EndpointId([0xff; 16])).is_empty());
}

/// An inviter that had its peer's READY, and not yet its READY_OK.
fn used(seed: u64, welcome: bool) -> (Victim, Mallory) {
    let (mut victim, mut mallory) = Victim::against(Seat::Inviter, false, seed);
    if !welcome {
        victim.give(Input::SignalingLost);
        victim.give(Input::Tick);
        mallory.endpoint = EndpointId([0; 16]);
    }
    let (mut peer, link) = victim.shake(&mut mallory);
    victim.open_link(link, mallory.fingerprint);
    let ready = peer.frame(0, READY, READY_BODY);
    victim.frame(link, 0, &ready);
    (victim, mallory)
}

///
#[test]
fn a20_before_the_session_is_established_newcomers_are_told_once_and_not_without_end() {
    let (mut victim, mut mallory) = used(355, true);
    let payload = mallory.payload(PayloadKind::Hs1);
    let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
    let mut told = 0;
    for number in 0..REMEMBERED + 100 {
        let (low, high) = (name(0, number), name(0xff, number));
        let out = match number % 2 {
            0 => victim.blob(low, &hs1),
            _ => victim.sees(high),
        };
        told += blobs(&out).len();
        assert!(
            victim
                .sees(if number % 2 == 0 { low } else { high })
                .is_empty()
        );
    }
    // The session's own peer is remembered as well.
    assert_eq!(told, REMEMBERED as usize - 1);
}

///
#[test]
fn a20_the_sessions_own_peer_is_not_told_wherever_the_server_says_that_it_is() {
    // Without a welcome the inviter leaves and comes again, while its link comes up.
    let (mut victim, mallory) = used(356, false);
    let before = victim.endpoint;
    victim.wait(Duration::from_secs(19));
    assert!(victim.joined && victim.endpoint != before);
    assert!(victim.sees(mallory.endpoint).is_empty());
    assert_eq!(blobs(&victim.sees(EndpointId([0xff; 16]))).len(), 1);
}
