//! Who somebody is: a key pair of one device ([`Identity`]), and its public half ([`PeerId`]).
//! Not names (the host keeps those) and not trust (`trust.rs`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::crypto::noise::StaticKey;
use crate::crypto::secret::Secret;
use crate::entropy::{Entropy, OsEntropy};
use crate::hex;

/// The secret key of one device: X25519 (RFC 7748), used for this protocol only (protocol.md §1.1).
///
/// Cloning is cheap and makes no copy of the key. Two devices with the same identity cannot talk to each other: give
/// each its own.
#[derive(Clone)]
pub struct Identity {
    key: Arc<StaticKey>,
}

/// The public key of one device, 32 bytes: who it is. Shown as 64 hexadecimal digits.
///
/// A number of this form is a name, not a proof: a session proves that the peer has the secret key of its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

/// The text is not a [`PeerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a peer id has 64 hexadecimal digits")]
pub struct InvalidPeerId;

impl Identity {
    /// A new identity from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system has no random bytes to give.
    #[must_use]
    pub fn generate() -> Self {
        Self::generate_from(&mut OsEntropy)
    }

    /// A new identity from `entropy`, which must be cryptographically secure outside tests.
    #[must_use]
    pub fn generate_from(entropy: &mut dyn Entropy) -> Self {
        Self::new(StaticKey::generate(entropy))
    }

    /// The identity that [`secret_bytes`](Self::secret_bytes) gave. Every 32 bytes are a key (RFC 7748 §5 clamps
    /// them), but only random ones are a safe one. Erase your own copy of them afterwards.
    #[must_use]
    pub fn from_secret_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self::new(StaticKey::new(Secret::new(*bytes)))
    }

    /// The secret key, 32 bytes, for storing it. **Sensitive**: whoever has them is this device to everybody. Keep them
    /// in the system's key store or encrypted; the copy returned here erases itself when dropped.
    #[must_use]
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.key.secret().expose())
    }

    /// The public half, which others know this device by.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        PeerId(*self.key.public())
    }

    /// The key pair, for the handshake.
    pub(crate) fn static_key(&self) -> &StaticKey {
        &self.key
    }

    fn new(key: StaticKey) -> Self {
        Self { key: Arc::new(key) }
    }
}

impl fmt::Debug for Identity {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key: _ } = self;
        f.debug_struct("Identity")
            .field("peer_id", &self.peer_id())
            .field("key", &format_args!("Secret(..)"))
            .finish()
    }
}

impl PeerId {
    /// The id with these bytes: an X25519 public key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight digits: enough to tell peers apart in a log, not to recognise one.
    pub(crate) fn short(&self) -> impl fmt::Display + use<> {
        let [a, b, c, d, ..] = self.0;
        Short([a, b, c, d])
    }
}

/// The start of a [`PeerId`].
struct Short([u8; 4]);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl fmt::Display for PeerId {
    /// All 64 digits, lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl fmt::Debug for PeerId {
    /// The first eight digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.short())
    }
}

impl FromStr for PeerId {
    type Err = InvalidPeerId;

    /// Reads 64 digits of either case.
    ///
    /// # Errors
    /// [`InvalidPeerId`] for anything else.
    fn from_str(text: &str) -> Result<Self, InvalidPeerId> {
        hex::parse(text).map(Self).ok_or(InvalidPeerId)
    }
}

impl Serialize for PeerId {
    /// As its 64 digits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    /// From 64 digits.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The initiator of tests/vectors/sealwire-1.json.
    const SECRET: [u8; 32] = [0x11; 32];
    const PUBLIC: &str = "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";

    #[test]
    fn an_identity_survives_storage() {
        let identity = Identity::from_secret_bytes(SECRET);
        assert_eq!(*identity.secret_bytes(), SECRET);
        assert_eq!(identity.peer_id().to_string(), PUBLIC);
    }

    ///
    #[test]
    fn generated_identities_differ() {
        assert_ne!(
            Identity::generate().peer_id(),
            Identity::generate().peer_id()
        );
    }

    #[test]
    fn no_secret_byte_appears_in_debug() {
        let shown = format!("{:?}", Identity::from_secret_bytes(SECRET));
        assert_eq!(
            shown,
            "Identity { peer_id: PeerId(7b4e909b), key: Secret(..) }"
        );
    }

    #[test]
    fn a_peer_id_survives_text_and_serde() {
        let id: PeerId = PUBLIC.parse().unwrap();
        assert_eq!(id.to_string(), PUBLIC);
        assert_eq!(PUBLIC.to_uppercase().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("{PUBLIC:?}"));
        assert_eq!(serde_json::from_str::<PeerId>(&json).unwrap(), id);
    }

    #[test]
    fn other_texts_are_no_peer_id() {
        for text in [
            "",
            &PUBLIC[1..],
            &format!("{PUBLIC}0"),
            &PUBLIC.replace('7', "g"),
        ] {
            assert_eq!(text.parse::<PeerId>(), Err(InvalidPeerId));
        }
        assert!(serde_json::from_str::<PeerId>("7").is_err());
    }
}
