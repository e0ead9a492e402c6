//! True messages in the wrong place: spliced prologues (A5), reflection (A6), other sessions (A7), replay (A8),
//! duplicates (A9), glare and lies about who is there (A10).

use std::time::Duration;

use sealwire::{
    EndpointId, Error, Identity, MinTrust,
    error::RefusalCode,
    protocol::{Blob, Event, Meeting, Mode, Output, PayloadKind},
};

use crate::{
    mallory::{Mallory, Terms},
    victim::{SCENES, Seat, Victim, blobs, frames, one_blob, opened},
    world::{Case, Honest, Hostile, Letter, Relay, Seeded, Told, Wire, World, invite, parse},
};

const INITIATOR: EndpointId = EndpointId([0x40; 16]);
const RESPONDER: EndpointId = EndpointId([0xc0; 16]);

/// Nobody has a session as long as the first attempts run, and nobody's stack was given a description.
#[track_caller]
fn assert_closed(world: &mut World<'_>, what: &str) {
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

/// The blobs of a session, and its frames to node 1 and node 0.
type Recorded = (Vec<Vec<u8>>, Vec<(usize, u8, Vec<u8>)>);

/// A session of a case, with one message each way.
fn record(case: Case, seed: u64) -> Recorded {
    let mut world = World::of(case, seed, Honest);
    world.establish();
    for node in 0..2 {
        world.send(node, "recorded");
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.bodies(0).len() + world.bodies(1).len(), 2);
    (
        world
            .seen_by_server
            .iter()
            .map(|(.., blob)| blob.clone())
            .collect(),
        world.seen_on_wire.clone(),
    )
}

#[test]
fn a7_a_handshake_message_of_another_session_of_the_same_pair_fails() {
    for case in Case::ALL {
        // Same identities, same psk, and, as no honest pair ever has, the same endpoint ids.
        let (blobs, _) = record(case, 115);
        for old in &blobs {
            let kind = old[0];
            let mut world = World::of(
                case,
                116,
                Relay(|mut letter: Letter| {
                    if let Told::Blob { blob, .. } = &mut letter.told
                        && blob[0] == kind
                    {
                        assert_ne!(blob, old, "every session is its own");
                        blob.clone_from(old);
                    }
                    vec![letter]
                }),
            );
            assert_closed(
                &mut world,
                &format!("{case:?}: blob {kind} of another session"),
            );
        }
    }
}

#[test]
fn a7_a_frame_of_another_session_of_the_same_pair_is_fatal() {
    for case in Case::ALL {
        let (_, old) = record(case, 117);
        for &(to, channel, ref frame) in &old {
            let mut count = 0;
            let mut injected = false;
            let position = old
                .iter()
                .take_while(|other| **other != (to, channel, frame.clone()));
            let position = position
                .filter(|(other, other_channel, _)| (*other, *other_channel) == (to, channel))
                .count();
            let mut world = World::of(
                case,
                118,
                Wire(|mut packet: crate::world::Packet| {
                    if (packet.to, packet.channel) == (to, channel) {
                        // In the same place: header and length are right, and the key is not.
                        if count == position {
                            injected = true;
                            packet.frame.clone_from(frame);
                        }
                        count += 1;
                    }
                    vec![packet]
                }),
            );
            world.run_until(|world| world.both_established() || world.failure(to).is_some());
            for node in 0..2 {
                world.send(node, "recorded");
            }
            world.run(Duration::from_secs(6));
            assert!(
                matches!(world.failure(to), Some(Error::Protocol(_))),
                "frame {position} of channel {channel}"
            );
            drop(world);
            assert!(injected);
        }
    }
}

#[test]
fn a8_a_recorded_hs1_is_refused_by_a_later_join_before_a_link_exists() {
    for seat in [Seat::Inviter, Seat::Redeemer] {
        let (mut victim, mut mallory) = Victim::against(seat, false, 119);
        let payload = mallory.payload(PayloadKind::Hs1);
        let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
        // To the same machine after it joined again, as a restart would.
        let first = victim.endpoint;
        let joined = |out: &[Output]| {
            out.iter()
                .any(|output| matches!(output, Output::Join { .. }))
        };
        victim.give(sealwire::protocol::Input::SignalingLost);
        assert_ne!(victim.endpoint, first);
        victim.give(sealwire::protocol::Input::Welcome { peers: Vec::new() });
        let out = victim.blob(mallory.endpoint, &hs1);
        assert!(
            blobs(&out).is_empty() && opened(&out).is_empty() && !joined(&out),
            "{out:?}"
        );
        assert!(matches!(
            victim.retried()[..],
            [Error::HandshakeFailed { .. }]
        ));
    }
}

#[test]
fn a8_an_hs1_twice_in_one_join_is_dropped_the_second_time_at_every_stage() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| !initiates) {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 120);
        let mode = mallory.terms.mode;
        let payload = mallory.payload(PayloadKind::Hs1);
        let (hs1, hands) = mallory.hs1(victim.endpoint, &payload);
        let mut out = victim.blob(mallory.endpoint, &hs1);
        assert!(
            victim.blob(mallory.endpoint, &hs1).is_empty(),
            "while the answer is made"
        );
        if mode == Mode::Paired {
            let link = opened(&out)[0];
            out = victim.describe(link, "active");
        }
        let hs2 = one_blob(&out);
        assert!(
            victim.blob(mallory.endpoint, &hs1).is_empty(),
            "while HS3 is awaited"
        );
        let (hs3, _) = hands
            .hs3(&hs2, &mallory.payload(PayloadKind::Hs3(mode)))
            .expect("an honest HS2");
        let mut forged = hs3.clone();
        forged[10] ^= 1;
        victim.blob(mallory.endpoint, &forged);
        assert!(
            victim.blob(mallory.endpoint, &hs1).is_empty(),
            "after it failed"
        );
        assert!(
            victim.blob(mallory.endpoint, &hs3).is_empty(),
            "a failed state is used up"
        );
        // Another HS1 of the same endpoint is no better.
        let (other, _) = mallory.hs1(victim.endpoint, &payload);
        assert!(victim.blob(mallory.endpoint, &other).is_empty());
    }
}

