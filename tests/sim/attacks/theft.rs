//! Stolen keys: the victim's own used against it (A15), and everybody's used on a recording (A16).

use sealwire::{
    Identity,
    protocol::{Meeting, PayloadKind},
};

use super::payloads::{assert_aborted, say};
use crate::{
    mallory::{Key, Mallory, Terms},
    thief::{Loot, Read, record},
    victim::{Seat, Victim},
    world::{Case, Seeded, invite},
};

/// A victim A who expects B and nobody else, and the thief, who knows A's secret key and the room's secret.
fn expecting(
    seat: Seat,
    initiates: bool,
    key: impl Fn(&Identity, &Identity) -> Key,
) -> (Victim, Mallory) {
    let [a, b] = [1, 2].map(|seed| Identity::generate_from(&mut Seeded::new(seed)));
    let (meeting, terms) = match seat {
        Seat::Open => {
            let pinned = Some(b.peer_id());
            let room = "lobby".to_owned();
            (Meeting::Open { room, pinned }, Terms::open("lobby"))
        }
        Seat::Redeemer => {
            let text = invite(&b, 0, 92);
            (
                Meeting::Redeem(crate::world::parse(&text)),
                Terms::invite(&text),
            )
        }
        Seat::Inviter => panic!("an inviter expects nobody in particular"),
    };
    let mallory = Mallory::new(0x80, 93, terms).with_key(key(&a, &b));
    let endpoint = if initiates { 0x40 } else { 0xc0 };
    (Victim::new(endpoint, 94, a, meeting), mallory)
}

/// What a thief of A's key can do for B's: use it instead, or what both would agree on, or hope.
fn impersonations() -> [fn(&Identity, &Identity) -> Key; 4] {
    [
        |a, b| Key::Shown(*b.peer_id().as_bytes(), Box::new(Key::of(a))),
        |a, b| {
            let public = *b.peer_id().as_bytes();
            Key::Guessed(public, Key::of(a).dh(&public))
        },
        |_, b| Key::Guessed(*b.peer_id().as_bytes(), [0; 32]),
        |_, b| Key::Guessed(*b.peer_id().as_bytes(), *b.peer_id().as_bytes()),
    ]
}

#[test]
fn a15_whoever_stole_a_key_cannot_pass_for_others_before_its_owner() {
    for seat in [Seat::Open, Seat::Redeemer] {
        for initiates in [true, false] {
            for key in impersonations() {
                let (mut victim, mut mallory) = expecting(seat, initiates, key);
                let kind = match initiates {
                    true => PayloadKind::Hs2(mallory.terms.mode),
                    false => PayloadKind::Hs3(mallory.terms.mode),
                };
                let payload = mallory.payload(kind);
                let out = say(&mut victim, &mut mallory, kind, &payload);
                assert_aborted(&victim, &out, "B's key");
            }
            // With B's own key it would work: the refusal was about that.
            let (mut victim, mut mallory) = expecting(seat, initiates, |_, b| Key::of(b));
            let (mut peer, link) = victim.shake(&mut mallory);
            victim.open_link(link, mallory.fingerprint);
            victim.exchange_ready(&mut peer, link);
        }
    }
}

#[test]
fn a16_static_keys_and_the_rooms_secret_do_not_open_a_recorded_session() {
    for case in Case::ALL {
        let (recording, drawn) = record(case);
        let stolen = Loot::long_term(case);
        // The first payload has no forward secrecy, as docs/protocol.md says; nothing else is as weak.
        assert_eq!(stolen.read(&recording), Read::Hello, "{case:?}");
        // Neither half of the hybrid alone is enough.
        let x25519 = stolen.clone().with_ephemerals(&drawn);
        assert_eq!(x25519.read(&recording), Read::Ciphertext, "{case:?}");
        let ml_kem = stolen.clone().with_seeds(&drawn);
        assert_eq!(ml_kem.read(&recording), Read::Hello, "{case:?}");
        // Everything would be: the thief's method is sound.
        let all = x25519.with_seeds(&drawn);
        let frames = recording.frames.iter().map(Vec::len).sum();
        assert!(frames >= 8, "{frames}");
        assert_eq!(all.read(&recording), Read::Frames(frames), "{case:?}");
    }
}

#[test]
fn a16_without_the_rooms_secret_not_even_the_first_payload_opens() {
    for case in Case::PAIRED {
        let (recording, drawn) = record(case);
        let stolen = Loot {
            psk: None,
            ..Loot::long_term(case)
        };
        let stolen = stolen.with_ephemerals(&drawn).with_seeds(&drawn);
        assert_eq!(stolen.read(&recording), Read::Nothing, "{case:?}");
    }
}
