//! What this process holds, over time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const SAMPLING: Duration = Duration::from_secs(2);
/// Of the first half: in which nothing counts, for buffers grow to what they need.
const WARM_UP: f64 = 0.2;

/// What this process holds: bytes of memory, and files. Only Linux tells.
fn held() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let files = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some((kilobytes << 10, files as u64))
}

/// The most memory and files in each half of the run.
pub(super) async fn sample(begun: Instant, length: Duration) -> [(u64, u64); 2] {
    let mut halves = [(0, 0); 2];
    loop {
        let at = begun.elapsed().as_secs_f64() / length.as_secs_f64();
        if at >= 1.0 {
            return halves;
        }
        if at >= WARM_UP / 2.0
            && let Some((memory, files)) = held()
        {
            let half = &mut halves[usize::from(at >= 0.5)];
            *half = (half.0.max(memory), half.1.max(files));
        }
        sleep(SAMPLING).await;
    }
}
