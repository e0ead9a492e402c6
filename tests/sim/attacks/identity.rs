//! Attacks on who somebody is (A1 to A3, A14): foreign descriptions, men in the middle, unknown key shares.

use std::time::Duration;

use sealwire::{
    EndpointId, Error, Identity, MinTrust, PeerId, SafetyNumber,
    error::HandshakeStage,
    protocol::{Event, Meeting, Mode, Output, Payload, PayloadKind, SigSender},
};

use crate::{
    mallory::{Key, Mallory, READY, READY_BODY, READY_OK, Terms, candidate},
    victim::{Seat, Victim, answered, blobs, frames, one_blob, opened},
    world::{Case, Honest, Letter, Relay, Seeded, Told, World, invite, parse},
};

/// Blobs of a whole handshake between two attackers, with descriptions of their own: HS1, HS2, HS3, SIG.
fn foreign(case: Case) -> [Vec<u8>; 4] {
    // What the server knows of the room, and not its secret.
    let terms = match case {
        Case::Open => Terms::open("lobby"),
        _ => Terms::invite(&invite(&Identity::generate_from(&mut Seeded::new(1)), 0, 3))
            .without_secret(),
    };
    let mode = terms.mode;
    let mut one = Mallory::new(0x40, 50, terms.clone());
    let mut two = Mallory::new(0xc0, 51, terms);
    let (hs1, hands) = one.hs1(two.endpoint, &one.payload(PayloadKind::Hs1));
    let payload = two.payload(PayloadKind::Hs2(mode));
    let (hs2, answering) = two.hs2(one.endpoint, &hs1, &payload).expect("their own");
    let (hs3, _) = hands
        .hs3(&hs2, &one.payload(PayloadKind::Hs3(mode)))
        .expect("their own");
    let mut peer = answering.end(&hs3).expect("their own");
    let sig = peer.sig(&two.payload(PayloadKind::Sig(SigSender::OpenResponder)));
    [hs1, hs2, hs3, sig]
}

/// What a stack was given came from the other machine's stack.
#[track_caller]
fn assert_only_own_descriptions(world: &World<'_>) {
    for node in 0..2 {
        for given in &world.nodes[node].given {
            assert!(
                world.nodes[1 - node].described.contains(given),
                "node {node} was given {given}"
            );
        }
    }
}

///
#[test]
fn a1_foreign_sdp_in_any_blob_never_reaches_a_stack() {
    for case in Case::ALL {
        for kind in 1..=4_u8 {
            for way in 0..3 {
                let foreign = foreign(case)[usize::from(kind) - 1].clone();
                let sdp = crate::world::description(
                    1,
                    [6; 32],
                    if kind % 2 == 1 { "actpass" } else { "active" },
                );
                let mut world = World::of(
                    case,
                    52,
                    Relay(move |mut letter: Letter| {
                        if let Told::Blob { blob, .. } = &mut letter.told
                            && blob[0] == kind
                        {
                            let at = blob.len().saturating_sub(sdp.len()).max(1);
                            match way {
                                // Somebody else's blob; a description over the end; one behind it.
                                0 => blob.clone_from(&foreign),
                                1 => drop(blob.splice(at.., sdp.bytes())),
                                _ => blob.extend(sdp.bytes()),
                            }
                        }
                        vec![letter]
                    }),
                );
                world.run(Duration::from_secs(9));
                assert_only_own_descriptions(&world);
                let sent = world
                    .seen_by_server
                    .iter()
                    .any(|(.., blob)| blob[0] == kind);
                assert_eq!(world.both_established(), !sent, "{case:?}, blob {kind}");
                assert_eq!(sent, kind < 4 || case == Case::Open);
            }
        }
    }
}

#[test]
fn a1_no_blob_shows_a_description_a_candidate_or_a_key() {
    for case in Case::ALL {
        let mut world = World::of(case, 53, Honest);
        world.establish();
        for (.., blob) in &world.seen_by_server {
            let shows = |needle: &[u8]| blob.windows(needle.len()).any(|window| window == needle);
            for needle in [&b"a=fingerprint"[..], b"candidate:", b"main", b"ice-"] {
                assert!(!shows(needle));
            }
            for node in 0..2 {
                assert!(
                    !shows(world.peer_id(node).as_bytes()),
                    "identities are hidden"
                );
            }
        }
    }
}

