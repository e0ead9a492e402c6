//! One key per frame by fast key erasure (protocol §1.5): what was used, or skipped, cannot be computed again.
//!
//! ```text
//! ck --FKE("seal message")--> | ck' | mk 15b | mk 15b+1 | ... | mk 15b+14 |     frame n: block b = n / 15
//! ```
//!
//! Both chains are for reliable channels, where exactly the next frame is acceptable. What a lossy channel receives
//! with stands in window.rs.

use std::fmt;

use zeroize::{Zeroize as _, ZeroizeOnDrop};

use super::aead::{self, AeadError, TAG_LEN};
use super::kdf::{self, NONCE_MESSAGE};
use super::secret::Secret;
use super::window::RecvWindow;

/// Message keys that one keystream gives, beside the next chain key.
const KEYS_PER_BLOCK: u64 = 15;

/// Frames that one chain can seal: beyond it the epoch has to change (§1.9; R-121).
pub const FRAMES_PER_CHAIN: u64 = 1 << 32;

/// All [`FRAMES_PER_CHAIN`] keys of the chain were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {FRAMES_PER_CHAIN} keys of the chain are used")]
pub struct ChainExhausted;

/// The key of one frame. It seals once, and is erased by it (R-113).
pub struct MessageKey(pub(super) Secret);

impl MessageKey {
    /// Encrypts `buf` in place, without associated data, and returns the tag.
    #[inline]
    pub fn seal(self, nonce: &[u8; 12], buf: &mut [u8]) -> [u8; TAG_LEN] {
        aead::seal(self.expose(), nonce, &[], buf)
    }

    /// Decrypts `ciphertext_and_tag` in place and returns the plaintext, which is its start.
    ///
    /// # Errors
    /// [`AeadError`] when the tag does not fit; the buffer is zeros then.
    #[inline]
    pub fn open<'a>(
        &self,
        nonce: &[u8; 12],
        ciphertext_and_tag: &'a mut [u8],
    ) -> Result<&'a mut [u8], AeadError> {
        aead::open(self.expose(), nonce, &[], ciphertext_and_tag)
    }

    /// Overwrites it with zeros, in its place.
    fn erase(&mut self) {
        self.0.bytes_mut().as_mut_slice().zeroize();
    }

    /// The bytes, for conformance vectors.
    #[inline]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl ZeroizeOnDrop for MessageKey {}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("MessageKey(..)")
    }
}

/// The keys of one sending direction of one channel in one epoch.
#[derive(Debug)]
pub struct SendChain {
    block: Block,
    seq: u64,
}

impl SendChain {
    /// The chain that starts from a chain key. Its only allocation happens here.
    pub fn new(chain_key: Secret) -> Self {
        Self {
            block: Block::new(&chain_key),
            seq: 0,
        }
    }

    /// The number and key of the next frame. The key exists nowhere else from here on.
    ///
    /// # Errors
    /// [`ChainExhausted`] after [`FRAMES_PER_CHAIN`] frames.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "an exhausted chain is an error, not an end"
    )]
    pub fn next(&mut self) -> Result<(u64, MessageKey), ChainExhausted> {
        let seq = self.seq;
        let key = self.block.take(seq)?;
        self.seq += 1;
        Ok((seq, key))
    }

    /// The number of the next frame.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// As if only the last frame were left.
    #[cfg(test)]
    pub(crate) fn wear_out(&mut self) {
        self.seq = FRAMES_PER_CHAIN - 1;
    }
}

/// The keys of one receiving direction of one reliable channel in one epoch: strictly the next frame's.
#[derive(Debug)]
pub struct RecvChain {
    block: Block,
    /// The key of frame `seq`, once it was asked for; zeros before. Boxed like the block: moving the chain copies no key.
    /// No `Option`: an empty one would be filled with what lay on the stack where it was made.
    current: Box<MessageKey>,
    is_drawn: bool,
    seq: u64,
}

impl RecvChain {
    /// The chain that starts from a chain key. Its only allocations happen here.
    pub fn new(chain_key: Secret) -> Self {
        Self {
            block: Block::new(&chain_key),
            current: Box::new(MessageKey(Secret::zeroed())),
            is_drawn: false,
            seq: 0,
        }
    }

    /// The key of frame [`seq`](Self::seq): the same one until [`commit`](Self::commit).
    ///
    /// # Errors
    /// [`ChainExhausted`] after [`FRAMES_PER_CHAIN`] frames.
    #[inline]
    pub fn key(&mut self) -> Result<&MessageKey, ChainExhausted> {
        if !self.is_drawn {
            self.block.take_into(self.seq, &mut self.current)?;
            self.is_drawn = true;
        }
        Ok(&self.current)
    }

    /// Erases the key of frame [`seq`](Self::seq) and goes on to the next, after that frame was accepted.
    /// Does nothing when that key was never asked for: nothing was opened with it.
    #[inline]
    pub fn commit(&mut self) {
        if self.is_drawn {
            self.current.erase();
            self.is_drawn = false;
            self.seq += 1;
        }
    }

    /// The number of the next acceptable frame.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// As if only the last frame were left.
    #[cfg(test)]
    pub(crate) fn wear_out(&mut self) {
        self.current.erase();
        (self.is_drawn, self.seq) = (false, FRAMES_PER_CHAIN - 1);
    }

    /// The same keys for a channel that may lose frames. For a chain of which nothing was opened.
    pub fn into_window(self) -> RecvWindow {
        debug_assert!(self.seq == 0 && !self.is_drawn);
        RecvWindow::new(self.block)
    }
}

/// The chain key and what is left of its fifteen message keys: one keystream, in place.
pub(super) struct Block(Box<[u8; 512]>);

