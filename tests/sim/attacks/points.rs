//! Points of low order, and keys in another encoding (A12).

use std::collections::BTreeSet;

use ml_kem::{KeyExport, ml_kem_768};
use sealwire::{
    Error, PeerId,
    crypto::{
        noise::{self, NNHFS_PSK0, NoiseError, ReadDone, Setup, Written},
        secret::Secret,
    },
    protocol::{Event, Mode, PayloadKind},
};
use x25519_dalek::{PublicKey, StaticSecret};

use super::payloads::{assert_aborted, say};
use crate::{
    mallory::{Key, Symmetric},
    victim::{SCENES, Seat, Victim, opened},
    world::Seeded,
};

/// Wycheproof's public keys with a flag, each once.
fn wycheproof(flag: &str) -> BTreeSet<[u8; 32]> {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../data/wycheproof-x25519.json")).expect("JSON");
    let cases = file["testGroups"][0]["tests"].as_array().expect("a list");
    let flagged = |case: &&serde_json::Value| {
        let flags = case["flags"].as_array().expect("a list");
        flags.iter().any(|found| found == flag)
    };
    let public = |case: &serde_json::Value| point(case["public"].as_str().expect("hexadecimal"));
    cases.iter().filter(flagged).map(public).collect()
}

fn point(hex: &str) -> [u8; 32] {
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal"))
}

/// Points whose Diffie-Hellman with anything is zero, each with the bit that RFC 7748 §5 ignores and without: all of
/// Wycheproof, which has every encoding of the five (0, 1, -1, two of order 8).
fn low_order_points() -> Vec<[u8; 32]> {
    let mut points = wycheproof("ZeroSharedSecret");
    points.extend(wycheproof("LowOrderPublic"));
    for mut point in points.clone() {
        point[31] ^= 0x80;
        points.insert(point);
    }
    points.into_iter().collect()
}

