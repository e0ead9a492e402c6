//! Key derivation (protocol §1.0, §1.1, §1.11): every label in one table, and the few functions that use them.
//!
//! Not here: when a key is derived and when it is erased; see [`epoch`](super::epoch) and [`chain`](super::chain).

use std::fmt;

use chacha20::cipher::{Array, KeyIvInit as _, StreamCipherCore as _};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use hmac::digest::FixedOutput as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::secret::Secret;

/// `P`: the protocol's name, at the start of every derivation.
pub const PROTOCOL: &[u8] = b"sealwire/1";

/// FKE nonce for the sixteen chain keys of one direction (§1.5).
pub const NONCE_CHANNEL: &[u8; 12] = b"seal channel";
/// FKE nonce for the next chain key and fifteen message keys (§1.5).
pub const NONCE_MESSAGE: &[u8; 12] = b"seal message";

/// HMAC key over a pairing secret (§1.1).
const PSK_EXTRACT: &[u8] = b"sealwire/1 psk";
/// Hash prefix of an open room's name (§1.1).
const OPEN_ROOM: &[u8] = b"sealwire/1 room\0";
/// Hash prefix of the SAS commitment (§1.11).
const SAS_COMMIT: &[u8] = b"sealwire/1 sas commit";
/// Hash prefix of the start of a history's chain (§1.12).
const HISTORY: &[u8] = b"sealwire/1 history";
/// First byte of each further link of it (§1.12).
const HISTORY_LINK: u8 = 1;
/// Start of a rekey's prologue (§1.9).
const REKEY: &[u8; 16] = b"sealwire/1 rekey";

/// What an expanded key is for (`label` of `Exp`, §1.0): one use, one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// PSK of an invite (§1.1).
    InvitePsk,
    /// Public name of that PSK (§1.1).
    InvitePskId,
    /// Where its holders meet (§1.1).
    InviteRoom,
    /// PSK of a known contact (§1.1).
    ContactPsk,
    /// Public name of that PSK (§1.1).
    ContactPskId,
    /// Where the two contacts meet (§1.1).
    ContactRoom,
    /// PSK of a resumption (§1.1).
    ResumePsk,
    /// Public name of that PSK (§1.1).
    ResumePskId,
    /// Root of the initiator's sending chains (§1.5).
    EpochInitiatorToResponder,
    /// Root of the responder's sending chains (§1.5).
    EpochResponderToInitiator,
    /// PSK of the next rekey (§1.5).
    RekeyPsk,
    /// Pairing secret of a resumption out of this epoch (§1.5).
    Resume,
    /// Name of the session (§1.5).
    SessionId,
    /// Where the session resumes (§1.5).
    ResumeRoom,
    /// Contact secret, kept by mutual consent only (§1.5).
    Contact,
    /// Key of the short authentication string (§1.5).
    Sas,
    /// The short authentication string itself (§1.11).
    SasCode,
    /// Name of a contact in the history file, which tells nobody whose it is (§1.13).
    HistoryContact,
}

impl Label {
    /// The label as it enters the derivation.
    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::InvitePsk => b"invite psk",
            Self::InvitePskId => b"invite psk id",
            Self::InviteRoom => b"invite room",
            Self::ContactPsk => b"contact psk",
            Self::ContactPskId => b"contact psk id",
            Self::ContactRoom => b"contact room",
            Self::ResumePsk => b"resume psk",
            Self::ResumePskId => b"resume psk id",
            Self::EpochInitiatorToResponder => b"epoch i2r",
            Self::EpochResponderToInitiator => b"epoch r2i",
            Self::RekeyPsk => b"rekey psk",
            Self::Resume => b"resume",
            Self::SessionId => b"session id",
            Self::ResumeRoom => b"resume room",
            Self::Contact => b"contact",
            Self::Sas => b"sas",
            Self::SasCode => b"sas code",
            Self::HistoryContact => b"history contact",
        }
    }
}

