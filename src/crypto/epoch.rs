//! What a finished handshake gives (protocol §1.5): sixteen chains per direction, and the secrets of later handshakes.

use std::fmt;

use zeroize::{Zeroize as _, Zeroizing, zeroize_stack};

use super::chain::{RecvChain, SendChain};
use super::kdf::{self, Label, NONCE_CHANNEL, expand};
pub use super::noise::Role;
use super::secret::Secret;

/// Channels of an epoch. All their keys are made at once, so that their root can go at once.
pub const CHANNELS: usize = 16;

/// The keys of one epoch: all that is left of its handshake's exporter secret.
pub struct Epoch {
    /// Keys of outgoing frames, by channel.
    pub send: [SendChain; CHANNELS],
    /// Keys of incoming frames, by channel.
    pub recv: [RecvChain; CHANNELS],
    /// PSK of the rekey to the next epoch; to be erased when mixed into it.
    pub rekey_psk: Secret,
    /// Pairing secret of a resumption out of this epoch.
    pub resume: Secret,
    /// The handshake's hash.
    pub hash: [u8; 32],
}

/// What belongs to a session and not to an epoch: from the session's first handshake only.
pub struct SessionSecrets {
    /// Name of the session: context of its resumption keys.
    pub session_id: [u8; 16],
    /// Where the session resumes.
    pub resume_room: [u8; 32],
    /// The contact secret, kept by mutual consent only.
    pub contact: Secret,
    /// Key of the short authentication string.
    pub sas_key: Secret,
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            send: _,
            recv: _,
            rekey_psk: _,
            resume: _,
            hash: _,
        } = self;
        f.write_str("Epoch(..)")
    }
}

impl fmt::Debug for SessionSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            session_id: _,
            resume_room: _, // a secret of the two who meet there
            contact: _,
            sas_key: _,
        } = self;
        f.write_str("SessionSecrets(..)")
    }
}

/// The keys of an epoch, for this side of it. The exporter secret ends here.
pub fn derive(exporter: Secret, hash: [u8; 32], role: Role) -> Epoch {
    let epoch = expand_epoch(exporter, hash, role);
    zeroize_stack::<{ 16 << 10 }>();
    epoch
}

/// The secrets of a session, out of its first handshake, before [`derive`] consumes the exporter secret.
pub fn session_secrets(exporter: &Secret, hash: &[u8; 32]) -> SessionSecrets {
    SessionSecrets {
        session_id: *expand(exporter, Label::SessionId, hash).expose(),
        resume_room: *expand(exporter, Label::ResumeRoom, hash).expose(),
        contact: expand(exporter, Label::Contact, hash),
        sas_key: expand(exporter, Label::Sas, hash),
    }
}

/// Apart from [`derive`], so that the latter can overwrite this one's stack.
#[inline(never)]
fn expand_epoch(exporter: Secret, hash: [u8; 32], role: Role) -> Epoch {
    //
    let (send, recv) = match role {
        Role::Initiator => (
            Label::EpochInitiatorToResponder,
            Label::EpochResponderToInitiator,
        ),
        Role::Responder => (
            Label::EpochResponderToInitiator,
            Label::EpochInitiatorToResponder,
        ),
    };
    Epoch {
        send: chains(expand(&exporter, send, &hash), SendChain::new),
        recv: chains(expand(&exporter, recv, &hash), RecvChain::new),
        rekey_psk: expand(&exporter, Label::RekeyPsk, &hash),
        resume: expand(&exporter, Label::Resume, &hash),
        hash,
    }
}

/// The chains of one direction, out of its root `D`.
fn chains<T>(root: Secret, new: fn(Secret) -> T) -> [T; CHANNELS] {
    let mut stream = Zeroizing::new([0; 512]);
    kdf::fke(&root, NONCE_CHANNEL, &mut stream);
    let (keys, _) = stream.as_chunks_mut::<32>();
    std::array::from_fn(|channel| {
        let key = Secret::new(keys[channel]);
        keys[channel].as_mut_slice().zeroize();
        new(key)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    ///
    #[test]
    fn what_one_side_sends_with_the_other_receives_with() {
        let [mut initiator, mut responder] = [Role::Initiator, Role::Responder]
            .map(|role| derive(Secret::new([1; 32]), [2; 32], role));
        assert!(initiator.rekey_psk.ct_eq(&responder.rekey_psk));
        assert!(initiator.resume.ct_eq(&responder.resume));
        let mut seen = HashSet::new();
        for channel in 0..CHANNELS {
            let (_, key) = initiator.send[channel].next().unwrap();
            assert_eq!(
                responder.recv[channel].key().unwrap().expose(),
                key.expose()
            );
            assert!(seen.insert(*key.expose()));
            let (_, key) = responder.send[channel].next().unwrap();
            assert_eq!(
                initiator.recv[channel].key().unwrap().expose(),
                key.expose()
            );
            assert!(seen.insert(*key.expose()));
        }
    }

    ///
    #[test]
    fn every_secret_depends_on_the_handshake_hash() {
        let [one, two] =
            [[2; 32], [3; 32]].map(|hash| derive(Secret::new([1; 32]), hash, Role::Initiator));
        assert!(!one.rekey_psk.ct_eq(&two.rekey_psk) && !one.resume.ct_eq(&two.resume));
        let [one, two] =
            [[2; 32], [3; 32]].map(|hash| session_secrets(&Secret::new([1; 32]), &hash));
        assert_ne!(one.session_id, two.session_id);
        assert_ne!(one.resume_room, two.resume_room);
        assert!(!one.contact.ct_eq(&two.contact) && !one.sas_key.ct_eq(&two.sas_key));
    }

    ///
    #[test]
    fn debug_output_holds_no_byte() {
        let secrets = session_secrets(&Secret::new([1; 32]), &[2; 32]);
        let epoch = derive(Secret::new([1; 32]), [2; 32], Role::Initiator);
        assert_eq!(
            format!("{secrets:?} {epoch:?}"),
            "SessionSecrets(..) Epoch(..)"
        );
    }
}
