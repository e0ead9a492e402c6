//! Signaling: how opaque blobs travel between two endpoints before they have a connection of their own.
//!
//! The server behind it is never trusted. It may drop, delay, reorder, replay and forge; the worst that comes of it
//! is that no session starts.

#[cfg(feature = "session")]
mod backoff;
mod base64url;
#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
mod bucket;
#[cfg(feature = "client")]
mod dial;
pub mod envelope;
mod loose;
#[cfg(feature = "session")]
mod membership;
#[cfg(feature = "client")]
mod memory;
#[cfg(feature = "client")]
mod pump;
#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
mod reading;
#[cfg(feature = "client")]
mod socket;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
mod web;
#[cfg(feature = "client")]
mod websocket;

#[cfg(feature = "session")]
pub use backoff::Backoff;
#[cfg(feature = "session")]
pub use membership::{Carrier, Membership, Outgoing, SignalingEvent};
#[cfg(feature = "client")]
pub use memory::MemorySignaling;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
pub use web::WebSocketSignaling;
#[cfg(feature = "client")]
pub use websocket::WebSocketSignaling;

#[cfg(feature = "session")]
use crate::room::{EndpointId, RoomId};

/// A way to a signaling server. Implement it to carry blobs over something else than a WebSocket.
#[cfg(feature = "session")]
#[async_trait::async_trait]
pub trait Signaling: std::fmt::Debug + Send + Sync + 'static {
    /// Joins `room` as `endpoint`, once, without retry: the session retries with [`Backoff`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up and leaves nothing behind.
    ///
    /// # Errors
    /// [`SignalingError`] when the server cannot be reached, refuses, or answers something else than the protocol.
    async fn join(
        &self,
        room: RoomId,
        endpoint: EndpointId,
    ) -> std::result::Result<Membership, SignalingError>;

    /// Where it leads, for messages to people: an address without secrets.
    fn describe(&self) -> String;
}

/// Why signaling does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalingError {
    /// A root certificate that was given is none.
    #[error("the root certificate cannot be used: {reason}")]
    InvalidCertificate {
        /// What is wrong with it.
        reason: String,
    },
    /// No connection to the server.
    #[error("the signaling server at {server} cannot be reached: {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What the network said.
        reason: String,
    },
    /// The address is not one that may be used.
    #[error("{url:?} is not a usable signaling address: {reason}")]
    InvalidUrl {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It answered something that is not this protocol.
    #[error("the signaling server at {server} does not speak this protocol: {reason}")]
    Garbage {
        /// Its address.
        server: String,
        /// What came.
        reason: String,
    },
    /// It said no.
    #[error("the signaling server refused: {code} ({message})")]
    Refused {
        /// The error code of its envelope, `close_<number>`, or `http_<number>`.
        code: String,
        /// Its words.
        message: String,
    },
    /// The connection ended.
    #[error("the connection to the signaling server was lost: {reason}")]
    Lost {
        /// What the network said.
        reason: String,
    },
}
