//! Failures, as one class of JavaScript.

use sealwire::{Error, InviteError, contact::ContactError};
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
