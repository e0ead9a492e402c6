//! What a lossy channel receives with (protocol §1.7): frames may be lost, late or repeated, and a key still opens one
//! frame at most. Nothing changes until a tag has verified.

use std::fmt;

use zeroize::{Zeroize as _, ZeroizeOnDrop};

use super::{
    chain::{Block, FRAMES_PER_CHAIN, MessageKey},
    secret::Secret,
};

/// Frames this far behind the newest are not opened any more, and their keys are gone.
pub const WINDOW: u64 = 1_024;

/// Loss never explains a larger step ahead.
pub const MAX_JUMP: u64 = 1 << 22;

/// Why a frame is not even tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It came before, or far too late: nothing to worry about.
    #[error("the frame came before, or too late")]
    Old,
    /// It is further ahead than loss explains.
    #[error("the frame is too far ahead")]
    TooFar,
}

/// The keys of one receiving direction of one lossy channel in one epoch.
pub struct RecvWindow {
    block: Block,
    /// Number of the frame whose key comes next out of `block`: one more than the newest that was accepted.
    next: u64,
    /// Keys that were passed over; made with the first gap.
    kept: Option<Box<Kept>>,
}

/// Keys by frame number modulo [`WINDOW`].
struct Kept {
    keys: [[u8; 32]; WINDOW as usize],
    present: [bool; WINDOW as usize],
}

impl RecvWindow {
    pub(super) fn new(block: Block) -> Self {
        Self {
            block,
            next: 0,
            kept: None,
        }
    }

    /// Calls `open` with the key of frame `seq`. When it succeeds the key is gone and the window has moved; when it
    /// fails nothing has changed.
    ///
    /// # Errors
    /// [`WindowError`] where there is no such key; within, what `open` returned.
    pub fn open<T, E>(
        &mut self,
        seq: u64,
        open: impl FnOnce(&MessageKey) -> Result<T, E>,
    ) -> Result<Result<T, E>, WindowError> {
        if seq < self.next {
            return self.open_kept(seq, open);
        }
        if seq >= (self.next + MAX_JUMP).min(FRAMES_PER_CHAIN) {
            return Err(WindowError::TooFar);
        }
        //
        let mut ahead = self.block.duplicate();
        ahead.skip(self.next, seq);
        let key = ahead.take(seq).map_err(|_| WindowError::TooFar)?;
        let opened = open(&key);
        if opened.is_ok() {
            self.advance(seq);
            self.block = ahead;
        }
        Ok(opened)
    }

    /// The number after the newest accepted frame's.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn open_kept<T, E>(
        &mut self,
        seq: u64,
        open: impl FnOnce(&MessageKey) -> Result<T, E>,
    ) -> Result<Result<T, E>, WindowError> {
        //
        let in_window = seq + WINDOW >= self.next;
        let kept = self.kept.as_mut().filter(|_| in_window);
        let kept = kept.ok_or(WindowError::Old)?;
        let key = kept.key(seq).ok_or(WindowError::Old)?;
        let opened = open(&key);
        if opened.is_ok() {
            kept.erase(seq);
        }
        Ok(opened)
    }

    /// Frame `seq` was accepted: keeps the keys that it passed over, as far as they are in the window.
    fn advance(&mut self, seq: u64) {
        let oldest = (seq + 1).saturating_sub(WINDOW).max(self.next);
        if seq > self.next {
            self.block.skip(self.next, oldest);
            let kept = self.kept.get_or_insert_with(Kept::new);
            for passed in oldest..seq {
                // The caller derived a later key of the same chain.
                if let Ok(key) = self.block.take(passed) {
                    kept.put(passed, &key);
                }
            }
        }
        if let Some(kept) = &mut self.kept {
            kept.erase(seq);
        }
        self.next = seq + 1;
    }
}

impl Kept {
    fn new() -> Box<Self> {
        Box::new(Self {
            keys: [[0; 32]; WINDOW as usize],
            present: [false; WINDOW as usize],
        })
    }

    fn slot(seq: u64) -> usize {
        (seq % WINDOW) as usize
    }

    /// In the place of the key that leaves the window with it.
    fn put(&mut self, seq: u64, key: &MessageKey) {
        self.keys[Self::slot(seq)].copy_from_slice(key.expose());
        self.present[Self::slot(seq)] = true;
    }

    fn key(&self, seq: u64) -> Option<MessageKey> {
        let slot = Self::slot(seq);
        self.present[slot].then(|| MessageKey(Secret::new(self.keys[slot])))
    }

