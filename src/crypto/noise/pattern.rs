//! The token tables, and nothing else: what each message of a handshake carries, in order.

use self::Dh::{Ee, Es, Se};
use self::Token::{Dh as D, E, E1, Ekem1, Psk, S};

/// Which side of a handshake: the initiator writes the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Writes the messages 0, 2, ...
    Initiator,
    /// Writes the messages 1, 3, ...
    Responder,
}

/// One step within a message (Noise §5.3; HFS for `E1` and `Ekem1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A fresh X25519 key, in clear.
    E,
    /// The static X25519 key, encrypted as soon as there is a key.
    S,
    /// The result of a Diffie-Hellman.
    Dh(Dh),
    /// A pre-shared key.
    Psk,
    /// A fresh ML-KEM-768 encapsulation key, encrypted as soon as there is a key.
    E1,
    /// An ML-KEM-768 ciphertext to it, encrypted; then its shared secret is mixed in.
    Ekem1,
}

/// Whose keys meet in a Diffie-Hellman: the initiator's first, then the responder's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dh {
    /// Both ephemeral keys.
    Ee,
    /// The initiator's ephemeral and the responder's static key.
    Es,
    /// The initiator's static and the responder's ephemeral key.
    Se,
}

/// A handshake pattern without pre-messages: its full protocol name, and the tokens of each message.
#[derive(Debug)]
pub struct Pattern {
    name: &'static str,
    messages: &'static [&'static [Token]],
}

/// First contact in an open room (§1.4; R-72).
pub static XXHFS: Pattern = Pattern::new(
    "Noise_XXhfs_25519+MLKEM768_ChaChaPoly_SHA256",
    &[&[E, E1], &[E, D(Ee), Ekem1, S, D(Es)], &[S, D(Se)]],
);

/// A handshake of two that share a pairing secret (§1.4; R-72).
pub static XXHFS_PSK0: Pattern = Pattern::new(
    "Noise_XXhfs+psk0_25519+MLKEM768_ChaChaPoly_SHA256",
    &[&[Psk, E, E1], &[E, D(Ee), Ekem1, S, D(Es)], &[S, D(Se)]],
);

/// A rekey inside an established session (§1.9).
pub static NNHFS_PSK0: Pattern = Pattern::new(
    "Noise_NNhfs+psk0_25519+MLKEM768_ChaChaPoly_SHA256",
    &[&[Psk, E, E1], &[E, D(Ee), Ekem1]],
);

/// The rekey's pattern without its key, for tests.
pub static NNHFS: Pattern = Pattern::new(
    "Noise_NNhfs_25519+MLKEM768_ChaChaPoly_SHA256",
    &[&[E, E1], &[E, D(Ee), Ekem1]],
);

impl Pattern {
    /// A pattern out of its full name and its messages. A token that needs a key has to follow the token that brings
    /// it: handshakes with a table where it does not panic.
    pub const fn new(name: &'static str, messages: &'static [&'static [Token]]) -> Self {
        Self { name, messages }
    }

    /// The full protocol name, which the handshake hash starts from.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The number of `psk` tokens.
    pub fn psks(&self) -> usize {
        self.messages
            .iter()
            .flat_map(|tokens| tokens.iter())
            .filter(|token| **token == Psk)
            .count()
    }

    /// Whether `role` sends its static key.
    pub fn sends_static(&self, role: Role) -> bool {
        let first = match role {
            Role::Initiator => 0,
            Role::Responder => 1,
        };
        self.messages
            .iter()
            .skip(first)
            .step_by(2)
            .any(|tokens| tokens.contains(&S))
    }

    /// The tokens of message `step`, counted from 0.
    pub(super) fn message(&self, step: usize) -> &'static [Token] {
        self.messages[step]
    }

    /// The number of messages.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}
