//! True messages in the wrong meeting: spliced prologues (A5) and reflection (A6).

use std::time::Duration;

use sealwire::{
    EndpointId, Error, Identity, MinTrust,
    error::RefusalCode,
    protocol::{Event, Meeting, PayloadKind},
};

use crate::{
    mallory::Terms,
    victim::{SCENES, Seat, Victim, one_blob},
    world::{Case, Honest, Hostile, Letter, Seeded, Told, World, invite, parse},
};

pub(super) const INITIATOR: EndpointId = EndpointId([0x40; 16]);

pub(super) const RESPONDER: EndpointId = EndpointId([0xc0; 16]);

/// Nobody has a session as long as the first attempts run, and nobody's stack was given a description.
#[track_caller]
pub(super) fn assert_closed(world: &mut World<'_>, what: &str) {
    world.run_until(|world| {
        let again = world.nodes.iter().any(|node| node.joins.len() > 1);
        again || world.now > Duration::from_secs(10)
    });
    for node in 0..world.nodes.len() {
        assert!(!world.is_established(node), "{what}");
    }
}

/// A server that calls a node by another name towards the other.
struct Misnamed {
    /// Who is lied to.
    to: usize,
    truth: EndpointId,
    lie: EndpointId,
}

impl Misnamed {
    fn rename(&self, endpoint: EndpointId) -> EndpointId {
        if endpoint == self.truth {
            self.lie
        } else {
            endpoint
        }
    }
}

impl Hostile for Misnamed {
    fn relay(&mut self, letter: Letter) -> Vec<Letter> {
        if letter.to != self.to {
            return vec![letter];
        }
        let told = match letter.told {
            Told::Welcome(peers) => {
                Told::Welcome(peers.into_iter().map(|peer| self.rename(peer)).collect())
            }
            Told::Joined(peer) => Told::Joined(self.rename(peer)),
            Told::Left(peer) => Told::Left(self.rename(peer)),
            Told::Blob { from, blob } => Told::Blob {
                from: self.rename(from),
                blob,
            },
        };
        vec![Letter { told, ..letter }]
    }

    fn route(&mut self, from: usize, _to: EndpointId) -> Option<usize> {
        Some(1 - from)
    }
}

///
#[test]
fn a5_a_lie_about_the_other_endpoint_id_fails_the_handshake() {
    for case in Case::ALL {
        for (to, truth) in [(case.initiator(), RESPONDER), (case.responder(), INITIATOR)] {
            // One bit is enough, and the roles stay as they are.
            let mut lie = truth;
            lie.0[15] ^= 1;
            let mut world = World::of(case, 100, Misnamed { to, truth, lie });
            assert_closed(&mut world, "a different name told to one side");
            assert!(
                world.seen_by_server.iter().any(|(.., blob)| blob[0] == 1),
                "the handshake began"
            );
        }
    }
}

#[test]
fn a5_a_lie_that_makes_both_initiate_or_both_answer_brings_no_session() {
    for case in Case::ALL {
        // The responder believes that the other's id is larger than its own, or the initiator that it is smaller.
        for (to, truth, lie) in [
            (case.responder(), INITIATOR, EndpointId([0xf0; 16])),
            (case.initiator(), RESPONDER, EndpointId([0x10; 16])),
        ] {
            let mut world = World::of(case, 101, Misnamed { to, truth, lie });
            assert_closed(&mut world, "roles told differently");
            assert!(
                world.seen_by_server.iter().all(|(.., blob)| blob[0] == 1),
                "nobody answers"
            );
        }
    }
}

///
#[test]
fn a5_two_rooms_joined_by_the_server_fail_the_handshake() {
    for swapped in [false, true] {
        let mut world = World::with(
            102,
            Misnamed {
                to: 9,
                truth: INITIATOR,
                lie: INITIATOR,
            },
        );
        let endpoints = if swapped {
            [RESPONDER, INITIATOR]
        } else {
            [INITIATOR, RESPONDER]
        };
        for (endpoint, room) in endpoints.into_iter().zip(["here", "there"]) {
            world.rig(endpoint.0[0]);
            world.add_open(room);
        }
        for node in 0..2 {
            let told = Told::Joined(endpoints[1 - node]);
            world.tell(Letter {
                to: node,
                told,
                delay: Duration::from_millis(20),
            });
        }
        assert_closed(&mut world, "two rooms");
        assert!(
            world.seen_by_server.iter().any(|(.., blob)| blob[0] == 2),
            "it came as far as HS2"
        );
    }
}

#[test]
fn a5_another_psk_id_on_hs1_fails_the_handshake() {
    // A redeems one invite and B made another: the server joins their rooms and puts B's psk_id on A's HS1.
    let identities = [103, 104].map(|seed| Identity::generate_from(&mut Seeded::new(seed)));
    let [here, there] = [105, 106].map(|seed| invite(&identities[0], 0, seed));
    let psk_id = Terms::invite(&there).psk_id;
    struct Swap(Misnamed, [u8; 16]);
    impl Hostile for Swap {
        fn relay(&mut self, mut letter: Letter) -> Vec<Letter> {
            if let Told::Blob { blob, .. } = &mut letter.told
                && blob[0] == 1
            {
                blob[3..19].copy_from_slice(&self.1);
            }
            self.0.relay(letter)
        }
        fn route(&mut self, from: usize, to: EndpointId) -> Option<usize> {
            self.0.route(from, to)
        }
    }
    for redeemer_initiates in [true, false] {
        let names = Misnamed {
            to: 9,
            truth: INITIATOR,
            lie: INITIATOR,
        };
        let psk_id = if redeemer_initiates {
            psk_id
        } else {
            Terms::invite(&here).psk_id
        };
        let mut world = World::with(107, Swap(names, psk_id));
        let endpoints = if redeemer_initiates {
            [INITIATOR, RESPONDER]
        } else {
            [RESPONDER, INITIATOR]
        };
        world.rig(endpoints[0].0[0]);
        world.add(
            identities[1].clone(),
            Meeting::Redeem(parse(&here)),
            MinTrust::Invited,
        );
        world.rig(endpoints[1].0[0]);
        world.add(
            identities[0].clone(),
            Meeting::Invite(parse(&there)),
            MinTrust::Invited,
        );
        for node in 0..2 {
            let told = Told::Joined(endpoints[1 - node]);
            world.tell(Letter {
                to: node,
                told,
                delay: Duration::from_millis(20),
            });
        }
        assert_closed(&mut world, "two invites");
        let kinds: Vec<u8> = world
            .seen_by_server
            .iter()
            .map(|(.., blob)| blob[0])
            .collect();
        assert_eq!(kinds, [1], "it fails at the first tag");
    }
}

