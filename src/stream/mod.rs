//! Streams and files within one reliable channel: a state machine without clock, files or tasks. Messages of the channel
//! come in, messages and events go out. `docs/streams.md` says in numbered rules what travels.
//!
//! ```text
//! giver                              taker
//!   |-- OFFER name, size, content --> |
//!   | <----- ACCEPT offset, credit -- |   or STOP: refused
//!   |-- BEGIN offset, DATA ... -----> |
//!   | <------------------- CREDIT --- |   as its host takes the bytes
//!   |-- END hash -------------------> |   or ABORT
//!   | <--------------------- DONE --- |   or STOP
//! ```
//!
//! Not here: where bytes come from and go to, and the hash, which the host computes where it reads and writes.

mod giving;
mod machine;
mod name;
mod taking;
#[cfg(test)]
mod tests;
mod wire;

pub use machine::{Event, Machine, TooMany};
pub use name::{NOTE_SUFFIX, displayed, file_name, is_note};
pub use wire::{
    DATA_OVERHEAD, GivenId, Kind, MAX_CONTENT, MAX_NAME, Message, Offer, Reason, TakenId, Violation,
};

/// Streams that one side may have given or offered at once (S-4).
pub const MAX_STREAMS: usize = 64;
