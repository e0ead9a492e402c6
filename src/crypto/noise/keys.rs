//! The asymmetric keys of a handshake: X25519 (RFC 7748) and ML-KEM-768 (FIPS 203).

use std::fmt;

use ml_kem::{Decapsulate as _, KeyExport as _, ml_kem_768};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize as _;

use super::NoiseError;
use crate::crypto::secret::Secret;
use crate::entropy::Entropy;

/// Bytes of an X25519 public key.
pub const DH_LEN: usize = 32;
/// Bytes of an ML-KEM-768 encapsulation key.
pub const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Bytes of an ML-KEM-768 ciphertext.
pub const CIPHERTEXT_LEN: usize = 1088;

/// An X25519 key pair. Static ones are used with this protocol only.
pub struct StaticKey {
    secret: Secret,
    public: [u8; DH_LEN],
}

impl StaticKey {
    /// The key pair of 32 uniformly random bytes.
    pub fn new(secret: Secret) -> Self {
        let public = PublicKey::from(&StaticSecret::from(*secret.expose())).to_bytes();
        Self { secret, public }
    }

    /// A fresh key pair, out of 32 bytes of `entropy`.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        Self::new(Secret::random(entropy))
    }

    /// The public key.
    pub fn public(&self) -> &[u8; DH_LEN] {
        &self.public
    }

    /// The secret key, to be stored or shown to a primitive.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// A peer that breaks the rules: its public key does not belong to its secret one.
    #[cfg(test)]
    pub(super) fn with_public(secret: Secret, public: [u8; DH_LEN]) -> Self {
        Self { secret, public }
    }

    pub(super) fn duplicate(&self) -> Self {
        Self {
            secret: self.secret.duplicate(),
            public: self.public,
        }
    }

    /// X25519, refused in constant time when the result is all zero.
    ///
    /// # Errors
    /// [`NoiseError::Degenerate`] for a public key of low order.
    pub fn diffie_hellman(&self, public: &[u8; DH_LEN]) -> Result<Secret, NoiseError> {
        let shared =
            StaticSecret::from(*self.secret.expose()).diffie_hellman(&PublicKey::from(*public));
        match shared.was_contributory() {
            true => Ok(Secret::new(shared.to_bytes())),
            false => Err(NoiseError::Degenerate),
        }
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            secret: _,
            public: _,
        } = self;
        f.write_str("StaticKey(..)")
    }
}

/// The secret half of `e1`: made for one decapsulation, which consumes it.
pub struct DecapsulationKey(ml_kem_768::DecapsulationKey);

impl DecapsulationKey {
    /// A fresh key, out of 64 bytes of `entropy`: `d || z`.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut seed = ml_kem::Seed::default();
        entropy.fill(&mut seed);
        let key = ml_kem_768::DecapsulationKey::from_seed(seed);
        seed.as_mut_slice().zeroize();
        Self(key)
    }

    /// The public half, as it goes into a message.
    pub fn encapsulation_key(&self) -> [u8; ENCAPSULATION_KEY_LEN] {
        self.0.encapsulation_key().to_bytes().into()
    }

    /// The shared secret: a pseudorandom one when the ciphertext is not for this key (implicit rejection; R-77).
    ///
    /// # Errors
    /// [`NoiseError::Length`] when the ciphertext has not [`CIPHERTEXT_LEN`] bytes.
    pub fn decapsulate(self, ciphertext: &[u8]) -> Result<Secret, NoiseError> {
        let ciphertext = ciphertext.try_into().map_err(|_| NoiseError::Length)?;
        Ok(into_secret(self.0.decapsulate(ciphertext)))
    }
}

/// The public half of the other side's `e1`: checked, and made for one encapsulation.
pub struct EncapsulationKey(ml_kem_768::EncapsulationKey);

impl EncapsulationKey {
    /// Checks length and modulus (FIPS 203 §7.2; R-76).
    ///
    /// # Errors
    /// [`NoiseError::Length`] or [`NoiseError::KemKey`].
    pub fn new(bytes: &[u8]) -> Result<Self, NoiseError> {
        let bytes = bytes.try_into().map_err(|_| NoiseError::Length)?;
        ml_kem_768::EncapsulationKey::new(bytes)
            .map(Self)
            .map_err(|_| NoiseError::KemKey)
    }

    /// A ciphertext and the shared secret in it, out of 32 fresh random bytes: `m`.
    pub fn encapsulate(self, m: &Secret) -> ([u8; CIPHERTEXT_LEN], Secret) {
        let (ciphertext, shared) = self.0.encapsulate_deterministic(m.expose().into());
        (ciphertext.into(), into_secret(shared))
    }
}

impl fmt::Debug for DecapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("DecapsulationKey(..)")
    }
}

impl fmt::Debug for EncapsulationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("EncapsulationKey(..)")
    }
}

fn into_secret(mut shared: ml_kem::SharedKey) -> Secret {
    let secret = Secret::new(shared.into());
    shared.as_mut_slice().zeroize();
    secret
}

/// Points whose Diffie-Hellman result is zero for every secret (RFC 7748 ignores the top bit): 0, 1, two of order 8,
/// -1, and encodings of 0 and 1 that are not reduced.
#[cfg(test)]
pub(super) const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    #[test]
    fn rfc_7748_section_6_1() {
        let alice = StaticKey::new(Secret::new(hex(
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        )));
        let bob = StaticKey::new(Secret::new(hex(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        )));
        let alice_public = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        let bob_public = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!((*alice.public(), *bob.public()), (alice_public, bob_public));
        assert_eq!(alice.diffie_hellman(&bob_public).unwrap().expose(), &shared);
        assert_eq!(bob.diffie_hellman(&alice_public).unwrap().expose(), &shared);
    }

    ///
    #[test]
    fn points_of_low_order_are_refused() {
        let key = StaticKey::new(Secret::new([1; 32]));
        for mut point in LOW_ORDER.map(hex::<32>) {
            for top in [0x00, 0x80] {
                point[31] = point[31] & 0x7f | top;
                assert_eq!(
                    key.diffie_hellman(&point).err(),
                    Some(NoiseError::Degenerate)
                );
            }
        }
    }

    #[test]
    fn the_top_bit_of_a_public_key_is_ignored() {
        let key = StaticKey::new(Secret::new([1; 32]));
        let mut public = *StaticKey::new(Secret::new([2; 32])).public();
        let shared = key.diffie_hellman(&public).unwrap();
        public[31] ^= 0x80;
        assert!(shared.ct_eq(&key.diffie_hellman(&public).unwrap()));
    }
}
