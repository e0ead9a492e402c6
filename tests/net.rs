//! Real sockets on this machine, each test with a deadline.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "a test that goes wrong panics"
)]

#[path = "net/browser.rs"]
mod browser;
#[path = "net/session.rs"]
mod session;
#[path = "net/signaling.rs"]
mod signaling;
#[path = "net/transport.rs"]
mod transport;
