//! The messages of the streams channel: bytes to structs and back. Not: when they are sent.

use std::fmt;

use bytes::{Bytes, BytesMut};

const OFFER: u8 = 0x01;
const ACCEPT: u8 = 0x02;
const BEGIN: u8 = 0x03;
const DATA: u8 = 0x04;
const CREDIT: u8 = 0x05;
const END: u8 = 0x06;
const ABORT: u8 = 0x07;
const DONE: u8 = 0x08;
const STOP: u8 = 0x09;
const FAULT: u8 = 0x0a;

/// Bytes that a DATA message has beside its content: type and stream.
pub const DATA_OVERHEAD: usize = 5;
/// Bytes of a name.
pub const MAX_NAME: usize = 255;
/// Bytes that a stream can have: the largest number whose sums cannot overflow anything (S-9).
pub const MAX_CONTENT: u64 = (1 << 62) - 1;
/// Stands for a size that is not known.
const UNKNOWN_SIZE: u64 = u64::MAX;
/// Bytes of an OFFER before the name: type, stream, kind, size, content.
const OFFER_HEAD: usize = 1 + 4 + 1 + 8 + 32;

/// A stream that this side gives. Numbers start at 0 and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GivenId(pub(super) u32);

/// A stream that the peer gives and this side takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TakenId(pub(super) u32);

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Bytes, for whatever the two hosts agreed on.
    Bytes,
    /// A file: it has a size, and can be taken up again where it was interrupted.
    File,
}

/// What is offered (S-11, S-12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it is.
    pub kind: Kind,
    /// Its name, 1 to 255 bytes, as the giver wrote it: see [`displayed`](super::displayed) and
    /// [`file_name`](super::file_name).
    pub name: String,
    /// Bytes in all; a file's is always known.
    pub size: Option<u64>,
    /// The same for the same content: what was taken of it before need not be sent again. All zero: not known.
    pub content: [u8; 32],
}

/// Why a stream ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The taker does not want it.
    Refused,
    /// A person or program changed its mind.
    Cancelled,
    /// The content changed while it was sent.
    Changed,
    /// The bytes cannot be read, or not be written.
    Storage,
    /// The taker has no space left.
    Full,
    /// The taker's hash is not the giver's.
    Hash,
    /// It is larger than the taker takes.
    TooLarge,
    /// A reason that this version does not know.
    Other(u8),
}

impl Reason {
    fn from_wire(code: u8) -> Self {
        match code {
            1 => Self::Refused,
            2 => Self::Cancelled,
            3 => Self::Changed,
            4 => Self::Storage,
            5 => Self::Full,
            6 => Self::Hash,
            7 => Self::TooLarge,
            other => Self::Other(other),
        }
    }

    fn to_wire(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Cancelled => 2,
            Self::Changed => 3,
            Self::Storage => 4,
            Self::Full => 5,
            Self::Hash => 6,
            Self::TooLarge => 7,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("it was refused"),
            Self::Cancelled => f.write_str("it was cancelled"),
            Self::Changed => f.write_str("the content changed while it was sent"),
            Self::Storage => f.write_str("it could not be read or written there"),
            Self::Full => f.write_str("no space is left there"),
            Self::Hash => f.write_str("what arrived is not what was sent"),
            Self::TooLarge => f.write_str("it is larger than the other side takes"),
            Self::Other(code) => write!(f, "reason {code}"),
        }
    }
}

