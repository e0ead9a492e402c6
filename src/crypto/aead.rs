//! ChaCha20-Poly1305 (RFC 8439), in place, without allocation (protocol §1.6; Noise §12.3).
//!
//! Two implementations of the same bytes: `ring` where the client brings it along (eight times faster on a small
//! frame), RustCrypto's everywhere else. A differential test holds them together; `docs/aead.md` compares them with
//! others.
//!
//! Not here: which key and nonce; a pair of both is used once, which [`chain`](super::chain) and
//! [`noise`](super::noise) see to.

/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// A ciphertext that was not made with this key, nonce and associated data. No reason is given on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("decryption failed")]
pub struct AeadError;

/// Encrypts `buf` in place and returns the tag over it and `ad`.
#[inline]
pub fn seal(key: &[u8; 32], nonce: &[u8; 12], ad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    #[cfg(test)]
    record::note(key, nonce);
    #[cfg(feature = "client")]
    return native::seal(key, nonce, ad, buf);
    #[cfg(not(feature = "client"))]
    portable::seal(key, nonce, ad, buf)
}

/// Decrypts `ciphertext_and_tag` in place and returns the plaintext, which is its start.
///
/// # Errors
/// [`AeadError`] when it is shorter than a tag, or the tag does not fit; the buffer is zeros then.
#[inline]
pub fn open<'a>(
    key: &[u8; 32],
    nonce: &[u8; 12],
    ad: &[u8],
    ciphertext_and_tag: &'a mut [u8],
) -> Result<&'a mut [u8], AeadError> {
    #[cfg(feature = "client")]
    return native::open(key, nonce, ad, ciphertext_and_tag);
    #[cfg(not(feature = "client"))]
    portable::open(key, nonce, ad, ciphertext_and_tag)
}

/// Every key and nonce with which something was sealed, for tests.
#[cfg(test)]
pub mod record {
    use std::{cell::RefCell, collections::HashMap};

    /// How often each pair of key and nonce was used.
    pub type Uses = HashMap<([u8; 32], [u8; 12]), u32>;

    thread_local! {
        static USES: RefCell<Option<Uses>> = const { RefCell::new(None) };
    }

    /// What this thread sealed with while `work` ran.
    pub fn of(work: impl FnOnce()) -> Uses {
        USES.set(Some(Uses::new()));
        work();
        USES.take().unwrap_or_default()
    }

    pub(super) fn note(key: &[u8; 32], nonce: &[u8; 12]) {
        USES.with_borrow_mut(|uses| {
            if let Some(uses) = uses {
                *uses.entry((*key, *nonce)).or_default() += 1;
            }
        });
    }
}

/// RustCrypto's implementation: pure Rust, builds everywhere. It erases what it keeps, and not what it leaves on the
/// stack: that is overwritten here, with what the making of the key left there.
pub mod portable {
    use chacha20poly1305::aead::AeadInOut as _;
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
    use zeroize::zeroize_stack;

    use super::{AeadError, TAG_LEN};

    /// Stack that is used here, and some.
    const STACK: usize = 3_000;

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
        let opened = open_once(key, nonce, ad, ciphertext_and_tag);
        zeroize_stack::<STACK>();
        match opened {
            Ok(len) => Ok(&mut ciphertext_and_tag[..len]),
            Err(_) => {
                ciphertext_and_tag.fill(0);
                Err(AeadError)
            }
        }
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
}

/// `ring`'s implementation, which is assembly on the common processors.
///
/// `ring` does not erase keys, and copies them: into the bound key, and for its assembly. The stack that it used is
/// overwritten instead, which costs less than to overwrite the bound key with another.
#[cfg(feature = "client")]
pub mod native {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
    use zeroize::zeroize_stack;

    use super::{AeadError, TAG_LEN};

    /// Stack that `ring` uses here, and some.
    const STACK: usize = 2_000;

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
        let opened = bind_and_open(key, nonce, ad, ciphertext_and_tag);
        zeroize_stack::<STACK>();
        let len = ciphertext_and_tag.len().saturating_sub(TAG_LEN);
        if opened.is_err() {
            ciphertext_and_tag.fill(0);
            return Err(AeadError);
        }
        Ok(&mut ciphertext_and_tag[..len])
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

