//! Clocks, timers and tasks by tokio.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::{runtime::Handle, time::Instant};

/// A monotonic clock that reads zero when it is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let start = Instant::now();
        Self { start }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits until [`Clock::elapsed`] is this. Cancel-safe.
    pub(crate) async fn sleep_until(&self, elapsed: Duration) {
        tokio::time::sleep_until(self.start + elapsed).await;
    }
}

/// Lets a host that has more to ask go on before it is answered. Threads see to that by themselves.
pub(crate) async fn end_of_turn() {}

pub(super) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Runs a session's task: on a thread of the crate's own, or where there is none, on the host's runtime.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    #[cfg(feature = "client")]
    crate::transport::spawn(future);
    #[cfg(not(feature = "client"))]
    tokio::spawn(future);
}

/// Where a task runs, for others that work with it: no other thread has to be woken for what they hand each other.
#[derive(Debug, Clone)]
pub(crate) struct Home(Option<Handle>);

impl Home {
    /// Where this is called.
    pub(crate) fn here() -> Self {
        Self(Handle::try_current().ok())
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Some(runtime) => drop(runtime.spawn(future)),
            None => spawn(future),
        }
    }
}

/// Unix time in milliseconds; 0 on a device whose clock stands before 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "time enters here and nowhere else"
)]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
