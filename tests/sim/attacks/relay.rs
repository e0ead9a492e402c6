//! A server that carries badly (A19), and hints that it forges (K1).

use std::{cell::Cell, time::Duration};

use sealwire::{
    Error,
    error::{Evidence, RefusalCode},
    protocol::{Event, Input, Meeting, PayloadKind},
};

use crate::{
    mallory::Mallory,
    victim::{Seat, Victim, blobs, one_blob, opened},
    world::{Case, Honest, Letter, Relay, Told, World, parse},
};

/// Letters of a case until both are established.
fn letters(case: Case) -> usize {
    let count = Cell::new(0);
    let mut world = World::of(
        case,
        140,
        Relay(|letter| {
            count.set(count.get() + 1);
            vec![letter]
        }),
    );
    world.establish();
    count.get()
}

/// A session that comes up carries messages both ways, ends in good order, and leaves nothing open.
#[track_caller]
fn assert_works(mut world: World<'_>, what: &str) {
    let up = world.run_until(|world| {
        let over = world.nodes.iter().any(|node| node.machine.is_ended());
        world.both_established() || over
    });
    let told: Vec<_> = world.nodes.iter().map(|node| &node.events).collect();
    assert!(up && world.both_established(), "{what}: {told:?}");
    for node in 0..2 {
        world.send(node, "hello");
    }
    world.run(Duration::from_secs(1));
    for node in 0..2 {
        assert_eq!(world.bodies(node), ["hello"], "{what}");
    }
    world.close(0);
    world.run(Duration::from_secs(10));
    for node in 0..2 {
        let last = world.nodes[node].events.last();
        assert!(
            matches!(last, Some(Event::Closed { unacked: 0, .. })),
            "{what}: {last:?}"
        );
    }
}

#[test]
fn a19_any_single_letter_may_be_dropped() {
    for case in Case::ALL {
        for dropped in 0..letters(case) {
            let mut count = 0;
            let world = World::of(
                case,
                140,
                Relay(move |letter| {
                    count += 1;
                    if count - 1 == dropped {
                        Vec::new()
                    } else {
                        vec![letter]
                    }
                }),
            );
            assert_works(world, &format!("{case:?}, letter {dropped} dropped"));
        }
    }
}

#[test]
fn a19_any_single_letter_may_be_late() {
    for case in Case::ALL {
        for late in 0..letters(case) {
            for delay in [1, 3, 9, 11, 20, 31, 45].map(Duration::from_secs) {
                let mut count = 0;
                let world = World::of(
                    case,
                    140,
                    Relay(move |letter: Letter| {
                        count += 1;
                        let delay = if count - 1 == late {
                            delay
                        } else {
                            letter.delay
                        };
                        vec![Letter { delay, ..letter }]
                    }),
                );
                assert_works(world, &format!("{case:?}, letter {late} late by {delay:?}"));
            }
        }
    }
}

#[test]
fn a19_any_single_letter_may_come_twice() {
    for case in Case::ALL {
        for doubled in 0..letters(case) {
            for delay in [5, 100, 1_000, 12_000].map(Duration::from_millis) {
                let mut count = 0;
                let world = World::of(
                    case,
                    140,
                    Relay(move |letter: Letter| {
                        count += 1;
                        let again = Letter {
                            delay: letter.delay + delay,
                            ..letter.clone()
                        };
                        if count - 1 == doubled {
                            vec![letter, again]
                        } else {
                            vec![letter]
                        }
                    }),
                );
                assert_works(
                    world,
                    &format!("{case:?}, letter {doubled} again after {delay:?}"),
                );
            }
        }
    }
}

#[test]
fn a19_the_server_may_throw_a_member_out_at_any_letter() {
    for case in Case::ALL {
        for at in 0..letters(case) {
            for thrown in 0..2 {
                let count = Cell::new(0);
                let mut world = World::of(
                    case,
                    140,
                    Relay(|letter| {
                        count.set(count.get() + 1);
                        vec![letter]
                    }),
                );
                world.run_until(|_| count.get() > at);
                world.cut_signaling(thrown);
                assert_works(
                    world,
                    &format!("{case:?}, node {thrown} thrown out at letter {at}"),
                );
            }
        }
    }
}

#[test]
fn a19_a_server_that_drops_all_for_a_while_delays_and_prevents_nothing() {
    for case in Case::ALL {
        for silent in [1_u64, 10, 25] {
            for seed in 0..4 {
                let mut world = World::of(case, seed, Relay(|_| Vec::new()));
                world.run(Duration::from_secs(silent));
                world.set_hostile(Honest);
                assert_works(world, &format!("{case:?}, silent for {silent} s"));
            }
        }
    }
}

