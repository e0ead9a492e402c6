//! A whole handshake, both sides, in one thread, with 512 bytes of payload in each message: ours (X25519 and
//! ML-KEM-768) beside clatter's hybrid XX, snow's classical XX and the setup of an Olm session.
//!
//! ```text
//! cargo bench --manifest-path benches/core/Cargo.toml --bench handshake            # prints the table
//! cargo bench --manifest-path benches/core/Cargo.toml --bench handshake -- --write # and puts it into docs/
//! ```
//!
//! Static keys are made beforehand everywhere; what is fresh in each handshake (ephemeral keys, Olm's one-time key) is
//! made within the measured time.

#![allow(missing_docs, clippy::print_stdout, clippy::panic)]

use std::fmt::Write as _;

use clatter::{
    HybridHandshake, HybridHandshakeParams, KeyPair,
    crypto::{
        cipher::ChaChaPoly, dh::X25519, hash::Sha256, kem::pqclean_ml_kem::MlKem768,
        rng::DefaultRng,
    },
    handshakepattern::noise_hybrid_xx,
    traits::{Dh, Handshaker, Kem},
};
use sealwire::{
    OsEntropy,
    crypto::{
        noise::{self, Pattern, ReadDone, Setup, StaticKey, Written},
        secret::Secret,
    },
};
use sealwire_benches::{Case, Spent, asked, compare, docs};
use vodozemac::olm::{Account, OlmMessage, SessionConfig};

const PAYLOAD: [u8; 512] = [0; 512];
const ROUNDS: usize = 301;

fn case(name: &'static str, mut handshake: impl FnMut() + 'static) -> Case<1> {
    // One at a time: longer batches would be interrupted on a busy machine.
    Case::new(name, 1, move |count| {
        let mut spent = Spent::default();
        spent.measure(|| (0..count).for_each(|_| handshake()));
        [spent]
    })
}

fn main() {
    let keys = || [(); 2].map(|()| StaticKey::generate(&mut OsEntropy));
    let (open, paired) = (keys(), keys());
    let psk = Secret::new([5; 32]);
    let mut cases = [
        case("sealwire open (XXhfs)", move || {
            ours(&noise::XXHFS, None, &open)
        }),
        case("sealwire paired (XXhfs+psk0)", move || {
            ours(&noise::XXHFS_PSK0, Some(&psk), &paired)
        }),
        case("clatter hybrid XX", clatter_hybrid_xx()),
        case("snow XX (classical)", snow_xx(false)),
        case("snow XX, ring (classical)", snow_xx(true)),
        case("vodozemac Olm session (classical)", olm_session()),
    ];
    let figures = compare(&mut cases, if asked("--test") { 1 } else { ROUNDS });
    let mut table = String::from(
        "| handshake, both sides | sealwire's time in units of it | allocations |\n|---|---|---|\n",
    );
    for (case, [figure]) in cases.iter().zip(&figures) {
        let (ratio, allocations) = (1.0 / figure.ratio, figure.allocations);
        writeln!(table, "| {} | {ratio:.2} | {allocations:.0} |", case.name).expect("a string");
    }
    println!("{table}");
    println!("microseconds, for orientation only:");
    for (case, [figure]) in cases.iter().zip(&figures) {
        println!("  {:<34} {:>7.0}", case.name, figure.nanoseconds / 1e3);
    }
    if asked("--write") {
        docs::replace("benchmarks.md", "handshake", &table);
    }
}

fn ours(pattern: &'static Pattern, psk: Option<&Secret>, [near, far]: &[StaticKey; 2]) {
    let psks: Vec<&Secret> = psk.into_iter().collect();
    let setup = |key| Setup {
        pattern,
        prologue: b"bench",
        local_static: Some(key),
        psks: &psks,
    };
    let (initiator, responder) = (noise::initiate(setup(near)), noise::respond(setup(far)));
    let (first, initiator) = initiator
        .write(&PAYLOAD, &mut OsEntropy)
        .expect("a message");
    let (_, responder) = responder.read(&first).expect("it verifies");
    let (Written::Reader(initiator), ReadDone::Writer(responder)) = (initiator, responder) else {
        panic!("three messages");
    };
    let (second, responder) = responder
        .write(&PAYLOAD, &mut OsEntropy)
        .expect("a message");
    let (_, initiator) = initiator.read(&second).expect("it verifies");
    let (ReadDone::Writer(initiator), Written::Reader(responder)) = (initiator, responder) else {
        panic!("three messages");
    };
    let (third, initiator) = initiator
        .write(&PAYLOAD, &mut OsEntropy)
        .expect("a message");
    let (_, responder) = responder.read(&third).expect("it verifies");
    let (Written::Done(near), ReadDone::Done(far)) = (initiator, responder) else {
        panic!("three messages");
    };
    assert_eq!(near.hash, far.hash);
}