/// What no correct peer sends. It ends all streams of the session, and the session goes on (S-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message of unknown type, or one that is cut, too long, or holds a value that cannot be.
    #[error("a message of type {kind:#04x} with {len} bytes is malformed")]
    Malformed {
        /// Its first byte; 0 for an empty message.
        kind: u8,
        /// Its length.
        len: usize,
    },
    /// An offer whose number is not the next one.
    #[error("stream {found} was offered where {expected} is next")]
    OfferOrder {
        /// The number that is due.
        expected: u32,
        /// The number that came.
        found: u32,
    },
    /// More streams at once than a side may have.
    #[error("more than {} streams at once", super::MAX_STREAMS)]
    TooManyStreams,
    /// A message about a stream that is not there.
    #[error("a message of type {kind:#04x} for stream {stream}, which is not there")]
    UnknownStream {
        /// The message's type.
        kind: u8,
        /// The stream.
        stream: u32,
    },
    /// A message that the stream's state does not allow: a second ACCEPT, DATA before BEGIN or after END.
    #[error("a message of type {kind:#04x} for stream {stream}, which is not there yet or past it")]
    OutOfTurn {
        /// The message's type.
        kind: u8,
        /// The stream.
        stream: u32,
    },
    /// More bytes than the taker granted.
    #[error("stream {stream} sent {excess} bytes more than it was granted")]
    BeyondCredit {
        /// The stream.
        stream: u32,
        /// How many too many.
        excess: u64,
    },
    /// More or fewer bytes than were offered, or an offset that was not.
    #[error("stream {stream} is not as long as was offered")]
    WrongSize {
        /// The stream.
        stream: u32,
    },
}

/// A message of the streams channel (S-2). Streams in messages of the giver are its own, in those of the taker the giver's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Giver: a new stream.
    Offer {
        /// Its number.
        stream: u32,
        /// What it is.
        offer: Offer,
    },
    /// Taker: send it.
    Accept {
        /// Which.
        stream: u32,
        /// So many bytes are here already.
        offset: u64,
        /// So many bytes may come, counted from BEGIN.
        credit: u64,
        /// SHA-256 of the bytes that are here.
        prefix: [u8; 32],
    },
    /// Giver: the content follows, from here on.
    Begin {
        /// Which.
        stream: u32,
        /// The offset of ACCEPT, or 0.
        offset: u64,
    },
    /// Giver: bytes, at least one.
    Data {
        /// Which.
        stream: u32,
        /// The bytes.
        bytes: Bytes,
    },
    /// Taker: so many bytes may have come in all, counted from BEGIN.
    Credit {
        /// Which.
        stream: u32,
        /// The number, which only grows.
        credit: u64,
    },
    /// Giver: that was all.
    End {
        /// Which.
        stream: u32,
        /// SHA-256 of the whole content, from its first byte.
        hash: [u8; 32],
    },
    /// Giver: there is no more to come.
    Abort {
        /// Which.
        stream: u32,
        /// Why.
        reason: Reason,
    },
    /// Taker: it is here, whole, and the hash is right.
    Done {
        /// Which.
        stream: u32,
    },
    /// Taker: no more of it. Before ACCEPT it is a refusal.
    Stop {
        /// Which.
        stream: u32,
        /// Why.
        reason: Reason,
    },
    /// The peer of whoever sends this violated a rule: no more streams in this session.
    Fault,
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// [`Violation::Malformed`].
    pub fn decode(message: &Bytes) -> Result<Self, Violation> {
        let malformed = Violation::Malformed {
            kind: message.first().copied().unwrap_or_default(),
            len: message.len(),
        };
        Self::read(message).ok_or(malformed)
    }

    fn read(message: &Bytes) -> Option<Self> {
        let (kind, rest) = message.split_first()?;
        if *kind == FAULT {
            return rest.is_empty().then_some(Self::Fault);
        }
        let (stream, body) = rest.split_first_chunk()?;
        let stream = u32::from_be_bytes(*stream);
        Some(match *kind {
            OFFER => Self::Offer {
                stream,
                offer: Offer::read(body)?,
            },
            ACCEPT => {
                let (offset, rest) = number(body)?;
                let (credit, prefix) = number(rest)?;
                Self::Accept {
                    stream,
                    offset,
                    credit,
                    prefix: prefix.try_into().ok()?,
                }
            }
            BEGIN => Self::Begin {
                stream,
                offset: last_number(body)?,
            },
            DATA if !body.is_empty() => Self::Data {
                stream,
                bytes: message.slice(DATA_OVERHEAD..),
            },
            CREDIT => Self::Credit {
                stream,
                credit: last_number(body)?,
            },
            END => Self::End {
                stream,
                hash: body.try_into().ok()?,
            },
            ABORT => Self::Abort {
                stream,
                reason: last_reason(body)?,
            },
            DONE if body.is_empty() => Self::Done { stream },
            STOP => Self::Stop {
                stream,
                reason: last_reason(body)?,
            },
            _ => return None,
        })
    }

    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        match self {
            Self::Offer { stream, offer } => {
                begin(&mut out, OFFER, *stream);
                offer.write(&mut out);
            }
            Self::Accept {
                stream,
                offset,
                credit,
                prefix,
            } => {
                begin(&mut out, ACCEPT, *stream);
                out.extend_from_slice(&offset.to_be_bytes());
                out.extend_from_slice(&credit.to_be_bytes());
                out.extend_from_slice(prefix);
            }
            Self::Begin { stream, offset } => {
                begin(&mut out, BEGIN, *stream);
                out.extend_from_slice(&offset.to_be_bytes());
            }
            Self::Data { stream, bytes } => return encode_data(*stream, bytes),
            Self::Credit { stream, credit } => {
                begin(&mut out, CREDIT, *stream);
                out.extend_from_slice(&credit.to_be_bytes());
            }
            Self::End { stream, hash } => {
                begin(&mut out, END, *stream);
                out.extend_from_slice(hash);
            }
            Self::Abort { stream, reason } => {
                begin(&mut out, ABORT, *stream);
                out.extend_from_slice(&[reason.to_wire()]);
            }
            Self::Done { stream } => begin(&mut out, DONE, *stream),
            Self::Stop { stream, reason } => {
                begin(&mut out, STOP, *stream);
                out.extend_from_slice(&[reason.to_wire()]);
            }
            Self::Fault => out.extend_from_slice(&[FAULT]),
        }
        out.freeze()
    }

    /// The first byte on the wire.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Offer { .. } => OFFER,
            Self::Accept { .. } => ACCEPT,
            Self::Begin { .. } => BEGIN,
            Self::Data { .. } => DATA,
            Self::Credit { .. } => CREDIT,
            Self::End { .. } => END,
            Self::Abort { .. } => ABORT,
            Self::Done { .. } => DONE,
            Self::Stop { .. } => STOP,
            Self::Fault => FAULT,
        }
    }
}

