//! What a vault holds, as bytes (R-231, R-232): what is encrypted, and what is read once it was decrypted.
//!
//! ```text
//! version 1 | record ... | zeros up to a multiple of 4 096
//! record: type (u8) | length (u32) | value
//!   1 identity   secret key (32); once, first
//!   3 history    key of the history's file (32); at most once, second
//!   2 contact    label length (u16) | label | key (32) | trust | blocked 0/1 | added (u64) | seen (u64)
//!                | number of secrets 0..2 | secrets (32 each), the newer last
//!                ascending by label; trust: 1 pinned, 2 invited, 3 | how | when (u64) verified; times in unix ms
//! ```
//!
//! There is one encoding of each content. The zeros hide how many contacts there are, in steps of a page.

use zeroize::Zeroizing;

use super::keys::StoreKey;
use crate::contact::{Contact, ContactSecret, Contacts, MAX_CONTACTS, MAX_LABEL, Secrets};
use crate::identity::{Identity, PeerId};
use crate::message::Timestamp;
use crate::trust::{PeerTrust, Verification};

/// The length of contents is a multiple of this many bytes.
pub(super) const PAGE: usize = 4_096;

const VERSION: u8 = 1;
const PADDING: u8 = 0;
const IDENTITY: u8 = 1;
const CONTACT: u8 = 2;
const HISTORY: u8 = 3;

/// Bytes of a record before its value.
const RECORD_HEAD: usize = 1 + 4;
/// Bytes of the longest contact, its record's head included.
const MAX_CONTACT: usize = RECORD_HEAD + 2 + MAX_LABEL + 32 + (1 + 1 + 8) + 1 + 8 + 8 + 1 + 2 * 32;
/// Bytes of the longest contents.
pub(super) const MAX_CONTENTS: usize =
    (1 + 2 * (RECORD_HEAD + 32) + MAX_CONTACTS * MAX_CONTACT).next_multiple_of(PAGE);

/// Contents that were authentic and cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentsError {
    /// They were written by a newer version.
    #[error("it was written by a newer version (contents {version}): update this side")]
    UnsupportedVersion {
        /// The version of the contents.
        version: u8,
    },
    /// They hold something that this version does not know, and would lose on saving.
    #[error("it holds a record {record} of a newer version: update this side")]
    UnknownRecord {
        /// The record's type.
        record: u8,
    },
    /// They break the format.
    #[error("{0}")]
    Malformed(&'static str),
}

type Result<T> = std::result::Result<T, ContentsError>;

/// The contents as bytes: a multiple of [`PAGE`], behind `prefix` zeros and before `suffix` more, so that they are
/// encrypted where they are. The buffer never moves, and erases itself.
pub(crate) fn encode(
    identity: &Identity,
    history: Option<&StoreKey>,
    contacts: &Contacts,
    (prefix, suffix): (usize, usize),
) -> Zeroizing<Vec<u8>> {
    let values: usize = contacts
        .iter()
        .map(|contact| RECORD_HEAD + value_len(contact))
        .sum();
    let keys = (RECORD_HEAD + 32) * (1 + usize::from(history.is_some()));
    let len = (1 + keys + values).next_multiple_of(PAGE);
    let mut out = Zeroizing::new(Vec::with_capacity(prefix + len + suffix));
    out.resize(prefix, 0);
    out.push(VERSION);
    push_record(&mut out, IDENTITY, 32);
    out.extend_from_slice(&*identity.secret_bytes());
    if let Some(key) = history {
        push_record(&mut out, HISTORY, 32);
        out.extend_from_slice(&*key.secret_bytes());
    }
    for contact in contacts.iter() {
        push_record(&mut out, CONTACT, value_len(contact));
        push_contact(&mut out, contact);
    }
    out.resize(prefix + len + suffix, 0);
    out
}

/// What [`encode`] wrote, without prefix and suffix.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Identity, Option<StoreKey>, Contacts)> {
    if bytes.len() > MAX_CONTENTS || !bytes.len().is_multiple_of(PAGE) {
        return malformed("its length is not that of contents");
    }
    let mut reader = Reader(bytes);
    match reader.u8()? {
        VERSION => {}
        version => return Err(ContentsError::UnsupportedVersion { version }),
    }
    let (IDENTITY, mut value) = reader.record()? else {
        return malformed("it does not begin with an identity");
    };
    let identity = Identity::from_secret_bytes(*value.array()?);
    value.end()?;
    let mut contacts = Contacts::new();
    let mut history = None;
    while !reader.is_padding()? {
        let (record, mut value) = reader.record()?;
        if record == HISTORY {
            if history.is_some() || !contacts.is_empty() {
                return malformed("the history's key is not in its place");
            }
            history = Some(StoreKey::from_secret_bytes(*value.array()?));
            value.end()?;
            continue;
        }
        if record != CONTACT {
            return Err(ContentsError::UnknownRecord { record });
        }
        let contact = read_contact(value)?;
        if !contacts.restore(contact) {
            return malformed("its contacts are not in order, or too many");
        }
    }
    let is_blocked =
        |contact: &Contact| contacts.trust(&contact.label, contact.peer) == PeerTrust::Blocked;
    if contacts
        .iter()
        .any(|contact| contact.blocked != is_blocked(contact))
    {
        return malformed("it blocks a key under one label only");
    }
    if reader.0.len() >= PAGE {
        return malformed("it ends with an empty page");
    }
    Ok((identity, history, contacts))
}

