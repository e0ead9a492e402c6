//! How far a peer's key is trusted (protocol.md §1.11). Not the storage of pins: that belongs to the host or a later layer.

use std::fmt;

use crate::identity::PeerId;
use crate::message::Timestamp;

/// What is known about the key of a peer, from least to most: the order of the variants is the order of trust.
///
/// The peer is its key. A name for it is chosen by the host, on this side only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PeerTrust {
    /// The host refuses this key.
    Blocked,
    /// Another key is pinned where this one appeared. Nothing is sent until the host accepts exactly this key.
    Changed {
        /// The key that is pinned.
        old: PeerId,
        /// The key that appeared.
        new: PeerId,
    },
    /// Never seen before: whoever sits in the middle could have put it there.
    Unknown,
    /// Seen before, and the same since: trust on first use.
    Pinned,
    /// It proved to hold the secret of a single-use invite or of a contact.
    Invited,
    /// People compared it.
    Verified {
        /// In which way.
        how: Verification,
        /// When, by this device's clock.
        when: Timestamp,
    },
}

/// How people compared keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verification {
    /// They read the 60 digits of a [`SafetyNumber`](crate::SafetyNumber) to each other.
    SafetyNumber,
    /// One scanned the QR code that the other's device showed.
    QrCode,
    /// They compared the short code of a session.
    ShortCode,
}

/// The least trust with which a session carries messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MinTrust {
    /// Anybody, save blocked and changed keys.
    Unknown,
    /// Keys seen before.
    Pinned,
    /// Keys that came with an invite or a contact.
    Invited,
    /// Keys that people compared.
    Verified,
}

impl PeerTrust {
    /// Whether a session that asks for `required` may carry messages. [`Blocked`](Self::Blocked) and
    /// [`Changed`](Self::Changed) never suffice.
    #[must_use]
    pub fn meets(self, required: MinTrust) -> bool {
        let reached = match self {
            Self::Blocked | Self::Changed { .. } => return false,
            Self::Unknown => MinTrust::Unknown,
            Self::Pinned => MinTrust::Pinned,
            Self::Invited => MinTrust::Invited,
            Self::Verified { .. } => MinTrust::Verified,
        };
        reached >= required
    }
}

impl fmt::Display for PeerTrust {
    /// One word for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "blocked",
            Self::Changed { .. } => "changed",
            Self::Unknown => "unknown",
            Self::Pinned => "pinned",
            Self::Invited => "invited",
            Self::Verified { .. } => "verified",
        })
    }
}

impl fmt::Display for MinTrust {
    /// One word for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Pinned => "pinned",
            Self::Invited => "invited",
            Self::Verified => "verified",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_least_to_most() -> [PeerTrust; 6] {
        let [old, new] = [PeerId::from_bytes([0xff; 32]), PeerId::from_bytes([0; 32])];
        [
            PeerTrust::Blocked,
            PeerTrust::Changed { old, new },
            PeerTrust::Unknown,
            PeerTrust::Pinned,
            PeerTrust::Invited,
            PeerTrust::Verified {
                how: Verification::SafetyNumber,
                when: Timestamp::from_unix_ms(0),
            },
        ]
    }

    ///
    #[test]
    fn trust_is_ordered_from_blocked_to_verified() {
        assert!(
            from_least_to_most()
                .windows(2)
                .all(|pair| pair[0] < pair[1])
        );
    }

    #[test]
    fn a_requirement_is_met_from_its_own_level_upwards() {
        let required = [
            MinTrust::Unknown,
            MinTrust::Pinned,
            MinTrust::Invited,
            MinTrust::Verified,
        ];
        for (needed, required) in required.into_iter().enumerate() {
            for (reached, trust) in from_least_to_most().into_iter().skip(2).enumerate() {
                assert_eq!(
                    trust.meets(required),
                    reached >= needed,
                    "{trust} for {required}"
                );
            }
        }
    }

    ///
    #[test]
    fn blocked_and_changed_keys_meet_no_requirement() {
        for trust in &from_least_to_most()[..2] {
            assert!(!trust.meets(MinTrust::Unknown), "{trust}");
        }
    }
}
