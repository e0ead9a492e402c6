//! An honest report of what protects a session.

use std::fmt;

use super::queue::Facts;
use crate::trust::PeerTrust;

/// How the connection runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Path {
    /// From device to device.
    Direct,
    /// Through a TURN server, which sees sizes and times but no content.
    Relayed,
    /// The transport does not tell.
    Unknown,
}

/// What protects a session, and what does not. Show it to people who ask: its `Display` is a few plain sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Security {
    /// How well the peer's key is known.
    pub trust: PeerTrust,
    /// How the connection runs.
    pub path: Path,
    /// Whether the connection's certificate was compared with the authenticated one by this crate; otherwise the
    /// WebRTC stack alone did. The encryption of messages does not depend on it.
    pub fingerprint_checked: bool,
}

impl Security {
    pub(super) fn of(facts: Option<Facts>) -> Self {
        let path = match facts.and_then(|facts| facts.relayed) {
            Some(true) => Path::Relayed,
            Some(false) => Path::Direct,
            None => Path::Unknown,
        };
        Self {
            trust: facts.map_or(PeerTrust::Unknown, |facts| facts.trust),
            path,
            fingerprint_checked: facts.is_some_and(|facts| facts.fingerprint_checked),
        }
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path {
            Path::Direct => "directly from device to device",
            Path::Relayed => "through a TURN server, which sees sizes and times",
            Path::Unknown => "on a path that the transport does not tell",
        };
        writeln!(f, "peer: {}", self.trust)?;
        writeln!(
            f,
            "secrecy: x25519 and ML-KEM-768 together; a later quantum computer does not open it"
        )?;
        writeln!(
            f,
            "authentication: x25519; post-quantum only as far as the invite's secret stayed secret"
        )?;
        writeln!(
            f,
            "forward secrecy: every frame has its own key, erased after use"
        )?;
        writeln!(f, "path: {path}")?;
        write!(
            f,
            "the signaling server: knows that two endpoints met, when, and from which addresses"
        )
    }
}
