//! The attacks of docs/protocol.md §21: each test's name begins with the attack's.

#[path = "attacks/bounds.rs"]
mod bounds;
#[path = "attacks/candidates.rs"]
mod candidates;
#[path = "attacks/chaos.rs"]
mod chaos;
#[path = "attacks/crowds.rs"]
mod crowds;
#[path = "attacks/epochs.rs"]
mod epochs;
#[path = "attacks/frames.rs"]
mod frames;
#[path = "attacks/glare.rs"]
mod glare;
#[path = "attacks/greed.rs"]
mod greed;
#[path = "attacks/identity.rs"]
mod identity;
#[path = "attacks/insiders.rs"]
mod insiders;
#[path = "attacks/invites.rs"]
mod invites;
#[path = "attacks/kem.rs"]
mod kem;
#[path = "attacks/liars.rs"]
mod liars;
#[path = "attacks/lossy.rs"]
mod lossy;
#[path = "attacks/payloads.rs"]
mod payloads;
#[path = "attacks/peer.rs"]
mod peer;
#[path = "attacks/points.rs"]
mod points;
#[path = "attacks/relay.rs"]
mod relay;
#[path = "attacks/replay.rs"]
mod replay;
#[path = "attacks/rules.rs"]
mod rules;
#[path = "attacks/sas.rs"]
mod sas;
#[path = "attacks/secrets.rs"]
mod secrets;
#[path = "attacks/splice.rs"]
mod splice;
#[path = "attacks/tamper.rs"]
mod tamper;
#[path = "attacks/theft.rs"]
mod theft;
