//! C8: everything that is not a vault, or not opened by its key, is refused, and costs little.

use super::*;
use crate::contact::{Contact, ContactSecret};
use crate::identity::PeerId;
use crate::message::Timestamp;
use crate::store::{Argon2Cost, Passphrase, StoreKey};
use crate::trust::PeerTrust;

const NOW: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

/// Counts up: every draw is another.
struct Counter(u8);

impl Entropy for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        self.0 += 1;
        out.fill(self.0);
    }
}

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes([byte; 32])
}

fn key() -> StoreKey {
    StoreKey::from_secret_bytes([0x77; 32])
}

/// Costs next to nothing.
fn passphrase(text: &str) -> Passphrase {
    let cost = Argon2Cost::new(64, 1, 1).unwrap();
    Passphrase::new(text).unwrap().with_cost(cost)
}

/// With one contact, whose secret can be looked for.
fn vault<'a>(unlock: impl Into<Unlock<'a>>) -> Vault {
    let mut vault = Vault::new(identity(0x11), unlock, &mut Counter(0)).unwrap();
    let peer = PeerId::from_bytes([0x22; 32]);
    let contact = Contact::new("Ann", peer, PeerTrust::Invited, NOW).unwrap();
    let secret = ContactSecret::from_secret_bytes([0x33; 32]);
    vault
        .contacts_mut()
        .add(contact.with_secret(secret))
        .unwrap();
    vault
}

fn sealed<'a>(unlock: impl Into<Unlock<'a>>) -> Vec<u8> {
    vault(unlock).seal(&mut Counter(9))
}

#[track_caller]
fn assert_refused<'a>(bytes: &[u8], unlock: impl Into<Unlock<'a>>, expected: &StoreError) {
    assert_eq!(&Vault::open(bytes, unlock).unwrap_err(), expected);
}

#[test]
fn a_vault_opens_with_what_locked_it_and_holds_everything() {
    let (key, passphrase) = (key(), passphrase("one"));
    for unlock in [Unlock::from(&key), Unlock::from(&passphrase)] {
        let vault = Vault::open(&sealed(unlock), unlock).unwrap();
        assert_eq!(vault.identity().peer_id(), identity(0x11).peer_id());
        let ann = vault.contacts().get("Ann").unwrap();
        assert_eq!(ann.peer(), PeerId::from_bytes([0x22; 32]));
        assert_eq!(*ann.secret().unwrap().secret_bytes(), [0x33; 32]);
    }
}

///
#[test]
fn the_bytes_are_those_of_the_format() {
    let bytes = sealed(&passphrase("one"));
    assert_eq!(bytes.len(), 38 + 24 + PAGE + 16);
    assert_eq!(bytes[..10], *b"sealwire\x01\x01");
    assert_eq!(bytes[10..22], [0, 0, 0, 64, 0, 0, 0, 1, 0, 0, 0, 1]);
    assert_eq!(bytes[22..38], [1; 16], "the salt, drawn when it was made");
    assert_eq!(
        bytes[38..62],
        [10; 24],
        "the nonce, drawn when it was sealed"
    );
    let derived = at_rest::argon2id(b"one", &[1; 16], (64, 1, 1)).unwrap();
    let mut contents = bytes[62..].to_vec();
    let contents = at_rest::open(&derived, &[10; 24], &bytes[..38], &mut contents).unwrap();
    assert_eq!(contents[..6], [1, 1, 0, 0, 0, 32]);

    let bytes = sealed(&key());
    assert_eq!(bytes[..10], *b"sealwire\x01\x00");
    assert_eq!(bytes[10..38], [0; 28]);
}

#[test]
fn nothing_in_the_bytes_shows_a_secret_a_label_or_a_key() {
    let bytes = sealed(&key());
    for needle in [&[0x11; 8][..], &[0x22; 8], &[0x33; 8], b"Ann"] {
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    }
}

