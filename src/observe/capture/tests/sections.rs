use super::build::halves;
use super::*;

/// Every kind of block: two sections in different byte orders, the first with two interfaces.
pub(super) fn small_pcapng(first: Endian, second: Endian) -> Vec<u8> {
    let names = |body: Bytes| body.raw(b"\0\0\0\0 names");
    let one = Bytes::new(first).section().interface(1).interface(101);
    let one = one
        .block(4, names)
        .enhanced(1, 1_700_000_000_000_001, IPV4, 40)
        .enhanced(0, 7, &ethernet(b"\x08\0", IPV4), 54)
        .block(5, |body| body.u32(0).u32(0).u32(0).number(5, 3))
        .block(0x0bad, |body| body.raw(b"custom"));
    let two = Bytes::new(second).section().interface(101);
    let two = two
        .block(2, |body| {
            let fields = body.u16(0).u16(9).u32(0).u32(8).u32(8).u32(1500);
            fields.raw(IPV6)
        })
        .block(3, |body| body.u32(8).raw(IPV4))
        .block(5, |body| body.u32(0).u32(0).u32(0).number(7, 4));
    [one.bytes, two.bytes].concat()
}

#[test]
fn sections_have_their_own_byte_order_and_interfaces() {
    for first in ENDIANS {
        for second in ENDIANS {
            let (frames, cut_off, error) = read(&small_pcapng(first, second)[..]);
            assert_eq!((cut_off, error), (None, None));
            assert_eq!(
                frames,
                [
                    (Some(1_700_000_000_000_001_000), 1, IPV4.to_vec(), 40),
                    (Some(7_000), 0, IPV4.to_vec(), 40),
                    (Some(8_000), 2, IPV6.to_vec(), 1500),
                    (None, 2, IPV4.to_vec(), 8),
                ]
            );
        }
    }
}

#[test]
fn a_pcapng_file_cut_anywhere_yields_what_was_whole() {
    let file = small_pcapng(Endian::Little, Endian::Big);
    let whole = read(&file[..]).0;
    for cut in 12..file.len() {
        let (frames, cut_off, error) = read(&file[..cut]);
        assert!(whole.starts_with(&frames), "cut at {cut}");
        assert_eq!(error, None, "cut at {cut}");
        // It ends between two blocks, or the last one begins at a whole one's end.
        let end = cut_off.map_or(cut, |offset| usize::try_from(offset).unwrap());
        assert!(end <= cut);
        let again = (end >= 12).then(|| read(&file[..end]));
        assert!(
            again.is_none_or(|again| again == (frames, None, None)),
            "{cut}"
        );
    }
    assert_eq!(read(&file[..file.len() - 1]).0, whole);
    for cut in 0..12 {
        assert!(error(&file[..cut]).starts_with("expected a pcap or pcapng file, found "));
    }
}

/// What a packet's `ticks` are where the interface has these options.
fn stamp(endian: Endian, ticks: u64, options: impl FnOnce(Bytes) -> Bytes) -> Option<i64> {
    let file = Bytes::new(endian).section();
    let file = file.block(1, |body| options(body.u16(101).u16(0).u32(0)));
    read(&file.enhanced(0, ticks, IPV4, 40).bytes[..]).0[0].0
}

