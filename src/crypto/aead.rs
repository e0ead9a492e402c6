//! ChaCha20-Poly1305 (RFC 8439), in place, without allocation (protocol §1.6; Noise §12.3).
//!
//! Three implementations of the same bytes: `ring` where the client brings it along (eight times faster on a small
//! frame), RustCrypto's everywhere else, and for long texts on processors with AVX-512 `dryoc`'s. A differential test
//! holds them together; `docs/aead.md` compares them with others.
//!
//! Not here: which key and nonce; a pair of both is used once, which [`chain`](super::chain) and
//! [`noise`](super::noise) see to.

#[cfg(feature = "client")]
pub mod native;
pub mod portable;
#[cfg(all(feature = "avx512", target_arch = "x86_64"))]
pub mod wide;

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
    #[cfg(all(feature = "avx512", target_arch = "x86_64"))]
    if buf.len() >= wide::FROM && wide::is_fast() {
        return wide::seal(key, nonce, ad, buf);
    }
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
    #[cfg(all(feature = "avx512", target_arch = "x86_64"))]
    if ciphertext_and_tag.len() >= wide::FROM + TAG_LEN && wide::is_fast() {
        return wide::open(key, nonce, ad, ciphertext_and_tag);
    }
    #[cfg(feature = "client")]
    return native::open(key, nonce, ad, ciphertext_and_tag);
    #[cfg(not(feature = "client"))]
    portable::open(key, nonce, ad, ciphertext_and_tag)
}

/// The plaintext, which is the first `len` bytes; zeros in place of everything where none was opened.
#[inline]
fn opened<E>(len: Result<usize, E>, text_and_tag: &mut [u8]) -> Result<&mut [u8], AeadError> {
    let Ok(len) = len else {
        text_and_tag.fill(0);
        return Err(AeadError);
    };
    Ok(&mut text_and_tag[..len])
}

/// How much of the stack an implementation overwrites after it used `optimized` bytes of it at most; without
/// optimization it uses more.
const fn stack(optimized: usize) -> usize {
    if cfg!(debug_assertions) {
        16_000
    } else {
        optimized
    }
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
        #[cfg(all(feature = "avx512", target_arch = "x86_64"))]
        (wide::seal, wide::open),
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

    /// Bytes that look random, the same each time.
    fn noise(len: usize) -> Vec<u8> {
        let block = |n: usize| crate::crypto::kdf::sha256(&[&n.to_be_bytes()]);
        (0..len.div_ceil(32)).flat_map(block).take(len).collect()
    }

    fn agree(key: &[u8; 32], nonce: &[u8; 12], ad: &[u8], text: &[u8]) {
        let mut expected = text.to_vec();
        let tag = portable::seal(key, nonce, ad, &mut expected);
        expected.extend(tag);
        for (seal, open) in ALL {
            let mut sealed = text.to_vec();
            let tag = seal(key, nonce, ad, &mut sealed);
            sealed.extend(tag);
            assert!(sealed == expected, "{} bytes sealed", text.len());
            let opened = open(key, nonce, ad, &mut sealed).expect("what was sealed opens");
            assert!(opened == text, "{} bytes opened", text.len());
        }
    }

    /// Each implementation has its own ways for texts of each length: all of them, beyond the longest vector's step.
    #[test]
    fn all_implementations_give_the_same_bytes_at_every_length() {
        let text = noise(65_536);
        let key = text.first_chunk().expect("32 bytes");
        for len in (0..2_600).chain(4_090..4_100).chain(65_400..65_536) {
            let nonce = std::array::from_fn(|i| (len >> i) as u8);
            agree(key, &nonce, &text[..len % 40], &text[..len]);
        }
    }

    proptest::proptest! {
        #[test]
        fn all_implementations_give_the_same_bytes(
            key: [u8; 32],
            nonce: [u8; 12],
            ad in proptest::collection::vec(proptest::num::u8::ANY, 0..100),
            text in proptest::collection::vec(proptest::num::u8::ANY, 0..4000),
        ) {
            agree(&key, &nonce, &ad, &text);
        }
    }

    /// Texts of one bit: sums in the authenticator that carry the furthest, or not at all.
    #[test]
    fn all_implementations_agree_on_extreme_texts() {
        for fill in [0, 0xff] {
            for key in [[0; 32], [0xff; 32]] {
                for len in [0, 64, 767, 768, 1_025, 2_048, 16_385] {
                    agree(&key, &[fill; 12], &[], &vec![fill; len]);
                    // What is authenticated is the ciphertext: make that one extreme.
                    let mut stream = vec![0; len];
                    portable::seal(&key, &[fill; 12], &[], &mut stream);
                    stream.iter_mut().for_each(|byte| *byte ^= fill);
                    agree(&key, &[fill; 12], &[], &stream);
                }
            }
        }
    }

    #[test]
    fn a_long_text_that_was_changed_anywhere_does_not_open() {
        let (key, nonce, text) = ([1; 32], [2; 12], noise(3_000));
        for (seal, open) in ALL {
            let mut sealed = text.clone();
            let tag = seal(&key, &nonce, &[], &mut sealed);
            sealed.extend(tag);
            for at in (0..sealed.len()).step_by(7) {
                let mut changed = sealed.clone();
                changed[at] ^= 0x10;
                assert_eq!(open(&key, &nonce, &[], &mut changed), Err(AeadError));
                assert!(changed.iter().all(|byte| *byte == 0));
            }
        }
    }
}
