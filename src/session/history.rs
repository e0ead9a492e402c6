//! The history of a session's conversation.

use std::io::Write;

use super::{Session, acquaintance::Overture};
use crate::history::{Archive, Entry, Head, HistoryError, Page, Pair};

/// What was said with a session's peer, in this session and before.
#[derive(Debug, Clone)]
pub struct SessionHistory {
    archive: Archive,
    pair: Pair,
}

impl Session {
    /// What was said with this peer; `None` without [`Builder::history`](super::Builder::history).
    #[must_use]
    pub fn history(&self) -> Option<SessionHistory> {
        let (me, peer) = (self.me, self.peer);
        let archive = self.archive.clone()?;
        let pair = Pair { me, peer };
        Some(SessionHistory { archive, pair })
    }

    /// Goes on although the two histories differ ([`Event::HistoryDiverged`](crate::protocol::Event::HistoryDiverged)):
    /// messages flow again, in chains that continue from what the peer holds. What this side holds stays, with a mark.
    /// Where the peer found the difference as well, its host has to decide too.
    ///
    /// Returns at once. To stop instead, close with
    /// [`CloseCode::HISTORY_DIVERGED`](crate::CloseCode::HISTORY_DIVERGED).
    pub fn accept_history(&self) {
        self.shared.make(Overture::AcceptHistory);
    }
}

impl SessionHistory {
    /// A page of it, the newest first; with [`Page::between`] a search by time.
    ///
    /// # Errors
    /// As [`Archive::page`].
    pub async fn page(&self, page: &Page) -> Result<Vec<Entry>, HistoryError> {
        self.archive.page(self.pair, page).await
    }

    /// Writes it as JSON, for `sealwire-history verify`. It stays in memory a block at a time.
    ///
    /// # Errors
    /// As [`Archive::export_json`].
    pub async fn export_json(&self, out: &mut (impl Write + ?Sized)) -> Result<(), HistoryError> {
        self.archive.export_json(self.pair, out).await
    }

    /// Deletes all that was said, on this side only; see [`Archive::delete`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete(&self) -> Result<(), HistoryError> {
        self.archive.delete(self.pair).await
    }

    /// The heads of this side's chain and of the peer's: kept elsewhere, they show any later change of what is stored.
    ///
    /// # Errors
    /// As [`Archive::heads`].
    pub async fn heads(&self) -> Result<(Head, Head), HistoryError> {
        self.archive.heads(self.pair).await
    }

    /// The archive, for what concerns more than this peer.
    #[must_use]
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Whose conversation it is.
    #[must_use]
    pub fn pair(&self) -> Pair {
        self.pair
    }
}
