//! What a vault is locked by: a passphrase of a person, or a key that the host keeps elsewhere.

use std::fmt;

use zeroize::Zeroizing;

use super::error::StoreError;
use super::header::Argon2Cost;
use crate::crypto::secret::Secret;
use crate::entropy::{Entropy, OsEntropy};

/// Bytes of the longest passphrase.
const MAX_PASSPHRASE: usize = 1_024;

/// What a person types to open a vault. Erased on drop; neither cloned nor printed.
///
/// Its bytes count as given: a host whose keyboards write one letter in two ways normalises (Unicode NFC) before.
pub struct Passphrase {
    text: Zeroizing<String>,
    cost: Argon2Cost,
}

/// 32 random bytes that lock a vault, which the host keeps, best in the operating system's
/// [key store](super::KeyStore). Erased on drop; neither cloned nor printed.
pub struct StoreKey {
    /// On the heap, so that moves leave no copies.
    secret: Box<Secret>,
}

/// What a vault is opened or locked with: made of a `&Passphrase` or a `&StoreKey`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Unlock<'a> {
    /// A passphrase.
    Passphrase(&'a Passphrase),
    /// A key.
    Key(&'a StoreKey),
}

/// What a vault asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// A passphrase, which costs this much to try.
    Passphrase(Argon2Cost),
    /// A key.
    Key,
}

impl Passphrase {
    /// Takes charge of `text`. Copies that the host made on the way are the host's to erase.
    ///
    /// # Errors
    /// [`StoreError::BadPassphrase`] unless it has 1 to 1 024 bytes. Nothing checks that it is hard to guess.
    pub fn new(text: impl Into<String>) -> Result<Self, StoreError> {
        let text = Zeroizing::new(text.into());
        match text.len() {
            1..=MAX_PASSPHRASE => Ok(Self {
                text,
                cost: Argon2Cost::default(),
            }),
            len => Err(StoreError::BadPassphrase {
                len,
                max: MAX_PASSPHRASE,
            }),
        }
    }

    /// What a try costs in vaults that are locked with it from now on; those that exist say it themselves.
    #[must_use]
    pub fn with_cost(mut self, cost: Argon2Cost) -> Self {
        self.cost = cost;
        self
    }

    pub(super) fn cost(&self) -> Argon2Cost {
        self.cost
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl StoreKey {
    /// A new key from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system has no random bytes to give.
    #[must_use]
    pub fn generate() -> Self {
        Self::generate_from(&mut OsEntropy)
    }

    /// A new key from `entropy`, which must be cryptographically secure outside tests.
    #[must_use]
    pub fn generate_from(entropy: &mut dyn Entropy) -> Self {
        let mut secret = Box::new(Secret::zeroed());
        entropy.fill(secret.bytes_mut());
        Self { secret }
    }

    /// The key that [`secret_bytes`](Self::secret_bytes) gave: random bytes, never a password. Erase your own copy of
    /// them afterwards.
    #[must_use]
    pub fn from_secret_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let mut secret = Box::new(Secret::zeroed());
        secret.bytes_mut().copy_from_slice(&*bytes);
        Self { secret }
    }

    /// Its bytes, for keeping them. The copy returned here erases itself when dropped.
    #[must_use]
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.secret.expose())
    }

    /// A copy for a vault, which keeps it to save.
    pub(super) fn duplicate(&self) -> Box<Secret> {
        let mut secret = Box::new(Secret::zeroed());
        secret.bytes_mut().copy_from_slice(self.secret.expose());
        secret
    }
}

impl<'a> From<&'a Passphrase> for Unlock<'a> {
    fn from(passphrase: &'a Passphrase) -> Self {
        Self::Passphrase(passphrase)
    }
}

impl<'a> From<&'a StoreKey> for Unlock<'a> {
    fn from(key: &'a StoreKey) -> Self {
        Self::Key(key)
    }
}

impl fmt::Debug for Passphrase {
    /// What it costs, and nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text: _, cost } = self;
        f.debug_struct("Passphrase")
            .field("text", &format_args!("Secret(..)"))
            .field("cost", cost)
            .finish()
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret } = self;
        f.debug_struct("StoreKey").field("secret", secret).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passphrases_have_bounds() {
        for len in [0, MAX_PASSPHRASE + 1] {
            let max = MAX_PASSPHRASE;
            let refused = Passphrase::new("x".repeat(len)).unwrap_err();
            assert_eq!(refused, StoreError::BadPassphrase { len, max });
        }
        Passphrase::new("x".repeat(MAX_PASSPHRASE)).unwrap();
    }

    #[test]
    fn nothing_secret_appears_in_debug() {
        let passphrase = Passphrase::new("hunter2").unwrap();
        let key = StoreKey::from_secret_bytes([0xab; 32]);
        for shown in [
            format!("{passphrase:?}"),
            format!("{key:?}"),
            format!("{:?}", Unlock::from(&passphrase)),
            format!("{:?}", Unlock::from(&key)),
        ] {
            assert!(!shown.contains("hunter2") && !shown.contains("171"));
            assert!(shown.contains("Secret(..)"), "{shown}");
        }
    }

    #[test]
    fn a_key_survives_storage_and_two_differ() {
        let key = StoreKey::generate();
        let again = StoreKey::from_secret_bytes(*key.secret_bytes());
        assert_eq!(*again.secret_bytes(), *key.secret_bytes());
        assert_ne!(*StoreKey::generate().secret_bytes(), *key.secret_bytes());
    }
}
