//! What is stored of a session reaches the host, however the session ends.

use std::time::Duration;

use bytes::Bytes;
use sealwire::{
    Error,
    history::Author,
    protocol::{Event, Input},
};

use super::{
    history::Pals,
    world::{Packet, Wire},
};

/// Two with a session, where side 1 has stored two messages that its host has not taken.
fn untaken(seed: u64) -> Pals {
    let mut pals = Pals::new(seed);
    pals.meet();
    let node = pals.nodes[1];
    pals.world.nodes[node].takes = false;
    pals.send(0, "one");
    pals.send(0, "two");
    pals.run();
    assert_eq!(pals.bodies(1, Author::Peer), ["one", "two"]);
    pals
}

/// The peer's READY_OK, and what follows it on the control channel, reaches this node so much later.
fn hold_back_ready_ok(pals: &mut Pals, node: usize, delay: Duration) {
    let mut control = 0;
    pals.world.set_hostile(Wire(move |mut packet: Packet| {
        if packet.to == node && packet.channel == 0 {
            control += 1;
            if control >= 2 {
                packet.delay = delay;
            }
        }
        vec![packet]
    }));
}

fn place(pals: &Pals, side: usize, wanted: impl Fn(&Event) -> bool) -> Option<usize> {
    pals.events(side).iter().position(wanted)
}

///
#[test]
fn what_was_stored_and_not_taken_is_delivered_before_the_session_is_replaced() {
    for seed in 0..8 {
        let mut pals = untaken(60 + seed);
        pals.kill(0);
        pals.start(0);
        let node = pals.nodes[1];
        let reset = |event: &Event| matches!(event, Event::SessionReset { .. });
        let replaced = pals
            .world
            .run_until(|world| world.nodes[node].events.iter().any(reset));
        assert!(replaced, "{:?}", pals.events(1));
        assert_eq!(pals.got(1), ["one", "two"], "seed {seed}");
        pals.world.nodes[node].takes = true;
        pals.connect();
        pals.send(0, "three");
        pals.send(1, "four");
        pals.run();
        assert_eq!(pals.got(1), ["one", "two", "three"]);
        assert_eq!(pals.got(0), ["four"]);
        assert_eq!(pals.bodies(1, Author::Peer), ["one", "two", "three"]);
        // And it goes on over another transport.
        pals.world.cut(node);
        pals.connect();
        pals.send(0, "five");
        pals.run();
        assert_eq!(pals.got(1), ["one", "two", "three", "five"]);
        assert!(pals.heads_agree() && !pals.diverged(1));
    }
}

///
#[test]
fn what_was_stored_and_not_taken_is_delivered_before_a_lost_session_ends() {
    let mut pals = untaken(70);
    assert_eq!(pals.got(1).len(), 2, "the host can take it all the time");
    pals.kill(0);
    pals.world.run(Duration::from_secs(20));
    assert_eq!(pals.got(1), Vec::<Bytes>::new(), "it would come again");
    pals.world.run(Duration::from_secs(400));
    let node = pals.nodes[1];
    assert_eq!(
        pals.world.failure(node),
        Some(&Error::Disconnected { unacked: 0 })
    );
    assert_eq!(pals.got(1), ["one", "two"]);
}

///
#[test]
fn what_is_on_its_way_to_the_disk_is_delivered_before_a_broken_session_ends() {
    let mut pals = Pals::new(71);
    pals.meet();
    let node = pals.nodes[1];
    pals.send(0, "one");
    let sent = |world: &super::world::World<'_>| {
        let mut frames = world.seen_on_wire.iter();
        frames.any(|(_, channel, _)| *channel == 1)
    };
    assert!(pals.world.run_until(sent));
    pals.world.run(Duration::from_millis(1));
    let link = pals.world.nodes[node].machine.link().expect("a session");
    pals.world.give(node, Input::LinkForeign(link));
    pals.run();
    assert!(pals.world.failure(node).is_some());
    assert_eq!(pals.bodies(1, Author::Peer), ["one"], "stored all the same");
    assert_eq!(pals.got(1), ["one"]);
}

///
#[test]
fn what_comes_before_the_session_is_established_is_not_stored_as_received() {
    for seed in 0..8 {
        let mut pals = Pals::new(80 + seed);
        pals.start(0);
        pals.start(1);
        let slow = pals.nodes[1];
        hold_back_ready_ok(&mut pals, slow, Duration::from_secs(9));
        let fast = pals.nodes[0];
        assert!(pals.world.run_until(|world| world.is_established(fast)));
        pals.send(0, "early");
        pals.world.run(Duration::from_secs(2));
        assert!(!pals.world.is_established(slow));
        assert_eq!(pals.got(1), Vec::<Bytes>::new());
        assert_eq!(pals.bodies(1, Author::Peer), Vec::<Bytes>::new());
        // The transport goes before it is here.
        pals.world.cut(fast);
        pals.world.set_hostile(super::world::Honest);
        pals.connect();
        pals.world.run(Duration::from_secs(5));
        assert_eq!(pals.got(1), ["early"], "{:?}", pals.events(1));
        assert_eq!(pals.bodies(1, Author::Peer), ["early"]);
        assert!(pals.heads_agree(), "{:?}", pals.events(0));
        let told = |event: &Event| matches!(event, Event::HistoryDiverged { .. });
        assert_eq!(place(&pals, 0, told), None);
    }
}

///
#[test]
fn what_came_before_the_session_is_established_is_delivered_and_stored_then() {
    let mut pals = Pals::new(90);
    pals.start(0);
    pals.start(1);
    let slow = pals.nodes[1];
    hold_back_ready_ok(&mut pals, slow, Duration::from_secs(3));
    let fast = pals.nodes[0];
    assert!(pals.world.run_until(|world| world.is_established(fast)));
    for text in ["one", "two", "three"] {
        pals.send(0, text);
    }
    pals.world.run(Duration::from_secs(2));
    assert_eq!(pals.bodies(1, Author::Peer), Vec::<Bytes>::new());
    pals.world.run(Duration::from_secs(3));
    assert_eq!(pals.got(1), ["one", "two", "three"]);
    assert_eq!(pals.bodies(1, Author::Peer), ["one", "two", "three"]);
    assert!(pals.heads_agree());
}
