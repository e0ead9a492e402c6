//! Contacts, and their bytes at rest.

use sealwire::{
    Contact as Known, PeerTrust, Timestamp, contact::ContactSecret, trust::Verification,
};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use zeroize::Zeroizing;

use crate::{
    error::{from_contact, misuse},
    identity::peer_id,
    values::{self, digits},
};

/// Somebody who is known, perhaps with a secret by which both meet again without an invite.
#[wasm_bindgen]
pub struct Contact(pub(crate) Known);

#[wasm_bindgen]
impl Contact {
    /// What the host calls it.
    #[wasm_bindgen(getter)]
    pub fn label(&self) -> String {
        self.0.label().to_owned()
    }

    /// Its key.
    #[wasm_bindgen(getter)]
    pub fn peer(&self) -> String {
        self.0.peer().to_string()
    }

    /// How far the key is trusted.
    #[wasm_bindgen(getter, unchecked_return_type = "PeerTrust")]
    pub fn trust(&self) -> JsValue {
        values::trust(self.0.trust())
    }

    /// Whether the two can meet without an invite.
    #[wasm_bindgen(getter, js_name = isPaired)]
    pub fn is_paired(&self) -> bool {
        self.0.is_paired()
    }

    /// The contact for storing it encrypted: it holds a secret.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (trust, when) = match self.0.trust() {
            PeerTrust::Verified { how, when } => (how_word(how), Some(when.as_unix_ms())),
            PeerTrust::Invited => ("invited", None),
            _ => ("pinned", None),
        };
        let secret = self.0.secret();
        let secret = secret.map(|secret| Zeroizing::new(digits(&*secret.secret_bytes())));
        json!({
            "version": 1,
            "label": self.0.label(),
            "peer": self.0.peer().to_string(),
            "trust": trust,
            "verified": when,
            "added": self.0.added().as_unix_ms(),
            "secret": secret.as_ref().map(|secret| secret.as_str()),
        })
        .to_string()
        .into_bytes()
    }

    /// The contact that `toBytes` gave.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JsValue> {
        let parsed: Option<Value> = serde_json::from_slice(bytes).ok();
        let parsed = parsed.filter(|parsed| parsed["version"] == 1);
        let parsed = parsed.ok_or_else(|| misuse("these are not the bytes of a contact"))?;
        let text = |name: &str| parsed[name].as_str().unwrap_or_default();
        let time = |name: &str| Timestamp::from_unix_ms(parsed[name].as_u64().unwrap_or_default());
        let trust = match text("trust") {
            "invited" => PeerTrust::Invited,
            word => how(word).map_or(PeerTrust::Pinned, |how| PeerTrust::Verified {
                how,
                when: time("verified"),
            }),
        };
        let peer = peer_id(text("peer"))?;
        let contact =
            Known::new(text("label"), peer, trust, time("added")).map_err(from_contact)?;
        Ok(Self(match parsed["secret"].as_str() {
            Some(secret) => contact.with_secret(ContactSecret::from_secret_bytes(
                *peer_id(secret)?.as_bytes(),
            )),
            None => contact,
        }))
    }
}

fn how_word(how: Verification) -> &'static str {
    match how {
        Verification::QrCode => "verified_qr_code",
        Verification::ShortCode => "verified_short_code",
        _ => "verified_safety_number",
    }
}

fn how(word: &str) -> Option<Verification> {
    match word {
        "verified_qr_code" => Some(Verification::QrCode),
        "verified_short_code" => Some(Verification::ShortCode),
        "verified_safety_number" => Some(Verification::SafetyNumber),
        _ => None,
    }
}
