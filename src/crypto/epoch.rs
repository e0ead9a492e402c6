//! What a finished handshake gives (protocol §1.5): sixteen chains per direction, and the secrets of later handshakes.

use zeroize::{Zeroize as _, Zeroizing};

use super::chain::{RecvChain, SendChain};
use super::kdf::{self, Label, NONCE_CHANNEL, expand};
pub use super::noise::Role;
use super::secret::Secret;

/// Channels of an epoch. All their keys are made at once, so that their root can go at once.
pub const CHANNELS: usize = 16;

/// The keys of one epoch: all that is left of its handshake's exporter secret.
#[derive(Debug)]
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
#[derive(Debug)]
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

/// The keys of an epoch, for this side of it. The exporter secret ends here.
pub fn derive(exporter: Secret, hash: [u8; 32], role: Role) -> Epoch {
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

/// The secrets of a session, out of its first handshake, before [`derive`] consumes the exporter secret.
pub fn session_secrets(exporter: &Secret, hash: &[u8; 32]) -> SessionSecrets {
    SessionSecrets {
        session_id: *expand(exporter, Label::SessionId, hash).expose(),
        resume_room: *expand(exporter, Label::ResumeRoom, hash).expose(),
        contact: expand(exporter, Label::Contact, hash),
        sas_key: expand(exporter, Label::Sas, hash),
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
