//! Identity and contacts at rest (protocol.md §18): a file that only a passphrase, or a key of the operating system's
//! key store, opens. Feature `store`.
//!
//! [`IdentityStore`] is the file, [`Vault`] the same as bytes for hosts that keep them elsewhere, [`KeyStore`] the way to
//! the operating system's keys, [`DiskHistory`] a file of conversations whose key is in the vault. Where the platform has a key store, prefer it: a passphrase can be guessed.
//!
//! # What is protected
//!
//! Whoever has the file, but not the passphrase or key, learns its size (in steps of 4 096 bytes) and what it costs to
//! try a passphrase, and can change nothing without [`StoreError::WrongKeyOrDamaged`]. A file cannot make a reader spend
//! more than 1 GiB and 16 passes.
//!
//! # What is not
//!
//! - **Rollback**: an older copy of the file opens. Contacts added since are gone, and removed or changed ones are back.
//!   Invites are not in the file, and one that was used can be offered again only by a host that stores it by itself.
//! - **Exchange**: another vault with the same passphrase or key opens in its place. Compare the identity with the one
//!   that you expect, or use a key of its own for each vault.
//! - **Removal**: a missing vault looks like a first start to [`IdentityStore::open_or_create`].
//! - Memory of the running process, its swap and its core dumps. Secrets are erased when they are dropped, as far as
//!   safe Rust reaches.
//! - Old states in backups, and in blocks that a disk did not overwrite.
//!
//! A directory that only the user can write to keeps other users from the first three.

mod contents;
mod error;
mod header;
mod key_store;
mod keys;
mod vault;

#[cfg(any(unix, windows))]
mod file;
#[cfg(any(unix, windows))]
mod history;
#[cfg(any(unix, windows))]
mod place;

pub use contents::ContentsError;
pub use error::{KeyStoreError, StoreError};
#[cfg(any(unix, windows))]
pub use file::IdentityStore;
pub use header::Argon2Cost;
#[cfg(any(unix, windows))]
pub use history::DiskHistory;
pub use key_store::{KeyStore, MemoryKeyStore};
pub use keys::{Passphrase, Protection, StoreKey, Unlock};
pub use vault::Vault;

pub(crate) use contents::{decode as decode_contents, encode as encode_contents};
pub(crate) use header::{HEADER_LEN, Header};
