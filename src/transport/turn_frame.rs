//! How TURN messages follow each other on a stream (RFC 8656, §2.1 and §12.5; RFC 8489, §6.2.2): there is no framing
//! around them, each tells its own length, and ChannelData is padded to a multiple of four bytes.
//!
//! Pure, and strict: what is neither STUN nor ChannelData ends the stream, for nothing after it could be understood.

/// The two bytes that say what it is, and its length.
const HEADER: usize = 4;
const STUN_HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A message at the start of a stream. None is longer than 65 552 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes of the message.
    pub(crate) length: usize,
    /// Bytes of the stream that it takes.
    pub(crate) padded: usize,
}

/// The stream is not TURN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Garbage;

/// The message at the start of `stream`; `None` while it is not complete.
pub(crate) fn first(stream: &[u8]) -> Result<Option<Piece>, Garbage> {
    let Some(&[kind, _, high, low]) = stream.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let content = usize::from(u16::from_be_bytes([high, low]));
    let piece = match kind >> 6 {
        0b00 => {
            if content % 4 != 0 || !begins_alike(&stream[HEADER..], &MAGIC_COOKIE) {
                return Err(Garbage);
            }
            let length = STUN_HEADER + content;
            Piece {
                length,
                padded: length,
            }
        }
        0b01 => {
            let length = HEADER + content;
            Piece {
                length,
                padded: length.next_multiple_of(4),
            }
        }
        _ => return Err(Garbage),
    };
    Ok((stream.len() >= piece.padded).then_some(piece))
}

/// The zeros that a datagram of this length needs behind it on a stream. STUN messages need none.
pub(crate) fn padding(datagram: usize) -> &'static [u8] {
    const ZEROS: [u8; 3] = [0; 3];
    &ZEROS[..datagram.next_multiple_of(4) - datagram]
}

fn begins_alike(stream: &[u8], expected: &[u8]) -> bool {
    stream.iter().zip(expected).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(content: u16) -> Vec<u8> {
        let mut message = vec![0x00, 0x01];
        message.extend(content.to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.resize(STUN_HEADER + usize::from(content), 7);
        message
    }

    fn channel_data(content: u16) -> Vec<u8> {
        let mut message = vec![0x40, 0x00];
        message.extend(content.to_be_bytes());
        message.resize(HEADER + usize::from(content), 9);
        message
    }

    #[test]
    fn a_message_is_there_with_its_last_byte_and_not_before() {
        for (message, padded) in [
            (stun(0), 20),
            (stun(8), 28),
            (stun(0xfffc), 65_552),
            (channel_data(0), 4),
            (channel_data(1), 8),
            (channel_data(5), 12),
            (channel_data(8), 12),
            (channel_data(0xffff), 65_540),
        ] {
            let mut stream = message.clone();
            stream.extend_from_slice(padding(message.len()));
            assert_eq!(stream.len(), padded);
            for end in 0..stream.len().min(100) {
                assert_eq!(first(&stream[..end]), Ok(None), "{end} of {padded}");
            }
            assert_eq!(first(&stream[..padded - 1]), Ok(None));
            stream.extend([0xff; 3]);
            let length = message.len();
            assert_eq!(first(&stream), Ok(Some(Piece { length, padded })));
        }
    }

    #[test]
    fn what_is_neither_stun_nor_channel_data_is_noticed_with_its_first_bytes() {
        for stream in [
            &b"HTTP/1.1 400 Bad Request"[..],
            &b"SSH-2.0-x"[..],
            &[0x80, 0, 0, 0],
            &[0xc0, 0, 0, 0],
            // A length that no STUN message has, and another cookie.
            &[0x00, 0x01, 0, 3],
            &[0x00, 0x01, 0, 0, 0x21, 0x13],
        ] {
            let noticed = (0..=stream.len()).any(|end| first(&stream[..end]) == Err(Garbage));
            // "H" and "S" look like ChannelData, whose length then is some thousand bytes.
            let waits = stream[0] >> 6 == 0b01 && first(stream) == Ok(None);
            assert!(noticed || waits, "{stream:?}");
        }
    }
}
