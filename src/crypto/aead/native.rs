//! `ring`'s implementation, which is assembly on the common processors.
//!
//! `ring` does not erase keys, and copies them: into the bound key, and for its assembly. The stack that it used is
//! overwritten instead, which costs less than to overwrite the bound key with another.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::zeroize_stack;

use super::{AeadError, TAG_LEN, opened, stack};

/// Stack that `ring` uses here, and some.
const STACK: usize = stack(2_040);

/// As [`super::seal`].
pub fn seal(key: &[u8; 32], nonce: &[u8; 12], ad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    let tag = bind_and_seal(key, nonce, ad, buf);
    zeroize_stack::<STACK>();
    tag
}

/// As [`super::open`].
///
/// # Errors
/// As [`super::open`].
pub fn open<'a>(
    key: &[u8; 32],
    nonce: &[u8; 12],
    ad: &[u8],
    ciphertext_and_tag: &'a mut [u8],
) -> Result<&'a mut [u8], AeadError> {
    let len = bind_and_open(key, nonce, ad, ciphertext_and_tag);
    zeroize_stack::<STACK>();
    opened(len, ciphertext_and_tag)
}

/// Apart from [`seal`], so that the latter can overwrite this one's stack.
#[inline(never)]
fn bind_and_seal(key: &[u8; 32], nonce: &[u8; 12], ad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let tag = bind(key)
        .seal_in_place_separate_tag(nonce, Aad::from(ad), buf)
        .expect("a plaintext is far shorter than 256 GiB");
    tag.as_ref().try_into().expect("a tag has 16 bytes")
}

/// Apart from [`open`], so that the latter can overwrite this one's stack. The length of the plaintext.
#[inline(never)]
fn bind_and_open(
    key: &[u8; 32],
    nonce: &[u8; 12],
    ad: &[u8],
    ciphertext_and_tag: &mut [u8],
) -> Result<usize, ring::error::Unspecified> {
    let nonce = Nonce::assume_unique_for_key(*nonce);
    bind(key)
        .open_in_place(nonce, Aad::from(ad), ciphertext_and_tag)
        .map(|text| text.len())
}

/// Apart as well: what it needs of the stack is used again by what follows.
#[inline(never)]
fn bind(key: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key has 32 bytes");
    LessSafeKey::new(key)
}
