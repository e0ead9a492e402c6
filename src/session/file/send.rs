//! From a file to a stream.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    AHEAD, BLOCK,
    source::Source,
    transfer::{FileReport, Running},
};
use crate::{
    session::stream::{Giver, Hub, StreamError},
    stream::Reason,
};

/// What the reading thread hands over.
enum Read {
    Block(Vec<u8>),
    /// The hash of the whole, behind the last block, and the source for another attempt.
    End([u8; 32]),
    Failed(StreamError),
}

/// Sends a file; offered again as often as the peer is restarted.
pub(super) async fn send(hub: Arc<Hub>, source: Source, running: Running) {
    let path = source.path().to_owned();
    let outcome = running
        .unless_cancelled(async {
            let mut source = source;
            loop {
                match attempt(&hub, source, &running).await {
                    Err(StreamError::Reset) => {
                        let path = path.clone();
                        source = super::on_disk(move || Source::open(path)).await?;
                        running.restart(source.size());
                    }
                    outcome => return outcome,
                }
            }
        })
        .await;
    running.finish(outcome);
}

async fn attempt(
    hub: &Arc<Hub>,
    source: Source,
    running: &Running,
) -> Result<FileReport, StreamError> {
    let (path, size) = (source.path().to_owned(), source.size());
    let giver = Giver::offer(hub, source.offer())?;
    let outcome = async {
        let (offset, theirs) = giver.accepted().await?;
        let (source, hash, start) = super::on_disk(move || start(source, offset, theirs)).await?;
        giver.begin(start)?;
        running.report(start);
        let sha256 = pour(&giver, (source, hash, start), running).await?;
        giver.end(sha256)?;
        giver.done().await?;
        Ok(FileReport {
            path,
            bytes: size,
            resumed_from: start,
            sha256,
        })
    }
    .await;
    match &outcome {
        Err(StreamError::SourceChanged { .. }) => giver.abort(Reason::Changed),
        Err(StreamError::Io { .. }) => giver.abort(Reason::Storage),
        _ => {}
    }
    outcome
}

/// Where to start: behind what the receiver has, if that is what the file begins with (S-21).
fn start(
    mut source: Source,
    offset: u64,
    theirs: [u8; 32],
) -> Result<(Source, Sha256, u64), StreamError> {
    source.check_unchanged()?;
    let hash = source.skip(offset)?;
    let ours: [u8; 32] = hash.clone().finalize().into();
    if ours == theirs {
        return Ok((source, hash, offset));
    }
    source.rewind()?;
    Ok((source, Sha256::new(), 0))
}

/// Sends everything from where the source is; the hash of the whole.
async fn pour(
    giver: &Giver,
    (source, hash, start): (Source, Sha256, u64),
    running: &Running,
) -> Result<[u8; 32], StreamError> {
    let (blocks, mut read) = mpsc::channel(AHEAD / BLOCK);
    let block = whole_frames(giver.frame_content());
    spawn_blocking(move || read_all((source, hash, start), block, &blocks));
    let mut sent = start;
    loop {
        let block = match read.recv().await {
            Some(Read::Block(block)) => block,
            Some(Read::End(hash)) => return Ok(hash),
            Some(Read::Failed(error)) => return Err(error),
            None => return Err(StreamError::Cancelled),
        };
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            let len = giver.write(rest).await?;
            rest = &rest[len..];
            sent += len as u64;
            running.report(sent);
        }
    }
}

/// Bytes that are read at once: a rest that does not fill its frame costs nearly as much as one that does.
fn whole_frames(content: usize) -> usize {
    BLOCK - BLOCK % content.clamp(1, BLOCK)
}

/// Reads until the end, or until nobody wants more. Reading and hashing take turns with nothing but each other.
fn read_all(
    (mut source, mut hash, start): (Source, Sha256, u64),
    block: usize,
    blocks: &mpsc::Sender<Read>,
) {
    let mut left = source.size() - start;
    while left > 0 {
        let block = match source.read_block(left.min(block as u64)) {
            Ok(block) => block,
            Err(error) => {
                let _ = blocks.blocking_send(Read::Failed(error));
                return;
            }
        };
        left -= block.len() as u64;
        hash.update(&block);
        if blocks.blocking_send(Read::Block(block)).is_err() {
            return;
        }
    }
    let last = match source.check_unchanged() {
        Ok(()) => Read::End(hash.finalize().into()),
        Err(error) => Read::Failed(error),
    };
    let _ = blocks.blocking_send(last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fill_the_frames_that_carry_them() {
        for content in [1, 1_250, 65_506, BLOCK] {
            let block = whole_frames(content);
            assert_eq!(block % content, 0);
            assert!(block > BLOCK / 2 && block <= BLOCK);
        }
        // While nothing is known of the peer, and where a frame takes more than is read at once.
        for content in [0, BLOCK + 1] {
            assert_eq!(whole_frames(content), BLOCK);
        }
    }
}
