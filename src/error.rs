//! Every failure, as one enum with a variant for each thing that a host can react to. The causes that only explain
//! ([`ProtocolViolation`]) and the numbers of the wire ([`RefusalCode`], [`CloseCode`]) are in the files below.
//!
//! Sentences are for people and may change; match on variants.

mod codes;
mod violation;

use std::time::Duration;

pub use codes::{CloseCode, Evidence, HandshakeStage, RefusalCode};
pub use violation::ProtocolViolation;

use crate::identity::PeerId;
use crate::invite::InviteError;
use crate::message::CodecError;
use crate::trust::{MinTrust, PeerTrust};

/// What the crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in three families: the caller misused something, the other side (or somebody between) misbehaved,
/// or the way to the peer was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- The caller misused something: the same call fails again until the call changes. ---
    /// The text is no invite, or no invite can be made of these parts.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// The address of a signaling server may not be used.
    #[error("{url:?} is not a usable signaling address: {reason}")]
    InvalidUrl {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A setting is out of its range.
    #[error("the configuration is not valid: {0}")]
    InvalidConfig(&'static str),
    /// The message is longer than both sides accept.
    #[error(
        "the message has {len} bytes, and this session carries at most {max}: send it in parts"
    )]
    MessageTooLarge {
        /// Its encoded length, in bytes.
        len: usize,
        /// The smaller of both sides' [`max_message`](crate::Limits::max_message).
        max: usize,
    },
    /// A message cannot be written as bytes, or the bytes that came are no message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The peer is not trusted enough. Nothing was sent, and nothing is kept to be sent later.
    #[error(
        "the peer is {trust} and this session asks for {required}: verify the peer, or ask for less"
    )]
    Untrusted {
        /// What the peer is.
        trust: PeerTrust,
        /// What the session asks for.
        required: MinTrust,
    },
    /// The number that was compared is not this session's.
    #[error(
        "the safety numbers differ: somebody is in the middle, or the number is of another session"
    )]
    SafetyNumberDiffers,
    /// The short code that was compared is not the one that was shown.
    #[error("the short codes differ: somebody is in the middle, or it is an older code")]
    ShortCodeDiffers,
    /// Both ends use the same identity: every device needs its own.
    #[error("the peer has this device's own key: give each device an identity of its own")]
    Selfie,

    // --- The other side, or somebody between, misbehaved. ---
    /// The invite can no longer be redeemed.
    #[error("the invite expired ({evidence}): ask for a new one")]
    InviteExpired {
        /// Who says so; [`Evidence::Authenticated`] also stands for the date in the invite and this device's clock.
        evidence: Evidence,
    },
    /// Somebody redeemed the invite before. If it was not you, then somebody else holds it.
    #[error(
        "the invite was used before ({evidence}): ask for a new one, and ask who has the old one"
    )]
    InviteUsed {
        /// Who says so.
        evidence: Evidence,
    },
    /// Somebody who holds the invite, but is not the one who made it, answered. It ends one attempt: the wait for the
    /// inviter goes on.
    #[error("{found:?} answered with the invite's secret, and did not make the invite")]
    NotInviter {
        /// Who answered.
        found: PeerId,
    },
    /// The peer does not want this session.
    #[error("the peer refused: {code} ({evidence})")]
    Refused {
        /// Why.
        code: RefusalCode,
        /// Who says so.
        evidence: Evidence,
    },
    /// The key is another than the one known for this peer. Nothing was sent to it.
    #[error(
        "the peer's key changed from {expected:?} to {found:?}: ask the peer, and accept the new key only then"
    )]
    KeyChanged {
        /// The key that is known.
        expected: PeerId,
        /// The key that appeared.
        found: PeerId,
    },
    /// Somebody made both ends use an older version than they could.
    #[error(
        "version {used} was used, and both ends speak {possible}: somebody between them interfered"
    )]
    Downgrade {
        /// The version of the handshake.
        used: u8,
        /// The newest version that both ends speak, or 0 when the peer named one that does not exist.
        possible: u8,
    },
    /// The handshake did not prove what it must. It says no more, so that an attacker learns nothing from it.
    #[error(
        "the handshake failed at {stage}: the peer may hold another invite, or somebody interfered"
    )]
    HandshakeFailed {
        /// Where.
        stage: HandshakeStage,
    },
    /// The connection leads to another device than the one that the handshake named.
    #[error(
        "the connection's certificate is not the one that the peer announced: somebody is in the middle"
    )]
    FingerprintMismatch,
    /// The peer broke the protocol within a session; the session ended and its keys are erased.
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[from] ProtocolViolation),
    /// The server answered something that is not this protocol.
    #[error("the signaling server at {server} does not speak this protocol: {reason}")]
    ServerGarbage {
        /// Its address.
        server: String,
        /// What came.
        reason: String,
    },
    /// The server said no.
    #[error("the signaling server refused: {code} ({message})")]
    ServerRefused {
        /// The error code of its envelope, or `close_<number>`.
        code: String,
        /// Its words.
        message: String,
    },
    /// One side ended the session.
    #[error("the session was closed: {code}{}", quoted(reason))]
    Closed {
        /// Why.
        code: CloseCode,
        /// Its words, at most 128 bytes.
        reason: String,
    },

    // --- The way to the peer was lost, or never found. ---
    /// No connection to the server.
    #[error("the signaling server at {server} cannot be reached: {reason}")]
    ServerUnreachable {
        /// Its address.
        server: String,
        /// What the network said.
        reason: String,
    },
    /// Nobody came.
    #[error("nobody came within {waited:?}: ask the peer to connect at the same time")]
    PeerAbsent {
        /// How long this side waited.
        waited: Duration,
    },
    /// The next step of the handshake did not come in time.
    #[error("the peer did not answer in time at {stage}")]
    Timeout {
        /// What was awaited.
        stage: HandshakeStage,
    },
    /// The connection was lost and did not come back in time.
    #[error("the connection was lost with {unacked} messages not confirmed")]
    Disconnected {
        /// Messages sent and never confirmed: the peer may or may not have them.
        unacked: u64,
    },
    /// The peer came back without the old session, for it was restarted.
    #[error(
        "the peer was restarted with {unacked} messages not confirmed: send again what matters"
    )]
    SessionReset {
        /// Messages sent and never confirmed: the peer may or may not have them.
        unacked: u64,
    },
    /// The peer connection could not be made or failed.
    #[error("the connection to the peer failed: {0}")]
    Transport(String),
}

