//! A session goes on over transport after transport.

use std::time::Duration;

use bytes::Bytes;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sealwire::{
    EndpointId, Error, MinTrust,
    protocol::{ChannelOffer, Delivery, Event, Input, Meeting},
};

use super::world::{Case, Honest, Letter, Told, World, parse};

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

///
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

///
#[test]
fn one_side_that_noticed_wakes_the_other() {
    let mut world = world(Case::Open, 2);
    world.give(0, Input::Suspend);
    world.give(0, Input::Resume);
    assert!(world.run_until(|world| resumed(world, 0) == 1 && resumed(world, 1) == 1));
    assert!(world.now < Duration::from_secs(12), "{:?}", world.now);
}

///
#[test]
fn what_is_sent_while_suspended_arrives_after() {
    let mut world = world(Case::RedeemerInitiates, 3);
    let parked = |world: &World<'_>| [0, 1].map(|node| world.nodes[node].machine.is_parked());
    world.give(1, Input::Suspend);
    world.send(1, "one");
    world.send(0, "two");
    world.run(Duration::from_secs(100));
    assert!(world.bodies(0).is_empty());
    assert_eq!(parked(&world), [false, true], "the other only waits");
    world.give(1, Input::Resume);
    assert_eq!(parked(&world), [false; 2]);
    world.run_until(|world| world.bodies(0).len() + world.bodies(1).len() == 2);
    assert_eq!(world.bodies(0), ["one"]);
    assert_eq!(world.bodies(1), ["two"]);
}

///
#[test]
fn a_session_that_finds_no_transport_ends_after_its_window() {
    let mut world = world(Case::InviterInitiates, 4);
    world.give(1, Input::Suspend);
    world.send(0, "lost");
    world.run(Duration::from_secs(310));
    assert_eq!(world.failure(0), Some(&Error::Disconnected { unacked: 1 }));
    assert!(matches!(world.failure(1), Some(Error::Disconnected { .. })));
}

/// Messages in flight both ways on two channels while something breaks, again and again.
struct Traffic {
    sent: [u32; 4],
    rng: rand_chacha::ChaCha8Rng,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        Self {
            sent: [0; 4],
            rng: rand_chacha::ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// Some messages, a few of them in parts.
    fn send(&mut self, world: &mut World<'_>) {
        for _ in 0..self.below(6) {
            let lane = self.below(4) as usize;
            let (node, channel) = (lane % 2, 1 + (lane / 2) as u8);
            let len = match self.below(10) {
                0 => 100_000,
                _ => self.below(200) as usize,
            };
            let mut body = self.sent[lane].to_be_bytes().to_vec();
            body.resize(4 + len, lane as u8);
            self.sent[lane] += 1;
            world.give(
                node,
                Input::Send {
                    channel,
                    body: body.into(),
                },
            );
            world.flush(node);
        }
    }

    /// Everything arrived, each once and in order.
    #[track_caller]
    fn check(&self, world: &World<'_>) {
        for lane in 0..4 {
            let (node, channel) = (lane % 2, 1 + (lane / 2) as u8);
            let numbers: Vec<u32> = world.nodes[1 - node]
                .messages
                .iter()
                .filter(|(on, ..)| *on == channel)
                .map(|(.., body)| u32::from_be_bytes(body[..4].try_into().expect("a number")))
                .collect();
            let expected: Vec<u32> = (0..self.sent[lane]).collect();
            assert_eq!(numbers, expected, "lane {lane}");
        }
    }
}

fn two_channels(seed: u64) -> World<'static> {
    let mut world = World::new(seed);
    world.channels.push(ChannelOffer {
        id: 2,
        delivery: Delivery::Reliable,
        label: "second".into(),
    });
    let (inviter, redeemer) = (world.identity(), world.identity());
    let text = world.invite(&inviter);
    world.add(inviter, Meeting::Invite(parse(&text)), MinTrust::Invited);
    world.add(redeemer, Meeting::Redeem(parse(&text)), MinTrust::Invited);
    world.establish();
    world
}

fn connected(world: &World<'_>) -> bool {
    world.nodes.iter().all(|node| node.machine.is_connected())
}

///
#[test]
fn c1_a_thousand_cuts_at_random_points_lose_and_double_nothing() {
    for seed in 0..20 {
        let mut world = two_channels(seed);
        let mut traffic = Traffic::new(seed);
        for _ in 0..50 {
            for _ in 0..traffic.below(4) {
                traffic.send(&mut world);
                world.steps(traffic.below(40));
            }
            if traffic.below(4) == 0 {
                world.give(traffic.below(2) as usize, Input::Rekey);
            }
            let node = traffic.below(2) as usize;
            match traffic.below(8) {
                0 => world.cut_one(node),
                1 => {
                    world.give(node, Input::Suspend);
                    world.steps(traffic.below(20));
                    world.give(node, Input::Resume);
                }
                2 => world.cut_signaling(node),
                _ => world.cut(node),
            }
            // Sometimes the next cut comes before the session is back.
            if traffic.below(5) > 0 {
                assert!(world.run_until(connected), "seed {seed}");
            }
        }
        world.run(Duration::from_secs(60));
        assert!(
            world.run_until(connected),
            "seed {seed}: {:?}",
            world.nodes[0].events.last()
        );
        world.run(Duration::from_secs(5));
        traffic.check(&world);
    }
}

