//! Why a vault does not open, or is not written.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::contents::ContentsError;
use super::header::{MAX_LANES, MAX_MEMORY_KIB, MAX_PASSES};

/// Why a vault cannot be opened, made or saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    // --- The file. ---
    /// There is no vault at this path.
    #[error("there is no vault at {}: create one", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// There is a vault at this path. Nothing was changed.
    #[error("there is a vault at {} already: open it", path.display())]
    AlreadyExists {
        /// The path.
        path: PathBuf,
    },
    /// The path leads to a directory, a symbolic link, a pipe or a device.
    #[error("{} is not an ordinary file: give the path of the file itself", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Another process, or another store in this one, has the vault open.
    #[error("the vault at {} is open elsewhere: close it there first", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The operating system failed. After a failed save the file holds the old or the new state, whole.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The sort of failure.
        kind: io::ErrorKind,
        /// The operating system's words.
        reason: String,
    },

    // --- Its bytes, before any key is tried. ---
    /// The bytes are something else.
    #[error("this is not a vault")]
    NotAVault,
    /// It was made by a newer version.
    #[error("the vault has version {version}, and this side reads version 1: update it")]
    UnsupportedVersion {
        /// The vault's version.
        version: u8,
    },
    /// Its key is made in a way that this version does not know.
    #[error("the vault's key derivation {kdf} is not known: update, or the file is damaged")]
    UnsupportedKdf {
        /// The number of the derivation.
        kdf: u8,
    },
    /// The file was cut, or something was added to it. A cut or an addition of whole pages of 4 096 bytes looks like
    /// [`WrongKeyOrDamaged`](Self::WrongKeyOrDamaged) instead.
    #[error("a vault does not have {len} bytes: it was cut, or something was added to it")]
    BadLength {
        /// Its length, in bytes.
        len: usize,
    },
    /// It is longer than every vault.
    #[error("a vault has at most {max} bytes, and this has {len}")]
    TooLong {
        /// Its length, in bytes.
        len: u64,
        /// The longest vault, in bytes.
        max: u64,
    },
    /// To try a passphrase on this file would cost too much, as if somebody wanted to stop this device by it. Nothing
    /// was computed.
    #[error(
        "the vault asks for {m_kib} KiB, {t} passes and {p} lanes, and at most {MAX_MEMORY_KIB}, {MAX_PASSES} and {MAX_LANES} are allowed"
    )]
    TooCostly {
        /// Memory, in KiB.
        m_kib: u32,
        /// Passes.
        t: u32,
        /// Lanes.
        p: u32,
    },
    /// Its header holds what no vault has.
    #[error("the vault's header is damaged: {0}")]
    BadHeader(&'static str),

    // --- The key. ---
    /// A key was given, and the vault is locked by a passphrase.
    #[error("the vault is locked by a passphrase")]
    NeedsPassphrase,
    /// A passphrase was given, and the vault is locked by a key, usually of the system's key store.
    #[error("the vault is locked by a key, not by a passphrase")]
    NeedsKey,
    /// The passphrase or key is wrong, **or** the file was changed: the cipher cannot tell one from the other.
    #[error("the passphrase or key is wrong, or the file was changed")]
    WrongKeyOrDamaged,
    /// It opened, and holds what this version cannot read.
    #[error("the vault opened, but cannot be read: {0}")]
    BadContents(#[from] ContentsError),
    /// The memory that the passphrase's key asks for is not there.
    #[error("there are no {m_kib} KiB of memory for the passphrase's key")]
    OutOfMemory {
        /// How much it takes, in KiB.
        m_kib: u32,
    },
    /// The passphrase is empty or too long.
    #[error("a passphrase has 1 to {max} bytes, and this has {len}")]
    BadPassphrase {
        /// Its length, in bytes.
        len: usize,
        /// The longest, in bytes.
        max: usize,
    },
    /// The vault is there, and its key is not in the key store: it was removed, or the vault comes from another device.
    #[error("the key store holds no key called {name:?}, which the vault is locked by")]
    KeyMissing {
        /// The key's name.
        name: String,
    },
    /// The operating system's key store failed.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
}

/// The operating system's key store failed, or its user refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStoreError {
    reason: String,
}

impl KeyStoreError {
    /// For implementations of [`KeyStore`](super::KeyStore): `reason` is for people, and holds no secret.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

impl fmt::Display for KeyStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key store failed: {}", self.reason)
    }
}

impl std::error::Error for KeyStoreError {}

impl StoreError {
    /// A failure of the operating system to do `action` with `path`.
    pub(super) fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            kind: error.kind(),
            reason: error.to_string(),
        }
    }
}
