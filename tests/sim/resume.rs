//! A session goes on over transport after transport.

use std::time::Duration;

use bytes::Bytes;
use sealwire::{
    Error,
    protocol::{Event, Input},
};

use super::world::{Case, Honest, World};

fn world(case: Case, seed: u64) -> World<'static> {
    let mut world = World::of(case, seed, Honest);
    world.establish();
    world
}

fn resumed(world: &World<'_>, node: usize) -> usize {
    let events = &world.nodes[node].events;
    events
        .iter()
        .filter(|event| matches!(event, Event::Resumed))
        .count()
}

#[test]
fn a_cut_transport_is_replaced_and_nothing_is_lost() {
    for case in Case::ALL {
        let mut world = world(case, 1);
        for round in 1..=10_u32 {
            for node in 0..2 {
                world.send(node, Bytes::from(round.to_be_bytes().to_vec()));
            }
            world.cut(0);
            world.run_until(|world| {
                resumed(world, 0) >= round as usize && resumed(world, 1) >= round as usize
            });
        }
        world.run(Duration::from_secs(1));
        for node in 0..2 {
            let expected: Vec<Bytes> = (1..=10_u32)
                .map(|round| Bytes::from(round.to_be_bytes().to_vec()))
                .collect();
            assert_eq!(world.bodies(node), expected, "{case:?}");
            assert_eq!(world.nodes[node].acknowledged[&1], 10);
        }
    }
}

#[test]
fn one_side_that_noticed_wakes_the_other() {
    let mut world = world(Case::Open, 2);
    world.give(0, Input::Suspend);
    world.give(0, Input::Resume);
    assert!(world.run_until(|world| resumed(world, 0) == 1 && resumed(world, 1) == 1));
    assert!(world.now < Duration::from_secs(12), "{:?}", world.now);
}

#[test]
fn what_is_sent_while_suspended_arrives_after() {
    let mut world = world(Case::RedeemerInitiates, 3);
    world.give(1, Input::Suspend);
    world.send(1, "one");
    world.send(0, "two");
    world.run(Duration::from_secs(100));
    assert!(world.bodies(0).is_empty());
    world.give(1, Input::Resume);
    world.run_until(|world| world.bodies(0).len() + world.bodies(1).len() == 2);
    assert_eq!(world.bodies(0), ["one"]);
    assert_eq!(world.bodies(1), ["two"]);
}

#[test]
fn a_session_that_finds_no_transport_ends_after_its_window() {
    let mut world = world(Case::InviterInitiates, 4);
    world.give(1, Input::Suspend);
    world.send(0, "lost");
    world.run(Duration::from_secs(310));
    assert_eq!(world.failure(0), Some(&Error::Disconnected { unacked: 1 }));
    assert!(matches!(world.failure(1), Some(Error::Disconnected { .. })));
}