fn push_record(out: &mut Vec<u8>, record: u8, len: usize) {
    let len = u32::try_from(len).expect("a contact is far shorter than 4 GiB");
    out.push(record);
    out.extend_from_slice(&len.to_be_bytes());
}

fn value_len(contact: &Contact) -> usize {
    let verified = matches!(contact.trust, PeerTrust::Verified { .. });
    let trust = if verified { 1 + 1 + 8 } else { 1 };
    let secrets = usize::from(secrets(contact).0);
    2 + contact.label.len() + 32 + trust + 1 + 8 + 8 + 1 + 32 * secrets
}

/// Their number, then what is there of them.
fn secrets(contact: &Contact) -> (u8, [Option<&ContactSecret>; 2]) {
    match &contact.secrets {
        Secrets::None => (0, [None, None]),
        Secrets::One(only) => (1, [Some(only), None]),
        Secrets::Two { current, newer } => (2, [Some(current), Some(newer)]),
    }
}

fn push_contact(out: &mut Vec<u8>, contact: &Contact) {
    let Contact {
        label,
        peer,
        trust,
        blocked,
        secrets: _,
        added,
        seen,
    } = contact;
    let label_len = u16::try_from(label.len()).expect("a label has at most 256 bytes");
    out.extend_from_slice(&label_len.to_be_bytes());
    out.extend_from_slice(label.as_bytes());
    out.extend_from_slice(peer.as_bytes());
    push_trust(out, *trust);
    out.push(u8::from(*blocked));
    out.extend_from_slice(&added.as_unix_ms().to_be_bytes());
    out.extend_from_slice(&seen.as_unix_ms().to_be_bytes());
    let (number, secrets) = secrets(contact);
    out.push(number);
    for secret in secrets.into_iter().flatten() {
        out.extend_from_slice(&*secret.secret_bytes());
    }
}

fn push_trust(out: &mut Vec<u8>, trust: PeerTrust) {
    match trust {
        PeerTrust::Blocked | PeerTrust::Changed { .. } | PeerTrust::Unknown | PeerTrust::Pinned => {
            out.push(1)
        }
        PeerTrust::Invited => out.push(2),
        PeerTrust::Verified { how, when } => {
            let how = match how {
                Verification::SafetyNumber => 1,
                Verification::QrCode => 2,
                Verification::ShortCode => 3,
            };
            out.extend_from_slice(&[3, how]);
            out.extend_from_slice(&when.as_unix_ms().to_be_bytes());
        }
    }
}

fn read_contact(mut value: Reader<'_>) -> Result<Contact> {
    let label = value.label()?;
    let peer = PeerId::from_bytes(*value.array()?);
    let trust = value.trust()?;
    let blocked = match value.u8()? {
        0 => false,
        1 => true,
        _ => return malformed("a contact is neither blocked nor not"),
    };
    let (added, seen) = (value.timestamp()?, value.timestamp()?);
    let secrets = match value.u8()? {
        0 => Secrets::None,
        1 | 2 if trust < PeerTrust::Invited => {
            return malformed("a contact with a secret is not trusted as one");
        }
        1 => Secrets::One(value.secret()?),
        2 => Secrets::Two {
            current: value.secret()?,
            newer: value.secret()?,
        },
        _ => return malformed("a contact has more than two secrets"),
    };
    value.end()?;
    Ok(Contact {
        label,
        peer,
        trust,
        blocked,
        secrets,
        added,
        seen,
    })
}

fn malformed<T>(what: &'static str) -> Result<T> {
    Err(ContentsError::Malformed(what))
}

/// Bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Whether only zeros are left, all of them padding.
    fn is_padding(&self) -> Result<bool> {
        match self.0.first() {
            None => Ok(true),
            Some(&PADDING) if self.0.iter().all(|byte| *byte == 0) => Ok(true),
            Some(&PADDING) => malformed("something follows the padding"),
            Some(_) => Ok(false),
        }
    }

    fn record(&mut self) -> Result<(u8, Reader<'a>)> {
        let record = self.u8()?;
        let len = u32::from_be_bytes(*self.array()?);
        let value = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len));
        let Some((value, rest)) = value else {
            return malformed("a record is cut");
        };
        self.0 = rest;
        Ok((record, Reader(value)))
    }

    fn label(&mut self) -> Result<String> {
        let len = usize::from(u16::from_be_bytes(*self.array()?));
        let Some((label, rest)) = self.0.split_at_checked(len) else {
            return malformed("a label is cut");
        };
        self.0 = rest;
        match std::str::from_utf8(label) {
            Ok(label) if (1..=MAX_LABEL).contains(&label.len()) => Ok(label.to_owned()),
            _ => malformed("a label is not one"),
        }
    }

    fn trust(&mut self) -> Result<PeerTrust> {
        Ok(match self.u8()? {
            1 => PeerTrust::Pinned,
            2 => PeerTrust::Invited,
            3 => PeerTrust::Verified {
                how: match self.u8()? {
                    1 => Verification::SafetyNumber,
                    2 => Verification::QrCode,
                    3 => Verification::ShortCode,
                    _ => return malformed("a contact was verified in no known way"),
                },
                when: self.timestamp()?,
            },
            _ => return malformed("a contact has no known trust"),
        })
    }

    fn timestamp(&mut self) -> Result<Timestamp> {
        let ms = u64::from_be_bytes(*self.array()?);
        let timestamp = Timestamp::from_unix_ms(ms);
        if timestamp.as_unix_ms() != ms {
            return malformed("a time is after the year 9999");
        }
        Ok(timestamp)
    }

    fn secret(&mut self) -> Result<ContactSecret> {
        Ok(ContactSecret::copied(self.array()?))
    }

    fn u8(&mut self) -> Result<u8> {
        let [byte] = *self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let Some((array, rest)) = self.0.split_first_chunk() else {
            return malformed("a record is too short");
        };
        self.0 = rest;
        Ok(array)
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            malformed("a record is too long")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PeerId {
        PeerId::from_bytes([byte; 32])
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn secret(byte: u8) -> ContactSecret {
        ContactSecret::from_secret_bytes([byte; 32])
    }

    /// One contact of every sort.
    fn everybody() -> Contacts {
        let mut contacts = Contacts::new();
        let mut add = |label: &str, byte, trust| {
            let contact = Contact::new(label, key(byte), trust, at(1)).unwrap();
            contacts.add(contact).unwrap();
        };
        add("pinned", 1, PeerTrust::Unknown);
        add("invited", 2, PeerTrust::Invited);
        add("blocked", 3, PeerTrust::Invited);
        for (label, how) in [
            ("by number", Verification::SafetyNumber),
            ("by code", Verification::QrCode),
            ("by words", Verification::ShortCode),
        ] {
            add(label, 4, PeerTrust::Verified { how, when: at(2) });
        }
        add(&"x".repeat(MAX_LABEL), 5, PeerTrust::Unknown);
        contacts.block("blocked").unwrap();
        contacts.pair("invited", key(2), secret(20)).unwrap();
        contacts.pair("by code", key(4), secret(40)).unwrap();
        contacts.pair("by code", key(4), secret(41)).unwrap();
        contacts
            .met("pinned", key(1), PeerTrust::Unknown, at(9))
            .unwrap();
        contacts
    }

    fn encoded(contacts: &Contacts) -> Vec<u8> {
        encode(
            &Identity::from_secret_bytes([7; 32]),
            None,
            contacts,
            (0, 0),
        )
        .to_vec()
    }

    fn facts(contacts: &Contacts) -> Vec<(String, [Option<[u8; 32]>; 2])> {
        let fact = |contact: &Contact| {
            let secrets = [contact.secret(), contact.newer_secret()]
                .map(|secret| secret.map(|secret| *secret.secret_bytes()));
            (format!("{contact:?}"), secrets)
        };
        contacts.iter().map(fact).collect()
    }

    #[test]
    fn the_key_of_a_history_stands_second_and_once_r231() {
        let identity = Identity::from_secret_bytes([7; 32]);
        let key = StoreKey::from_secret_bytes([8; 32]);
        let bytes = encode(&identity, Some(&key), &everybody(), (0, 0));
        let (_, again, contacts) = decode(&bytes).unwrap();
        assert_eq!(*again.unwrap().secret_bytes(), [8; 32]);
        assert_eq!(facts(&contacts), facts(&everybody()));
        let mut twice = bytes.to_vec();
        let record = twice[38..75].to_vec();
        twice.splice(75..75, record);
        twice.truncate(bytes.len());
        assert!(decode(&twice).is_err());
    }

    #[test]
    fn everything_comes_back() {
        let contacts = everybody();
        let bytes = encoded(&contacts);
        assert_eq!(bytes.len(), PAGE);
        let (identity, _, again) = decode(&bytes).unwrap();
        assert_eq!(*identity.secret_bytes(), [7; 32]);
        assert_eq!(facts(&again), facts(&contacts));
        assert_eq!(encoded(&again), bytes);
    }

    /// R-231.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut contacts = Contacts::new();
        let verified = PeerTrust::Verified {
            how: Verification::QrCode,
            when: at(0x0102),
        };
        let contact = Contact::new("Ann", key(9), verified, at(3)).unwrap();
        contacts.add(contact.with_secret(secret(8))).unwrap();
        let expected = [
            &[1, 1, 0, 0, 0, 32][..],
            &[7; 32],
            &[2, 0, 0, 0, 97, 0, 3],
            b"Ann",
            &[9; 32],
            &[3, 2, 0, 0, 0, 0, 0, 0, 1, 2, 0],
            &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3, 1],
            &[8; 32],
        ]
        .concat();
        let bytes = encoded(&contacts);
        let (start, padding) = bytes.split_at(expected.len());
        assert_eq!(start, expected);
        assert!(padding.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_buffer_is_allocated_once_so_that_no_copy_stays_behind() {
        let identity = Identity::from_secret_bytes([7; 32]);
        for contacts in [Contacts::new(), everybody()] {
            let bytes = encode(&identity, None, &contacts, (62, 16));
            assert_eq!(bytes.capacity(), bytes.len());
            assert_eq!(bytes.len(), 62 + PAGE + 16);
        }
    }

    #[test]
    fn the_longest_contents_are_within_the_bound() {
        let mut contacts = Contacts::new();
        let verified = PeerTrust::Verified {
            how: Verification::QrCode,
            when: at(1),
        };
        for n in 0..MAX_CONTACTS {
            let label = format!("{n:0MAX_LABEL$}");
            let contact = Contact::new(label, key(1), verified, at(1)).unwrap();
            let mut contact = contact.with_secret(secret(1));
            contact.secrets = Secrets::Two {
                current: secret(1),
                newer: secret(2),
            };
            assert!(contacts.restore(contact));
        }
        let bytes = encoded(&contacts);
        assert_eq!(bytes.len(), MAX_CONTENTS);
        assert_eq!(decode(&bytes).unwrap().2.len(), MAX_CONTACTS);
        let one_more = Contact::new("a", key(1), verified, at(1)).unwrap();
        assert!(!contacts.restore(one_more));
    }

    #[test]
    fn no_changed_byte_reads_as_something_that_is_written_otherwise() {
        let bytes = encoded(&everybody());
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 8;
        for bit in 0..8 * end {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok((identity, history, contacts)) = decode(&changed) {
                let again = encode(&identity, history.as_ref(), &contacts, (0, 0));
                assert_eq!(again[..], changed);
            }
        }
    }

    /// R-232.
    #[test]
    fn what_is_malformed_or_newer_is_an_error() {
        let good = encoded(&everybody());
        let malformed = |bytes: &[u8]| {
            let error = decode(bytes).err();
            assert!(
                matches!(error, Some(ContentsError::Malformed(_))),
                "{error:?}"
            );
        };
        malformed(&[]);
        malformed(&good[..PAGE - 1]);
        malformed(&[&good[..], &[0; PAGE]].concat());
        malformed(&vec![1; MAX_CONTENTS + PAGE]);
        let with = |at: usize, value| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        malformed(&with(1, CONTACT));
        malformed(&with(5, 31));
        malformed(&with(PAGE - 1, 1));
        malformed(&with(38 + 1, 1));
        let version = ContentsError::UnsupportedVersion { version: 2 };
        assert_eq!(decode(&with(0, 2)).err(), Some(version));
        let newer = ContentsError::UnknownRecord { record: 4 };
        assert_eq!(decode(&with(38, 4)).err(), Some(newer));
    }

    /// R-232.
    #[test]
    fn contacts_out_of_order_or_twice_are_refused() {
        let one = encoded(&everybody());
        let mut bytes = one[..38].to_vec();
        let contact = &one[38..38 + RECORD_HEAD + 97];
        let len = RECORD_HEAD + usize::from(contact[4]);
        bytes.extend(&one[38..38 + len]);
        bytes.extend(&one[38..38 + len]);
        bytes.resize(PAGE, 0);
        let error = ContentsError::Malformed("its contacts are not in order, or too many");
        assert_eq!(decode(&bytes).err(), Some(error));
    }
}
