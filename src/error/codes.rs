//! The numbers by which peers refuse and close (protocol.md §1.2, §1.8), and the words that explain an error.

use std::fmt;

/// Who says that something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Evidence {
    /// A hint that came by the server, which could have made it up.
    Hint,
    /// The peer itself, or what this device knows for certain.
    Authenticated,
}

/// Where a handshake stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeStage {
    /// The first message, HS1.
    Hello,
    /// The second message, HS2: the initiator learns who answers.
    Answer,
    /// The third message, HS3: the responder learns who asked.
    Proof,
    /// The messages after the handshake that still travel by the server, SIG.
    Signal,
    /// Making the peer connection.
    Connect,
    /// The first frames over the data channel, READY and READY_OK.
    Ready,
}

/// Why a peer refuses an attempt: the code of REJECT and BYE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// 1: it does not speak this version.
    Version,
    /// 2: it does not know this pairing secret.
    UnknownPsk,
    /// 3: the invite was used before.
    Used,
    /// 4: the invite expired.
    Expired,
    /// 5: it is in a session with somebody else.
    Busy,
    /// 6: its host does not want this peer.
    Policy,
}

/// Why a session was closed. 0 to 6 have names here; the application's own are 0x40 to 0x7f.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u8);

impl RefusalCode {
    /// The code of a byte; `None` for those without a meaning, which are ignored.
    #[must_use]
    pub const fn from_wire(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Version,
            2 => Self::UnknownPsk,
            3 => Self::Used,
            4 => Self::Expired,
            5 => Self::Busy,
            6 => Self::Policy,
            _ => return None,
        })
    }

    /// Its byte.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::UnknownPsk => 2,
            Self::Used => 3,
            Self::Expired => 4,
            Self::Busy => 5,
            Self::Policy => 6,
        }
    }
}

impl CloseCode {
    /// All is done.
    pub const NORMAL: Self = Self(0);
    /// The process or the page ends.
    pub const GOING_AWAY: Self = Self(1);
    /// A counter came to its end: start a new session.
    pub const EXHAUSTED: Self = Self(2);
    /// New keys were due and could not be agreed on.
    pub const REKEY_TIMEOUT: Self = Self(3);
    /// The peer's key is not trusted enough.
    pub const UNTRUSTED: Self = Self(4);
    /// The two copies of the history differ.
    pub const HISTORY_DIVERGED: Self = Self(5);
    /// A limit was passed.
    pub const LIMIT: Self = Self(6);

    const APPLICATION: std::ops::RangeInclusive<u8> = 0x40..=0x7f;

    /// A code of the application, 0x40 to 0x7f as on the wire; `None` outside that range.
    #[must_use]
    pub fn application(code: u8) -> Option<Self> {
        Self::APPLICATION.contains(&code).then_some(Self(code))
    }

    /// The code of a byte. Those without a meaning count as [`GOING_AWAY`](Self::GOING_AWAY).
    #[must_use]
    pub fn from_wire(code: u8) -> Self {
        match code {
            0..=6 => Self(code),
            _ => Self::application(code).unwrap_or(Self::GOING_AWAY),
        }
    }

    /// Its byte.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        self.0
    }

    /// Its name.
    const fn name(self) -> &'static str {
        match self {
            Self::NORMAL => "normal",
            Self::GOING_AWAY => "going away",
            Self::EXHAUSTED => "counter exhausted",
            Self::REKEY_TIMEOUT => "rekey timeout",
            Self::UNTRUSTED => "not trusted",
            Self::HISTORY_DIVERGED => "history diverged",
            Self::LIMIT => "limit passed",
            _ => "application code",
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hint => "a hint that the server could have forged",
            Self::Authenticated => "authenticated",
        })
    }
}

impl fmt::Display for HandshakeStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "the first message",
            Self::Answer => "the second message",
            Self::Proof => "the third message",
            Self::Signal => "the exchange of addresses",
            Self::Connect => "connecting",
            Self::Ready => "the first frames",
        })
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "it does not speak this version",
            Self::UnknownPsk => "it does not know this pairing",
            Self::Used => "the invite was used before",
            Self::Expired => "the invite expired",
            Self::Busy => "it is in a session with somebody else",
            Self::Policy => "it does not accept this peer",
        })
    }
}

impl fmt::Display for CloseCode {
    /// The name and the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_codes_with_a_meaning_survive_the_wire_and_others_are_none() {
        for code in 0..=u8::MAX {
            let read = RefusalCode::from_wire(code).map(RefusalCode::to_wire);
            assert_eq!(read, (1..=6).contains(&code).then_some(code));
        }
    }

    #[test]
    fn close_codes_without_a_meaning_count_as_going_away() {
        for code in 0..=u8::MAX {
            let known = code <= 6 || (0x40..=0x7f).contains(&code);
            assert_eq!(
                CloseCode::from_wire(code).to_wire(),
                if known { code } else { 1 }
            );
        }
        assert_eq!(CloseCode::application(0x3f), None);
        assert_eq!(CloseCode::application(0x80), None);
    }
}
