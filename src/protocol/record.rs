//! Handshake payloads: records `type(1) len(2) value`, then zeros to a multiple of 512 bytes (SIG: 256).
//! Authenticated or not, every byte is hostile. Not: what follows from them.

use super::{
    blob::{MAX_BLOB, Mode},
    sdp::MAX_SDP,
};

const PADDING: u8 = 0x00;
const CAPS: u8 = 0x01;
const OFFER: u8 = 0x02;
const ANSWER: u8 = 0x03;
const CANDIDATE: u8 = 0x04;
const BYE: u8 = 0x09;
const CHANNELS: u8 = 0x0a;
/// Unknown types from here on abort; below, they are skipped.
const CRITICAL: u8 = 0x80;

const CAPS_LEN: usize = 17;
/// The smallest frame size that a side may claim.
pub(super) const MIN_FRAME: u32 = 1_280;
/// Candidates per direction of an attempt.
pub(super) const MAX_CANDIDATES: usize = 64;
const MAX_LABEL: usize = 64;

/// Where a payload stands: this decides which records it must and may have, its padding, and its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// The first message, in paired mode (in open mode it is empty).
    Hs1,
    /// The second message.
    Hs2(Mode),
    /// The third message.
    Hs3(Mode),
    /// An encrypted signaling record. `answer`: from the responder in open mode, who may answer there.
    Sig(SigSender),
}

/// Who sent a SIG, as far as its records depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigSender {
    /// The responder of an open handshake: its ANSWER travels here.
    OpenResponder,
    /// Everybody else.
    Other,
}

impl PayloadKind {
    fn block(self) -> usize {
        match self {
            Self::Sig(_) => 256,
            Self::Hs1 | Self::Hs2(_) | Self::Hs3(_) => 512,
        }
    }

    fn limit(self) -> usize {
        match self {
            Self::Hs1 | Self::Hs2(_) => 14_848,
            Self::Hs3(_) => 15_872,
            //
            Self::Sig(_) => 16_128,
        }
    }

    /// Which description belongs here, if any: (its type, whether it must be there).
    fn description(self) -> Option<(u8, bool)> {
        match self {
            Self::Hs1 | Self::Hs3(Mode::Open) => Some((OFFER, true)),
            Self::Hs2(Mode::Paired) => Some((ANSWER, true)),
            Self::Sig(SigSender::OpenResponder) => Some((ANSWER, false)),
            Self::Hs2(Mode::Open) | Self::Hs3(Mode::Paired) | Self::Sig(SigSender::Other) => None,
        }
    }

    fn has_caps(self) -> bool {
        match self {
            Self::Hs1 | Self::Hs2(_) | Self::Hs3(Mode::Open) => true,
            Self::Hs3(Mode::Paired) | Self::Sig(_) => false,
        }
    }

    fn has_candidates(self) -> bool {
        !matches!(self, Self::Hs2(Mode::Open))
    }
}

/// What a side can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The newest version of the protocol it speaks.
    pub max_version: u8,
    /// The largest frame it accepts, in bytes.
    pub max_frame: u32,
    /// The longest message it accepts, in bytes.
    pub max_message: u32,
    /// Unacknowledged bytes it accepts per channel.
    pub window: u32,
}

impl Caps {
    /// The numbers that a peer may claim.
    #[must_use]
    pub fn in_range(&self) -> bool {
        (MIN_FRAME..=65_536).contains(&self.max_frame)
            && self.window >= 262_144
            && self.max_message >= 65_536
            && self.max_message <= self.window - 64
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.max_version);
        out.extend_from_slice(&0_u32.to_be_bytes());
        for number in [self.max_frame, self.max_message, self.window] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let value: &[u8; CAPS_LEN] = value.try_into().ok()?;
        let number = |at: usize| {
            u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]])
        };
        let caps = Self {
            max_version: value[0],
            max_frame: number(5),
            max_message: number(9),
            window: number(13),
        };
        caps.in_range().then_some(caps)
    }
}

/// One line of CHANNELS. A channel lives when both sides list it byte for byte the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelEntry {
    /// 1 to 15.
    pub channel: u8,
    /// 1 reliable, 2 lossy, which never lives in this stage.
    pub kind: u8,
    /// At most 64 bytes.
    pub label: String,
}

/// An authenticated refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bye(pub u8);

/// The records of one payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// CAPS.
    pub caps: Option<Caps>,
    /// CHANNELS.
    pub channels: Option<Vec<ChannelEntry>>,
    /// OFFER or ANSWER, whichever belongs there.
    pub sdp: Option<String>,
    /// CANDIDATE.
    pub candidates: Vec<String>,
    /// BYE.
    pub bye: Option<Bye>,
}

