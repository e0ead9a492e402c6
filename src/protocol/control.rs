//! Frame kinds and the bodies of control frames: bytes to structs and back. Not: when they are sent.

use crate::{
    crypto::epoch::Role,
    error::{CloseCode, ProtocolViolation},
};

pub(super) const DATA: u8 = 0x01;
pub(super) const DATA_PART: u8 = 0x02;
pub(super) const DATA_BATCH: u8 = 0x03;
const READY: u8 = 0x10;
const READY_OK: u8 = 0x11;
const ACK: u8 = 0x12;
const PING: u8 = 0x13;
const PONG: u8 = 0x14;
const REKEY_REQ: u8 = 0x15;
const REKEY1: u8 = 0x16;
const REKEY2: u8 = 0x17;
pub(super) const EPOCH: u8 = 0x18;
const CLOSE: u8 = 0x19;
const SAS_START: u8 = 0x20;
const SAS_COMMIT: u8 = 0x21;
const SAS_NONCE: u8 = 0x22;
const SAS_OPEN: u8 = 0x23;
const PAIR_REQ: u8 = 0x28;
const PAIR_OK: u8 = 0x29;
pub(super) const DUMMY: u8 = 0x7f;

/// Bytes of the two messages of a rekey.
const REKEY1_LEN: usize = 1_248;
const REKEY2_LEN: usize = 1_152;
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
        /// The head of the sender's copy of their history: on the channel that has one.
        head: Option<[u8; 32]>,
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
    /// The responder wants new keys.
    RekeyRequest,
    /// The first message of a rekey.
    Rekey1(Vec<u8>),
    /// Its answer.
    Rekey2(Vec<u8>),
    /// The first frame of an epoch on a channel.
    Epoch,
    /// A short code is to be compared.
    SasStart,
    /// The responder's commitment to its nonce.
    SasCommit([u8; 32]),
    /// The initiator's nonce.
    SasNonce([u8; 32]),
    /// The responder's nonce.
    SasOpen([u8; 32]),
    /// The sender's host wants the receiver as a contact.
    PairRequest,
    /// The sender's host agrees.
    PairOk,
}

impl Control {
    /// The kind byte.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Ready(_) => READY,
            Self::ReadyOk => READY_OK,
            Self::Ack { .. } => ACK,
            Self::Ping(_) => PING,
            Self::Pong(_) => PONG,
            Self::Close { .. } => CLOSE,
            Self::Dummy => DUMMY,
            Self::RekeyRequest => REKEY_REQ,
            Self::Rekey1(_) => REKEY1,
            Self::Rekey2(_) => REKEY2,
            Self::Epoch => EPOCH,
            Self::SasStart => SAS_START,
            Self::SasCommit(_) => SAS_COMMIT,
            Self::SasNonce(_) => SAS_NONCE,
            Self::SasOpen(_) => SAS_OPEN,
            Self::PairRequest => PAIR_REQ,
            Self::PairOk => PAIR_OK,
        }
    }

    /// Appends the body.
    /// The one role that may send it, if only one may.
    pub(crate) fn only_from(&self) -> Option<Role> {
        match self {
            Self::RekeyRequest | Self::Rekey2(_) | Self::SasCommit(_) | Self::SasOpen(_) => {
                Some(Role::Responder)
            }
            Self::Rekey1(_) | Self::SasNonce(_) => Some(Role::Initiator),
            Self::Ready(_)
            | Self::ReadyOk
            | Self::Ack { .. }
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Close { .. }
            | Self::Dummy
            | Self::Epoch
            | Self::SasStart
            | Self::PairRequest
            | Self::PairOk => None,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ready(ready) => encode_ready(ready, out),
            Self::ReadyOk
            | Self::Dummy
            | Self::RekeyRequest
            | Self::Epoch
            | Self::SasStart
            | Self::PairRequest
            | Self::PairOk => {}
            Self::SasCommit(bytes) | Self::SasNonce(bytes) | Self::SasOpen(bytes) => {
                out.extend_from_slice(bytes);
            }
            Self::Rekey1(message) | Self::Rekey2(message) => out.extend_from_slice(message),
            Self::Ack {
                channel,
                next,
                head,
            } => {
                out.push(*channel);
                push_u48(*next, out);
                out.extend(head.iter().flatten());
            }
            Self::Ping(opaque) | Self::Pong(opaque) => out.extend_from_slice(opaque),
            Self::Close { code, reason } => {
                out.push(code.to_wire());
                out.extend_from_slice(cut(reason).as_bytes());
            }
        }
    }

    /// Reads a frame of channel 0.
    ///
    /// # Errors
    /// The violation, for a kind or body that no peer of this version sends. All are fatal.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, ProtocolViolation> {
        let malformed = ProtocolViolation::MalformedBody {
            kind,
            len: body.len(),
        };
        match kind {
            READY => decode_ready(body).map(Self::Ready).ok_or(malformed),
            READY_OK => body.is_empty().then_some(Self::ReadyOk).ok_or(malformed),
            ACK => decode_ack(body).ok_or(malformed),
            PING => body.try_into().map(Self::Ping).map_err(|_| malformed),
            PONG => body.try_into().map(Self::Pong).map_err(|_| malformed),
            CLOSE => decode_close(body).ok_or(malformed)?,
            DUMMY => Ok(Self::Dummy),
            REKEY_REQ if body.is_empty() => Ok(Self::RekeyRequest),
            REKEY1 if body.len() == REKEY1_LEN => Ok(Self::Rekey1(body.to_vec())),
            REKEY2 if body.len() == REKEY2_LEN => Ok(Self::Rekey2(body.to_vec())),
            EPOCH if body.is_empty() => Ok(Self::Epoch),
            SAS_START if body.is_empty() => Ok(Self::SasStart),
            PAIR_REQ if body.is_empty() => Ok(Self::PairRequest),
            PAIR_OK if body.is_empty() => Ok(Self::PairOk),
            SAS_COMMIT => body.try_into().map(Self::SasCommit).map_err(|_| malformed),
            SAS_NONCE => body.try_into().map(Self::SasNonce).map_err(|_| malformed),
            SAS_OPEN => body.try_into().map(Self::SasOpen).map_err(|_| malformed),
            REKEY_REQ..=EPOCH | SAS_START | PAIR_REQ | PAIR_OK => Err(malformed),
            DATA | DATA_PART | DATA_BATCH => {
                Err(ProtocolViolation::MisplacedKind { kind, channel: 0 })
            }
            _ => Err(ProtocolViolation::UnknownKind { kind }),
        }
    }
}

