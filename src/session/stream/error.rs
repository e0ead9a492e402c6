//! Why a stream or a file did not get there.

use std::{io, path::PathBuf};

use crate::{
    error::Error,
    stream::{Reason, Violation},
};

/// Why a stream or a file did not get there. Sentences are for people and may change; match on variants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    // --- The caller misused something. ---
    /// This side did not call [`Builder::streams`](crate::session::Builder::streams).
    #[error("this session was built without streams: call Builder::streams() on both sides")]
    NotDeclared,
    /// A stream's name has 1 to 255 bytes, and its size has a bound.
    #[error("a stream's name has 1 to 255 bytes, and its size is below 2^62")]
    InvalidOffer,
    /// This side gives as many streams as it may at once.
    #[error("{max} streams of this side are under way: wait for one of them")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// The offer was accepted or refused before, or the peer took it back.
    #[error("the offer was answered before")]
    Answered,
    /// The stream was finished or given up on this side.
    #[error("the stream was ended on this side")]
    Cancelled,

    // --- The peer. ---
    /// The peer did not call [`Builder::streams`](crate::session::Builder::streams).
    #[error("the peer takes no streams")]
    NotSupported,
    /// The peer does not want it.
    #[error("the peer refused it")]
    Refused,
    /// The peer ended it early.
    #[error("the peer ended it: {0}")]
    Ended(Reason),
    /// What arrived is not what the peer says it sent. Nothing of it was kept.
    #[error("what arrived is not what the peer says it sent: ask the peer to send it again")]
    HashMismatch,
    /// The peer was restarted, and knows nothing of its streams. Files can be offered again, and go on where they were.
    #[error("the peer was restarted: send it again, a file goes on where it was")]
    Reset,
    /// The peer broke a rule of streams. There are no more streams in this session, which goes on.
    #[error("the peer broke a rule of streams: {0}")]
    Violation(#[from] Violation),
    /// The peer says that this side broke a rule of streams. There are no more streams in this session, which goes on.
    #[error("the peer says that this side broke a rule of streams")]
    Faulted,

    // --- The session. ---
    /// The session ended, or does not allow it.
    #[error(transparent)]
    Session(#[from] Error),

    // --- This side's files. ---
    /// Only regular files are sent: not directories, symbolic links, devices or pipes.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// The file changed, shrank or grew while it was sent. Send it again.
    #[error("{} changed while it was sent: send it again", path.display())]
    SourceChanged {
        /// The path as given.
        path: PathBuf,
    },
    /// Something is there already, and nothing is overwritten.
    #[error("{} exists already: choose another name, or remove it", path.display())]
    AlreadyExists {
        /// What is there.
        path: PathBuf,
    },
    /// Another transfer of this process writes there.
    #[error("{} is being received already", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// No space is left, or the system allows no larger file. What arrived is kept: make room, and accept the peer's next offer of it.
    #[error("there is no space left for {}: make room and have it offered again, it goes on where it was", path.display())]
    DiskFull {
        /// Where.
        path: PathBuf,
    },
    /// The system said no.
    #[error("{}: {reason}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What kind of failure.
        kind: io::ErrorKind,
        /// The system's words.
        reason: String,
    },
}

impl StreamError {
    /// Whether offering the same again may succeed, with nothing changed but the time.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::TooMany { .. }
            | Self::Reset
            | Self::HashMismatch
            | Self::SourceChanged { .. } => true,
            Self::Session(error) => error.is_retryable(),
            Self::Ended(reason) => matches!(reason, Reason::Changed | Reason::Hash),
            Self::NotDeclared
            | Self::InvalidOffer
            | Self::Answered
            | Self::Cancelled
            | Self::NotSupported
            | Self::Refused
            | Self::Violation(_)
            | Self::Faulted
            | Self::NotAFile { .. }
            | Self::AlreadyExists { .. }
            | Self::InUse { .. }
            | Self::DiskFull { .. }
            | Self::Io { .. } => false,
        }
    }

    /// What a taker's STOP means to the giver.
    pub(super) fn stopped(reason: Reason) -> Self {
        if reason == Reason::Refused {
            return Self::Refused;
        }
        Self::Ended(reason)
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let is_lie = matches!(error, StreamError::HashMismatch | StreamError::Violation(_));
        let kind = match is_lie {
            true => io::ErrorKind::InvalidData,
            false => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