///
#[test]
fn a19_a_forged_left_delays_and_prevents_nothing_and_ends_no_session() {
    for case in Case::ALL {
        for at in 0..letters(case) {
            let mut count = 0;
            let world = World::of(
                case,
                140,
                Relay(move |letter: Letter| {
                    count += 1;
                    let peer = match &letter.told {
                        Told::Blob { from, .. } | Told::Joined(from) => Some(*from),
                        Told::Welcome(peers) => peers.first().copied(),
                        Told::Left(_) => None,
                    };
                    let left = peer.filter(|_| count - 1 == at).map(|peer| Letter {
                        told: Told::Left(peer),
                        ..letter.clone()
                    });
                    std::iter::once(letter).chain(left).collect()
                }),
            );
            assert_works(world, &format!("{case:?}, left after letter {at}"));
        }
        let mut world = World::of(case, 141, Honest);
        world.establish();
        for node in 0..2 {
            let peer = world.nodes[1 - node].joins[0];
            world.give(node, Input::PeerLeft(peer));
            world.cut_signaling(node);
        }
        assert_works(world, "left, and thrown out, once established");
    }
}

/// An attempt at a victim that answers, up to the HS2 that it sent or the HS1.
fn begin(seat: Seat, initiates: bool) -> (Victim, Mallory, Vec<u8>) {
    let (mut victim, mut mallory) = Victim::against(seat, initiates, 142);
    let mut out = if initiates {
        victim.sees(mallory.endpoint)
    } else {
        let payload = mallory.payload(PayloadKind::Hs1);
        let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
        victim.blob(mallory.endpoint, &hs1)
    };
    if let Some(link) = opened(&out).first() {
        out = victim.describe(*link, if initiates { "actpass" } else { "active" });
    }
    let blob = one_blob(&out);
    (victim, mallory, blob)
}

///
#[test]
fn k1_a_reject_shortens_the_wait_of_its_attempt_to_2_seconds() {
    for (seat, initiates) in [
        (Seat::Open, true),
        (Seat::Inviter, true),
        (Seat::Inviter, false),
        (Seat::Open, false),
    ] {
        let (mut victim, mallory, _) = begin(seat, initiates);
        victim.wait(Duration::from_secs(1));
        assert!(
            victim
                .blob(mallory.endpoint, &[5, RefusalCode::Busy.to_wire()])
                .is_empty()
        );
        victim.wait(Duration::from_millis(1_999));
        assert!(victim.retried().is_empty());
        victim.wait(Duration::from_millis(1));
        let refused = Error::Refused {
            code: RefusalCode::Busy,
            evidence: Evidence::Hint,
        };
        assert_eq!(victim.retried(), [&refused], "{seat:?}");
        assert!(!victim.machine.is_ended());
    }
}

///
#[test]
fn k1_a_reject_lengthens_no_wait() {
    let (mut victim, mallory, _) = begin(Seat::Open, true);
    victim.wait(Duration::from_millis(9_500));
    for _ in 0..10 {
        victim.blob(mallory.endpoint, &[5, RefusalCode::Busy.to_wire()]);
    }
    victim.wait(Duration::from_millis(500));
    assert_eq!(victim.retried().len(), 1);
}

///
#[test]
fn k1_a_valid_message_after_a_reject_still_counts() {
    let (mut victim, mut mallory, hs1) = begin(Seat::Redeemer, true);
    victim.blob(mallory.endpoint, &[5, RefusalCode::Used.to_wire()]);
    victim.wait(Duration::from_millis(1_900));
    let payload = mallory.payload(PayloadKind::Hs2(mallory.terms.mode));
    let (hs2, _) = mallory
        .hs2(victim.endpoint, &hs1, &payload)
        .expect("an honest HS1");
    assert_eq!(one_blob(&victim.blob(mallory.endpoint, &hs2))[0], 3);
    victim.wait(Duration::from_secs(20));
    assert_eq!(victim.failure(), None);
}

#[test]
fn k1_a_reject_from_nobody_shortens_no_attempt() {
    // Anybody in the room, or the server, says that the invite is used while the inviter answers, slowly.
    for initiates in [true, false] {
        for early in [true, false] {
            let (mut victim, mut mallory) = Victim::against(Seat::Redeemer, initiates, 143);
            let nobody = sealwire::EndpointId([0x77; 16]);
            let reject = [5, RefusalCode::Used.to_wire()];
            if early {
                victim.blob(nobody, &reject);
                victim.wait(Duration::from_millis(500));
            }
            let out = if initiates {
                victim.sees(mallory.endpoint)
            } else {
                let payload = mallory.payload(PayloadKind::Hs1);
                let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
                victim.blob(mallory.endpoint, &hs1)
            };
            let setup = if initiates { "actpass" } else { "active" };
            let out = victim.describe(opened(&out)[0], setup);
            assert_eq!(blobs(&out).len(), 1);
            if !early {
                victim.blob(nobody, &reject);
            }
            victim.wait(Duration::from_secs(9));
            assert_eq!(
                victim.failure(),
                None,
                "initiates: {initiates}, early: {early}"
            );
        }
    }
}

