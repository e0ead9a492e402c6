//! sealwire: end-to-end encrypted messages directly between people's devices.

mod config;
#[doc(hidden)]
pub mod crypto;
mod entropy;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hex;
mod identity;
mod invite;
pub mod message;
pub mod protocol;
mod relay_url;
mod room;
pub mod trust;
mod verify;

#[cfg(any(feature = "client", feature = "server"))]
pub mod signaling;

#[cfg(feature = "client")]
pub mod session;
#[cfg(feature = "client")]
pub mod transport;

#[cfg(feature = "server")]
pub mod server;

pub use config::{CandidatePolicy, Config, IceServer, Limits, Padding, PlainSignaling, Timeouts};
pub use entropy::{Entropy, OsEntropy};
pub use error::{CloseCode, Error, Result};
pub use identity::{Identity, InvalidPeerId, PeerId};
pub use invite::{Invite, InviteError};
pub use message::{Content, Message, MessageId, Timestamp};
pub use room::{EndpointId, RoomId};
pub use trust::{MinTrust, PeerTrust};
pub use verify::{InvalidQrPayload, QrPayload, SafetyNumber};
