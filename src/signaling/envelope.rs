//! What travels between a client and the signaling server: JSON text frames (§1.2, K2). Pure: text in, values out.
//!
//! Unknown fields are ignored, an unknown `type` is told apart from a bad frame, binary fields are strict base64url of
//! an exact length. Frames are bounded before they are parsed, and nothing is buffered while they are (R-37).

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer};

pub use super::base64url::Blob;
use super::{
    base64url,
    loose::{IceServers, Peers, Text},
};
use crate::{
    config::IceServer,
    room::{EndpointId, RoomId},
};

/// The largest blob, in bytes.
pub const MAX_BLOB: usize = 16_384;

/// The largest frame in either direction, in bytes of JSON text.
pub const MAX_FRAME: usize = 24 << 10;

/// The most members of a room; entries of a `welcome` beyond it are ignored.
pub const MAX_MEMBERS: usize = 32;

/// The most ICE servers of a `welcome`; those beyond it are ignored.
pub const MAX_ICE_SERVERS: usize = 8;

/// The longest text of an `error` that a client keeps, in characters.
const MAX_TEXT: usize = 256;

/// What a client tells the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientEnvelope<'a> {
    /// Enter a room: once per connection.
    Join {
        /// The room.
        #[serde(serialize_with = "room_text")]
        room: RoomId,
        /// The name chosen for this stay.
        #[serde(serialize_with = "ep_text")]
        ep: EndpointId,
    },
    /// Hand a blob to one other member.
    Send {
        /// The member.
        #[serde(serialize_with = "ep_text")]
        to: EndpointId,
        /// The blob.
        blob: Blob<'a>,
    },
    /// Leave the room; the server closes the connection with 1000.
    Leave,
}

/// What the server tells a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServerEnvelope<'a> {
    /// The join succeeded. Before anything else about the room.
    Welcome {
        /// The other members, at most 32.
        #[serde(serialize_with = "eps_text")]
        peers: Vec<EndpointId>,
        /// STUN and TURN servers that the operator of the server offers, at most 8. Like everything that a server says,
        /// not to be trusted.
        #[serde(serialize_with = "ice_objects", skip_serializing_if = "Vec::is_empty")]
        ice: Vec<IceServer>,
    },
    /// Somebody came.
    Joined {
        /// Who.
        #[serde(serialize_with = "ep_text")]
        ep: EndpointId,
    },
    /// Somebody left.
    Left {
        /// Who.
        #[serde(serialize_with = "ep_text")]
        ep: EndpointId,
    },
    /// A blob of another member.
    Message {
        /// Whose, stamped by the server.
        #[serde(serialize_with = "ep_text")]
        from: EndpointId,
        /// The blob.
        blob: Blob<'a>,
    },
    /// A request had no effect.
    Error {
        /// A word in snake case, at most 256 characters; this server's words are [`ErrorCode`].
        code: Cow<'a, str>,
        /// A sentence for people, at most 256 characters, none of them control characters.
        message: Cow<'a, str>,
    },
}

/// Why text is not an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not a JSON object with a `type`, or one with a field twice.
    #[error("not a JSON object with a type")]
    BadFrame,
    /// A type of another version, perhaps.
    #[error("a type that is not known")]
    UnknownType,
    /// A field is missing, of another type, of another length, or not strict base64url.
    #[error("the field {field} is missing or malformed")]
    BadField {
        /// Which.
        field: &'static str,
    },
    /// A frame beyond 24 KiB, or a blob beyond 16 384 bytes.
    #[error("a blob of more than 16384 bytes, or a frame of more than 24576")]
    TooLarge,
}

/// What the server says no with (R-46).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not a text frame with a JSON object and a `type`.
    BadFrame,
    /// A field is missing or malformed.
    BadField,
    /// A `type` that this server does not know.
    UnknownType,
    /// A `send` to somebody who is not there, or to oneself.
    UnknownPeer,
    /// A `send` or `leave` before the `join`.
    NotJoined,
    /// A second `join`.
    AlreadyJoined,
    /// A `join` under a name that is taken in that room.
    DuplicateEp,
    /// A `join` to a room with as many members as are allowed.
    RoomFull,
    /// A blob beyond 16 384 bytes.
    TooLarge,
}

