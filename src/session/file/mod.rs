//! Files over streams: whole or not at all, and taken up again where they were interrupted. From disk to disk where there
//! are disks, and from whatever else a host reads them of.

#[cfg(not(target_arch = "wasm32"))]
mod disk;
mod feed;
mod given;
#[cfg(not(target_arch = "wasm32"))]
mod partial;
#[cfg(not(target_arch = "wasm32"))]
mod reading;
#[cfg(not(target_arch = "wasm32"))]
mod receive;
mod send;
#[cfg(not(target_arch = "wasm32"))]
mod source;
mod transfer;
#[cfg(not(target_arch = "wasm32"))]
mod writeback;

use std::{io, path::Path, sync::Arc};

use sha2::{Digest as _, Sha256};

pub use given::FileSource;
pub use transfer::{FileReport, FileTransfer, Progress};

use super::{Session, stream::StreamError};
use crate::shell;
use feed::Feed;
use given::Given;

/// Bytes read at once.
const BLOCK: usize = 256 << 10;
/// Bytes that may wait between the disk and the stream in each direction.
#[cfg(not(target_arch = "wasm32"))]
const AHEAD: usize = 1 << 20;

/// Files that are not on disk.
impl Session {
    /// Offers a file that is read of a [`FileSource`] to the peer, under this name; the rest goes on by itself, also when
    /// the handle is dropped. To the peer it is a file as any other.
    ///
    /// # Errors
    /// [`StreamError::NotDeclared`], [`StreamError::NotSupported`], [`StreamError::InvalidOffer`], and the reason of the
    /// end of the session. What happens later is told by [`FileTransfer::finished`].
    pub fn send_source(
        &self,
        name: &str,
        source: impl FileSource,
    ) -> Result<FileTransfer, StreamError> {
        let hub = Arc::clone(self.hub()?);
        hub.check()?;
        let given = Given::new(name, Box::new(source))?;
        let (transfer, running) = transfer::start(self.clone(), given.size());
        shell::spawn(send::send(hub, Feed::Given(given), running));
        Ok(transfer)
    }
}

/// The same for the same version of the same file, without reading it. What the receiver has is compared by its hash
/// before anything is left out, so this need not be certain.
fn content_id(name: &str, size: u64, modified: u128, (device, number): (u64, u64)) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("sealwire file");
    hash.update(size.to_be_bytes());
    hash.update(modified.to_be_bytes());
    hash.update(device.to_be_bytes());
    hash.update(number.to_be_bytes());
    hash.update(name);
    hash.finalize().into()
}

fn failed(path: &Path, error: &io::Error) -> StreamError {
    let path = path.to_owned();
    let kind = error.kind();
    let full = [
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
        io::ErrorKind::FileTooLarge,
    ];
    if full.contains(&kind) {
        return StreamError::DiskFull { path };
    }
    StreamError::Io {
        path,
        kind,
        reason: error.to_string(),
    }
}
