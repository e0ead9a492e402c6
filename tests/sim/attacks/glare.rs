//! Who initiates (A10): whatever the server says about who is there and who came first.

use std::time::Duration;

use sealwire::{
    EndpointId,
    protocol::{Blob, PayloadKind},
};

use super::splice::{INITIATOR, RESPONDER};
use crate::{
    victim::{SCENES, Seat, Victim, frames, one_blob, opened},
    world::{Case, Letter, Relay, Told, World},
};

fn hs1_count(world: &World<'_>) -> usize {
    world
        .seen_by_server
        .iter()
        .filter(|(.., blob)| blob[0] == 1)
        .count()
}

///
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

///
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

///
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

///
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
