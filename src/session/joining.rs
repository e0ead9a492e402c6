//! From a server's address to a membership: attempts with growing, jittered pauses.

use std::{sync::Arc, time::Duration};

use crate::{
    entropy::OsEntropy,
    error::Error,
    room::{EndpointId, RoomId},
    shell,
    signaling::{Backoff, Membership, Signaling, SignalingError},
};

/// The first and the longest ceiling of the wait between two attempts to reach the server.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// The same after a membership that ended. Short, for the protocol gives a join up after 10 s.
const BACKOFF_AFTER_LOSS: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(8));
/// A membership that lasted this long was a good one: the next is tried soon, and its loss is told.
const GOOD_MEMBERSHIP: Duration = Duration::from_secs(30);
/// How long one attempt to reach the server may take.
const JOIN_ATTEMPT: Duration = Duration::from_secs(10);

/// Joins, again and again for `limit`, with growing, jittered pauses; an address or answer that cannot get better ends
/// it.
pub(super) async fn join(
    signaling: Arc<dyn Signaling>,
    room: RoomId,
    endpoint: EndpointId,
    limit: Duration,
) -> Result<Membership, SignalingError> {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let clock = shell::Clock::start();
    // A server that says why it cannot be used says more than one that is cut off by the deadline.
    let mut last = silence(&*signaling);
    loop {
        let left = limit.saturating_sub(clock.elapsed()).min(JOIN_ATTEMPT);
        let error = match shell::timeout(left, signaling.join(room, endpoint)).await {
            Some(Ok(membership)) => return Ok(membership),
            Some(Err(error)) => error,
            None => last,
        };
        let hopeless = !matches!(
            error,
            SignalingError::Unreachable { .. } | SignalingError::Lost { .. }
        );
        let pause = backoff.next(random());
        if hopeless || clock.elapsed() + pause >= limit {
            return Err(error);
        }
        last = error;
        shell::sleep(pause).await;
    }
}

/// Joins after a pause, or tells at once that it failed: whoever was a member before tries again.
pub(super) async fn rejoin(
    signaling: Arc<dyn Signaling>,
    room: RoomId,
    endpoint: EndpointId,
    pause: Duration,
) -> Result<Membership, SignalingError> {
    shell::sleep(pause).await;
    let joined = shell::timeout(JOIN_ATTEMPT, signaling.join(room, endpoint)).await;
    joined.unwrap_or_else(|| Err(silence(&*signaling)))
}

fn silence(signaling: &dyn Signaling) -> SignalingError {
    SignalingError::Unreachable {
        server: signaling.describe(),
        reason: "no answer in time".into(),
    }
}

/// The memberships of one kind, one after another. A server that welcomes and hangs up must not be asked in a loop.
#[derive(Debug)]
pub(super) struct Stays {
    /// Since when there is one, by the monotonic clock.
    begun: Option<Duration>,
    losses: Backoff,
    /// How long the next join waits first.
    pause: Duration,
}

impl Default for Stays {
    fn default() -> Self {
        Self {
            begun: None,
            losses: Backoff::new(BACKOFF_AFTER_LOSS.0, BACKOFF_AFTER_LOSS.1),
            pause: Duration::ZERO,
        }
    }
}

impl Stays {
    pub(super) fn begin(&mut self, now: Duration) {
        self.begun = Some(now);
    }

    /// One ended by itself, or did not come about. Whether it was there for long.
    pub(super) fn end(&mut self, now: Duration) -> bool {
        let begun = self.begun.take();
        let was_good = begun.is_some_and(|begun| now.saturating_sub(begun) >= GOOD_MEMBERSHIP);
        if was_good {
            self.losses.reset();
        }
        self.pause = self.losses.next(random());
        was_good
    }

    /// The next one is wanted at once.
    pub(super) fn hurry(&mut self) {
        self.pause = Duration::ZERO;
    }

    pub(super) fn take_pause(&mut self) -> Duration {
        std::mem::take(&mut self.pause)
    }
}

/// 64 random bits, for jitter.
pub(super) fn random() -> u64 {
    u64::from_be_bytes(crate::entropy::random(&mut OsEntropy))
}

/// What a host is told of a failure of signaling.
pub(super) fn from_signaling(error: SignalingError) -> Error {
    match error {
        SignalingError::Unreachable { server, reason } => {
            Error::ServerUnreachable { server, reason }
        }
        SignalingError::InvalidUrl { url, reason } => Error::InvalidUrl { url, reason },
        SignalingError::Garbage { server, reason } => Error::ServerGarbage { server, reason },
        SignalingError::InvalidCertificate { .. } => {
            Error::InvalidConfig("the root certificate cannot be read")
        }
        SignalingError::Refused { code, message } => Error::ServerRefused { code, message },
        SignalingError::Lost { reason } => Error::ServerUnreachable {
            server: String::new(),
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_stays_make_the_next_one_wait_and_a_long_one_does_not() {
        let mut stays = Stays::default();
        assert_eq!(stays.take_pause(), Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut longest = Duration::ZERO;
        for _ in 0..64 {
            stays.begin(now);
            now += GOOD_MEMBERSHIP / 2;
            assert!(!stays.end(now));
            longest = longest.max(stays.take_pause());
        }
        // The chance that 58 uniform pauses of up to 8 s are all below 4 s is 2^-58.
        assert!(longest > BACKOFF_AFTER_LOSS.1 / 2);
        assert!(longest <= BACKOFF_AFTER_LOSS.1);
        stays.begin(now);
        assert!(stays.end(now + GOOD_MEMBERSHIP));
        assert!(stays.take_pause() <= BACKOFF_AFTER_LOSS.0);
    }
}
