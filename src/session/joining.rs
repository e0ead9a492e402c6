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
/// How long one attempt to reach the server may take.
const JOIN_ATTEMPT: Duration = Duration::from_secs(10);

/// Joins, again and again with growing, jittered pauses; an address or answer that cannot get better ends it.
pub(super) async fn join(
    signaling: Arc<dyn Signaling>,
    room: RoomId,
    endpoint: EndpointId,
    limit: Option<Duration>,
) -> Result<Membership, SignalingError> {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let clock = shell::Clock::start();
    // A server that says why it cannot be used says more than one that is cut off by the deadline.
    let mut last = SignalingError::Unreachable {
        server: signaling.describe(),
        reason: "no answer in time".into(),
    };
    loop {
        let left = limit.map(|limit| limit.saturating_sub(clock.elapsed()));
        let attempt = left.map_or(JOIN_ATTEMPT, |left| left.min(JOIN_ATTEMPT));
        let error = match shell::timeout(attempt, signaling.join(room, endpoint)).await {
            Some(Ok(membership)) => return Ok(membership),
            Some(Err(error)) => error,
            None => last,
        };
        let hopeless = !matches!(
            error,
            SignalingError::Unreachable { .. } | SignalingError::Lost { .. }
        );
        let pause = backoff.next(random());
        let over = limit.is_some_and(|limit| clock.elapsed() + pause >= limit);
        if (hopeless && limit.is_some()) || over {
            return Err(error);
        }
        last = error;
        shell::sleep(pause).await;
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