/// What a pairing secret was agreed for (§1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingKind {
    /// One-time secret of an invite; context: the inviter's public key.
    Invite,
    /// Lasting secret of two contacts; context: both public keys, the smaller first.
    Contact,
    /// Secret of one epoch, to resume its session; context: the session id.
    Resume,
}

/// What both holders of a pairing secret derive from it (§1.1).
pub struct Pairing {
    /// The handshake's pre-shared key.
    pub psk: Secret,
    /// Its public name in HS1.
    pub psk_id: [u8; 16],
    /// Where the holders meet; none for a resumption, whose room comes from the session's first handshake.
    pub room: Option<[u8; 32]>,
}

impl fmt::Debug for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            psk: _,
            psk_id: _,
            room: _, // a secret of those who meet there
        } = self;
        f.write_str("Pairing(..)")
    }
}

/// Derives PSK, its name and the room from a pairing secret of 32 uniformly random bytes, never a password (§1.1).
///
pub fn pairing(kind: PairingKind, secret: &Secret, context: &[u8]) -> Pairing {
    let (psk, psk_id, room) = match kind {
        PairingKind::Invite => (
            Label::InvitePsk,
            Label::InvitePskId,
            Some(Label::InviteRoom),
        ),
        PairingKind::Contact => (
            Label::ContactPsk,
            Label::ContactPskId,
            Some(Label::ContactRoom),
        ),
        PairingKind::Resume => (Label::ResumePsk, Label::ResumePskId, None),
    };
    let prk = hmac_sha256(PSK_EXTRACT, &[secret.expose()]);
    Pairing {
        psk: expand(&prk, psk, context),
        psk_id: *expand(&prk, psk_id, context).expose(),
        room: room.map(|label| *expand(&prk, label, context).expose()),
    }
}

/// The room of an open name: guessable as far as the name is (§1.1; R-17).
pub fn open_room(name: &str) -> [u8; 32] {
    sha256(&[OPEN_ROOM, name.as_bytes()])
}

/// The responder's commitment to its nonce, before it sees the initiator's (§1.11).
pub fn sas_commit(hash: &[u8; 32], nonce_r: &[u8; 32]) -> [u8; 32] {
    sha256(&[SAS_COMMIT, hash, nonce_r])
}

/// The short authentication string: three groups from 1000 to 9191, 39 bits together (§1.11).
pub fn sas_code(
    sas_key: &Secret,
    nonce_i: &[u8; 32],
    nonce_r: &[u8; 32],
    pk_i: &[u8; 32],
    pk_r: &[u8; 32],
) -> [u16; 3] {
    let context = [nonce_i.as_slice(), nonce_r, pk_i, pk_r].concat();
    let code: Secret<5> = expand(sas_key, Label::SasCode, &context);
    let [b0, b1, b2, b3, b4] = code.expose().map(u16::from);
    [
        (b0 << 5 | b1 >> 3) + 1000,
        ((b1 & 7) << 10 | b2 << 2 | b3 >> 6) + 1000,
        ((b3 & 63) << 7 | b4 >> 1) + 1000,
    ]
}

/// Where the chain of `author`'s messages to the other of the two begins (§1.12, R-206).
pub fn history_start(author: &[u8; 32], other: &[u8; 32]) -> [u8; 32] {
    let (min, max) = (author.min(other), author.max(other));
    sha256(&[HISTORY, min, max, author])
}

/// The head after message `n`, whose author had accepted `seen` messages of the other (§1.12, R-206). `body` is the
/// SHA-256 of the message.
pub fn history_next(head: &[u8; 32], n: u64, seen: u64, ts_ms: u64, body: &[u8; 32]) -> [u8; 32] {
    let [n, seen, ts_ms] = [n, seen, ts_ms].map(u64::to_be_bytes);
    sha256(&[&[HISTORY_LINK], head, &n, &seen, &ts_ms, body])
}