/// Two different HS2 to one HS1, both valid.
fn two_answers(victim: &mut Victim, mallory: &mut Mallory) -> [Vec<u8>; 2] {
    let mut out = victim.sees(mallory.endpoint);
    if let Some(link) = opened(&out).first() {
        out = victim.describe(*link, "actpass");
    }
    let hs1 = one_blob(&out);
    let payload = mallory.payload(PayloadKind::Hs2(mallory.terms.mode));
    [(); 2].map(|()| {
        mallory
            .hs2(victim.endpoint, &hs1, &payload)
            .expect("an honest HS1")
            .0
    })
}

/// The HS3 among outputs, of an open initiator once its offer is made.
fn third(victim: &mut Victim, mut out: Vec<Output>) -> usize {
    if let Some(link) = opened(&out).first().copied() {
        out.extend(victim.describe(link, "actpass"));
    }
    blobs(&out).iter().filter(|blob| blob[0] == 3).count()
}

#[test]
fn a9_a_second_hs2_the_same_or_another_makes_no_second_hs3() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| *initiates) {
        for order in [[0, 0], [0, 1], [1, 0]] {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 121);
            let answers = two_answers(&mut victim, &mut mallory);
            let [first, second] = order.map(|at| &answers[at]);
            let out = victim.blob(mallory.endpoint, first);
            // Before the open initiator's offer is made, and after.
            let early = victim.blob(mallory.endpoint, second);
            let count = third(&mut victim, out);
            let late = victim.blob(mallory.endpoint, second);
            assert_eq!((count, early.len(), late.len()), (1, 0, 0));
            let waited = victim.wait(Duration::from_secs(9));
            assert_eq!(third(&mut victim, waited), 0);
        }
    }
}

#[test]
fn a9_a_failed_hs2_uses_the_state_up() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| *initiates) {
        for at in [1, 40, 1_200, 1_250] {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 122);
            let [mut first, second] = two_answers(&mut victim, &mut mallory);
            let whole = first.clone();
            first[at] ^= 4;
            victim.blob(mallory.endpoint, &first);
            assert!(victim.blob(mallory.endpoint, &whole).is_empty());
            assert!(victim.blob(mallory.endpoint, &second).is_empty());
        }
    }
}

#[test]
fn a9_messages_of_an_attempt_that_timed_out_are_nothing() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 123);
        if initiates {
            let [answer, _] = two_answers(&mut victim, &mut mallory);
            victim.wait(Duration::from_millis(10_001));
            assert!(victim.blob(mallory.endpoint, &answer).is_empty());
        } else {
            let payload = mallory.payload(PayloadKind::Hs1);
            let (hs1, hands) = mallory.hs1(victim.endpoint, &payload);
            let mut out = victim.blob(mallory.endpoint, &hs1);
            if let Some(link) = opened(&out).first() {
                out = victim.describe(*link, "active");
            }
            let payload = mallory.payload(PayloadKind::Hs3(mallory.terms.mode));
            let (hs3, _) = hands.hs3(&one_blob(&out), &payload).expect("an honest HS2");
            victim.wait(Duration::from_millis(10_001));
            assert!(victim.blob(mallory.endpoint, &hs3).is_empty());
            assert!(victim.laws.open_links().is_empty());
        }
    }
}

fn hs1_count(world: &World<'_>) -> usize {
    world
        .seen_by_server
        .iter()
        .filter(|(.., blob)| blob[0] == 1)
        .count()
}

