//! Fields of any JSON type: the wrong type of one field must neither spoil the others nor be buffered.
//!
//! This is what lets an envelope tell a bad field from a bad frame, whatever a stranger puts into it.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use serde_json::Value;

use super::{
    base64url,
    envelope::{MAX_ICE_SERVERS, MAX_MEMBERS},
};
use crate::{config::IceServer, room::EndpointId};

/// Bytes of an address, a user name or a password of an ICE server.
const MAX_ICE_TEXT: usize = 256;

/// A string, borrowed from the frame where it has no escapes; `None` for anything else.
#[derive(Default)]
pub(super) struct Text<'a>(pub(super) Option<Cow<'a, str>>);

/// The endpoint ids among the first 32 entries of an array; `None` for anything else than an array.
#[derive(Default)]
pub(super) struct Peers(pub(super) Option<Vec<EndpointId>>);

/// The ICE servers in an array of objects as browsers take them (`RTCIceServer`), one for each URL; of anything else
/// nothing. Their texts are ASCII without spaces and at most 256 bytes long.
#[derive(Default)]
pub(super) struct IceServers(pub(super) Vec<IceServer>);

impl<'de> Deserialize<'de> for IceServers {
    /// The one field that is buffered while it is read: within the bounds of its frame.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let entries = value.as_array().into_iter().flatten();
        let servers = entries.flat_map(ice_servers);
        Ok(Self(servers.take(MAX_ICE_SERVERS).collect()))
    }
}

/// The servers of one entry.
fn ice_servers(entry: &Value) -> Vec<IceServer> {
    let text = |field| match entry.get(field) {
        None => Some(""),
        Some(value) => value.as_str().filter(|text| is_plain(text)),
    };
    let (Some(username), Some(credential)) = (text("username"), text("credential")) else {
        return Vec::new();
    };
    let urls = entry.get("urls").unwrap_or(&Value::Null);
    let many = urls.as_array().map_or(&[][..], Vec::as_slice).iter();
    let urls = many.chain([urls]).filter_map(Value::as_str);
    urls.filter(|url| is_plain(url))
        .map(|url| IceServer::turn(url, username, credential))
        .collect()
}

fn is_plain(text: &str) -> bool {
    text.len() <= MAX_ICE_TEXT && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PeersVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Text(None))
    }
}

struct PeersVisitor;

impl<'de> Visitor<'de> for PeersVisitor {
    type Value = Peers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut peers = Vec::new();
        for _ in 0..MAX_MEMBERS {
            let Some(Text(entry)) = seq.next_element()? else {
                return Ok(Peers(Some(peers)));
            };
            peers.extend(
                entry
                    .and_then(|entry| base64url::decode(&entry))
                    .map(EndpointId),
            );
        }
        IgnoredAny.visit_seq(seq).map(|_| Peers(Some(peers)))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Peers(None))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Peers(None))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Peers(None))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Peers(None))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Peers(None))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Peers(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Peers(None))
    }
}
