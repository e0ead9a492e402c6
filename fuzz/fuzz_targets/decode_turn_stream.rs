#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sealwire::fuzzing::turn_stream(data));
