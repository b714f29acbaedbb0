//! The whole pure core: connections acted out after a script, recorded, and read to CSV.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| probe::fuzzing::script(data));