impl Block {
    fn new(chain_key: &Secret) -> Self {
        let mut block = Self(Box::new([0; 512]));
        block.0[..32].copy_from_slice(chain_key.expose());
        block
    }

    /// Takes the key of frame `seq`, which has to be 0 at first and one more each time.
    #[inline]
    pub(super) fn take(&mut self, seq: u64) -> Result<MessageKey, ChainExhausted> {
        let mut key = MessageKey(Secret::zeroed());
        self.take_into(seq, &mut key)?;
        Ok(key)
    }

    /// As [`take`](Self::take), into its place.
    #[inline]
    fn take_into(&mut self, seq: u64, key: &mut MessageKey) -> Result<(), ChainExhausted> {
        if seq >= FRAMES_PER_CHAIN {
            return Err(ChainExhausted);
        }
        let slot = (seq % KEYS_PER_BLOCK) as usize;
        if slot == 0 {
            self.refill();
        }
        let bytes = &mut self.slots()[1 + slot];
        key.0.bytes_mut().copy_from_slice(bytes);
        bytes.as_mut_slice().zeroize();
        Ok(())
    }

    /// Goes on from frame `from` to frame `to`: the next to be taken. The keys in between exist no more.
    pub(super) fn skip(&mut self, from: u64, to: u64) {
        for _ in from.div_ceil(KEYS_PER_BLOCK)..to.div_ceil(KEYS_PER_BLOCK) {
            self.refill();
        }
        let skipped = (to % KEYS_PER_BLOCK) as usize;
        self.slots()[1..=skipped].as_flattened_mut().zeroize();
    }

    /// A copy to look ahead with. The name is long so that each use is looked at.
    pub(super) fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Replaces the chain key by the next one, in the same place, and brings fifteen message keys (R-112).
    fn refill(&mut self) {
        let chain_key = Secret::new(self.slots()[0]);
        kdf::fke(&chain_key, NONCE_MESSAGE, &mut self.0);
    }

    fn slots(&mut self) -> &mut [[u8; 32]] {
        self.0.as_chunks_mut().0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl ZeroizeOnDrop for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("Block(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn pair() -> (SendChain, RecvChain) {
        (
            SendChain::new(Secret::new([1; 32])),
            RecvChain::new(Secret::new([1; 32])),
        )
    }

    /// R-112, R-113.
    #[test]
    fn both_ends_have_the_same_keys_and_no_key_comes_twice() {
        let (mut send, mut recv) = pair();
        let mut seen = HashSet::new();
        for n in 0..100 {
            assert_eq!((send.seq(), recv.seq()), (n, n));
            let (seq, key) = send.next().unwrap();
            assert_eq!(seq, n);
            assert_eq!(recv.key().unwrap().expose(), key.expose());
            recv.commit();
            assert!(seen.insert(*key.expose()));
        }
    }

    /// R-120.
    #[test]
    fn the_receiving_key_stays_until_its_frame_is_accepted() {
        let (mut send, mut recv) = pair();
        recv.commit();
        assert_eq!(recv.seq(), 0, "nothing was opened");
        let mut frame = *b"text----------------";
        let tag = send.next().unwrap().1.seal(&[0; 12], &mut frame[..4]);
        frame[4..].copy_from_slice(&tag);
        let mut forged = frame;
        forged[0] ^= 1;
        assert_eq!(
            recv.key().unwrap().open(&[0; 12], &mut forged),
            Err(AeadError)
        );
        assert_eq!(
            recv.key().unwrap().open(&[0; 12], &mut frame).unwrap(),
            b"text"
        );
        recv.commit();
        assert_eq!(recv.seq(), 1);
        assert_eq!(
            recv.key().unwrap().expose(),
            send.next().unwrap().1.expose()
        );
    }

    /// R-113.
    #[test]
    fn no_used_key_and_no_earlier_chain_key_is_left_in_the_chain() {
        let (mut send, mut recv) = pair();
        let mut gone = vec![[1; 32]];
        for _ in 0..40 {
            gone.push(*send.next().unwrap().1.expose());
            recv.key().unwrap();
            recv.commit();
            for block in [&mut send.block, &mut recv.block] {
                assert!(block.slots().iter().all(|slot| !gone.contains(slot)));
            }
            assert_eq!(recv.current.expose(), &[0; 32]);
            if send.seq() % KEYS_PER_BLOCK == 0 {
                // The next frame replaces it.
                gone.push(send.block.slots()[0]);
            }
        }
    }

    /// R-121.
    #[test]
    fn a_chain_ends_before_its_counter_would_pass_the_limit() {
        let (mut send, mut recv) = pair();
        send.wear_out();
        recv.wear_out();
        assert_eq!(send.next().unwrap().0, FRAMES_PER_CHAIN - 1);
        recv.key().unwrap();
        recv.commit();
        for _ in 0..2 {
            assert_eq!(send.next().unwrap_err(), ChainExhausted);
            assert_eq!(recv.key().unwrap_err(), ChainExhausted);
            recv.commit();
            assert_eq!(
                (send.seq(), recv.seq()),
                (FRAMES_PER_CHAIN, FRAMES_PER_CHAIN)
            );
        }
    }

    #[test]
    fn debug_output_holds_no_key() {
        let (mut send, mut recv) = pair();
        let key = send.next().unwrap().1;
        recv.key().unwrap();
        assert_eq!(
            format!("{key:?} {send:?} {recv:?}"),
            "MessageKey(..) SendChain { block: Block(..), seq: 1 } \
             RecvChain { block: Block(..), current: MessageKey(..), is_drawn: true, seq: 0 }"
        );
    }
}
