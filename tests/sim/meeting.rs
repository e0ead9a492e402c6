//! Honest meetings: invites, open rooms, messages, acknowledgements, closing.

use std::time::Duration;

use bytes::Bytes;
use sealwire::{CloseCode, PeerTrust, protocol::Event};

use super::world::{Honest, World};

#[test]
fn an_invite_brings_two_machines_together_whoever_initiates() {
    for seed in 0..20 {
        let mut world = World::invited(seed, Honest);
        world.establish();
        for (node, peer) in [(0, 1), (1, 0)] {
            let expected = world.peer_id(peer);
            assert!(world.nodes[node].events.iter().any(|event| matches!(
                event,
                Event::Established { peer, trust: PeerTrust::Invited } if *peer == expected
            )));
        }
        assert!(
            world.now < Duration::from_millis(1_100),
            "took {:?}",
            world.now
        );
    }
}

#[test]
fn strangers_meet_in_an_open_room_and_know_nothing_of_each_other() {
    for seed in 0..20 {
        let mut world = World::open(seed, Honest);
        world.establish();
        let trust = |event: &Event| {
            matches!(
                event,
                Event::Established {
                    trust: PeerTrust::Unknown,
                    ..
                }
            )
        };
        assert!(world.nodes[0].events.iter().any(trust));
    }
}

///
#[test]
fn messages_of_every_size_arrive_once_in_order_and_are_acknowledged() {
    let mut world = World::invited(1, Honest);
    world.establish();
    let sizes = [
        0,
        1,
        31,
        32,
        64,
        1_000,
        65_509,
        65_510,
        65_511,
        65_512,
        200_000,
        4 << 20,
    ];
    let sent: Vec<Bytes> = sizes
        .iter()
        .map(|&size| Bytes::from(vec![7; size]))
        .collect();
    for body in &sent {
        world.send(0, body.clone());
        world.send(1, body.clone());
    }
    world.run(Duration::from_secs(1));
    for node in 0..2 {
        assert!(world.bodies(node) == sent, "node {node}");
        assert_eq!(world.nodes[node].acknowledged[&1], sizes.len() as u64);
    }
}

#[test]
fn small_messages_that_wait_share_a_frame() {
    let mut world = World::invited(2, Honest);
    world.establish();
    let before = world.seen_on_wire.len();
    for number in 0..1_000_u32 {
        let body = Bytes::copy_from_slice(&number.to_be_bytes());
        world.give(0, sealwire::protocol::Input::Send { channel: 1, body });
    }
    world.flush(0);
    let frames = world.seen_on_wire[before..]
        .iter()
        .filter(|(to, channel, _)| (*to, *channel) == (1, 1))
        .count();
    assert_eq!(frames, 1);
    world.run(Duration::from_millis(100));
    assert_eq!(world.bodies(1).len(), 1_000);
}

///
#[test]
fn a_host_that_takes_nothing_holds_the_sender_back() {
    let mut world = World::invited(3, Honest);
    world.establish();
    world.nodes[1].takes = false;
    for _ in 0..20 {
        world.send(0, vec![0; 1 << 20]);
    }
    world.run(Duration::from_secs(1));
    let held = world.bodies(1).len();
    assert!(
        (7..8).contains(&held),
        "{held} messages of 1 MiB within a window of 8 MiB"
    );
    assert_eq!(world.failure(0), None);
    world.nodes[1].takes = true;
    world.give(
        1,
        sealwire::protocol::Input::Taken {
            channel: 1,
            messages: held as u64,
        },
    );
    world.run(Duration::from_secs(1));
    assert_eq!(world.bodies(1).len(), 20);
}

#[test]
fn a_graceful_close_waits_for_acknowledgements_and_both_sides_say_the_same() {
    let mut world = World::invited(4, Honest);
    world.establish();
    for number in 0..100_u8 {
        world.send(0, vec![number]);
    }
    world.close(0);
    world.run(Duration::from_secs(10));
    assert_eq!(world.bodies(1).len(), 100);
    for node in 0..2 {
        let closed = |event: &Event| matches!(event, Event::Closed { code: CloseCode::NORMAL, reason, unacked: 0 } if reason == "done");
        assert!(
            world.nodes[node].events.iter().any(closed),
            "{:?}",
            world.nodes[node].events
        );
        assert!(world.nodes[node].machine.is_ended());
    }
}

#[test]
fn crossing_closes_end_both_sides_in_order() {
    let mut world = World::invited(5, Honest);
    world.establish();
    world.close(0);
    world.close(1);
    world.run(Duration::from_secs(10));
    for node in 0..2 {
        assert!(world.nodes[node].machine.is_ended());
        assert!(matches!(
            world.nodes[node].events.last(),
            Some(Event::Closed { unacked: 0, .. })
        ));
    }
}

///
#[test]
fn an_idle_session_lives_on_by_pings() {
    let mut world = World::invited(6, Honest);
    world.establish();
    world.run(Duration::from_secs(24 * 60 * 60));
    world.send(0, "still there");
    world.run(Duration::from_secs(1));
    assert_eq!(world.bodies(1), ["still there"]);
    assert_eq!(world.failure(0), None);
}
