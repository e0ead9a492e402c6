//! What the imagined network of `tests/sim` shows only to those who look inside: counters at their end (B12), and every
//! key that was ever used (B13).

#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    dead_code,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "a test that goes wrong panics, and asks only for what it looks at"
)]

#[path = "../../tests/sim/laws.rs"]
mod laws;
#[path = "../../tests/sim/mallory.rs"]
mod mallory;
#[path = "../../tests/sim/victim.rs"]
mod victim;
#[path = "../../tests/sim/world.rs"]
mod world;

use std::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use self::{
    mallory::candidate,
    victim::{Seat, Victim, frames, knock, one_blob, opened},
    world::{Case, Honest, World},
};
use super::{
    blob::Mode,
    io::{Delivery, Event, Input},
    machine::ChannelOffer,
    record::{MAX_CANDIDATES, PayloadKind},
    rekey::LAST_EPOCH,
    secure::Secure,
};
use crate::{
    crypto::{aead, chain::FRAMES_PER_CHAIN},
    error::CloseCode,
};

fn world(case: Case, seed: u64) -> World<'static> {
    let mut world = World::of(case, seed, Honest);
    world.establish();
    world
}

/// Changes both sides of a session from within.
fn change(world: &mut World<'_>, mut change: impl FnMut(&mut Secure)) {
    for node in &mut world.nodes {
        change(node.machine.secure.as_mut().expect("a live session"));
    }
}

fn closed_with(world: &World<'_>, node: usize) -> Option<CloseCode> {
    let events = world.nodes[node].events.iter();
    events.rev().find_map(|event| match event {
        Event::Closed { code, .. } => Some(*code),
        _ => None,
    })
}

/// The sequence numbers that went over the wire on a channel.
fn numbers(world: &World<'_>, channel: u8) -> Vec<u64> {
    let frames = world
        .seen_on_wire
        .iter()
        .filter(|(_, on, _)| *on == channel);
    let number = |frame: &[u8]| {
        let bytes = frame[2..8].iter();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    frames.map(|(.., frame)| number(frame)).collect()
}

///
#[test]
fn b12_a_channel_closes_the_session_before_its_sequence_numbers_wrap() {
    for case in Case::ALL {
        let mut world = world(case, 1);
        change(&mut world, |secure| secure.channels.wear_out(1));
        // Each fills more than a frame, and both are given before new keys can come.
        for _ in 0..2 {
            let body = vec![7; 100_000];
            world.give(
                0,
                Input::Send {
                    channel: 1,
                    body: body.into(),
                },
            );
        }
        world.flush(0);
        world.run(Duration::from_secs(5));
        for node in 0..2 {
            assert_eq!(
                closed_with(&world, node),
                Some(CloseCode::EXHAUSTED),
                "{case:?}"
            );
        }
        let last = numbers(&world, 1);
        assert_eq!(
            last,
            [FRAMES_PER_CHAIN - 1],
            "the last number, and none after it"
        );
    }
}

///
#[test]
fn b12_the_control_channel_keeps_its_last_sequence_number_for_the_close() {
    for case in Case::ALL {
        let mut world = world(case, 2);
        change(&mut world, |secure| secure.channels.wear_out(0));
        world.send(0, "what would be acknowledged");
        world.run(Duration::from_secs(5));
        for node in 0..2 {
            assert_eq!(
                closed_with(&world, node),
                Some(CloseCode::EXHAUSTED),
                "{case:?}"
            );
        }
        let late = numbers(&world, 0)
            .into_iter()
            .filter(|number| *number > 1_000);
        assert!(late.eq([FRAMES_PER_CHAIN - 1; 2]), "one in each direction");
    }
}

#[test]
fn b12_before_epochs_are_used_up_the_session_takes_a_new_transport() {
    for case in Case::ALL {
        let mut world = world(case, 3);
        change(&mut world, |secure| {
            secure.channels.grow_old(LAST_EPOCH);
            secure.rekey.grow_old(LAST_EPOCH);
        });
        world.give(case.initiator(), Input::Rekey);
        let resumed = |world: &World<'_>, node: usize| {
            let mut events = world.nodes[node].events.iter();
            events.any(|event| matches!(event, Event::Resumed))
        };
        assert!(
            world.run_until(|world| (0..2).all(|node| resumed(world, node))),
            "{case:?}"
        );
        for node in 0..2 {
            world.send(node, "still here");
        }
        world.run(Duration::from_secs(2));
        for node in &world.nodes {
            let secure = node.machine.secure.as_ref().expect("a live session");
            assert_eq!(secure.channels.newest(), 0, "epochs begin anew");
        }
        assert_eq!(
            [world.bodies(0), world.bodies(1)].concat(),
            ["still here"; 2]
        );
    }
}

///
#[test]
fn b12_a_rekey_behind_the_last_epoch_closes_the_session_and_nothing_wraps() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 4);
    let secure = victim.machine.secure.as_mut().expect("a live session");
    secure.channels.grow_old(u16::MAX);
    secure.rekey.grow_old(u16::MAX);
    peer.number = u16::MAX;
    assert_eq!(victim.machine.rekey_goal(), Some(u16::MAX));
    let frame = peer.frame(0, 0x16, &[7; 1_248]);
    let out = victim.frame(link, 0, &frame);
    peer.epoch.recv[0].key().expect("a fresh chain");
    let (kind, body) = peer.open(0, &frames(&out)[0].1);
    assert_eq!((kind, body[0]), (0x19, CloseCode::EXHAUSTED.to_wire()));
    assert!(victim.failure().is_none(), "in good order");
}