/// A payload that is none; the attempt fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordError;

impl Payload {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`RecordError`] for whatever an honest peer of this version would not send there.
    pub fn decode(kind: PayloadKind, bytes: &[u8]) -> Result<Self, RecordError> {
        //
        let sized = !bytes.is_empty()
            && bytes.len().is_multiple_of(kind.block())
            && bytes.len() <= kind.limit();
        if !sized {
            return Err(RecordError);
        }
        let mut payload = Self::default();
        let mut rest = bytes;
        while let Some((&record, after)) = rest.split_first() {
            if record == PADDING {
                //
                if after.iter().any(|&byte| byte != 0) {
                    return Err(RecordError);
                }
                break;
            }
            //
            let (len, after) = after.split_first_chunk::<2>().ok_or(RecordError)?;
            let (value, after) = after
                .split_at_checked(usize::from(u16::from_be_bytes(*len)))
                .ok_or(RecordError)?;
            payload.take(kind, record, value)?;
            rest = after;
        }
        payload.check_complete(kind)
    }

    fn take(&mut self, kind: PayloadKind, record: u8, value: &[u8]) -> Result<(), RecordError> {
        match record {
            CAPS if kind.has_caps() => set(&mut self.caps, Caps::decode(value)),
            CHANNELS if kind.has_caps() => set(&mut self.channels, decode_channels(value)),
            OFFER | ANSWER
                if kind
                    .description()
                    .is_some_and(|(wanted, _)| wanted == record) =>
            {
                set(&mut self.sdp, text(value, MAX_SDP))
            }
            CANDIDATE if kind.has_candidates() && self.candidates.len() < MAX_CANDIDATES => {
                let line = text(value, value.len())
                    .filter(|line| is_candidate(line))
                    .ok_or(RecordError)?;
                self.candidates.push(line);
                Ok(())
            }
            BYE if matches!(kind, PayloadKind::Sig(_)) => match value {
                [code] => set(&mut self.bye, Some(Bye(*code))),
                _ => Err(RecordError),
            },
            //
            CAPS | OFFER | ANSWER | CANDIDATE | BYE | CHANNELS => Err(RecordError),
            unknown if unknown >= CRITICAL => Err(RecordError),
            _ => Ok(()),
        }
    }

    fn check_complete(self, kind: PayloadKind) -> Result<Self, RecordError> {
        let caps =
            self.caps.is_some() == kind.has_caps() && self.channels.is_some() == kind.has_caps();
        let sdp = self.sdp.is_some() || !kind.description().is_some_and(|(_, required)| required);
        if caps && sdp {
            Ok(self)
        } else {
            Err(RecordError)
        }
    }

    /// The bytes, padded. Candidates that do not fit are left out and returned: they travel later.
    #[must_use]
    pub fn encode(self, kind: PayloadKind) -> (Vec<u8>, Vec<String>) {
        let mut out = Vec::with_capacity(kind.block() * 4);
        if let Some(caps) = &self.caps {
            record(&mut out, CAPS, |out| caps.encode(out));
        }
        if let Some(channels) = &self.channels {
            record(&mut out, CHANNELS, |out| encode_channels(channels, out));
        }
        if let (Some(sdp), Some((description, _))) = (&self.sdp, kind.description()) {
            record(&mut out, description, |out| {
                out.extend_from_slice(sdp.as_bytes())
            });
        }
        if let Some(Bye(code)) = self.bye {
            record(&mut out, BYE, |out| out.push(code));
        }
        let mut left = Vec::new();
        for candidate in self.candidates {
            if out.len() + 3 + candidate.len() <= kind.limit() {
                record(&mut out, CANDIDATE, |out| {
                    out.extend_from_slice(candidate.as_bytes())
                });
            } else {
                left.push(candidate);
            }
        }
        //
        let padded = out.len().max(1).next_multiple_of(kind.block());
        debug_assert!(padded <= kind.limit() && padded + 1_500 < MAX_BLOB + 1_500);
        out.resize(padded, 0);
        (out, left)
    }
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), RecordError> {
    if slot.is_some() {
        return Err(RecordError);
    }
    *slot = Some(value.ok_or(RecordError)?);
    Ok(())
}

fn text(value: &[u8], limit: usize) -> Option<String> {
    if value.len() > limit {
        return None;
    }
    std::str::from_utf8(value).ok().map(str::to_owned)
}

/// `candidate:` and one line of it: nothing may smuggle another SDP line into a stack.
pub(super) fn is_candidate(line: &str) -> bool {
    line.starts_with("candidate:") && line.len() <= 1_024 && !line.contains(['\r', '\n', '\0'])
}

