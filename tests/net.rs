//! Real sockets on this machine, each test with a deadline.

#[path = "net/session.rs"]
mod session;
#[path = "net/signaling.rs"]
mod signaling;
#[path = "net/transport.rs"]
mod transport;
