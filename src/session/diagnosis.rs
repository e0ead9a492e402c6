//! What stands in the way of a connection, in words: one finding for each thing that somebody can mend.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use super::Path;
use crate::{
    error::{Addresses, Error, HandshakeStage, RefusalCode},
    identity::PeerId,
};

/// What was found by `Builder::diagnose` or `Session::diagnose`, which are there with the feature `client`. Its `Display` is one plain sentence a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// What stands in the way, or may: the first is the most likely reason.
    pub findings: Vec<Finding>,
    /// Whether somebody else was in the room at that moment; `None` if it was not looked at.
    pub peer_present: Option<bool>,
    /// Where STUN and TURN servers saw packets of this device come from.
    pub public_addresses: Vec<SocketAddr>,
    /// Addresses of the TURN servers that would relay, as they were given.
    pub relays: Vec<String>,
    /// How a live session's connection runs.
    pub path: Option<Path>,
}

impl Diagnosis {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, rest)) = self.findings.split_last() else {
            return f.write_str("Nothing stands in the way that can be seen from this device.");
        };
        for finding in rest {
            writeln!(f, "{finding}")?;
        }
        write!(f, "{last}")
    }
}

/// What went wrong last in a session.
#[derive(Debug, Default)]
pub(super) struct Fault(Mutex<Option<Error>>);

impl Fault {
    pub(super) fn note(&self, error: &Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    /// It is mended.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    #[cfg(feature = "client")]
    pub(super) fn last(&self) -> Option<Error> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}

/// One thing that stands in the way, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The signaling server does not answer.
    ServerUnreachable {
        /// Its address.
        server: String,
        /// What the network said.
        reason: String,
    },
    /// The signaling server said no.
    ServerRefused {
        /// Its code.
        code: String,
        /// Its words.
        message: String,
    },
    /// Something else than a signaling server answers.
    NotAServer {
        /// Its address.
        server: String,
        /// What came.
        reason: String,
    },
    /// Nobody else is in the room.
    PeerAbsent,
    /// The peer speaks another version of the protocol.
    VersionMismatch,
    /// The peer does not want this session.
    PeerRefused {
        /// Why.
        code: RefusalCode,
    },
    /// The peer's key is not the one that is known.
    KeyChanged {
        /// The key that is known.
        expected: PeerId,
        /// The key that appeared.
        found: PeerId,
    },
    /// The invite expired, or was used before.
    InviteUnusable,
    /// The peer answers, but does not know the same secret.
    HandshakeFailed,
    /// The peer answered, but fell silent on the way.
    PeerSilent,
    /// The peers met, and no packet came through between them.
    NoPath {
        /// What this side told the peer.
        own: Addresses,
        /// What the peer told.
        peer: Addresses,
    },
    /// There is neither a STUN nor a TURN server.
    NoIceServers,
    /// No STUN or TURN server told this device its public address.
    NoPublicAddress,
    /// The network takes another public port for each destination.
    SymmetricNat,
    /// UDP does not get through, and TCP does.
    UdpBlocked,
    /// There is no TURN server.
    NoRelay,
    /// Only relayed addresses may be told to the peer, and there are none.
    NothingToTell,
    /// A TURN server does not take the credentials, or gives no more.
    RelayRefused {
        /// Its address.
        url: String,
        /// Its code: 401 for credentials, 486 for a quota, 508 for no room left.
        code: u16,
        /// The user name says that the credentials ended before now, by this device's clock.
        expired: bool,
    },
    /// A TURN server does not answer.
    RelayUnreachable {
        /// Its address.
        url: String,
        /// What the network said; empty where it said nothing.
        reason: String,
    },
    /// A TURN server does not answer over UDP, and does over TCP.
    RelayOverTcpOnly {
        /// Its address.
        url: String,
    },
    /// A setting cannot be used as it is.
    Misconfigured {
        /// What is wrong.
        reason: String,
    },
    /// Something else failed.
    Other(Error),
}

