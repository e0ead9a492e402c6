//! A vault in memory: an identity and its contacts, and the lock that they are sealed with (R-211). Bytes in, bytes out;
//! the file is `file.rs`'s.
//!
//! ```text
//! header (38) | nonce (24) | contents, encrypted (a multiple of 4 096) | tag (16)
//! ```

use std::fmt;

use zeroize::Zeroizing;

use super::contents::{self, MAX_CONTENTS, PAGE};
use super::error::StoreError;
use super::header::{HEADER_LEN, Header};
use super::keys::{Protection, StoreKey, Unlock};
use crate::contact::Contacts;
use crate::crypto::aead::TAG_LEN;
use crate::crypto::at_rest::{self, DeriveError, NONCE_LEN};
use crate::crypto::secret::Secret;
use crate::entropy::{self, Entropy};
use crate::identity::Identity;

/// Bytes before the contents.
const PREFIX: usize = HEADER_LEN + NONCE_LEN;

/// Bytes of the longest vault: some 6 MiB, with [`MAX_CONTACTS`](crate::contact::MAX_CONTACTS) contacts.
pub(crate) const MAX_VAULT: usize = PREFIX + MAX_CONTENTS + TAG_LEN;

/// An identity and its contacts, which [`seal`](Self::seal) turns into bytes that only the passphrase or key opens.
/// For hosts that keep bytes in a place of their own; others use [`IdentityStore`](super::IdentityStore).
///
/// The key stays in memory while the vault is open, and is erased with it; the passphrase does not.
///
/// ```
/// use sealwire::{Identity, OsEntropy, store::{StoreError, StoreKey, Vault}};
///
/// let (me, key) = (Identity::generate(), StoreKey::generate());
/// let vault = Vault::new(me.clone(), &key, &mut OsEntropy)?;
/// let bytes = vault.seal(&mut OsEntropy);
///
/// let again = Vault::open(&bytes, &key)?;
/// assert_eq!(again.identity().peer_id(), me.peer_id());
/// assert_eq!(Vault::open(&bytes, &StoreKey::generate()).unwrap_err(), StoreError::WrongKeyOrDamaged);
/// # Ok::<(), StoreError>(())
/// ```
pub struct Vault {
    identity: Identity,
    history: Option<StoreKey>,
    contacts: Contacts,
    lock: Lock,
}

/// What the contents are encrypted with, and what is written about it.
struct Lock {
    header: Header,
    key: Box<Secret>,
}

