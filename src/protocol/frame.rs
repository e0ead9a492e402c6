//! One encrypted data-channel message: `epoch u16 | seq u48 | ciphertext | tag 16`. Not: what the kinds mean (R-114).
//!
//! ```text
//!  0        2                8                                     n-16     n
//!  | epoch16 |     seq48     | ChaCha20-Poly1305 ciphertext ...      | tag16 |
//!  nonce = 00000000 || header(8)    AD empty    plaintext = body || kind || 0x00*
//! ```

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::crypto::chain::MessageKey;

/// Bytes of the header.
pub(super) const HEADER: usize = 8;
/// Bytes of the tag.
const TAG: usize = 16;
/// What a frame adds to its body, unpadded: header, kind and tag.
pub const FRAME_OVERHEAD: usize = HEADER + 1 + TAG;
/// What a body may cost beside its length: as much as the window counts for a message.
const SMALL: usize = 64;
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
    let Some((header, rest)) = frame.split_first_chunk::<HEADER>() else {
        return Err(FrameError::Short);
    };
    if rest.len() < 1 + TAG {
        return Err(FrameError::Short);
    }
    let [e0, e1, s0, s1, s2, s3, s4, s5] = *header;
    Ok((
        u16::from_be_bytes([e0, e1]),
        u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
    ))
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

/// The length of a plaintext of `body` bytes and a kind, padded, at most `max_frame` - 24 (R-118).
pub(super) fn padded_len(body: usize, max_frame: usize) -> usize {
    padme((body + 1).max(PADDED_MIN)).min(max_frame - HEADER - TAG)
}

