//! `dryoc`'s implementation, for long texts on processors with AVX-512: there it takes a little over half of `ring`'s
//! time. `docs/aead.md` tells why, and why only there.
//!
//! `dryoc` erases what it names, and not what the compiler spills. The stack that it used is overwritten here.

use dryoc::classic::crypto_aead_chacha20poly1305_ietf as dryoc;
use zeroize::zeroize_stack;

use super::{AeadError, TAG_LEN, opened, stack};

/// From this many bytes on it is the faster one, for sealing and for opening.
pub const FROM: usize = 768;

/// Stack that `dryoc` uses here, and some.
const STACK: usize = stack(3_500);

/// Whether the processor has what makes it the faster one: `dryoc` asks for the same, and falls back without.
#[inline]
pub fn is_fast() -> bool {
    std::is_x86_feature_detected!("avx512ifma") && std::is_x86_feature_detected!("avx512vl")
}

/// As [`super::seal`].
pub fn seal(key: &[u8; 32], nonce: &[u8; 12], ad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    let tag = seal_once(key, nonce, ad, buf);
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
    let len = open_once(key, nonce, ad, ciphertext_and_tag);
    zeroize_stack::<STACK>();
    opened(len, ciphertext_and_tag)
}

/// Apart from [`seal`], so that the latter can overwrite this one's stack.
#[inline(never)]
fn seal_once(key: &[u8; 32], nonce: &[u8; 12], ad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    let mut tag = [0; TAG_LEN];
    dryoc::crypto_aead_chacha20poly1305_ietf_encrypt_detached_inplace(
        buf,
        &mut tag,
        Some(ad),
        nonce,
        key,
    )
    .expect("a plaintext is far shorter than 256 GiB");
    tag
}

/// Apart from [`open`], so that the latter can overwrite this one's stack. The length of the plaintext.
#[inline(never)]
fn open_once(
    key: &[u8; 32],
    nonce: &[u8; 12],
    ad: &[u8],
    ciphertext_and_tag: &mut [u8],
) -> Result<usize, AeadError> {
    let (text, tag) = ciphertext_and_tag
        .split_last_chunk_mut::<TAG_LEN>()
        .ok_or(AeadError)?;
    dryoc::crypto_aead_chacha20poly1305_ietf_decrypt_detached_inplace(
        text,
        tag,
        Some(ad),
        nonce,
        key,
    )
    .map_err(|_| AeadError)?;
    Ok(text.len())
}
