//! Failures, as one class of JavaScript.

use sealwire::{
    Error, InviteError, contact::ContactError, history::HistoryError, session::StreamError,
};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(raw_module = "./error.js")]
extern "C" {
    /// The class that JavaScript sees.
    pub(crate) type SealwireError;

    #[wasm_bindgen(constructor)]
    fn new(code: &str, message: &str, retryable: bool, suspicious: bool) -> SealwireError;
}

/// An error of the crate for JavaScript.
pub(crate) fn from_error(error: &Error) -> JsValue {
    let (retryable, suspicious) = (error.is_retryable(), error.is_suspicious());
    SealwireError::new(error.name(), &error.to_string(), retryable, suspicious).into()
}

pub(crate) fn thrown(error: Error) -> JsValue {
    from_error(&error)
}

pub(crate) fn from_invite(error: InviteError) -> JsValue {
    from_error(&Error::Invite(error))
}

pub(crate) fn from_contact(error: ContactError) -> JsValue {
    plain("contact", &error.to_string())
}

pub(crate) fn from_history(error: HistoryError) -> JsValue {
    from_error(&Error::History(error))
}

/// Why a stream or a file did not get there: the end of the session keeps its own code.
pub(crate) fn from_stream(error: StreamError) -> JsValue {
    let code = match &error {
        StreamError::Session(error) => return from_error(error),
        StreamError::Refused => "stream_refused",
        StreamError::Ended(_) => "stream_ended",
        StreamError::Cancelled => "stream_cancelled",
        StreamError::HashMismatch => "stream_hash",
        StreamError::Reset => "stream_reset",
        StreamError::NotDeclared | StreamError::NotSupported => "no_streams",
        StreamError::SourceChanged { .. } => "file_changed",
        StreamError::Io { .. } => "file_unreadable",
        _ => "stream",
    };
    let is_suspicious = matches!(error, StreamError::Violation(_));
    let (text, retryable) = (error.to_string(), error.is_retryable());
    SealwireError::new(code, &text, retryable, is_suspicious).into()
}

/// Something that the caller gave is not what it should be.
pub(crate) fn misuse(message: &str) -> JsValue {
    plain("misuse", message)
}

/// The caller gave an attempt up.
pub(crate) fn aborted() -> JsValue {
    plain("aborted", "the attempt was given up")
}

fn plain(code: &str, message: &str) -> JsValue {
    SealwireError::new(code, message, false, false).into()
}