/// The side of the middle on which an endpoint of [`in_the_middle`] is.
fn side(endpoint: &EndpointId) -> bool {
    endpoint.0[0] >= 0x30
}

/// A, both ends of one attacker, and B, in one room whose server shows A only one end, and B only the other.
fn in_the_middle(seed: u64, pin: bool) -> World<'static> {
    let mut world = World::with(
        seed,
        Relay(|letter: Letter| {
            let here = letter.to >= 2;
            let kept = match letter.told {
                Told::Welcome(peers) => Some(Told::Welcome(
                    peers
                        .into_iter()
                        .filter(|peer| side(peer) == here)
                        .collect(),
                )),
                Told::Joined(peer) if side(&peer) == here => Some(Told::Joined(peer)),
                blob @ Told::Blob { .. } => Some(blob),
                Told::Joined(_) | Told::Left(_) => None,
            };
            kept.map(|told| Letter { told, ..letter })
                .into_iter()
                .collect()
        }),
    );
    let (a, m, b) = (world.identity(), world.identity(), world.identity());
    let pins = [Some(b.peer_id()), None, None, Some(a.peer_id())];
    for (endpoint, identity) in [0x10, 0x20, 0x30, 0x40]
        .into_iter()
        .zip([a, m.clone(), m, b])
    {
        let pinned = pins[world.nodes.len()].filter(|_| pin);
        world.rig(endpoint);
        world.add(
            identity,
            Meeting::Open {
                room: "lobby".into(),
                pinned,
            },
            MinTrust::Unknown,
        );
    }
    world.run(Duration::from_secs(9));
    world
}

fn peer_of(world: &World<'_>, node: usize) -> Option<PeerId> {
    world.nodes[node]
        .events
        .iter()
        .find_map(|event| match event {
            Event::Established { peer, .. } => Some(*peer),
            _ => None,
        })
}

#[test]
fn a2_a_man_in_the_middle_of_an_open_room_shows_in_the_safety_numbers() {
    let world = in_the_middle(54, false);
    let [a, m, b] = [0, 1, 3].map(|node| world.peer_id(node));
    let (seen_by_a, seen_by_b) = (peer_of(&world, 0), peer_of(&world, 3));
    assert_eq!(
        (seen_by_a, seen_by_b),
        (Some(m), Some(m)),
        "nobody can keep it out"
    );
    assert_ne!(SafetyNumber::between(a, m), SafetyNumber::between(b, m));
    assert_eq!(SafetyNumber::between(a, b), SafetyNumber::between(b, a));
    let ids: Vec<_> = [0, 3]
        .map(|node| world.nodes[node].machine.session().expect("established").0)
        .into();
    assert_ne!(
        ids[0], ids[1],
        "and so would the keys that a short code is made of"
    );
}

///
#[test]
fn a2_a_pin_keeps_a_man_in_the_middle_out_and_no_application_byte_leaves() {
    let mut world = in_the_middle(55, true);
    for (node, other) in [(0, 3), (3, 0)] {
        let expected = Error::KeyChanged {
            expected: world.peer_id(other),
            found: world.peer_id(1),
        };
        assert_eq!(world.failure(node), Some(&expected));
        assert_eq!(
            world.nodes[node].opened, 0,
            "it learns no description either"
        );
        world.send(node, "secret");
    }
    world.run(Duration::from_secs(1));
    assert!(world.seen_on_wire.is_empty());
}

#[test]
fn a3_without_the_secret_hs1_fails_at_its_first_tag() {
    for seat in [Seat::Inviter, Seat::Redeemer] {
        let (mut victim, mut mallory) = Victim::against(seat, false, 56);
        mallory.terms = mallory.terms.without_secret();
        let payload = mallory.payload(PayloadKind::Hs1);
        let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
        let out = victim.blob(mallory.endpoint, &hs1);
        assert!(
            blobs(&out).is_empty() && opened(&out).is_empty(),
            "no answer, no link"
        );
        assert_eq!(
            victim.retried(),
            [&Error::HandshakeFailed {
                stage: HandshakeStage::Hello
            }]
        );
    }
}

