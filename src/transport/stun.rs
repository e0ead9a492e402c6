//! The few STUN and TURN messages (RFC 8489, RFC 8656) that a probe needs: Binding, Allocate, and Refresh to give an
//! allocation back. The peer connection has its own; this one can tell *why* a server did not serve.
//!
//! Pure. Answers are not authenticated: a forged one misleads a diagnosis, and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtc::crypto::{CryptoError, HashAlgorithm, HmacAlgorithm, RTCCryptoProvider};

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const INTEGRITY: usize = 20;

/// The longest realm and nonce that are taken: the standard has 763 bytes for both.
const MAX_TEXT: usize = 763;
/// Attributes of an answer that are looked at; a real one has less than a dozen.
const MAX_ATTRIBUTES: usize = 32;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const LIFETIME: u16 = 0x000d;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// UDP, in REQUESTED-TRANSPORT.
const UDP: [u8; 4] = [17, 0, 0, 0];

/// Names a request, and its answer.
pub(crate) type TransactionId = [u8; 12];

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Which address packets come from.
    Binding = 0x001,
    /// An address to be relayed from.
    Allocate = 0x003,
    /// How long the allocation is to live.
    Refresh = 0x004,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) transaction: TransactionId,
    /// The code of an error; `None` for success.
    pub(crate) error: Option<u16>,
    /// Which address the request came from.
    pub(crate) mapped: Option<SocketAddr>,
    /// Which address is relayed from.
    pub(crate) relayed: Option<SocketAddr>,
    pub(crate) realm: Vec<u8>,
    pub(crate) nonce: Vec<u8>,
}

/// The proof that a request comes from who knows the password.
#[derive(Clone)]
pub(crate) struct Credentials<'a> {
    username: &'a str,
    realm: &'a [u8],
    nonce: &'a [u8],
    key: Vec<u8>,
    provider: &'a dyn RTCCryptoProvider,
}

