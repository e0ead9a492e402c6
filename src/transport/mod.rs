//! Transport: one peer connection with its data channels, behind a trait.
//!
//! A transport moves frames. It is handed session descriptions that were authenticated elsewhere, and it reports the
//! fingerprint of the certificate that the peer really showed; it decides nothing about trust.

#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
mod candidate;
mod link;
#[cfg(feature = "client")]
mod memory;
#[cfg(feature = "client")]
mod runtime;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
mod web;
#[cfg(feature = "client")]
mod webrtc;

#[cfg(feature = "client")]
pub use self::webrtc::WebRtcTransport;
pub use link::{
    EventSender, Link, LinkDropped, LinkEvent, LinkPort, LinkRequest, NotTaken, Progress,
};
#[cfg(feature = "client")]
pub use memory::MemoryTransport;
#[cfg(feature = "client")]
pub(crate) use runtime::spawn;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
pub use web::WebRtcTransport;

#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
use std::collections::HashSet;
use std::time::Duration;

use crate::config::{CandidatePolicy, IceServer};

/// Streams that the protocol has: 0 to 15.
#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
const MAX_CHANNELS: u8 = 16;

/// A way to make peer connections.
pub trait Transport: std::fmt::Debug + Send + Sync + 'static {
    /// Starts a peer connection. It returns at once; everything that happens is told by [`Link::next`].
    /// Called within a tokio runtime, or by a page.
    ///
    /// # Errors
    /// [`TransportError`] when it cannot even start.
    fn open(&self, options: LinkOptions, role: LinkRole) -> Result<Link, TransportError>;
}

/// Which side of the offer and answer this link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkRole {
    /// Makes the offer; the answer follows by [`Link::set_answer`].
    Offerer,
    /// Answers this offer, as the DTLS client.
    Answerer {
        /// The peer's session description.
        offer: String,
    },
}

/// How a link is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinkOptions {
    /// The data channels, created before the description: negotiated, stream id = `id`, label and protocol empty.
    pub channels: Vec<ChannelSpec>,
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// Which addresses may be used.
    pub candidates: CandidatePolicy,
    /// How long candidates are gathered before [`LinkEvent::Described`].
    pub gather: Duration,
    /// Bytes not yet sent above which [`Link::is_writable`] is false.
    pub buffer: usize,
    /// Silence after which the link is lost: 500 ms to 25 s. Stacks that cannot tell may ignore it.
    pub lost_after: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            channels: vec![ChannelSpec {
                id: 0,
                reliability: Reliability::Reliable,
            }],
            ice_servers: Vec::new(),
            candidates: CandidatePolicy::All,
            gather: Duration::from_millis(250),
            buffer: 256 << 10,
            lost_after: Duration::from_secs(6),
        }
    }
}

/// One data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelSpec {
    /// 0 to 15; also its SCTP stream.
    pub id: u8,
    /// What it promises.
    pub reliability: Reliability,
}

/// What a data channel promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliability {
    /// Ordered, and sent again until it arrives.
    Reliable,
    /// Unordered, sent once.
    Lossy,
}

/// Why a link does not work (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// It could not be set up on this device.
    #[error("the peer connection could not be set up: {0}")]
    Setup(String),
    /// The peer's description was refused by the stack.
    #[error("the peer's session description was refused: {0}")]
    Description(String),
    /// No path to the peer was found, or the last one was lost.
    #[error("no network path to the peer works")]
    NoPath,
    /// The encrypted connection below failed.
    #[error("the connection failed: {0}")]
    Failed(String),
}

#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
fn check_channels(options: &LinkOptions) -> Result<(), TransportError> {
    let ids: HashSet<u8> = options.channels.iter().map(|channel| channel.id).collect();
    let are_distinct = ids.len() == options.channels.len();
    if ids.is_empty() || !are_distinct || ids.iter().any(|id| *id >= MAX_CHANNELS) {
        let reason = "channels need distinct ids from 0 to 15, and at least one".to_owned();
        return Err(TransportError::Setup(reason));
    }
    Ok(())
}
