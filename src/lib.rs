//! sealwire: end-to-end encrypted messages directly between people's devices. (local build of the transport branch)
#![allow(dead_code, unused_imports)]

mod config;
mod protocol {
    pub(crate) mod sdp;
}
#[cfg(feature = "client")]
pub mod transport;

pub use config::{CandidatePolicy, Config, IceServer, Limits, Timeouts};
