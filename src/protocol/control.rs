//! Frame kinds and the bodies of control frames: bytes to structs and back. Not: when they are sent.

use super::io::CloseCode;

pub(super) const DATA: u8 = 0x01;
pub(super) const DATA_PART: u8 = 0x02;
pub(super) const DATA_BATCH: u8 = 0x03;
const READY: u8 = 0x10;
const READY_OK: u8 = 0x11;
const ACK: u8 = 0x12;
const PING: u8 = 0x13;
const PONG: u8 = 0x14;
const CLOSE: u8 = 0x19;
pub(super) const DUMMY: u8 = 0x7f;

/// Bytes of a close reason.
const MAX_REASON: usize = 128;

/// READY: the first frame of channel 0, in each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Per live reliable channel, ascending: messages taken so far in this session.
    pub taken: Vec<(u8, u64)>,
    /// Set when the peer keeps a history: the channel and the two heads it states.
    pub history: Option<ReadyHistory>,
}

/// What READY says of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyHistory {
    /// The channel whose messages are chained.
    pub channel: u8,
    /// Length and head of the sender's own chain.
    pub sent: (u64, [u8; 32]),
    /// Length and head of the peer's chain as the sender holds it.
    pub received: (u64, [u8; 32]),
}

/// A frame of channel 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The sender is ready; key confirmation, one way.
    Ready(Ready),
    /// The sender received READY; key confirmation, the other way.
    ReadyOk,
    /// All messages of a channel below `next` were taken.
    Ack {
        /// The channel.
        channel: u8,
        /// The number.
        next: u64,
    },
    /// Answer this.
    Ping([u8; 8]),
    /// The answer.
    Pong([u8; 8]),
    /// The last frame of its sender.
    Close {
        /// Why.
        code: CloseCode,
        /// In words.
        reason: String,
    },
    /// Cover traffic.
    Dummy,
}

/// A control frame that is none: fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlError;

impl Control {
    /// The kind byte.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Ready(_) => READY,
            Self::ReadyOk => READY_OK,
            Self::Ack { .. } => ACK,
            Self::Ping(_) => PING,
            Self::Pong(_) => PONG,
            Self::Close { .. } => CLOSE,
            Self::Dummy => DUMMY,
        }
    }

    /// Appends the body.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ready(ready) => encode_ready(ready, out),
            Self::ReadyOk | Self::Dummy => {}
            Self::Ack { channel, next } => {
                out.push(*channel);
                push_u48(*next, out);
            }
            Self::Ping(opaque) | Self::Pong(opaque) => out.extend_from_slice(opaque),
            Self::Close { code, reason } => {
                out.push(code.to_byte());
                out.extend_from_slice(cut(reason).as_bytes());
            }
        }
    }

    /// Reads a frame of channel 0.
    ///
    /// # Errors
    /// [`ControlError`] for a kind or body that this version does not send.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, ControlError> {
        match kind {
            READY => decode_ready(body).map(Self::Ready),
            READY_OK if body.is_empty() => Ok(Self::ReadyOk),
            ACK => {
                let (&channel, next) = body.split_first().ok_or(ControlError)?;
                Ok(Self::Ack { channel, next: u48(next.try_into().map_err(|_| ControlError)?) })
            }
            PING => body.try_into().map(Self::Ping).map_err(|_| ControlError),
            PONG => body.try_into().map(Self::Pong).map_err(|_| ControlError),
            CLOSE => decode_close(body),
            DUMMY => Ok(Self::Dummy),
            _ => Err(ControlError),
        }
    }
}

fn decode_close(body: &[u8]) -> Result<Control, ControlError> {
    let (&code, reason) = body.split_first().ok_or(ControlError)?;
    if reason.len() > MAX_REASON {
        return Err(ControlError);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ControlError)?.to_owned();
    Ok(Control::Close { code: CloseCode::from_byte(code), reason })
}

/// The longest beginning of at most 128 bytes.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

fn push_u48(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_be_bytes()[2..]);
}

