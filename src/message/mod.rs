//! Messages: what a host sends and receives, and the bytes they travel as.
//!
//! Nothing here knows about keys, channels or the network; `codec` is all that a peer's bytes meet first.

pub(crate) mod codec;
mod id;
mod model;
mod timestamp;

pub use codec::CodecError;
#[doc(hidden)]
pub use codec::{decode, encode};
pub use id::{InvalidMessageId, MessageDirection, MessageId};
pub use model::{Content, Message};
pub use timestamp::Timestamp;
