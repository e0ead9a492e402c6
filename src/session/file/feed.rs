//! What a file that is sent is read of.

use std::path::PathBuf;

use bytes::Bytes;

use super::given::Given;
#[cfg(not(target_arch = "wasm32"))]
use super::reading::Reading;
use crate::{session::StreamError, stream::Offer};

/// A file on its way out.
#[derive(Debug)]
pub(super) enum Feed {
    /// On disk, read by a thread.
    #[cfg(not(target_arch = "wasm32"))]
    Disk(Reading),
    /// Read by what the host gave.
    Given(Given),
}

/// What is read.
#[derive(Debug)]
pub(super) enum Read {
    Block(Bytes),
    /// The hash of the whole, behind the last block.
    End([u8; 32]),
}

impl Feed {
    pub(super) fn path(&self) -> PathBuf {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Disk(disk) => disk.path(),
            Self::Given(given) => given.path(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Disk(disk) => disk.size(),
            Self::Given(given) => given.size(),
        }
    }

    pub(super) fn offer(&self) -> Offer {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Disk(disk) => disk.offer(),
            Self::Given(given) => given.offer(),
        }
    }

    /// Where to start: behind what the receiver has, if that is what the file begins with (S-21). From there on `block`
    /// bytes are read at once.
    pub(super) async fn start(
        &mut self,
        offset: u64,
        theirs: [u8; 32],
        block: usize,
    ) -> Result<u64, StreamError> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Disk(disk) => disk.start(offset, theirs, block).await,
            Self::Given(given) => given.start(offset, theirs, block).await,
        }
    }

    /// What comes next, behind the start.
    pub(super) async fn next(&mut self) -> Result<Read, StreamError> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Disk(disk) => disk.next().await,
            Self::Given(given) => given.next().await,
        }
    }

    /// Makes it ready for another attempt.
    pub(super) async fn reopen(&mut self) -> Result<(), StreamError> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Disk(disk) => disk.reopen().await,
            // Every attempt reads it from where it starts.
            Self::Given(_) => Ok(()),
        }
    }
}
