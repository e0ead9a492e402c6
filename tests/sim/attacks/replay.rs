//! True messages a second time: in another session (A7), in a later join (A8), twice (A9).

use std::time::Duration;

use sealwire::{
    Error,
    protocol::{Mode, Output, PayloadKind},
};

use super::splice::assert_closed;
use crate::{
    mallory::Mallory,
    victim::{SCENES, Seat, Victim, blobs, one_blob, opened},
    world::{Case, Honest, Letter, Relay, Told, Wire, World},
};

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

///
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

///
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

///
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

///
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

///
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
