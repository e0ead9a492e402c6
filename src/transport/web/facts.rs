//! What the browser tells about a connection when it is asked. Not every browser tells everything.

use std::collections::HashMap;

use js_sys::{Array, ArrayBuffer, Function, Reflect, Uint8Array};
use sha2::{Digest as _, Sha256};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{RtcIceConnectionState, RtcPeerConnection};

use crate::transport::TransportError;

/// What is known of a connection that is open.
pub(super) struct Facts {
    /// SHA-256 of the certificate that the peer proved to own in DTLS.
    pub(super) fingerprint: Option<[u8; 32]>,
    /// Whether a TURN server is in the path.
    pub(super) relayed: Option<bool>,
}

impl Facts {
    pub(super) async fn ask(connection: &RtcPeerConnection) -> Self {
        let stats = Stats::ask(connection).await;
        let shown = certificate(connection).map(|der| Sha256::digest(der).into());
        Self {
            fingerprint: shown.or_else(|| stats.as_ref()?.fingerprint()),
            relayed: stats.as_ref().and_then(Stats::is_relayed),
        }
    }
}

/// Why the browser gave up: without a path, or with one.
pub(super) fn failure(connection: &RtcPeerConnection) -> TransportError {
    if connection.ice_connection_state() == RtcIceConnectionState::Failed {
        return TransportError::NoPath;
    }
    TransportError::Failed("the encryption below could not be set up".to_owned())
}

/// The certificate itself (DER), where `RTCDtlsTransport` shows it.
fn certificate(connection: &RtcPeerConnection) -> Option<Vec<u8>> {
    let dtls = property(&property(connection, "sctp")?, "transport")?;
    let ask: Function = property(&dtls, "getRemoteCertificates")?.dyn_into().ok()?;
    let certificates: Array = ask.call0(&dtls).ok()?.dyn_into().ok()?;
    let der: ArrayBuffer = certificates.get(0).dyn_into().ok()?;
    Some(Uint8Array::new(&der).to_vec())
}

/// The entries of an `RTCStatsReport` by their ids.
struct Stats(HashMap<String, JsValue>);

impl Stats {
    async fn ask(connection: &RtcPeerConnection) -> Option<Self> {
        let report = JsFuture::from(connection.get_stats()).await.ok()?;
        let entries = js_sys::try_iter(&report).ok()??;
        let entries = entries.filter_map(|entry| {
            let entry: Array = entry.ok()?.dyn_into().ok()?;
            Some((entry.get(0).as_string()?, entry.get(1)))
        });
        Some(Self(entries.collect()))
    }

    fn transport(&self) -> Option<&JsValue> {
        let mut entries = self.0.values();
        entries.find(|entry| text(entry, "type").as_deref() == Some("transport"))
    }

    /// The entry that a field of another one names.
    fn named_by(&self, entry: &JsValue, field: &str) -> Option<&JsValue> {
        self.0.get(&text(entry, field)?)
    }

    fn fingerprint(&self) -> Option<[u8; 32]> {
        let certificate = self.named_by(self.transport()?, "remoteCertificateId")?;
        if !text(certificate, "fingerprintAlgorithm")?.eq_ignore_ascii_case("sha-256") {
            return None;
        }
        let digits = text(certificate, "fingerprint")?;
        let bytes = digits.split(':').map(|byte| u8::from_str_radix(byte, 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().ok()?;
        bytes.try_into().ok()
    }

    /// As far as this side can know: a relayed address that the peer never told looks direct.
    fn is_relayed(&self) -> Option<bool> {
        let pair = self.named_by(self.transport()?, "selectedCandidatePairId")?;
        let mut relayed = false;
        for end in ["localCandidateId", "remoteCandidateId"] {
            relayed |= text(self.named_by(pair, end)?, "candidateType")? == "relay";
        }
        Some(relayed)
    }
}

fn property(object: &JsValue, name: &str) -> Option<JsValue> {
    let value = Reflect::get(object, &JsValue::from_str(name)).ok()?;
    (!value.is_undefined() && !value.is_null()).then_some(value)
}

fn text(object: &JsValue, name: &str) -> Option<String> {
    property(object, name)?.as_string()
}
