//! A transfer of a file as its host sees it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use crate::session::{Session, StreamError};

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were sent, or written here. It starts at what the receiver had from before, and starts again at 0
    /// when that turns out to be of another file.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A transfer that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// The file: where it was read, or where it is now.
    pub path: PathBuf,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that the receiver had from before, which were not sent again.
    pub resumed_from: u64,
    /// SHA-256 of the whole, the same on both sides.
    pub sha256: [u8; 32],
}

/// A file on its way, in either direction. It goes on when this is dropped, as long as the session lives, which this keeps
/// alive as a clone of it does. All clones are the same transfer.
#[derive(Debug, Clone)]
pub struct FileTransfer {
    status: watch::Receiver<Status>,
    cancel: Arc<Cancel>,
    _session: Session,
}

#[derive(Debug)]
struct Status {
    progress: Progress,
    outcome: Option<Result<FileReport, StreamError>>,
}

/// The same, as the task sees it that does the work.
#[derive(Debug)]
pub(super) struct Running {
    status: watch::Sender<Status>,
    cancel: Arc<Cancel>,
}

#[derive(Debug, Default)]
struct Cancel {
    asked: AtomicBool,
    told: Notify,
}

pub(super) fn start(session: Session, total: u64) -> (FileTransfer, Running) {
    let progress = Progress { bytes: 0, total };
    let (sender, status) = watch::channel(Status {
        progress,
        outcome: None,
    });
    let cancel = Arc::<Cancel>::default();
    let running = Running {
        status: sender,
        cancel: Arc::clone(&cancel),
    };
    let transfer = FileTransfer {
        status,
        cancel,
        _session: session,
    };
    (transfer, running)
}

impl FileTransfer {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.status.borrow().progress
    }

    /// Waits until it is further than at the last call: how far. `None` once it is over. Steps in between may be
    /// skipped.
    ///
    /// # Cancel safety
    /// Dropped, nothing is missed.
    pub async fn next_progress(&mut self) -> Option<Progress> {
        if self.status.changed().await.is_err() {
            return None;
        }
        let status = self.status.borrow_and_update();
        status.outcome.is_none().then_some(status.progress)
    }

    /// Waits for the end: whole on both sides, with the same hash, and on the receiver's disk under its name.
    ///
    /// # Errors
    /// Why it ended before that. At the sender: [`StreamError::Refused`], [`StreamError::Ended`] by the receiver,
    /// [`StreamError::SourceChanged`]. At the receiver: [`StreamError::DiskFull`] and [`StreamError::Io`], after which it
    /// can go on later; [`StreamError::Ended`] by the sender; [`StreamError::HashMismatch`]. At both: [`StreamError::Reset`],
    /// [`StreamError::Cancelled`], and the reason of the end of the session.
    ///
    /// # Cancel safety
    /// Dropped, only the waiting ends. It can be asked again.
    pub async fn finished(&self) -> Result<FileReport, StreamError> {
        let mut status = self.status.clone();
        let done = status.wait_for(|status| status.outcome.is_some()).await;
        let outcome = done.ok().and_then(|status| status.outcome.clone());
        outcome.unwrap_or(Err(StreamError::Cancelled))
    }

    /// Gives the transfer up; the peer is told. What a receiver has of it is removed.
    pub fn cancel(&self) {
        self.cancel.asked.store(true, Ordering::Release);
        self.cancel.told.notify_one();
    }
}

impl Running {
    /// Another attempt, of a file that may have another size by now.
    pub(super) fn restart(&self, total: u64) {
        let progress = Progress { bytes: 0, total };
        self.status.send_modify(|status| status.progress = progress);
    }

    pub(super) fn report(&self, bytes: u64) {
        self.status
            .send_modify(|status| status.progress.bytes = bytes);
    }

    /// The result of `work`, or that the host cancelled it.
    pub(super) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, StreamError> {
        tokio::select! {
            result = work => result,
            () = self.cancel.told.notified() => Err(StreamError::Cancelled),
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.asked.load(Ordering::Acquire)
    }

    pub(super) fn finish(&self, outcome: Result<FileReport, StreamError>) {
        self.status
            .send_modify(|status| status.outcome = Some(outcome));
    }
}