impl Finding {
    /// What an error of [`Builder::connect`](super::Builder::connect), or one that an event brought, says about the way
    /// to the peer. `None` where it says nothing: the session was closed, or the caller misused something.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        Some(match error {
            Error::ServerUnreachable { server, reason } => Self::ServerUnreachable {
                server: server.clone(),
                reason: reason.clone(),
            },
            Error::ServerRefused { code, message } => Self::ServerRefused {
                code: code.clone(),
                message: message.clone(),
            },
            Error::ServerGarbage { server, reason } => Self::NotAServer {
                server: server.clone(),
                reason: reason.clone(),
            },
            Error::PeerAbsent { .. } => Self::PeerAbsent,
            Error::Downgrade { .. } => Self::VersionMismatch,
            Error::Refused { code, .. } => match code {
                RefusalCode::Version => Self::VersionMismatch,
                RefusalCode::UnknownPsk => Self::HandshakeFailed,
                RefusalCode::Used | RefusalCode::Expired => Self::InviteUnusable,
                RefusalCode::Busy | RefusalCode::Policy => Self::PeerRefused { code: *code },
            },
            Error::InviteExpired { .. } | Error::InviteUsed { .. } => Self::InviteUnusable,
            Error::KeyChanged { expected, found } => Self::KeyChanged {
                expected: *expected,
                found: *found,
            },
            Error::HandshakeFailed {
                stage: HandshakeStage::Connect,
            }
            | Error::Timeout { .. } => Self::PeerSilent,
            Error::NotInviter { .. } | Error::HandshakeFailed { .. } => Self::HandshakeFailed,
            Error::NoPath { own, peer } => Self::NoPath {
                own: *own,
                peer: *peer,
            },
            Error::InvalidUrl { .. }
            | Error::InvalidIceServer { .. }
            | Error::InvalidConfig(_)
            | Error::Invite(_)
            | Error::Selfie => Self::Misconfigured {
                reason: error.to_string(),
            },
            Error::FingerprintMismatch
            | Error::History(_)
            | Error::Protocol(_)
            | Error::Disconnected { .. }
            | Error::Transport(_) => Self::Other(error.clone()),
            Error::MessageTooLarge { .. }
            | Error::Codec(_)
            | Error::Untrusted { .. }
            | Error::SafetyNumberDiffers
            | Error::ShortCodeDiffers
            | Error::SessionReset { .. }
            | Error::Closed { .. } => return None,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerUnreachable { server, reason } => write!(
                f,
                "The signaling server at {server} cannot be reached ({reason}): check its address, and whether this \
                 device is online."
            ),
            Self::ServerRefused { code, message } => write!(
                f,
                "The signaling server refused ({code}, {message:?}): check the token in its address, or wait."
            ),
            Self::NotAServer { server, reason } => write!(
                f,
                "What answers at {server} is no signaling server ({reason}): check the address and its path."
            ),
            Self::PeerAbsent => f.write_str(
                "Nobody else is in the room: the peer has to connect at the same time, to the same server.",
            ),
            Self::VersionMismatch => f.write_str(
                "The peer speaks another version of the protocol: update the older of both apps.",
            ),
            Self::PeerRefused { code } => {
                write!(f, "The peer refused ({code}): ask the peer.")
            }
            Self::KeyChanged { expected, found } => write!(
                f,
                "The peer's key changed from {expected:?} to {found:?}: ask the peer by another way whether that is so, \
                 and accept the new key only then."
            ),
            Self::InviteUnusable => {
                f.write_str("The invite expired or was used before: ask for a new one.")
            }
            Self::HandshakeFailed => f.write_str(
                "Who answered does not hold the same invite or key: ask for a new invite.",
            ),
            Self::PeerSilent => f.write_str(
                "The peer was found, and fell silent before the connection was made: let both sides try again.",
            ),
            Self::NoPath { own, peer } => write_no_path(f, *own, *peer),
            Self::NoIceServers => f.write_str(
                "There is neither a STUN nor a TURN server, so only devices in the same network find each other: \
                 configure both.",
            ),
            Self::NoPublicAddress => f.write_str(
                "No STUN server told this device its public address: check their addresses, and whether the network \
                 lets UDP through.",
            ),
            Self::SymmetricNat => f.write_str(
                "This network takes another public port for each destination (a symmetric NAT), so most peers reach \
                 this device by a TURN server only.",
            ),
            Self::UdpBlocked => f.write_str(
                "This network lets no UDP through: a TURN server over TCP (turn:host:port?transport=tcp) is needed.",
            ),
            Self::NoRelay => f.write_str(
                "There is no TURN server, so peers behind strict networks cannot be reached: configure one.",
            ),
            Self::NothingToTell => f.write_str(
                "Only relayed addresses may be told to the peer, and no TURN server gives one: mend the TURN server, or \
                 allow all addresses.",
            ),
            Self::RelayRefused {
                url, expired: true, ..
            } => write!(
                f,
                "The credentials for the TURN server {url} expired: get new ones."
            ),
            Self::RelayRefused {
                url, code: 401, ..
            } => write!(
                f,
                "The TURN server {url} refused the user name or password (401): check both, and the clocks if they \
                 expire."
            ),
            Self::RelayRefused { url, code, .. } => write!(
                f,
                "The TURN server {url} gives no address (error {code}): look into its log and quotas."
            ),
            Self::RelayUnreachable { url, reason } if reason.is_empty() => write!(
                f,
                "The TURN server {url} does not answer: check its address and the firewalls on the way."
            ),
            Self::RelayUnreachable { url, reason } => write!(
                f,
                "The TURN server {url} cannot be used ({reason}): check its address and the firewalls on the way."
            ),
            Self::RelayOverTcpOnly { url } => write!(
                f,
                "The TURN server {url} answers over TCP only: add its address with ?transport=tcp."
            ),
            Self::Misconfigured { reason } => write!(f, "A setting cannot be used: {reason}."),
            Self::Other(error) => write!(f, "It failed otherwise: {error}."),
        }
    }
}

