//! The signaling server and its client, over real sockets on this machine.
//!
//! `server` speaks raw WebSocket to the server, as strangers do; `client` gives the client good and bad servers;
//! `process` runs the program; `hostile` attacks it; `limits`, `access` and `legacy` test what an operator can ask for,
//! `cluster` several servers that act as one; `npm` lets clients of others meet.

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
#[cfg(target_os = "linux")]
#[path = "signaling/hostile.rs"]
mod hostile;
#[path = "signaling/legacy.rs"]
mod legacy;
#[path = "signaling/limits.rs"]
mod limits;
#[path = "signaling/npm.rs"]
mod npm;
#[path = "signaling/process.rs"]
mod process;
#[path = "signaling/server.rs"]
mod server;
#[path = "signaling/support.rs"]
mod support;
