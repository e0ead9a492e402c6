//! Who is known: a key under a label that the host chose (a pin, R-197), and the secret that two contacts agreed to keep
//! . Not where they are kept (`store`), and not who may send (`trust.rs`).

mod contacts;

use std::fmt;

use zeroize::Zeroizing;

pub use contacts::Contacts;

use crate::crypto::kdf::{self, Pairing, PairingKind};
use crate::crypto::secret::Secret;
use crate::identity::PeerId;
use crate::message::Timestamp;
use crate::trust::{PeerTrust, Verification};

/// Bytes of the longest label: that of an open room's name.
pub const MAX_LABEL: usize = 256;

/// Contacts in the largest [`Contacts`].
pub const MAX_CONTACTS: usize = 16_384;

/// A peer that is remembered: its key, how far the key is trusted, and the secret shared with it, if there is one.
///
/// With a secret the two find each other again without an invite. Without one it is a pin: the key that is expected
/// under this label.
pub struct Contact {
    pub(crate) label: String,
    pub(crate) peer: PeerId,
    /// `Pinned`, `Invited` or `Verified`.
    pub(crate) trust: PeerTrust,
    pub(crate) blocked: bool,
    pub(crate) secrets: Secrets,
    pub(crate) added: Timestamp,
    pub(crate) seen: Timestamp,
}

/// The 32 bytes that two contacts share. **Sensitive**: whoever has them learns where the two meet, and with one of
/// the two identities also talks in its place.
///
/// Erased on drop; neither cloned nor printed.
pub struct ContactSecret(
    /// On the heap, so that moves leave no copies.
    Box<Secret>,
);

/// The secrets of one contact.
#[derive(Default)]
pub(crate) enum Secrets {
    /// It is a pin.
    #[default]
    None,
    /// The usual case.
    One(ContactSecret),
    /// They agreed again, and it is not yet known that both kept the newer.
    Two {
        current: ContactSecret,
        newer: ContactSecret,
    },
}

/// What cannot be done with a contact, or with a key under a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContactError {
    /// The label is empty or too long.
    #[error("a label has 1 to {MAX_LABEL} bytes, and this one has {len}")]
    BadLabel {
        /// Its length, in bytes.
        len: usize,
    },
    /// The label is that of another contact.
    #[error("the label {label:?} is taken: choose another one, or remove the contact")]
    LabelTaken {
        /// The label.
        label: String,
    },
    /// No contact has this label.
    #[error("no contact is called {label:?}")]
    NoSuchContact {
        /// The label.
        label: String,
    },
    /// Another key is pinned under the label. Nothing was changed.
    #[error(
        "{label:?} is known by {pinned:?}, not by {given:?}: ask the peer, and accept the new key only then"
    )]
    KeyDiffers {
        /// The label.
        label: String,
        /// The key that is pinned.
        pinned: PeerId,
        /// The key that was given.
        given: PeerId,
    },
    /// The key is blocked, or the trust that was given is one that no contact can have.
    #[error("a key that is {trust} cannot become a contact's")]
    Untrusted {
        /// What the key is.
        trust: PeerTrust,
    },
    /// The contact shares no secret with this device.
    #[error("no secret is shared with {label:?}: meet by an invite and pair again")]
    NotPaired {
        /// The label.
        label: String,
    },
    /// There is room for no more.
    #[error("there are {MAX_CONTACTS} contacts, which is the most: remove some")]
    TooMany,
}

impl Contact {
    /// A contact without a secret: `peer` is pinned under `label` as of `added`.
    ///
    /// `trust` is what is known of the key, for example [`Session::trust`](crate::session::Session::trust);
    /// [`PeerTrust::Unknown`] counts as [`PeerTrust::Pinned`], for from now on the key is known.
    ///
    /// # Errors
    /// [`ContactError::BadLabel`] unless the label has 1 to [`MAX_LABEL`] bytes; [`ContactError::Untrusted`] for a
    /// changed or blocked key.
    pub fn new(
        label: impl Into<String>,
        peer: PeerId,
        trust: PeerTrust,
        added: Timestamp,
    ) -> Result<Self, ContactError> {
        let label = label.into();
        check_label(&label)?;
        Ok(Self {
            label,
            peer,
            trust: lasting(trust)?,
            blocked: false,
            secrets: Secrets::None,
            added,
            seen: added,
        })
    }

