//! The protocol machine under a virtual clock, a seeded network and a hostile server. No sockets, no tasks; a day
//! passes in milliseconds. A failure prints its seed.

#![allow(unreachable_pub, missing_docs)]

#[path = "sim/attacks.rs"]
mod attacks;
#[path = "sim/laws.rs"]
mod laws;
#[path = "sim/mallory.rs"]
mod mallory;
#[path = "sim/victim.rs"]
mod victim;
#[path = "sim/world.rs"]
mod world;

#[path = "sim/meeting.rs"]
mod meeting;
