//! Events as objects that their `type` tells apart.

use js_sys::Array;
use sealwire::{Error, history::Author, protocol::Event};
use wasm_bindgen::JsValue;

use crate::{
    error::from_error,
    values::{message, number, object, trust},
};

pub(crate) fn event(event: &Event) -> JsValue {
    let text = |text: &dyn ToString| JsValue::from_str(&text.to_string());
    match event {
        Event::Message(received) => tagged("message", [("message", message(received))]),
        Event::Unreadable { error } => failure("unreadable", error),
        Event::Established { peer, trust: known } => tagged(
            "established",
            [("peer", text(peer)), ("trust", trust(*known))],
        ),
        Event::Disconnected { error } => failure("disconnected", error),
        Event::Reconnecting => tagged("reconnecting", []),
        Event::Resumed => tagged("resumed", []),
        Event::SessionReset { unacked } => tagged("session_reset", [("unacked", number(*unacked))]),
        Event::HistoryDiverged {
            author,
            here,
            there,
        } => {
            let author = match author {
                Author::Me => "me",
                Author::Peer => "peer",
            };
            let counts = [
                ("author", JsValue::from_str(author)),
                ("here", number(*here)),
                ("there", number(*there)),
            ];
            tagged("history_diverged", counts)
        }
        Event::Undelivered { messages } => tagged("undelivered", [("messages", number(*messages))]),
        Event::ShortCode { code } => {
            let groups: Array = code.groups().into_iter().map(JsValue::from).collect();
            tagged("short_code", [("groups", groups.into())])
        }
        Event::ShortCodeFailed => tagged("short_code_failed", []),
        Event::ContactRequested => tagged("contact_requested", []),
        Event::ContactMade => tagged("contact_made", []),
        Event::Retrying { error } => failure("retrying", error),
        Event::InviteContested { first, second } => {
            let keys = [("first", text(first)), ("second", text(second))];
            tagged("invite_contested", keys)
        }
        Event::InviteAlreadyUsed => tagged("invite_already_used", []),
        Event::Flood => tagged("flood", []),
        Event::NoFingerprintCheck => tagged("no_fingerprint_check", []),
        Event::SignalingLost => tagged("signaling_lost", []),
        Event::Closed {
            code,
            reason,
            unacked,
        } => tagged(
            "closed",
            [
                ("code", JsValue::from(code.to_wire())),
                ("reason", JsValue::from_str(reason)),
                ("unacked", number(*unacked)),
            ],
        ),
        Event::Failed { error } => failure("failed", error),
        other => tagged("other", [("text", text(&format!("{other:?}")))]),
    }
}

fn failure(kind: &'static str, error: &Error) -> JsValue {
    tagged(kind, [("error", from_error(error))])
}

fn tagged<const N: usize>(kind: &'static str, fields: [(&'static str, JsValue); N]) -> JsValue {
    object(
        [("type", JsValue::from_str(kind))]
            .into_iter()
            .chain(fields),
    )
}
