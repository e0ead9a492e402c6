//! A file to be sent: opened once, and noticed when it changes.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use sha2::{Digest as _, Sha256};

use super::{BLOCK, content_id, failed};
use crate::{
    session::StreamError,
    stream::{Kind, MAX_CONTENT, Offer, file_name},
};

/// A regular file that is open.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    stamp: Stamp,
}

/// By which a file and a version of it are told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    /// Nanoseconds since 1970, where the file system keeps it.
    modified: Option<u128>,
    /// Device and number of the file, where there are such.
    file: Option<(u64, u64)>,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok();
        let modified = metadata.modified().ok().and_then(since_1970);
        Self {
            size: metadata.len(),
            modified: modified.map(|since| since.as_nanos()),
            file: file_number(metadata),
        }
    }

    /// Whether both are of the same file, changed or not.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

#[cfg(unix)]
fn file_number(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_number(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// The metadata of a regular file that is no link.
pub(super) fn regular(path: &Path) -> Result<Metadata, StreamError> {
    let metadata = fs::symlink_metadata(path).map_err(|error| failed(path, &error))?;
    if metadata.is_file() {
        Ok(metadata)
    } else {
        Err(StreamError::NotAFile {
            path: path.to_owned(),
        })
    }
}

impl Source {
    pub(super) fn open(path: PathBuf) -> Result<Self, StreamError> {
        // Looked at before it is opened: opening a pipe would wait, and a link is not followed.
        let before = Stamp::of(&regular(&path)?);
        let file = File::open(&path).map_err(|error| failed(&path, &error))?;
        let stamp = file.metadata().map(|metadata| Stamp::of(&metadata));
        let stamp = stamp.map_err(|error| failed(&path, &error))?;
        if !stamp.is_same_file(&before) || stamp.size > MAX_CONTENT {
            return Err(StreamError::NotAFile { path });
        }
        Ok(Self { path, file, stamp })
    }

    pub(super) fn size(&self) -> u64 {
        self.stamp.size
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn offer(&self) -> Offer {
        let name = self.path.file_name().unwrap_or_default();
        let name = file_name(&name.to_string_lossy());
        Offer {
            kind: Kind::File,
            content: self.content(&name),
            name,
            size: Some(self.stamp.size),
        }
    }

    fn content(&self, name: &str) -> [u8; 32] {
        let Stamp {
            size,
            modified,
            file,
        } = self.stamp;
        let (modified, file) = (modified.unwrap_or_default(), file.unwrap_or_default());
        content_id(name, size, modified, file)
    }

    /// The hash so far of the first `bytes` bytes, after which reading goes on.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<Sha256, StreamError> {
        self.rewind()?;
        let mut hash = Sha256::new();
        let mut left = bytes;
        while left > 0 {
            let block = self.read_block(left)?;
            left -= block.len() as u64;
            hash.update(&block);
        }
        Ok(hash)
    }

    pub(super) fn rewind(&mut self) -> Result<(), StreamError> {
        let start = self.file.rewind();
        start.map_err(|error| failed(&self.path, &error))
    }

    /// The next bytes, at most so many and at least one.
    pub(super) fn read_block(&mut self, most: u64) -> Result<Vec<u8>, StreamError> {
        let len = usize::try_from(most).unwrap_or(BLOCK).min(BLOCK);
        let mut block = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.file.read(&mut block[filled..]) {
                Ok(0) => return Err(self.changed()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.path, &error)),
            }
        }
        Ok(block)
    }

    /// Whether the file is still what was offered.
    pub(super) fn check_unchanged(&self) -> Result<(), StreamError> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|error| failed(&self.path, &error))?;
        if Stamp::of(&metadata) == self.stamp {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> StreamError {
        StreamError::SourceChanged {
            path: self.path.clone(),
        }
    }
}
