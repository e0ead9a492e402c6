//! The first bytes of a vault, which say how its key is made (R-211, R-212, R-230). Everybody can read them, and change them
//! until a key is tried: they are checked before any work.
//!
//! ```text
//! "sealwire" | version 1 | kdf 0: key, 1: Argon2id | m KiB (u32) | t (u32) | p (u32) | salt (16)      38 bytes
//! ```

use super::error::StoreError;
use crate::crypto::at_rest::SALT_LEN;

const MAGIC: &[u8; 8] = b"sealwire";
const VERSION: u8 = 1;
const KDF_KEY: u8 = 0;
const KDF_ARGON2ID: u8 = 1;

/// Bytes of a header: what the cipher authenticates with the contents.
pub(crate) const HEADER_LEN: usize = 8 + 1 + 1 + 3 * 4 + SALT_LEN;

/// Argon2id's memory above which a file is refused (R-212): 1 GiB.
pub(super) const MAX_MEMORY_KIB: u32 = 1024 * 1024;
/// Its passes, likewise.
pub(super) const MAX_PASSES: u32 = 16;
/// Its lanes, likewise (R-230). They divide the work and add none.
pub(super) const MAX_LANES: u32 = 16;

/// What one try of a passphrase costs (Argon2id, RFC 9106): the more, the longer a thief of the file guesses.
///
/// The default, 64 MiB, 3 passes and 1 lane, is the second recommendation of RFC 9106 §4 with one lane. Less than
/// 19 MiB and 2 passes is weak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    m_kib: u32,
    t: u32,
    p: u32,
}

/// How a vault's key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// The host has it.
    Key,
    /// From a passphrase.
    Argon2id {
        cost: Argon2Cost,
        salt: [u8; SALT_LEN],
    },
}

impl Argon2Cost {
    /// `m_kib` KiB of memory, `t` passes, `p` lanes.
    ///
    /// # Errors
    /// [`StoreError::TooCostly`] above 1 GiB, 16 passes or 16 lanes, which no vault opens with;
    /// [`StoreError::BadHeader`] for no pass, no lane, or less than 8 KiB a lane.
    pub const fn new(m_kib: u32, t: u32, p: u32) -> Result<Self, StoreError> {
        if m_kib > MAX_MEMORY_KIB || t > MAX_PASSES || p > MAX_LANES {
            return Err(StoreError::TooCostly { m_kib, t, p });
        }
        if t == 0 || p == 0 || m_kib < 8 * p {
            let missing = "Argon2id needs a pass, a lane and 8 KiB of memory for each lane";
            return Err(StoreError::BadHeader(missing));
        }
        Ok(Self { m_kib, t, p })
    }

    /// Memory, in KiB.
    #[must_use]
    pub const fn memory_kib(self) -> u32 {
        self.m_kib
    }

    /// Passes.
    #[must_use]
    pub const fn passes(self) -> u32 {
        self.t
    }

    /// Lanes.
    #[must_use]
    pub const fn lanes(self) -> u32 {
        self.p
    }
}

impl Default for Argon2Cost {
    fn default() -> Self {
        let (m_kib, t, p) = (64 * 1024, 3, 1);
        Self { m_kib, t, p }
    }
}

impl Header {
    /// The header at the start of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(StoreError::NotAVault)?;
        match rest.first() {
            None | Some(&VERSION) => {}
            Some(&version) => return Err(StoreError::UnsupportedVersion { version }),
        }
        let header = bytes
            .first_chunk::<HEADER_LEN>()
            .ok_or(StoreError::BadLength { len: bytes.len() })?;
        let number = |at: usize| {
            let four = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            u32::from_be_bytes(four)
        };
        let (m_kib, t, p) = (number(10), number(14), number(18));
        let mut salt = [0; SALT_LEN];
        salt.copy_from_slice(&header[22..]);
        match header[9] {
            KDF_KEY if (m_kib, t, p, salt) == (0, 0, 0, [0; SALT_LEN]) => Ok(Self::Key),
            KDF_KEY => Err(StoreError::BadHeader(
                "a key of its own needs no parameters",
            )),
            KDF_ARGON2ID => Ok(Self::Argon2id {
                cost: Argon2Cost::new(m_kib, t, p)?,
                salt,
            }),
            kdf => Err(StoreError::UnsupportedKdf { kdf }),
        }
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let (kdf, numbers, salt) = match self {
            Self::Key => (KDF_KEY, [0; 3], [0; SALT_LEN]),
            Self::Argon2id { cost, salt } => (KDF_ARGON2ID, [cost.m_kib, cost.t, cost.p], *salt),
        };
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = kdf;
        for (at, number) in bytes[10..22].chunks_exact_mut(4).zip(numbers) {
            at.copy_from_slice(&number.to_be_bytes());
        }
        bytes[22..].copy_from_slice(&salt);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argon2id(m_kib: u32, t: u32, p: u32) -> Vec<u8> {
        let numbers = [m_kib, t, p].map(u32::to_be_bytes);
        [&b"sealwire\x01\x01"[..], numbers.as_flattened(), &[5; 16]].concat()
    }

    #[test]
    fn both_headers_have_the_bytes_of_the_format() {
        let cost = Argon2Cost::default();
        let header = Header::Argon2id {
            cost,
            salt: [5; 16],
        };
        assert_eq!(header.encode()[..], argon2id(65_536, 3, 1));
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        let key = [&b"sealwire\x01\x00"[..], &[0; 28]].concat();
        assert_eq!(Header::Key.encode()[..], key);
        assert_eq!(Header::decode(&key), Ok(Header::Key));
    }

    /// R-212, R-230, C8.
    #[test]
    fn c8_bombs_are_refused_by_their_numbers() {
        let (m, t, p) = (MAX_MEMORY_KIB, MAX_PASSES, MAX_LANES);
        assert!(Header::decode(&argon2id(m, t, p)).is_ok());
        for (m_kib, t, p) in [
            (m + 1, 1, 1),
            (64, t + 1, 1),
            (m, t, p + 1),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            let refused = Err(StoreError::TooCostly { m_kib, t, p });
            assert_eq!(Header::decode(&argon2id(m_kib, t, p)), refused);
        }
        for (m_kib, t, p) in [(0, 1, 1), (7, 1, 1), (31, 1, 4), (64, 0, 1), (64, 1, 0)] {
            let header = Header::decode(&argon2id(m_kib, t, p));
            assert!(matches!(header, Err(StoreError::BadHeader(_))));
        }
    }

    #[test]
    fn other_headers_are_told_apart() {
        let good = argon2id(64, 1, 1);
        for len in 0..8 {
            let header = Header::decode(&good[..len]);
            assert_eq!(header, Err(StoreError::NotAVault));
        }
        for len in 8..HEADER_LEN {
            let header = Header::decode(&good[..len]);
            assert_eq!(header, Err(StoreError::BadLength { len }));
        }
        let with = |at: usize, value| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Header::decode(&bytes)
        };
        assert_eq!(with(0, b'S'), Err(StoreError::NotAVault));
        let version = StoreError::UnsupportedVersion { version: 2 };
        assert_eq!(with(8, 2), Err(version));
        assert_eq!(with(9, 2), Err(StoreError::UnsupportedKdf { kdf: 2 }));
        assert!(matches!(with(9, 0), Err(StoreError::BadHeader(_))));
    }
}
