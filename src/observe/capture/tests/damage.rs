use proptest::prelude::*;

use super::sections::small_pcapng;
use super::*;

/// Files that are whole, by number.
fn file(number: usize) -> Vec<u8> {
    match number {
        0 => small_pcap(Endian::Little, MICROSECONDS).bytes,
        1 => small_pcap(Endian::Big, NANOSECONDS).bytes,
        2 => small_pcapng(Endian::Little, Endian::Big),
        _ => small_pcapng(Endian::Big, Endian::Little),
    }
}

proptest! {
    #[test]
    fn random_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes[..]);
    }

    #[test]
    fn random_bytes_behind_a_files_beginning_end(
        number in 0..4_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut input = file(number);
        input.extend(bytes);
        let (frames, ..) = read(&input[..]);
        prop_assert!(frames.starts_with(&read(&file(number)[..]).0));
    }

    #[test]
    fn damaged_files_end(
        number in 0..4_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut input = file(number);
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        let cut = cut.index(input.len() + 1);
        let (frames, ..) = read(&input[..cut]);
        prop_assert!(frames.len() <= input.len() / 16);
    }

    #[test]
    fn every_link_layer_takes_any_bytes(
        number in prop::sample::select(vec![0_u32, 1, 12, 14, 101, 108, 113, 228, 229, 276]),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        len in any::<usize>(),
    ) {
        Link::from_number(number).unwrap().content(&bytes, len);
    }
}
