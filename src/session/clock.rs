//! The device's clocks, as the protocol and people read them.

use std::time::Duration;

use crate::{message::Timestamp, protocol::Now, shell};

pub(super) use shell::unix_ms;

/// Both clocks, from the moment it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(shell::Clock);

impl Clock {
    pub(super) fn start() -> Self {
        Self(shell::Clock::start())
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic: self.0.elapsed(),
            unix_ms: unix_ms(),
        }
    }

    /// Waits until [`Now::monotonic`] reads this. Cancel-safe.
    pub(super) async fn sleep_until(&self, monotonic: Duration) {
        self.0.sleep_until(monotonic).await;
    }
}

/// What people see as the time of a message.
pub(super) fn timestamp() -> Timestamp {
    Timestamp::from_unix_ms(unix_ms())
}