impl<'a> ClientEnvelope<'a> {
    /// Reads a frame of a client.
    ///
    /// # Errors
    /// [`EnvelopeError`]; its [`code`](EnvelopeError::code) is what the client is told.
    pub fn decode(text: &'a str) -> Result<Self, EnvelopeError> {
        Self::send_as_written(text).map_or_else(|| Self::parse(text), Ok)
    }

    /// A `send` exactly as [`ClientEnvelope::encode`] writes it. It is what a server reads most, and needs no parser:
    /// base64url has neither quotes nor escapes.
    fn send_as_written(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix(r#"{"type":"send","to":""#)?;
        let (to, rest) = rest.split_at_checked(22)?;
        let blob = rest.strip_prefix(r#"","blob":""#)?.strip_suffix(r#""}"#)?;
        Some(Self::Send {
            to: EndpointId(base64url::decode(to)?),
            blob: Blob::from_text(blob.into()).ok()?,
        })
    }

    fn parse(text: &'a str) -> Result<Self, EnvelopeError> {
        let ClientFields {
            kind,
            room,
            ep,
            to,
            blob,
        } = parse(text)?;
        match kind.0.as_deref().ok_or(EnvelopeError::BadFrame)? {
            "join" => Ok(Self::Join {
                room: RoomId(fixed(&room, "room")?),
                ep: EndpointId(fixed(&ep, "ep")?),
            }),
            "send" => Ok(Self::Send {
                to: EndpointId(fixed(&to, "to")?),
                blob: read_blob(blob)?,
            }),
            "leave" => Ok(Self::Leave),
            _ => Err(EnvelopeError::UnknownType),
        }
    }

    /// The frame.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("an envelope has only text fields")
    }
}

impl<'a> ServerEnvelope<'a> {
    /// Reads a frame of the server. Malformed and surplus entries of a `welcome` are left out, as are control
    /// characters in the texts of an `error`.
    ///
    /// # Errors
    /// [`EnvelopeError`]: [`EnvelopeError::BadFrame`] is garbage, the others are to be ignored.
    pub fn decode(text: &'a str) -> Result<Self, EnvelopeError> {
        let ServerFields {
            kind,
            peers,
            ice,
            ep,
            from,
            blob,
            code,
            message,
        } = parse(text)?;
        let bad = |field| EnvelopeError::BadField { field };
        match kind.0.as_deref().ok_or(EnvelopeError::BadFrame)? {
            "welcome" => Ok(Self::Welcome {
                peers: peers.0.ok_or(bad("peers"))?,
                ice: ice.0,
            }),
            "joined" => Ok(Self::Joined {
                ep: EndpointId(fixed(&ep, "ep")?),
            }),
            "left" => Ok(Self::Left {
                ep: EndpointId(fixed(&ep, "ep")?),
            }),
            "message" => Ok(Self::Message {
                from: EndpointId(fixed(&from, "from")?),
                blob: read_blob(blob)?,
            }),
            "error" => Ok(Self::Error {
                code: printable(&code.0.ok_or(bad("code"))?).into(),
                message: printable(&message.0.unwrap_or_default()).into(),
            }),
            _ => Err(EnvelopeError::UnknownType),
        }
    }

    /// The frame.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("an envelope has only text fields")
    }
}

#[cfg(feature = "server")]
impl ServerEnvelope<'_> {
    /// Appends the frame to `out`.
    pub(crate) fn encode_to(&self, out: &mut Vec<u8>) {
        let Self::Message { from, blob } = self else {
            serde_json::to_writer(out, self).expect("memory takes everything");
            return;
        };
        // What the server writes most. Base64url has nothing to escape, so it is not looked through once more.
        let mut from_text = [0; 22];
        let from = base64url::encode_into(&from.0, &mut from_text);
        for part in [
            r#"{"type":"message","from":""#,
            from,
            r#"","blob":""#,
            blob.as_str(),
            r#""}"#,
        ] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

impl From<ErrorCode> for ServerEnvelope<'static> {
    fn from(code: ErrorCode) -> Self {
        Self::Error {
            code: code.as_str().into(),
            message: code.message().into(),
        }
    }
}

impl EnvelopeError {
    /// What the client is told.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::BadFrame => ErrorCode::BadFrame,
            Self::UnknownType => ErrorCode::UnknownType,
            Self::BadField { .. } => ErrorCode::BadField,
            Self::TooLarge => ErrorCode::TooLarge,
        }
    }
}

