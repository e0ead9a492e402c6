//! A file on disk on its way out: a thread reads and hashes ahead of the stream.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{AHEAD, BLOCK, disk::on_disk, feed::Read, source::Source};
use crate::{session::StreamError, stream::Offer};

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    path: PathBuf,
    size: u64,
    offer: Offer,
    /// Until the thread has it.
    source: Option<Source>,
    /// What the thread read, once it is started.
    blocks: Option<mpsc::Receiver<Result<Read, StreamError>>>,
}

impl Reading {
    pub(super) fn new(source: Source) -> Self {
        Self {
            path: source.path().to_owned(),
            size: source.size(),
            offer: source.offer(),
            source: Some(source),
            blocks: None,
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn offer(&self) -> Offer {
        self.offer.clone()
    }

    /// The file as it is by now.
    pub(super) async fn reopen(&mut self) -> Result<(), StreamError> {
        let path = self.path.clone();
        let source = on_disk(move || Source::open(path)).await?;
        *self = Self::new(source);
        Ok(())
    }

    pub(super) async fn start(
        &mut self,
        offset: u64,
        theirs: [u8; 32],
        block: usize,
    ) -> Result<u64, StreamError> {
        let source = self.source.take().ok_or(StreamError::Cancelled)?;
        let (source, hash, start) = on_disk(move || start(source, offset, theirs)).await?;
        let (blocks, read) = mpsc::channel(AHEAD / BLOCK);
        spawn_blocking(move || read_all((source, hash, start), block, &blocks));
        self.blocks = Some(read);
        Ok(start)
    }

    pub(super) async fn next(&mut self) -> Result<Read, StreamError> {
        let blocks = self.blocks.as_mut().ok_or(StreamError::Cancelled)?;
        blocks.recv().await.unwrap_or(Err(StreamError::Cancelled))
    }
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

/// Reads until the end, or until nobody wants more. Reading and hashing take turns with nothing but each other.
fn read_all(
    (mut source, mut hash, start): (Source, Sha256, u64),
    block: usize,
    blocks: &mpsc::Sender<Result<Read, StreamError>>,
) {
    let mut left = source.size() - start;
    while left > 0 {
        let block = match source.read_block(left.min(block as u64)) {
            Ok(block) => block,
            Err(error) => {
                let _ = blocks.blocking_send(Err(error));
                return;
            }
        };
        left -= block.len() as u64;
        hash.update(&block);
        if blocks.blocking_send(Ok(Read::Block(block.into()))).is_err() {
            return;
        }
    }
    let last = source.check_unchanged();
    let last = last.map(|()| Read::End(hash.finalize().into()));
    let _ = blocks.blocking_send(last);
}
