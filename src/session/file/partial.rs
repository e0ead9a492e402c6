//! A file that is being received: `<target>.part`, beside it a note of whose it is, and the target only when it is whole.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};

use super::{
    BLOCK, failed,
    source::{Stamp, regular},
    transfer::FileReport,
    writeback::Writeback,
};
use crate::{
    identity::PeerId,
    session::StreamError,
    stream::{NOTE_SUFFIX, is_note},
};

/// What the note begins with.
const MAGIC: &[u8; 16] = b"sealwire part 1\n";
/// Bytes of a note: the magic, the peer, the content, the size.
const NOTE: usize = MAGIC.len() + 32 + 32 + 8;

/// Targets that transfers of this process write to.
static CLAIMED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// What to do with a file that has the target's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Keep,
    Replace,
}

/// Where a file is to be, and which file it is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) target: PathBuf,
    pub(super) existing: Existing,
    pub(super) peer: PeerId,
    pub(super) size: u64,
    pub(super) content: [u8; 32],
}

/// What is here of a file.
#[derive(Debug)]
pub(super) struct Partial {
    place: Place,
    part: PathBuf,
    note: PathBuf,
    file: File,
    written: u64,
    hash: Sha256,
    writeback: Writeback,
    _claim: Claim,
}

/// Keeps other transfers of this process away from a target.
#[derive(Debug)]
struct Claim(PathBuf);

impl Claim {
    /// The folder must be there.
    fn stake(target: &Path) -> Result<Self, StreamError> {
        let no_name = || StreamError::NotAFile {
            path: target.to_owned(),
        };
        let name = target.file_name().ok_or_else(no_name)?;
        if is_note(&name.to_string_lossy()) {
            // Whoever leaves a note makes a part ours, and what is ours is begun anew.
            let reason = "names with this ending are kept for notes";
            return Err(failed(
                target,
                &io::Error::new(io::ErrorKind::InvalidInput, reason),
            ));
        }
        let folder = fs::canonicalize(folder(target)).map_err(|error| failed(target, &error))?;
        let path = folder.join(name);
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.insert(path.clone()) {
            Ok(Self(path))
        } else {
            Err(StreamError::InUse { path })
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&self.0);
    }
}

impl Place {
    /// Opens what is here of it, or begins it.
    pub(super) fn open(self) -> Result<Partial, StreamError> {
        let claim = Claim::stake(&self.target)?;
        if self.existing == Existing::Keep && exists(&self.target)? {
            return Err(StreamError::AlreadyExists { path: self.target });
        }
        let (part, note) = (
            beside(&self.target, ".part"),
            beside(&self.target, NOTE_SUFFIX),
        );
        let file = match (exists(&part)?, exists(&note)?) {
            (true, true) => reopen(&part)?,
            // Somebody else's: we never leave one without a note.
            (true, false) => return Err(StreamError::AlreadyExists { path: part }),
            (false, _) => {
                self.write_note(&note)?;
                let new = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(&part);
                new.map_err(|error| failed(&part, &error))?
            }
        };
        let mut partial = Partial {
            place: self,
            part,
            note,
            file,
            written: 0,
            hash: Sha256::new(),
            writeback: Writeback::default(),
            _claim: claim,
        };
        if partial.is_noted()? {
            partial.rehash()?;
        } else {
            partial.place.write_note(&partial.note)?;
            partial.restart()?;
        }
        Ok(partial)
    }

    fn note(&self) -> [u8; NOTE] {
        let mut note = [0; NOTE];
        let parts = [
            MAGIC.as_slice(),
            self.peer.as_bytes(),
            &self.content,
            &self.size.to_be_bytes(),
        ];
        for (at, byte) in note.iter_mut().zip(parts.into_iter().flatten()) {
            *at = *byte;
        }
        note
    }

    fn write_note(&self, note: &Path) -> Result<(), StreamError> {
        let write = || {
            match fs::remove_file(note) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Through no link, and over nobody's file.
            let mut file = OpenOptions::new().write(true).create_new(true).open(note)?;
            file.write_all(&self.note())
        };
        write().map_err(|error| failed(note, &error))
    }
}

