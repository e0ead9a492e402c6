#![no_main]
#![allow(
    dead_code,
    reason = "the simulator of the tests has more than this asks for"
)]

#[path = "../../tests/sim/laws.rs"]
mod laws;
#[path = "../../tests/sim/operations.rs"]
mod operations;
#[path = "../../tests/sim/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|data: &[u8]| operations::run(data));
