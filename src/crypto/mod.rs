//! Cryptography: bytes in, bytes out; no clock, no randomness of its own, no knowledge of the protocol's headers.
//!
//! From the bottom up: [`secret`] (bytes that erase themselves), [`kdf`] (every label, one table), [`aead`],
//! [`noise`] (handshakes), [`chain`] (one key per frame), [`epoch`] (what a finished handshake gives).
//!
//! Erasure is best effort: every secret that this module names is overwritten when it goes, and those that outlive
//! a function lie on the heap, so that moves leave no copies. What the compiler spills and what the primitives
//! underneath keep in their own stack frames is out of reach of safe Rust.

pub mod aead;
pub mod chain;
pub mod epoch;
pub mod kdf;
pub mod noise;
pub mod secret;