#[test]
fn a3_without_the_secret_hs1_cannot_be_read_and_no_hs2_be_made() {
    for seat in [Seat::Inviter, Seat::Redeemer] {
        let (mut victim, mut mallory) = Victim::against(seat, true, 57);
        mallory.terms = mallory.terms.without_secret();
        let link = opened(&victim.sees(mallory.endpoint))[0];
        let hs1 = one_blob(&victim.describe(link, "actpass"));
        let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
        assert!(mallory.hs2(victim.endpoint, &hs1, &payload).is_none());
        // An HS2 for an HS1 of her own.
        let mut other = Mallory::new(0x40, 58, mallory.terms.clone());
        let (own, _) = other.hs1(mallory.endpoint, &payload);
        let (hs2, _) = mallory
            .hs2(victim.endpoint, &own, &payload)
            .expect("her own");
        let out = victim.blob(mallory.endpoint, &hs2);
        assert!(blobs(&out).is_empty() && answered(&out).is_none());
        assert_eq!(
            victim.retried(),
            [&Error::HandshakeFailed {
                stage: HandshakeStage::Answer
            }]
        );
    }
}

///
#[test]
fn a3_with_the_secret_and_without_the_inviters_key_the_joiner_stops_at_the_key() {
    let thief = Key::of(&Identity::generate_from(&mut Seeded::new(59)));
    for initiates in [true, false] {
        let (mut victim, mallory) = Victim::against(Seat::Redeemer, initiates, 60);
        let mut mallory = mallory.with_key(thief.clone());
        let out = if initiates {
            let link = opened(&victim.sees(mallory.endpoint))[0];
            let hs1 = one_blob(&victim.describe(link, "actpass"));
            let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
            let (hs2, _) = mallory
                .hs2(victim.endpoint, &hs1, &payload)
                .expect("she holds the secret");
            victim.blob(mallory.endpoint, &hs2)
        } else {
            let payload = mallory.payload(PayloadKind::Hs1);
            let (hs1, hands) = mallory.hs1(victim.endpoint, &payload);
            let link = opened(&victim.blob(mallory.endpoint, &hs1))[0];
            let hs2 = one_blob(&victim.describe(link, "active"));
            let (hs3, _) = hands
                .hs3(&hs2, &mallory.payload(PayloadKind::Hs3(Mode::Paired)))
                .expect("an honest HS2");
            victim.blob(mallory.endpoint, &hs3)
        };
        assert!(
            blobs(&out).is_empty() && answered(&out).is_none(),
            "silent, and her answer reaches no stack"
        );
        let given = out
            .iter()
            .any(|output| matches!(output, Output::LinkCandidate { .. }));
        assert!(!given);
        assert_eq!(
            victim.retried(),
            [&Error::NotInviter {
                found: mallory.key.peer_id()
            }]
        );
        assert!(!victim.machine.is_ended(), "it goes on waiting");
        // Her endpoint had its chance.
        let payload = mallory.payload(PayloadKind::Hs1);
        let (again, _) = mallory.hs1(victim.endpoint, &payload);
        assert!(blobs(&victim.blob(mallory.endpoint, &again)).is_empty());
    }
}

///
#[test]
fn a3_redeemers_of_one_invite_that_meet_each_other_go_on_to_the_inviter() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        let identities = [(); 3].map(|()| world.identity());
        let text = world.invite(&identities[0]);
        let [inviter, first, second] = identities;
        world.add(first, Meeting::Redeem(parse(&text)), MinTrust::Invited);
        world.add(second, Meeting::Redeem(parse(&text)), MinTrust::Invited);
        world.run(Duration::from_secs(1));
        for node in 0..2 {
            let found = world.peer_id(1 - node);
            let met = |event: &Event| matches!(event, Event::Retrying { error: Error::NotInviter { found: key } } if *key == found);
            let all_met = world.nodes[node].events.iter().all(met);
            assert!(
                all_met && world.failure(node).is_none(),
                "{:?}",
                world.nodes[node].events
            );
        }
        // At least one of them learned the other's key and stopped.
        assert!(world.nodes[..2].iter().any(|node| !node.events.is_empty()));
        assert_eq!(
            world.nodes[0].given.len() + world.nodes[1].given.len(),
            1,
            "one offer, to who proved the secret"
        );
        world.add(inviter, Meeting::Invite(parse(&text)), MinTrust::Invited);
        let up = world.run_until(|world| world.is_established(2));
        assert!(up, "{:?}", world.nodes[2].events);
        let winner = peer_of(&world, 2).expect("established");
        assert!(winner == world.peer_id(0) || winner == world.peer_id(1));
    }
}