///
#[test]
fn c1b_a_resumption_that_is_cut_at_any_step_is_followed_by_one_that_works() {
    for steps in 0..60 {
        let mut world = two_channels(steps);
        let mut traffic = Traffic::new(steps);
        traffic.send(&mut world);
        world.cut(0);
        world.steps(steps);
        traffic.send(&mut world);
        match steps % 3 {
            0 => world.cut(0),
            1 => world.cut_one(1),
            _ => world.cut_one(0),
        }
        world.run(Duration::from_secs(60));
        assert!(world.run_until(connected), "{steps}");
        world.run(Duration::from_secs(5));
        traffic.check(&world);
    }
}

///
#[test]
fn c2_an_old_resumption_key_or_a_third_party_resumes_nothing() {
    // Somebody with another identity and all that travels through the server sits in the resume room.
    let mut world = world(Case::InviterInitiates, 7);
    let before = world.seen_by_server.len();
    world.cut(0);
    world.run(Duration::from_secs(10));
    assert_eq!(resumed(&world, 0), 1);
    let recorded: Vec<_> = world.seen_by_server[before..].to_vec();
    world.send(0, "kept");
    world.cut(0);
    // What was said at the first resumption is said again, by another endpoint, at the second.
    world.run(Duration::from_millis(8));
    for (_, _, blob) in &recorded {
        for node in 0..2 {
            world.tell(Letter {
                to: node,
                told: Told::Blob {
                    from: EndpointId([0x01; 16]),
                    blob: blob.clone(),
                },
                delay: Duration::from_millis(1),
            });
        }
    }
    world.run(Duration::from_secs(60));
    assert_eq!((resumed(&world, 0), resumed(&world, 1)), (2, 2));
    assert_eq!(world.bodies(1), ["kept"]);
}

/// each looks where the two first met for a peer that was restarted, and must not take the other for one.
#[test]
fn contacts_that_lose_their_transport_resume_and_do_not_begin_anew() {
    for seed in 0..20 {
        let mut world = World::new(900 + seed);
        let identities = [world.identity(), world.identity()];
        for (identity, peer) in identities.iter().zip(identities.iter().rev()) {
            world.add_contact(identity.clone(), peer.peer_id(), [7; 32]);
        }
        world.establish();
        for round in 1..=8_u32 {
            for node in 0..2 {
                world.send(node, Bytes::from(round.to_be_bytes().to_vec()));
            }
            match round % 3 {
                0 => world.cut_one(0),
                1 => world.cut_one(1),
                _ => world.cut(0),
            }
            let done =
                |world: &World<'_>| (0..2).all(|node| resumed(world, node) >= round as usize);
            assert!(
                world.run_until(done),
                "round {round}, {:?}",
                world.nodes[0].events
            );
            world.run(Duration::from_secs(seed));
        }
        world.run(Duration::from_secs(1));
        for node in 0..2 {
            let expected: Vec<Bytes> = (1..=8_u32)
                .map(|round| Bytes::from(round.to_be_bytes().to_vec()))
                .collect();
            assert_eq!(world.bodies(node), expected, "seed {seed}");
        }
    }
}

///
#[test]
fn c3_a_restarted_contact_is_met_again_and_what_it_never_took_is_told() {
    for first in [0, 1] {
        let mut world = World::new(20 + first);
        let identities = [world.identity(), world.identity()];
        let secret = [7; 32];
        for (identity, peer) in identities.iter().zip(identities.iter().rev()) {
            world.add_contact(identity.clone(), peer.peer_id(), secret);
        }
        world.establish();
        world.send(0, "taken");
        world.run(Duration::from_secs(1));
        world.nodes[1].takes = false;
        world.send(0, "never taken");
        // Node 1 dies without a word, and starts again as node 2.
        world.run(Duration::from_secs(1));
        world.kill(1);
        let again = world.add_contact(identities[1].clone(), identities[0].peer_id(), secret);
        assert!(
            world.run_until(|world| world.is_established(again)),
            "{:?}",
            world.nodes[0].events
        );
        world.run(Duration::from_secs(1));
        let reset = |event: &Event| matches!(event, Event::SessionReset { unacked: 1 });
        assert!(
            world.nodes[0].events.iter().any(reset),
            "{:?}",
            world.nodes[0].events
        );
        world.send(0, "new");
        world.send(again, "me again");
        world.run(Duration::from_secs(1));
        assert_eq!(world.bodies(again), ["new"]);
        assert_eq!(world.bodies(0), ["me again"]);
    }
}

#[test]
fn a_window_is_kept_across_transports_and_refilled_by_the_peer() {
    let mut world = world(Case::Open, 8);
    world.nodes[1].takes = false;
    for _ in 0..12 {
        world.send(0, vec![0; 1 << 20]);
    }
    world.run(Duration::from_secs(1));
    world.cut(0);
    world.run(Duration::from_secs(10));
    assert!(connected(&world));
    world.nodes[1].takes = true;
    for _ in 0..7 {
        world.take(1, 1);
    }
    world.run(Duration::from_secs(5));
    while world.bodies(1).len() < 12 {
        let before = world.bodies(1).len();
        for _ in 0..before {
            world.take(1, 1);
        }
        world.run(Duration::from_secs(5));
        assert!(world.bodies(1).len() > before, "stuck at {before}");
    }
}
