//! The signaling server and its client, over real sockets on this machine.
//!
//! `server` speaks raw WebSocket to the server, as strangers do; `client` gives the client good and bad servers;
//! `process` runs the program; `limits`, `access` and `legacy`
//! test what an operator can ask for, `cluster` several servers that act as one.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by a panic, in its helpers too"
)]

#[path = "signaling/access.rs"]
mod access;
#[path = "signaling/client.rs"]
mod client;
#[path = "signaling/cluster.rs"]
mod cluster;
#[path = "signaling/legacy.rs"]
mod legacy;
#[path = "signaling/limits.rs"]
mod limits;
#[path = "signaling/process.rs"]
mod process;
#[path = "signaling/server.rs"]
mod server;
#[path = "signaling/support.rs"]
mod support;
