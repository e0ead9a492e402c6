//! Identities and invites.

use sealwire::PeerId;
use wasm_bindgen::prelude::*;
use zeroize::Zeroizing;

use crate::error::{from_invite, misuse};

/// The secret key of one device.
#[wasm_bindgen]
pub struct Identity(pub(crate) sealwire::Identity);

#[wasm_bindgen]
impl Identity {
    /// A new identity from the browser's random source.
    pub fn generate() -> Self {
        Self(sealwire::Identity::generate())
    }

    /// The identity that `toBytes` gave.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JsValue> {
        let bytes = bytes.try_into().map(Zeroizing::new);
        let bytes = bytes.map_err(|_| misuse("an identity has 32 bytes"))?;
        Ok(Self(sealwire::Identity::from_secret_bytes(*bytes)))
    }

    /// The secret key, 32 bytes, for storing it encrypted. Whoever has them is this device to everybody.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.secret_bytes().to_vec()
    }

    /// The public half, which others know this device by: 64 hexadecimal digits.
    #[wasm_bindgen(getter, js_name = peerId)]
    pub fn peer_id(&self) -> String {
        self.0.peer_id().to_string()
    }
}

/// A single-use invite. Whoever holds its text can redeem it.
#[wasm_bindgen]
pub struct Invite(pub(crate) sealwire::Invite);

#[wasm_bindgen]
impl Invite {
    /// A single-use invite of this identity by way of a server (`wss://`, or `ws://` to this machine), good for 24 hours.
    pub fn create(identity: &Identity, server: &str) -> Result<Self, JsValue> {
        sealwire::Invite::new(&identity.0, server)
            .map(Self)
            .map_err(from_invite)
    }

    /// Reads an invite's text.
    pub fn parse(text: &str) -> Result<Self, JsValue> {
        text.trim().parse().map(Self).map_err(from_invite)
    }

    /// Its text, to be sent over a channel that you trust.
    #[wasm_bindgen(js_name = toString)]
    #[allow(clippy::inherent_to_string, reason = "what JavaScript calls")]
    pub fn to_string(&self) -> String {
        self.0.to_string()
    }

    /// The server where both meet, which learns the addresses of both.
    #[wasm_bindgen(getter)]
    pub fn server(&self) -> String {
        self.0.server().to_owned()
    }

    /// The key of the one who made it.
    #[wasm_bindgen(getter)]
    pub fn inviter(&self) -> String {
        self.0.inviter().to_string()
    }

    /// Until when it can be redeemed, in milliseconds since 1970.
    #[wasm_bindgen(getter)]
    pub fn expires(&self) -> Option<f64> {
        self.0
            .expires_at()
            .map(|seconds| f64::from(seconds) * 1_000.0)
    }
}

impl Invite {
    /// The crate's own is moved by its use, and JavaScript's stays.
    pub(crate) fn copy(&self) -> Result<sealwire::Invite, JsValue> {
        Zeroizing::new(self.0.to_string())
            .parse()
            .map_err(from_invite)
    }
}

/// The 60 digits that two people compare, in groups of five, for two keys.
#[wasm_bindgen(js_name = safetyNumber)]
pub fn safety_number(one: &str, other: &str) -> Result<String, JsValue> {
    let (one, other) = (peer_id(one)?, peer_id(other)?);
    Ok(sealwire::SafetyNumber::between(one, other).to_string())
}

pub(crate) fn peer_id(text: &str) -> Result<PeerId, JsValue> {
    text.parse()
        .map_err(|_| misuse("a peer id has 64 hexadecimal digits"))
}
