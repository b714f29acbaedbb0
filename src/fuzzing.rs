//! Doors for the fuzz targets in fuzz/, which is a package of its own: each takes any bytes and
//! panics where something that must always hold does not. Part of the library only when it is built
//! for fuzzing, and of its tests, which hold the kept inputs to the same.

mod engine;
mod file;
mod packet;
mod rows;
mod script;

pub use engine::engine;
pub use file::file;
pub use packet::packet;
pub use script::script;

/// A number that differs for nearly all inputs (FNV-1a): choices that are the target's own are made
/// by it, so that inputs stay plain files.
fn fingerprint(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A number below `n` out of a fingerprint.
fn pick(fingerprint: u64, n: usize) -> usize {
    usize::try_from((fingerprint >> 17) % n as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[expect(clippy::disallowed_methods, reason = "tests read the kept inputs")]
    fn hold(target: &str, door: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let mut inputs = 0;
        for entry in fs::read_dir(corpus.join(target)).expect("a corpus") {
            door(&fs::read(entry.expect("a file").path()).expect("its bytes"));
            inputs += 1;
        }
        assert!(inputs > 10, "{target} has only {inputs} inputs");
    }

    #[test]
    fn all_that_must_hold_of_packets_holds_of_the_kept_ones() {
        hold("packet", super::packet);
    }

    #[test]
    fn all_that_must_hold_of_pcap_files_holds_of_the_kept_ones() {
        hold("pcap", super::file);
    }

    #[test]
    fn all_that_must_hold_of_pcapng_files_holds_of_the_kept_ones() {
        hold("pcapng", super::file);
    }

    #[test]
    fn all_that_must_hold_of_connections_holds_of_the_kept_ones() {
        hold("capture", super::script);
    }

    #[test]
    fn all_that_must_hold_of_the_engine_holds_of_the_kept_scripts() {
        hold("engine", super::engine);
    }
}
