//! The ways to the network that a session takes unless its host brings others.

use std::sync::Arc;

use crate::{config::PlainSignaling, error::Result, signaling::Signaling, transport::Transport};

/// A WebSocket to this address.
#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
pub(super) fn signaling(server: &str, plain: PlainSignaling) -> Result<Arc<dyn Signaling>> {
    let signaling = crate::signaling::WebSocketSignaling::new(server, plain);
    Ok(Arc::new(signaling.map_err(super::joining::from_signaling)?))
}

/// WebRTC.
#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
pub(super) fn transport() -> Result<Arc<dyn Transport>> {
    Ok(Arc::new(crate::transport::WebRtcTransport::new()))
}

#[cfg(not(any(feature = "client", all(feature = "web", target_arch = "wasm32"))))]
pub(super) fn signaling(_: &str, _: PlainSignaling) -> Result<Arc<dyn Signaling>> {
    Err(crate::error::Error::InvalidConfig(
        "without the feature client or web, call signaling()",
    ))
}

#[cfg(not(any(feature = "client", all(feature = "web", target_arch = "wasm32"))))]
pub(super) fn transport() -> Result<Arc<dyn Transport>> {
    Err(crate::error::Error::InvalidConfig(
        "without the feature client or web, call transport()",
    ))
}