fn record(out: &mut Vec<u8>, kind: u8, value: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let len_at = out.len();
    out.extend_from_slice(&[0, 0]);
    value(out);
    let len =
        u16::try_from(out.len() - len_at - 2).expect("a record is shorter than the payload limit");
    out[len_at..len_at + 2].copy_from_slice(&len.to_be_bytes());
}

fn encode_channels(channels: &[ChannelEntry], out: &mut Vec<u8>) {
    for entry in channels {
        let len = u8::try_from(entry.label.len()).expect("a label has at most 64 bytes");
        out.extend_from_slice(&[entry.channel, entry.kind, len]);
        out.extend_from_slice(entry.label.as_bytes());
    }
}

fn decode_channels(mut value: &[u8]) -> Option<Vec<ChannelEntry>> {
    let mut channels: Vec<ChannelEntry> = Vec::new();
    while !value.is_empty() {
        let ([channel, kind, len], rest) = value.split_first_chunk::<3>()?;
        let (label, rest) = rest.split_at_checked(usize::from(*len))?;
        //
        let ascending = channels.last().is_none_or(|last| last.channel < *channel);
        if !ascending || !(1..=15).contains(channel) || !(1..=2).contains(kind) {
            return None;
        }
        channels.push(ChannelEntry {
            channel: *channel,
            kind: *kind,
            label: text(label, MAX_LABEL)?,
        });
        value = rest;
    }
    (!channels.is_empty()).then_some(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Payload {
        Payload {
            caps: Some(Caps {
                max_version: 1,
                max_frame: 65_536,
                max_message: 4 << 20,
                window: 8 << 20,
            }),
            channels: Some(vec![ChannelEntry {
                channel: 1,
                kind: 1,
                label: "main".into(),
            }]),
            sdp: Some("v=0\r\n".into()),
            candidates: vec!["candidate:1 1 udp 1 127.0.0.1 9 typ host".into()],
            bye: None,
        }
    }

    ///
    #[test]
    fn a_payload_reads_back_as_it_was_written_and_is_padded() {
        for kind in [
            PayloadKind::Hs1,
            PayloadKind::Hs2(Mode::Paired),
            PayloadKind::Hs3(Mode::Open),
        ] {
            let (bytes, left) = full().encode(kind);
            assert_eq!(bytes.len(), 512);
            assert!(left.is_empty());
            assert_eq!(Payload::decode(kind, &bytes), Ok(full()));
        }
        let (bytes, _) = Payload::default().encode(PayloadKind::Hs3(Mode::Paired));
        assert_eq!(bytes, [0; 512]);
        let bye = Payload {
            bye: Some(Bye(3)),
            ..Payload::default()
        };
        let (bytes, _) = bye.clone().encode(PayloadKind::Sig(SigSender::Other));
        assert_eq!(bytes.len(), 256);
        assert_eq!(
            Payload::decode(PayloadKind::Sig(SigSender::Other), &bytes),
            Ok(bye)
        );
    }

    ///
    #[test]
    fn records_in_the_wrong_place_twice_or_missing_are_refused() {
        let (bytes, _) = full().encode(PayloadKind::Hs1);
        assert_eq!(
            Payload::decode(PayloadKind::Hs2(Mode::Paired), &bytes),
            Err(RecordError)
        );
        assert_eq!(
            Payload::decode(PayloadKind::Hs3(Mode::Paired), &bytes),
            Err(RecordError)
        );
        let missing = Payload {
            caps: None,
            ..full()
        };
        assert_eq!(
            Payload::decode(PayloadKind::Hs1, &missing.encode(PayloadKind::Hs1).0),
            Err(RecordError)
        );
        let mut twice = Vec::new();
        record(&mut twice, BYE, |out| out.push(1));
        record(&mut twice, BYE, |out| out.push(1));
        twice.resize(256, 0);
        assert_eq!(
            Payload::decode(PayloadKind::Sig(SigSender::Other), &twice),
            Err(RecordError)
        );
    }

    ///
    #[test]
    fn unknown_records_are_skipped_below_0x80_and_abort_from_there() {
        for (kind, expected) in [(0x7f, Ok(Payload::default())), (0x80, Err(RecordError))] {
            let mut bytes = Vec::new();
            record(&mut bytes, kind, |out| out.push(1));
            bytes.resize(256, 0);
            assert_eq!(
                Payload::decode(PayloadKind::Sig(SigSender::Other), &bytes),
                expected
            );
        }
    }

    ///
    #[test]
    fn padding_must_be_zeros_and_complete() {
        let kind = PayloadKind::Sig(SigSender::Other);
        let mut bytes = vec![0; 256];
        bytes[200] = 1;
        assert_eq!(Payload::decode(kind, &bytes), Err(RecordError));
        assert_eq!(Payload::decode(kind, &[]), Err(RecordError));
        assert_eq!(Payload::decode(kind, &[0; 255]), Err(RecordError));
        assert_eq!(Payload::decode(kind, &vec![0; 16_384]), Err(RecordError));
        let mut cut = vec![0x7f; 256];
        cut[1..3].copy_from_slice(&251_u16.to_be_bytes());
        assert_eq!(
            Payload::decode(kind, &cut),
            Err(RecordError),
            "a header cut by the end"
        );
    }

    #[test]
    fn candidates_that_do_not_fit_are_returned() {
        let many = Payload {
            candidates: vec![format!("candidate:{}", "x".repeat(600)); 40],
            ..Payload::default()
        };
        let (bytes, left) = many.encode(PayloadKind::Hs3(Mode::Paired));
        assert!(bytes.len() <= 15_872);
        let kept = Payload::decode(PayloadKind::Hs3(Mode::Paired), &bytes)
            .map(|payload| payload.candidates.len());
        assert_eq!(kept, Ok(40 - left.len()));
    }

    ///
    #[test]
    fn a_candidate_is_one_line() {
        assert!(is_candidate("candidate:1 1 udp 1 127.0.0.1 9 typ host"));
        assert!(!is_candidate("candidate:1\r\na=fingerprint:sha-256 00"));
        assert!(!is_candidate("a=candidate:1"));
    }

    ///
    #[test]
    fn channel_lists_are_ascending_and_in_range() {
        assert_eq!(
            decode_channels(b"\x01\x01\x04main").map(|list| list.len()),
            Some(1)
        );
        for bad in [
            &b""[..],
            b"\x00\x01\x00",
            b"\x10\x01\x00",
            b"\x01\x00\x00",
            b"\x01\x03\x00",
            b"\x02\x01\x00\x01\x01\x00",
            b"\x01\x01\x05main",
        ] {
            assert_eq!(decode_channels(bad), None);
        }
    }

    ///
    #[test]
    fn claims_out_of_range_are_refused() {
        let good = Caps {
            max_version: 1,
            max_frame: 1_280,
            max_message: 65_536,
            window: 262_144,
        };
        assert!(good.in_range());
        for bad in [
            Caps {
                max_frame: 1_279,
                ..good
            },
            Caps {
                max_frame: 65_537,
                ..good
            },
            Caps {
                max_message: 65_535,
                ..good
            },
            Caps {
                max_message: 262_081,
                ..good
            },
            Caps {
                window: 262_143,
                ..good
            },
        ] {
            assert!(!bad.in_range());
        }
    }

    ///
    #[test]
    fn a_goodbye_in_a_handshake_is_refused() {
        let kind = PayloadKind::Hs1;
        let (mut bytes, _) = full().encode(kind);
        assert!(Payload::decode(kind, &bytes).is_ok());
        let goodbye = [BYE, 0, 1, 0x40];
        assert!(bytes.ends_with(&[PADDING; 4]));
        bytes.rotate_right(goodbye.len());
        bytes[..goodbye.len()].copy_from_slice(&goodbye);
        assert!(Payload::decode(kind, &bytes).is_err());
    }

    #[test]
    fn there_are_at_most_64_candidates() {
        let kind = PayloadKind::Sig(SigSender::Other);
        let line = b"candidate:1 1 udp 1 127.0.0.1 9 typ host";
        let len = u8::try_from(line.len()).expect("a short line");
        let one = [&[CANDIDATE, 0, len], line.as_slice()].concat();
        let read = |count| {
            let mut bytes = one.repeat(count);
            bytes.resize(bytes.len().next_multiple_of(kind.block()), PADDING);
            Payload::decode(kind, &bytes)
        };
        assert_eq!(read(64).map(|payload| payload.candidates.len()), Ok(64));
        assert!(read(65).is_err());
    }

    #[test]
    fn candidates_fill_a_payload_to_the_last_byte() {
        let kind = PayloadKind::Sig(SigSender::Other);
        for (more, left_out) in [(0, 0), (1, 1)] {
            let rest = kind.limit() - (3 + 100) - 3 + more;
            let candidates = [100, rest].map(|len| "c".repeat(len)).to_vec();
            let payload = Payload {
                candidates,
                ..Payload::default()
            };
            let (bytes, left) = payload.encode(kind);
            assert!(bytes.len() <= kind.limit());
            assert_eq!(left.len(), left_out);
        }
    }
}
