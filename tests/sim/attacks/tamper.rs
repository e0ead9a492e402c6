//! Handshake messages changed on their way (A4), and what would talk two machines down (A11).

use std::time::Duration;

use sealwire::{
    EndpointId, Error,
    error::{HandshakeStage, RefusalCode},
    protocol::{Blob, Bye, Caps, Event, Mode, Output, Payload, PayloadKind, SigSender},
};

use super::payloads::{places, say};
use crate::{
    mallory::{Mallory, candidate},
    victim::{SCENES, Seat, Victim, blobs, one_blob, opened},
    world::{Case, Letter, Relay, Told, World},
};

/// Runs a case until somebody joins again or the first attempt is over, with one bit of the first blob of a kind flipped.
/// Returns the blob's length.
#[track_caller]
fn flip(case: Case, kind: u8, at: usize, bit: u8) -> usize {
    let mut len = 0;
    {
        let mut world = World::of(
            case,
            70,
            Relay(|mut letter: Letter| {
                if let Told::Blob { blob, .. } = &mut letter.told
                    && blob[0] == kind
                    && len == 0
                {
                    len = blob.len();
                    if let Some(byte) = blob.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                }
                vec![letter]
            }),
        );
        world.run_until(|world| {
            let again = world.nodes.iter().any(|node| node.joins.len() > 1);
            let late = world.now > Duration::from_secs(10);
            for node in 0..2 {
                assert!(
                    !world.is_established(node),
                    "{case:?}, blob {kind}, bit {bit} of byte {at}"
                );
            }
            again || late
        });
    }
    len
}

/// One bit at every byte; of `e`, which begins HS2 and follows the header of HS1, each bit of the last byte as well.
#[track_caller]
fn flip_everywhere(case: Case, kind: u8, stride: usize) {
    let mut at = 0;
    loop {
        let len = flip(case, kind, at, (at % 8) as u8);
        assert!(len > 0, "no such blob");
        at += stride;
        if at >= len {
            break;
        }
    }
    let last_of_e = match kind {
        1 => Some(19 + 31),
        2 => Some(1 + 31),
        _ => None,
    };
    for at in last_of_e {
        for bit in 0..8 {
            flip(case, kind, at, bit);
        }
    }
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_open_hs1_never_establishes() {
    flip_everywhere(Case::Open, 1, 1);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_open_hs2_never_establishes() {
    flip_everywhere(Case::Open, 2, 1);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_open_hs3_never_establishes() {
    flip_everywhere(Case::Open, 3, 1);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_the_open_answer_never_establishes() {
    flip_everywhere(Case::Open, 4, 1);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_paired_hs1_never_establishes() {
    flip_everywhere(Case::InviterInitiates, 1, 1);
    flip_everywhere(Case::RedeemerInitiates, 1, 13);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_paired_hs2_never_establishes() {
    flip_everywhere(Case::InviterInitiates, 2, 1);
    flip_everywhere(Case::RedeemerInitiates, 2, 13);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_paired_hs3_never_establishes() {
    flip_everywhere(Case::InviterInitiates, 3, 1);
    flip_everywhere(Case::RedeemerInitiates, 3, 13);
}

///
#[test]
fn a4_one_flipped_bit_at_any_byte_of_a_sig_makes_it_nothing_and_the_true_one_still_counts() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 71);
        let (mut peer, _) = victim.shake(&mut mallory);
        let payload = Payload {
            candidates: vec![candidate(99)],
            ..Payload::default()
        };
        let sig = peer.sig(&payload.encode(PayloadKind::Sig(SigSender::Other)).0);
        // The kind alone makes another blob of it, which is no better.
        for at in 0..sig.len() {
            let mut changed = sig.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(
                victim.blob(mallory.endpoint, &changed).is_empty(),
                "byte {at}"
            );
        }
        let given = |out: &[Output]| matches!(out, [Output::LinkCandidate { .. }]);
        assert!(given(&victim.blob(mallory.endpoint, &sig)));
        assert!(
            victim.blob(mallory.endpoint, &sig).is_empty(),
            "and counts once"
        );
    }
}

///
#[test]
fn a11_another_version_is_answered_by_reject_and_never_spoken() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| !initiates) {
        for version in [0, 2, 0xff] {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 76);
            let payload = mallory.payload(PayloadKind::Hs1);
            let (mut hs1, _) = mallory.hs1(victim.endpoint, &payload);
            hs1[1] = version;
            // Whatever its layout: another version may be longer, shorter, or have other modes.
            match version {
                2 => hs1.truncate(2),
                0xff => hs1[2] = 0xff,
                _ => {}
            }
            let out = victim.blob(mallory.endpoint, &hs1);
            assert_eq!(one_blob(&out), [5, RefusalCode::Version.to_wire()]);
            assert!(opened(&out).is_empty());
            assert!(!victim.machine.is_ended());
        }
    }
}

///
#[test]
fn a11_the_mode_byte_leads_to_no_other_mode() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| !initiates) {
        // As the other mode, with the psk_id of either; and an open handshake made in earnest in the paired room.
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 77);
        let payload = mallory.payload(PayloadKind::Hs1);
        let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
        let mut blobs: Vec<Vec<u8>> = Vec::new();
        for psk_id in [mallory.terms.psk_id, [0; 16], [0x77; 16]] {
            let mut changed = hs1.clone();
            changed[2] ^= 1;
            changed[3..19].copy_from_slice(&psk_id);
            blobs.push(changed);
        }
        let mut open = mallory.terms.clone();
        (open.mode, open.psk, open.psk_id) = (Mode::Open, None, [0; 16]);
        if seat != Seat::Open {
            let (hs1, _) = Mallory::new(0x80, 78, open).hs1(victim.endpoint, &[]);
            blobs.push(hs1);
        }
        for (at, blob) in blobs.iter().enumerate() {
            let from = EndpointId([at as u8; 16]);
            let out = victim.blob(from, blob);
            assert_eq!(one_blob(&out), [5, RefusalCode::UnknownPsk.to_wire()]);
            assert!(opened(&out).is_empty());
        }
        let mut unknown = hs1;
        unknown[2] = 2;
        assert!(
            victim.blob(mallory.endpoint, &unknown).is_empty(),
            "a mode that does not exist"
        );
    }
}