fn u48(bytes: &[u8; 6]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn encode_ready(ready: &Ready, out: &mut Vec<u8>) {
    out.push(u8::try_from(ready.taken.len()).expect("at most 15 channels"));
    for &(channel, next) in &ready.taken {
        out.push(channel);
        push_u48(next, out);
    }
    let Some(history) = &ready.history else { return out.push(0) };
    out.extend_from_slice(&[1, history.channel]);
    for (n, head) in [history.sent, history.received] {
        out.extend_from_slice(&n.to_be_bytes());
        out.extend_from_slice(&head);
    }
}

fn decode_ready(body: &[u8]) -> Result<Ready, ControlError> {
    let (&count, mut rest) = body.split_first().ok_or(ControlError)?;
    let mut taken: Vec<(u8, u64)> = Vec::new();
    for _ in 0..count {
        let (entry, after) = rest.split_first_chunk::<7>().ok_or(ControlError)?;
        let [channel, next @ ..] = entry;
        if taken.last().is_some_and(|(last, _)| last >= channel) {
            return Err(ControlError);
        }
        taken.push((*channel, u48(next)));
        rest = after;
    }
    match rest {
        [0] => Ok(Ready { taken, history: None }),
        [1, channel, heads @ ..] => {
            let heads: &[u8; 80] = heads.try_into().map_err(|_| ControlError)?;
            let (sent, received) = heads.split_at(40);
            let history = ReadyHistory { channel: *channel, sent: head(sent), received: head(received) };
            Ok(Ready { taken, history: Some(history) })
        }
        _ => Err(ControlError),
    }
}

/// A chain's length and head, from 40 bytes.
fn head(bytes: &[u8]) -> (u64, [u8; 32]) {
    let (n, head) = bytes.split_at(8);
    let n = n.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    (n, head.try_into().expect("the caller cuts 40 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(control: &Control) -> Result<Control, ControlError> {
        let mut body = Vec::new();
        control.encode(&mut body);
        Control::decode(control.kind(), &body)
    }

    #[test]
    fn every_control_frame_reads_back_as_it_was_written() {
        let history = ReadyHistory { channel: 1, sent: (3, [4; 32]), received: (5, [6; 32]) };
        let frames = [
            Control::Ready(Ready { taken: vec![(1, 0), (15, (1 << 48) - 1)], history: None }),
            Control::Ready(Ready { taken: vec![(1, 9)], history: Some(history) }),
            Control::ReadyOk,
            Control::Ack { channel: 1, next: 77 },
            Control::Ping([1; 8]),
            Control::Pong([2; 8]),
            Control::Close { code: CloseCode::Application(0x40), reason: "bye".into() },
            Control::Dummy,
        ];
        for frame in frames {
            assert_eq!(round_trip(&frame), Ok(frame));
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let close = Control::Close { code: CloseCode::Normal, reason: "é".repeat(100) };
        assert_eq!(round_trip(&close), Ok(Control::Close { code: CloseCode::Normal, reason: "é".repeat(64) }));
    }

    #[test]
    fn what_is_no_control_frame_is_refused() {
        let bad: [(u8, &[u8]); 12] = [
            (READY, b""),
            (READY, b"\x01"),
            (READY, b"\x00"),
            (READY, b"\x00\x02"),
            (READY, b"\x00\x00\x00"),
            (READY, b"\x02\x02\0\0\0\0\0\0\x01\0\0\0\0\0\0\x00"),
            (READY_OK, b"x"),
            (ACK, b"\x01\x00"),
            (PING, b"1234567"),
            (CLOSE, b""),
            (CLOSE, b"\x00\xff"),
            (0x00, b""),
        ];
        for (kind, body) in bad {
            assert_eq!(Control::decode(kind, body), Err(ControlError), "kind {kind:#x}");
        }
        assert_eq!(Control::decode(CLOSE, &[b'a'; 130]), Err(ControlError));
        assert_eq!(Control::decode(0x30, b""), Err(ControlError));
    }
}
