//! When a connection has waited long enough. Pure: time is an argument.

use std::time::{Duration, Instant};

use super::{farewell::Farewell, limits::ServerLimits};

/// Pings without an answer after which a client is gone.
const MISSED: u32 = 2;

/// The clocks of one connection: until it is in a room, since it was heard, since it took what was written.
#[derive(Debug)]
pub(super) struct Deadlines {
    join_by: Option<Instant>,
    heard_at: Instant,
    /// Pings since then.
    pings: u32,
    writing_since: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Wait.
    Nothing,
    /// Ping the client.
    Ping,
    /// End the connection.
    End(Farewell),
}

impl Deadlines {
    /// For a connection that opened now.
    pub(super) fn new(now: Instant, limits: &ServerLimits) -> Self {
        Self {
            join_by: Some(later(now, limits.join)),
            heard_at: now,
            pings: 0,
            writing_since: None,
        }
    }

    /// The client is in a room.
    pub(super) fn joined(&mut self) {
        self.join_by = None;
    }

    /// Something came from the client.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pings = 0;
    }

    /// Something waits for the network.
    pub(super) fn writing(&mut self, now: Instant) {
        self.writing_since.get_or_insert(now);
    }

    /// The network took everything.
    pub(super) fn flushed(&mut self) {
        self.writing_since = None;
    }

    /// What is due now.
    pub(super) fn check(&mut self, now: Instant, limits: &ServerLimits) -> Due {
        if self.join_by.is_some_and(|at| at <= now) {
            return Due::End(Farewell::NotJoined);
        }
        if self
            .writing_since
            .is_some_and(|since| later(since, limits.write) <= now)
        {
            return Due::End(Farewell::TooSlow);
        }
        if now < self.ping_at(limits) {
            return Due::Nothing;
        }
        if self.pings >= MISSED {
            return Due::End(Farewell::Silent);
        }
        self.pings += 1;
        Due::Ping
    }

    fn ping_at(&self, limits: &ServerLimits) -> Instant {
        later(self.heard_at, limits.ping.saturating_mul(self.pings + 1))
    }
}

/// Limits may be as long as one likes: what lies beyond the clock is 30 years away.
fn later(from: Instant, by: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);
    from.checked_add(by).unwrap_or_else(|| from + NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened() -> (Instant, ServerLimits, Deadlines) {
        let now = tokio::time::Instant::now().into_std();
        let limits = ServerLimits::default();
        let deadlines = Deadlines::new(now, &limits);
        (now, limits, deadlines)
    }

    #[test]
    fn who_joins_no_room_in_10_s_has_to_go() {
        let (start, limits, mut deadlines) = opened();
        deadlines.heard(start + 9 * SECOND);
        assert_eq!(deadlines.check(start + 9 * SECOND, &limits), Due::Nothing);
        assert_eq!(
            deadlines.check(start + 10 * SECOND, &limits),
            Due::End(Farewell::NotJoined)
        );
    }

    #[test]
    fn silence_is_answered_by_two_pings_and_an_end() {
        let (start, limits, mut deadlines) = opened();
        deadlines.joined();
        for (at, expected) in [
            (30, Due::Ping),
            (60, Due::Ping),
            (90, Due::End(Farewell::Silent)),
        ] {
            let at = start + at * SECOND;
            assert_eq!(deadlines.check(at - SECOND, &limits), Due::Nothing);
            assert_eq!(deadlines.check(at, &limits), expected);
        }
    }

    #[test]
    fn a_sign_of_life_starts_the_silence_again() {
        let (start, limits, mut deadlines) = opened();
        deadlines.joined();
        assert_eq!(deadlines.check(start + 60 * SECOND, &limits), Due::Ping);
        assert_eq!(deadlines.check(start + 60 * SECOND, &limits), Due::Ping);
        deadlines.heard(start + 61 * SECOND);
        assert_eq!(deadlines.check(start + 90 * SECOND, &limits), Due::Nothing);
        assert_eq!(deadlines.check(start + 91 * SECOND, &limits), Due::Ping);
    }

    #[test]
    fn a_write_has_15_s_from_its_start_to_its_end() {
        let (start, limits, mut deadlines) = opened();
        deadlines.joined();
        deadlines.writing(start);
        deadlines.writing(start + 5 * SECOND);
        deadlines.heard(start + 14 * SECOND);
        assert_eq!(deadlines.check(start + 14 * SECOND, &limits), Due::Nothing);
        assert_eq!(
            deadlines.check(start + 15 * SECOND, &limits),
            Due::End(Farewell::TooSlow)
        );
        deadlines.flushed();
        assert_eq!(deadlines.check(start + 15 * SECOND, &limits), Due::Nothing);
    }

    #[test]
    fn limits_without_end_are_no_limits() {
        let now = tokio::time::Instant::now().into_std();
        let mut limits = ServerLimits::default();
        (limits.join, limits.write, limits.ping) = (Duration::MAX, Duration::MAX, Duration::MAX);
        let mut deadlines = Deadlines::new(now, &limits);
        deadlines.writing(now);
        assert_eq!(deadlines.check(now + 1_000 * SECOND, &limits), Due::Nothing);
    }
}
