//! Noise handshakes (protocol §1.4, §1.9; Noise revision 34, with the HFS extension for ML-KEM-768).
//!
//! One interpreter of token tables ([`Pattern`]). Whose turn it is, is the type: a [`Writer`] writes, a [`Reader`]
//! reads, and either is consumed by it. After an error there is no state left to go on with, so no key can meet the
//! same nonce twice.
//!
//! Patterns without pre-messages only (the protocol has no others). Not here: payload records, the prologue's fields,
//! who may be trusted.
//!
//! **Randomness** is drawn from the [`Entropy`] in the order of the tokens of the message being written, and for
//! nothing else: `e` 32 bytes (the X25519 secret), `e1` 64 bytes (FIPS 203 `d || z`), `ekem1` 32 bytes (`m`). A
//! scripted source thus replays published vectors.

mod handshake;
mod keys;
mod pattern;
mod symmetric;
#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::zeroize_stack;

use self::handshake::Handshake;
pub use self::keys::{
    CIPHERTEXT_LEN, DH_LEN, DecapsulationKey, ENCAPSULATION_KEY_LEN, EncapsulationKey, StaticKey,
};
pub use self::pattern::{Dh, NNHFS, NNHFS_PSK0, Pattern, Role, Token, XXHFS, XXHFS_PSK0};
use self::symmetric::nonce_bytes;
use super::aead::{self, AeadError, TAG_LEN};
use super::secret::Secret;
use crate::entropy::Entropy;

/// The longest Noise message (Noise §3).
pub const MAX_MESSAGE: usize = 65_535;

/// Stack that is overwritten after each step: the primitives leave intermediate values there.
const STACK: usize = 64 << 10;

/// Why a handshake step failed. The handshake is over in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// A message shorter than its keys and tags, or longer than Noise allows.
    #[error("a noise message has the wrong length")]
    Length,
    /// A field that was not encrypted by someone with our keys, or for this handshake.
    #[error("decryption failed")]
    Decrypt,
    /// A public key of low order: the Diffie-Hellman result is all zero.
    #[error("a diffie-hellman result is all zero")]
    Degenerate,
    /// An encapsulation key with a coefficient out of range (FIPS 203 §7.2, modulus check).
    #[error("the encapsulation key fails the modulus check")]
    KemKey,
    /// The nonces of a transport key are used up.
    #[error("the nonces of a key are used up")]
    Exhausted,
}

impl From<AeadError> for NoiseError {
    fn from(AeadError: AeadError) -> Self {
        Self::Decrypt
    }
}

/// What a side brings to a handshake. Secrets are copied, and the copies erased when no longer needed.
pub struct Setup<'a> {
    /// The pattern, the same on both sides.
    pub pattern: &'static Pattern,
    /// What both sides have to agree on, without sending it.
    pub prologue: &'a [u8],
    /// This side's static key, where the pattern sends it.
    pub local_static: Option<&'a StaticKey>,
    /// One key for each `psk` token of the pattern, in order.
    pub psks: &'a [&'a Secret],
}

/// Starts a handshake as the side that writes first.
///
/// # Panics
/// When the pattern needs a static key or another number of PSKs than the setup has.
pub fn initiate(setup: Setup<'_>) -> Writer {
    let handshake = Handshake::new(setup, Role::Initiator);
    zeroize_stack::<STACK>();
    Writer(handshake)
}

/// Starts a handshake as the side that reads first.
///
/// # Panics
/// When the pattern needs a static key or another number of PSKs than the setup has.
pub fn respond(setup: Setup<'_>) -> Reader {
    let handshake = Handshake::new(setup, Role::Responder);
    zeroize_stack::<STACK>();
    Reader(handshake)
}

/// A handshake in which it is this side's turn to write.
#[must_use]
pub struct Writer(Box<Handshake>);

/// A handshake in which it is the other side's turn to write.
#[must_use]
pub struct Reader(Box<Handshake>);

/// What follows a message written.
#[derive(Debug)]
#[must_use]
pub enum Written {
    /// The other side's turn.
    Reader(Reader),
    /// It was the last message.
    Done(Finished),
}

/// What follows a message read.
#[derive(Debug)]
#[must_use]
pub enum ReadDone {
    /// This side's turn.
    Writer(Writer),
    /// It was the last message.
    Done(Finished),
}

/// The result of a handshake.
pub struct Finished {
    /// The handshake hash `h`: the same on both sides only if everything was.
    pub hash: [u8; 32],
    /// Transport key from initiator to responder (Noise `Split`).
    pub k1: Secret,
    /// Transport key from responder to initiator (Noise `Split`).
    pub k2: Secret,
    /// Exporter secret: the third output of the HKDF whose first two are `k1` and `k2`.
    pub exporter: Secret,
    /// The other side's static key, if it sent one.
    pub remote_static: Option<[u8; DH_LEN]>,
}

impl Writer {
    /// Writes the next message around `payload`.
    ///
    /// # Errors
    /// [`NoiseError::Length`] when the message would pass [`MAX_MESSAGE`]; [`NoiseError::Degenerate`] when a key that
    /// the other side sent before proves to be of low order.
    pub fn write(
        self,
        payload: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, Written), NoiseError> {
        let written = self.0.write(payload, entropy);
        zeroize_stack::<STACK>();
        written
    }

    /// The other side's static key, once it sent it.
    pub fn remote_static(&self) -> Option<[u8; DH_LEN]> {
        self.0.remote_static
    }
}

impl Reader {
    /// Reads the next message and returns its payload.
    ///
    /// # Errors
    /// A [`NoiseError`] when the message is not one that the other side wrote for this handshake.
    pub fn read(self, message: &[u8]) -> Result<(Vec<u8>, ReadDone), NoiseError> {
        let read = self.0.read(message);
        zeroize_stack::<STACK>();
        read
    }
}

/// Encrypts a transport message under one of the keys of [`Finished`], without associated data (Noise §5.1; R-102).
/// Each `n` is to be used once per key, and stays below 2^64 - 1.
pub fn transport_seal(key: &Secret, n: u64, plaintext: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(plaintext.len() + TAG_LEN);
    message.extend_from_slice(plaintext);
    let tag = aead::seal(key.expose(), &nonce_bytes(n), &[], &mut message);
    message.extend_from_slice(&tag);
    message
}

/// Decrypts a transport message (Noise §5.1).
///
/// # Errors
/// [`NoiseError::Decrypt`]; [`NoiseError::Exhausted`] for the reserved nonce 2^64 - 1.
pub fn transport_open(key: &Secret, n: u64, ciphertext: &[u8]) -> Result<Vec<u8>, NoiseError> {
    if n == u64::MAX {
        return Err(NoiseError::Exhausted);
    }
    let mut plaintext = ciphertext.to_vec();
    let len = aead::open(key.expose(), &nonce_bytes(n), &[], &mut plaintext)?.len();
    plaintext.truncate(len);
    Ok(plaintext)
}

impl fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pattern,
            prologue: _, // holds the room
            local_static: _,
            psks: _,
        } = self;
        write!(f, "Setup({}, ..)", pattern.name())
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(handshake) = self;
        write!(f, "Writer({handshake:?})")
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(handshake) = self;
        write!(f, "Reader({handshake:?})")
    }
}

impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            hash: _,
            k1: _,
            k2: _,
            exporter: _,
            remote_static: _,
        } = self;
        f.write_str("Finished(..)")
    }
}
