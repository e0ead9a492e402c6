//! How much of something a client may have: a token bucket in one instant. Pure: time is an argument.

use std::time::{Duration, Instant};

/// So much a second in the long run, and so much at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) per_second: u32,
    pub(super) burst: u32,
}

/// What is left of a [`Rate`], kept as the instant at which the bucket is full again (the generic cell rate algorithm).
///
/// The rate is no part of it: each connection has two of these.
#[derive(Debug, Clone, Default)]
pub(super) struct Quota {
    full_at: Option<Instant>,
}

impl Quota {
    /// Takes `amount`, if it is there.
    pub(super) fn take(&mut self, now: Instant, amount: usize, rate: Rate) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        let after = full_at.checked_add(rate.time_of(amount as u64));
        let is_there = after.is_some_and(|after| {
            after.duration_since(now) <= rate.time_of(u64::from(rate.burst.max(1)))
        });
        if is_there {
            self.full_at = after;
        }
        is_there
    }

    /// Whether nothing was taken that has not come back.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

impl Rate {
    /// How long it takes until so much has come. Neither number may be 0: a 0 counts as 1.
    fn time_of(self, amount: u64) -> Duration {
        // Saturated it is still more than any burst is worth.
        let nanoseconds = amount.saturating_mul(1_000_000_000) / u64::from(self.per_second.max(1));
        Duration::from_nanos(nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        crate::server::now()
    }

    #[test]
    fn a_full_quota_allows_its_burst_and_then_its_rate() {
        let rate = Rate {
            per_second: 32,
            burst: 64,
        };
        let (mut quota, start) = (Quota::default(), start());
        assert_eq!((0..100).filter(|_| quota.take(start, 1, rate)).count(), 64);
        assert!(!quota.is_full(start));
        let next = start + Duration::from_millis(1_000) / 32;
        assert!(quota.take(next, 1, rate) && !quota.take(next, 1, rate));
        let later = start + Duration::from_secs(60);
        assert!(quota.is_full(later));
        assert!(!quota.take(later, 65, rate) && quota.take(later, 64, rate));
    }

    #[test]
    fn zeros_count_as_ones_and_the_largest_numbers_as_no_limit() {
        let (mut quota, start) = (Quota::default(), start());
        let none = Rate {
            per_second: 0,
            burst: 0,
        };
        assert!(quota.take(start, 1, none) && !quota.take(start, 1, none));
        let any = Rate {
            per_second: u32::MAX,
            burst: u32::MAX,
        };
        let mut quota = Quota::default();
        assert!((0..10_000).all(|_| quota.take(start, 24_576, any)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(takes in prop::collection::vec((0_u64..200, 1_usize..4), 0..400)) {
            let rate = Rate { per_second: 10, burst: 5 };
            let (mut quota, start) = (Quota::default(), start());
            let (mut now, mut taken) = (start, 0);
            for (gap, amount) in takes {
                now += Duration::from_millis(gap);
                if quota.take(now, amount, rate) {
                    taken += amount as u128;
                }
                prop_assert!(taken <= 5 + now.duration_since(start).as_millis() / 100);
            }
        }
    }
}
