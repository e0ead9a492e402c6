//! Rooms for clients that know nothing of this crate: what one sends goes to the other as it is. Pure.
//!
//! Such clients expect a relay that broadcasts JSON: no greeting, no names, no presence (simple-peer destroys itself on
//! an object that is not a signal). What was sent to nobody is not kept: peers that both begin expect the later one to
//! be heard.

use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use super::{farewell::Farewell, websocket::Violation};
use crate::room::RoomId;

/// What the id of a legacy room begins with before it is hashed, so that it is never one of ours.
const DOMAIN: &[u8] = b"sealwire legacy room\0";

/// The id of the legacy room with this name, as the name stands in the path: for tokens that are bound to it.
#[must_use]
pub fn room(name: &str) -> RoomId {
    let digest = Sha256::new().chain_update(DOMAIN).chain_update(name);
    RoomId(digest.finalize().into())
}

/// The text of a message, text or binary, if it is JSON. Nothing of it is kept.
///
/// # Errors
/// The end of the connection: the receivers parse what they get without care.
pub(super) fn check(message: &[u8]) -> Result<&str, Farewell> {
    let text = std::str::from_utf8(message).map_err(|_| Farewell::Broken(Violation::NotUtf8))?;
    let parsed = serde_json::from_str::<IgnoredAny>(text);
    parsed.map(|_| text).map_err(|_| Farewell::NotJson)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_passes_as_it_is_and_nothing_else_does() {
        for json in [
            "{}",
            " [1, 2.50 ] ",
            "\"x\"",
            "null",
            "{\"type\":\"offer\",\"sdp\":\"v=0\\r\\n\"}",
        ] {
            assert_eq!(check(json.as_bytes()), Ok(json));
        }
        for wrong in ["", "{", "hello", "{} {}"] {
            assert_eq!(check(wrong.as_bytes()), Err(Farewell::NotJson));
        }
        assert_eq!(check(b"\xff"), Err(Farewell::Broken(Violation::NotUtf8)));
    }

    #[test]
    fn names_have_rooms_of_their_own() {
        assert_eq!(room("a"), room("a"));
        assert_ne!(room("a"), room(""));
    }
}