fn decode_ack(body: &[u8]) -> Option<Control> {
    let ([channel, next @ ..], head) = body.split_first_chunk::<7>()?;
    let head = match head {
        [] => None,
        head => Some(head.try_into().ok()?),
    };
    Some(Control::Ack {
        channel: *channel,
        next: u48(next),
        head,
    })
}

fn decode_close(body: &[u8]) -> Option<Result<Control, ProtocolViolation>> {
    let (&code, reason) = body.split_first()?;
    if reason.len() > MAX_REASON {
        return None;
    }
    //
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolViolation::ControlText);
    Some(reason.map(|reason| Control::Close {
        code: CloseCode::from_wire(code),
        reason: reason.to_owned(),
    }))
}

/// The longest beginning of at most 128 bytes.
fn cut(reason: &str) -> &str {
    let is_end = |at: &usize| reason.is_char_boundary(*at);
    let end = (0..=reason.len().min(MAX_REASON)).rfind(is_end);
    &reason[..end.unwrap_or(0)]
}

//
pub(super) fn push_u48(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_be_bytes()[2..]);
}

pub(super) fn u48(bytes: &[u8; 6]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn encode_ready(ready: &Ready, out: &mut Vec<u8>) {
    out.push(u8::try_from(ready.taken.len()).expect("at most 15 channels"));
    for &(channel, next) in &ready.taken {
        out.push(channel);
        push_u48(next, out);
    }
    //
    let Some(history) = &ready.history else {
        return out.push(0);
    };
    out.extend_from_slice(&[1, history.channel]);
    for (n, head) in [history.sent, history.received] {
        out.extend_from_slice(&n.to_be_bytes());
        out.extend_from_slice(&head);
    }
}

fn decode_ready(body: &[u8]) -> Option<Ready> {
    let (&count, mut rest) = body.split_first()?;
    let mut taken: Vec<(u8, u64)> = Vec::new();
    for _ in 0..count {
        let ([channel, next @ ..], after) = rest.split_first_chunk::<7>()?;
        if taken.last().is_some_and(|(last, _)| last >= channel) {
            return None;
        }
        taken.push((*channel, u48(next)));
        rest = after;
    }
    match rest {
        [0] => Some(Ready {
            taken,
            history: None,
        }),
        [1, channel, heads @ ..] => {
            let heads: &[u8; 80] = heads.try_into().ok()?;
            let (sent, received) = heads.split_at(40);
            let history = ReadyHistory {
                channel: *channel,
                sent: head(sent),
                received: head(received),
            };
            Some(Ready {
                taken,
                history: Some(history),
            })
        }
        _ => None,
    }
}

/// A chain's length and head, from 40 bytes.
fn head(bytes: &[u8]) -> (u64, [u8; 32]) {
    let (n, head) = bytes.split_at(8);
    let n = n
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte));
    (n, head.try_into().expect("the caller cuts 40 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(control: &Control) -> Result<Control, ProtocolViolation> {
        let mut body = Vec::new();
        control.encode(&mut body);
        Control::decode(control.kind(), &body)
    }

    #[test]
    fn every_control_frame_reads_back_as_it_was_written() {
        let history = ReadyHistory {
            channel: 1,
            sent: (3, [4; 32]),
            received: (5, [6; 32]),
        };
        let frames = [
            Control::Ready(Ready {
                taken: vec![(1, 0), (15, (1 << 48) - 1)],
                history: None,
            }),
            Control::Ready(Ready {
                taken: vec![(1, 9)],
                history: Some(history),
            }),
            Control::ReadyOk,
            Control::Ack {
                channel: 1,
                next: 77,
                head: None,
            },
            Control::Ack {
                channel: 15,
                next: (1 << 48) - 1,
                head: Some([7; 32]),
            },
            Control::Ping([1; 8]),
            Control::Pong([2; 8]),
            Control::Close {
                code: CloseCode::from_wire(0x40),
                reason: "bye".into(),
            },
            Control::Dummy,
        ];
        for frame in frames {
            assert_eq!(round_trip(&frame), Ok(frame));
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let close = Control::Close {
            code: CloseCode::NORMAL,
            reason: "é".repeat(100),
        };
        assert_eq!(
            round_trip(&close),
            Ok(Control::Close {
                code: CloseCode::NORMAL,
                reason: "é".repeat(64)
            })
        );
    }

    ///
    #[test]
    fn what_is_no_control_frame_is_refused() {
        let bad: [(u8, &[u8]); 14] = [
            (READY, b""),
            (READY, b"\x01"),
            (READY, b"\x00"),
            (READY, b"\x00\x02"),
            (READY, b"\x00\x00\x00"),
            (READY, b"\x02\x02\0\0\0\0\0\0\x01\0\0\0\0\0\0\x00"),
            (READY_OK, b"x"),
            (ACK, b"\x01\x00"),
            (ACK, &[1; 38]),
            (ACK, &[1; 40]),
            (PING, b"1234567"),
            (CLOSE, b""),
            (CLOSE, b"\x00\xff"),
            (0x00, b""),
        ];
        for (kind, body) in bad {
            assert!(Control::decode(kind, body).is_err(), "kind {kind:#x}");
        }
        assert!(Control::decode(CLOSE, &[b'a'; 130]).is_err());
        assert_eq!(
            Control::decode(0x30, b""),
            Err(ProtocolViolation::UnknownKind { kind: 0x30 })
        );
    }

    fn body(control: &Control) -> Vec<u8> {
        let mut body = Vec::new();
        control.encode(&mut body);
        body
    }

    #[test]
    fn a_frame_of_fixed_length_has_no_byte_more_or_less() {
        let frames = [
            Control::ReadyOk,
            Control::Ping([1; 8]),
            Control::Pong([2; 8]),
            Control::RekeyRequest,
            Control::Rekey1(vec![3; REKEY1_LEN]),
            Control::Rekey2(vec![4; REKEY2_LEN]),
            Control::Epoch,
            Control::SasStart,
            Control::SasCommit([5; 32]),
            Control::SasNonce([6; 32]),
            Control::SasOpen([7; 32]),
            Control::PairRequest,
            Control::PairOk,
        ];
        for frame in frames {
            assert_eq!(round_trip(&frame), Ok(frame.clone()));
            let (kind, body) = (frame.kind(), body(&frame));
            let longer = [&body[..], &[0]].concat();
            let shorter = body.split_last().map(|(_, rest)| rest.to_vec());
            for wrong in shorter.into_iter().chain([longer]) {
                let len = wrong.len();
                assert_eq!(
                    Control::decode(kind, &wrong),
                    Err(ProtocolViolation::MalformedBody { kind, len })
                );
            }
        }
    }

    #[test]
    fn messages_on_the_control_channel_are_misplaced_and_other_kinds_unknown() {
        for kind in [DATA, DATA_PART, DATA_BATCH] {
            assert_eq!(
                Control::decode(kind, b"text"),
                Err(ProtocolViolation::MisplacedKind { kind, channel: 0 })
            );
        }
        assert_eq!(
            Control::decode(0x7e, b""),
            Err(ProtocolViolation::UnknownKind { kind: 0x7e })
        );
    }

    #[test]
    fn a_long_history_is_told_in_full() {
        let ready = Control::Ready(Ready {
            taken: vec![(1, 9)],
            history: Some(ReadyHistory {
                channel: 1,
                sent: (0x0102_0304_0506_0708, [4; 32]),
                received: (1 << 63, [6; 32]),
            }),
        });
        assert_eq!(round_trip(&ready), Ok(ready));
    }
}
