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
pub(super) const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Bytes of an ML-KEM-768 ciphertext.
pub(super) const CIPHERTEXT_LEN: usize = 1088;

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

    pub(super) fn duplicate(&self) -> Self {
        Self {
            secret: self.secret.duplicate(),
            public: self.public,
        }
    }

    /// X25519, refused in constant time when the result is all zero.
    pub(super) fn diffie_hellman(&self, public: &[u8; DH_LEN]) -> Result<Secret, NoiseError> {
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
pub(super) struct DecapsulationKey(ml_kem_768::DecapsulationKey);

impl DecapsulationKey {
    /// A fresh key, out of 64 bytes of `entropy`: `d || z`.
    pub(super) fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut seed = ml_kem::Seed::default();
        entropy.fill(&mut seed);
        let key = ml_kem_768::DecapsulationKey::from_seed(seed);
        seed.as_mut_slice().zeroize();
        Self(key)
    }

    /// The public half, as it goes into a message.
    pub(super) fn encapsulation_key(&self) -> [u8; ENCAPSULATION_KEY_LEN] {
        self.0.encapsulation_key().to_bytes().into()
    }

    /// The shared secret: a pseudorandom one when the ciphertext is not for this key (implicit rejection).
    pub(super) fn decapsulate(self, ciphertext: &[u8]) -> Result<Secret, NoiseError> {
        let ciphertext = ciphertext.try_into().map_err(|_| NoiseError::Length)?;
        Ok(into_secret(self.0.decapsulate(ciphertext)))
    }
}

/// The public half of the other side's `e1`: checked, and made for one encapsulation.
pub(super) struct EncapsulationKey(ml_kem_768::EncapsulationKey);

impl EncapsulationKey {
    /// Checks length and modulus (FIPS 203 §7.2).
    pub(super) fn new(bytes: &[u8]) -> Result<Self, NoiseError> {
        let bytes = bytes.try_into().map_err(|_| NoiseError::Length)?;
        ml_kem_768::EncapsulationKey::new(bytes)
            .map(Self)
            .map_err(|_| NoiseError::KemKey)
    }

    /// A ciphertext and the shared secret in it, out of 32 fresh random bytes: `m`.
    pub(super) fn encapsulate(self, m: &Secret) -> ([u8; CIPHERTEXT_LEN], Secret) {
        let (ciphertext, shared) = self.0.encapsulate_deterministic(m.expose().into());
        (ciphertext.into(), into_secret(shared))
    }
}

fn into_secret(mut shared: ml_kem::SharedKey) -> Secret {
    let secret = Secret::new(shared.into());
    shared.as_mut_slice().zeroize();
    secret
}
