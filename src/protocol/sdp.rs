//! Session descriptions: what must hold before one is given to a stack, and what is read from it.
//!
//! Not an SDP implementation. The protocol authenticates a description as an opaque string; these are the checks of
//! `docs/protocol.md` §1.4 (records OFFER and ANSWER) and K5. They are stricter than any stack's parser, so that no
//! line can mean one thing here and another there: whatever could be read as a second fingerprint is refused.

/// The longest description, in bytes.
pub(crate) const MAX_SDP: usize = 8 * 1024;

/// The answer's or the offer's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SdpKind {
    /// `a=setup:actpass`.
    Offer,
    /// `a=setup:active`: the answerer is the DTLS client.
    Answer,
}

/// What the protocol needs to know of a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    /// SHA-256 of the certificate that its maker will show in DTLS.
    pub(crate) fingerprint: [u8; 32],
    /// `a=max-message-size` as given: absent means 65 536, 0 means no limit (K3).
    pub(crate) max_message_size: Option<u32>,
}

/// Why a description is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SdpError {
    /// More than [`MAX_SDP`] bytes.
    #[error("the session description has {0} bytes, more than {MAX_SDP}")]
    TooLong(usize),
    /// Not `x=value` lines that end in CRLF or LF.
    #[error("line {0} of the session description is not of the form x=value")]
    Line(usize),
    /// Not exactly one `m=` section, or not an application.
    #[error("the session description needs exactly one m= section, an application")]
    Section,
    /// No `a=mid`, or another than 0.
    #[error("the session description needs mid 0")]
    Mid,
    /// No fingerprint, one that is not SHA-256, or two that differ.
    #[error("the session description needs one sha-256 fingerprint")]
    Fingerprint,
    /// No `a=setup`, or another value than the role demands.
    #[error("the session description has the wrong a=setup")]
    Setup,
    /// A limit that is not a number, or two that differ.
    #[error("the session description has a bad a=max-message-size")]
    MaxMessageSize,
}

/// Checks a description of the peer and reads what the protocol needs.
///
/// Candidate lines are ignored: candidates travel as records of their own.
pub(crate) fn parse(sdp: &str, kind: SdpKind) -> Result<Description, SdpError> {
    if sdp.len() > MAX_SDP {
        return Err(SdpError::TooLong(sdp.len()));
    }
    let mut seen = Seen::default();
    for (number, line) in lines(sdp).enumerate() {
        match split(line).ok_or(SdpError::Line(number + 1))? {
            None => {}
            Some(('m', value)) => seen.media(value)?,
            Some(('a', value)) => seen.attribute(value, kind)?,
            Some(_) => {}
        }
    }
    seen.finish()
}

/// The description without its candidate lines, for either direction (R-90).
pub(crate) fn strip_candidates(sdp: &str) -> String {
    sdp.split_inclusive('\n')
        .filter(|line| !is_candidate(line))
        .collect()
}

#[derive(Default)]
struct Seen {
    sections: usize,
    mid: bool,
    setup: bool,
    fingerprint: Option<[u8; 32]>,
    max_message_size: Option<u32>,
}

impl Seen {
    // R-88
    fn media(&mut self, value: &str) -> Result<(), SdpError> {
        self.sections += 1;
        let kind = value.split(' ').next();
        if self.sections > 1 || kind != Some("application") {
            return Err(SdpError::Section);
        }
        Ok(())
    }

    /// Names are compared without regard to case and surrounding space: a stack may be as lenient.
    fn attribute(&mut self, attribute: &str, kind: SdpKind) -> Result<(), SdpError> {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "mid" if value != "0" => Err(SdpError::Mid),
            "mid" => {
                self.mid = true;
                Ok(())
            }
            // R-89
            "setup" if value != kind.setup() => Err(SdpError::Setup),
            "setup" => {
                self.setup = true;
                Ok(())
            }
            "fingerprint" => {
                once(&mut self.fingerprint, fingerprint(value)).ok_or(SdpError::Fingerprint)
            }
            "max-message-size" => once(&mut self.max_message_size, saturating_number(value))
                .ok_or(SdpError::MaxMessageSize),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Description, SdpError> {
        let fingerprint = self.fingerprint.ok_or(SdpError::Fingerprint)?;
        match self {
            Self { sections: 0, .. } => Err(SdpError::Section),
            Self { mid: false, .. } => Err(SdpError::Mid),
            Self { setup: false, .. } => Err(SdpError::Setup),
            Self {
                max_message_size, ..
            } => Ok(Description {
                fingerprint,
                max_message_size,
            }),
        }
    }
}

impl SdpKind {
    fn setup(self) -> &'static str {
        match self {
            Self::Offer => "actpass",
            Self::Answer => "active",
        }
    }
}