///
#[test]
fn a14_a_link_that_leads_past_the_attacker_carries_no_session_between_its_ends() {
    // M passes B's description off as its own to A, and A's to B: DTLS runs between A and B, fingerprints match.
    let open = || Meeting::Open {
        room: "lobby".into(),
        pinned: None,
    };
    let identities = [61, 62].map(|seed| Identity::generate_from(&mut Seeded::new(seed)));
    let [a_id, b_id] = identities;
    let mut a = Victim::new(0x40, 63, a_id, open());
    let mut b = Victim::new(0xc0, 64, b_id, open());
    (a.fingerprint, b.fingerprint) = ([0xaa; 32], [0xbb; 32]);
    let key = Key::of(&Identity::generate_from(&mut Seeded::new(65)));
    let mut to_a = Mallory::new(0x80, 66, Terms::open("lobby")).with_key(key.clone());
    let mut to_b = Mallory::new(0x80, 67, Terms::open("lobby")).with_key(key);

    let out = a.sees(to_a.endpoint);
    let payload = to_a.payload(PayloadKind::Hs2(Mode::Open));
    let (hs2, hands) = to_a
        .hs2(a.endpoint, &one_blob(&out), &payload)
        .expect("an honest HS1");
    let link_a = opened(&a.blob(to_a.endpoint, &hs2))[0];
    let hs3 = one_blob(&a.describe(link_a, "actpass"));
    let mut with_a = hands.end(&hs3).expect("an honest HS3");
    let offer = Payload::decode(PayloadKind::Hs3(Mode::Open), &with_a.payload)
        .expect("an honest payload")
        .sdp;

    let (hs1, hands) = to_b.hs1(b.endpoint, &[]);
    let hs2 = one_blob(&b.blob(to_b.endpoint, &hs1));
    let records = Payload {
        sdp: offer,
        ..to_b.records(PayloadKind::Hs3(Mode::Open))
    };
    let (hs3, mut with_b) = hands
        .hs3(&hs2, &records.encode(PayloadKind::Hs3(Mode::Open)).0)
        .expect("an honest HS2");
    let link_b = opened(&b.blob(to_b.endpoint, &hs3))[0];
    let sig = one_blob(&b.describe(link_b, "active"));
    let answer = with_b
        .read_sig(Mode::Open, &sig)
        .expect("an honest SIG")
        .sdp;

    let kind = PayloadKind::Sig(SigSender::OpenResponder);
    let records = Payload {
        sdp: answer,
        candidates: vec![candidate(7)],
        ..Payload::default()
    };
    assert_eq!(
        answered(&a.blob(to_a.endpoint, &with_a.sig(&records.encode(kind).0))),
        Some(link_a)
    );
    let from_a = frames(&a.open_link(link_a, b.fingerprint));
    let from_b = frames(&b.open_link(link_b, a.fingerprint));
    assert_eq!(
        (from_a.len(), from_b.len()),
        (1, 1),
        "both say READY: the fingerprints match"
    );

    // On the direct way neither can read the other.
    b.frame(link_b, 0, &from_a[0].1);
    a.frame(link_a, 0, &from_b[0].1);
    for victim in [&a, &b] {
        assert!(
            matches!(victim.failure(), Some(Error::Protocol(_))),
            "{:?}",
            victim.events
        );
        assert!(!victim.is_established());
    }

    // M's keys would open them: each was bound to M, and to M only.
    assert_eq!(with_a.open(0, &from_a[0].1), (READY, READY_BODY.to_vec()));
    assert_eq!(with_b.open(0, &from_b[0].1), (READY, READY_BODY.to_vec()));
    assert_ne!(
        with_a.frame(0, READY_OK, b""),
        with_b.frame(0, READY_OK, b"")
    );
}