#[test]
fn k1_a_reject_of_one_member_ends_no_attempt_with_another() {
    // A second redeemer says that the invite is used while the inviter answers.
    let (mut victim, mut mallory) = Victim::against(Seat::Redeemer, true, 148);
    let other = sealwire::EndpointId([0x90; 16]);
    let link = opened(&victim.sees(other))[0];
    victim.describe(link, "actpass");
    let hs1 = one_blob(&victim.sees(mallory.endpoint));
    victim.blob(other, &[5, RefusalCode::Used.to_wire()]);
    victim.wait(Duration::from_secs(5));
    assert_eq!(victim.failure(), None);
    let payload = mallory.payload(PayloadKind::Hs2(mallory.terms.mode));
    let (hs2, _) = mallory
        .hs2(victim.endpoint, &hs1, &payload)
        .expect("an honest HS1");
    assert_eq!(one_blob(&victim.blob(mallory.endpoint, &hs2))[0], 3);
}

///
#[test]
fn k1_a_reject_before_the_offer_is_made_shortens_the_wait_as_well() {
    // A stack takes its time to describe itself; what is sent then is no word of the peer.
    let (mut victim, mallory) = Victim::against(Seat::Redeemer, true, 151);
    let link = opened(&victim.sees(mallory.endpoint))[0];
    victim.blob(mallory.endpoint, &[5, RefusalCode::Used.to_wire()]);
    victim.wait(Duration::from_secs(1));
    victim.describe(link, "actpass");
    assert_eq!(victim.failure(), None);
    victim.wait(Duration::from_secs(1));
    let evidence = Evidence::Hint;
    assert_eq!(victim.failure(), Some(&Error::InviteUsed { evidence }));
}

///
#[test]
fn k1_a_reject_counts_once_nothing_else_is_tried() {
    // Somebody who is about to leave is still there: the one who knows that the invite is used is heard afterwards.
    for with_an_attempt in [false, true] {
        let (mut victim, mallory) = Victim::against(Seat::Redeemer, true, 152);
        let leaving = sealwire::EndpointId([0x90; 16]);
        let link = opened(&victim.sees(leaving))[0];
        victim.describe(link, "actpass");
        if with_an_attempt {
            victim.sees(mallory.endpoint);
        }
        victim.blob(mallory.endpoint, &[5, RefusalCode::Used.to_wire()]);
        victim.wait(Duration::from_secs(3));
        assert_eq!(victim.failure(), None);
        victim.give(Input::PeerLeft(leaving));
        victim.wait(Duration::from_millis(1));
        let evidence = Evidence::Hint;
        assert_eq!(victim.failure(), Some(&Error::InviteUsed { evidence }));
    }
}

///
#[test]
fn k1_a_reject_without_an_attempt_shortens_the_wait_for_the_inviter() {
    let (mut victim, mallory) = Victim::against(Seat::Redeemer, false, 144);
    victim.blob(mallory.endpoint, &[5, RefusalCode::Used.to_wire()]);
    victim.wait(Duration::from_secs(2));
    assert_eq!(
        victim.failure(),
        Some(&Error::InviteUsed {
            evidence: Evidence::Hint
        })
    );
}

///
#[test]
fn k1_no_reject_ends_a_session_or_a_completed_handshake() {
    for (seat, initiates) in crate::victim::SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 145);
        let (mut peer, link) = victim.shake(&mut mallory);
        for code in 0..8 {
            assert!(victim.blob(mallory.endpoint, &[5, code]).is_empty());
        }
        victim.wait(Duration::from_secs(5));
        victim.open_link(link, mallory.fingerprint);
        victim.exchange_ready(&mut peer, link);
        for code in 0..8 {
            assert!(victim.blob(mallory.endpoint, &[5, code]).is_empty());
        }
        victim.wait(Duration::from_secs(5));
        assert_eq!(victim.failure(), None);
    }
}

#[test]
fn a_redeemer_that_waits_for_nobody_gives_up_after_a_minute_and_an_inviter_does_not() {
    let mut world = World::new(146);
    let (inviter, redeemer) = (world.identity(), world.identity());
    let text = world.invite(&inviter);
    world.add(
        redeemer,
        Meeting::Redeem(parse(&text)),
        sealwire::MinTrust::Invited,
    );
    world.run(Duration::from_secs(61));
    assert!(matches!(world.failure(0), Some(Error::PeerAbsent { .. })));
    world.add(
        inviter,
        Meeting::Invite(parse(&text)),
        sealwire::MinTrust::Invited,
    );
    world.run(Duration::from_secs(100_000));
    assert_eq!(world.failure(1), None);
}

#[test]
fn a_redeemer_whose_minute_ends_within_a_handshake_waits_for_its_end() {
    let (mut victim, mut mallory) = Victim::against(Seat::Redeemer, true, 147);
    victim.wait(Duration::from_secs(55));
    let (mut peer, link) = victim.shake(&mut mallory);
    victim.wait(Duration::from_secs(20));
    victim.open_link(link, mallory.fingerprint);
    victim.exchange_ready(&mut peer, link);
    assert_eq!(victim.failure(), None);
}
