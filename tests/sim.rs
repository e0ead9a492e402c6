//! The protocol machine under a virtual clock, a seeded network and a hostile server. No sockets, no tasks; a day
//! passes in milliseconds. A failure prints its seed.

#![allow(
    clippy::panic,
    clippy::print_stderr,
    for_loops_over_fallibles,
    clippy::wildcard_enum_match_arm,
    dead_code,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "a test that goes wrong panics, and asks only for what it looks at"
)]

#[path = "sim/attacks.rs"]
mod attacks;
#[path = "sim/laws.rs"]
mod laws;
#[path = "sim/mallory.rs"]
mod mallory;
#[path = "sim/thief.rs"]
mod thief;
#[path = "sim/victim.rs"]
mod victim;
#[path = "sim/world.rs"]
mod world;

#[path = "sim/history.rs"]
mod history;
#[path = "sim/meeting.rs"]
mod meeting;
#[path = "sim/operations.rs"]
mod operations;
#[path = "sim/rekey.rs"]
mod rekey;
#[path = "sim/replayed.rs"]
mod replayed;
#[path = "sim/resume.rs"]
mod resume;
#[path = "sim/suspension.rs"]
mod suspension;
#[path = "sim/untaken.rs"]
mod untaken;
#[path = "sim/visit.rs"]
mod visit;
