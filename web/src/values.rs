//! Values of the crate as values of JavaScript, and back.

use js_sys::{JSON, JsString, Object, Reflect, Uint8Array};
use sealwire::{Content, Message, MinTrust, PeerTrust};
use wasm_bindgen::{JsCast as _, JsValue};

use crate::error::misuse;

/// A plain object with these fields.
pub(crate) fn object(fields: impl IntoIterator<Item = (&'static str, JsValue)>) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // Plain objects take every field.
        let _ = Reflect::set(&object, &JsValue::from_str(name), &value);
    }
    object.into()
}

/// A field of an object; `None` when it is not there.
pub(crate) fn field(object: &JsValue, name: &str) -> Option<JsValue> {
    if !object.is_object() {
        return None;
    }
    let value = Reflect::get(object, &JsValue::from_str(name)).ok()?;
    (!value.is_undefined() && !value.is_null()).then_some(value)
}

pub(crate) fn text_field(object: &JsValue, name: &str) -> Option<String> {
    field(object, name)?.as_string()
}

pub(crate) fn flag(object: &JsValue, name: &str) -> bool {
    field(object, name).is_some_and(|value| value.is_truthy())
}

/// What JavaScript wants to send.
pub(crate) fn content(value: &JsValue) -> Result<Content, JsValue> {
    if let Some(text) = value.dyn_ref::<JsString>() {
        return Ok(Content::Text(String::from(text)));
    }
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        return Ok(Content::Bytes(bytes.to_vec().into()));
    }
    let no_value = || misuse("a message is text, a Uint8Array, or something that JSON can carry");
    let json = JSON::stringify(value).map_err(|_| no_value())?;
    let json = json.as_string().ok_or_else(no_value)?;
    serde_json::from_str(&json)
        .map(Content::Value)
        .map_err(|_| no_value())
}

/// What a message says, and of which kind it is.
pub(crate) fn spoken(content: &Content) -> (&'static str, JsValue) {
    match content {
        Content::Text(text) => ("text", JsValue::from_str(text)),
        Content::Bytes(bytes) => ("bytes", Uint8Array::from(&bytes[..]).into()),
        Content::Value(value) => (
            "value",
            JSON::parse(&value.to_string()).unwrap_or(JsValue::NULL),
        ),
        // A kind of content that this package does not know.
        _ => ("unknown", JsValue::UNDEFINED),
    }
}

pub(crate) fn message(message: &Message) -> JsValue {
    let (kind, content) = spoken(&message.content);
    object([
        ("id", JsValue::from_str(&message.id.to_string())),
        ("sender", JsValue::from_str(&message.sender.to_string())),
        ("kind", JsValue::from_str(kind)),
        ("content", content),
        ("timestamp", number(message.timestamp.as_unix_ms())),
    ])
}

/// Bytes as hexadecimal digits.
pub(crate) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exact below 2^53.
pub(crate) fn number(number: u64) -> JsValue {
    JsValue::from_f64(number as f64)
}

pub(crate) fn trust(trust: PeerTrust) -> JsValue {
    JsValue::from_str(&trust.to_string())
}

pub(crate) fn min_trust(word: &str) -> Result<MinTrust, JsValue> {
    match word {
        "unknown" => Ok(MinTrust::Unknown),
        "pinned" => Ok(MinTrust::Pinned),
        "invited" => Ok(MinTrust::Invited),
        "verified" => Ok(MinTrust::Verified),
        _ => Err(misuse("minTrust is unknown, pinned, invited or verified")),
    }
}
