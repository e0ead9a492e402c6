//! What waits of one stream for the host, between the machine and a handle.

use std::{collections::VecDeque, task::Waker};

use bytes::{Bytes, BytesMut};

use super::StreamError;

/// Bytes of DATA that are worth a buffer of their own; less is put together, so that a peer that sends single bytes does
/// not fill memory with the frames that they came in.
const WORTH_A_BUFFER: usize = 16 << 10;
/// What was put together is a chunk from this length on, so that chunks are about one frame long.
const LONG_TAIL: usize = 48 << 10;

/// What the host has not seen of a stream that it gives.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) accepted: Option<(u64, [u8; 32])>,
    pub(super) outcome: Option<Result<(), StreamError>>,
    pub(super) waker: Option<Waker>,
}

/// What the host has not seen of a stream that it takes.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) accepted: bool,
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "files need it"))]
    pub(super) began: Option<u64>,
    chunks: VecDeque<Bytes>,
    /// Short pieces, put together, behind the chunks.
    tail: BytesMut,
    pub(super) ended: Option<[u8; 32]>,
    pub(super) failed: Option<StreamError>,
    pub(super) waker: Option<Waker>,
}

impl Taken {
    pub(super) fn push(&mut self, bytes: Bytes) {
        let short = bytes.len() < WORTH_A_BUFFER;
        if !self.tail.is_empty() && (!short || self.tail.len() >= LONG_TAIL) {
            let tail = std::mem::take(&mut self.tail);
            self.chunks.push_back(tail.freeze());
        }
        match short {
            true => self.tail.extend_from_slice(&bytes),
            false => self.chunks.push_back(bytes),
        }
    }

    /// The next bytes, or the hash behind the last of them.
    pub(super) fn pop(&mut self) -> Option<Result<Bytes, [u8; 32]>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Some(Ok(chunk));
        }
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            return Some(Ok(tail.freeze()));
        }
        self.ended.map(Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_pieces_keep_their_order_and_no_chunk_is_much_longer_than_a_frame() {
        let mut taken = Taken::default();
        let mut all = Vec::new();
        for n in 0..2_000_usize {
            let len = if n % 50 == 7 { 60_000 } else { 1 + n % 900 };
            let piece = vec![(n % 251) as u8; len];
            all.extend_from_slice(&piece);
            taken.push(piece.into());
        }
        taken.ended = Some([1; 32]);
        let mut read = Vec::new();
        while let Some(Ok(chunk)) = taken.pop() {
            assert!(chunk.len() <= LONG_TAIL + WORTH_A_BUFFER);
            read.extend_from_slice(&chunk);
        }
        assert!(read == all);
        assert_eq!(taken.pop(), Some(Err([1; 32])));
    }
}
