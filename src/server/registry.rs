//! All open connections: for the sweep of their clocks, one for all of them, and for the end of the server.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use super::{farewell::Farewell, limits::ServerLimits, line::Line};

/// Parts with a lock each, so that a sweep holds up few of those who come and go.
const SHARDS: usize = 16;

/// Lines up to which the memory of a shard is kept.
const KEPT: usize = 64;

/// The lines of all open connections.
#[derive(Debug, Default)]
pub(super) struct Registry {
    shards: [Mutex<Vec<Arc<Line>>>; SHARDS],
    next: AtomicUsize,
}

impl Registry {
    pub(super) fn add(&self, line: &Arc<Line>) {
        let shard = self.next.fetch_add(1, Relaxed) % SHARDS;
        let mut lines = self.shard(shard);
        line.place.store(lines.len() * SHARDS + shard, Relaxed);
        lines.push(Arc::clone(line));
    }

    /// Forgets a line that was added.
    pub(super) fn remove(&self, line: &Line) {
        let shard = line.place() % SHARDS;
        let mut lines = self.shard(shard);
        // Read under the lock: the place changes when another line leaves.
        let at = line.place() / SHARDS;
        lines.swap_remove(at);
        if let Some(moved) = lines.get(at) {
            moved.place.store(at * SHARDS + shard, Relaxed);
        }
        if lines.capacity() > KEPT.max(4 * lines.len()) {
            let kept = 2 * lines.len();
            lines.shrink_to(kept);
        }
    }

    /// Pings those that are silent, closes those that are too late.
    pub(super) fn sweep(&self, now: Instant, limits: &ServerLimits) {
        self.each(|line| line.check(now, limits));
    }

    /// Closes all, each with its own time to come back, spread over `within` milliseconds.
    pub(super) fn close_all(&self, within: u32) {
        /// The golden ratio of 2^32: its multiples spread evenly, however many there are.
        const STEP: u32 = 0x9e37_79b9;
        let mut at = 0_u32;
        self.each(|line| {
            at = at.wrapping_add(STEP);
            let after = (u64::from(at) * u64::from(within)) >> 32;
            line.close(Farewell::GoingAway(after as u32));
        });
    }

    /// Ends all without a word.
    pub(super) fn abort_all(&self) {
        self.each(Line::abort);
    }

    fn each(&self, mut visit: impl FnMut(&Line)) {
        for shard in 0..SHARDS {
            self.shard(shard).iter().for_each(|line| visit(line));
        }
    }

    fn shard(&self, shard: usize) -> MutexGuard<'_, Vec<Arc<Line>>> {
        let lines = &self.shards[shard];
        lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::line::Outlet, *};

    fn line() -> Arc<Line> {
        Arc::new(Line::new(
            Outlet::Task,
            crate::server::now(),
            &ServerLimits::default(),
        ))
    }

    #[test]
    fn lines_come_and_go_in_any_order_and_leave_nothing() {
        let registry = Registry::default();
        let mut lines: Vec<_> = (0..5_000).map(|_| line()).collect();
        lines.iter().for_each(|line| registry.add(line));
        let (mut seen, mut at) = (0, 0);
        registry.each(|_| seen += 1);
        assert_eq!(seen, 5_000);
        while !lines.is_empty() {
            at = (at * 31 + 17) % lines.len();
            let line = lines.swap_remove(at);
            registry.remove(&line);
            assert_eq!(Arc::strong_count(&line), 1);
        }
        registry.each(|_| panic!("nothing is left"));
        let kept: usize = (0..SHARDS)
            .map(|shard| registry.shard(shard).capacity())
            .sum();
        assert!(kept <= SHARDS * KEPT);
    }
}