/// The secret key 5l - 1, l the order of the base point: its public key is the base point, u = 9, which has a second
/// encoding, p + 9, that is not reduced.
fn base_point_key() -> [u8; 32] {
    let mut secret = point("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0;
    for byte in &mut secret {
        let sum = u16::from(*byte) * 5 + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    secret[0] -= 1;
    secret
}

#[test]
fn a12_the_points_are_of_low_order() {
    // 0, p, 1, p + 1, p - 1, and two of order 8: seven encodings, the top bit aside.
    assert_eq!(low_order_points().len(), 14);
    let secret = StaticSecret::from([0x42; 32]);
    for point in low_order_points() {
        assert_eq!(
            secret.diffie_hellman(&PublicKey::from(point)).to_bytes(),
            [0; 32]
        );
    }
}

///
#[test]
fn a12_a_low_order_point_as_ephemeral_key_aborts_in_every_role() {
    for (seat, initiates) in SCENES {
        for point in low_order_points() {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 82);
            mallory.ephemeral = Some(Key::Point(point));
            let mode = mallory.terms.mode;
            let kind = if initiates {
                PayloadKind::Hs2(mode)
            } else {
                PayloadKind::Hs1
            };
            let payload = mallory.payload(kind);
            let mut out = say(&mut victim, &mut mallory, kind, &payload);
            if !initiates && let Some(link) = opened(&out).first().copied() {
                // The responder meets the key when it writes HS2.
                out = victim.describe(link, "active");
            }
            assert_aborted(&victim, &out, "e");
            assert_eq!(
                victim.laws.open_links().len(),
                usize::from(initiates && mode == Mode::Paired),
                "the offer"
            );
        }
    }
}

///
#[test]
fn a12_a_low_order_point_as_static_key_aborts_in_every_role() {
    for (seat, initiates) in SCENES {
        for point in low_order_points() {
            let (mut victim, mallory) = Victim::against(seat, initiates, 83);
            let mut mallory = mallory.with_key(Key::Point(point));
            let mode = mallory.terms.mode;
            let kind = if initiates {
                PayloadKind::Hs2(mode)
            } else {
                PayloadKind::Hs3(mode)
            };
            let payload = mallory.payload(kind);
            let out = say(&mut victim, &mut mallory, kind, &payload);
            assert_aborted(&victim, &out, "s");
        }
    }
}

/// An NN handshake with psk, as a rekey makes it.
fn rekey<'a>(psks: &'a [&'a Secret]) -> Setup<'a> {
    Setup {
        pattern: &NNHFS_PSK0,
        prologue: b"prologue",
        local_static: None,
        psks,
    }
}

fn symmetric(psk: &Secret) -> Symmetric {
    let mut symmetric = Symmetric::new(NNHFS_PSK0.name());
    symmetric.mix_hash(b"prologue");
    symmetric.mix_key_and_hash(psk.expose());
    symmetric
}

///
#[test]
fn a12_a_low_order_point_aborts_an_nn_handshake_at_either_side() {
    let psk = Secret::new([9; 32]);
    for point in low_order_points() {
        // As the initiator's e: the responder reads it, and fails where the key is used.
        let mut by_hand = symmetric(&psk);
        by_hand.mix_hash(&point);
        by_hand.mix_key(&point);
        let key = ml_kem_768::DecapsulationKey::from_seed(ml_kem::Seed::default());
        let e1 = by_hand.encrypt(&key.encapsulation_key().to_bytes());
        let payload = by_hand.encrypt(b"");
        let first = [point.as_slice(), &e1, &payload].concat();
        let Ok((_, ReadDone::Writer(writer))) = noise::respond(rekey(&[&psk])).read(&first) else {
            panic!("the message is well made");
        };
        assert!(matches!(
            writer.write(b"", &mut Seeded::new(1)),
            Err(NoiseError::Degenerate)
        ));

        // As the responder's e: everything after it is keyed with what its secret would give, zero.
        let Ok((first, Written::Reader(reader))) =
            noise::initiate(rekey(&[&psk])).write(b"", &mut Seeded::new(2))
        else {
            panic!("the first message meets no key");
        };
        let mut by_hand = symmetric(&psk);
        by_hand.mix_hash(&first[..32]);
        by_hand.mix_key(&first[..32]);
        let encapsulation = by_hand
            .decrypt(&first[32..32 + 1_184 + 16])
            .expect("an honest message");
        by_hand
            .decrypt(&first[32 + 1_184 + 16..])
            .expect("an honest message");
        by_hand.mix_hash(&point);
        by_hand.mix_key(&point);
        by_hand.mix_key(&[0; 32]);
        let key = ml_kem_768::EncapsulationKey::new(
            encapsulation.as_slice().try_into().expect("1 184 bytes"),
        );
        let (ciphertext, shared) = key
            .expect("an honest key")
            .encapsulate_deterministic(&[3; 32].into());
        let ekem1 = by_hand.encrypt(&ciphertext);
        by_hand.mix_key(&shared);
        let payload = by_hand.encrypt(b"");
        let second = [point.as_slice(), &ekem1, &payload].concat();
        assert!(matches!(reader.read(&second), Err(NoiseError::Degenerate)));
    }
}

/// Points that are not reduced, and not of low order.
fn unreduced_points() -> Vec<[u8; 32]> {
    let low = low_order_points();
    let points = wycheproof("NonCanonicalPublic");
    points
        .into_iter()
        .filter(|point| !low.contains(point))
        .collect()
}

#[test]
fn a12_a_point_that_is_not_reduced_and_whose_secret_nobody_has_aborts_in_every_role() {
    let points = unreduced_points();
    assert!(points.len() >= 8, "{}", points.len());
    for (seat, initiates) in SCENES {
        for point in &points {
            let (mut victim, mallory) = Victim::against(seat, initiates, 85);
            let mut mallory = mallory.with_key(Key::Point(*point));
            let kind = match initiates {
                true => PayloadKind::Hs2(mallory.terms.mode),
                false => PayloadKind::Hs3(mallory.terms.mode),
            };
            let payload = mallory.payload(kind);
            let out = say(&mut victim, &mut mallory, kind, &payload);
            assert_aborted(&victim, &out, "s");
        }
    }
}

#[test]
fn a12_a_static_key_that_is_not_reduced_is_another_key() {
    let key = Key::Pair(base_point_key());
    let reduced = key.public();
    assert_eq!((reduced[0], &reduced[1..]), (9, &[0; 31][..]));
    let unreduced = point("f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    for (seat, initiates) in SCENES {
        let (mut victim, mallory) = Victim::against(seat, initiates, 86);
        let shown = Key::Shown(unreduced, Box::new(key.clone()));
        let mut mallory = mallory.with_key(shown);
        let kind = match initiates {
            true => PayloadKind::Hs2(mallory.terms.mode),
            false => PayloadKind::Hs3(mallory.terms.mode),
        };
        if seat == Seat::Redeemer {
            let payload = mallory.payload(kind);
            say(&mut victim, &mut mallory, kind, &payload);
            let found = PeerId::from_bytes(unreduced);
            assert_eq!(victim.retried(), [&Error::NotInviter { found }]);
            continue;
        }
        let (mut peer, link) = victim.shake(&mut mallory);
        victim.open_link(link, mallory.fingerprint);
        victim.exchange_ready(&mut peer, link);
        let found = |event: &Event| matches!(event, Event::Established { peer, .. } if *peer.as_bytes() == unreduced);
        assert!(victim.events.iter().any(found), "{:?}", victim.events);
    }
}

#[test]
fn a12_a_static_key_in_another_encoding_is_another_key() {
    // The high bit changes no Diffie-Hellman: whoever holds a key can show it, and it must not pass for the first.
    let (mut victim, mut mallory) = Victim::against(Seat::Redeemer, true, 84);
    let own = mallory.key.peer_id();
    mallory.key = Key::Disguised(Box::new(mallory.key.clone()));
    let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
    say(
        &mut victim,
        &mut mallory,
        PayloadKind::Hs2(Mode::Paired),
        &payload,
    );
    let found = mallory.key.peer_id();
    assert_ne!(found, own);
    assert_eq!(victim.retried(), [&Error::NotInviter { found }]);
}
