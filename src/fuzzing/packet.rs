//! What must hold of any packet.

use crate::time::Stamp;
use crate::wire::{Packet, ParseError, checksums_are_right, parse};

/// Takes the frame's length (two bytes), how many bytes of the packet a shorter capture would have
/// (two bytes), and the packet.
pub fn packet(data: &[u8]) {
    let &[l0, l1, c0, c1, ref bytes @ ..] = data else {
        return;
    };
    let frame_len = usize::from(u16::from_be_bytes([l0, l1]));
    let whole = parse(Stamp(0), bytes, frame_len);
    let cut = usize::from(u16::from_be_bytes([c0, c1])) % (bytes.len() + 1);
    let short = parse(Stamp(0), &bytes[..cut], frame_len);
    agree(&whole, &short);
    sums_agree(bytes, cut, frame_len);
    let Ok(Packet::Segment(segment)) = &whole else {
        return;
    };
    let captured = u32::try_from(segment.payload.len()).expect("a payload of 32 bits");
    assert_eq!(captured + segment.cut(), segment.len);
    assert!(segment.options.bytes <= 40);
    assert!(segment.options.window_scale.is_none_or(|shift| shift <= 14));
    // Whatever stands behind a whole packet is the link's.
    if segment.cut() == 0 {
        let padded = [bytes, &[0xaa; 6]].concat();
        agree(&parse(Stamp(0), &padded, frame_len), &whole);
    }
}

/// Of a checksum a shorter capture can only know less.
fn sums_agree(bytes: &[u8], cut: usize, frame_len: usize) {
    for transport in [true, false] {
        let whole = checksums_are_right(bytes, frame_len, transport);
        let short = checksums_are_right(&bytes[..cut], frame_len, transport);
        assert!(short.is_none() || short == whole);
    }
}

/// A capture that has fewer bytes of a packet says less of it, and nothing else.
fn agree(whole: &Result<Packet, ParseError>, short: &Result<Packet, ParseError>) {
    match (whole, short) {
        (Ok(Packet::Segment(whole)), Ok(Packet::Segment(short))) => {
            assert!(whole.payload.starts_with(&short.payload));
            let mut rest = short.clone();
            rest.payload.clone_from(&whole.payload);
            rest.options = whole.options;
            assert_eq!(&rest, whole);
            assert_eq!(short.options.bytes, whole.options.bytes);
        }
        (_, Err(ParseError::Short(_)))
        // The quoted segment is cut off.
        | (Ok(Packet::IcmpError(_)), Ok(Packet::Other)) => {}
        (whole, short) => assert_eq!(whole, short),
    }
}