#[test]
fn a10_whoever_is_told_to_have_come_first_exactly_one_initiates() {
    for case in Case::ALL {
        for told_first in [[true, true], [false, false], [true, false], [false, true]] {
            let others = if case.initiator() == 0 {
                [RESPONDER, INITIATOR]
            } else {
                [INITIATOR, RESPONDER]
            };
            let hostile = Relay(move |letter: Letter| {
                let other = others[letter.to];
                let first = told_first[letter.to];
                match letter.told {
                    // First: an empty room, and then somebody comes. Last: somebody is there, and nobody comes.
                    Told::Welcome(_) if first => {
                        let delay = letter.delay + Duration::from_millis(20);
                        let joined = Letter {
                            to: letter.to,
                            told: Told::Joined(other),
                            delay,
                        };
                        vec![
                            Letter {
                                told: Told::Welcome(Vec::new()),
                                ..letter
                            },
                            joined,
                        ]
                    }
                    Told::Welcome(_) => vec![Letter {
                        told: Told::Welcome(vec![other]),
                        ..letter
                    }],
                    Told::Joined(_) => Vec::new(),
                    Told::Left(_) | Told::Blob { .. } => vec![letter],
                }
            });
            let mut world = World::of(case, 124, hostile);
            world.establish();
            assert_eq!(hs1_count(&world), 1);
            let (from, ..) = world.seen_by_server[0];
            assert_eq!(from, INITIATOR);
        }
    }
}

#[test]
fn a10_joins_that_are_told_late_twice_or_out_of_order_bring_one_session() {
    for case in Case::ALL {
        for delays in [[0, 900], [900, 0], [900, 300], [5_000, 0], [0, 5_000]] {
            for twice in [false, true] {
                let hostile = Relay(move |mut letter: Letter| {
                    if matches!(letter.told, Told::Blob { .. }) {
                        return vec![letter];
                    }
                    letter.delay += Duration::from_millis(delays[letter.to]);
                    let again = Letter {
                        delay: letter.delay * 2,
                        ..letter.clone()
                    };
                    if twice {
                        vec![letter, again]
                    } else {
                        vec![letter]
                    }
                });
                let mut world = World::of(case, 125, hostile);
                world.establish();
                assert_eq!(hs1_count(&world), 1, "{case:?}, {delays:?}, twice: {twice}");
            }
        }
    }
}

#[test]
fn a10_an_hs1_before_its_sender_was_announced_is_answered() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| !initiates) {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 126);
        let (_, link) = victim.shake(&mut mallory);
        assert!(
            victim.sees(mallory.endpoint).is_empty(),
            "the announcement that comes late changes nothing"
        );
        assert_eq!(victim.machine.link(), Some(link));
    }
}

#[test]
fn a10_an_hs1_from_a_larger_endpoint_id_is_dropped() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| *initiates) {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 127);
        let payload = mallory.payload(PayloadKind::Hs1);
        let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
        assert!(victim.blob(mallory.endpoint, &hs1).is_empty());
    }
}

#[test]
fn a10_strangers_that_the_server_invents_do_not_keep_a_pair_apart() {
    for case in Case::ALL {
        let mut invented = 0_u8;
        let hostile = Relay(move |letter: Letter| {
            let mut all = Vec::new();
            if matches!(letter.told, Told::Joined(_) | Told::Welcome(_)) {
                for start in [0x00, 0x80, 0xff] {
                    invented += 1;
                    let mut name = [start; 16];
                    name[1] = invented;
                    all.push(Letter {
                        told: Told::Joined(EndpointId(name)),
                        ..letter.clone()
                    });
                }
            }
            all.push(letter);
            all
        });
        let mut world = World::of(case, 128, hostile);
        world.establish();
    }
}

#[test]
fn an_offer_belongs_to_one_join_and_every_hs1_of_it_has_its_own_keys() {
    let (mut victim, mallory) = Victim::against(Seat::Inviter, true, 129);
    let link = opened(&victim.sees(mallory.endpoint))[0];
    let first = one_blob(&victim.describe(link, "actpass"));
    let mut firsts = vec![first];
    for byte in [0x90, 0xa0] {
        let out = victim.sees(EndpointId([byte; 16]));
        assert!(opened(&out).is_empty(), "one link");
        firsts.push(one_blob(&out));
    }
    let ephemeral = |blob: &Vec<u8>| match Blob::decode(blob) {
        Ok(Blob::Hs1 { noise, .. }) => noise[..32].to_vec(),
        other => panic!("{other:?}"),
    };
    let keys: std::collections::BTreeSet<Vec<u8>> = firsts.iter().map(ephemeral).collect();
    assert_eq!(keys.len(), 3);
    assert!(frames(&victim.wait(Duration::from_secs(1))).is_empty());
}
