//! Where a host keeps the keys of vaults: the operating system's key store, behind a trait.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::KeyStoreError;
use super::keys::StoreKey;

/// Keeps [`StoreKey`]s by name: implement it over the key store of your platform (Keychain, Keystore, Credential
/// Manager, Secret Service). Calls may block, and may ask the user.
pub trait KeyStore: Send + Sync {
    /// The key called `name`; `None` when there is none.
    ///
    /// # Errors
    /// [`KeyStoreError`] when the store cannot say. It must not answer `None` then: the caller would make a new key.
    fn load(&self, name: &str) -> Result<Option<StoreKey>, KeyStoreError>;

    /// Keeps `key` as `name`, in the place of an older one. On return it is durable: the vault is locked with it next.
    ///
    /// # Errors
    /// [`KeyStoreError`] when it was not kept.
    fn store(&self, name: &str, key: &StoreKey) -> Result<(), KeyStoreError>;

    /// Removes the key called `name`, if there is one. A vault that is locked by it never opens again.
    ///
    /// # Errors
    /// [`KeyStoreError`] when it is perhaps still there.
    fn delete(&self, name: &str) -> Result<(), KeyStoreError>;
}

/// A key store that forgets everything with the process: for tests.
#[derive(Default)]
pub struct MemoryKeyStore {
    keys: Mutex<BTreeMap<String, StoreKey>>,
}

impl MemoryKeyStore {
    /// It is empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<String, StoreKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyStore for MemoryKeyStore {
    fn load(&self, name: &str) -> Result<Option<StoreKey>, KeyStoreError> {
        let copy = |key: &StoreKey| StoreKey::from_secret_bytes(*key.secret_bytes());
        Ok(self.keys().get(name).map(copy))
    }

    fn store(&self, name: &str, key: &StoreKey) -> Result<(), KeyStoreError> {
        let copy = StoreKey::from_secret_bytes(*key.secret_bytes());
        self.keys().insert(name.to_owned(), copy);
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), KeyStoreError> {
        self.keys().remove(name);
        Ok(())
    }
}

impl fmt::Debug for MemoryKeyStore {
    /// The names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_by_name_until_deleted() {
        let (store, key) = (MemoryKeyStore::new(), StoreKey::generate());
        assert!(store.load("me").unwrap().is_none());
        store.store("me", &key).unwrap();
        assert_eq!(
            *store.load("me").unwrap().unwrap().secret_bytes(),
            *key.secret_bytes()
        );
        assert_eq!(format!("{store:?}"), r#"{"me"}"#);
        store.delete("me").unwrap();
        store.delete("me").unwrap();
        assert!(store.load("me").unwrap().is_none());
    }
}
