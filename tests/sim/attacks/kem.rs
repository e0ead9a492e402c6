//! Attacks on the post-quantum half of the handshake (A13). Whether the time differs is not tested: no test depends
//! on speed, and each ML-KEM key decapsulates once.

use std::time::Duration;

use ml_kem::ml_kem_768;
use sealwire::{
    Error,
    crypto::{
        noise::{self, NNHFS_PSK0, NoiseError, Setup, Written},
        secret::Secret,
    },
    error::HandshakeStage,
    protocol::PayloadKind,
};

use super::payloads::{assert_aborted, say};
use crate::{
    mallory::{Symmetric, Tamper},
    victim::{SCENES, Victim},
    world::Seeded,
};

/// Encapsulation keys with coefficients out of range (FIPS 203 §7.2): q first, 2^12 - 1 last, all; and other lengths.
const BAD_KEYS: [Tamper; 5] = [
    |key| (key[0], key[1]) = (0x01, key[1] & 0xf0 | 0x0d),
    |key| (key[1_150], key[1_151]) = (key[1_150] | 0xf0, 0xff),
    |key| key[..1_152].fill(0xff),
    |key| key.truncate(1_183),
    |key| key.push(0),
];

/// Ciphertexts that the key's owner rejects without a word (FIPS 203 §6.3), and some of another length.
const BAD_CIPHERTEXTS: [Tamper; 8] = [
    |ciphertext| ciphertext.fill(0x5a),
    |ciphertext| ciphertext.fill(0),
    |ciphertext| ciphertext.fill(0xff),
    |ciphertext| ciphertext[0] ^= 1,
    |ciphertext| ciphertext[1_087] ^= 0x80,
    |ciphertext| ciphertext.truncate(1_087),
    |ciphertext| ciphertext.push(0),
    |ciphertext| ciphertext.clear(),
];

///
#[test]
fn a13_an_encapsulation_key_that_is_none_aborts_before_anything_is_said() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| !initiates) {
        for tamper in BAD_KEYS {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 90);
            mallory.kem = Some(tamper);
            let payload = mallory.payload(PayloadKind::Hs1);
            let out = say(&mut victim, &mut mallory, PayloadKind::Hs1, &payload);
            assert_aborted(&victim, &out, "e1");
            let stage = HandshakeStage::Hello;
            assert_eq!(victim.retried(), [&Error::HandshakeFailed { stage }]);
        }
    }
}

///
#[test]
fn a13_every_ciphertext_that_does_not_fit_ends_like_a_forged_message() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| *initiates) {
        // The key that static key and payload are encrypted with is wrong after a rejection: what is seen from outside
        // is what anybody sees who forges those.
        let expected = outcome(seat, initiates, None);
        for tamper in BAD_CIPHERTEXTS {
            assert_eq!(outcome(seat, initiates, Some(tamper)), expected);
        }
    }
}

/// What can be seen of a victim that got an HS2, tampered with before or after it was encrypted.
fn outcome(
    seat: crate::victim::Seat,
    initiates: bool,
    tamper: Option<Tamper>,
) -> (String, Option<Duration>) {
    let (mut victim, mut mallory) = Victim::against(seat, initiates, 91);
    let kind = PayloadKind::Hs2(mallory.terms.mode);
    let payload = mallory.payload(kind);
    mallory.kem = tamper;
    let out = match tamper {
        Some(_) => say(&mut victim, &mut mallory, kind, &payload),
        None => {
            let mut out = victim.sees(mallory.endpoint);
            if let Some(link) = crate::victim::opened(&out).first() {
                out = victim.describe(*link, "actpass");
            }
            let hs1 = crate::victim::one_blob(&out);
            let (mut hs2, _) = mallory
                .hs2(victim.endpoint, &hs1, &payload)
                .expect("an honest HS1");
            let last = hs2.len() - 1;
            hs2[last] ^= 1;
            victim.blob(mallory.endpoint, &hs2)
        }
    };
    assert_aborted(&victim, &out, "ekem1");
    let timeout = victim.machine.next_timeout().map(|(at, _)| at);
    (format!("{out:?} {:?}", victim.events), timeout)
}

/// The second message of a rekey's handshake, by hand, with a ciphertext that was tampered with.
///
#[test]
fn a13_a_rekey_with_a_ciphertext_that_does_not_fit_fails_as_a_forged_one_does() {
    let psk = Secret::new([9; 32]);
    for tamper in BAD_CIPHERTEXTS {
        let setup = Setup {
            pattern: &NNHFS_PSK0,
            prologue: b"prologue",
            local_static: None,
            psks: &[&psk],
        };
        let Ok((first, Written::Reader(reader))) =
            noise::initiate(setup).write(b"", &mut Seeded::new(2))
        else {
            panic!("the first message meets no key");
        };
        let mut by_hand = Symmetric::new(NNHFS_PSK0.name());
        by_hand.mix_hash(b"prologue");
        by_hand.mix_key_and_hash(psk.expose());
        by_hand.mix_hash(&first[..32]);
        by_hand.mix_key(&first[..32]);
        let (e1, payload) = first[32..].split_at(1_184 + 16);
        let key = by_hand.decrypt(e1).expect("an honest message");
        by_hand.decrypt(payload).expect("an honest message");
        let ephemeral = x25519_dalek::StaticSecret::from([4; 32]);
        let public = x25519_dalek::PublicKey::from(&ephemeral);
        by_hand.mix_hash(public.as_bytes());
        by_hand.mix_key(public.as_bytes());
        let remote: [u8; 32] = first[..32].try_into().expect("32 bytes");
        by_hand.mix_key(ephemeral.diffie_hellman(&remote.into()).as_bytes());
        let key = ml_kem_768::EncapsulationKey::new(key.as_slice().try_into().expect("a key"));
        let (ciphertext, shared) = key
            .expect("an honest key")
            .encapsulate_deterministic(&[3; 32].into());
        let mut ciphertext = ciphertext.to_vec();
        tamper(&mut ciphertext);
        let short = ciphertext.is_empty();
        let ekem1 = by_hand.encrypt(&ciphertext);
        by_hand.mix_key(&shared);
        let payload = by_hand.encrypt(b"");
        let second = [public.as_bytes().as_slice(), &ekem1, &payload].concat();
        // A message too short for its fields says so; its length is for everybody to see.
        let expected = match second.len() < 32 + 1_088 + 16 {
            true => NoiseError::Length,
            false => NoiseError::Decrypt,
        };
        assert!(short || expected == NoiseError::Decrypt);
        assert_eq!(reader.read(&second).err(), Some(expected));
    }
}
