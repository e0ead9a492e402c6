//! One file that is replaced as a whole or not at all (R-213), by one process at a time (R-233).
//!
//! ```text
//! claim:  lock <path>.lock until dropped; the kernel frees it when the process dies
//! write:  <path>.tmp, new, 0600 -> write -> fsync -> rename to <path> -> fsync of the directory
//! ```
//!
//! Symbolic links are never followed in the last part of a path, and nothing but ordinary files is read or waited for.
//! Whoever may write into the directory can still remove or exchange the file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// A path that is ours alone among those who ask for it by [`claim`](Self::claim).
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute, so that it means the same after a change of the working directory.
    path: PathBuf,
    folder: PathBuf,
    temporary: PathBuf,
    lock: File,
}

impl Place {
    /// Takes the path, whether or not a file is there.
    pub(super) fn claim(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)
            .map_err(|error| StoreError::io("find the path of", path, &error))?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(StoreError::NotAFile { path });
        };
        let beside = |suffix: &str| {
            let mut name = OsString::from(name);
            name.push(suffix);
            folder.join(name)
        };
        let place = Self {
            folder: folder.to_owned(),
            temporary: beside(".tmp"),
            lock: lock(&beside(".lock"), &path)?,
            path,
        };
        // What a process that was killed left; if it cannot be removed, writing says so.
        let _ = place.remove_temporary();
        Ok(place)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes; `None` when there is no file.
    pub(super) fn read(&self, max: usize) -> Result<Option<Vec<u8>>> {
        let max = max as u64;
        let Some((file, len)) = open_to_read(&self.path)? else {
            return Ok(None);
        };
        if len > max {
            return Err(StoreError::TooLong { len, max });
        }
        let mut bytes = Vec::new();
        file.take(max + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| StoreError::io("read", &self.path, &error))?;
        Ok(Some(bytes))
    }

    /// Makes `bytes` the file's content. At every moment, and after every crash, the file has the old bytes or these.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<()> {
        let written = self.write_temporary(bytes).and_then(|()| {
            fs::rename(&self.temporary, &self.path)
                .map_err(|error| StoreError::io("replace", &self.path, &error))
        });
        if written.is_err() {
            let _ = self.remove_temporary();
        }
        written?;
        sync_folder(&self.folder)
            .map_err(|error| StoreError::io("make durable", &self.path, &error))
    }

    fn write_temporary(&self, bytes: &[u8]) -> Result<()> {
        let failed = |action, error| StoreError::io(action, &self.temporary, &error);
        self.remove_temporary()
            .map_err(|error| failed("remove", error))?;
        let mut file = create_private(&self.temporary).map_err(|error| failed("create", error))?;
        file.write_all(bytes)
            .map_err(|error| failed("write", error))?;
        file.sync_all()
            .map_err(|error| failed("make durable", error))
    }

    fn remove_temporary(&self) -> io::Result<()> {
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Closing is not enough while a process that is being started still shares the handle.
        system::unlock(&self.lock);
    }
}

/// An ordinary file and its length, or none.
fn open_to_read(path: &Path) -> Result<Option<(File, u64)>> {
    let failed = |error: &io::Error| {
        if is_no_file(path) {
            StoreError::NotAFile {
                path: path.to_owned(),
            }
        } else {
            StoreError::io("open", path, error)
        }
    };
    let mut options = OpenOptions::new();
    options.read(true);
    let file = match never_following(&mut options).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_no_file(path) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(&error)),
    };
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        let path = path.to_owned();
        return Err(StoreError::NotAFile { path });
    }
    Ok(Some((file, metadata.len())))
}

/// An ordinary file to read and write, made for its owner alone where there is none, and whether it was there.
pub(super) fn open_private(path: &Path) -> Result<(File, bool)> {
    let is_there = open_to_read(path)?.is_some();
    let file = if is_there {
        let mut options = OpenOptions::new();
        never_following(options.read(true).write(true)).open(path)
    } else {
        create_private(path)
            .and_then(|_| {
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                sync_folder(folder.unwrap_or(Path::new(".")))
            })
            .and_then(|()| {
                let mut options = OpenOptions::new();
                never_following(options.read(true).write(true)).open(path)
            })
    };
    let file = file.map_err(|error| StoreError::io("open", path, &error))?;
    Ok((file, is_there))
}

/// Whether something is at the path that is no ordinary file: a link, also a broken one.
fn is_no_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

/// Locks `lock`, which stands for `path`. The file of the lock stays: removing it would let two hold it.
fn lock(lock: &Path, path: &Path) -> Result<File> {
    if is_no_file(lock) {
        let path = lock.to_owned();
        return Err(StoreError::NotAFile { path });
    }
    match system::lock(lock) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(StoreError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(StoreError::io("lock", lock, &error)),
    }
}

use system::{create_private, never_following, sync_folder};

#[cfg(unix)]
mod system {
    use std::fs::{File, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    use std::path::Path;

    use rustix::fs::{FlockOperation, OFlags, flock};
    use rustix::io::Errno;

    /// Its owner reads and writes, nobody else does anything.
    const PRIVATE: u32 = 0o600;

    /// Fails at a symbolic link, and does not wait for the other end of a pipe.
    pub(super) fn never_following(options: &mut OpenOptions) -> &mut OpenOptions {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed())
    }

    /// A file that was not there before.
    pub(super) fn create_private(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(PRIVATE)
            .open(path)?;
        // A strange umask may have taken the owner's rights.
        file.set_permissions(Permissions::from_mode(PRIVATE))?;
        Ok(file)
    }

    /// `None` when somebody else holds it.
    pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE);
        let file = never_following(&mut options).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn unlock(lock: &File) {
        // It fails only for a handle that was never locked.
        let _ = flock(lock, FlockOperation::Unlock);
    }

    /// Makes a renaming in the directory durable.
    pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

#[cfg(windows)]
mod system {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::windows::fs::OpenOptionsExt as _;
    use std::path::Path;

    /// `FILE_FLAG_OPEN_REPARSE_POINT`: a link itself, not what it leads to.
    const OPEN_REPARSE_POINT: u32 = 0x0020_0000;
    /// `ERROR_SHARING_VIOLATION`.
    const SHARING_VIOLATION: i32 = 32;

    pub(super) fn never_following(options: &mut OpenOptions) -> &mut OpenOptions {
        options.custom_flags(OPEN_REPARSE_POINT)
    }

    /// A file that was not there before, with the rights that its directory hands down.
    pub(super) fn create_private(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    /// `None` when somebody else holds it. A handle that is not shared is the lock.
    pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .share_mode(0);
        match never_following(&mut options).open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.raw_os_error() == Some(SHARING_VIOLATION) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Closing does it, for other processes do not inherit the handle.
    pub(super) fn unlock(_: &File) {}

    /// Directories cannot be flushed here; the file system's journal keeps the order.
    pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
        Ok(())
    }
}