    /// The same contact with a secret that both agreed to keep; it is trusted at least as [`PeerTrust::Invited`], for
    /// the peer proves to hold the secret whenever they meet. A secret that it had before is erased.
    #[must_use]
    pub fn with_secret(mut self, secret: ContactSecret) -> Self {
        self.secrets = Secrets::One(secret);
        self.trust = self.trust.max(PeerTrust::Invited);
        self
    }

    /// What the host calls it. The peer does not learn it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The key that is pinned: who it is.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// How far the pinned key is trusted: [`Pinned`](PeerTrust::Pinned), [`Invited`](PeerTrust::Invited),
    /// [`Verified`](PeerTrust::Verified) or [`Blocked`](PeerTrust::Blocked). What another key under this label gets
    /// says [`Contacts::trust`].
    #[must_use]
    pub fn trust(&self) -> PeerTrust {
        if self.blocked {
            PeerTrust::Blocked
        } else {
            self.trust
        }
    }

    /// When it was added, by this device's clock.
    #[must_use]
    pub fn added(&self) -> Timestamp {
        self.added
    }

    /// When a session with it was last noted ([`Contacts::met`]); [`added`](Self::added) if none was.
    #[must_use]
    pub fn seen(&self) -> Timestamp {
        self.seen
    }

    /// Whether the two can meet without an invite.
    #[must_use]
    pub fn is_paired(&self) -> bool {
        self.secret().is_some()
    }

    /// The secret shared with it, for hosts that store contacts by themselves.
    #[must_use]
    pub fn secret(&self) -> Option<&ContactSecret> {
        match &self.secrets {
            Secrets::None => None,
            Secrets::One(current) | Secrets::Two { current, .. } => Some(current),
        }
    }

    /// A newer secret that the peer perhaps does not have yet.
    #[must_use]
    pub fn newer_secret(&self) -> Option<&ContactSecret> {
        match &self.secrets {
            Secrets::None | Secrets::One(_) => None,
            Secrets::Two { newer, .. } => Some(newer),
        }
    }

    /// Psk, psk id and room for meeting this contact as `me`; none for a pin.
    #[doc(hidden)]
    #[must_use]
    pub fn pairing(&self, me: PeerId) -> Option<Pairing> {
        self.secret().map(|secret| secret.pairing(me, self.peer))
    }
}

impl ContactSecret {
    /// The secret that [`secret_bytes`](Self::secret_bytes) gave. Erase your own copy of the bytes afterwards.
    #[must_use]
    pub fn from_secret_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self::copied(&bytes)
    }

    /// Its bytes, for storing them. The copy returned here erases itself when dropped.
    #[must_use]
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.0.expose())
    }

    /// Psk, psk id and room of a meeting of `me` and `peer` (§1.1).
    #[doc(hidden)]
    #[must_use]
    pub fn pairing(&self, me: PeerId, peer: PeerId) -> Pairing {
        let keys = [me.min(peer), me.max(peer)].map(|key| *key.as_bytes());
        kdf::pairing(PairingKind::Contact, &self.0, keys.as_flattened())
    }

    /// A copy of `bytes`, made where it stays.
    pub(crate) fn copied(bytes: &[u8; 32]) -> Self {
        let mut secret = Box::new(Secret::zeroed());
        secret.bytes_mut().copy_from_slice(bytes);
        Self(secret)
    }
}

impl From<&Secret> for ContactSecret {
    /// The `contact` secret of an epoch, which outlives the session from here on.
    fn from(secret: &Secret) -> Self {
        Self::copied(secret.expose())
    }
}

impl fmt::Debug for ContactSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for Contact {
    /// Everything but the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            label,
            peer,
            trust: _,
            blocked: _,
            secrets: _,
            added,
            seen,
        } = self;
        f.debug_struct("Contact")
            .field("label", label)
            .field("peer", peer)
            .field("trust", &self.trust())
            .field("paired", &self.is_paired())
            .field("added", added)
            .field("seen", seen)
            .finish()
    }
}

