//! Has the disk take a file while more of it is on its way, so that little is left to wait for at its end.

use std::{
    fs::File,
    io,
    thread::{self, JoinHandle},
};

/// Bytes between two requests to the disk.
const EVERY: u64 = 32 << 20;

/// Of one file: a thread that waits for the disk, now and then.
#[derive(Debug, Default)]
pub(super) struct Writeback {
    asked_at: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Writeback {
    /// So many bytes are written by now.
    ///
    /// # Errors
    /// That the disk could not take what was written before.
    pub(super) fn note(&mut self, file: &File, written: u64) -> io::Result<()> {
        let is_busy = |running: &JoinHandle<_>| !running.is_finished();
        if written < self.asked_at + EVERY || self.running.as_ref().is_some_and(is_busy) {
            return Ok(());
        }
        self.wait()?;
        self.asked_at = written;
        let file = file.try_clone()?;
        // Without a thread the end takes longer, and that is all.
        self.running = thread::Builder::new().spawn(move || file.sync_data()).ok();
        Ok(())
    }

    /// Waits for what was asked of the disk. The system tells of a failure only once, to whoever asks first: without
    /// this, the end of the file would not learn of it.
    ///
    /// # Errors
    /// That the disk could not take it.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let lost = |_| Err(io::Error::other("the thread that waited for the disk"));
        running.join().unwrap_or_else(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_asked_at_every_step_and_its_answer_is_kept() {
        let file = tempfile::tempfile().expect("a file");
        let mut writeback = Writeback::default();
        let mut asked_at = |written| {
            writeback.note(&file, written).expect("a disk");
            let asked = writeback.running.is_some();
            writeback.wait().expect("a disk");
            asked
        };
        let asked = [0, EVERY - 1, EVERY, EVERY + 1, 3 * EVERY, 4 * EVERY - 1].map(&mut asked_at);
        assert_eq!(asked, [false, false, true, false, true, false]);
    }

    #[test]
    fn a_failure_of_the_disk_is_told() {
        let mut writeback = Writeback {
            running: Some(thread::spawn(|| Err(io::ErrorKind::StorageFull.into()))),
            ..Writeback::default()
        };
        let told = writeback.wait().expect_err("the disk is full");
        assert_eq!(told.kind(), io::ErrorKind::StorageFull);
    }
}
