//! One encrypted data-channel message: `epoch u16 | seq u48 | ciphertext | tag 16`. Not: what the kinds mean.
//!
//! ```text
//!  0        2                8                                     n-16     n
//!  | epoch16 |     seq48     | ChaCha20-Poly1305 ciphertext ...      | tag16 |
//!  nonce = 00000000 || header(8)    AD empty    plaintext = body || kind || 0x00*
//! ```

use bytes::{Bytes, BytesMut};

use crate::crypto::chain::MessageKey;

/// Bytes of the header.
pub(super) const HEADER: usize = 8;
/// Bytes of the tag.
const TAG: usize = 16;
/// What a frame adds to its body, unpadded: header, kind and tag.
pub const FRAME_OVERHEAD: usize = HEADER + 1 + TAG;
/// Padding never makes a plaintext shorter than this.
const PADDED_MIN: usize = 32;

/// Why a frame cannot be opened. Each is fatal on a reliable channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Shorter than any frame.
    Short,
    /// Forged, damaged, or sealed for another place.
    Decrypt,
    /// No kind: the plaintext is all zeros.
    Empty,
}

/// Epoch and sequence number, as they stand on the wire.
pub(super) fn read_header(frame: &[u8]) -> Result<(u16, u64), FrameError> {
    let Some((header, rest)) = frame.split_first_chunk::<HEADER>() else { return Err(FrameError::Short) };
    if rest.len() < 1 + TAG {
        return Err(FrameError::Short);
    }
    let [e0, e1, s0, s1, s2, s3, s4, s5] = *header;
    Ok((u16::from_be_bytes([e0, e1]), u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5])))
}

fn header(epoch: u16, seq: u64) -> [u8; HEADER] {
    let [e0, e1] = epoch.to_be_bytes();
    let [_, _, s0, s1, s2, s3, s4, s5] = seq.to_be_bytes();
    [e0, e1, s0, s1, s2, s3, s4, s5]
}

fn nonce(header: [u8; HEADER]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&header);
    nonce
}

/// A buffer that begins with room for the header, to which a body of about `body` bytes is appended.
pub(super) fn frame_buffer(body: usize) -> Vec<u8> {
    // Padmé adds at most 11.6 % from 32 bytes on.
    let mut frame = Vec::with_capacity(FRAME_OVERHEAD + PADDED_MIN + body + body / 8);
    frame.resize(HEADER, 0);
    frame
}

/// The length of a plaintext of `body` bytes and a kind, padded, at most `max_frame` - 24 (R: Padmé).
pub(super) fn padded_len(body: usize, max_frame: usize) -> usize {
    padme((body + 1).max(PADDED_MIN)).min(max_frame - HEADER - TAG)
}

/// Rounds a length up so that it tells at most O(log log n) bits (Padmé).
#[must_use]
pub fn padme(len: usize) -> usize {
    if len < 2 {
        return len;
    }
    let e = len.ilog2();
    let s = e.ilog2() + 1;
    let mask = (1_usize << (e - s)) - 1;
    (len + mask) & !mask
}

/// Turns a buffer from [`frame_buffer`] with its body into a frame, in place.
/// `plaintext` is the padded length of body and kind; at least body + 1.
pub(super) fn seal(key: MessageKey, epoch: u16, seq: u64, kind: u8, mut frame: Vec<u8>, plaintext: usize) -> Vec<u8> {
    debug_assert!(plaintext > frame.len() - HEADER, "the kind has room");
    let header = header(epoch, seq);
    frame.push(kind);
    frame.resize(HEADER + plaintext, 0);
    let (head, body) = frame.split_at_mut(HEADER);
    head.copy_from_slice(&header);
    let tag = key.seal(&nonce(header), body);
    frame.extend_from_slice(&tag);
    frame
}

/// Opens a frame in place: its kind and its body, which shares the frame's memory.
pub(super) fn open(key: &MessageKey, mut frame: BytesMut) -> Result<(u8, Bytes), FrameError> {
    let Some((header, sealed)) = frame.split_first_chunk_mut::<HEADER>() else { return Err(FrameError::Short) };
    let plaintext = key.open(&nonce(*header), sealed).map_err(|_| FrameError::Decrypt)?;
    let last = plaintext.iter().rposition(|&byte| byte != 0).ok_or(FrameError::Empty)?;
    let kind = plaintext[last];
    Ok((kind, frame.freeze().slice(HEADER..HEADER + last)))
}

/// Seals one body: for benches and tests; the machine builds its frames with the same parts.
#[must_use]
pub fn seal_frame(key: MessageKey, epoch: u16, seq: u64, kind: u8, mut buffer: Vec<u8>, plaintext: usize) -> Vec<u8> {
    if buffer.len() < HEADER {
        buffer.resize(HEADER, 0);
    }
    let plaintext = plaintext.max(buffer.len() - HEADER + 1);
    seal(key, epoch, seq, kind, buffer, plaintext)
}

/// Opens one frame: for benches, tests and the fuzzer.
///
/// # Errors
/// [`FrameError`], without saying more than that.
pub fn open_frame(key: &MessageKey, frame: BytesMut) -> Result<(u8, Bytes), FrameError> {
    read_header(&frame)?;
    open(key, frame)
}