    fn erase(&mut self, seq: u64) {
        let slot = Self::slot(seq);
        if std::mem::take(&mut self.present[slot]) {
            self.keys[slot].as_mut_slice().zeroize();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keys.as_flattened_mut().zeroize();
    }
}

impl ZeroizeOnDrop for Kept {}

impl fmt::Debug for RecvWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            block: _,
            next,
            kept: _,
        } = self;
        f.debug_struct("RecvWindow")
            .field("next", next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::chain::{RecvChain, SendChain};

    fn window() -> RecvWindow {
        RecvChain::new(Secret::new([7; 32])).into_window()
    }

    /// The keys that a sender uses, by frame number.
    fn keys(count: u64) -> Vec<[u8; 32]> {
        let mut chain = SendChain::new(Secret::new([7; 32]));
        (0..count)
            .map(|_| *chain.next().unwrap().1.expose())
            .collect()
    }

    /// Opens as a frame sealed with `key` would.
    fn accept(window: &mut RecvWindow, seq: u64, key: &[u8; 32]) -> Result<bool, WindowError> {
        let opened = window.open(seq, |found| (found.expose() == key).then_some(()).ok_or(()))?;
        Ok(opened.is_ok())
    }

    ///
    #[test]
    fn frames_open_in_any_order_within_the_window_and_each_once() {
        let keys = keys(3_000);
        let mut window = window();
        for seq in [0, 2, 1, 17, 16, 3, 40, 1_060, 41, 1_059, 2_999, 1_976] {
            assert_eq!(
                accept(&mut window, seq, &keys[seq as usize]),
                Ok(true),
                "{seq}"
            );
            assert_eq!(
                accept(&mut window, seq, &keys[seq as usize]),
                Err(WindowError::Old),
                "{seq} again"
            );
        }
    }

    ///
    #[test]
    fn what_is_1024_behind_is_gone_and_what_is_1023_behind_is_not() {
        let keys = keys(1_100);
        let mut window = window();
        assert_eq!(accept(&mut window, 1_030, &keys[1_030]), Ok(true));
        assert_eq!(accept(&mut window, 6, &keys[6]), Err(WindowError::Old));
        assert_eq!(accept(&mut window, 7, &keys[7]), Ok(true));
        assert_eq!(accept(&mut window, 1_031, &keys[1_031]), Ok(true));
        assert_eq!(accept(&mut window, 8, &keys[8]), Ok(true));
        assert_eq!(accept(&mut window, 1_033, &keys[1_033]), Ok(true));
        assert_eq!(accept(&mut window, 9, &keys[9]), Err(WindowError::Old));
    }

    /// The two share a place.
    #[test]
    fn a_frame_1024_behind_one_that_is_missing_is_old() {
        let keys = keys(1_041);
        let mut window = window();
        assert_eq!(accept(&mut window, 1_040, &keys[1_040]), Ok(true));
        assert_eq!(accept(&mut window, 6, &keys[6]), Err(WindowError::Old));
        assert_eq!(accept(&mut window, 1_030, &keys[1_030]), Ok(true));
    }

    #[test]
    fn a_channel_that_loses_nothing_keeps_no_keys() {
        let keys = keys(20);
        let mut window = window();
        for seq in 0..20 {
            assert_eq!(accept(&mut window, seq, &keys[seq as usize]), Ok(true));
        }
        assert!(window.kept.is_none());
        assert_eq!(format!("{window:?}"), "RecvWindow { next: 20, .. }");
    }

    ///
    #[test]
    fn a_forged_frame_changes_nothing_however_far_ahead() {
        let keys = keys(60);
        let mut window = window();
        assert_eq!(accept(&mut window, 20, &keys[20]), Ok(true));
        for seq in [21, 22, 35, 5_000, 1 << 20] {
            assert_eq!(accept(&mut window, seq, &[0; 32]), Ok(false));
            assert_eq!(window.next(), 21);
        }
        assert_eq!(accept(&mut window, 3, &[0; 32]), Ok(false));
        assert_eq!(accept(&mut window, 3, &keys[3]), Ok(true));
        assert_eq!(accept(&mut window, 21, &keys[21]), Ok(true));
        assert_eq!(accept(&mut window, 50, &keys[50]), Ok(true));
    }

    ///
    #[test]
    fn a_step_ahead_is_bounded() {
        let mut window = window();
        assert_eq!(accept(&mut window, MAX_JUMP - 1, &[0; 32]), Ok(false));
        assert_eq!(
            accept(&mut window, MAX_JUMP, &[0; 32]),
            Err(WindowError::TooFar)
        );
    }

    ///
    #[test]
    fn every_gap_leads_to_the_keys_that_the_sender_has() {
        let keys = keys(200);
        for from in 0..40 {
            for to in from + 1..from + 50 {
                let mut window = window();
                assert_eq!(accept(&mut window, from, &keys[from as usize]), Ok(true));
                assert_eq!(accept(&mut window, to, &keys[to as usize]), Ok(true));
                for between in from + 1..to {
                    assert_eq!(
                        accept(&mut window, between, &keys[between as usize]),
                        Ok(true)
                    );
                }
                assert_eq!(
                    accept(&mut window, to + 1, &keys[to as usize + 1]),
                    Ok(true)
                );
            }
        }
    }

    #[test]
    fn no_used_key_is_left() {
        let keys = keys(100);
        let mut window = window();
        for seq in [5, 2, 30, 29, 31] {
            assert_eq!(accept(&mut window, seq, &keys[seq as usize]), Ok(true));
            let kept = window.kept.as_ref().unwrap();
            assert!(!kept.keys.contains(&keys[seq as usize]));
        }
    }
}
