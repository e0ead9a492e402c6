//! Cryptography of files (protocol §1.13): XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), whose nonces are long enough
//! to be random, and Argon2id (RFC 9106), which makes a key of a passphrase at a price.
//!
//! Not here: the file's format and which price is refused; see `store`.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use zeroize::Zeroize as _;

use super::aead::{AeadError, TAG_LEN};
use super::secret::Secret;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 24;

/// Bytes of a salt.
pub const SALT_LEN: usize = 16;

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// The operating system has not that much memory to give.
    #[error("out of memory")]
    OutOfMemory,
    /// Argon2 does not know these parameters.
    #[error("these parameters do not exist")]
    BadParameters,
}

/// Encrypts `buf` in place and returns the tag over it and `ad`.
pub fn seal(key: &Secret, nonce: &[u8; NONCE_LEN], ad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
    XChaCha20Poly1305::new(key.expose().into())
        .encrypt_inout_detached(nonce.into(), ad, buf.into())
        .expect("a plaintext is far shorter than 256 GiB")
        .into()
}

/// Decrypts `ciphertext_and_tag` in place and returns the plaintext, which is its start.
///
/// # Errors
/// [`AeadError`] when it is shorter than a tag, or the tag does not fit; nothing is decrypted then.
pub fn open<'a>(
    key: &Secret,
    nonce: &[u8; NONCE_LEN],
    ad: &[u8],
    ciphertext_and_tag: &'a mut [u8],
) -> Result<&'a mut [u8], AeadError> {
    let (text, tag) = ciphertext_and_tag
        .split_last_chunk_mut::<TAG_LEN>()
        .ok_or(AeadError)?;
    XChaCha20Poly1305::new(key.expose().into())
        .decrypt_inout_detached(nonce.into(), ad, (&mut *text).into(), (&*tag).into())
        .map_err(|_| AeadError)?;
    Ok(text)
}

/// The key of a passphrase: Argon2id, version 0x13, with `m_kib` KiB of memory, `t` passes and `p` lanes. The memory is
/// erased afterwards.
///
/// # Errors
/// [`DeriveError`].
pub fn argon2id(
    passphrase: &[u8],
    salt: &[u8; SALT_LEN],
    (m_kib, t, p): (u32, u32, u32),
) -> Result<Box<Secret>, DeriveError> {
    let params = Params::new(m_kib, t, p, Some(32)).map_err(|_| DeriveError::BadParameters)?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    derive(&argon, passphrase, salt)
}

fn derive(
    argon: &Argon2<'_>,
    passphrase: &[u8],
    salt: &[u8; SALT_LEN],
) -> Result<Box<Secret>, DeriveError> {
    let mut memory = Memory::new(argon.params().block_count())?;
    let mut key = Box::new(Secret::zeroed());
    argon
        .hash_password_into_with_memory(passphrase, salt, key.bytes_mut(), &mut memory.0[..])
        .map_err(|_| DeriveError::BadParameters)?;
    Ok(key)
}

/// Argon2's memory: erased on drop, for the key and guesses at the passphrase follow from it.
struct Memory(Vec<Block>);

impl Memory {
    fn new(blocks: usize) -> Result<Self, DeriveError> {
        let mut memory = Vec::new();
        // `vec!` would end the process instead.
        memory
            .try_reserve_exact(blocks)
            .map_err(|_| DeriveError::OutOfMemory)?;
        memory.resize(blocks, Block::new());
        Ok(Self(memory))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for block in &mut self.0 {
            block.as_mut().zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};

    use super::*;
    use crate::crypto::hex;

    #[test]
    fn rfc_9106_section_5_3() {
        let params = ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(AssociatedData::new(&[4; 12]).unwrap())
            .output_len(32)
            .build()
            .unwrap();
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        let argon = Argon2::new_with_secret(&[3; 8], algorithm, version, params).unwrap();
        let tag = derive(&argon, &[1; 32], &[2; 16]).unwrap();
        let expected = hex("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
        assert_eq!(tag.expose(), &expected);
    }

    #[test]
    fn each_parameter_changes_the_key_and_impossible_ones_are_errors() {
        let key = |passphrase: &[u8], salt, cost| argon2id(passphrase, &[salt; 16], cost);
        let one = key(b"one", 1, (32, 1, 1)).unwrap();
        assert!(one.ct_eq(&key(b"one", 1, (32, 1, 1)).unwrap()));
        for other in [
            key(b"two", 1, (32, 1, 1)),
            key(b"one", 2, (32, 1, 1)),
            key(b"one", 1, (33, 1, 1)),
            key(b"one", 1, (32, 2, 1)),
            key(b"one", 1, (32, 1, 2)),
        ] {
            assert!(!one.ct_eq(&other.unwrap()));
        }
        for cost in [(7, 1, 1), (32, 0, 1), (32, 1, 0), (32, 1, 5)] {
            assert_eq!(key(b"one", 1, cost).err(), Some(DeriveError::BadParameters));
        }
    }

    #[test]
    fn draft_irtf_cfrg_xchacha_03_appendix_a_3_1() {
        let key = Secret::new(std::array::from_fn(|i| 0x80 + i as u8));
        let nonce = std::array::from_fn(|i| 0x40 + i as u8);
        let ad: [u8; 12] = hex("50515253c0c1c2c3c4c5c6c7");
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let ciphertext: [u8; 114] = hex(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
             731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
             2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
             21f9664c97637da9768812f615c68b13b52e",
        );
        let mut buffer = text.to_vec();
        let tag = seal(&key, &nonce, &ad, &mut buffer);
        assert_eq!(buffer, ciphertext);
        assert_eq!(tag, hex("c0875924c1c7987947deafd8780acf49"));
        buffer.extend(tag);
        assert_eq!(open(&key, &nonce, &ad, &mut buffer).unwrap(), text);
    }

    #[test]
    fn what_was_not_sealed_so_does_not_open() {
        let (key, nonce) = (Secret::new([1; 32]), [2; 24]);
        let mut sealed = b"some text".to_vec();
        let tag = seal(&key, &nonce, b"ad", &mut sealed);
        sealed.extend(tag);
        let fails = |key: &Secret, nonce, ad: &[u8], mut buffer: Vec<u8>| {
            assert_eq!(open(key, nonce, ad, &mut buffer), Err(AeadError));
        };
        fails(&Secret::new([0; 32]), &nonce, b"ad", sealed.clone());
        fails(&key, &[0; 24], b"ad", sealed.clone());
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
