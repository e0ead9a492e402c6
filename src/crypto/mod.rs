//! Cryptography: bytes in, bytes out; no clock, no randomness of its own, no knowledge of the protocol's headers.
//!
//! From the bottom up: [`secret`] (bytes that erase themselves), [`kdf`] (every label, one table), [`aead`],
//! [`noise`] (handshakes), [`chain`] and [`window`] (one key per frame), [`epoch`] (what a finished handshake gives);
//! beside them `at_rest` (files and passphrases) and `age` (files for others).
//!
//! Erasure is best effort: every secret that this module names is overwritten when it goes, and those that outlive
//! a function lie on the heap, so that moves leave no copies. What the compiler spills and what the primitives
//! underneath keep in their own stack frames is out of reach of safe Rust.

pub mod aead;
#[cfg(feature = "store")]
pub mod age;
#[cfg(feature = "store")]
pub mod at_rest;
pub mod chain;
pub mod epoch;
pub mod kdf;
pub mod noise;
pub mod secret;
pub mod window;

/// The bytes of a vector.
#[cfg(test)]
fn hex<const N: usize>(digits: &str) -> [u8; N] {
    assert_eq!(digits.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    /// The primitives erase themselves only with their `zeroize` features, which are lost silently.
    #[test]
    fn primitives_are_built_to_erase_themselves() {
        fn erases<T: ZeroizeOnDrop>() {}
        erases::<chacha20::ChaChaCore<chacha20::R20, chacha20::variants::Ietf>>();
        erases::<chacha20poly1305::ChaCha20Poly1305>();
        erases::<sha2::Sha256>(); // and so HMAC, which is made of its parts and has no marker of its own
        erases::<x25519_dalek::StaticSecret>();
        erases::<x25519_dalek::SharedSecret>();
        erases::<ml_kem::ml_kem_768::DecapsulationKey>();
        erases::<super::secret::Secret>();
        erases::<super::chain::MessageKey>();
    }
}