///
#[test]
fn b12_where_no_new_transport_is_wanted_the_last_epoch_ends_the_session_in_good_order() {
    for case in Case::ALL {
        let mut world = world(case, 5);
        for node in &mut world.nodes {
            node.machine.config.timeouts.resume = Duration::ZERO;
        }
        change(&mut world, |secure| {
            secure.channels.grow_old(LAST_EPOCH);
            secure.rekey.grow_old(LAST_EPOCH);
        });
        world.give(case.responder(), Input::Rekey);
        world.run(Duration::from_secs(5));
        for node in 0..2 {
            assert_eq!(
                closed_with(&world, node),
                Some(CloseCode::EXHAUSTED),
                "{case:?}"
            );
        }
    }
}

/// One random thing that hosts, peers and networks do.
fn disturb(world: &mut World<'_>, rng: &mut ChaCha8Rng) {
    let node = (rng.next_u32() % 2) as usize;
    match rng.next_u32() % 20 {
        0 => world.give(node, Input::Rekey),
        1 => world.cut(node),
        2 => world.cut_one(node),
        3 => world.run(Duration::from_secs(u64::from(rng.next_u32() % 130))),
        4 => {
            let body = vec![0; (rng.next_u32() % 200_000) as usize];
            world.send(node, body);
        }
        5..8 => {
            let body = vec![1; 100].into();
            world.give(node, Input::Send { channel: 5, body });
            world.flush(node);
        }
        _ => world.send(node, "the same words"),
    }
    world.run(Duration::from_millis(u64::from(rng.next_u32() % 50)));
}

///
#[test]
fn b13_no_key_seals_twice_with_one_nonce_in_a_long_life() {
    for seed in 0..8 {
        let mut generations = 0;
        let uses = aead::record::of(|| {
            let mut world = World::new(seed);
            let lossy = ChannelOffer {
                id: 5,
                delivery: Delivery::Lossy,
                label: "positions".into(),
            };
            world.channels = vec![ChannelOffer::main(), lossy];
            world.add_open("lobby");
            world.add_open("lobby");
            world.establish();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for _ in 0..400 {
                disturb(&mut world, &mut rng);
            }
            generations = world.nodes[0].opened;
        });
        assert!(generations > 10, "{generations} transports");
        assert!(uses.len() > 1_000, "{} seals", uses.len());
        let mut twice = uses.values().filter(|uses| **uses > 1);
        assert!(twice.next().is_none(), "seed {seed}");
    }
}

///
#[test]
fn debug_output_of_a_live_machine_shows_its_state_and_no_more() {
    for case in Case::ALL {
        let world = world(case, 5);
        for node in &world.nodes {
            assert!(format!("{:?}", node.machine).starts_with("Machine"));
            let secure = node.machine.secure.as_ref().expect("a live session");
            assert!(format!("{secure:?}").starts_with("Secure"));
            assert!(format!("{:?}", secure.channels).starts_with("Channels"));
            assert!(format!("{:?}", secure.talk).starts_with("Conversation"));
        }
    }
}

/// What machines show of themselves is how failures are understood.
#[test]
fn debug_output_says_where_and_how_far_each_attempt_is() {
    let shows = |victim: &Victim, mode: &str, stage: &str| {
        let shown = format!("{:?}", victim.machine);
        for part in [
            format!("Terms {{ mode: {mode}"),
            format!("stage: \"{stage}\""),
        ] {
            assert!(shown.contains(&part), "no {part} in {shown}");
        }
    };
    let (mut victim, mallory) = Victim::against(Seat::Inviter, true, 7);
    let link = opened(&victim.sees(mallory.endpoint))[0];
    shows(&victim, "Paired", "offer");
    victim.describe(link, "actpass");
    shows(&victim, "Paired", "hs2");
    let (mut victim, mut mallory) = Victim::against(Seat::Inviter, false, 8);
    let link = opened(&knock(&mut victim, &mut mallory).0)[0];
    shows(&victim, "Paired", "answer");
    victim.describe(link, "active");
    shows(&victim, "Paired", "hs3");
    let (mut victim, mut mallory) = Victim::against(Seat::Open, true, 9);
    let hs1 = one_blob(&victim.sees(mallory.endpoint));
    let payload = mallory.payload(PayloadKind::Hs2(Mode::Open));
    let hs2 = mallory.hs2(victim.endpoint, &hs1, &payload);
    victim.blob(mallory.endpoint, &hs2.expect("an honest HS1").0);
    shows(&victim, "Open", "own offer");
}

///
#[test]
fn no_more_candidates_are_held_for_a_message_than_may_be_sent() {
    let (mut victim, mallory) = Victim::against(Seat::Inviter, true, 10);
    let link = opened(&victim.sees(mallory.endpoint))[0];
    victim.describe(link, "actpass");
    for port in 0..100 {
        let candidate = candidate(port);
        victim.give(Input::LinkCandidate { link, candidate });
    }
    let join = victim.machine.join.as_ref().expect("it is in the room");
    let offer = join.offer.as_ref().expect("it made an offer");
    assert_eq!(offer.late_candidates.len(), MAX_CANDIDATES);
}

#[test]
fn a_host_may_ask_what_a_session_has_and_where_it_stands() {
    for case in Case::ALL {
        let mut world = World::of(case, 6, Honest);
        for node in &world.nodes {
            let machine = &node.machine;
            assert!(machine.live_channels().is_empty());
            assert_eq!((machine.max_datagram(), machine.rekey_goal()), (None, None));
        }
        world.establish();
        for node in &world.nodes {
            let machine = &node.machine;
            assert_eq!(machine.live_channels(), [1]);
            assert_eq!(machine.max_datagram(), Some(65_511));
            assert_eq!(machine.rekey_goal(), Some(1));
            assert!(!machine.is_parked() && !machine.is_replacing());
        }
    }
}