impl Error {
    /// Its name in snake case, for bindings and logs: one word per variant, which stays the same.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invite(_) => "invite",
            Self::InvalidUrl { .. } => "invalid_url",
            Self::InvalidConfig(_) => "invalid_config",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::Codec(_) => "codec",
            Self::Untrusted { .. } => "untrusted",
            Self::SafetyNumberDiffers => "safety_number_differs",
            Self::ShortCodeDiffers => "short_code_differs",
            Self::Selfie => "selfie",
            Self::InviteExpired { .. } => "invite_expired",
            Self::InviteUsed { .. } => "invite_used",
            Self::NotInviter { .. } => "not_inviter",
            Self::Refused { .. } => "refused",
            Self::KeyChanged { .. } => "key_changed",
            Self::Downgrade { .. } => "downgrade",
            Self::HandshakeFailed { .. } => "handshake_failed",
            Self::FingerprintMismatch => "fingerprint_mismatch",
            Self::Protocol(_) => "protocol",
            Self::ServerGarbage { .. } => "server_garbage",
            Self::ServerRefused { .. } => "server_refused",
            Self::Closed { .. } => "closed",
            Self::ServerUnreachable { .. } => "server_unreachable",
            Self::PeerAbsent { .. } => "peer_absent",
            Self::Timeout { .. } => "timeout",
            Self::Disconnected { .. } => "disconnected",
            Self::SessionReset { .. } => "session_reset",
            Self::Transport(_) => "transport",
        }
    }

    /// Whether the same call may succeed later, with nothing changed but the time.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::HandshakeFailed { .. }
            | Self::ServerRefused { .. }
            | Self::ServerUnreachable { .. }
            | Self::PeerAbsent { .. }
            | Self::Timeout { .. }
            | Self::Disconnected { .. }
            | Self::SessionReset { .. }
            | Self::Transport(_) => true,
            Self::Refused { code, .. } => *code == RefusalCode::Busy,
            Self::Invite(_)
            | Self::InvalidUrl { .. }
            | Self::InvalidConfig(_)
            | Self::MessageTooLarge { .. }
            | Self::Codec(_)
            | Self::Untrusted { .. }
            | Self::SafetyNumberDiffers
            | Self::ShortCodeDiffers
            | Self::Selfie
            | Self::InviteExpired { .. }
            | Self::InviteUsed { .. }
            | Self::NotInviter { .. }
            | Self::KeyChanged { .. }
            | Self::Downgrade { .. }
            | Self::FingerprintMismatch
            | Self::Protocol(_)
            | Self::ServerGarbage { .. }
            | Self::Closed { .. } => false,
        }
    }

    /// Whether it smells of an attack: worth showing to people, not only a log. An accident can look the same.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        match self {
            Self::InviteUsed { .. }
            | Self::SafetyNumberDiffers
            | Self::ShortCodeDiffers
            | Self::NotInviter { .. }
            | Self::KeyChanged { .. }
            | Self::Downgrade { .. }
            | Self::HandshakeFailed { .. }
            | Self::FingerprintMismatch
            | Self::Protocol(_) => true,
            Self::Invite(_)
            | Self::InvalidUrl { .. }
            | Self::InvalidConfig(_)
            | Self::MessageTooLarge { .. }
            | Self::Codec(_)
            | Self::Untrusted { .. }
            | Self::Selfie
            | Self::InviteExpired { .. }
            | Self::Refused { .. }
            | Self::ServerGarbage { .. }
            | Self::ServerRefused { .. }
            | Self::Closed { .. }
            | Self::ServerUnreachable { .. }
            | Self::PeerAbsent { .. }
            | Self::Timeout { .. }
            | Self::Disconnected { .. }
            | Self::SessionReset { .. }
            | Self::Transport(_) => false,
        }
    }
}