/// A DATA message: the one copy that a byte makes on its way out.
pub(super) fn encode_data(stream: u32, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(DATA_OVERHEAD + bytes.len());
    begin(&mut out, DATA, stream);
    out.extend_from_slice(bytes);
    out.freeze()
}

impl Offer {
    /// Whether it can be sent: the name is 1 to 255 bytes, the size is possible, and that of a file is known.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let possible = self.size.is_none_or(|size| size <= MAX_CONTENT);
        let known = self.size.is_some() || self.kind != Kind::File;
        (1..=MAX_NAME).contains(&self.name.len()) && possible && known
    }

    fn read(body: &[u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        let kind = match kind {
            1 => Kind::Bytes,
            2 => Kind::File,
            _ => return None,
        };
        let (size, rest) = rest.split_first_chunk()?;
        let size = u64::from_be_bytes(*size);
        let (content, name) = rest.split_first_chunk()?;
        let offer = Self {
            kind,
            // Longer names are not even copied.
            name: std::str::from_utf8(name.get(..name.len().min(MAX_NAME + 1))?)
                .ok()?
                .to_owned(),
            size: (size != UNKNOWN_SIZE).then_some(size),
            content: *content,
        };
        offer.is_valid().then_some(offer)
    }

    fn write(&self, out: &mut BytesMut) {
        let kind = match self.kind {
            Kind::Bytes => 1,
            Kind::File => 2,
        };
        out.reserve(OFFER_HEAD + self.name.len());
        out.extend_from_slice(&[kind]);
        out.extend_from_slice(&self.size.unwrap_or(UNKNOWN_SIZE).to_be_bytes());
        out.extend_from_slice(&self.content);
        out.extend_from_slice(self.name.as_bytes());
    }
}

