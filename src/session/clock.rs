//! The one place that reads the device's clocks.

use std::time::Instant;

use crate::{message::Timestamp, protocol::Now};

/// Both clocks, from the moment it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "time enters here and nowhere else"
    )]
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic: self.start.elapsed(),
            unix_ms: unix_ms(),
        }
    }

    /// The moment at which [`Now::monotonic`] reads this.
    pub(super) fn instant(&self, monotonic: std::time::Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + monotonic)
    }
}

/// What people see as the time of a message.
pub(super) fn timestamp() -> Timestamp {
    Timestamp::from_unix_ms(unix_ms())
}

/// Unix time in milliseconds; 0 on a device whose clock stands before 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "time enters here and nowhere else"
)]
pub(super) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
