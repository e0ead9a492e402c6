//! Messages as bytes: versioned and bounded. Everything here is the first to read what a peer wrote: it returns errors,
//! and never panics, loops or allocates much more than it was given.
//!
//! ```text
//!  0           1        2                     8
//!  | version 1 | kind   | timestamp (ms, u48) | content ...
//!                1 text, 2 bytes, 3 JSON
//! ```
//! Lengths come from the frame below; the sender and the id never travel. Text and bytes have exactly one encoding;
//! JSON may be written in several ways.

use bytes::Bytes;
use serde_json::Value;

use super::{Content, Timestamp};

const VERSION: u8 = 1;
const TEXT: u8 = 1;
const BYTES: u8 = 2;
const JSON: u8 = 3;

/// Bytes before the content.
const HEADER: usize = 8;

/// Levels of arrays and objects within each other: what `serde_json` reads without risk for the stack.
const MAX_DEPTH: usize = 127;

/// Brackets that open and commas in a JSON message. A tree takes up to 640 bytes of memory for each, so that 4 MiB from
/// the network could become 400 MB; this holds it below 42 MB.
const MAX_NODES: usize = 65_536;

/// A message cannot be written as bytes, or bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end within the header of 8 bytes.
    #[error("a message of {len} bytes is cut short: its header alone has {HEADER}")]
    CutShort {
        /// How many there are.
        len: usize,
    },
    /// The peer's version is newer.
    #[error("the message has version {version}, and this side reads version {VERSION}: update it")]
    UnsupportedVersion {
        /// The message's version.
        version: u8,
    },
    /// The peer sent a kind of content that this version does not have.
    #[error(
        "the message is of kind {kind}, and this side reads 1 (text), 2 (bytes) and 3 (json): update it"
    )]
    UnsupportedKind {
        /// The message's kind.
        kind: u8,
    },
    /// The timestamp is beyond the year 9999.
    #[error("the message's timestamp of {ms} ms is beyond the year 9999")]
    TimestampOutOfRange {
        /// Milliseconds since 1970.
        ms: u64,
    },
    /// The text is not UTF-8.
    #[error("the message's text is not utf-8 from byte {at} on")]
    InvalidUtf8 {
        /// Where it stops being so.
        at: usize,
    },
    /// The JSON cannot be read.
    #[error("the message's json cannot be read: {reason}")]
    InvalidJson {
        /// Where and why, without content.
        reason: String,
    },
    /// The structured data is too deep.
    #[error("the message's json is more than {max} levels deep: flatten it")]
    TooDeep {
        /// The most levels of arrays and objects within each other.
        max: usize,
    },
    /// The structured data has too many parts.
    #[error(
        "the message's json has more than {max} opening brackets and commas: send it in parts, or as bytes"
    )]
    TooManyNodes {
        /// The most opening brackets and commas together.
        max: usize,
    },
    /// The application's value has no JSON form.
    #[error("the value cannot be written as json: {reason}")]
    NotJson {
        /// What serde said.
        reason: String,
    },
    /// The content is not structured data.
    #[error("the message is {found}, not structured data: use as_text() or as_bytes()")]
    NotAValue {
        /// What it is.
        found: &'static str,
    },
    /// The structured data does not fit the application's type.
    #[error("the message's data has another shape: {reason}")]
    OtherShape {
        /// What serde said. It may name a part of the content: keep it out of logs.
        reason: String,
    },
}

/// Writes a message body.
///
/// # Errors
/// [`CodecError::TooDeep`] and [`CodecError::TooManyNodes`] for structured data that [`decode`] would refuse.
pub fn encode(content: &Content, timestamp: Timestamp) -> Result<Bytes, CodecError> {
    Ok(match content {
        Content::Text(text) => whole(TEXT, timestamp, text.as_bytes()),
        Content::Bytes(bytes) => whole(BYTES, timestamp, bytes),
        Content::Value(value) => {
            check_tree(value, 0, &mut 0)?;
            let mut body = header(JSON, timestamp, 0);
            serde_json::to_writer(&mut body, value).map_err(|error| CodecError::NotJson {
                reason: error.to_string(),
            })?;
            body.into()
        }
    })
}

