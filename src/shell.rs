//! What the shell asks of the platform beside the network: clocks, timers and tasks. Native or in a browser, the same
//! few functions.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
use native as platform;
#[cfg(all(target_arch = "wasm32", feature = "web"))]
mod web;
#[cfg(all(target_arch = "wasm32", feature = "web"))]
use web as platform;
#[cfg(all(target_arch = "wasm32", not(feature = "web")))]
compile_error!("a session in a browser needs the feature web");

use std::time::Duration;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use platform::Home;
#[cfg(target_arch = "wasm32")]
pub(crate) use platform::words;
pub(crate) use platform::{Clock, end_of_turn, spawn, unix_ms};

/// Waits so long. Cancel-safe.
pub(crate) async fn sleep(duration: Duration) {
    platform::sleep(duration).await;
}

/// What the future returns, or `None` when it takes longer than `limit`: it is dropped then.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = platform::sleep(limit) => None,
    }
}
