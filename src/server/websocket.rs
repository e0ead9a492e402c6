//! WebSocket as a server speaks it (RFC 6455), without IO and without buffers of its own: bytes in, messages out.
//!
//! Frames are unmasked where they lie, so a message in one frame is never copied. The one thing that is kept between
//! calls is what came of a message in fragments. No extension is known: there is no decompression to abuse.

use std::borrow::Cow;

/// The longest header of a client's frame, in bytes.
pub const MAX_CLIENT_HEADER: usize = 14;

/// The longest header of a server's frame, in bytes.
pub const MAX_SERVER_HEADER: usize = 10;

/// The longest payload of a ping, a pong or a close frame, in bytes.
pub const MAX_CONTROL: usize = 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// What may be sent by a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a message, however many frames it comes in.
    pub message: usize,
    /// Frames that a message may come in.
    pub fragments: u32,
}

/// Which rule a client broke. Nothing more is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not a frame of a client, or not in this order: close code 1002.
    #[error("a frame broke the WebSocket protocol")]
    Protocol,
    /// Text that is not UTF-8: close code 1007.
    #[error("a text was not UTF-8")]
    NotUtf8,
    /// More bytes than a message may have: close code 1009.
    #[error("a message was too long")]
    TooLong,
    /// More frames than a message may come in. The protocol has no code for this.
    #[error("a message came in too many fragments")]
    TooManyFragments,
}

/// What a frame brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole text; borrowed when it came in one frame.
    Text(Cow<'a, str>),
    /// A whole binary message; borrowed when it came in one frame.
    Binary(Cow<'a, [u8]>),
    /// Part of a message.
    Fragment,
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The other end closes, with this code if it gave one. Nothing comes after it.
    Close(Option<u16>),
}

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole text message.
    Text,
    /// A whole binary message.
    Binary,
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// The end.
    Close,
}

/// Reads the frames of one client.
#[derive(Debug)]
pub struct Decoder {
    bounds: Bounds,
    unfinished: Option<Box<Unfinished>>,
}

/// A message of which the last frame has not come.
#[derive(Debug)]
struct Unfinished {
    is_text: bool,
    bytes: Vec<u8>,
    /// So many of them are known to be UTF-8.
    checked: usize,
    fragments: u32,
}

/// The header of a frame.
struct Header {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the header.
    size: usize,
    /// Bytes of the payload.
    payload: usize,
}