impl<'a> Credentials<'a> {
    /// For the realm and nonce that `challenge`, an answer with error 401 or 438, brought.
    pub(crate) fn new(
        (username, password): (&'a str, &str),
        challenge: &'a Answer,
        provider: &'a dyn RTCCryptoProvider,
    ) -> Result<Self, CryptoError> {
        let mut text = format!("{username}:").into_bytes();
        text.extend_from_slice(&challenge.realm);
        text.extend_from_slice(format!(":{password}").as_bytes());
        Ok(Self {
            username,
            realm: &challenge.realm,
            nonce: &challenge.nonce,
            key: provider.crypto().hash(HashAlgorithm::Md5, &text)?,
            provider,
        })
    }
}

/// A request for the address that packets come from.
pub(crate) fn binding(transaction: TransactionId) -> Vec<u8> {
    begin(Method::Binding, transaction)
}

/// A request for an address to be relayed from, over UDP.
pub(crate) fn allocate(
    transaction: TransactionId,
    credentials: Option<&Credentials<'_>>,
) -> Result<Vec<u8>, CryptoError> {
    let mut message = begin(Method::Allocate, transaction);
    attribute(&mut message, REQUESTED_TRANSPORT, &UDP);
    match credentials {
        Some(credentials) => sign(message, credentials),
        None => Ok(message),
    }
}

/// Gives an allocation back.
pub(crate) fn release(
    transaction: TransactionId,
    credentials: &Credentials<'_>,
) -> Result<Vec<u8>, CryptoError> {
    let mut message = begin(Method::Refresh, transaction);
    attribute(&mut message, LIFETIME, &[0; 4]);
    sign(message, credentials)
}

/// The answer to a request; `None` for everything else.
pub(crate) fn answer(method: Method, message: &[u8]) -> Option<Answer> {
    let (header, mut rest) = message.split_first_chunk::<HEADER>()?;
    let is_error = match u16::from_be_bytes([header[0], header[1]]) {
        kind if kind == method as u16 | 0x0100 => false,
        kind if kind == method as u16 | 0x0110 => true,
        _ => return None,
    };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[4..8] != MAGIC_COOKIE || length != rest.len() {
        return None;
    }
    let transaction = *header[8..].first_chunk()?;
    let mut answer = Answer {
        transaction,
        error: is_error.then_some(0),
        ..Answer::default()
    };
    for _ in 0..MAX_ATTRIBUTES {
        let Some((&[k0, k1, l0, l1], after)) = rest.split_first_chunk() else {
            break;
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = after.get(..length)?;
        rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
        answer.take(u16::from_be_bytes([k0, k1]), value);
    }
    Some(answer)
}

impl Answer {
    /// The first of a kind counts (RFC 8489, §14).
    fn take(&mut self, kind: u16, value: &[u8]) {
        let text = |old: &Vec<u8>| old.is_empty() && value.len() <= MAX_TEXT;
        match kind {
            ERROR_CODE if self.error == Some(0) => {
                if let [_, _, class, number, ..] = *value {
                    self.error = Some(u16::from(class & 7) * 100 + u16::from(number.min(99)));
                }
            }
            REALM if text(&self.realm) => self.realm = value.to_vec(),
            NONCE if text(&self.nonce) => self.nonce = value.to_vec(),
            XOR_MAPPED_ADDRESS if self.mapped.is_none() => {
                self.mapped = address(value, &self.transaction);
            }
            XOR_RELAYED_ADDRESS if self.relayed.is_none() => {
                self.relayed = address(value, &self.transaction);
            }
            _ => {}
        }
    }
}

/// An address, masked so that NATs do not change it.
fn address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], masked) = value.split_first_chunk()?;
    let port = u16::from_be_bytes([p0 ^ MAGIC_COOKIE[0], p1 ^ MAGIC_COOKIE[1]]);
    let mask = MAGIC_COOKIE.iter().chain(transaction);
    let bytes: Vec<u8> = masked
        .iter()
        .zip(mask)
        .map(|(one, other)| one ^ other)
        .collect();
    let ip: IpAddr = match (family, masked.len()) {
        (1, 4) => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        (2, 16) => Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn begin(method: Method, transaction: TransactionId) -> Vec<u8> {
    let mut message = (method as u16).to_be_bytes().to_vec();
    message.extend([0, 0]);
    message.extend(MAGIC_COOKIE);
    message.extend(transaction);
    message
}

/// Adds an attribute. Ours are short: 512 bytes at most, of which a user name has most.
fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    message.extend(kind.to_be_bytes());
    message.extend(length.to_be_bytes());
    message.extend_from_slice(&value[..usize::from(length)]);
    message.resize(message.len().next_multiple_of(4), 0);
    let whole = message.len();
    set_length(message, whole);
}