/// The peer's words behind a comma, if there are any; escaped, so that they cannot steer a terminal.
fn quoted(reason: &str) -> String {
    if reason.is_empty() {
        return String::new();
    }
    format!(", {reason:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_enough_to_be_returned_by_value() {
        assert!(size_of::<Error>() <= 128, "{} bytes", size_of::<Error>());
    }

    #[test]
    fn sentences_carry_their_numbers_and_what_to_do() {
        let [expected, found] = [
            PeerId::from_bytes([0xaa; 32]),
            PeerId::from_bytes([0xbb; 32]),
        ];
        let cases = [
            (
                Error::MessageTooLarge {
                    len: 5_000_000,
                    max: 4_194_304,
                },
                "the message has 5000000 bytes, and this session carries at most 4194304: send it in parts",
            ),
            (
                Error::KeyChanged { expected, found },
                "the peer's key changed from PeerId(aaaaaaaa) to PeerId(bbbbbbbb): ask the peer, and accept the new \
                 key only then",
            ),
            (
                Error::Closed {
                    code: CloseCode::GOING_AWAY,
                    reason: String::new(),
                },
                "the session was closed: going away (1)",
            ),
            (
                Error::Closed {
                    code: CloseCode::NORMAL,
                    reason: "bye\u{1b}[2J".into(),
                },
                r#"the session was closed: normal (0), "bye\u{1b}[2J""#,
            ),
            (
                Error::PeerAbsent {
                    waited: Duration::from_secs(60),
                },
                "nobody came within 60s: ask the peer to connect at the same time",
            ),
        ];
        for (error, sentence) in cases {
            assert_eq!(error.to_string(), sentence);
        }
    }

    #[test]
    fn a_busy_peer_may_be_asked_again_and_a_changed_key_may_not() {
        let refused = |code| Error::Refused {
            code,
            evidence: Evidence::Hint,
        };
        assert!(refused(RefusalCode::Busy).is_retryable());
        assert!(!refused(RefusalCode::Used).is_retryable());
        let key = PeerId::from_bytes([1; 32]);
        let changed = Error::KeyChanged {
            expected: key,
            found: key,
        };
        assert!(!changed.is_retryable() && changed.is_suspicious());
    }
}
