//! The time that the stack of one peer connection is told: the real time, and what was leapt over.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A clock as fast as the real one, which may be told to leap ahead. It never goes back.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Nanoseconds.
    ahead: AtomicU64,
}

impl Clock {
    pub(super) fn now(&self) -> Instant {
        real_now() + Duration::from_nanos(self.ahead.load(Ordering::Relaxed))
    }

    /// Timers of the stack that are due within `time` are due now. Its driver has to be woken.
    pub(super) fn leap(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or_default();
        self.ahead.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// The real time, which tests of tokio may hold.
pub(super) fn real_now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leap_is_kept_and_time_goes_on_from_there() {
        let clock = Clock::default();
        let before = clock.now();
        clock.leap(Duration::from_secs(1));
        assert_eq!(clock.now() - before, Duration::from_secs(1));
        tokio::time::advance(Duration::from_millis(5)).await;
        assert_eq!(clock.now() - before, Duration::from_millis(1_005));
    }
}