/// The prologue of the rekey that leads to epoch `next`, out of an epoch with handshake hash `hash` (§1.9; R-172).
pub fn rekey_prologue(next: u16, hash: &[u8; 32]) -> [u8; 50] {
    let mut prologue = [0; 50];
    prologue[..16].copy_from_slice(REKEY);
    prologue[16..18].copy_from_slice(&next.to_be_bytes());
    prologue[18..].copy_from_slice(hash);
    prologue
}

/// `Exp`: HKDF-Expand-SHA256 (RFC 5869) with `info = P || " " || label || 0x00 || context` (§1.0). `N` is at most 32.
///
pub fn expand<const N: usize>(prk: &Secret, label: Label, context: &[u8]) -> Secret<N> {
    expand_info(
        prk.expose(),
        &[PROTOCOL, b" ", label.bytes(), &[0], context],
    )
}

/// The first block of HKDF-Expand-SHA256, cut to `N` bytes: its first bytes do not depend on the length asked for.
/// The parts of `info` are concatenated.
pub fn expand_info<const N: usize>(prk: &[u8], info: &[&[u8]]) -> Secret<N> {
    const { assert!(N <= 32, "one block of HKDF-Expand is enough") };
    let mut mac = keyed(prk);
    info.iter().for_each(|part| mac.update(part));
    mac.update(&[1]);
    let block = finish(mac);
    let mut out = Secret::zeroed();
    out.bytes_mut().copy_from_slice(&block.expose()[..N]);
    out
}

/// Noise's `HKDF(chaining_key, input, COUNT)` (Noise §4.3): RFC 5869 with the chaining key as salt and no info.
pub fn noise_hkdf<const COUNT: usize>(chaining_key: &Secret, input: &[u8]) -> [Secret; COUNT] {
    const { assert!(COUNT == 2 || COUNT == 3, "Noise asks for two or three") };
    let prk = hmac_sha256(chaining_key.expose(), &[input]);
    let mut previous: Option<Secret> = None;
    let mut counter = 0;
    std::array::from_fn(|_| {
        counter += 1;
        let before = previous.as_ref().map_or(&[][..], |secret| secret.expose());
        let block = hmac_sha256(prk.expose(), &[before, &[counter]]);
        previous = Some(block.duplicate());
        block
    })
}

/// 512 bytes of ChaCha20 keystream from block counter 0 (RFC 8439 §2.4): the step of fast key erasure (§1.0; R-8).
pub fn fke(key: &Secret, nonce: &[u8; 12], out: &mut [u8; 512]) {
    let mut core = ChaChaCore::<R20, Ietf>::new(key.expose().into(), nonce.into());
    let (blocks, _) = Array::slice_as_chunks_mut(out);
    core.write_keystream_blocks(blocks);
}

