//! The raw engine's TCP: calls and segments after a script, held to what can follow from them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| probe::fuzzing::engine(data));
