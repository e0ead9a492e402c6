//! What is kept of a pair beside its records, and its bytes.

use super::{Author, Chain, Head, Pair, Place};
use crate::identity::PeerId;

/// Bytes of a state: `me 32 | peer 32 | confirmed u64 | next u64 | floor u64 | sent | received`, the last two each
/// `n u64 | seen u64 | hash 32`.
const STATE: usize = 32 + 32 + 8 + 8 + 8 + 2 * (8 + 8 + 32);

/// What is kept of a pair beside its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What was before the first record that is left.
    pub floor: Place,
    /// This many of this side's messages were confirmed by an equal head of the peer.
    pub confirmed: u64,
    /// The position of the next record to be added. Positions are never used twice.
    pub next: u64,
}

impl State {
    /// Of two that never exchanged a message.
    #[must_use]
    pub fn new(pair: &Pair) -> Self {
        let floor = Place {
            position: 0,
            sent: pair.start(Author::Me),
            received: pair.start(Author::Peer),
        };
        Self {
            floor,
            confirmed: 0,
            next: 0,
        }
    }

    /// Its bytes, and whose it is.
    #[must_use]
    pub fn encode(&self, pair: &Pair) -> Vec<u8> {
        let mut plain = Vec::with_capacity(STATE);
        plain.extend_from_slice(pair.me.as_bytes());
        plain.extend_from_slice(pair.peer.as_bytes());
        for number in [self.confirmed, self.next, self.floor.position] {
            plain.extend_from_slice(&number.to_be_bytes());
        }
        for Chain { head, seen } in [self.floor.sent, self.floor.received] {
            plain.extend_from_slice(&head.n.to_be_bytes());
            plain.extend_from_slice(&seen.to_be_bytes());
            plain.extend_from_slice(&head.hash);
        }
        plain
    }

    /// What [`encode`](Self::encode) wrote; `None` for anything else.
    #[must_use]
    pub fn decode(plain: &[u8]) -> Option<(Pair, Self)> {
        let plain: &[u8; STATE] = plain.try_into().ok()?;
        let (keys, rest) = plain.split_first_chunk::<64>()?;
        let (me, peer) = keys.split_first_chunk::<32>()?;
        let pair = Pair {
            me: PeerId::from_bytes(*me),
            peer: PeerId::from_bytes(peer.try_into().ok()?),
        };
        let number = |at: usize| -> Option<u64> {
            let bytes = rest.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let chain = |at: usize| -> Option<Chain> {
            let hash = rest.get(at + 16..at + 48)?.try_into().ok()?;
            let head = Head {
                n: number(at)?,
                hash,
            };
            Some(Chain {
                head,
                seen: number(at + 8)?,
            })
        };
        let floor = Place {
            position: number(16)?,
            sent: chain(24)?,
            received: chain(72)?,
        };
        let state = Self {
            floor,
            confirmed: number(0)?,
            next: number(8)?,
        };
        Some((pair, state))
    }
}
