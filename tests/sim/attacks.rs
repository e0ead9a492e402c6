//! The attacks of docs/protocol.md §21: each test's name begins with the attack's.

#[path = "attacks/frames.rs"]
mod frames;
#[path = "attacks/bounds.rs"]
mod bounds;
#[path = "attacks/chaos.rs"]
mod chaos;
#[path = "attacks/identity.rs"]
mod identity;
#[path = "attacks/invites.rs"]
mod invites;
#[path = "attacks/peer.rs"]
mod peer;
#[path = "attacks/tamper.rs"]
mod tamper;
#[path = "attacks/replay.rs"]
mod replay;
#[path = "attacks/relay.rs"]
mod relay;
