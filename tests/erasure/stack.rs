//! Looks at the stack that sealing and opening left behind: no piece of a frame's key, nor of its one-time
//! authentication key, may still be in it. Each implementation copies keys there, and none erases all of its copies.

use std::hint::black_box;

use sealwire::crypto::{
    aead::{self, AeadError},
    kdf,
    secret::Secret,
};

/// How far below a caller a callee's stack is looked at.
const DEPTH: usize = 48 << 10;

const NONCE: [u8; 12] = [5; 12];

type Seal = fn(&[u8; 32], &[u8; 12], &[u8], &mut [u8]) -> [u8; aead::TAG_LEN];
type Open =
    for<'a> fn(&[u8; 32], &[u8; 12], &[u8], &'a mut [u8]) -> Result<&'a mut [u8], AeadError>;

/// The one in use, and each that it chooses from.
const AEADS: &[(&str, Seal, Open)] = &[
    ("chosen", aead::seal, aead::open),
    ("portable", aead::portable::seal, aead::portable::open),
    #[cfg(feature = "client")]
    ("native", aead::native::seal, aead::native::open),
    #[cfg(all(feature = "avx512", target_arch = "x86_64"))]
    ("wide", aead::wide::seal, aead::wide::open),
];

/// Pieces of four bytes, each inverted: what looks for them must not leave them on the stack itself.
fn inverted(secret: &[u8]) -> Vec<u32> {
    let pieces = secret.as_chunks::<4>().0.iter();
    pieces.map(|piece| !u32::from_le_bytes(*piece)).collect()
}

/// Writes over the stack that a callee is going to use.
#[inline(never)]
fn paint() {
    black_box([0xa5_u8; DEPTH]);
}

/// How many pieces lie below this function's frame after `work`, at any place.
#[inline(never)]
fn left_by(pieces: &[u32], work: &mut dyn FnMut()) -> usize {
    let anchor = 0_u8;
    let top = black_box(&raw const anchor) as usize;
    paint();
    work();
    let mut found = 0;
    for at in top - DEPTH + 1_024..top - 4 {
        // SAFETY: these bytes are this thread's stack, which was written as far down as this; nothing else runs on
        // it meanwhile, and a volatile read of any byte pattern is a number.
        let word = unsafe { (at as *const u32).read_unaligned() };
        let word = !black_box(word);
        found += usize::from(pieces.contains(&word));
    }
    found
}

/// Copies a key as a function does that erases nothing, deep enough that what looks does not write over all copies.
#[inline(never)]
fn careless(key: &[u8; 32]) {
    black_box([*key; 32]);
}

#[test]
fn a_key_that_is_left_on_the_stack_would_be_found() {
    let key: Box<[u8; 32]> = Box::new(std::array::from_fn(|i| 201 + i as u8));
    let pieces = inverted(&*key);
    assert!(left_by(&pieces, &mut || careless(&key)) >= 8);
    assert_eq!(left_by(&pieces, &mut || {}), 0);
}

///
#[test]
fn sealing_and_opening_leave_no_key_on_the_stack() {
    let key: Box<[u8; 32]> = Box::new(std::array::from_fn(|i| 201 + i as u8));
    let mut stream = Box::new([0; 512]);
    kdf::fke(&Secret::new(*key), &NONCE, &mut stream);
    let pieces = [inverted(&*key), inverted(&stream[..32])].concat();
    for (name, seal, open) in AEADS {
        for len in [0, 64, 65, 700, 1_024, 1_025, 2_049, 16_385] {
            let mut frame = vec![1; len + aead::TAG_LEN];
            let sealing = left_by(&pieces, &mut || {
                let (text, tag) = frame.split_at_mut(len);
                tag.copy_from_slice(&seal(&key, &NONCE, &[], text));
            });
            assert_eq!(sealing, 0, "{name}: sealing {len} bytes");
            let opening = left_by(&pieces, &mut || {
                let opened = open(&key, &NONCE, &[], &mut frame);
                opened.expect("what was sealed opens");
            });
            assert_eq!(opening, 0, "{name}: opening {len} bytes");
            let refusing = left_by(&pieces, &mut || {
                frame.fill(2);
                open(&key, &NONCE, &[], &mut frame).expect_err("nothing was sealed so");
            });
            assert_eq!(refusing, 0, "{name}: refusing {len} bytes");
        }
    }
}
