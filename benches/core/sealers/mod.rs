//! What is compared: this crate's frames (here), bare AEADs, and what other libraries make of a message of a session.

use sealwire::{
    crypto::{
        chain::{RecvChain, SendChain},
        secret::Secret,
    },
    protocol::{open_frame, padme, seal_frame},
};

const KEY: [u8; 32] = [9; 32];
const NONCE: [u8; 12] = [3; 12];
const TAG: usize = 16;

/// What seals and opens messages of one direction, in order.
pub trait Sealer: 'static {
    /// A message with the memory that it needs on its way.
    type Frame: 'static;

    /// Memory for a message of `len` bytes.
    fn frame(len: usize) -> Self::Frame;
    /// Puts a message into a frame, anew. Not measured.
    fn fill(frame: &mut Self::Frame, message: &[u8]);
    fn seal(&mut self, frame: &mut Self::Frame);
    fn open(&mut self, frame: &mut Self::Frame);
    /// What was opened.
    fn opened(frame: &Self::Frame) -> &[u8];
}

/// One buffer, for those that work in place: the message stands between `head` and `tail` bytes of overhead.
pub struct InPlace {
    buffer: Vec<u8>,
    message: std::ops::Range<usize>,
}

impl InPlace {
    fn new(len: usize, head: usize, tail: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(head + len + tail),
            message: head..head + len,
        }
    }

    fn fill(&mut self, message: &[u8]) {
        self.buffer.clear();
        self.buffer.resize(self.message.start, 0);
        self.buffer.extend_from_slice(message);
    }

    fn opened(&self) -> &[u8] {
        &self.buffer[self.message.clone()]
    }
}

/// Two buffers, for those that write elsewhere.
pub struct Apart {
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Apart {
    fn new(len: usize, overhead: usize) -> Self {
        Self {
            plain: vec![0; len],
            sealed: vec![0; len + overhead],
        }
    }
}

macro_rules! in_place {
    ($head:expr, $tail:expr) => {
        type Frame = InPlace;

        fn frame(len: usize) -> InPlace {
            InPlace::new(len, $head, $tail + len / 8)
        }

        fn fill(frame: &mut InPlace, message: &[u8]) {
            frame.fill(message);
        }

        fn opened(frame: &InPlace) -> &[u8] {
            frame.opened()
        }
    };
}

macro_rules! apart {
    ($overhead:expr) => {
        type Frame = Apart;

        fn frame(len: usize) -> Apart {
            Apart::new(len, $overhead)
        }

        fn fill(frame: &mut Apart, message: &[u8]) {
            frame.plain.copy_from_slice(message);
        }

        fn opened(frame: &Apart) -> &[u8] {
            &frame.plain
        }
    };
}

mod bare;
mod peers;

pub use bare::*;
pub use peers::*;

/// This crate's session frame: header, a key of its own per frame, AEAD.
pub struct Ours<const PADDED: bool> {
    send: SendChain,
    receive: RecvChain,
}

impl<const PADDED: bool> Default for Ours<PADDED> {
    fn default() -> Self {
        Self {
            send: SendChain::new(Secret::new(KEY)),
            receive: RecvChain::new(Secret::new(KEY)),
        }
    }
}

const HEADER: usize = 8;
/// Kind and tag; padding takes an eighth at most.
const ROOM: usize = 1 + TAG + 16;

impl<const PADDED: bool> Sealer for Ours<PADDED> {
    in_place!(HEADER, ROOM);

    fn seal(&mut self, frame: &mut InPlace) {
        let (seq, key) = self.send.next().expect("fewer than 2^32 frames");
        let len = frame.message.len() + 1;
        let plaintext = if PADDED { padme(len.max(32)) } else { len };
        let buffer = std::mem::take(&mut frame.buffer);
        frame.buffer = seal_frame(key, 0, seq, 1, buffer, plaintext);
    }

    fn open(&mut self, frame: &mut InPlace) {
        let key = self.receive.key().expect("fewer than 2^32 frames");
        open_frame(key, &mut frame.buffer).expect("what was sealed opens");
        self.receive.commit();
    }
}
