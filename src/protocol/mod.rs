//! The protocol: a state machine without clock, randomness, socket or task.
//!
//! Bytes and time go in ([`Input`]), bytes and events come out ([`Output`]); [`Machine`] owns the layers. The session
//! drives it over real networks, the simulator and the fuzzer over imagined ones. Rules are cited by their numbers in
//! `docs/protocol.md`.

mod attempt;
mod blob;
mod channel;
mod claim;
mod closing;
mod commit;
mod control;
mod conversation;
mod delivery;
mod frame;
mod handshake;
mod initiator;
mod io;
mod join;
mod lossy;
mod machine;
mod pair;
mod query;
mod record;
mod rekey;
mod reset;
mod responder;
mod resume;
mod route;
mod sas;
pub(crate) mod sdp;
mod secure;
mod sig;
#[cfg(test)]
mod tests;
mod traffic;
mod waits;
mod watch;

#[doc(hidden)]
pub use blob::{Blob, Mode};
#[doc(hidden)]
pub use control::{Control, Ready};
#[doc(hidden)]
pub use frame::{FRAME_OVERHEAD, open_frame, padme, seal_frame};
pub use io::{CloseHow, Delivery, Event, Input, LinkId, Now, Output, Reason};
pub use machine::{ChannelOffer, Machine, Meeting, Setup};
#[doc(hidden)]
pub use record::{Bye, Caps, ChannelEntry, Payload, PayloadKind, SigSender};

/// The version of the protocol that this crate speaks: the first byte of HS1.
pub const VERSION: u8 = 1;
