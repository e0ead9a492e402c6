//! The symmetric half of a handshake: Noise's `CipherState` and `SymmetricState` (Noise §5.1, §5.2).

use super::NoiseError;
use crate::crypto::aead::{self, TAG_LEN};
use crate::crypto::kdf::{noise_hkdf, sha256};
use crate::crypto::secret::Secret;

/// Hash and chaining key of a handshake, and the key that encrypts its fields once there is one.
pub(super) struct Symmetric {
    hash: [u8; 32],
    chaining_key: Secret,
    key: Option<Secret>,
    nonce: u64,
}

impl Symmetric {
    pub(super) fn new(protocol_name: &str) -> Self {
        let name = protocol_name.as_bytes();
        let mut hash = [0; 32];
        match hash.get_mut(..name.len()) {
            Some(start) => start.copy_from_slice(name),
            None => hash = sha256(&[name]),
        }
        Self {
            hash,
            chaining_key: Secret::new(hash),
            key: None,
            nonce: 0,
        }
    }

    pub(super) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = sha256(&[&self.hash, data]);
    }

    pub(super) fn mix_key(&mut self, input: &[u8]) {
        let [chaining_key, key] = noise_hkdf(&self.chaining_key, input);
        self.set_keys(chaining_key, key);
    }

    pub(super) fn mix_key_and_hash(&mut self, input: &[u8]) {
        let [chaining_key, hash, key] = noise_hkdf(&self.chaining_key, input);
        self.mix_hash(hash.expose());
        self.set_keys(chaining_key, key);
    }

    /// Appends `plaintext` to `message`, encrypted if there is a key.
    pub(super) fn encrypt_and_hash(&mut self, plaintext: &[u8], message: &mut Vec<u8>) {
        let start = message.len();
        message.extend_from_slice(plaintext);
        if let Some(key) = &self.key {
            let nonce = nonce_bytes(self.nonce);
            let tag = aead::seal(key.expose(), &nonce, &self.hash, &mut message[start..]);
            message.extend_from_slice(&tag);
            self.nonce += 1;
        }
        self.mix_hash(&message[start..]);
    }

    /// The plaintext of `data`, which is itself if there is no key yet.
    pub(super) fn decrypt_and_hash(&mut self, data: &[u8]) -> Result<Vec<u8>, NoiseError> {
        if data.len() < self.tag_len() {
            return Err(NoiseError::Length);
        }
        let mut plaintext = data.to_vec();
        if let Some(key) = &self.key {
            let nonce = nonce_bytes(self.nonce);
            let len = aead::open(key.expose(), &nonce, &self.hash, &mut plaintext)?.len();
            plaintext.truncate(len);
            self.nonce += 1;
        }
        self.mix_hash(data);
        Ok(plaintext)
    }

    /// What encryption adds to a field at this point.
    pub(super) fn tag_len(&self) -> usize {
        self.key.as_ref().map_or(0, |_| TAG_LEN)
    }

    /// The hash, and Noise's `Split()` with a third output behind it.
    pub(super) fn split(&self) -> ([u8; 32], [Secret; 3]) {
        (self.hash, noise_hkdf(&self.chaining_key, &[]))
    }

    fn set_keys(&mut self, chaining_key: Secret, key: Secret) {
        self.chaining_key = chaining_key;
        self.key = Some(key);
        self.nonce = 0;
    }
}

/// Noise's nonce for ChaChaPoly: four zero bytes, then `n` little-endian (Noise §12.3; R-70).
pub(super) fn nonce_bytes(n: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&n.to_le_bytes());
    nonce
}
