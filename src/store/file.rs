//! A vault in a file: opened by one process at a time, saved as a whole or not at all (R-213).

use std::path::Path;

use super::error::StoreError;
use super::key_store::KeyStore;
use super::keys::{Protection, StoreKey, Unlock};
use super::place::Place;
use super::vault::{MAX_VAULT, Vault};
use crate::contact::Contacts;
use crate::entropy::OsEntropy;
use crate::identity::Identity;

/// The identity and contacts of this device, in an encrypted file.
///
/// Nothing is written before [`save`](Self::save). A save replaces the file as a whole: after a crash, a kill or a full
/// disk it holds the old or the new state. While a store lives, nobody else opens its file; the lock is a file of its
/// own, `<path>.lock`, which stays. A save writes to `<path>.tmp` first; a file of that name is taken for what a killed
/// process left, and removed.
///
/// All calls block: opening and creating with a passphrase for the time that its [cost](super::Argon2Cost) says, saving
/// for the disk. In async code call them inside `tokio::task::spawn_blocking`.
///
/// What this does not protect from is said in the [module's documentation](super).
///
/// ```
/// use sealwire::{Identity, PeerTrust, Timestamp};
/// use sealwire::store::{Argon2Cost, IdentityStore, Passphrase, StoreError};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("me.vault");
/// let passphrase = Passphrase::new("correct horse battery staple")?;
/// # let passphrase = passphrase.with_cost(Argon2Cost::new(64, 1, 1)?);
///
/// // The first start makes an identity, the others find it.
/// let mut store = IdentityStore::open_or_create(&path, &passphrase, Identity::generate)?;
/// let me = store.identity().clone();
/// println!("I am {}", me.peer_id());
///
/// // After a session: remember who was there.
/// # let (peer, trust) = (Identity::generate().peer_id(), PeerTrust::Invited);
/// # let now = Timestamp::from_unix_ms(1_700_000_000_000);
/// store.contacts_mut().met("Ann", peer, trust, now)?;
/// store.save()?;
/// drop(store);
///
/// let store = IdentityStore::open(&path, &passphrase)?;
/// assert_eq!(store.identity().peer_id(), me.peer_id());
/// assert_eq!(store.contacts().trust("Ann", peer), PeerTrust::Invited);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct IdentityStore {
    vault: Vault,
    place: Place,
}