///
#[test]
fn a11_a_forged_reject_leads_to_no_open_handshake_and_stops_no_honest_one() {
    for case in Case::PAIRED {
        for code in 0..=7_u8 {
            let mut world = World::of(
                case,
                79,
                Relay(move |letter: Letter| {
                    // In front of every blob and every newcomer, from whom it concerns.
                    let from = match &letter.told {
                        Told::Blob { from, .. } | Told::Joined(from) => *from,
                        Told::Welcome(peers) if !peers.is_empty() => peers[0],
                        _ => return vec![letter],
                    };
                    let reject = Told::Blob {
                        from,
                        blob: Blob::Reject(code).encode(),
                    };
                    let after = Letter {
                        to: letter.to,
                        told: reject.clone(),
                        delay: letter.delay,
                    };
                    vec![
                        Letter {
                            to: letter.to,
                            told: reject,
                            delay: letter.delay,
                        },
                        letter,
                        after,
                    ]
                }),
            );
            world.establish();
            let modes = world
                .seen_by_server
                .iter()
                .filter(|(.., blob)| blob[0] == 1)
                .map(|(.., blob)| blob[2]);
            assert_eq!(modes.collect::<Vec<_>>(), [1], "one HS1, and paired");
        }
    }
}

#[test]
fn a11_a_forged_reject_makes_a_redeemer_give_up_with_a_hint_and_never_fall_back() {
    let (mut victim, mallory) = Victim::against(Seat::Redeemer, true, 80);
    victim.blob(mallory.endpoint, &[5, RefusalCode::UnknownPsk.to_wire()]);
    let out = victim.wait(Duration::from_secs(60));
    assert!(blobs(&out).is_empty());
    let hint = sealwire::error::Evidence::Hint;
    assert_eq!(
        victim.failure(),
        Some(&Error::Refused {
            code: RefusalCode::UnknownPsk,
            evidence: hint
        })
    );
}

///
#[test]
fn a11_a_max_version_below_ours_is_a_downgrade_and_one_above_is_not() {
    for (seat, initiates, kind) in places() {
        let (_, mallory) = Victim::against(seat, initiates, 81);
        let Some(honest) = mallory
            .records(kind)
            .caps
            .filter(|_| !matches!(kind, PayloadKind::Sig(_)))
        else {
            continue;
        };
        for (max_version, downgrade) in [(0, true), (1, false), (2, false), (255, false)] {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 81);
            let records = Payload {
                caps: Some(Caps {
                    max_version,
                    ..honest
                }),
                ..mallory.records(kind)
            };
            say(&mut victim, &mut mallory, kind, &records.encode(kind).0);
            let seen = victim
                .retried()
                .iter()
                .any(|error| matches!(error, Error::Downgrade { used: 1, .. }));
            assert_eq!(
                seen, downgrade,
                "{kind:?}, max_version {max_version}: {:?}",
                victim.events
            );
        }
    }
}

///
#[test]
fn a11_bye_is_authenticated_and_unknown_codes_of_it_are_ignored() {
    for (seat, initiates) in SCENES {
        for code in [0_u8, 1, 2, 3, 4, 5, 6, 7, 255] {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 85);
            let (mut peer, _) = victim.shake(&mut mallory);
            let bye = Payload {
                bye: Some(Bye(code)),
                ..Payload::default()
            };
            let sig = peer.sig(&bye.encode(PayloadKind::Sig(SigSender::Other)).0);
            victim.blob(mallory.endpoint, &sig);
            let refused = |error: &Error| matches!(error, Error::Refused { code: found, .. } if found.to_wire() == code);
            let told = victim.events.iter().any(|event| match event {
                Event::Retrying { error } | Event::Failed { error } => refused(error),
                _ => false,
            });
            assert_eq!(told, (1..=6).contains(&code), "{code}: {:?}", victim.events);
        }
    }
}

///
#[test]
fn a4_a_failure_says_the_stage_and_not_the_cause() {
    // A tag, a key and a KEM ciphertext that are wrong look the same.
    for at in [
        1 + 5,
        1 + 32 + 5,
        1 + 32 + 1_104 + 5,
        1 + 32 + 1_104 + 48 + 5,
    ] {
        let (mut victim, mut mallory) = Victim::against(Seat::Inviter, true, 86);
        let link = opened(&victim.sees(mallory.endpoint))[0];
        let hs1 = one_blob(&victim.describe(link, "actpass"));
        let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
        let (mut hs2, _) = mallory
            .hs2(victim.endpoint, &hs1, &payload)
            .expect("an honest HS1");
        hs2[at] ^= 1;
        victim.blob(mallory.endpoint, &hs2);
        assert_eq!(
            victim.retried(),
            [&Error::HandshakeFailed {
                stage: HandshakeStage::Answer
            }]
        );
    }
}
