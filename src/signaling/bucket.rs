//! A token bucket. The server bounds each client with one; the client paces itself with another, so that it never
//! meets the server's. Pure: time is an argument.

use std::{
    ops::{Add, Sub},
    time::{Duration, Instant},
};

/// Allows bursts of so many, and so many a second in the long run. `I` is a point in time: an [`Instant`], or the
/// [`Duration`] since some start where there are none.
///
/// Kept as the one instant at which the bucket is full again (the generic cell rate algorithm): 16 bytes, no rounding.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket<I = Instant> {
    /// One token's time.
    interval: Duration,
    /// The time of a full bucket less one token.
    tolerance: Duration,
    full_at: Option<I>,
}

impl<I: Copy + Ord + Add<Duration, Output = I> + Sub<Output = Duration>> TokenBucket<I> {
    /// A full bucket of `burst` tokens that fills by `per_second`. Neither may be 0: a 0 counts as 1.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            tolerance: interval * burst.max(1).saturating_sub(1),
            full_at: None,
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// When there will be one, if there is none now.
    pub(crate) fn take(&mut self, now: I) -> Result<(), I> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        match (full_at - now).checked_sub(self.tolerance) {
            Some(wait) if wait > Duration::ZERO => Err(now + wait),
            _ => {
                self.full_at = Some(full_at + self.interval);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any instant will do: only differences count.
    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn a_full_bucket_allows_its_burst_and_then_its_rate() {
        let (mut bucket, start) = (TokenBucket::new(32, 64), start());
        for _ in 0..64 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        let next = start + Duration::from_millis(1_000) / 32;
        assert_eq!(bucket.take(start), Err(next));
        assert_eq!(bucket.take(next), Ok(()));
        assert!(bucket.take(next).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| bucket.take(later).is_ok()).count(), 64);
    }

    #[test]
    fn zeros_count_as_ones() {
        let (mut bucket, start) = (TokenBucket::new(0, 0), start());
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Err(start + Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(gaps in prop::collection::vec(0_u64..200, 0..400)) {
            let (mut bucket, start) = (TokenBucket::new(10, 5), start());
            let (mut now, mut taken) = (start, 0);
            for gap in gaps {
                now += Duration::from_millis(gap);
                taken += u128::from(bucket.take(now).is_ok());
                prop_assert!(taken <= 5 + now.duration_since(start).as_millis() / 100);
            }
        }

        #[test]
        fn waiting_as_told_always_succeeds(gaps in prop::collection::vec(0_u64..50, 0..100)) {
            let (mut bucket, mut now) = (TokenBucket::new(7, 3), start());
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Err(when) = bucket.take(now) {
                    now = when;
                    prop_assert_eq!(bucket.take(now), Ok(()));
                }
            }
        }
    }
}
