//! Session frames (header, a key of its own per frame, AEAD, in place) beside the bare AEADs: only the ratios within
//! one run mean anything.

#![allow(
    clippy::disallowed_methods,
    missing_docs,
    reason = "figures need a clock; nobody reads the docs of a binary"
)]

use std::hint::black_box;

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sealwire::{
    crypto::{
        chain::{RecvChain, SendChain},
        secret::Secret,
    },
    protocol::{FRAME_OVERHEAD, open_frame, seal_frame},
};

const SIZES: [usize; 6] = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10];
const HEADER: usize = 8;
const KIND: u8 = 1;
const NONCE: [u8; 12] = [3; 12];

fn seal(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("seal/{size}"));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function("sealwire", |bencher| {
            let mut chain = SendChain::new(Secret::new([7; 32]));
            let mut buffer = Vec::with_capacity(size + FRAME_OVERHEAD);
            bencher.iter(|| {
                buffer.resize(HEADER + size, 1);
                let (seq, key) = chain.next().expect("fewer than 2^32 frames");
                let mut sealed = seal_frame(key, 0, seq, KIND, std::mem::take(&mut buffer), 0);
                black_box(&sealed);
                sealed.truncate(HEADER + size);
                buffer = sealed;
            });
        });
        group.bench_function("bare ring", |bencher| {
            let key = ring_key();
            let mut buffer = vec![1; size];
            bencher.iter(|| {
                let nonce = ring::aead::Nonce::assume_unique_for_key(NONCE);
                let tag =
                    key.seal_in_place_separate_tag(nonce, ring::aead::Aad::empty(), &mut buffer);
                let _ = black_box(tag.expect("sealing does not fail"));
            });
        });
        group.bench_function("bare chacha20poly1305", |bencher| {
            let cipher = ChaCha20Poly1305::new(&[9; 32].into());
            let mut buffer = vec![1; size];
            bencher.iter(|| {
                let tag = cipher.encrypt_inout_detached(
                    &NONCE.into(),
                    &[],
                    InOutBuf::from(buffer.as_mut_slice()),
                );
                let _ = black_box(tag.expect("sealing does not fail"));
            });
        });
        group.finish();
    }
}

fn open(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("open/{size}"));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function("sealwire", |bencher| {
            // Keys move on with every frame, so each iteration opens the next of a batch that was sealed beforehand.
            bencher.iter_custom(|iterations| open_frames(size, iterations));
        });
        group.bench_function("bare ring", |bencher| {
            let (key, mut sealed) = (ring_key(), vec![1; size]);
            let nonce = || ring::aead::Nonce::assume_unique_for_key(NONCE);
            key.seal_in_place_append_tag(nonce(), ring::aead::Aad::empty(), &mut sealed)
                .expect("sealing does not fail");
            let mut buffer = sealed.clone();
            bencher.iter(|| {
                buffer.copy_from_slice(&sealed);
                let opened = key.open_in_place(nonce(), ring::aead::Aad::empty(), &mut buffer);
                black_box(opened.expect("what was sealed opens"));
            });
        });
        group.bench_function("bare chacha20poly1305", |bencher| {
            let cipher = ChaCha20Poly1305::new(&[9; 32].into());
            let mut sealed = vec![1; size];
            let tag = cipher
                .encrypt_inout_detached(&NONCE.into(), &[], InOutBuf::from(sealed.as_mut_slice()))
                .expect("sealing does not fail");
            let mut buffer = sealed.clone();
            bencher.iter(|| {
                buffer.copy_from_slice(&sealed);
                let opened = cipher.decrypt_inout_detached(
                    &NONCE.into(),
                    &[],
                    InOutBuf::from(buffer.as_mut_slice()),
                    &tag,
                );
                opened.expect("what was sealed opens");
            });
        });
        group.finish();
    }
}

/// Opens `iterations` consecutive frames of one chain, sealing them in batches outside the measured time.
fn open_frames(size: usize, iterations: u64) -> std::time::Duration {
    const BATCH: u64 = 128;
    let mut send = SendChain::new(Secret::new([7; 32]));
    let mut receive = RecvChain::new(Secret::new([7; 32]));
    let mut spent = std::time::Duration::ZERO;
    let mut buffer = vec![0; size + FRAME_OVERHEAD];
    let mut left = iterations;
    while left > 0 {
        let batch = left.min(BATCH);
        let frames: Vec<Vec<u8>> = (0..batch).map(|_| sealed_frame(&mut send, size)).collect();
        let begun = std::time::Instant::now();
        for frame in &frames {
            buffer.copy_from_slice(frame);
            let key = receive.key().expect("fewer than 2^32 frames");
            black_box(open_frame(key, &mut buffer).expect("what was sealed opens"));
            receive.commit();
        }
        spent += begun.elapsed();
        left -= batch;
    }
    spent
}

fn sealed_frame(chain: &mut SendChain, size: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(size + FRAME_OVERHEAD);
    buffer.resize(HEADER + size, 1);
    let (seq, key) = chain.next().expect("fewer than 2^32 frames");
    seal_frame(key, 0, seq, KIND, buffer, 0)
}

fn ring_key() -> ring::aead::LessSafeKey {
    let key = ring::aead::UnboundKey::new(&ring::aead::CHACHA20_POLY1305, &[9; 32]);
    ring::aead::LessSafeKey::new(key.expect("32 bytes"))
}

criterion_group!(benches, seal, open);
criterion_main!(benches);
