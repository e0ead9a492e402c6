//! How people make sure that no one sits between them: numbers to read to each other, codes to scan (protocol.md §1.11).
//! Not what follows from it: that is `trust.rs`.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha512};

use crate::crypto::kdf::PROTOCOL;
use crate::identity::PeerId;

/// libsignal's iterations: each try of somebody who looks for a key with the same half costs this many hashes.
const ITERATIONS: usize = 5_200;

/// How libsignal writes the type of X25519 keys.
const KEY_TYPE: u8 = 5;

/// What a QR code starts with.
const QR_LABEL: &[u8; 13] = b"sealwire/1 qr";
const QR_VERSION: u8 = 1;

/// 60 digits that two people compare to know that they talk to each other and to nobody between.
///
/// They depend on the two keys alone, so they stay the same for every session, and both sides see the same. The digits
/// are those of libsignal's `NumericFingerprint` version 0 with the identifier `sealwire/1`. To make a key with the
/// same half takes about 2^100 tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SafetyNumber {
    /// ASCII digits, both halves.
    digits: [u8; 60],
}

/// What one device shows as a QR code for the other to scan. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QrPayload {
    shown_by: PeerId,
    shown_to: PeerId,
}

/// The text is not that of a [`QrPayload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a verification code of this version: scan the code on the peer's verification screen"
)]
pub struct InvalidQrPayload;

impl SafetyNumber {
    /// The number of two peers, in either order. It takes some milliseconds.
    #[must_use]
    pub fn between(one: PeerId, other: PeerId) -> Self {
        let mut halves = [half(one), half(other)];
        halves.sort_unstable();
        let mut digits = [0; 60];
        digits[..30].copy_from_slice(&halves[0]);
        digits[30..].copy_from_slice(&halves[1]);
        Self { digits }
    }

    /// The 60 digits without spaces. For people use [`Display`](fmt::Display): groups of five.
    #[must_use]
    pub fn digits(&self) -> &str {
        std::str::from_utf8(&self.digits).expect("digits are ASCII")
    }
}

impl fmt::Display for SafetyNumber {
    /// Twelve groups of five digits, separated by spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, digit) in self.digits.iter().enumerate() {
            let gap = if at > 0 && at % 5 == 0 { " " } else { "" };
            write!(f, "{gap}{}", char::from(*digit))?;
        }
        Ok(())
    }
}

impl QrPayload {
    /// What this device, `me`, shows to `peer`.
    #[must_use]
    pub const fn new(me: PeerId, peer: PeerId) -> Self {
        Self {
            shown_by: me,
            shown_to: peer,
        }
    }

    /// Whether this code, scanned by `me`, proves that the other device is `peer` and knows this one as `me`.
    #[must_use]
    pub fn matches(&self, me: PeerId, peer: PeerId) -> bool {
        let Self { shown_by, shown_to } = *self;
        shown_by == peer && shown_to == me
    }
}

impl fmt::Display for QrPayload {
    /// The text of the code: 104 characters of base64url.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shown_by, shown_to } = self;
        let bytes = [
            QR_LABEL.as_slice(),
            &[QR_VERSION],
            shown_by.as_bytes(),
            shown_to.as_bytes(),
        ]
        .concat();
        f.write_str(&Base64UrlUnpadded::encode_string(&bytes))
    }
}

impl FromStr for QrPayload {
    type Err = InvalidQrPayload;

    /// Reads the text of a scanned code.
    ///
    /// # Errors
    /// [`InvalidQrPayload`] for everything else.
    fn from_str(text: &str) -> Result<Self, InvalidQrPayload> {
        let mut buffer = [0; QR_LABEL.len() + 1 + 64];
        let bytes = Base64UrlUnpadded::decode(text, &mut buffer).map_err(|_| InvalidQrPayload)?;
        let keys = bytes
            .strip_prefix(QR_LABEL)
            .and_then(|rest| rest.strip_prefix(&[QR_VERSION]))
            .ok_or(InvalidQrPayload)?;
        let (by, to) = keys.split_first_chunk().ok_or(InvalidQrPayload)?;
        let to = to.try_into().map_err(|_| InvalidQrPayload)?;
        Ok(Self {
            shown_by: PeerId::from_bytes(*by),
            shown_to: PeerId::from_bytes(to),
        })
    }
}