/// SHA-256 over the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// HMAC-SHA256 over the concatenation of `parts`: HKDF-Extract, with `key` as the salt (RFC 5869 §2.2).
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Secret {
    let mut mac = keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    finish(mac)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

/// The tag, written where it is erased.
fn finish(mac: Hmac<Sha256>) -> Secret {
    let mut tag = Secret::zeroed();
    mac.finalize_into(tag.bytes_mut().into());
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    ///
    #[test]
    fn rfc_8439_keystream() {
        let mut out = [1; 512];
        fke(&Secret::new([0; 32]), &[0; 12], &mut out);
        // Appendix A.1, test vectors 1 and 2: block counters 0 and 1.
        let first: [u8; 64] = hex(
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
             da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        );
        let second: [u8; 64] = hex(
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
             29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        );
        assert_eq!(out[..64], first);
        assert_eq!(out[64..128], second);
    }

    #[test]
    fn rfc_8439_keystream_with_key_and_nonce() {
        // Section 2.4.2: its message starts at block counter 1.
        let key = Secret::new(std::array::from_fn(|i| i as u8));
        let mut out = [0; 512];
        fke(&key, &hex("000000000000004a00000000"), &mut out);
        let keystream: [u8; 114] = hex(
            "224f51f3401bd9e12fde276fb8631ded8c131f823d2c06e27e4fcaec9ef3cf78\
             8a3b0aa372600a92b57974cded2b9334794cba40c63e34cdea212c4cf07d41b7\
             69a6749f3f630f4122cafe28ec4dc47e26d4346d70b98c73f3e9c53ac40c5945\
             398b6eda1a832c89c167eacd901d7e2bf363",
        );
        assert_eq!(out[64..178], keystream);
    }

    #[test]
    fn rfc_5869_test_case_1() {
        let salt: [u8; 13] = hex("000102030405060708090a0b0c");
        let prk = hmac_sha256(&salt, &[&[0x0b; 22]]);
        let expected = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        assert_eq!(prk.expose(), &expected);
        let info: [u8; 10] = hex("f0f1f2f3f4f5f6f7f8f9");
        let okm: Secret = expand_info(prk.expose(), &[&info[..3], &info[3..]]);
        let expected = hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
        assert_eq!(okm.expose(), &expected);
    }

    #[test]
    fn rfc_5869_test_case_3_is_noise_hkdf() {
        // No salt is a salt of zeros, no info is what Noise has.
        let [first, second] = noise_hkdf(&Secret::new([0; 32]), &[0x0b; 22]);
        let expected = hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
        assert_eq!(first.expose(), &expected);
        assert_eq!(second.expose()[..10], hex::<10>("9d201395faa4b61a96c8"));
        let [one, two, _] = noise_hkdf(&Secret::new([0; 32]), &[0x0b; 22]);
        assert!(one.ct_eq(&first) && two.ct_eq(&second));
    }

    #[test]
    fn sha_256_of_parts_is_that_of_the_whole() {
        let expected = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256(&[b"a", b"", b"bc"]), expected);
    }

    #[test]
    fn a_shorter_expansion_is_the_start_of_a_longer_one() {
        let prk = Secret::new([1; 32]);
        let long: Secret = expand(&prk, Label::Sas, b"context");
        let short: Secret<5> = expand(&prk, Label::Sas, b"context");
        assert_eq!(long.expose()[..5], *short.expose());
    }

    #[test]
    fn labels_differ() {
        use Label::*;
        let all = [
            InvitePsk,
            InvitePskId,
            InviteRoom,
            ContactPsk,
            ContactPskId,
            ContactRoom,
            ResumePsk,
            ResumePskId,
            EpochInitiatorToResponder,
            EpochResponderToInitiator,
            RekeyPsk,
            Resume,
            SessionId,
            ResumeRoom,
            Contact,
            Sas,
            SasCode,
            HistoryContact,
        ];
        let labels: std::collections::BTreeSet<_> = all.map(Label::bytes).into();
        assert_eq!(labels.len(), all.len());
        assert!(
            labels.iter().all(|label| !label.contains(&0)),
            "the zero byte ends a label"
        );
    }

    ///
    #[test]
    fn open_room_is_the_hash_of_its_name() {
        assert_eq!(open_room("lobby"), sha256(&[b"sealwire/1 room\0lobby"]));
        assert_ne!(open_room("lobby"), open_room("Lobby"));
    }

    ///
    #[test]
    fn sas_groups_have_four_digits() {
        let key = Secret::new([5; 32]);
        for i in 0..=255 {
            let code = sas_code(&key, &[i; 32], &[0; 32], &[1; 32], &[2; 32]);
            assert!(
                code.iter().all(|group| (1000..=9191).contains(group)),
                "{code:?}"
            );
        }
    }

    ///
    #[test]
    fn debug_output_of_a_pairing_holds_no_byte() {
        let pairing = pairing(PairingKind::Invite, &Secret::new([1; 32]), &[2; 32]);
        assert_eq!(format!("{pairing:?}"), "Pairing(..)");
    }
}
