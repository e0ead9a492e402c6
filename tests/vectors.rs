//! Conformance vectors: our own, and those of others against our use of the primitives. Where the data is from, and
//! what was cut, stands in `tests/vectors/README.md` and `tests/data/README.md`.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_debug_implementations,
    unreachable_pub,
    reason = "clippy.toml allows them in test functions, not in what those call"
)]

#[path = "interop/run.rs"]
mod interop;
#[path = "vectors/kem.rs"]
mod kem;
#[path = "vectors/own.rs"]
mod own;
#[path = "vectors/rfc.rs"]
mod rfc;
#[path = "vectors/support.rs"]
mod support;
#[path = "vectors/wycheproof.rs"]
mod wycheproof;
