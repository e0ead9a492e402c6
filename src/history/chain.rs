//! The hash chain of one direction: what both ends compare to learn whether they hold the same messages.

use crate::crypto::kdf;
use crate::identity::PeerId;

/// Who wrote a message, as seen from this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Author {
    /// This device's identity.
    Me,
    /// The peer.
    Peer,
}

/// Whose messages: this device's identity, and its peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// This side.
    pub me: PeerId,
    /// The other.
    pub peer: PeerId,
}

/// How many messages a chain has, and the hash of them all. It tells nothing of them to whoever cannot guess all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Messages.
    pub n: u64,
    /// SHA-256.
    pub hash: [u8; 32],
}

/// One direction's chain, as far as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Its head.
    pub head: Head,
    /// How many messages of the other side the author of the last message had accepted.
    pub seen: u64,
}

impl Pair {
    /// Where the chain of `author` begins.
    #[must_use]
    pub fn start(&self, author: Author) -> Chain {
        let (author, other) = match author {
            Author::Me => (self.me, self.peer),
            Author::Peer => (self.peer, self.me),
        };
        let hash = kdf::history_start(author.as_bytes(), other.as_bytes());
        Chain {
            head: Head { n: 0, hash },
            seen: 0,
        }
    }
}

impl Chain {
    /// The chain with one message more, whose body has this SHA-256.
    #[must_use]
    pub fn with(&self, seen: u64, ts_ms: u64, body: &[u8; 32]) -> Self {
        let Head { n, hash } = self.head;
        Self {
            head: Head {
                // A peer may state any number: none makes this wrap.
                n: n.saturating_add(1),
                hash: kdf::history_next(&hash, n, seen, ts_ms, body),
            },
            seen,
        }
    }
}

/// The SHA-256 of a message's body.
#[must_use]
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    kdf::sha256(&[body])
}

/// What this side holds of both chains when a session begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// This side's messages.
    pub sent: Chain,
    /// The peer's messages.
    pub received: Chain,
    /// This many of this side's messages were confirmed by an equal head of the peer.
    pub confirmed: u64,
    /// The hashes of this side's chain from there: after `confirmed` messages first, of `sent` last.
    pub tail: Vec<[u8; 32]>,
}

impl Standing {
    /// Of two that never exchanged a message.
    #[must_use]
    pub fn new(pair: &Pair) -> Self {
        let sent = pair.start(Author::Me);
        Self {
            sent,
            received: pair.start(Author::Peer),
            confirmed: 0,
            tail: vec![sent.head.hash],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Pair = Pair {
        me: PeerId::from_bytes([1; 32]),
        peer: PeerId::from_bytes([2; 32]),
    };

    #[test]
    fn both_ends_compute_the_same_two_chains_r206() {
        let other = Pair {
            me: PAIR.peer,
            peer: PAIR.me,
        };
        assert_eq!(PAIR.start(Author::Me), other.start(Author::Peer));
        assert_ne!(PAIR.start(Author::Me), PAIR.start(Author::Peer));
    }

    #[test]
    fn every_part_of_a_message_changes_the_head_r206() {
        let start = PAIR.start(Author::Me);
        let one = start.with(1, 2, &body_hash(b"body"));
        assert_eq!(one.head.n, 1);
        let others = [
            start.with(0, 2, &body_hash(b"body")),
            start.with(1, 3, &body_hash(b"body")),
            start.with(1, 2, &body_hash(b"bodY")),
            PAIR.start(Author::Peer).with(1, 2, &body_hash(b"body")),
            one.with(1, 2, &body_hash(b"body")),
        ];
        assert!(others.iter().all(|other| other.head.hash != one.head.hash));
    }
}