#[test]
fn every_seal_has_a_nonce_of_its_own() {
    let vault = vault(&key());
    let mut entropy = crate::OsEntropy;
    let (one, other) = (vault.seal(&mut entropy), vault.seal(&mut entropy));
    assert_eq!(one[..38], other[..38]);
    assert_ne!(one[38..62], other[38..62]);
    assert_ne!(one[62..], other[62..]);
}

#[test]
fn c8_a_wrong_passphrase_or_key_is_refused() {
    let bytes = sealed(&passphrase("one"));
    for wrong in ["two", "One", "one ", "on"] {
        assert_refused(&bytes, &passphrase(wrong), &StoreError::WrongKeyOrDamaged);
    }
    let bytes = sealed(&key());
    let other = StoreKey::from_secret_bytes([0x78; 32]);
    assert_refused(&bytes, &other, &StoreError::WrongKeyOrDamaged);
}

#[test]
fn c8_the_wrong_sort_of_key_is_told_apart() {
    let (bytes, other) = (sealed(&passphrase("one")), sealed(&key()));
    assert_refused(&bytes, &key(), &StoreError::NeedsPassphrase);
    assert_refused(&other, &passphrase("one"), &StoreError::NeedsKey);
    let cost = Argon2Cost::new(64, 1, 1).unwrap();
    let needed = [&bytes, &other].map(|bytes| Vault::protection(bytes).unwrap());
    assert_eq!(needed, [Protection::Passphrase(cost), Protection::Key]);
}

#[test]
fn c8_every_flipped_bit_of_the_header_is_refused() {
    let passphrase = passphrase("one");
    let bytes = sealed(&passphrase);
    for bit in 0..8 * PREFIX {
        // From 64 to 512 MiB of memory: allowed, and refused like the others after half a second.
        if bit / 8 == 11 && bit % 8 < 4 {
            continue;
        }
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        Vault::open(&changed, &passphrase).unwrap_err();
    }
    let bytes = sealed(&key());
    for bit in 0..8 * PREFIX {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        Vault::open(&changed, &key()).unwrap_err();
    }
}

#[test]
fn c8_a_header_that_names_other_costs_opens_nothing() {
    let passphrase = passphrase("one");
    let bytes = sealed(&passphrase);
    for (at, value) in [(13, 65), (17, 2), (21, 2), (22, 0)] {
        let mut changed = bytes.clone();
        changed[at] = value;
        assert_refused(&changed, &passphrase, &StoreError::WrongKeyOrDamaged);
    }
}

/// refused by their numbers; computed, each would take hours or all memory.
#[test]
fn c8_bombs_are_refused_before_any_work() {
    let passphrase = passphrase("one");
    let bytes = sealed(&passphrase);
    for numbers in [
        [u32::MAX, 1, 1],
        [1024 * 1024 + 1, 1, 1],
        [64, u32::MAX, 1],
        [64, 17, 1],
        [1024 * 1024, 1, 17],
    ] {
        let mut bomb = bytes.clone();
        bomb[10..22].copy_from_slice(numbers.map(u32::to_be_bytes).as_flattened());
        let [m_kib, t, p] = numbers;
        assert_refused(&bomb, &passphrase, &StoreError::TooCostly { m_kib, t, p });
    }
}

#[test]
fn c8_a_damaged_body_is_refused_at_every_byte() {
    let key = key();
    let bytes = sealed(&key);
    for at in PREFIX..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert_refused(&changed, &key, &StoreError::WrongKeyOrDamaged);
    }
}

#[test]
fn c8_cut_files_and_added_bytes_are_refused_at_every_length() {
    let key = key();
    let bytes = sealed(&key);
    for len in 0..bytes.len() {
        let expected = match len {
            0..8 => StoreError::NotAVault,
            _ => StoreError::BadLength { len },
        };
        assert_refused(&bytes[..len], &key, &expected);
    }
    for added in [1, 16, PAGE - 1, PAGE + 1] {
        let longer = [&bytes[..], &vec![0; added]].concat();
        let len = longer.len();
        assert_refused(&longer, &key, &StoreError::BadLength { len });
    }
    let by_a_page = [&bytes[..], &[0; PAGE]].concat();
    assert_refused(&by_a_page, &key, &StoreError::WrongKeyOrDamaged);
    let mut huge = bytes;
    huge.resize(MAX_VAULT + 1, 0);
    let (len, max) = (MAX_VAULT as u64 + 1, MAX_VAULT as u64);
    assert_refused(&huge, &key, &StoreError::TooLong { len, max });
}

