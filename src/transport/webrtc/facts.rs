//! What the stack tells about a connection when it is asked.

use std::sync::Arc;

use ::webrtc::peer_connection::{PeerConnection, RTCIceCandidateType, transport::IceTransport};
use rtc::peer_connection::transport::RTCIceTransportState;
use sha2::{Digest, Sha256};

use crate::transport::TransportError;

/// SHA-256 of the certificate that the peer proved to own in DTLS.
pub(super) async fn fingerprint(connection: &dyn PeerConnection) -> Option<[u8; 32]> {
    let dtls = connection.sctp().await?.transport();
    let certificates = dtls.get_remote_certificates().await.ok()?;
    certificates.first().map(|der| Sha256::digest(der).into())
}

/// Whether a TURN server is in the path, as far as this side can know: a relayed address that the peer never told looks
/// direct.
pub(super) async fn is_relayed(connection: &dyn PeerConnection) -> Option<bool> {
    let pair = ice(connection)
        .await?
        .get_selected_candidate_pair()
        .await
        .ok()??;
    let kinds = [pair.local().typ, pair.remote().typ];
    Some(kinds.contains(&RTCIceCandidateType::Relay))
}

/// Why the stack gave up: without a path, or with one.
pub(super) async fn failure(connection: &dyn PeerConnection) -> TransportError {
    if let Some(ice) = ice(connection).await
        && ice.state().await == Ok(RTCIceTransportState::Failed)
    {
        return TransportError::NoPath;
    }
    TransportError::Failed("the encryption below could not be set up".to_owned())
}

async fn ice(connection: &dyn PeerConnection) -> Option<Arc<dyn IceTransport>> {
    Some(connection.sctp().await?.transport().ice_transport())
}
