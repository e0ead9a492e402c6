//! RustCrypto's implementation: pure Rust, builds everywhere. It erases what it keeps, and not what it leaves on the
//! stack: that is overwritten here, with what the making of the key left there.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use zeroize::zeroize_stack;

use super::{AeadError, TAG_LEN, opened, stack};

/// Stack that is used here, and some.
const STACK: usize = stack(5_000);

/// As [`super::seal`].
pub fn seal(key: &[u8; 32], nonce: &[u8; 12], ad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    let tag = seal_once(key, nonce, ad, buf);
    zeroize_stack::<STACK>();
    tag
}

/// Apart from [`seal`], so that the latter can overwrite this one's stack.
#[inline(never)]
fn seal_once(key: &[u8; 32], nonce: &[u8; 12], ad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    ChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(nonce.into(), ad, buf.into())
        .expect("a plaintext is far shorter than 256 GiB")
        .into()
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

/// Apart from [`open`], so that the latter can overwrite this one's stack. The length of the plaintext.
#[inline(never)]
fn open_once(
    key: &[u8; 32],
    nonce: &[u8; 12],
    ad: &[u8],
    ciphertext_and_tag: &mut [u8],
) -> Result<usize, chacha20poly1305::Error> {
    let (text, tag) = ciphertext_and_tag
        .split_last_chunk_mut::<TAG_LEN>()
        .ok_or(chacha20poly1305::Error)?;
    ChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(nonce.into(), ad, (&mut *text).into(), (&*tag).into())
        .map(|()| text.len())
}
