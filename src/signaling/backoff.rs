//! How long to wait before the next attempt to reach a server: exponential, with full jitter.
//!
//! Pure: the random number is an argument. Full jitter (a uniform choice between nothing and the ceiling) spreads the
//! clients of a server that restarts better than a fixed delay with some noise on it.

use std::time::Duration;

/// Delays between attempts. Each ceiling is twice the one before, up to a maximum.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// The first delay is at most `initial`, every later one at most `max`.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        let initial = initial.min(max);
        Self {
            initial,
            max,
            ceiling: initial,
        }
    }

    /// The delay before the next attempt: `random` / 2^64 of the current ceiling, which then doubles.
    ///
    /// `random` is uniform over all its values; the same numbers give the same delays.
    pub fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = ceiling.saturating_mul(2).min(self.max);
        fraction(ceiling, random)
    }

    /// The server was reached: the next delay is at most the initial one again.
    pub fn reset(&mut self) {
        self.ceiling = self.initial;
    }
}

/// `random` / 2^64 of `whole`, which is below 2^64 nanoseconds (584 years) or taken as that.
fn fraction(whole: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(nanos) * u128::from(random)) >> 64;
    Duration::from_nanos(
        u64::try_from(part).expect("a product of two u64, shifted by 64, is a u64"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INITIAL: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(8);

    #[test]
    fn ceilings_double_up_to_the_maximum_and_start_again_after_a_reset() {
        let mut backoff = Backoff::new(INITIAL, MAX);
        let mut ceilings = || {
            (0..7)
                .map(|_| backoff.next(u64::MAX).as_secs_f64().mul_add(1e3, 0.5) as u64)
                .collect()
        };
        let first: Vec<u64> = ceilings();
        assert_eq!(first, [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
        backoff.reset();
        assert!(backoff.next(u64::MAX) < INITIAL);
    }

    #[test]
    fn jitter_reaches_from_nothing_to_the_ceiling() {
        let mut backoff = Backoff::new(INITIAL, INITIAL);
        assert_eq!(backoff.next(0), Duration::ZERO);
        assert_eq!(backoff.next(1 << 63), INITIAL / 2);
        assert_eq!(backoff.next(u64::MAX), INITIAL - Duration::from_nanos(1));
    }

    #[test]
    fn extreme_durations_neither_overflow_nor_exceed_the_maximum() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        assert!(backoff.next(u64::MAX) > Duration::from_secs(1 << 33));
        let mut backoff = Backoff::new(MAX, INITIAL);
        assert!(backoff.next(u64::MAX) < INITIAL);
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(backoff.next(u64::MAX), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_delay_exceeds_the_maximum(initial in 0_u64..1 << 40, max in 0_u64..1 << 40, random: Vec<u64>) {
            let max = Duration::from_nanos(max);
            let mut backoff = Backoff::new(Duration::from_nanos(initial), max);
            for random in random {
                prop_assert!(backoff.next(random) <= max);
            }
        }
    }
}
