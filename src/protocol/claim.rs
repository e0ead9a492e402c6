//! Single use of an invite, at the inviter: open, claimed by one key, used. Not: what is told to whom.

use crate::identity::PeerId;

/// Where an invite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody redeemed it.
    Open,
    /// One key proved the secret; others are refused while it goes on.
    Claimed(PeerId),
    /// A session came of it: the secret is erased.
    Used,
}

/// What a proven key means to an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimant {
    /// It has the claim now.
    First,
    /// It had the claim already and tries again.
    Again,
    /// Another has it.
    Contested {
        /// Who has it.
        first: PeerId,
    },
    /// The invite is used.
    Late,
}

impl Claim {
    /// A key proved that it holds the secret.
    pub(super) fn prove(&mut self, key: PeerId) -> Claimant {
        match *self {
            Self::Open => {
                *self = Self::Claimed(key);
                Claimant::First
            }
            Self::Claimed(first) if first == key => Claimant::Again,
            Self::Claimed(first) => Claimant::Contested { first },
            Self::Used => Claimant::Late,
        }
    }

    /// The claimed attempt failed before the peer's READY: anyone may claim again.
    pub(super) fn release(&mut self) {
        if matches!(self, Self::Claimed(_)) {
            *self = Self::Open;
        }
    }

    /// The peer's READY came.
    pub(super) fn redeem(&mut self) {
        *self = Self::Used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn the_first_key_holds_an_invite_until_it_is_released_or_used() {
        let [a, b] = [1, 2].map(|byte| PeerId::from_bytes([byte; 32]));
        let mut claim = Claim::Open;
        assert_eq!(claim.prove(a), Claimant::First);
        assert_eq!(claim.prove(a), Claimant::Again);
        assert_eq!(claim.prove(b), Claimant::Contested { first: a });
        claim.release();
        assert_eq!(claim.prove(b), Claimant::First);
        claim.redeem();
        claim.release();
        assert_eq!(claim.prove(b), Claimant::Late);
    }
}
