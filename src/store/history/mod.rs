//! A history in an encrypted file (R-214, docs/history.md): a redb database whose values are sealed one by one.
//!
//! One thread has the file. It takes all that waits, applies it in one transaction, makes that durable, and then
//! answers: the more waits, the more share one fsync.

mod checked;
mod format;
mod reply;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

use super::{StoreError, StoreKey, place};
use crate::{
    entropy::OsEntropy,
    history::{Answer, Change, History, HistoryError, Pair, Place, Record, State},
    identity::PeerId,
};
use format::Seal;
use reply::Reply;
use worker::{Job, Worker};

/// An encrypted file of conversations, for an [`Archive`](crate::history::Archive).
///
/// The file is made for its owner alone, and one process has it open at a time. Whoever has it, but not the key, learns
/// how many conversations and messages there are, how long each is and which belong together; and can remove or exchange
/// things only in ways that are detected when the conversation is opened, or at the next comparison with the peer.
/// What is deleted may stay in the file until its place is used again, encrypted.
///
/// Dropping it waits for what was begun.
///
/// ```
/// use sealwire::{Timestamp, Identity, history::{Archive, Page, Pair}, store::{DiskHistory, StoreKey}};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("history");
/// # let (me, peer) = (Identity::generate().peer_id(), Identity::generate().peer_id());
/// # let key = StoreKey::generate();
/// // The key comes from the vault: `IdentityStore::history_key`.
/// let archive = Archive::new(DiskHistory::open(&path, &key)?);
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let pair = Pair { me, peer };
/// archive.queue(pair, "when we meet again", Timestamp::from_unix_ms(1_700_000_000_000)).await?;
/// for entry in archive.page(pair, &Page::newest(20)).await? {
///     println!("{:?} {} {:?}", entry.author, entry.timestamp, entry.state);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DiskHistory {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl DiskHistory {
    /// The history at `path`, or a new one. It blocks for as long as reading the file takes: each page is checked.
    ///
    /// # Errors
    /// [`HistoryError::WrongKeyOrDamaged`], [`HistoryError::NotAHistory`], [`HistoryError::InUse`],
    /// [`HistoryError::Storage`].
    pub fn open(path: impl AsRef<Path>, key: &StoreKey) -> Result<Self, HistoryError> {
        let path = path.as_ref();
        let failed = |error: StoreError| HistoryError::Storage {
            action: "opened",
            reason: error.to_string(),
        };
        let (file, is_there) = place::open_private(path).map_err(failed)?;
        let (database, seal) = guarded(|| {
            let database = worker::database(file)?;
            let seal = Seal::open(&database, key.duplicate(), is_there, &mut OsEntropy)?;
            Ok((database, seal))
        })?;
        let (jobs, work) = mpsc::channel();
        let worker = Worker::new(database, seal, work);
        let thread = std::thread::Builder::new()
            .name("sealwire history".into())
            .spawn(move || worker.run())
            .map_err(|error| HistoryError::Storage {
                action: "opened",
                reason: error.to_string(),
            })?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            thread: Some(thread),
        })
    }

    /// Hands a job over at once, and answers when it is done.
    fn ask<T: Send + 'static>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Answer<T> {
        let (reply, answer) = reply::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = jobs.as_ref() {
            // A thread that is gone dropped its end of the reply, which says so.
            let _ = jobs.send(job(reply));
        }
        Box::pin(answer)
    }
}

/// Damage that no check knows of makes the database panic, here as in the thread, which ends and says so.
fn guarded<T>(work: impl FnOnce() -> Result<T, HistoryError>) -> Result<T, HistoryError> {
    let damaged = |_| {
        Err(HistoryError::Storage {
            action: "opened",
            reason: "it is damaged".into(),
        })
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(damaged)
}

impl Drop for DiskHistory {
    fn drop(&mut self) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(thread) = self.thread.take() {
            // It panicked: whoever waited for it was told.
            let _ = thread.join();
        }
    }
}

impl History for DiskHistory {
    fn state(&self, pair: Pair) -> Answer<Option<State>> {
        self.ask(|reply| Job::State { pair, reply })
    }

    fn read(&self, pair: Pair, from: Place, until: u64) -> Answer<Vec<(u64, Record)>> {
        self.ask(|reply| Job::Read {
            pair,
            from,
            until,
            reply,
        })
    }

    fn write(&self, pair: Pair, change: Change) -> Answer<()> {
        self.ask(|reply| Job::Write {
            pair,
            change,
            reply,
        })
    }

    fn peers(&self, me: PeerId) -> Answer<Vec<PeerId>> {
        self.ask(|reply| Job::Peers { me, reply })
    }
}
