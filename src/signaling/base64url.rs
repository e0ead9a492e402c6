//! Binary fields of an envelope: strict base64url, without padding, with zero trailing bits (§1.0; R-6).
//!
//! Strictness makes the text of a value unique, so that the server can hand a blob on as the text that came, without
//! decoding it: bytes out are bytes in.

use std::{borrow::Cow, fmt};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Serialize, Serializer};

use super::envelope::{EnvelopeError, MAX_BLOB};

/// An opaque payload of at most 16 384 bytes, kept as the text that travels.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob<'a>(Cow<'a, str>);

impl Blob<'static> {
    /// The payload `bytes`.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] beyond 16 384 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_BLOB {
            return Err(EnvelopeError::TooLarge);
        }
        Ok(Self(Cow::Owned(encode(bytes))))
    }
}

impl<'a> Blob<'a> {
    /// The payload that `text` stands for.
    pub(super) fn from_text(text: Cow<'a, str>) -> Result<Self, EnvelopeError> {
        if !is_canonical(text.as_bytes()) {
            return Err(EnvelopeError::BadField { field: "blob" });
        }
        let blob = Self(text);
        if blob.len() > MAX_BLOB {
            return Err(EnvelopeError::TooLarge);
        }
        Ok(blob)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        Base64UrlUnpadded::decode_vec(&self.0).expect("the text was checked when the blob was made")
    }

    /// The text that travels.
    #[cfg(feature = "server")]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / 4 * 3 + (self.0.len() % 4).saturating_sub(1)
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Blob<'_> {
    /// Blobs stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.len())
    }
}

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The text of `bytes`.
pub(super) fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// The text of `bytes`, in `out`, which has room for exactly that.
#[cfg(feature = "server")]
pub(super) fn encode_into<'a>(bytes: &[u8], out: &'a mut [u8]) -> &'a str {
    Base64UrlUnpadded::encode(bytes, out).expect("there is room for it")
}

/// The value of exactly `N` bytes that `text` stands for.
pub(super) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    let decoded = Base64UrlUnpadded::decode(text, &mut out).ok()?;
    (decoded.len() == N).then_some(out)
}

/// Whether `text` is what [`encode`] makes of some bytes. Blobs are no secrets to the server: it needs no constant time.
fn is_canonical(text: &[u8]) -> bool {
    let trailing_bits = match text.len() % 4 {
        0 => 0,
        2 => 0b1111,
        3 => 0b11,
        _ => return false,
    };
    text.iter().fold(true, |all, byte| all & is_digit(*byte))
        && text
            .last()
            .is_none_or(|last| value(*last) & trailing_bits == 0)
}

/// Without branches and tables, so that a compiler checks many bytes at once: the server checks all that it relays.
fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | (byte == b'-') | (byte == b'_')
}

/// The six bits that a digit stands for.
fn value(digit: u8) -> u8 {
    match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'-' => 62,
        _ => 63,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(text: &str) -> Result<Blob<'_>, EnvelopeError> {
        Blob::from_text(Cow::Borrowed(text))
    }

    ///
    #[test]
    fn padding_other_alphabets_and_trailing_bits_are_refused() {
        for text in [
            "A", "AA=", "AA==", "AAA=", "AB", "AAB", "A+AA", "A/AA", "AA A", "AA\n", "AAAAA",
            "\u{e9}AA",
        ] {
            assert!(blob(text).is_err(), "{text:?}");
            assert!(
                decode::<1>(text).is_none() && decode::<2>(text).is_none(),
                "{text:?}"
            );
        }
        assert_eq!(decode::<1>("_w"), Some([255]));
        assert_eq!(decode::<2>("__8"), Some([255, 255]));
        assert_eq!(decode::<1>("_x"), None);
        assert_eq!(decode::<2>("__9"), None);
    }

    #[test]
    fn lengths_are_exact() {
        assert_eq!(decode::<16>(&encode(&[7; 15])), None);
        assert_eq!(decode::<16>(&encode(&[7; 16])), Some([7; 16]));
        assert_eq!(decode::<16>(&encode(&[7; 17])), None);
        assert_eq!(decode::<0>(""), Some([]));
    }

    #[test]
    fn a_blob_ends_at_16_384_bytes() {
        let largest = vec![9; MAX_BLOB];
        assert_eq!(Blob::new(&largest).unwrap().to_vec(), largest);
        let larger = vec![9; MAX_BLOB + 1];
        assert_eq!(Blob::new(&larger), Err(EnvelopeError::TooLarge));
        assert_eq!(blob(&encode(&larger)), Err(EnvelopeError::TooLarge));
    }

    proptest! {
        #[test]
        fn a_blob_travels_unchanged(bytes: Vec<u8>) {
            let sent = Blob::new(&bytes).unwrap();
            prop_assert_eq!(sent.len(), bytes.len());
            prop_assert_eq!(sent.is_empty(), bytes.is_empty());
            let text = sent.0.clone();
            prop_assert_eq!(blob(&text).unwrap().to_vec(), bytes);
        }

        #[test]
        fn the_check_agrees_with_the_decoder(text in "[A-Za-z0-9_=+/ -]{0,24}") {
            prop_assert_eq!(blob(&text).is_ok(), Base64UrlUnpadded::decode_vec(&text).is_ok());
        }
    }
}
