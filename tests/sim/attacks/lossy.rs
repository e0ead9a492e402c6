//! Channels that may lose frames: B5 (loss, reordering, replay, forgery) and B15 (an outage).

use std::{collections::BTreeSet, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sealwire::{
    Error,
    error::ProtocolViolation,
    protocol::{ChannelOffer, Delivery, Input},
};

use crate::world::{Packet, Wire, World};

const LOSSY: u8 = 4;

fn world(seed: u64) -> World<'static> {
    let mut world = World::new(seed);
    world.channels.push(ChannelOffer {
        id: LOSSY,
        delivery: Delivery::Lossy,
        label: "cursor".into(),
    });
    world.add_open("lobby");
    world.add_open("lobby");
    world.establish();
    world
}

/// Hands a message of the first to its machine.
fn put(world: &mut World<'_>, body: Vec<u8>) {
    let (channel, body) = (LOSSY, body.into());
    world.give(0, Input::Send { channel, body });
}

fn send(world: &mut World<'_>, number: u32) {
    put(world, number.to_be_bytes().to_vec());
    world.flush(0);
}

fn arrived(world: &World<'_>) -> Vec<u32> {
    let number = |body: &[u8]| u32::from_be_bytes(body.try_into().expect("a number"));
    let datagrams = world.nodes[1].datagrams.iter();
    datagrams.map(|(_, body)| number(body)).collect()
}

///
#[test]
fn b5_lost_late_and_repeated_frames_arrive_at_most_once_and_harm_nothing() {
    let mut world = world(1);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    world.set_hostile(Wire(move |mut packet: Packet| {
        if packet.channel != LOSSY {
            return vec![packet];
        }
        packet.delay = Duration::from_micros(rng.next_u64() % 50_000);
        let mut late = packet.clone();
        late.delay += Duration::from_micros(rng.next_u64() % 50_000);
        match rng.next_u64() % 4 {
            0 => Vec::new(),
            1 => vec![packet, late],
            _ => vec![packet],
        }
    }));
    for number in 0..3_000 {
        send(&mut world, number);
        world.run(Duration::from_micros(200));
    }
    world.run(Duration::from_secs(1));
    let arrived = arrived(&world);
    let once: BTreeSet<u32> = arrived.iter().copied().collect();
    assert_eq!(once.len(), arrived.len(), "each at most once");
    assert!((2_000..2_500).contains(&once.len()), "{}", once.len());
    assert!(
        arrived.windows(2).any(|pair| pair[0] > pair[1]),
        "out of order"
    );
    assert!(world.nodes[1].machine.dropped() > 500);
    assert_eq!(world.failure(1), None);
}

#[test]
fn b5_a_frame_1024_behind_the_newest_is_dropped_and_one_1023_behind_is_not() {
    for (behind, expected) in [(1_023, 1), (1_024, 0)] {
        let mut world = world(2);
        let mut count = 0;
        world.set_hostile(Wire(move |mut packet: Packet| {
            if packet.channel == LOSSY {
                if count == 0 {
                    packet.delay = Duration::from_secs(2);
                }
                count += 1;
            }
            vec![packet]
        }));
        for number in 0..=behind {
            send(&mut world, number);
        }
        world.run(Duration::from_secs(3));
        let late = arrived(&world)
            .iter()
            .filter(|number| **number == 0)
            .count();
        assert_eq!(late, expected, "{behind} behind");
    }
}

///
#[test]
fn b5_a_changed_frame_is_fatal_wherever_it_was_changed() {
    for at in [0, 1, 2, 7, 8, 20, 36] {
        let mut world = world(3);
        send(&mut world, 0);
        world.run(Duration::from_millis(10));
        world.set_hostile(Wire(move |mut packet: Packet| {
            if packet.channel == LOSSY {
                let last = packet.frame.len() - 1;
                packet.frame[at.min(last)] ^= 1;
            }
            vec![packet]
        }));
        send(&mut world, 1);
        world.run(Duration::from_millis(10));
        let violation = match world.failure(1) {
            Some(Error::Protocol(violation)) => *violation,
            // A number changed to one that was used is a late frame.
            None if at == 7 => continue,
            other => panic!("byte {at}: {other:?}"),
        };
        assert!(
            matches!(
                violation,
                ProtocolViolation::FrameRejected
                    | ProtocolViolation::UnknownEpoch { .. }
                    | ProtocolViolation::TooFarAhead { .. }
            ),
            "byte {at}: {violation}"
        );
    }
}

///
#[test]
fn b15_delivery_goes_on_after_an_outage_of_10_000_frames() {
    let mut world = world(4);
    world.set_hostile(Wire(|packet: Packet| {
        if packet.channel == LOSSY {
            Vec::new()
        } else {
            vec![packet]
        }
    }));
    for number in 0..10_000 {
        send(&mut world, number);
    }
    world.set_hostile(Wire(|packet: Packet| vec![packet]));
    for number in 10_000..10_010 {
        send(&mut world, number);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(arrived(&world), (10_000..10_010).collect::<Vec<u32>>());
}

///
#[test]
fn a_message_of_the_longest_length_leaves_and_a_longer_one_is_dropped() {
    let mut world = world(5);
    let longest = world.nodes[0].machine.max_datagram().expect("a session");
    for len in [longest + 1, longest, longest + 100, 4] {
        put(&mut world, vec![7; len]);
    }
    world.flush(0);
    world.run(Duration::from_secs(1));
    let datagrams = world.nodes[1].datagrams.iter();
    let lengths: Vec<usize> = datagrams.map(|(_, body)| body.len()).collect();
    assert_eq!(lengths, [longest, 4]);
    assert_eq!(world.failure(1), None);
}

#[test]
fn messages_that_waited_too_long_are_counted_as_dropped() {
    let mut world = world(6);
    for _ in 0..7 {
        put(&mut world, vec![7; 60_000]);
    }
    assert_eq!(world.nodes[0].machine.dropped(), 3, "256 KiB wait at most");
}
