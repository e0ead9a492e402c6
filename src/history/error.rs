//! Why a history cannot be read or written.

/// Why a history cannot be read, written or verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// Records were changed, removed, added or moved outside of this crate, or the disk did it.
    #[error("the history is damaged at record {position}: {reason}")]
    Damaged {
        /// The position of the first record that does not fit.
        position: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key is not this history's, or what identifies it was changed.
    #[error("the key is not this history's, or the file was changed")]
    WrongKeyOrDamaged,
    /// The file is something else, or of a newer version.
    #[error("this is not a history that this version reads: {0}")]
    NotAHistory(&'static str),
    /// A session records into it, or another process has it open.
    #[error("the history is in use: {0}")]
    InUse(&'static str),
    /// More waits to be sent to this peer than is kept: 10 000 messages or 64 MiB.
    #[error("too many messages wait to be sent to this peer")]
    QueueFull,
    /// What keeps it failed.
    #[error("the history cannot be {action}: {reason}")]
    Storage {
        /// What was tried: `"read"`, `"written"`.
        action: &'static str,
        /// In the storage's words.
        reason: String,
    },
    /// A file that was exported cannot be read.
    #[error("this is not an export: {0}")]
    NotAnExport(String),
}