impl Vault {
    /// A vault without contacts, to be sealed with `unlock`. With a passphrase it takes the time and memory of its
    /// [cost](super::Argon2Cost).
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`].
    pub fn new<'a>(
        identity: Identity,
        unlock: impl Into<Unlock<'a>>,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            identity,
            history: None,
            contacts: Contacts::new(),
            lock: Lock::new(unlock.into(), entropy)?,
        })
    }

    /// Opens what [`seal`](Self::seal) gave. With a passphrase it takes the time and memory that the vault names, at
    /// most 1 GiB, 16 passes and 16 lanes (R-212); nothing is computed before that is checked.
    ///
    /// # Errors
    /// [`StoreError`]: what is wrong with the bytes as far as they show it, else
    /// [`StoreError::WrongKeyOrDamaged`].
    pub fn open<'a>(bytes: &[u8], unlock: impl Into<Unlock<'a>>) -> Result<Self, StoreError> {
        let header = Header::decode(bytes)?;
        let sealed = sealed_part(bytes)?;
        let lock = Lock::of(header, unlock.into())?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let (nonce, contents) = sealed
            .split_first_chunk_mut()
            .ok_or(StoreError::BadLength { len: bytes.len() })?;
        let ad = lock.header.encode();
        let contents = at_rest::open(&lock.key, nonce, &ad, contents)
            .map_err(|_| StoreError::WrongKeyOrDamaged)?;
        let (identity, history, contacts) = contents::decode(contents)?;
        Ok(Self {
            identity,
            history,
            contacts,
            lock,
        })
    }

    /// What `bytes` ask for before they open. Anybody could have written it: a reason to ask for a passphrase or not,
    /// and no more.
    ///
    /// # Errors
    /// [`StoreError`] when they are no vault, or one that [`open`](Self::open) refuses for its header.
    pub fn protection(bytes: &[u8]) -> Result<Protection, StoreError> {
        Ok(match Header::decode(bytes)? {
            Header::Key => Protection::Key,
            Header::Argon2id { cost, .. } => Protection::Passphrase(cost),
        })
    }

    /// The vault as bytes, with a fresh nonce each time: at most some 6 MiB, and as long for one contact as for ten.
    #[must_use]
    pub fn seal(&self, entropy: &mut dyn Entropy) -> Vec<u8> {
        let mut bytes = contents::encode(
            &self.identity,
            self.history.as_ref(),
            &self.contacts,
            (PREFIX, TAG_LEN),
        );
        let header = self.lock.header.encode();
        let nonce: [u8; NONCE_LEN] = entropy::random(entropy);
        bytes[..HEADER_LEN].copy_from_slice(&header);
        bytes[HEADER_LEN..PREFIX].copy_from_slice(&nonce);
        let end = bytes.len() - TAG_LEN;
        let tag = at_rest::seal(&self.lock.key, &nonce, &header, &mut bytes[PREFIX..end]);
        bytes[end..].copy_from_slice(&tag);
        std::mem::take(&mut *bytes)
    }

    /// Seals with another passphrase or key from now on, under a fresh salt. Bytes that were sealed before open with
    /// the old one, wherever copies of them are.
    ///
    /// # Errors
    /// [`StoreError::OutOfMemory`]; nothing changed then.
    pub fn relock<'a>(
        &mut self,
        unlock: impl Into<Unlock<'a>>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        self.lock = Lock::new(unlock.into(), entropy)?;
        Ok(())
    }

    /// Who this device is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key of this device's history, if there is one.
    #[must_use]
    pub fn history_key(&self) -> Option<&StoreKey> {
        self.history.as_ref()
    }

    /// The key of this device's history, made where there is none: to be sealed before it is used. A vault with one is
    /// not read by versions that know no history.
    pub fn make_history_key(&mut self, entropy: &mut dyn Entropy) -> &StoreKey {
        self.history
            .get_or_insert_with(|| StoreKey::generate_from(entropy))
    }

    #[cfg(any(unix, windows))]
    pub(super) fn forget_history_key(&mut self) {
        self.history = None;
    }

    /// Whom it knows.
    #[must_use]
    pub fn contacts(&self) -> &Contacts {
        &self.contacts
    }

    /// Whom it knows, to be changed, and sealed afterwards.
    pub fn contacts_mut(&mut self) -> &mut Contacts {
        &mut self.contacts
    }
}

impl Lock {
    /// A lock for new bytes.
    fn new(unlock: Unlock<'_>, entropy: &mut dyn Entropy) -> Result<Self, StoreError> {
        let header = match unlock {
            Unlock::Key(_) => Header::Key,
            Unlock::Passphrase(passphrase) => Header::Argon2id {
                cost: passphrase.cost(),
                salt: entropy::random(entropy),
            },
        };
        Self::of(header, unlock)
    }

    /// The lock of bytes with this header.
    fn of(header: Header, unlock: Unlock<'_>) -> Result<Self, StoreError> {
        let key = match (&header, unlock) {
            (Header::Key, Unlock::Key(key)) => key.duplicate(),
            (Header::Key, Unlock::Passphrase(_)) => return Err(StoreError::NeedsKey),
            (Header::Argon2id { .. }, Unlock::Key(_)) => return Err(StoreError::NeedsPassphrase),
            (Header::Argon2id { cost, salt }, Unlock::Passphrase(passphrase)) => {
                let m_kib = cost.memory_kib();
                let price = (m_kib, cost.passes(), cost.lanes());
                at_rest::argon2id(passphrase.as_bytes(), salt, price).map_err(
                    |error| match error {
                        DeriveError::OutOfMemory => StoreError::OutOfMemory { m_kib },
                        DeriveError::BadParameters => {
                            StoreError::BadHeader("Argon2id does not know these parameters")
                        }
                    },
                )?
            }
        };
        Ok(Self { header, key })
    }
}

/// Everything behind the header, if there is as much of it as in a vault.
fn sealed_part(bytes: &[u8]) -> Result<&[u8], StoreError> {
    let len = bytes.len();
    if len > MAX_VAULT {
        return Err(StoreError::TooLong {
            len: len as u64,
            max: MAX_VAULT as u64,
        });
    }
    match len.checked_sub(PREFIX + TAG_LEN) {
        Some(contents) if contents >= PAGE && contents.is_multiple_of(PAGE) => {
            Ok(&bytes[HEADER_LEN..])
        }
        _ => Err(StoreError::BadLength { len }),
    }
}

impl fmt::Debug for Vault {
    /// Whose it is, and how many contacts there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            identity,
            history,
            contacts,
            lock: _,
        } = self;
        f.debug_struct("Vault")
            .field("identity", identity)
            .field("history", history)
            .field("contacts", &contacts.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