fn set_length(message: &mut [u8], whole: usize) {
    let length = u16::try_from(whole - HEADER).unwrap_or(u16::MAX);
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Appends the proof, which covers the header with the length that it will have.
fn sign(mut message: Vec<u8>, credentials: &Credentials<'_>) -> Result<Vec<u8>, CryptoError> {
    attribute(&mut message, USERNAME, credentials.username.as_bytes());
    attribute(&mut message, REALM, credentials.realm);
    attribute(&mut message, NONCE, credentials.nonce);
    let whole = message.len() + 4 + INTEGRITY;
    set_length(&mut message, whole);
    let mut tag = [0; INTEGRITY];
    let crypto = credentials.provider.crypto();
    let mut mac = crypto.new_hmac(HmacAlgorithm::Sha1, &credentials.key)?;
    mac.sign(&[&message], &mut tag)?;
    attribute(&mut message, MESSAGE_INTEGRITY, &tag);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// RFC 5769, §2.2 and §2.3, as answers to a Binding request; their passwords and fingerprints are not looked at.
    #[test]
    fn addresses_of_the_standards_samples_are_read() {
        let transaction = *hex("b7e7a701bc34d686fa87dfae").first_chunk().unwrap();
        let v4 = hex(
            "0101003c 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 \
                      00200008 0001a147e112a643 00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96",
        );
        let v6 = hex(
            "01010048 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 \
                      00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9 00080014 \
                      a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c",
        );
        for (message, address) in [
            (v4, "192.0.2.1:32853"),
            (v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let answer = answer(Method::Binding, &message).unwrap();
            assert_eq!(answer.transaction, transaction);
            assert_eq!(
                (answer.mapped, answer.error),
                (Some(address.parse().unwrap()), None)
            );
            assert_eq!(super::answer(Method::Allocate, &message), None);
            for end in 0..message.len() {
                assert_eq!(super::answer(Method::Binding, &message[..end]), None);
            }
        }
    }

    /// RFC 5769, §2.4: a request with long-term credentials, as a Binding; here its integrity over the same attributes.
    #[test]
    fn a_request_is_signed_as_in_the_standards_sample() {
        let sample = hex("00010060 2112a442 78ad3433c6ad72c029da412e \
            00060012 e3839ee38388e383aae38383e382af e382b9 0000 \
            0015001c 662f2f3439396b39353464364f4c33346f4c39465354767936347341 \
            0014000b 6578616d706c652e6f7267 00 00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666");
        let challenge = Answer {
            realm: b"example.org".to_vec(),
            nonce: b"f//499k954d6OL34oL9FSTvy64sA".to_vec(),
            ..Answer::default()
        };
        let provider = rtc::crypto::default_provider().unwrap();
        let name = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let credentials = Credentials::new((name, "TheMatrIX"), &challenge, &*provider).unwrap();
        // The sample has the nonce before the realm; the key and the tag are what is compared.
        let mut message = sample[..sample.len() - 24].to_vec();
        set_length(&mut message, sample.len());
        let mut tag = [0; INTEGRITY];
        let mut mac = provider
            .crypto()
            .new_hmac(HmacAlgorithm::Sha1, &credentials.key)
            .unwrap();
        mac.sign(&[&message], &mut tag).unwrap();
        assert_eq!(tag, sample[sample.len() - 20..]);

        let ours = allocate([7; 12], Some(&credentials)).unwrap();
        assert_eq!(
            usize::from(u16::from_be_bytes([ours[2], ours[3]])),
            ours.len() - HEADER
        );
        assert_eq!(ours[ours.len() - 24..][..4], [0, 8, 0, 20]);
        assert_eq!(release([7; 12], &credentials).unwrap()[..2], [0, 4]);
    }

    #[test]
    fn errors_challenges_and_relayed_addresses_are_read_and_the_first_counts() {
        let mut message = begin(Method::Allocate, [9; 12]);
        message[..2].copy_from_slice(&[0x01, 0x13]);
        attribute(&mut message, ERROR_CODE, &[0, 0, 4, 1, b'n', b'o']);
        attribute(&mut message, ERROR_CODE, &[0, 0, 5, 0]);
        attribute(&mut message, REALM, b"lab");
        attribute(&mut message, REALM, b"other");
        attribute(&mut message, NONCE, &[b'x'; MAX_TEXT + 1]);
        let refused = answer(Method::Allocate, &message).unwrap();
        assert_eq!(
            (refused.error, refused.realm.as_slice()),
            (Some(401), &b"lab"[..])
        );
        assert!(refused.nonce.is_empty());

        message[..2].copy_from_slice(&[0x01, 0x03]);
        attribute(
            &mut message,
            XOR_RELAYED_ADDRESS,
            &[0, 1, 0x21, 0x13, 0x21, 0x12, 0xa4, 0x43],
        );
        let relayed = answer(Method::Allocate, &message).unwrap().relayed;
        assert_eq!(relayed, Some("0.0.0.1:1".parse().unwrap()));
    }
}