/// Rounds a length up so that it tells at most O(log log n) bits (Padmé; R-119).
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
pub(super) fn seal(
    key: MessageKey,
    epoch: u16,
    seq: u64,
    kind: u8,
    mut frame: Vec<u8>,
    plaintext: usize,
) -> Vec<u8> {
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

/// Opens a frame in place: its kind, and where its body stands in it.
fn open_in_place(key: &MessageKey, frame: &mut [u8]) -> Result<(u8, Range<usize>), FrameError> {
    let Some((header, sealed)) = frame.split_first_chunk_mut::<HEADER>() else {
        return Err(FrameError::Short);
    };
    let plaintext = key
        .open(&nonce(*header), sealed)
        .map_err(|_| FrameError::Decrypt)?;
    // R-115
    let last = plaintext
        .iter()
        .rposition(|&byte| byte != 0)
        .ok_or(FrameError::Empty)?;
    Ok((plaintext[last], HEADER..HEADER + last))
}

/// Opens a frame: its kind and its body, which shares the frame's memory unless that is mostly padding: a window
/// counts bodies, and must bound what they hold.
pub(super) fn open(key: &MessageKey, mut frame: BytesMut) -> Result<(u8, Bytes), FrameError> {
    let (kind, body) = open_in_place(key, &mut frame)?;
    let body = if frame.capacity() > 2 * (body.len() + SMALL) {
        Bytes::copy_from_slice(&frame[body])
    } else {
        frame.freeze().slice(body)
    };
    Ok((kind, body))
}

/// Seals one body: for benches and tests; the machine builds its frames with the same parts.
#[must_use]
pub fn seal_frame(
    key: MessageKey,
    epoch: u16,
    seq: u64,
    kind: u8,
    mut buffer: Vec<u8>,
    plaintext: usize,
) -> Vec<u8> {
    if buffer.len() < HEADER {
        buffer.resize(HEADER, 0);
    }
    let plaintext = plaintext.max(buffer.len() - HEADER + 1);
    seal(key, epoch, seq, kind, buffer, plaintext)
}

/// Opens one frame in place: for benches, tests and the fuzzer.
///
/// # Errors
/// A frame that is short, forged or without a kind; which of them is all that it says.
pub fn open_frame(key: &MessageKey, frame: &mut [u8]) -> Result<(u8, Range<usize>), FrameError> {
    read_header(frame)?;
    open_in_place(key, frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{chain::SendChain, secret::Secret};

    fn key() -> MessageKey {
        SendChain::new(Secret::new([7; 32]))
            .next()
            .expect("a fresh chain")
            .1
    }

    fn sealed(body: &[u8], plaintext: usize) -> Vec<u8> {
        let mut frame = frame_buffer(body.len());
        frame.extend_from_slice(body);
        seal(key(), 3, 5, 1, frame, plaintext)
    }

    /// R-114, R-118.
    #[test]
    fn a_frame_opens_to_what_was_sealed_with_and_without_padding() {
        for plaintext in [6, 32, 100] {
            let frame = sealed(b"hello", plaintext);
            assert_eq!(frame.len(), HEADER + plaintext + TAG);
            assert_eq!(read_header(&frame), Ok((3, 5)));
            assert_eq!(
                open(&key(), BytesMut::from(&frame[..])),
                Ok((1, Bytes::from_static(b"hello")))
            );
        }
    }

    /// R-115.
    #[test]
    fn a_body_that_ends_in_zeros_keeps_them() {
        let frame = sealed(b"zeros\0\0\0", 64);
        assert_eq!(
            open(&key(), BytesMut::from(&frame[..])),
            Ok((1, Bytes::from_static(b"zeros\0\0\0")))
        );
    }

    #[test]
    fn sealing_allocates_nothing_beyond_the_buffer() {
        for len in [0, 31, 100, 5_000, 65_511] {
            let mut frame = frame_buffer(len);
            frame.resize(HEADER + len, 1);
            let (at, capacity) = (frame.as_ptr(), frame.capacity());
            let frame = seal(key(), 0, 0, 1, frame, padded_len(len, 65_536));
            assert_eq!(
                (frame.as_ptr(), frame.capacity()),
                (at, capacity),
                "{len} bytes"
            );
        }
    }

    /// R-115, R-116.
    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(read_header(&[0; 24]), Err(FrameError::Short));
        assert_eq!(open(&key(), BytesMut::zeroed(7)), Err(FrameError::Short));
        assert_eq!(open(&key(), BytesMut::zeroed(64)), Err(FrameError::Decrypt));
        let mut plaintext = vec![0; HEADER + 32];
        let head = header(3, 5);
        plaintext[..HEADER].copy_from_slice(&head);
        let tag = key().seal(&nonce(head), &mut plaintext[HEADER..]);
        plaintext.extend_from_slice(&tag);
        assert_eq!(
            open(&key(), BytesMut::from(&plaintext[..])),
            Err(FrameError::Empty)
        );
    }

    /// R-118.
    #[test]
    fn padding_grows_by_at_most_an_eighth_and_never_beyond_the_frame() {
        for body in (0..70_000).step_by(7) {
            let padded = padded_len(body.min(65_511), 65_536);
            let exact = body.min(65_511) + 1;
            assert!(padded >= exact && padded <= 65_512, "{body}");
            assert!(
                padded <= PADDED_MIN || padded <= exact + exact / 8,
                "{body}"
            );
        }
    }

    #[test]
    fn a_body_shares_its_frame_unless_that_is_mostly_padding() {
        for (plaintext, shares) in [(1_001, true), (1_500, true), (4_000, false)] {
            let frame = BytesMut::from(&sealed(&[1; 1_000], plaintext)[..]);
            let memory = frame.as_ptr_range();
            let (_, body) = open(&key(), frame).expect("our own frame");
            assert_eq!(memory.contains(&body.as_ptr()), shares, "{plaintext}");
        }
    }

    #[test]
    fn one_body_is_sealed_with_the_padding_that_it_needs() {
        for (buffer, plaintext, expected) in [
            (0, 0, 1),
            (HEADER, 0, 1),
            (HEADER + 5, 0, 6),
            (HEADER + 5, 9, 9),
        ] {
            let frame = seal_frame(key(), 3, 5, 1, vec![1; buffer], plaintext);
            assert_eq!(frame.len(), HEADER + expected + TAG);
            let body = vec![1; buffer.saturating_sub(HEADER)];
            assert_eq!(
                open(&key(), BytesMut::from(&frame[..])),
                Ok((1, Bytes::from(body)))
            );
        }
    }
}