/// Reads a message body. Bytes are shared with `body`, not copied.
///
/// # Errors
/// [`CodecError`] for everything that [`encode`] does not write.
pub fn decode(body: &Bytes) -> Result<(Content, Timestamp), CodecError> {
    let Some((&[version, kind, t0, t1, t2, t3, t4, t5], content)) =
        body.split_first_chunk::<HEADER>()
    else {
        return Err(CodecError::CutShort { len: body.len() });
    };
    if version != VERSION {
        return Err(CodecError::UnsupportedVersion { version });
    }
    let ms = u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]);
    let content = match kind {
        TEXT => Content::Text(utf8(content)?.to_owned()),
        BYTES => Content::Bytes(body.slice(HEADER..)),
        JSON => Content::Value(json(content)?),
        kind => return Err(CodecError::UnsupportedKind { kind }),
    };
    if ms > Timestamp::MAX.as_unix_ms() {
        return Err(CodecError::TimestampOutOfRange { ms });
    }
    Ok((content, Timestamp::from_unix_ms(ms)))
}

/// A whole body, in one allocation.
fn whole(kind: u8, timestamp: Timestamp, content: &[u8]) -> Bytes {
    let mut body = header(kind, timestamp, content.len());
    body.extend_from_slice(content);
    body.into()
}

/// The start of a body, with room for `content` more bytes.
fn header(kind: u8, timestamp: Timestamp, content: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEADER + content);
    body.extend_from_slice(&[VERSION, kind]);
    body.extend_from_slice(&timestamp.as_unix_ms().to_be_bytes()[2..]); // `Timestamp::MAX` is below 2^48
    body
}

fn utf8(content: &[u8]) -> Result<&str, CodecError> {
    std::str::from_utf8(content).map_err(|error| CodecError::InvalidUtf8 {
        at: error.valid_up_to(),
    })
}

fn json(content: &[u8]) -> Result<Value, CodecError> {
    check_text(content)?;
    serde_json::from_slice(content).map_err(|error| CodecError::InvalidJson {
        reason: error.to_string(),
    })
}

/// Holds JSON text to the limits before a tree is made of it. What is not JSON passes or fails: the parser decides.
fn check_text(json: &[u8]) -> Result<(), CodecError> {
    let (mut nodes, mut depth) = (0, 0_usize);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                check_depth(depth)?;
                count(&mut nodes, 1)?;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => count(&mut nodes, 1)?,
            _ => {}
        }
    }
    Ok(())
}