#[test]
fn c8_unknown_versions_and_derivations_are_told_apart() {
    let key = key();
    let with = |at: usize, value| {
        let mut bytes = sealed(&key);
        bytes[at] = value;
        bytes
    };
    let version = StoreError::UnsupportedVersion { version: 2 };
    assert_refused(&with(8, 2), &key, &version);
    assert_refused(&with(9, 2), &key, &StoreError::UnsupportedKdf { kdf: 2 });
    assert_refused(&with(0, b'S'), &key, &StoreError::NotAVault);
}

#[test]
fn authentic_contents_of_a_newer_version_are_told_apart() {
    let vault = vault(&key());
    let header = vault.lock.header.encode();
    let mut contents = vec![0; PAGE];
    contents[0] = 2;
    let tag = at_rest::seal(&vault.lock.key, &[4; 24], &header, &mut contents);
    let bytes = [&header[..], &[4; 24], &contents, &tag].concat();
    let newer = super::super::ContentsError::UnsupportedVersion { version: 2 };
    assert_refused(&bytes, &key(), &StoreError::BadContents(newer));
}

/// Not detected, as the documentation says: the host compares the identity.
#[test]
fn another_vault_with_the_same_key_opens_as_another_identity() {
    let mine = sealed(&key());
    let theirs = Vault::new(identity(0x12), &key(), &mut Counter(0)).unwrap();
    let exchanged = Vault::open(&theirs.seal(&mut Counter(0)), &key()).unwrap();
    let expected = Vault::open(&mine, &key()).unwrap().identity().peer_id();
    assert_ne!(exchanged.identity().peer_id(), expected);
}

#[test]
fn parts_of_two_vaults_do_not_fit_together() {
    let passphrase = passphrase("one");
    let mut vault = vault(&passphrase);
    let one = vault.seal(&mut Counter(20));
    vault.relock(&passphrase, &mut Counter(30)).unwrap();
    let other = vault.seal(&mut Counter(40));
    for at in [HEADER_LEN, PREFIX, PREFIX + 32] {
        let spliced = [&one[..at], &other[at..]].concat();
        assert_refused(&spliced, &passphrase, &StoreError::WrongKeyOrDamaged);
    }
}

#[test]
fn a_changed_lock_opens_with_the_new_one_only_and_has_a_salt_of_its_own() {
    let (old, new) = (passphrase("one"), passphrase("two"));
    let mut vault = vault(&old);
    let before = vault.seal(&mut Counter(50));
    vault.relock(&new, &mut Counter(60)).unwrap();
    let after = vault.seal(&mut Counter(70));
    assert_ne!(before[22..38], after[22..38]);
    assert_refused(&after, &old, &StoreError::WrongKeyOrDamaged);
    let vault = Vault::open(&after, &new).unwrap();
    assert_eq!(vault.contacts().len(), 1);
    Vault::open(&before, &old).unwrap();
}

#[test]
fn the_default_cost_is_that_of_the_format_and_opens() {
    let passphrase = Passphrase::new("one").unwrap();
    let bytes = sealed(&passphrase);
    assert_eq!(bytes[10..22], [0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1]);
    Vault::open(&bytes, &passphrase).unwrap();
}

#[test]
fn debug_shows_whose_it_is_and_no_secret() {
    let shown = format!("{:?}", vault(&key()));
    assert!(shown.contains("PeerId(") && shown.contains("contacts: 1"));
    assert!(
        !shown.contains("51, 51") && !shown.contains("119"),
        "{shown}"
    );
}