    /// Apart from [`open`], so that the latter can overwrite this one's stack.
    #[inline(never)]
    fn bind_and_open(
        key: &[u8; 32],
        nonce: &[u8; 12],
        ad: &[u8],
        ciphertext_and_tag: &mut [u8],
    ) -> Result<(), ring::error::Unspecified> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        bind(key)
            .open_in_place(nonce, Aad::from(ad), ciphertext_and_tag)
            .map(drop)
    }

    /// Apart as well: what it needs of the stack is used again by what follows.
    #[inline(never)]
    fn bind(key: &[u8; 32]) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key has 32 bytes");
        LessSafeKey::new(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    type Seal = fn(&[u8; 32], &[u8; 12], &[u8], &mut [u8]) -> [u8; TAG_LEN];
    type Open =
        for<'a> fn(&[u8; 32], &[u8; 12], &[u8], &'a mut [u8]) -> Result<&'a mut [u8], AeadError>;

    const ALL: &[(Seal, Open)] = &[
        (seal, open),
        (portable::seal, portable::open),
        #[cfg(feature = "client")]
        (native::seal, native::open),
    ];

    #[test]
    fn rfc_8439_section_2_8_2() {
        let key = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce = hex("070000004041424344454647");
        let ad: [u8; 12] = hex("50515253c0c1c2c3c4c5c6c7");
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let ciphertext: [u8; 114] = hex(
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
             3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
             92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
             3ff4def08e4b7a9de576d26586cec64b6116",
        );
        for (seal, open) in ALL {
            let mut buffer = text.to_vec();
            let tag = seal(&key, &nonce, &ad, &mut buffer);
            assert_eq!(buffer, ciphertext);
            assert_eq!(tag, hex("1ae10b594f09e26a7e902ecbd0600691"));
            buffer.extend(tag);
            assert_eq!(open(&key, &nonce, &ad, &mut buffer).unwrap(), text);
        }
    }

    #[test]
    fn what_was_not_sealed_so_does_not_open_and_leaves_zeros() {
        let (key, nonce) = ([1; 32], [2; 12]);
        for (seal, open) in ALL {
            let mut sealed = b"some text".to_vec();
            let tag = seal(&key, &nonce, b"ad", &mut sealed);
            sealed.extend(tag);
            let fails = |key, nonce, ad: &[u8], mut buffer: Vec<u8>| {
                assert_eq!(open(key, nonce, ad, &mut buffer), Err(AeadError));
                assert!(buffer.iter().all(|byte| *byte == 0));
            };
            fails(&[0; 32], &nonce, b"ad", sealed.clone());
            fails(&key, &[0; 12], b"ad", sealed.clone());
            fails(&key, &nonce, b"da", sealed.clone());
            for len in 0..sealed.len() {
                fails(&key, &nonce, b"ad", sealed[..len].to_vec());
            }
            for bit in 0..8 * sealed.len() {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                fails(&key, &nonce, b"ad", changed);
            }
        }
    }

    #[cfg(feature = "client")]
    proptest::proptest! {
        #[test]
        fn both_implementations_give_the_same_bytes(
            key: [u8; 32],
            nonce: [u8; 12],
            ad in proptest::collection::vec(proptest::num::u8::ANY, 0..100),
            text in proptest::collection::vec(proptest::num::u8::ANY, 0..2000),
        ) {
            let (mut ours, mut theirs) = (text.clone(), text.clone());
            let tag = portable::seal(&key, &nonce, &ad, &mut ours);
            ours.extend(tag);
            let tag = native::seal(&key, &nonce, &ad, &mut theirs);
            theirs.extend(tag);
            proptest::prop_assert_eq!(&ours, &theirs);
            proptest::prop_assert_eq!(native::open(&key, &nonce, &ad, &mut ours).unwrap(), &text);
            proptest::prop_assert_eq!(portable::open(&key, &nonce, &ad, &mut theirs).unwrap(), &text);
        }
    }
}