/// Lines without their CRLF or LF.
fn lines(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// Type and value of a line; `Some(None)` for an empty one, `None` when it is malformed (R-221).
fn split(line: &str) -> Option<Option<(char, &str)>> {
    if line.is_empty() {
        return Some(None);
    }
    let mut chars = line.chars();
    let kind = chars.next().filter(char::is_ascii_lowercase)?;
    let value = chars.as_str().strip_prefix('=')?;
    // A lone CR ends a line for some parsers.
    (!value.contains(['\r', '\0'])).then_some(Some((kind, value)))
}

/// Keeps a value that may be repeated but not changed; `None` on a bad or a different one.
fn once<T: PartialEq + Copy>(slot: &mut Option<T>, value: Option<T>) -> Option<()> {
    let value = value?;
    (*slot.get_or_insert(value) == value).then_some(())
}

/// `sha-256 AB:CD:...`, 32 bytes.
fn fingerprint(value: &str) -> Option<[u8; 32]> {
    let (function, digest) = value.split_once(' ')?;
    if !function.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut pairs = digest.split(':');
    for byte in &mut bytes {
        *byte = hex_pair(pairs.next()?.as_bytes())?;
    }
    pairs.next().is_none().then_some(bytes)
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let &[high, low] = pair else { return None };
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    Some((digit(high)? << 4) | digit(low)?)
}

/// Digits only; what exceeds `u32` is as good as its maximum.
fn saturating_number(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u32::MAX))
}