/// The kinds that are missing say what to mend.
fn write_no_path(f: &mut fmt::Formatter<'_>, own: Addresses, peer: Addresses) -> fmt::Result {
    f.write_str("Both sides met, and no packet came through between them: ")?;
    let remedy = if own.relayed == 0 && peer.relayed == 0 {
        "neither had a TURN server that relays, and one of them needs it"
    } else if own.relayed == 0 {
        "this side had no TURN server that relays, and the peer's did not reach it"
    } else if peer.relayed == 0 {
        "the peer had no TURN server that relays, and could not reach this side's"
    } else {
        "both had TURN servers, which did not reach each other"
    };
    write!(f, "{remedy} (here {own}; the peer {peer}).")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Evidence;

    #[test]
    fn every_finding_is_one_sentence() {
        let key = PeerId::from_bytes([7; 32]);
        let (url, reason) = ("turn:a".to_owned(), "no".to_owned());
        let addresses = Addresses::default();
        let relay = |code, expired| Finding::RelayRefused {
            url: url.clone(),
            code,
            expired,
        };
        let findings = vec![
            Finding::ServerUnreachable {
                server: "ws://a".into(),
                reason: reason.clone(),
            },
            Finding::ServerRefused {
                code: "x".into(),
                message: "y".into(),
            },
            Finding::NotAServer {
                server: "ws://a".into(),
                reason: reason.clone(),
            },
            Finding::PeerAbsent,
            Finding::VersionMismatch,
            Finding::PeerRefused {
                code: RefusalCode::Busy,
            },
            Finding::KeyChanged {
                expected: key,
                found: key,
            },
            Finding::InviteUnusable,
            Finding::HandshakeFailed,
            Finding::PeerSilent,
            Finding::NoPath {
                own: addresses,
                peer: addresses,
            },
            Finding::NoIceServers,
            Finding::NoPublicAddress,
            Finding::SymmetricNat,
            Finding::UdpBlocked,
            Finding::NoRelay,
            Finding::NothingToTell,
            relay(401, true),
            relay(401, false),
            relay(486, false),
            Finding::RelayUnreachable {
                url: url.clone(),
                reason: String::new(),
            },
            Finding::RelayUnreachable {
                url: url.clone(),
                reason: reason.clone(),
            },
            Finding::RelayOverTcpOnly { url: url.clone() },
            Finding::Misconfigured { reason },
            Finding::Other(Error::FingerprintMismatch),
        ];
        let diagnosis = Diagnosis {
            findings,
            ..Diagnosis::default()
        };
        let text = diagnosis.to_string();
        assert_eq!(text.lines().count(), diagnosis.findings.len());
        for line in text.lines() {
            assert!(
                line.starts_with(|first: char| first.is_uppercase()),
                "{line}"
            );
            assert!(line.ends_with('.') && !line.contains("  "), "{line}");
        }
        assert!(Diagnosis::default().is_clean());
        assert_eq!(Diagnosis::default().to_string().lines().count(), 1);
    }

    #[test]
    fn errors_lead_to_findings() {
        let evidence = Evidence::Hint;
        let refused = |code| Finding::of(&Error::Refused { code, evidence });
        assert_eq!(
            refused(RefusalCode::Version),
            Some(Finding::VersionMismatch)
        );
        assert_eq!(refused(RefusalCode::Used), Some(Finding::InviteUnusable));
        let code = RefusalCode::Policy;
        assert_eq!(refused(code), Some(Finding::PeerRefused { code }));
        let stage = HandshakeStage::Ready;
        assert_eq!(
            Finding::of(&Error::Timeout { stage }),
            Some(Finding::PeerSilent)
        );
        assert_eq!(Finding::of(&Error::SafetyNumberDiffers), None);
    }
}
