//! A whole handshake, both sides, in one thread: ours (hybrid, post-quantum) beside snow's classical XX.

#![allow(
    clippy::disallowed_methods,
    missing_docs,
    reason = "figures need a clock; nobody reads the docs of a binary"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use sealwire::{
    OsEntropy,
    crypto::{
        noise::{self, Pattern, ReadDone, Setup, StaticKey, Written},
        secret::Secret,
    },
};

const PAYLOAD: [u8; 512] = [0; 512];

fn ours(pattern: &'static Pattern, psk: Option<&Secret>, keys: &(StaticKey, StaticKey)) {
    let psks: Vec<&Secret> = psk.into_iter().collect();
    let setup = |key| Setup {
        pattern,
        prologue: b"bench",
        local_static: Some(key),
        psks: &psks,
    };
    let (initiator, responder) = (
        noise::initiate(setup(&keys.0)),
        noise::respond(setup(&keys.1)),
    );
    let (first, initiator) = initiator
        .write(&PAYLOAD, &mut OsEntropy)
        .expect("a message");
    let (_, responder) = responder.read(&first).expect("it verifies");
    let (Written::Reader(initiator), ReadDone::Writer(responder)) = (initiator, responder) else {
        return;
    };
    let (second, responder) = responder
        .write(&PAYLOAD, &mut OsEntropy)
        .expect("a message");
    let (_, initiator) = initiator.read(&second).expect("it verifies");
    let (ReadDone::Writer(initiator), Written::Reader(responder)) = (initiator, responder) else {
        return;
    };
    let (third, _) = initiator
        .write(&PAYLOAD, &mut OsEntropy)
        .expect("a message");
    let _ = responder.read(&third).expect("it verifies");
}

fn snow_xx() {
    let params: snow::params::NoiseParams = "Noise_XX_25519_ChaChaPoly_SHA256"
        .parse()
        .expect("a known name");
    let build = || {
        let builder = snow::Builder::new(params.clone());
        let keys = builder.generate_keypair().expect("a key");
        (builder, keys.private)
    };
    let ((initiator, initiator_key), (responder, responder_key)) = (build(), build());
    let mut initiator = initiator
        .local_private_key(&initiator_key)
        .and_then(snow::Builder::build_initiator)
        .expect("a state");
    let mut responder = responder
        .local_private_key(&responder_key)
        .and_then(snow::Builder::build_responder)
        .expect("a state");
    let (mut message, mut payload) = ([0; 2_048], [0; 2_048]);
    for turn in 0..3 {
        let (from, to) = if turn % 2 == 0 {
            (&mut initiator, &mut responder)
        } else {
            (&mut responder, &mut initiator)
        };
        let len = from
            .write_message(&PAYLOAD, &mut message)
            .expect("a message");
        to.read_message(&message[..len], &mut payload)
            .expect("it verifies");
    }
}

fn handshakes(criterion: &mut Criterion) {
    let keys = (
        StaticKey::generate(&mut OsEntropy),
        StaticKey::generate(&mut OsEntropy),
    );
    let psk = Secret::new([5; 32]);
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("sealwire open (XXhfs)", |bencher| {
        bencher.iter(|| ours(&noise::XXHFS, None, &keys))
    });
    group.bench_function("sealwire paired (XXhfs+psk0)", |bencher| {
        bencher.iter(|| ours(&noise::XXHFS_PSK0, Some(&psk), &keys));
    });
    group.bench_function("snow XX, two key generations included", |bencher| {
        bencher.iter(snow_xx)
    });
    group.finish();
}

criterion_group!(benches, handshakes);
criterion_main!(benches);