/// Goes on to behind the quote that ends a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// Holds a tree to the limits, before it is written. `depth` is how many arrays and objects it is in.
fn check_tree(value: &Value, depth: usize, nodes: &mut usize) -> Result<(), CodecError> {
    let members = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Ok(()),
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
    };
    check_depth(depth + 1)?;
    count(nodes, members.max(1))?; // the bracket, and a comma before all members but the first
    match value {
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_tree(item, depth + 1, nodes)),
        Value::Object(fields) => fields
            .values()
            .try_for_each(|field| check_tree(field, depth + 1, nodes)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn check_depth(depth: usize) -> Result<(), CodecError> {
    if depth > MAX_DEPTH {
        return Err(CodecError::TooDeep { max: MAX_DEPTH });
    }
    Ok(())
}

fn count(nodes: &mut usize, more: usize) -> Result<(), CodecError> {
    *nodes += more;
    if *nodes > MAX_NODES {
        return Err(CodecError::TooManyNodes { max: MAX_NODES });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOON: Timestamp = Timestamp::from_unix_ms(0x0102_0304_0506);

    fn body(kind: u8, content: &[u8]) -> Bytes {
        whole(kind, NOON, content)
    }

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        for (content, kind, tail) in [
            (Content::from("hi"), 1, "hi"),
            (Content::from(vec![0x68, 0x69]), 2, "hi"),
            (
                Content::from(json!({"a": [1, null]})),
                3,
                r#"{"a":[1,null]}"#,
            ),
        ] {
            let bytes = encode(&content, NOON).unwrap();
            assert_eq!(bytes[..8], [1, kind, 1, 2, 3, 4, 5, 6]);
            assert_eq!(bytes[8..], *tail.as_bytes());
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let cases = [
            (
                Bytes::from_static(&[1, 1, 0, 0, 0, 0, 0]),
                CodecError::CutShort { len: 7 },
            ),
            (
                Bytes::from_static(&[2, 1, 0, 0, 0, 0, 0, 0]),
                CodecError::UnsupportedVersion { version: 2 },
            ),
            (body(0, b""), CodecError::UnsupportedKind { kind: 0 }),
            (body(4, b""), CodecError::UnsupportedKind { kind: 4 }),
            (body(TEXT, b"ab\xff"), CodecError::InvalidUtf8 { at: 2 }),
            (
                Bytes::from_static(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
                CodecError::TimestampOutOfRange { ms: (1 << 48) - 1 },
            ),
        ];
        for (body, error) in cases {
            assert_eq!(decode(&body), Err(error));
        }
        for json in ["", "{", "[1,]", "1 2", "\"\\", "nul", "\"\u{0}\"", "1e999"] {
            assert!(
                matches!(
                    decode(&body(JSON, json.as_bytes())),
                    Err(CodecError::InvalidJson { .. })
                ),
                "{json}"
            );
        }
        assert!(matches!(
            decode(&body(JSON, b"\"\xff\"")),
            Err(CodecError::InvalidJson { .. })
        ));
    }

    #[test]
    fn bytes_are_shared_not_copied() {
        let body = body(BYTES, &[7; 100]);
        let (content, _) = decode(&body).unwrap();
        assert_eq!(content.as_bytes().unwrap().as_ptr(), body[8..].as_ptr());
    }

    #[test]
    fn json_is_as_deep_on_its_way_out_as_on_its_way_in() {
        let deepest = body(JSON, nested(MAX_DEPTH).as_bytes());
        let (content, time) = decode(&deepest).unwrap();
        assert_eq!(encode(&content, time).unwrap(), deepest);

        let too_deep = Err(CodecError::TooDeep { max: MAX_DEPTH });
        assert_eq!(
            encode(&json!([content_value(content)]).into(), time).map(drop),
            too_deep
        );
        for levels in [MAX_DEPTH + 1, 1_000_000] {
            assert_eq!(
                decode(&body(JSON, nested(levels).as_bytes())).map(drop),
                too_deep
            );
        }
    }

    fn content_value(content: Content) -> Value {
        match content {
            Content::Value(value) => value,
            Content::Text(_) | Content::Bytes(_) => Value::Null,
        }
    }

    #[test]
    fn json_has_as_many_parts_on_its_way_out_as_on_its_way_in() {
        for (fits, too_many) in [
            (json!(vec![0; MAX_NODES]), json!(vec![0; MAX_NODES + 1])),
            (
                json!(vec![json!({}); MAX_NODES / 2]),
                json!(vec![json!({}); MAX_NODES / 2 + 1]),
            ),
            (
                json!(",".repeat(MAX_NODES * 2)),
                json!([",", vec![0; MAX_NODES]]),
            ),
        ] {
            let bytes = encode(&fits.clone().into(), NOON).unwrap();
            assert_eq!(decode(&bytes), Ok((fits.into(), NOON)));

            let error = Err(CodecError::TooManyNodes { max: MAX_NODES });
            assert_eq!(encode(&too_many.clone().into(), NOON).map(drop), error);
            let forced = body(JSON, too_many.to_string().as_bytes());
            assert_eq!(decode(&forced).map(drop), error);
        }
    }

    #[test]
    fn brackets_and_commas_within_strings_do_not_count() {
        let value = json!({"a\"[,": "\\\",[{", "b": ["[".repeat(200)]});
        let bytes = encode(&value.clone().into(), NOON).unwrap();
        assert_eq!(decode(&bytes), Ok((value.into(), NOON)));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_content() -> impl Strategy<Value = Content> {
        prop_oneof![
            ".*".prop_map(Content::from),
            any::<Vec<u8>>().prop_map(Content::from),
            any_value().prop_map(Content::from),
        ]
    }

    proptest! {
        #[test]
        fn every_message_survives_the_wire(content in any_content(), ms in any::<u64>()) {
            let time = Timestamp::from_unix_ms(ms);
            let bytes = encode(&content, time).unwrap();
            prop_assert_eq!(decode(&bytes), Ok((content, time)));
        }

        #[test]
        fn text_and_bytes_have_one_encoding(
            kind in TEXT..=BYTES,
            ms in 0..=Timestamp::MAX.as_unix_ms(),
            content in any::<Vec<u8>>(),
        ) {
            let bytes = whole(kind, Timestamp::from_unix_ms(ms), &content);
            if let Ok((content, time)) = decode(&bytes) {
                prop_assert_eq!(encode(&content, time), Ok(bytes));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), json in r#"[\[\]{}",:0-9ea\\u-]{0,64}"#) {
            let _ = decode(&bytes.into());
            let _ = decode(&body(JSON, json.as_bytes()));
        }

        #[test]
        fn a_tree_and_its_text_are_counted_alike(value in any_value()) {
            let mut nodes = 0;
            check_tree(&value, 0, &mut nodes).unwrap();
            let bare = unquoted(&value.to_string());
            prop_assert_eq!(nodes, bare.matches(['[', '{', ',']).count());
        }
    }

    /// JSON text without its strings.
    fn unquoted(json: &str) -> String {
        let mut bytes = json.as_bytes().iter();
        let mut bare = String::new();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'"' => skip_string(&mut bytes),
                _ => bare.push(char::from(byte)),
            }
        }
        bare
    }
}
