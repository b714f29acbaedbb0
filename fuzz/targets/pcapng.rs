//! A pcapng file, damaged record by record: read to its end, and what it holds to CSV.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use probe_fuzz::{Format, mutate};

fuzz_target!(|data: &[u8]| probe::fuzzing::file(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(Format::Pcapng, data, size, max_size, seed)
});
