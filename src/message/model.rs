//! A message and what is in it.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CodecError, MessageId, Timestamp};
use crate::identity::PeerId;

/// One message, as both sides hold it.
///
/// Only content and timestamp travel. The sender is whoever's key the session proved: no field on the wire could say
/// otherwise. The id is computed by both sides.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// Its name, the same on both sides.
    pub id: MessageId,
    /// Who wrote it, proven by the session.
    pub sender: PeerId,
    /// What it says.
    pub content: Content,
    /// When it was written, by the sender's clock.
    pub timestamp: Timestamp,
}

/// What a message says.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// Text for people.
    Text(String),
    /// Bytes that mean something to the application.
    Bytes(Bytes),
    /// Structured data, which travels as JSON: up to 127 levels deep, and up to 65 536 brackets and commas.
    Value(Value),
}

impl Content {
    /// Structured data of any type that serde can write as JSON.
    ///
    /// # Errors
    /// [`CodecError::NotJson`] when it cannot, for example for maps whose keys are not text.
    pub fn value<T: Serialize + ?Sized>(value: &T) -> Result<Self, CodecError> {
        serde_json::to_value(value)
            .map(Self::Value)
            .map_err(|error| CodecError::NotJson {
                reason: error.to_string(),
            })
    }

    /// Structured data as a type of the application's.
    ///
    /// # Errors
    /// [`CodecError::NotAValue`] for text and bytes; [`CodecError::OtherShape`] when the data does not fit the type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        match self {
            Self::Value(value) => T::deserialize(value).map_err(|error| CodecError::OtherShape {
                reason: error.to_string(),
            }),
            Self::Text(_) => Err(CodecError::NotAValue { found: "text" }),
            Self::Bytes(_) => Err(CodecError::NotAValue { found: "bytes" }),
        }
    }

    /// The text, if it is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(_) | Self::Value(_) => None,
        }
    }

    /// The content alone, without kind or time, as a peer with a format of its own expects it.
    #[cfg(feature = "session")]
    pub(crate) fn into_raw(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Bytes(bytes) => bytes,
            Self::Value(value) => value.to_string().into(),
        }
    }

    /// The bytes, if it is bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Text(_) | Self::Value(_) => None,
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Bytes::copy_from_slice(bytes))
    }
}

impl From<Value> for Content {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl fmt::Display for Message {
    /// One line: the start of the sender's id, the time, the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id: _,
            sender,
            content,
            timestamp,
        } = self;
        write!(f, "{} {timestamp} {content}", sender.short())
    }
}

impl fmt::Display for Content {
    /// One line: the text or the JSON, or how many bytes there are. Control characters are escaped, so that no peer can
    /// steer a terminal or fake another line; [`as_text`](Self::as_text) has the text as it came.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write_on_one_line(f, text),
            Self::Bytes(bytes) => write!(f, "({} bytes)", bytes.len()),
            Self::Value(value) => write_on_one_line(f, &value.to_string()),
        }
    }
}

impl fmt::Debug for Content {
    /// The kind and the length: what people write to each other stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Value(_) => f.write_str("Value(..)"),
        }
    }
}

fn write_on_one_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|character| {
        if character.is_control() {
            write!(f, "{}", character.escape_default())
        } else {
            f.write_char(character)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageDirection;

    fn message(content: impl Into<Content>) -> Message {
        Message {
            id: MessageId::new(&[1; 16], MessageDirection::FromInitiator, 1, 0),
            sender: PeerId::from_bytes([0xab; 32]),
            content: content.into(),
            timestamp: Timestamp::from_unix_ms(1_700_000_000_000),
        }
    }

    #[test]
    fn a_message_is_shown_on_one_line_that_no_peer_can_steer() {
        let start = "abababab 2023-11-14T22:13:20.000Z ";
        for (content, shown) in [
            (Content::from("gr\u{fc}n \u{1f600}"), "gr\u{fc}n \u{1f600}"),
            (Content::from("a\nb\u{1b}[2J\u{9b}"), r"a\nb\u{1b}[2J\u{9b}"),
            (Content::from(vec![0; 12]), "(12 bytes)"),
            (
                Content::from(serde_json::json!({"a": [1, "\u{9b}"]})),
                r#"{"a":[1,"\u{9b}"]}"#,
            ),
        ] {
            assert_eq!(message(content).to_string(), format!("{start}{shown}"));
        }
    }

    #[test]
    fn what_people_write_stays_out_of_debug() {
        for content in [
            Content::from("secret"),
            Content::from(b"secret".as_slice()),
            Content::value(&["secret"]).unwrap(),
        ] {
            let shown = format!("{:?}", message(content));
            assert!(
                !shown.contains("secret") && !shown.contains("115"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_value_becomes_the_applications_type_again() {
        let content = Content::value(&("move", [3, 4])).unwrap();
        assert_eq!(
            content.parse::<(String, [u8; 2])>(),
            Ok(("move".to_owned(), [3, 4]))
        );
        assert!(matches!(
            content.parse::<u8>(),
            Err(CodecError::OtherShape { .. })
        ));
        assert_eq!(
            Content::from("1").parse::<u8>(),
            Err(CodecError::NotAValue { found: "text" })
        );
        assert_eq!(
            Content::from(vec![1]).parse::<u8>(),
            Err(CodecError::NotAValue { found: "bytes" })
        );
    }

    #[test]
    fn a_value_without_json_form_is_refused() {
        let keyed_by_lists = std::collections::BTreeMap::from([([1], 1)]);
        assert!(matches!(
            Content::value(&keyed_by_lists),
            Err(CodecError::NotJson { .. })
        ));
    }

    #[test]
    fn accessors_tell_kinds_apart() {
        let (text, bytes) = (
            Content::from("a".to_owned()),
            Content::from(Bytes::from_static(b"a")),
        );
        assert_eq!((text.as_text(), text.as_bytes()), (Some("a"), None));
        assert_eq!(
            (bytes.as_text(), bytes.as_bytes()),
            (None, Some(b"a".as_slice()))
        );
    }
}