impl Decoder {
    /// For a connection that has just opened.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            unfinished: None,
        }
    }

    /// Reads the first frame in `bytes`: how many bytes it has, and what it brought. `None` when it is not complete: call
    /// again with these bytes and those that follow. At most [`Bounds::message`] and [`MAX_CLIENT_HEADER`] bytes are
    /// ever incomplete. The payload in `bytes` is unmasked.
    ///
    /// # Errors
    /// [`Violation`], as soon as the bytes that are there show it.
    pub fn decode<'a>(
        &mut self,
        bytes: &'a mut [u8],
    ) -> Result<Option<(usize, Frame<'a>)>, Violation> {
        let Some(header) = self.header(bytes)? else {
            return Ok(None);
        };
        let size = header.size + header.payload;
        let Some(payload) = bytes.get_mut(header.size..size) else {
            return Ok(None);
        };
        unmask(payload, header.mask);
        let frame = match header.opcode {
            PING => Frame::Ping(payload),
            PONG => Frame::Pong,
            CLOSE => Frame::Close(close_code(payload)?),
            opcode => self.data(opcode, header.is_final, payload)?,
        };
        Ok(Some((size, frame)))
    }

    /// Whether part of a message is kept.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unfinished.is_none()
    }

    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        self.check_order(first & 0x70, is_final, opcode)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let short = second & 0x7f;
        if second & 0x80 == 0 || (opcode >= CLOSE && usize::from(short) > MAX_CONTROL) {
            return Err(Violation::Protocol);
        }
        let (length, size) = match short {
            126 => (number::<2>(bytes), 4),
            127 => (number::<8>(bytes), 10),
            short => (Some(u64::from(short)), 2),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        // The shortest form is the only one; the first bit of the longest is 0 (section 5.2).
        let least = [0, 126, 1 << 16][size / 4];
        if length < least || length >> 63 != 0 {
            return Err(Violation::Protocol);
        }
        let payload = self.check_length(opcode, length)?;
        let mask = bytes
            .get(size..size + 4)
            .and_then(|mask| mask.try_into().ok());
        Ok(mask.map(|mask| Header {
            is_final,
            opcode,
            mask,
            size: size + 4,
            payload,
        }))
    }

    fn check_order(&self, reserved: u8, is_final: bool, opcode: u8) -> Result<(), Violation> {
        let is_allowed = match opcode {
            CONTINUATION => self.unfinished.is_some(),
            TEXT | BINARY => self.unfinished.is_none(),
            CLOSE | PING | PONG => is_final,
            _ => false,
        };
        if reserved == 0 && is_allowed {
            Ok(())
        } else {
            Err(Violation::Protocol)
        }
    }

    fn check_length(&self, opcode: u8, length: u64) -> Result<usize, Violation> {
        let before = match &self.unfinished {
            Some(unfinished) if opcode == CONTINUATION => unfinished.bytes.len(),
            _ => 0,
        };
        let left = self.bounds.message.saturating_sub(before);
        usize::try_from(length)
            .ok()
            .filter(|length| opcode >= CLOSE || *length <= left)
            .ok_or(Violation::TooLong)
    }

    fn data<'a>(
        &mut self,
        opcode: u8,
        is_final: bool,
        payload: &'a [u8],
    ) -> Result<Frame<'a>, Violation> {
        if is_final && opcode != CONTINUATION {
            return Ok(if opcode == TEXT {
                Frame::Text(Cow::Borrowed(text(payload)?))
            } else {
                Frame::Binary(Cow::Borrowed(payload))
            });
        }
        let mut unfinished = self.unfinished.take().unwrap_or_else(|| {
            Box::new(Unfinished {
                is_text: opcode == TEXT,
                bytes: Vec::new(),
                checked: 0,
                fragments: 0,
            })
        });
        unfinished.add(payload, self.bounds.fragments)?;
        if is_final {
            return unfinished.finish();
        }
        self.unfinished = Some(unfinished);
        Ok(Frame::Fragment)
    }
}

impl Unfinished {
    fn add(&mut self, payload: &[u8], most: u32) -> Result<(), Violation> {
        self.fragments += 1;
        if self.fragments > most {
            return Err(Violation::TooManyFragments);
        }
        self.bytes.extend_from_slice(payload);
        if self.is_text {
            // A character may end in the next fragment; anything else that is wrong now stays wrong.
            match std::str::from_utf8(&self.bytes[self.checked..]) {
                Ok(text) => self.checked += text.len(),
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(Violation::NotUtf8),
            }
        }
        Ok(())
    }

    fn finish<'a>(self) -> Result<Frame<'a>, Violation> {
        if !self.is_text {
            return Ok(Frame::Binary(Cow::Owned(self.bytes)));
        }
        String::from_utf8(self.bytes)
            .map(|text| Frame::Text(Cow::Owned(text)))
            .map_err(|_| Violation::NotUtf8)
    }
}

/// The header of a server's frame with `length` bytes of payload, at the end of the array, and where it begins there:
/// written before a payload that is in a buffer already, it makes one write of both.
#[must_use]
pub fn header(kind: Kind, length: usize) -> ([u8; MAX_SERVER_HEADER], usize) {
    let first = 0x80
        | match kind {
            Kind::Text => TEXT,
            Kind::Binary => BINARY,
            Kind::Ping => PING,
            Kind::Pong => PONG,
            Kind::Close => CLOSE,
        };
    let mut header = [0; MAX_SERVER_HEADER];
    let long = (length as u64).to_be_bytes();
    header[2..].copy_from_slice(&long);
    let start = match length {
        0..126 => {
            header[9] = long[7];
            8
        }
        126..65_536 => {
            header[7] = 126;
            6
        }
        _ => {
            header[1] = 127;
            0
        }
    };
    header[start] = first;
    (header, start)
}

/// Appends a frame to `out`.
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    let (header, start) = header(kind, payload.len());
    out.extend_from_slice(&header[start..]);
    out.extend_from_slice(payload);
}

/// Appends a close frame to `out`; of the reason at most 123 bytes.
pub fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let most = reason.len().min(MAX_CONTROL - 2);
    let end = (0..=most).rev().find(|&end| reason.is_char_boundary(end));
    let reason = &reason[..end.unwrap_or_default()];
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    encode(Kind::Close, &payload, out);
}

