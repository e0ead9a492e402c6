//! The signaling server at an address, over a WebSocket: the way that real sessions meet.

use std::{fmt, sync::Arc};

use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};

use super::{
    Membership, Signaling, SignalingError, SignalingEvent,
    dial::{Wire, dial},
    envelope::ClientEnvelope,
    pump::{self, Pump},
    reading,
    socket::Socket,
};
use crate::{
    config::{IceServer, PlainSignaling},
    relay_url::RelayUrl,
    room::{EndpointId, RoomId},
};

/// A signaling server, reached over `wss://` or `ws://`. Each join has a connection of its own.
///
/// TLS trusts the roots that Mozilla trusts, compiled in; the system's store is not asked.
#[derive(Clone)]
pub struct WebSocketSignaling {
    url: RelayUrl,
    roots: RootCertStore,
    tls: Arc<ClientConfig>,
}

impl WebSocketSignaling {
    /// The server at `url`: `wss://`, or `ws://` as far as `plain` allows. `/v1` is appended to the path, a query is
    /// kept. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`SignalingError::InvalidUrl`] says what is wrong with the address.
    pub fn new(url: &str, plain: PlainSignaling) -> Result<Self, SignalingError> {
        let parsed = RelayUrl::parse(url, plain).map_err(|reason| SignalingError::InvalidUrl {
            url: url.to_owned(),
            reason,
        })?;
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        Ok(Self {
            url: parsed,
            tls: tls_config(&roots),
            roots,
        })
    }

    /// Also trusts servers whose certificate is `der`, or was issued by it: for those who run their own authority.
    ///
    /// # Errors
    /// [`SignalingError::InvalidCertificate`] when `der` is not an X.509 certificate in DER.
    pub fn with_root_certificate(mut self, der: &[u8]) -> Result<Self, SignalingError> {
        self.roots
            .add(CertificateDer::from(der.to_vec()))
            .map_err(|error| SignalingError::InvalidCertificate {
                reason: error.to_string(),
            })?;
        self.tls = tls_config(&self.roots);
        Ok(self)
    }

    /// Waits for the answer to a join: the others in the room, and the ICE servers that the server offers.
    async fn welcome(
        &self,
        socket: &mut Socket<Box<dyn Wire>>,
    ) -> Result<(Vec<EndpointId>, Vec<IceServer>), SignalingError> {
        let server = self.describe();
        loop {
            let incoming = socket
                .next()
                .await
                .map_err(|error| pump::lost(&server, &error))?;
            if let Some(envelope) = pump::read(&server, &incoming)? {
                return reading::welcome(&server, envelope);
            }
        }
    }
}

#[async_trait::async_trait]
impl Signaling for WebSocketSignaling {
    /// Resolves once the server welcomed the endpoint. Must be called within a tokio runtime, where the connection then
    /// lives in a task until the [`Membership`] is dropped. No deadline is set here.
    async fn join(&self, room: RoomId, endpoint: EndpointId) -> Result<Membership, SignalingError> {
        let mut socket = dial(&self.url, &self.tls).await?;
        let join = ClientEnvelope::Join { room, ep: endpoint }.encode();
        socket
            .queue(join.into())
            .map_err(|error| pump::lost(&self.describe(), &error))?;
        let (peers, ice) = self.welcome(&mut socket).await?;
        let (membership, carrier) = Membership::pair();
        // First, for the welcome may lead to a connection at once.
        if !ice.is_empty() {
            carrier.deliver(SignalingEvent::IceServers(ice)).await;
        }
        carrier.deliver(SignalingEvent::Welcome { peers }).await;
        tokio::spawn(Pump::new(self.describe(), socket, carrier).run());
        Ok(membership)
    }

    fn describe(&self) -> String {
        self.url.describe()
    }
}

impl fmt::Debug for WebSocketSignaling {
    /// Without the query of the address, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            roots: _,
            tls: _,
        } = self;
        f.debug_struct("WebSocketSignaling")
            .field("url", url)
            .finish_non_exhaustive()
    }
}

fn tls_config(roots: &RootCertStore) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring implements the default versions")
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    // A proxy that also speaks HTTP/2 must not choose it: WebSockets start as HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
