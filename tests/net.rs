//! Real sockets on this machine, each test with a deadline.

#[path = "net/signaling.rs"]
mod signaling;