/// The number of `N` bytes that follows the first two.
fn number<const N: usize>(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.get(2..2 + N)?;
    Some(digits.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn text(payload: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(payload).map_err(|_| Violation::NotUtf8)
}

/// Section 5.5.1; the codes are those that section 7.4 and its registry let an endpoint send.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::Protocol),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            text(reason)?;
            match code {
                1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(Some(code)),
                _ => Err(Violation::Protocol),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        message: 24 << 10,
        fragments: 64,
    };

    /// A frame of a client.
    fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let (header, start) = header(Kind::Text, payload.len());
        let mut frame = header[start..].to_vec();
        frame[0] = first;
        frame[1] |= 0x80;
        frame.extend(mask);
        let at = frame.len();
        frame.extend(payload);
        unmask(&mut frame[at..], mask);
        frame
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        masked(first, payload, [1, 2, 3, 250])
    }

    /// Everything in `bytes`, and what remains.
    fn decode_all(bytes: &[u8]) -> Result<(Vec<Frame<'static>>, usize), Violation> {
        decode_in_pieces(&[bytes])
    }

    fn decode_in_pieces(pieces: &[&[u8]]) -> Result<(Vec<Frame<'static>>, usize), Violation> {
        let (mut decoder, mut held, mut frames) = (Decoder::new(BOUNDS), Vec::new(), Vec::new());
        for piece in pieces {
            held.extend_from_slice(piece);
            while let Some((size, frame)) = decoder.decode(&mut held)? {
                frames.push(owned(frame));
                held.drain(..size);
            }
        }
        Ok((frames, held.len()))
    }

    fn owned(frame: Frame<'_>) -> Frame<'static> {
        match frame {
            Frame::Text(text) => Frame::Text(Cow::Owned(text.into_owned())),
            Frame::Binary(bytes) => Frame::Binary(Cow::Owned(bytes.into_owned())),
            Frame::Ping(bytes) => Frame::Ping(bytes.to_vec().leak()),
            Frame::Fragment => Frame::Fragment,
            Frame::Pong => Frame::Pong,
            Frame::Close(code) => Frame::Close(code),
        }
    }

    fn text(text: &str) -> Frame<'static> {
        Frame::Text(Cow::Owned(text.to_owned()))
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(decode_all(&hello), Ok((vec![text("Hello")], 0)));
        for length in [0, 1, 125, 126, 127, 24_576] {
            let payload = "x".repeat(length);
            let read = decode_all(&frame(0x81, payload.as_bytes()));
            assert_eq!(read, Ok((vec![text(&payload)], 0)), "{length}");
        }
    }

    #[test]
    fn fragments_are_joined_and_control_frames_come_between_them() {
        let bytes = [
            frame(0x01, "h\u{e9}".as_bytes().split_at(2).0),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, &"\u{e9}llo".as_bytes()[1..]),
            frame(0x02, b"\xff"),
            frame(0x80, b"\xfe"),
            frame(0x8a, b""),
        ]
        .concat();
        let expected = vec![
            Frame::Fragment,
            Frame::Ping(b"ping"),
            Frame::Fragment,
            text("h\u{e9}llo"),
            Frame::Fragment,
            Frame::Binary(Cow::Borrowed(b"\xff\xfe")),
            Frame::Pong,
        ];
        assert_eq!(decode_all(&bytes), Ok((expected, 0)));
    }

    #[test]
    fn each_broken_rule_has_its_name() {
        let long = vec![b' '; 24_577];
        let many = [frame(0x01, b"x"), frame(0x00, b"x").repeat(64)].concat();
        let non_minimal = vec![0x81, 0xfe, 0, 125, 0, 0, 0, 0];
        let non_minimal_8 = [vec![0x81, 0xff], (65_535_u64).to_be_bytes().to_vec()].concat();
        let negative = [vec![0x81, 0xff], u64::MAX.to_be_bytes().to_vec()].concat();
        let huge = [vec![0x81, 0xff], (u64::MAX >> 1).to_be_bytes().to_vec()].concat();
        for (bytes, violation) in [
            (vec![0x81, 2, b'{', b'}'], Violation::Protocol),
            (frame(0xc1, b""), Violation::Protocol),
            (frame(0x83, b""), Violation::Protocol),
            (vec![0x8b], Violation::Protocol),
            (vec![0x80], Violation::Protocol),
            (vec![0x09], Violation::Protocol),
            (frame(0x89, &[0; 126]), Violation::Protocol),
            ([frame(0x01, b""), vec![0x81]].concat(), Violation::Protocol),
            ([frame(0x01, b""), vec![0x82]].concat(), Violation::Protocol),
            (frame(0x88, b"\x03"), Violation::Protocol),
            (frame(0x88, &1005_u16.to_be_bytes()), Violation::Protocol),
            (frame(0x88, &999_u16.to_be_bytes()), Violation::Protocol),
            (frame(0x88, &5000_u16.to_be_bytes()), Violation::Protocol),
            (frame(0x88, b"\x03\xe8\xff"), Violation::NotUtf8),
            (non_minimal, Violation::Protocol),
            (non_minimal_8, Violation::Protocol),
            (negative, Violation::Protocol),
            (huge, Violation::TooLong),
            (frame(0x81, &long), Violation::TooLong),
            (
                [frame(0x01, &long[..20_000]), frame(0x80, &long[..5_000])].concat(),
                Violation::TooLong,
            ),
            (many, Violation::TooManyFragments),
            (frame(0x81, b"\xff"), Violation::NotUtf8),
            (frame(0x81, b"\xe2\x82"), Violation::NotUtf8),
            (frame(0x01, b"\xff"), Violation::NotUtf8),
            (
                [frame(0x01, b"\xe2\x82"), frame(0x80, b"")].concat(),
                Violation::NotUtf8,
            ),
            (
                [frame(0x01, b"\xe2\x82"), frame(0x00, b"\x41")].concat(),
                Violation::NotUtf8,
            ),
        ] {
            let start = &bytes[..bytes.len().min(16)];
            assert_eq!(decode_all(&bytes), Err(violation), "{start:x?}");
        }
    }

    #[test]
    fn close_frames_say_a_code_or_none() {
        for (payload, code) in [
            (&b""[..], None),
            (&b"\x03\xe8bye"[..], Some(1000)),
            (&4999_u16.to_be_bytes(), Some(4999)),
        ] {
            let read = decode_all(&frame(0x88, payload));
            assert_eq!(read, Ok((vec![Frame::Close(code)], 0)));
        }
        let mut out = Vec::new();
        encode_close(4008, &"\u{e9}".repeat(100), &mut out);
        assert_eq!((out.len(), out[1]), (2 + 124, 124));
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }

    #[test]
    fn headers_of_all_lengths_are_the_shortest() {
        for (length, expected) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let (header, start) = header(Kind::Text, length);
            assert_eq!(&header[start..], expected);
        }
    }

    #[test]
    fn nothing_is_kept_between_messages_and_little_of_an_idle_connection() {
        let mut decoder = Decoder::new(BOUNDS);
        assert!(decoder.decode(&mut frame(0x01, b"x")).is_ok() && !decoder.is_idle());
        assert!(decoder.decode(&mut frame(0x80, b"y")).is_ok() && decoder.is_idle());
        assert!(size_of::<Decoder>() <= 24);
    }

    proptest! {
        #[test]
        fn what_arrives_in_pieces_is_read_as_if_it_came_at_once(
            payloads in prop::collection::vec((any::<bool>(), ".{0,300}", any::<[u8; 4]>()), 1..5),
            cuts: Vec<prop::sample::Index>,
        ) {
            let mut bytes = Vec::new();
            for (is_final, payload, mask) in &payloads {
                if *is_final {
                    bytes.extend(masked(0x81, payload.as_bytes(), *mask));
                } else {
                    let (head, tail) = payload.as_bytes().split_at(payload.len() / 2);
                    bytes.extend(masked(0x01, head, *mask));
                    bytes.extend(masked(0x80, tail, *mask));
                }
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            let ends = cuts.iter().copied().chain([bytes.len()]);
            let starts = [0].into_iter().chain(cuts.iter().copied());
            let pieces: Vec<&[u8]> = starts.zip(ends).map(|(start, end)| &bytes[start..end]).collect();
            let (frames, left) = decode_in_pieces(&pieces).unwrap();
            prop_assert_eq!(left, 0);
            let texts: Vec<_> = frames.into_iter().filter(|frame| *frame != Frame::Fragment).collect();
            let sent: Vec<_> = payloads.iter().map(|(_, payload, _)| text(payload)).collect();
            prop_assert_eq!(texts, sent);
        }
    }
}
