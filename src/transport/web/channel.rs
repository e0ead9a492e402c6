//! One data channel on its way out: what waits here while the browser's own buffer is full.

use std::collections::VecDeque;

use web_sys::{RtcDataChannel, RtcDataChannelState};

use super::callbacks::silence_channel;
use crate::{
    shell::words,
    transport::{Progress, TransportError},
};

/// A data channel. Dropping it silences it; the connection closes it.
pub(super) struct Channel {
    pub(super) id: u8,
    stack: RtcDataChannel,
    queue: VecDeque<Vec<u8>>,
    /// Bytes that the browser may still be given before it is asked how many wait.
    room: usize,
    /// Bytes that may wait in the browser.
    limit: usize,
    progress: Progress,
}

impl Channel {
    pub(super) fn new(id: u8, stack: RtcDataChannel, limit: usize, progress: Progress) -> Self {
        stack.set_buffered_amount_low_threshold(u32::try_from(limit / 2).unwrap_or(u32::MAX));
        Self {
            id,
            stack,
            queue: VecDeque::new(),
            room: 0,
            limit,
            progress,
        }
    }

    /// Sends a frame now or when there is room.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub(super) fn send(&mut self, frame: Vec<u8>) -> Result<(), TransportError> {
        self.queue.push_back(frame);
        self.write()
    }

    /// Gives the browser as much as it may hold. [`Note::Writable`](super::callbacks::Note::Writable) follows when it
    /// holds half of that.
    ///
    /// # Errors
    /// When the browser refuses a frame.
    pub(super) fn write(&mut self) -> Result<(), TransportError> {
        while let Some(frame) = self.queue.front() {
            if self.stack.ready_state() != RtcDataChannelState::Open {
                // That it closed is told by a note of its own.
                return Ok(());
            }
            if self.room == 0 {
                let waiting = usize::try_from(self.stack.buffered_amount()).unwrap_or(usize::MAX);
                self.room = self.limit.saturating_sub(waiting);
            }
            if self.room == 0 {
                return Ok(());
            }
            let sent = self.stack.send_with_u8_array(frame);
            sent.map_err(|error| TransportError::Failed(words(&error)))?;
            let length = frame.len();
            self.queue.pop_front();
            self.room = self.room.saturating_sub(length);
            self.progress.sent(length);
        }
        Ok(())
    }

    /// Whether the browser was given everything.
    pub(super) fn is_written(&self) -> bool {
        self.queue.is_empty()
    }

    /// Closes the channel after what was sent: the peer's stack confirms that it has it all before this side's is
    /// closed.
    pub(super) fn close(&self) {
        self.stack.close();
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        silence_channel(&self.stack);
    }
}
