//! Points of low order, and keys in another encoding (A12).

use ml_kem::{KeyExport, ml_kem_768};
use sealwire::{
    Error,
    crypto::{
        noise::{self, NNHFS_PSK0, NoiseError, ReadDone, Setup, Written},
        secret::Secret,
    },
    protocol::{Mode, PayloadKind},
};
use x25519_dalek::{PublicKey, StaticSecret};

use super::payloads::{assert_aborted, say};
use crate::{
    mallory::{Key, Symmetric},
    victim::{SCENES, Seat, Victim, opened},
    world::Seeded,
};

/// Points whose Diffie-Hellman with anything is zero, in every encoding of 255 bits (RFC 7748 §5 ignores the last).
fn low_order_points() -> Vec<[u8; 32]> {
    let near_p = |low: u8| {
        let mut point = [0xff; 32];
        (point[0], point[31]) = (low, 0x7f);
        point
    };
    let small = |low: u8| {
        let mut point = [0; 32];
        point[0] = low;
        point
    };
    let order_8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ]
    .map(|hex| {
        std::array::from_fn(|at| {
            u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal")
        })
    });
    let mut points = vec![small(0), small(1), near_p(0xec), near_p(0xed), near_p(0xee)];
    points.extend(order_8);
    let high = points.clone().into_iter().map(|mut point| {
        point[31] |= 0x80;
        point
    });
    points.extend(high);
    points
}

#[test]
fn a12_the_points_are_of_low_order() {
    let secret = StaticSecret::from([0x42; 32]);
    for point in low_order_points() {
        assert_eq!(
            secret.diffie_hellman(&PublicKey::from(point)).to_bytes(),
            [0; 32]
        );
    }
}

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
