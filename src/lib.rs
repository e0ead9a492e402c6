//! sealwire: end-to-end encrypted messages directly between people's devices.

mod config;
#[doc(hidden)]
pub mod crypto;
mod entropy;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod invite;
pub mod message;
pub mod protocol;
mod room;
mod trust;
mod verify;

#[cfg(any(feature = "client", feature = "server"))]
pub mod signaling;

#[cfg(feature = "client")]
pub mod session;
#[cfg(feature = "client")]
pub mod transport;

#[cfg(feature = "server")]
pub mod server;

pub use config::{Config, IceServer, Limits, Timeouts};
pub use entropy::{Entropy, OsEntropy};
pub use error::{Error, HandshakeStage, Result};
pub use identity::{Identity, PeerId};
pub use invite::{Invite, InviteError};
pub use message::{Content, Message, MessageId};
pub use room::{EndpointId, RoomId};
pub use trust::PeerTrust;
pub use verify::SafetyNumber;