#[test]
fn stamps_count_what_the_interface_says() {
    let second = 1_000_000_000;
    let cases: [(u8, u64, i64); 9] = [
        (6, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (0, 1_700_000_000, 1_700_000_000 * second),
        (3, 5, 5_000_000),
        (12, 1_234_567, 1_234),
        (127, u64::MAX, 0),
        (
            0x80 | 20,
            (1_700_000_000 << 20) + 1,
            1_700_000_000 * second + 953,
        ),
        (0x80 | 127, u64::MAX, 0),
        // No file is from so late: bounded, not wrapped.
        (0, u64::MAX, i64::MAX),
    ];
    for endian in ENDIANS {
        for (resolution, ticks, nanos) in cases {
            let at = stamp(endian, ticks, |body| body.option(9, &[resolution]));
            assert_eq!(at, Some(nanos), "resolution {resolution:#x}");
        }
        let minus_two = u64::MAX - 1;
        let at = stamp(endian, 5_000_000, |body| body.number(14, minus_two));
        assert_eq!(at, Some(3 * second));
    }
}

#[test]
fn options_that_make_no_sense_are_left_alone() {
    let options: [&[u8]; 4] = [
        b"\x09\0\x01",
        b"\x09\0\xff\xff\x09\0\0\0",
        b"\x09\0\0\0\x0e\0\x04\0\x01\x01\x01\x01",
        b"\0\0\0\0\x09\0\x01\0\x09\0\0\0",
    ];
    for options in options {
        let at = stamp(Endian::Little, 5, |body| body.raw(options));
        assert_eq!(at, Some(5_000), "{options:02x?}");
    }
}

#[test]
fn a_simple_packet_ends_where_the_snaplen_says() {
    let file = Bytes::new(Endian::Big).section();
    let file = file.block(1, |body| body.u16(101).u16(0).u32(6));
    let file = file.block(3, |body| body.u32(1500).raw(&IPV4[..6]));
    let expected = (None, 0, IPV4[..6].to_vec(), 1500);
    assert_eq!(read(&file.bytes[..]).0, [expected]);
}

/// What is dropped according to statistics blocks, each an interface and its options.
fn drops(blocks: &[(u32, &[(u16, u64)])]) -> Option<u64> {
    let mut file = Bytes::new(Endian::Little).section();
    file = file.interface(1).interface(1);
    for (id, counts) in blocks {
        file = file.block(5, |body| {
            let [high, low] = halves(1 << 40);
            let fields = body.u32(*id).u32(high).u32(low);
            let counted = counts.iter();
            counted.fold(fields, |body, (code, count)| body.number(*code, *count))
        });
    }
    let mut reader = CaptureReader::open(&file.bytes[..]).unwrap();
    assert_eq!(reader.next_frame().unwrap(), None);
    reader.drops()
}

#[test]
fn drops_are_each_interfaces_latest_summed_up() {
    assert_eq!(drops(&[]), None);
    assert_eq!(drops(&[(0, &[(4, 100)])]), None, "received is not dropped");
    assert_eq!(drops(&[(0, &[(4, 100), (5, 0)])]), Some(0));
    assert_eq!(drops(&[(0, &[(5, 1), (7, 2)]), (1, &[(7, 4)])]), Some(7));
    assert_eq!(drops(&[(0, &[(5, 1)]), (0, &[(5, 3)])]), Some(3));
    assert_eq!(drops(&[(0, &[(5, u64::MAX), (7, 1)])]), Some(u64::MAX));
    assert_eq!(drops(&[(9, &[(5, 1)])]), None, "no such interface");
}

#[test]
fn drops_that_packets_count_are_summed_up_unless_statistics_know_of_more() {
    let dropping = |file: Bytes, count| {
        file.block(6, |body| {
            let fields = body.u32(0).u32(0).u32(5).u32(2).u32(60).raw(b"ab\0\0");
            fields.option(2, &[0; 4]).number(4, count).option(0, b"")
        })
    };
    let statistics =
        |file: Bytes, count| file.block(5, |body| body.u32(0).u32(0).u32(9).number(7, count));
    let drops = |file: Bytes| {
        let mut reader = CaptureReader::open(&file.bytes[..]).unwrap();
        while reader.next_frame().unwrap().is_some() {}
        reader.drops()
    };
    for endian in [Endian::Little, Endian::Big] {
        let start = Bytes::new(endian).section().interface(1);
        let packets = dropping(dropping(start, 3), 4);
        assert_eq!(drops(packets.clone()), Some(7));
        assert_eq!(drops(statistics(packets.clone(), 9)), Some(9));
        assert_eq!(drops(statistics(packets, 0)), Some(7));
    }
}

#[test]
fn drops_of_earlier_sections_count() {
    let file = small_pcapng(Endian::Little, Endian::Big);
    let mut reader = CaptureReader::open(&file[..]).unwrap();
    assert_eq!(reader.drops(), None);
    while reader.next_frame().unwrap().is_some() {}
    assert_eq!(reader.drops(), Some(7));
}

#[test]
fn blocks_that_contradict_themselves_name_their_offset() {
    let start = Bytes::new(Endian::Little).section().interface(101);
    let end = start.bytes.len();
    let short = |kind| start.clone().block(kind, |body| body);
    let cases = [
        (
            start.clone().u32(6).u32(33).raw(&[0; 64]),
            "a block of 33 bytes",
        ),
        (
            start.clone().u32(99).u32(8).raw(&[0; 64]),
            "a block of 8 bytes",
        ),
        (
            start.clone().u32(99).u32(1 << 31).raw(&[0; 64]),
            "a block of 2147483648 bytes",
        ),
        (
            start.clone().u32(5).u32(16).u32(0).u32(20),
            "a block of 16 bytes that ends with 20",
        ),
        (short(6), "a block of type 6 in only 12 bytes"),
        (short(3), "a block of type 3 in only 12 bytes"),
        (short(1), "a block of type 1 in only 12 bytes"),
        (
            start
                .clone()
                .block(0x0a0d_0d0a, |body| body.u32(0x1a2b_3c4d)),
            "a block of type 168627466 in only 16 bytes",
        ),
        (
            start.clone().block(0x0a0d_0d0a, |body| body.raw(&[0; 16])),
            "a section without a byte order",
        ),
        (
            start.clone().enhanced(1, 0, IPV4, 40),
            "a packet of interface 1, of 1 declared",
        ),
        (
            start
                .clone()
                .block(6, |body| body.raw(&[0; 12]).u32(9).u32(9).raw(IPV4)),
            "a packet of 9 bytes in a block of 40",
        ),
    ];
    for (file, what) in cases {
        let expected = format!("the capture is damaged at byte {end}: {what}");
        assert_eq!(error(&file.bytes), expected);
    }
}

#[test]
fn an_unsupported_interface_matters_once_it_has_a_packet() {
    let file = Bytes::new(Endian::Little).section();
    let file = file.interface(101).interface(127).enhanced(0, 1, IPV4, 40);
    let (frames, _, error) = read(&file.bytes[..]);
    assert_eq!((frames.len(), error), (1, None));
    let (frames, _, error) = read(&file.enhanced(1, 2, IPV4, 40).bytes[..]);
    assert_eq!(frames.len(), 1);
    assert!(error.unwrap().starts_with("link type 127 is not supported"));
}

/// A section with these options and one packet with those.
fn section_of_run(endian: Endian, section: &[(u16, &[u8])], packet: &[(u16, &[u8])]) -> Vec<u8> {
    let with = |bytes: Bytes, options: &[(u16, &[u8])]| {
        let all = options
            .iter()
            .fold(bytes, |bytes, (code, value)| bytes.option(*code, value));
        all.option(0, b"")
    };
    let file = Bytes::new(endian).block(0x0a0d_0d0a, |body| {
        let fields = body.u32(0x1a2b_3c4d).u16(1).u16(0).raw(&[0xff; 8]);
        with(fields, section)
    });
    // Seven bytes: options begin behind the padding.
    let file = file.interface(101).block(6, |body| {
        let fields = body.u32(0).u32(0).u32(7).u32(7).u32(40);
        with(fields.raw(&IPV4[..7]).raw(&[0]), packet)
    });
    file.bytes
}

#[test]
fn what_a_run_says_of_itself_comes_with_its_packets() {
    let ours: &[(u16, &[u8])] = &[
        (4, b"probe 0.1.0"),
        (1, b"probe demo"),
        (1, b"probe.run format=1"),
    ];
    let packet: &[(u16, &[u8])] = &[
        (1, b"a remark"),
        (2, b"\0\0\0\0"),
        (1, b"probe.socket conn=1"),
    ];
    for endian in ENDIANS {
        let once = section_of_run(endian, ours, packet);
        let file = [once.clone(), once].concat();
        let mut reader = CaptureReader::open(file.as_slice()).unwrap();
        for section in [1, 2] {
            let frame = reader.next_frame().unwrap().unwrap();
            let run = frame.run.unwrap();
            assert_eq!((run.section, run.run), (section, "probe.run format=1"));
            assert_eq!(run.socket, Some("probe.socket conn=1"));
        }
    }
}

#[test]
fn what_others_wrote_says_nothing_of_a_run() {
    let mark: (u16, &[u8]) = (1, b"probe.run format=1");
    let remark: (u16, &[u8]) = (1, b"probe.socket conn=1");
    for section in [
        &[(4_u16, &b"Mergecap"[..]), mark][..],
        &[(4, b"probe 0.1.0")],
        &[mark],
    ] {
        let file = section_of_run(Endian::Little, section, &[remark]);
        let mut reader = CaptureReader::open(file.as_slice()).unwrap();
        assert_eq!(reader.next_frame().unwrap().unwrap().run, None);
    }
}

#[test]
fn a_runs_packets_need_no_remarks() {
    let ours: &[(u16, &[u8])] = &[(4, b"probe 0.1.0"), (1, b"probe.run format=1")];
    for packet in [&[][..], &[(1, &b"\xff\xfe"[..])], &[(1, b"somebody's own")]] {
        let file = section_of_run(Endian::Big, ours, packet);
        let mut reader = CaptureReader::open(file.as_slice()).unwrap();
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!(frame.run.unwrap().socket, None);
    }
}
