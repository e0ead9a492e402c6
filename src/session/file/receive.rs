//! From a stream to a file.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    AHEAD,
    disk::on_disk,
    partial::Partial,
    transfer::{FileReport, Running},
};
use crate::{
    session::stream::{StreamError, Taker},
    stream::Reason,
};

/// The chunks of a stream are about one frame long.
const CHUNKS_AHEAD: usize = AHEAD / (64 << 10);

/// What the writing thread is told.
enum Write {
    Chunk(Bytes),
    End([u8; 32]),
}

/// What the writing thread leaves: the hash of the whole, or nothing, where nobody said that it was all.
type Written = (Partial, Result<Option<[u8; 32]>, StreamError>);

/// Receives a file. What is there of it stays, unless the host gives it up or it is not what was sent.
pub(super) async fn receive(taker: Arc<Taker>, partial: Partial, running: Running) {
    let running = Arc::new(running);
    let resumed = partial.here().0;
    let began = running.unless_cancelled(taker.began()).await;
    let (partial, outcome) = match began {
        Ok(start) => {
            let (partial, outcome) = take(&taker, (partial, start), &running).await;
            (partial, outcome.map(|sha256| (sha256, start.min(resumed))))
        }
        Err(error) => (Some(partial), Err(error)),
    };
    let outcome = match (partial, outcome) {
        (Some(partial), Ok((sha256, resumed_from))) => {
            on_disk(move || partial.finish(sha256, resumed_from)).await
        }
        (Some(partial), Err(error)) => {
            if running.is_cancelled() || error == StreamError::HashMismatch {
                let _ = on_disk(move || {
                    partial.discard();
                    Ok(())
                })
                .await;
            }
            Err(error)
        }
        (None, outcome) => outcome.and(Err(StreamError::Cancelled)),
    };
    answer(&taker, &outcome);
    running.finish(outcome);
}

/// Takes all of it: the hash, which is the sender's.
async fn take(
    taker: &Taker,
    (partial, start): (Partial, u64),
    running: &Arc<Running>,
) -> (Option<Partial>, Result<[u8; 32], StreamError>) {
    let (chunks, arrived) = mpsc::channel(CHUNKS_AHEAD);
    let reporting = Arc::clone(running);
    let writing = spawn_blocking(move || write_all(partial, start, arrived, &reporting));
    let carried = running.unless_cancelled(carry(taker, chunks)).await;
    let Ok((partial, written)) = writing.await else {
        return (None, Err(StreamError::Cancelled));
    };
    let outcome = match (written, carried) {
        (Ok(Some(sha256)), _) => Ok(sha256),
        // Why nothing is written any more says more than that nobody takes it.
        (Err(error), _) | (Ok(None), Err(error)) => Err(error),
        (Ok(None), Ok(())) => Err(StreamError::Cancelled),
    };
    (Some(partial), outcome)
}

/// Hands over what arrives, as fast as it is written.
async fn carry(taker: &Taker, chunks: mpsc::Sender<Write>) -> Result<(), StreamError> {
    loop {
        let (write, last) = match taker.chunk().await? {
            Ok(chunk) => (Write::Chunk(chunk), false),
            Err(hash) => (Write::End(hash), true),
        };
        let sent = chunks.send(write).await;
        sent.map_err(|_| StreamError::Cancelled)?;
        if last {
            return Ok(());
        }
    }
}

fn write_all(
    mut partial: Partial,
    start: u64,
    mut arrived: mpsc::Receiver<Write>,
    running: &Running,
) -> Written {
    if start == 0
        && let Err(error) = partial.restart()
    {
        return (partial, Err(error));
    }
    running.report(start);
    while let Some(write) = arrived.blocking_recv() {
        match write {
            Write::Chunk(chunk) => match partial.write(&chunk) {
                Ok(written) => running.report(written),
                Err(error) => return (partial, Err(error)),
            },
            Write::End(theirs) => {
                let ours = partial.hash();
                let outcome = match ours == theirs {
                    true => Ok(Some(ours)),
                    false => Err(StreamError::HashMismatch),
                };
                return (partial, outcome);
            }
        }
    }
    (partial, Ok(None))
}

/// Tells the sender what became of it.
fn answer(taker: &Taker, outcome: &Result<FileReport, StreamError>) {
    match outcome {
        // The session may be gone meanwhile: the file is here all the same.
        Ok(_) => drop(taker.done()),
        Err(StreamError::HashMismatch) => taker.stop(Reason::Hash),
        Err(StreamError::DiskFull { .. }) => taker.stop(Reason::Full),
        Err(StreamError::Io { .. } | StreamError::AlreadyExists { .. }) => {
            taker.stop(Reason::Storage);
        }
        Err(_) => taker.stop(Reason::Cancelled),
    }
}