fn begin(out: &mut BytesMut, kind: u8, stream: u32) {
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn number(body: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = body.split_first_chunk()?;
    let number = u64::from_be_bytes(*number);
    (number <= MAX_CONTENT).then_some((number, rest))
}

fn last_number(body: &[u8]) -> Option<u64> {
    let (number, rest) = number(body)?;
    rest.is_empty().then_some(number)
}

fn last_reason(body: &[u8]) -> Option<Reason> {
    match body {
        [code] => Some(Reason::from_wire(*code)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer {
            kind: Kind::File,
            name: "a.txt".into(),
            size: Some(7),
            content: [3; 32],
        }
    }

    #[test]
    fn messages_have_the_bytes_that_the_document_shows() {
        let accept = Message::Accept {
            stream: 1,
            offset: 2,
            credit: 3,
            prefix: [4; 32],
        };
        let (stream, reason) = (0x0102_0304, Reason::Hash);
        let offer = Message::Offer {
            stream,
            offer: offer(),
        };
        let lengths = [
            (offer, OFFER_HEAD + 5),
            (accept, 53),
            (Message::Begin { stream, offset: 9 }, 13),
            (Message::Credit { stream, credit: 9 }, 13),
            (
                Message::Data {
                    stream,
                    bytes: Bytes::from_static(b"x"),
                },
                6,
            ),
            (
                Message::End {
                    stream,
                    hash: [1; 32],
                },
                37,
            ),
            (Message::Abort { stream, reason }, 6),
            (Message::Stop { stream, reason }, 6),
            (Message::Done { stream }, 5),
            (Message::Fault, 1),
        ];
        for (message, len) in lengths {
            let bytes = message.encode();
            assert_eq!(
                (bytes[0], bytes.len()),
                (message.kind(), len),
                "{message:?}"
            );
            assert_eq!(Message::decode(&bytes), Ok(message));
        }
        let stop = Message::Stop { stream, reason }.encode();
        assert_eq!(stop.as_ref(), [9, 1, 2, 3, 4, 6]);
    }

    #[test]
    fn what_is_cut_too_long_or_impossible_is_refused() {
        let offered = |change: fn(&mut Offer)| {
            let mut offer = offer();
            change(&mut offer);
            let stream = 0;
            Message::decode(&Message::Offer { stream, offer }.encode())
        };
        for refused in [
            offered(|offer| offer.name.clear()),
            offered(|offer| offer.name = "é".repeat(128)),
            offered(|offer| offer.name = "x".repeat(60_000)),
            offered(|offer| offer.size = Some(MAX_CONTENT + 1)),
            offered(|offer| offer.size = None),
        ] {
            assert!(matches!(refused, Err(Violation::Malformed { .. })));
        }
        assert!(offered(|offer| offer.name = "x".repeat(255)).is_ok());
        let mut longer = Message::Done { stream: 1 }.encode().to_vec();
        longer.push(0);
        for bytes in [
            vec![],
            vec![0],
            vec![DATA, 0, 0, 0, 0],
            vec![FAULT, 0],
            vec![OFFER, 0, 0, 0, 0, 3],
            longer,
        ] {
            assert!(Message::decode(&bytes.into()).is_err());
        }
    }

    #[test]
    fn reasons_of_later_versions_are_kept() {
        for code in 0..=u8::MAX {
            assert_eq!(Reason::from_wire(code).to_wire(), code);
        }
    }
}
