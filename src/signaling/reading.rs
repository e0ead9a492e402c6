//! What the frames of a server mean to a session, whatever carries them, and how fast it may be spoken to.

use std::fmt::Display;

use super::{
    SignalingError, SignalingEvent,
    envelope::{EnvelopeError, ServerEnvelope, foreign_type, printable},
};
use crate::{config::IceServer, room::EndpointId};

/// Frames a second, and at once. A server allows 32 and 64: the difference absorbs 1.3 s of frames that the network
/// held back and delivers together.
pub(super) const PACE: (u32, u32) = (24, 32);

/// A text message, as far as it is an envelope of this version; `None` for what is to be ignored.
///
/// # Errors
/// [`SignalingError::Garbage`] for what is no envelope, or one of another application.
pub(super) fn envelope<'a>(
    server: &str,
    text: &'a str,
) -> Result<Option<ServerEnvelope<'a>>, SignalingError> {
    match ServerEnvelope::decode(text) {
        Ok(envelope) => Ok(Some(envelope)),
        Err(error @ EnvelopeError::BadFrame) => Err(garbage(server, error)),
        // A relay of another application never welcomes anybody: better to say what it is than to wait for it.
        Err(_) => match foreign_type(text) {
            None => Ok(None),
            Some(kind) => {
                let what = format!(
                    "it hands on {kind:?} messages of applications such as simple-peer, which it could read and change"
                );
                Err(garbage(server, what))
            }
        },
    }
}

/// The first envelope of a server, which answers the join: the others in the room, and the ICE servers that it offers.
///
/// # Errors
/// [`SignalingError::Refused`], and [`SignalingError::Garbage`] for anything else than an answer.
pub(super) fn welcome(
    server: &str,
    envelope: ServerEnvelope<'_>,
) -> Result<(Vec<EndpointId>, Vec<IceServer>), SignalingError> {
    match envelope {
        ServerEnvelope::Welcome { peers, ice } => Ok((peers, ice)),
        ServerEnvelope::Error { code, message } => Err(SignalingError::Refused {
            code: code.into_owned(),
            message: message.into_owned(),
        }),
        ServerEnvelope::Joined { .. }
        | ServerEnvelope::Left { .. }
        | ServerEnvelope::Message { .. } => Err(garbage(server, "events before the welcome")),
    }
}

/// A blob that no server would take, told as a server would tell it.
pub(super) fn refused(error: EnvelopeError) -> SignalingEvent {
    let code = error.code();
    SignalingEvent::Error {
        code: code.as_str().to_owned(),
        message: code.message().to_owned(),
    }
}

/// An envelope as the session knows it. A second welcome has nothing to say.
pub(super) fn event(envelope: ServerEnvelope<'_>) -> Option<SignalingEvent> {
    match envelope {
        ServerEnvelope::Welcome { .. } => None,
        ServerEnvelope::Joined { ep } => Some(SignalingEvent::Joined(ep)),
        ServerEnvelope::Left { ep } => Some(SignalingEvent::Left(ep)),
        ServerEnvelope::Message { from, blob } => Some(SignalingEvent::Message {
            from,
            blob: blob.to_vec(),
        }),
        ServerEnvelope::Error { code, message } => Some(SignalingEvent::Error {
            code: code.into_owned(),
            message: message.into_owned(),
        }),
    }
}

pub(super) fn garbage(server: &str, what: impl Display) -> SignalingError {
    SignalingError::Garbage {
        server: server.to_owned(),
        reason: printable(&what.to_string()),
    }
}

/// Why the server closed, by the code and reason of its close frame. Codes that tell of the server's own state are no
/// refusal: another attempt may succeed.
pub(super) fn closed(frame: Option<(u16, String)>) -> SignalingError {
    let Some((code, reason)) = frame else {
        return SignalingError::Lost {
            reason: "the server closed the connection".to_owned(),
        };
    };
    let reason = printable(&reason);
    match code {
        1000 | 1001 | 1011..=1014 => SignalingError::Lost {
            reason: format!("the server closed: {code} {reason}"),
        },
        _ => SignalingError::Refused {
            code: format!("close_{code}"),
            message: reason,
        },
    }
}
