//! End-to-end encrypted messages directly between people's devices over WebRTC, with no trust in the server that
//! introduces them.
//!
//! One side makes an [`Invite`] and hands its text to the other over any channel that it trusts; both get a
//! [`Session`](session::Session):
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # mod quick_start {
//! use sealwire::{Identity, Invite, protocol::Event, session::Session};
//!
//! async fn inviter() -> Result<(), Box<dyn std::error::Error>> {
//!     let me = Identity::generate();
//!     let invite = Invite::new(&me, "ws://127.0.0.1:8080")?;
//!     println!("{invite}");
//!     let session = Session::builder(me).invite(invite).connect().await?;
//!     session.send("hello").await?.delivered().await?;
//!     session.close().await?;
//!     Ok(())
//! }
//!
//! async fn redeemer(text: &str) -> Result<(), Box<dyn std::error::Error>> {
//!     let me = Identity::generate();
//!     let session = Session::builder(me).redeem(text.parse()?).connect().await?;
//!     println!("compare: {}", session.safety_number());
//!     while let Some(event) = session.next().await {
//!         if let Event::Message(message) = event {
//!             println!("{message}");
//!         }
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # Layers
//!
//! ```text
//! session    the one type that a host holds, and the one task behind it
//! protocol   the state machine: bytes and time in, bytes and events out; no clock, sockets or tasks
//! stream     streams and files within one channel; pure as well
//! message    what the app sends          crypto     keys: Noise XXhfs, one key per frame
//! signaling  opaque blobs by a server    transport  frames over a peer connection
//!
//! store      identity, contacts and histories at rest        history   what was said, in chains that both sides compare
//! server     the signaling server, which sees none of it
//! ```
//!
//! What a host sees is [`Event`](protocol::Event), what can go wrong [`Error`]. Every number with its reason is in
//! [`Config`]. The wire protocol stands in `docs/protocol.md`, byte by byte, with numbered rules.
//!
//! # What is protected
//!
//! Content, and who the peer is: against the server, the network, whoever records today and steals keys later, and a
//! later quantum computer. Not protected: that and when two addresses talk, a device that is taken over, and a person
//! who accepts a peer without comparing. [`Session::security`](session::Session::security) reports on a live session.
//!
//! # Features
//!
//! `client` (default): WebSocket signaling, WebRTC, [`session`]. `web`: the same in a browser, with
//! `--no-default-features`. `session`: the session alone, over signaling and transports of the host's own. `server`: the
//! signaling server ([`server`], `sealwire-server`). `store` (default): identity, contacts and histories in
//! encrypted files ([`store`]). `avx512` (default): large frames by a faster library on x86-64 processors with AVX-512,
//! found out at run time (`docs/aead.md`). None: the pure core, with histories in memory ([`history`]).

#![forbid(unsafe_code)]

/// The imagined network of `tests/sim/world.rs`, which names this crate, serves tests in here too.
#[cfg(test)]
extern crate self as sealwire;

mod config;
pub mod contact;
#[doc(hidden)]
pub mod crypto;
mod entropy;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hex;
pub mod history;
#[cfg(feature = "session")]
mod ice_url;
mod identity;
mod invite;
pub mod message;
pub mod protocol;
mod relay_url;
mod room;
pub mod stream;
pub mod trust;
mod verify;

#[cfg(any(feature = "session", feature = "server"))]
pub mod signaling;

#[cfg(feature = "session")]
pub mod session;
#[cfg(feature = "session")]
mod shell;
#[cfg(feature = "session")]
pub mod transport;

#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "store")]
pub mod store;

pub use config::{
    CandidatePolicy, Config, IceServer, Limits, Padding, PlainSignaling, Rekeying, ServerRelays,
    Timeouts,
};
pub use contact::{Contact, Contacts};
pub use entropy::{Entropy, OsEntropy};
pub use error::{CloseCode, Error, Result};
pub use identity::{Identity, InvalidPeerId, PeerId};
pub use invite::{Invite, InviteError};
pub use message::{Content, Message, MessageId, Timestamp};
pub use room::{EndpointId, RoomId};
pub use trust::{MinTrust, PeerTrust};
pub use verify::{InvalidQrPayload, QrPayload, SafetyNumber, ShortCode};

/// The examples of the README compile.
#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
struct Readme;