/// The 30 digits of one peer: libsignal's `rust/protocol/src/fingerprint.rs`, version 0. What it calls the stable
/// identifier is the protocol's name for everybody, for here a peer is its key.
fn half(peer: PeerId) -> [u8; 30] {
    let key = [&[KEY_TYPE], peer.as_bytes().as_slice()].concat();
    let mut hash = Sha512::new()
        .chain_update([0, 0])
        .chain_update(&key)
        .chain_update(PROTOCOL)
        .chain_update(&key)
        .finalize();
    for _ in 1..ITERATIONS {
        hash = Sha512::new()
            .chain_update(hash)
            .chain_update(&key)
            .finalize();
    }
    let mut digits = [0; 30];
    for (group, five) in digits.chunks_exact_mut(5).zip(hash.chunks_exact(5)) {
        let number = five
            .iter()
            .fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
            % 100_000;
        group.copy_from_slice(format!("{number:05}").as_bytes());
    }
    digits
}

/// Three numbers of four digits that both devices of a session show, to be compared within the session: 39 bits, of which
/// somebody in the middle has a single guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortCode([u16; 3]);

impl ShortCode {
    pub(crate) fn new(groups: [u16; 3]) -> Self {
        Self(groups)
    }

    /// The three numbers, each from 1000 to 9191.
    #[must_use]
    pub fn groups(&self) -> [u16; 3] {
        self.0
    }
}

impl fmt::Display for ShortCode {
    /// For example `4291 7030 1518`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([one, two, three]) = self;
        write!(f, "{one} {two} {three}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `safety_number` of tests/vectors/sealwire-1.json.
    const A: &str = "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
    const B: &str = "052a50773ac8d91773f2dc9662e12f0defe915e415b8a1c8e20a5a3d6ab2b843";
    const DIGITS: &str = "115770764021437685345310772461996423381443599188484381471379";

    fn peers() -> (PeerId, PeerId) {
        (A.parse().unwrap(), B.parse().unwrap())
    }

    ///
    #[test]
    fn both_sides_see_the_number_of_the_vectors() {
        let (a, b) = peers();
        assert_eq!(SafetyNumber::between(a, b).digits(), DIGITS);
        assert_eq!(SafetyNumber::between(b, a), SafetyNumber::between(a, b));
    }

    #[test]
    fn people_read_twelve_groups_of_five() {
        let (a, b) = peers();
        let shown = SafetyNumber::between(a, b).to_string();
        assert_eq!(
            shown,
            "11577 07640 21437 68534 53107 72461 99642 33814 43599 18848 43814 71379"
        );
    }

    ///
    #[test]
    fn a_code_matches_only_from_the_peer_to_me() {
        let (a, b) = peers();
        let other = PeerId::from_bytes([7; 32]);
        let text = QrPayload::new(a, b).to_string();
        assert_eq!(text.len(), 104);
        let bytes = [b"sealwire/1 qr\x01".as_slice(), a.as_bytes(), b.as_bytes()].concat();
        assert_eq!(Base64UrlUnpadded::decode_vec(&text).unwrap(), bytes);
        let scanned: QrPayload = text.parse().unwrap();
        assert!(scanned.matches(b, a));
        assert!(
            !scanned.matches(a, b),
            "my own code, scanned from my own screen"
        );
        assert!(!scanned.matches(b, other) && !scanned.matches(other, a));
    }

    #[test]
    fn other_texts_are_no_code() {
        let (a, b) = peers();
        let text = QrPayload::new(a, b).to_string();
        let mut version = Base64UrlUnpadded::decode_vec(&text).unwrap();
        version[13] = 2;
        let version = Base64UrlUnpadded::encode_string(&version);
        for wrong in [
            "",
            &text[..103],
            &text[..60],
            &format!("{text}A"),
            &format!("{text}AAAA"),
            &version,
            DIGITS,
        ] {
            assert_eq!(wrong.parse::<QrPayload>(), Err(InvalidQrPayload), "{wrong}");
        }
    }
}
