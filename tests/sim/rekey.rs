//! New keys within a transport.

use std::time::Duration;

use sealwire::protocol::{ChannelOffer, Delivery, Input};

use super::world::{Case, Honest, World};

fn world(case: Case, seed: u64) -> World<'static> {
    let mut world = World::of(case, seed, Honest);
    world.establish();
    world
}

///
#[test]
fn keys_change_on_request_of_either_side_and_messages_flow_on() {
    for case in Case::ALL {
        for asks in [0, 1] {
            let mut world = world(case, 1);
            for round in 1..=5_u16 {
                world.give(asks, Input::Rekey);
                for node in 0..2 {
                    world.send(node, format!("{round}"));
                }
                world.run(Duration::from_secs(2));
                assert_eq!(world.nodes[0].epochs.last(), Some(&round), "{case:?}");
                assert_eq!(world.nodes[1].epochs.last(), Some(&round), "{case:?}");
            }
            assert_eq!(world.bodies(0).len(), 5);
            assert_eq!(world.bodies(1).len(), 5);
        }
    }
}

///
#[test]
fn keys_change_with_use_and_not_without() {
    let mut world = world(Case::InviterInitiates, 2);
    world.run(Duration::from_secs(1_000));
    assert!(world.nodes[0].epochs.is_empty(), "nothing was sent");
    world.send(1, "one");
    world.run(Duration::from_secs(1_000));
    assert_eq!(world.nodes[0].epochs, [1], "one message, one change");
    for _ in 0..10 {
        world.send(0, "more");
        world.run(Duration::from_secs(121));
    }
    assert!(
        world.nodes[0].epochs.len() > 9,
        "{:?}",
        world.nodes[0].epochs
    );
    assert_eq!(world.nodes[0].epochs, world.nodes[1].epochs);
}

///
#[test]
fn lossy_channels_change_keys_with_the_others() {
    let mut world = World::new(3);
    let lossy = ChannelOffer {
        id: 5,
        delivery: Delivery::Lossy,
        label: "positions".into(),
    };
    world.channels = vec![ChannelOffer::main(), lossy];
    world.add_open("lobby");
    world.add_open("lobby");
    world.establish();
    for round in 0..60_u8 {
        for node in 0..2 {
            world.give(
                node,
                Input::Send {
                    channel: 5,
                    body: vec![round].into(),
                },
            );
            world.flush(node);
        }
        world.give(0, Input::Rekey);
        world.run(Duration::from_secs(1));
    }
    for node in 0..2 {
        let bodies: Vec<u8> = world.nodes[node]
            .datagrams
            .iter()
            .map(|(_, body)| body[0])
            .collect();
        assert_eq!(bodies, (0..60).collect::<Vec<u8>>());
        // Each waits ten seconds for late frames of the epoch before.
        assert!(
            (5..=7).contains(&world.nodes[node].epochs.len()),
            "{:?}",
            world.nodes[node].epochs
        );
    }
}
