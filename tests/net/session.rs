//! Whole sessions over real WebRTC, introduced by a real server over real WebSockets, all on this machine.

#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by a panic, in its helpers too"
)]

#[path = "session/cancel.rs"]
mod cancel;
#[path = "session/channels.rs"]
mod channels;
#[cfg(unix)]
#[path = "session/chat.rs"]
mod chat;
#[path = "session/connect.rs"]
mod connect;
#[path = "session/contacts.rs"]
mod contacts;
#[path = "session/cutting.rs"]
mod cutting;
#[path = "session/diagnose.rs"]
mod diagnose;
#[path = "session/failures.rs"]
mod failures;
#[path = "session/files.rs"]
mod files;
#[path = "session/flow.rs"]
mod flow;
#[path = "session/history.rs"]
mod history;
#[path = "session/life.rs"]
mod life;
#[path = "session/process.rs"]
mod process;
#[path = "session/reconnect.rs"]
mod reconnect;
#[path = "session/restarts.rs"]
mod restarts;
#[path = "session/sources.rs"]
mod sources;
#[path = "session/streams.rs"]
mod streams;
#[path = "session/support.rs"]
mod support;
