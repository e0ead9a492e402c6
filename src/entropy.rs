//! Where randomness enters: a source that the shell hands to the pure core, and that tests replace.

/// A cryptographically secure source of random bytes.
///
/// The core never reads the operating system's generator by itself: whoever drives it hands it one of these.
pub trait Entropy: Send {
    /// Fills `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]);
}

/// The operating system's generator: the only source for real use.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// When the operating system has no random bytes to give, which leaves nothing safe to do.
    fn fill(&mut self, out: &mut [u8]) {
        use rand::TryRng as _;
        rand::rngs::SysRng
            .try_fill_bytes(out)
            .expect("the operating system's random source works");
    }
}

/// `N` random bytes.
pub(crate) fn random<const N: usize>(entropy: &mut dyn Entropy) -> [u8; N] {
    let mut out = [0; N];
    entropy.fill(&mut out);
    out
}