fn is_candidate(line: &str) -> bool {
    let attribute = line.strip_prefix("a=").unwrap_or_default();
    let name = attribute.split(':').next().unwrap_or_default().trim();
    ["candidate", "end-of-candidates"]
        .iter()
        .any(|candidate| name.eq_ignore_ascii_case(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
                       10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:FF";

    fn offer() -> String {
        format!(
            "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 {HEX}\r\n\
             a=group:BUNDLE 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
             c=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n\
             a=max-message-size:65536\r\na=ice-ufrag:abcd\r\na=ice-pwd:efgh\r\n\
             a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n"
        )
    }

    fn error(sdp: &str) -> SdpError {
        parse(sdp, SdpKind::Offer).unwrap_err()
    }

    #[test]
    fn an_offer_gives_its_fingerprint_and_limit() {
        let description = parse(&offer(), SdpKind::Offer).unwrap();
        assert_eq!(description.fingerprint[..3], [0, 1, 2]);
        assert_eq!(description.fingerprint[31], 0xff);
        assert_eq!(description.max_message_size, Some(65_536));
    }

    /// R-88, R-90.
    #[test]
    fn line_feeds_alone_are_as_good_and_lower_case_hex_too() {
        let sdp = offer()
            .replace("\r\n", "\n")
            .replace(HEX, &HEX.to_lowercase());
        assert_eq!(parse(&sdp, SdpKind::Offer), parse(&offer(), SdpKind::Offer));
    }

    /// R-89.
    #[test]
    fn an_answer_must_be_active_and_an_offer_actpass() {
        let answer = offer().replace("actpass", "active");
        assert!(parse(&answer, SdpKind::Answer).is_ok());
        assert_eq!(parse(&offer(), SdpKind::Answer), Err(SdpError::Setup));
        assert_eq!(error(&answer), SdpError::Setup);
        assert_eq!(
            error(&offer().replace("a=setup:actpass\r\n", "")),
            SdpError::Setup
        );
        assert_eq!(error(&(offer() + "a=setup:passive\r\n")), SdpError::Setup);
    }

    /// R-88.
    #[test]
    fn every_fingerprint_must_be_the_same_and_sha_256() {
        let second = |value: &str| offer() + "a=fingerprint:" + value + "\r\n";
        assert!(parse(&second(&format!("sha-256 {HEX}")), SdpKind::Offer).is_ok());
        let other = HEX.replace("FF", "FE");
        assert_eq!(
            error(&second(&format!("sha-256 {other}"))),
            SdpError::Fingerprint
        );
        assert_eq!(
            error(&second(&format!("sha-512 {HEX}"))),
            SdpError::Fingerprint
        );
        let disguised = format!("a=Fingerprint :sha-256 {other}\r\n");
        assert_eq!(error(&(offer() + &disguised)), SdpError::Fingerprint);
        let none = offer().replace("a=fingerprint", "a=no-fingerprint");
        assert_eq!(error(&none), SdpError::Fingerprint);
    }

    #[test]
    fn a_fingerprint_has_32_pairs_of_hex_digits() {
        for bad in [
            "",
            "00",
            &format!("{HEX}:00"),
            &HEX.replace("FF", "F"),
            &HEX.replace("FF", "+F"),
        ] {
            assert_eq!(
                error(&offer().replace(HEX, bad)),
                SdpError::Fingerprint,
                "{bad:?}"
            );
        }
        assert_eq!(
            error(&offer().replace("sha-256 ", "sha-256  ")),
            SdpError::Fingerprint
        );
    }

    /// R-88.
    #[test]
    fn exactly_one_application_section_with_mid_0() {
        assert_eq!(
            error(&(offer() + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n")),
            SdpError::Section
        );
        assert_eq!(
            error(&offer().replace("m=application", "m=video")),
            SdpError::Section
        );
        assert_eq!(
            error(&offer().replace("m=application", "m=applications")),
            SdpError::Section
        );
        assert_eq!(error(&offer().replace("m=", "x=")), SdpError::Section);
        assert_eq!(error(&offer().replace("mid:0", "mid:1")), SdpError::Mid);
        assert_eq!(error(&offer().replace("a=mid:0\r\n", "")), SdpError::Mid);
    }

    /// R-221.
    #[test]
    fn the_message_limit_may_be_absent_zero_or_huge_but_not_two_numbers() {
        let with = |value: &str| offer().replace("a=max-message-size:65536\r\n", value);
        let limit = |value: &str| {
            parse(&with(value), SdpKind::Offer)
                .unwrap()
                .max_message_size
        };
        assert_eq!(limit(""), None);
        assert_eq!(limit("a=max-message-size:0\r\n"), Some(0));
        assert_eq!(
            limit("a=max-message-size:99999999999999999999999\r\n"),
            Some(u32::MAX)
        );
        for bad in ["", " 5", "-1", "1e3", "+5"] {
            let sdp = with(&format!("a=max-message-size:{bad}\r\n"));
            assert_eq!(error(&sdp), SdpError::MaxMessageSize, "{bad:?}");
        }
        assert_eq!(
            error(&(offer() + "a=max-message-size:1\r\n")),
            SdpError::MaxMessageSize
        );
    }

    /// R-221.
    #[test]
    fn lines_that_another_parser_could_read_otherwise_are_refused() {
        let smuggled = format!("a=x:y\ra=fingerprint:sha-256 {HEX}\r\n");
        assert_eq!(error(&(offer() + &smuggled)), SdpError::Line(17));
        for bad in [" a=b", "ab", "A=b", "a =b", "=", "a", "\u{e9}=x", "a=\0"] {
            assert_eq!(error(bad), SdpError::Line(1), "{bad:?}");
        }
    }

    #[test]
    fn a_description_has_at_most_8_kib() {
        let filler = |length: usize| offer() + "a=" + &"x".repeat(length - offer().len() - 2);
        assert!(parse(&filler(8_192), SdpKind::Offer).is_ok());
        assert_eq!(error(&filler(8_193)), SdpError::TooLong(8_193));
    }

    /// R-90.
    #[test]
    fn stripping_takes_candidate_lines_and_nothing_else() {
        let stripped = strip_candidates(&offer());
        assert!(!stripped.contains("candidate"));
        assert_eq!(
            parse(&stripped, SdpKind::Offer),
            parse(&offer(), SdpKind::Offer)
        );
        assert_eq!(strip_candidates(&stripped), stripped);
        assert_eq!(strip_candidates("a=x\na=candidate:1\na=y"), "a=x\na=y");
        assert_eq!(
            strip_candidates("a= candidate:1\r\na=candidates:1"),
            "a=candidates:1"
        );
        assert_eq!(strip_candidates(""), "");
    }

    #[test]
    fn cut_anywhere_and_changed_anywhere_nothing_panics() {
        let sdp = offer();
        for at in 0..sdp.len() {
            let _ = parse(&sdp[..at], SdpKind::Answer);
            for replacement in ["\u{20ac}", "\r", ":", ""] {
                let changed = format!("{}{replacement}{}", &sdp[..at], &sdp[at + 1..]);
                let _ = parse(&changed, SdpKind::Offer);
                let _ = strip_candidates(&changed);
            }
        }
    }
}
