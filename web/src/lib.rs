//! sealwire for JavaScript: a thin layer over the Rust API, with the same names and the same meaning.
//!
//! Nothing is decided here. What a class of this package does is what the type of the same name does in the crate.
//!
//! For browsers alone: elsewhere the crate's traits ask for futures that are `Send`, which promises are not.

#![cfg(target_arch = "wasm32")]

mod channel;
mod contact;
mod error;
mod event;
mod file;
mod history;
mod identity;
mod options;
mod qr;
mod session;
mod stream;
mod values;

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("types.ts");