///
#[test]
fn a5_a_psk_id_that_nobody_knows_is_answered_by_a_hint() {
    let (mut victim, mut mallory) = Victim::against(Seat::Inviter, false, 108);
    mallory.terms.psk_id[0] ^= 1;
    let payload = mallory.payload(PayloadKind::Hs1);
    let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
    let out = victim.blob(mallory.endpoint, &hs1);
    assert_eq!(one_blob(&out), [5, RefusalCode::UnknownPsk.to_wire()]);
}

#[test]
fn a6_own_handshake_messages_sent_back_bring_nothing() {
    for case in Case::ALL {
        // As from the other, as from oneself, and as from somebody who would be the initiator, or the responder.
        for name in [
            None,
            Some([0x00; 16]),
            Some([0x20; 16]),
            Some([0x80; 16]),
            Some([0xf0; 16]),
        ] {
            let mut world = World::of(case, 109, Reflect(name.map(EndpointId)));
            world.run_until(|world| {
                let again = world.nodes.iter().any(|node| node.joins.len() > 1);
                again || world.now > Duration::from_secs(10)
            });
            for node in 0..2 {
                assert!(!world.is_established(node));
                let own = world.nodes[node]
                    .given
                    .iter()
                    .any(|given| world.nodes[node].described.contains(given));
                assert!(!own, "the own description came back into the stack");
            }
        }
    }
}

/// A server that gives every blob back to whoever sent it.
struct Reflect(Option<EndpointId>);

impl Hostile for Reflect {
    fn route(&mut self, from: usize, _to: EndpointId) -> Option<usize> {
        Some(from)
    }

    fn relay(&mut self, mut letter: Letter) -> Vec<Letter> {
        if let Told::Blob { from, .. } = &mut letter.told {
            let other = if *from == INITIATOR {
                RESPONDER
            } else {
                INITIATOR
            };
            *from = self.0.unwrap_or(other);
        }
        vec![letter]
    }
}

///
#[test]
fn a6_a_peer_with_the_own_endpoint_id_does_not_exist() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 110);
        assert!(victim.sees(victim.endpoint).is_empty());
        assert!(
            victim
                .give(sealwire::protocol::Input::Welcome {
                    peers: vec![victim.endpoint; 40]
                })
                .is_empty()
        );
        mallory.endpoint = victim.endpoint;
        let payload = mallory.payload(PayloadKind::Hs1);
        let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
        assert!(victim.blob(victim.endpoint, &hs1).is_empty());
    }
}

///
#[test]
fn a6_two_machines_with_one_identity_never_pair() {
    for case in Case::ALL {
        let identity = Identity::generate_from(&mut Seeded::new(111));
        let text = invite(&identity, 0, 112);
        let mut world = World::with(113, Honest);
        for node in 0..2 {
            world.rig(if node == case.initiator() { 0x40 } else { 0xc0 });
            let (meeting, required) = match (case, node) {
                (Case::Open, _) => (
                    Meeting::Open {
                        room: "lobby".into(),
                        pinned: None,
                    },
                    MinTrust::Unknown,
                ),
                (_, 0) => (Meeting::Invite(parse(&text)), MinTrust::Invited),
                _ => (Meeting::Redeem(parse(&text)), MinTrust::Invited),
            };
            world.add(identity.clone(), meeting, required);
        }
        world.run(Duration::from_secs(50));
        for node in 0..2 {
            assert!(!world.is_established(node));
        }
        let selfie = |event: &Event| {
            matches!(
                event,
                Event::Retrying {
                    error: Error::Selfie
                }
            )
        };
        assert!(
            world.nodes[case.initiator()].events.iter().any(selfie),
            "{case:?}"
        );
    }
}

///
#[test]
fn a6_a_signaling_record_sent_back_is_nothing() {
    // A responder's own answer, and an initiator's own candidate: the keys are of the other direction.
    let mut world = World::of(Case::Open, 114, Honest);
    world.run_until(|world| world.seen_by_server.iter().any(|(.., blob)| blob[0] == 4));
    let (from, to, sig) = world
        .seen_by_server
        .iter()
        .find(|(.., blob)| blob[0] == 4)
        .expect("the answer")
        .clone();
    assert_eq!((from, to), (RESPONDER, INITIATOR));
    let before = world.nodes[1].given.len();
    world.give(
        1,
        sealwire::protocol::Input::Blob {
            from: INITIATOR,
            blob: sig,
        },
    );
    assert_eq!(world.nodes[1].given.len(), before);
    world.establish();
}
