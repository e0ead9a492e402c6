//! Real sockets on this machine, each test with a deadline.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "a test that goes wrong panics"
)]

#[path = "net/lossy.rs"]
mod lossy;
#[path = "support/lossy_relay.rs"]
#[allow(dead_code, unreachable_pub)]
mod lossy_relay;
#[path = "support/lossy_transport.rs"]
#[allow(dead_code, unreachable_pub)]
mod lossy_transport;
#[path = "net/session.rs"]
mod session;
#[path = "net/signaling.rs"]
mod signaling;
#[path = "net/soak.rs"]
mod soak;
#[path = "net/transport.rs"]
mod transport;
