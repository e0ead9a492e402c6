//! Secret bytes: erased on drop, never printed, compared in constant time only.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::entropy::Entropy;

/// `N` secret bytes. Neither cloned nor compared nor printed by accident: see [`duplicate`](Self::duplicate),
/// [`ct_eq`](Self::ct_eq) and [`expose`](Self::expose).
pub struct Secret<const N: usize = 32>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes charge of `bytes`. The caller's own copy, if any, is the caller's to erase.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// `N` bytes drawn from `entropy` in one piece.
    pub fn random(entropy: &mut dyn Entropy) -> Self {
        let mut secret = Self::zeroed();
        entropy.fill(&mut secret.0);
        secret
    }

    /// The bytes, to feed a primitive. They are not to be copied anywhere that does not erase them.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// A second copy, erased on its own. The name is long so that each use is looked at.
    pub fn duplicate(&self) -> Self {
        Self(self.0)
    }

    /// Whether both hold the same bytes, in time that does not depend on them.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Zeros, to be filled in place through [`bytes_mut`](Self::bytes_mut).
    pub(crate) fn zeroed() -> Self {
        Self([0; N])
    }

    /// The bytes, to be written in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("Secret(..)")
    }
}

impl<const N: usize> Drop for Secret<N> {
    #[inline]
    fn drop(&mut self) {
        // As a slice: zeroize erases those in one stroke, arrays byte by byte.
        self.0.as_mut_slice().zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for Secret<N> {}

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn debug_output_holds_no_byte() {
        assert_eq!(format!("{:?}", Secret::new([0xab; 32])), "Secret(..)");
    }

    #[test]
    fn equality_is_of_all_bytes() {
        let secret = Secret::new([1, 2, 3]);
        assert!(secret.ct_eq(&secret.duplicate()));
        for i in 0..3 {
            let mut other = secret.duplicate();
            other.bytes_mut()[i] ^= 0x80;
            assert!(!secret.ct_eq(&other));
        }
    }

    #[test]
    fn random_draws_all_bytes_at_once() {
        struct Draws(Vec<usize>);
        impl Entropy for Draws {
            fn fill(&mut self, out: &mut [u8]) {
                self.0.push(out.len());
                out.fill(9);
            }
        }
        let mut entropy = Draws(vec![]);
        assert_eq!(Secret::<64>::random(&mut entropy).expose(), &[9; 64]);
        assert_eq!(entropy.0, [64]);
    }
}