impl ErrorCode {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::BadField => "bad_field",
            Self::UnknownType => "unknown_type",
            Self::UnknownPeer => "unknown_peer",
            Self::NotJoined => "not_joined",
            Self::AlreadyJoined => "already_joined",
            Self::DuplicateEp => "duplicate_ep",
            Self::RoomFull => "room_full",
            Self::TooLarge => "too_large",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::BadFrame => "a frame is a JSON object with a type, as text",
            Self::BadField => "a field is missing or malformed",
            Self::UnknownType => "this server does not know that type",
            Self::UnknownPeer => "nobody else in the room has that name",
            Self::NotJoined => "join a room first",
            Self::AlreadyJoined => "one join per connection",
            Self::DuplicateEp => "that name is taken in this room",
            Self::RoomFull => "the room has as many members as are allowed",
            Self::TooLarge => "a blob has at most 16384 bytes",
        }
    }
}

#[derive(Deserialize)]
struct ClientFields<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    room: Text<'a>,
    #[serde(borrow, default)]
    ep: Text<'a>,
    #[serde(borrow, default)]
    to: Text<'a>,
    #[serde(borrow, default)]
    blob: Text<'a>,
}

#[derive(Deserialize)]
struct ServerFields<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(default)]
    peers: Peers,
    #[serde(default)]
    ice: IceServers,
    #[serde(borrow, default)]
    ep: Text<'a>,
    #[serde(borrow, default)]
    from: Text<'a>,
    #[serde(borrow, default)]
    blob: Text<'a>,
    #[serde(borrow, default)]
    code: Text<'a>,
    #[serde(borrow, default)]
    message: Text<'a>,
}

/// The type of an object that belongs to another signaling: what simple-peer and the apps around it send, and our own
/// requests, which only a relay that hands everything to everybody brings back.
#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
pub(crate) fn foreign_type(text: &str) -> Option<String> {
    const FOREIGN: [&str; 11] = [
        "offer",
        "answer",
        "candidate",
        "ice-candidate",
        "signal",
        "renegotiate",
        "transceiverRequest",
        "pranswer",
        "join",
        "send",
        "leave",
    ];
    let ServerFields { kind, .. } = parse(text).ok()?;
    let kind = kind.0.filter(|kind| FOREIGN.contains(&kind.as_ref()))?;
    Some(kind.into_owned())
}

/// An array in the order of the fields would also be taken for a struct: only objects are.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, EnvelopeError> {
    if text.len() > MAX_FRAME {
        return Err(EnvelopeError::TooLarge);
    }
    if !text.trim_start().starts_with('{') {
        return Err(EnvelopeError::BadFrame);
    }
    serde_json::from_str(text).map_err(|_| EnvelopeError::BadFrame)
}

fn fixed<const N: usize>(text: &Text<'_>, field: &'static str) -> Result<[u8; N], EnvelopeError> {
    let text = text.0.as_deref();
    text.and_then(base64url::decode)
        .ok_or(EnvelopeError::BadField { field })
}

fn read_blob(text: Text<'_>) -> Result<Blob<'_>, EnvelopeError> {
    Blob::from_text(text.0.ok_or(EnvelopeError::BadField { field: "blob" })?)
}

/// The start of a text from outside, safe to show in a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .filter(|char| !char.is_control())
        .take(MAX_TEXT)
        .collect()
}

fn room_text<S: Serializer>(room: &RoomId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64url::encode(&room.0))
}

fn ep_text<S: Serializer>(ep: &EndpointId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64url::encode(&ep.0))
}

fn eps_text<S: Serializer>(eps: &[EndpointId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(eps.iter().map(|ep| base64url::encode(&ep.0)))
}

/// The shape that browsers take (`RTCIceServer`).
fn ice_objects<S: Serializer>(servers: &[IceServer], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Object<'a> {
        urls: [&'a str; 1],
        #[serde(skip_serializing_if = "str::is_empty")]
        username: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        credential: &'a str,
    }
    serializer.collect_seq(servers.iter().map(|server| Object {
        urls: [&server.url],
        username: &server.username,
        credential: &server.credential,
    }))
}

#[cfg(test)]
mod tests;