impl Partial {
    /// Bytes that are here, and their hash.
    pub(super) fn here(&self) -> (u64, [u8; 32]) {
        (self.written, self.hash())
    }

    /// Of what is here.
    pub(super) fn hash(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Begins again: what is here is of another file.
    pub(super) fn restart(&mut self) -> Result<(), StreamError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| failed(&self.part, &error))?;
        self.written = 0;
        self.hash = Sha256::new();
        self.writeback = Writeback::default();
        Ok(())
    }

    /// Appends: how many bytes are here now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<u64, StreamError> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| failed(&self.part, &error))?;
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        let taken = self.writeback.note(&self.file, self.written);
        taken.map_err(|error| failed(&self.part, &error))?;
        Ok(self.written)
    }

    /// The file is whole: it gets its name once the disk has it.
    pub(super) fn finish(
        mut self,
        sha256: [u8; 32],
        resumed_from: u64,
    ) -> Result<FileReport, StreamError> {
        let target = self.place.target.clone();
        let synced = self.writeback.wait().and_then(|()| self.file.sync_all());
        synced.map_err(|error| failed(&self.part, &error))?;
        match self.place.existing {
            Existing::Keep => name_new(&self.part, &target),
            Existing::Replace => fs::rename(&self.part, &target),
        }
        .map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                let path = target.clone();
                return StreamError::AlreadyExists { path };
            }
            failed(&target, &error)
        })?;
        // A note without a part means nothing.
        let _ = fs::remove_file(&self.note);
        sync_folder(folder(&target)).map_err(|error| failed(&target, &error))?;
        Ok(FileReport {
            bytes: self.written,
            path: target,
            resumed_from,
            sha256,
        })
    }

    /// Leaves nothing behind.
    pub(super) fn discard(self) {
        // What cannot be removed is begun anew next time.
        let _ = fs::remove_file(&self.part);
        let _ = fs::remove_file(&self.note);
    }

    /// Whether what is here is of the same version of the same file of the same peer.
    fn is_noted(&self) -> Result<bool, StreamError> {
        let mut noted = Vec::new();
        let read = File::open(&self.note)
            .and_then(|file| file.take(NOTE as u64 + 1).read_to_end(&mut noted));
        read.map_err(|error| failed(&self.note, &error))?;
        let len = self.file.metadata().map(|metadata| metadata.len());
        let len = len.map_err(|error| failed(&self.part, &error))?;
        let is_known = self.place.content != [0; 32];
        Ok(is_known && len <= self.place.size && noted == self.place.note())
    }

    /// Reads what is here; writing goes on behind it.
    fn rehash(&mut self) -> Result<(), StreamError> {
        let mut block = vec![0; BLOCK];
        loop {
            match self.file.read(&mut block) {
                Ok(0) => break,
                Ok(read) => {
                    self.hash.update(&block[..read]);
                    self.written += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.part, &error)),
            }
        }
        // Another program may have appended to it meanwhile: what was read is what counts.
        let at = self.file.seek(SeekFrom::Start(self.written));
        at.map(drop).map_err(|error| failed(&self.part, &error))
    }
}

/// Opens a part of before, through no link.
fn reopen(part: &Path) -> Result<File, StreamError> {
    let before = Stamp::of(&regular(part)?);
    let file = OpenOptions::new().read(true).write(true).open(part);
    let file = file.map_err(|error| failed(part, &error))?;
    let opened = file.metadata().map_err(|error| failed(part, &error))?;
    if Stamp::of(&opened).is_same_file(&before) {
        Ok(file)
    } else {
        Err(StreamError::NotAFile {
            path: part.to_owned(),
        })
    }
}

/// Gives a file a name that no other has.
fn name_new(part: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(part, target) {
        Ok(()) => return fs::remove_file(part),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {}
    }
    // A file system without hard links: the name is taken first, then filled.
    File::create_new(target)?;
    fs::rename(part, target).inspect_err(|_| {
        let _ = fs::remove_file(target);
    })
}

