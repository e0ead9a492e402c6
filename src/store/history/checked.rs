//! The file as the database is given it. The database believes what it finds in a file that was closed in good order, and
//! stops the process at what cannot be; here nothing is believed: not the layout, nor a place behind the end, nor that
//! the file was closed in good order. Then the database looks at the checksum of every page before it uses one.

use std::{
    fs::File,
    io::{Error, ErrorKind, Result},
    sync::atomic::{AtomicBool, Ordering},
};

use redb::{DatabaseError, StorageBackend, backends::FileBackend};

/// Bytes of a page; the first one is the database's header.
const PAGE: u64 = 4_096;
/// Pages of a region beside those of data, and those of data: what every file of ours says.
const REGION: (u64, u64) = (130, 1 << 20);
/// How much of the header is looked at: itself, and two commit slots that begin with their version.
const HEADER: usize = 64 + 2 * 128;
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
const VERSION: u8 = 3;

/// The byte of flags, and those that matter here.
const FLAGS: usize = 9;
const NEEDS_REPAIR: u8 = 2;
const TWO_PHASES: u8 = 4;

#[derive(Debug)]
pub(super) struct Checked {
    file: FileBackend,
    /// The database has not begun to write.
    unwritten: AtomicBool,
}

impl Checked {
    /// Locks the file.
    pub(super) fn new(file: File) -> std::result::Result<Self, DatabaseError> {
        let file = FileBackend::new(file)?;
        check_layout(&file)?;
        let unwritten = AtomicBool::new(true);
        Ok(Self { file, unwritten })
    }
}

/// What the header says of the file's layout. It has no checksum.
fn check_layout(file: &FileBackend) -> Result<()> {
    let len = file.len()?;
    if len == 0 {
        return Ok(());
    }
    if len < PAGE {
        return Err(damaged("the header is cut"));
    }
    let header = file.read(0, HEADER)?;
    let number = |at: usize| -> u64 {
        let bytes = header[at..at + 4].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let (of_header, of_data) = REGION;
    let is_ours = header.starts_with(&MAGIC)
        && (number(12), number(16), number(20)) == (PAGE, of_header, of_data)
        && [header[64], header[192]] == [VERSION; 2];
    let (whole, rest) = (number(24), number(28));
    let rest_len = if rest > 0 { of_header + rest } else { 0 };
    let claimed = (1 + whole * (of_header + of_data) + rest_len) * PAGE;
    // Behind what is claimed there can be pages: the file grows before its header says so.
    let last = len.saturating_sub(PAGE) % ((of_header + of_data) * PAGE);
    let is_whole = len.is_multiple_of(PAGE) && (last == 0 || last > of_header * PAGE);
    let is_there = whole + rest > 0 && rest < of_data && claimed <= len && len > PAGE;
    if is_ours && is_there && is_whole {
        Ok(())
    } else {
        Err(damaged(
            "the header is not of such a file, or the end is cut",
        ))
    }
}

fn damaged(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

impl StorageBackend for Checked {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let end = u64::try_from(len)
            .ok()
            .and_then(|len| offset.checked_add(len));
        let file = self.file.len()?;
        if end.is_none_or(|end| end > file) {
            return Err(damaged("a page behind the end of the file"));
        }
        let mut bytes = self.file.read(offset, len)?;
        if offset == 0
            && self.unwritten.load(Ordering::Relaxed)
            && let Some(flags) = bytes.get_mut(FLAGS)
        {
            *flags = (*flags | NEEDS_REPAIR) & !TWO_PHASES;
        }
        Ok(bytes)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self, eventual: bool) -> Result<()> {
        self.file.sync_data(eventual)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.unwritten.store(false, Ordering::Relaxed);
        self.file.write(offset, data)
    }
}