fn snow_xx(ring: bool) -> impl FnMut() {
    use snow::resolvers::{DefaultResolver, FallbackResolver, RingResolver};
    let params: snow::params::NoiseParams = "Noise_XX_25519_ChaChaPoly_SHA256"
        .parse()
        .expect("a known name");
    let builder = move || {
        if ring {
            let resolver = FallbackResolver::new(Box::new(RingResolver), Box::new(DefaultResolver));
            snow::Builder::with_resolver(params.clone(), Box::new(resolver))
        } else {
            snow::Builder::with_resolver(params.clone(), Box::new(DefaultResolver))
        }
    };
    let keys = [(); 2].map(|()| builder().generate_keypair().expect("a key").private);
    move || {
        let with_key = |key| builder().local_private_key(key).expect("a first key");
        let mut from = with_key(&keys[0]).build_initiator().expect("a state");
        let mut to = with_key(&keys[1]).build_responder().expect("a state");
        let (mut message, mut payload) = ([0; 2_048], [0; 2_048]);
        for _ in 0..3 {
            let len = from
                .write_message(&PAYLOAD, &mut message)
                .expect("a message");
            to.read_message(&message[..len], &mut payload)
                .expect("it verifies");
            std::mem::swap(&mut from, &mut to);
        }
        assert!(from.is_handshake_finished() && to.is_handshake_finished());
    }
}

fn clatter_hybrid_xx() -> impl FnMut() {
    type Hybrid = HybridHandshake<X25519, MlKem768, MlKem768, ChaChaPoly, Sha256>;
    let mut rng = DefaultRng::default();
    let keys: Vec<(KeyPair<_, _>, KeyPair<_, _>)> = (0..2)
        .map(|_| {
            let dh = X25519::genkey_rng(&mut rng).expect("a key");
            (dh, MlKem768::genkey_rng(&mut rng).expect("a key"))
        })
        .collect();
    move || {
        let state = |initiator: bool| {
            let (dh, kem) = keys[usize::from(initiator)].clone();
            let params = HybridHandshakeParams::new(noise_hybrid_xx(), initiator);
            let params = params.with_prologue(b"bench").with_s(dh).with_s_kem(kem);
            Hybrid::new(params).expect("a state")
        };
        let (mut from, mut to) = (state(true), state(false));
        let (mut message, mut payload) = ([0; 8_192], [0; 8_192]);
        while !from.is_finished() || !to.is_finished() {
            let len = from
                .write_message(&PAYLOAD, &mut message)
                .expect("a message");
            to.read_message(&message[..len], &mut payload)
                .expect("it verifies");
            std::mem::swap(&mut from, &mut to);
        }
        let hashes =
            [from, to].map(|state| state.finalize().expect("finished").get_handshake_hash());
        assert_eq!(hashes[0], hashes[1]);
    }
}

fn olm_session() -> impl FnMut() {
    let (near, mut far) = (Account::new(), Account::new());
    move || {
        let one_time = far.generate_one_time_keys(1).created[0];
        let config = SessionConfig::version_1;
        let mut outbound = near
            .create_outbound_session(config(), far.curve25519_key(), one_time)
            .expect("a session");
        let OlmMessage::PreKey(first) = outbound.encrypt(PAYLOAD).expect("a message") else {
            panic!("the first message carries the keys");
        };
        let inbound = far.create_inbound_session(config(), near.curve25519_key(), &first);
        assert_eq!(inbound.expect("a session").plaintext, PAYLOAD);
    }
}