fn exists(path: &Path) -> Result<bool, StreamError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, &error)),
    }
}

fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The new name survives a loss of power, where folders can be synced at all.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(target: &Path) -> Place {
        Place {
            target: target.to_owned(),
            existing: Existing::Keep,
            peer: PeerId::from_bytes([1; 32]),
            size: 10,
            content: [2; 32],
        }
    }

    /// Five bytes that a transfer left behind.
    fn left(target: &Path) {
        let mut partial = place(target).open().unwrap();
        assert_eq!(partial.here().0, 0);
        assert_eq!(partial.write(b"12345"), Ok(5));
    }

    #[test]
    fn what_is_left_goes_on_only_for_the_same_content_of_the_same_peer() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x");
        type Change = fn(&mut Place);
        let changes: [(Change, u64); 6] = [
            (|_| {}, 5),
            (|place| place.peer = PeerId::from_bytes([9; 32]), 0),
            (|place| place.content = [9; 32], 0),
            (|place| place.content = [0; 32], 0),
            (|place| place.size = 11, 0),
            (|place| place.size = 4, 0),
        ];
        for (change, here) in changes {
            left(&target);
            let mut again = place(&target);
            change(&mut again);
            let partial = again.open().unwrap();
            assert_eq!(partial.here().0, here);
            partial.discard();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn it_is_written_on_behind_what_is_there_and_gets_its_name_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x");
        left(&target);
        let mut partial = place(&target).open().unwrap();
        let claimed = place(&target).open().unwrap_err();
        assert!(matches!(claimed, StreamError::InUse { .. }));
        assert_eq!(partial.write(b"67890"), Ok(10));
        let sha256 = Sha256::digest(b"1234567890").into();
        assert_eq!(partial.hash(), sha256);
        let report = partial.finish(sha256, 5).unwrap();
        assert_eq!((report.bytes, report.resumed_from), (10, 5));
        assert_eq!(fs::read(&target).unwrap(), b"1234567890");
        let taken = place(&target).open().unwrap_err();
        assert_eq!(taken, StreamError::AlreadyExists { path: target });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x");
        let partial = place(&target).open().unwrap();
        fs::write(&target, "mine").unwrap();
        let taken = partial.finish([0; 32], 0).unwrap_err();
        let path = target.clone();
        assert_eq!(taken, StreamError::AlreadyExists { path });
        assert_eq!(fs::read(&target).unwrap(), b"mine");
        assert!(beside(&target, ".part").exists());
    }

    #[test]
    fn no_peer_can_leave_a_note_that_gives_a_file_away() {
        let folder = tempfile::tempdir().unwrap();
        let refused = place(&folder.path().join("x.part.Sealwire")).open();
        assert!(matches!(refused.unwrap_err(), StreamError::Io { .. }));
    }

    #[cfg(unix)]
    #[test]
    fn links_in_the_place_of_a_part_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (target, other) = (folder.path().join("x"), folder.path().join("other"));
        fs::write(&other, "mine").unwrap();
        let (part, note) = (beside(&target, ".part"), beside(&target, ".part.sealwire"));
        std::os::unix::fs::symlink(&other, &part).unwrap();
        assert!(matches!(
            place(&target).open().unwrap_err(),
            StreamError::AlreadyExists { .. }
        ));
        fs::write(&note, "").unwrap();
        assert!(matches!(
            place(&target).open().unwrap_err(),
            StreamError::NotAFile { .. }
        ));
        fs::remove_file(&part).unwrap();
        fs::remove_file(&note).unwrap();
        std::os::unix::fs::symlink(&other, &note).unwrap();
        drop(place(&target).open().unwrap());
        assert_eq!(fs::read(&other).unwrap(), b"mine");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_apart_and_what_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x");
        left(&target);
        let mut partial = place(&target).open().unwrap();
        partial.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = partial.write(b"67890").unwrap_err();
        assert!(matches!(full, StreamError::DiskFull { .. }));
        drop(partial);
        assert_eq!(place(&target).open().unwrap().here().0, 5);
    }
}