fn check_label(label: &str) -> Result<(), ContactError> {
    match label.len() {
        1..=MAX_LABEL => Ok(()),
        len => Err(ContactError::BadLabel { len }),
    }
}

/// The trust that outlasts a session in which it was `trust`.
fn lasting(trust: PeerTrust) -> Result<PeerTrust, ContactError> {
    match trust {
        PeerTrust::Blocked | PeerTrust::Changed { .. } => Err(ContactError::Untrusted { trust }),
        PeerTrust::Unknown => Ok(PeerTrust::Pinned),
        PeerTrust::Pinned | PeerTrust::Invited | PeerTrust::Verified { .. } => Ok(trust),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

    fn peer(byte: u8) -> PeerId {
        PeerId::from_bytes([byte; 32])
    }

    #[test]
    fn both_contacts_derive_the_pairing_of_the_vectors() {
        // `contact` of tests/vectors/sealwire-1.json, between the identities of its handshakes.
        let [one, other] = [[0x11; 32], [0x12; 32]]
            .map(|secret| crate::Identity::from_secret_bytes(secret).peer_id());
        let contact = |peer| {
            Contact::new("peer", peer, PeerTrust::Unknown, NOW)
                .unwrap()
                .with_secret(ContactSecret::from_secret_bytes([0xa2; 32]))
        };
        for (me, peer) in [(one, other), (other, one)] {
            let Pairing { psk, psk_id, room } = contact(peer).pairing(me).unwrap();
            let expected =
                hex::parse("ab747a676e604f1ef2de68611800b45e6eb1c900b52131e5aad250b22e0cb038")
                    .unwrap();
            assert_eq!(psk.expose(), &expected);
            assert_eq!(Some(psk_id), hex::parse("262028d1dd8433f42800fb0ffa10eb3f"));
            let expected =
                hex::parse("c49ff0f9d304b20c7e50ce34ee883d190c237ff1edf4571db66f0e8584143f45");
            assert_eq!(room, expected);
        }
    }

    #[test]
    fn a_pin_has_no_meeting_place() {
        let pin = Contact::new("lobby", peer(1), PeerTrust::Unknown, NOW).unwrap();
        assert!(!pin.is_paired() && pin.pairing(peer(2)).is_none());
        assert_eq!(pin.trust(), PeerTrust::Pinned);
    }

    #[test]
    fn a_shared_secret_is_worth_an_invite_and_takes_no_verification_away() {
        let secret = || ContactSecret::from_secret_bytes([3; 32]);
        let verified = PeerTrust::Verified {
            how: Verification::QrCode,
            when: NOW,
        };
        for (before, after) in [
            (PeerTrust::Unknown, PeerTrust::Invited),
            (PeerTrust::Invited, PeerTrust::Invited),
            (verified, verified),
        ] {
            let contact = Contact::new("a", peer(1), before, NOW).unwrap();
            assert_eq!(contact.with_secret(secret()).trust(), after);
        }
    }

    #[test]
    fn changed_and_blocked_keys_and_bad_labels_make_no_contact() {
        let changed = PeerTrust::Changed {
            old: peer(1),
            new: peer(2),
        };
        for trust in [changed, PeerTrust::Blocked] {
            let made = Contact::new("a", peer(2), trust, NOW);
            assert_eq!(made.unwrap_err(), ContactError::Untrusted { trust });
        }
        for len in [0, MAX_LABEL + 1] {
            let made = Contact::new("x".repeat(len), peer(1), PeerTrust::Unknown, NOW);
            assert_eq!(made.unwrap_err(), ContactError::BadLabel { len });
        }
        Contact::new("x".repeat(MAX_LABEL), peer(1), PeerTrust::Unknown, NOW).unwrap();
    }

    #[test]
    fn no_secret_byte_appears_in_debug() {
        let secret = ContactSecret::from_secret_bytes([0xab; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let contact = Contact::new("Ann", peer(1), PeerTrust::Unknown, NOW).unwrap();
        let shown = format!("{:?}", contact.with_secret(secret));
        assert!(
            shown.contains("paired: true") && !shown.contains("171"),
            "{shown}"
        );
    }
}