impl IdentityStore {
    /// A new vault at `path` for `identity`, saved before this returns.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::InUse`], [`StoreError::NotAFile`], [`StoreError::Io`],
    /// [`StoreError::OutOfMemory`].
    pub fn create<'a>(
        path: impl AsRef<Path>,
        unlock: impl Into<Unlock<'a>>,
        identity: Identity,
    ) -> Result<Self, StoreError> {
        let place = Place::claim(path.as_ref())?;
        if place.read(MAX_VAULT)?.is_some() {
            let path = place.path().to_owned();
            return Err(StoreError::AlreadyExists { path });
        }
        Self::create_in(place, unlock.into(), identity)
    }

    /// The vault at `path`.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NotFound`] when there is none.
    pub fn open<'a>(
        path: impl AsRef<Path>,
        unlock: impl Into<Unlock<'a>>,
    ) -> Result<Self, StoreError> {
        let place = Place::claim(path.as_ref())?;
        match place.read(MAX_VAULT)? {
            Some(bytes) => Self::open_in(place, &bytes, unlock.into()),
            None => Err(StoreError::NotFound {
                path: place.path().to_owned(),
            }),
        }
    }

    /// The vault at `path`; where there is none, a new one for the identity that `make` gives.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create). A vault that does not open is never replaced.
    pub fn open_or_create<'a>(
        path: impl AsRef<Path>,
        unlock: impl Into<Unlock<'a>>,
        make: impl FnOnce() -> Identity,
    ) -> Result<Self, StoreError> {
        let place = Place::claim(path.as_ref())?;
        match place.read(MAX_VAULT)? {
            Some(bytes) => Self::open_in(place, &bytes, unlock.into()),
            None => Self::create_in(place, unlock.into(), make()),
        }
    }

    /// As [`open_or_create`](Self::open_or_create), locked by the key called `name` in `keys`; a key is made and kept
    /// there with the vault.
    ///
    /// # Errors
    /// As there; [`StoreError::KeyMissing`] when there is a vault and no key, [`StoreError::KeyStore`].
    pub fn open_or_create_with(
        path: impl AsRef<Path>,
        keys: &dyn KeyStore,
        name: &str,
        make: impl FnOnce() -> Identity,
    ) -> Result<Self, StoreError> {
        let place = Place::claim(path.as_ref())?;
        let found = place.read(MAX_VAULT)?;
        match (found, keys.load(name)?) {
            (Some(bytes), Some(key)) => Self::open_in(place, &bytes, Unlock::Key(&key)),
            (Some(bytes), None) => Err(match Vault::protection(&bytes)? {
                Protection::Passphrase(_) => StoreError::NeedsPassphrase,
                Protection::Key => StoreError::KeyMissing {
                    name: name.to_owned(),
                },
            }),
            // A crash between keeping the key and writing the file left it.
            (None, Some(key)) => Self::create_in(place, Unlock::Key(&key), make()),
            (None, None) => {
                let key = StoreKey::generate();
                keys.store(name, &key)?;
                Self::create_in(place, Unlock::Key(&key), make())
            }
        }
    }

    /// Writes the present state. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Io`]: the file holds the old or the new state, and the call may be repeated.
    pub fn save(&mut self) -> Result<(), StoreError> {
        self.place.write(&self.vault.seal(&mut OsEntropy))
    }

    /// Locks the vault with another passphrase or key, and saves it. Copies of the file made before open with the old
    /// one: backups, and what the disk did not overwrite.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`], or [`StoreError::Io`], after which the file opens with the old or, if the failure
    /// came last, with the new one; the next successful save locks it with the new one.
    pub fn change_lock<'a>(&mut self, unlock: impl Into<Unlock<'a>>) -> Result<(), StoreError> {
        self.vault.relock(unlock, &mut OsEntropy)?;
        self.save()
    }

    /// Who this device is. Compare its [`peer_id`](Identity::peer_id) with the one you expect where several vaults
    /// share a passphrase: whoever can write files can exchange one for another.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.vault.identity()
    }

    /// The key for [`DiskHistory::open`](super::DiskHistory::open). The first call makes it, and saves the vault: such a
    /// vault is not read by versions that know no history.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the call may be repeated.
    pub fn history_key(&mut self) -> Result<&StoreKey, StoreError> {
        if self.vault.history_key().is_none() {
            self.vault.make_history_key(&mut OsEntropy);
            if let Err(error) = self.save() {
                self.vault.forget_history_key();
                return Err(error);
            }
        }
        Ok(self.vault.make_history_key(&mut OsEntropy))
    }

    /// Whom it knows.
    #[must_use]
    pub fn contacts(&self) -> &Contacts {
        self.vault.contacts()
    }

    /// Whom it knows, to be changed. [`save`](Self::save) afterwards: before it a change is in memory only.
    pub fn contacts_mut(&mut self) -> &mut Contacts {
        self.vault.contacts_mut()
    }

    /// Where the file is, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    fn create_in(place: Place, unlock: Unlock<'_>, identity: Identity) -> Result<Self, StoreError> {
        let vault = Vault::new(identity, unlock, &mut OsEntropy)?;
        let mut store = Self { vault, place };
        store.save()?;
        Ok(store)
    }

    fn open_in(place: Place, bytes: &[u8], unlock: Unlock<'_>) -> Result<Self, StoreError> {
        let vault = Vault::open(bytes, unlock)?;
        Ok(Self { vault, place })
    }
}

#[cfg(test)]
mod tests;
