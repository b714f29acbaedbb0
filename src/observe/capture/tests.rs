use std::io::{self, Read};

use self::build::{Bytes, IPV4, IPV6, ethernet};
use super::endian::Endian;
use super::*;

mod build;
mod damage;
mod links;
mod sections;

/// What a frame was, without borrowing.
type Seen = (Option<i64>, u32, Vec<u8>, usize);

fn seen(frame: &Frame<'_>) -> Seen {
    let (bytes, len) = match frame.content {
        Content::Ip { bytes, len } => (bytes.to_vec(), len),
        Content::Duplicate => (b"duplicate".to_vec(), 0),
        Content::Other => (b"other".to_vec(), 0),
    };
    (frame.at.map(|at| at.0), frame.interface, bytes, len)
}

/// Reads to the end or to an error: the frames, where the file is cut off, the error.
fn read(input: impl Read) -> (Vec<Seen>, Option<u64>, Option<String>) {
    let mut frames = Vec::new();
    let mut reader = match CaptureReader::open(input) {
        Ok(reader) => reader,
        Err(error) => return (frames, None, Some(error.to_string())),
    };
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push(seen(&frame)),
            Ok(None) => return (frames, reader.cut_off(), None),
            Err(error) => {
                assert!(matches!(reader.next_frame(), Ok(None)), "ended by an error");
                return (frames, None, Some(error.to_string()));
            }
        }
    }
}

fn error(input: &[u8]) -> String {
    read(input).2.unwrap_or_default()
}

/// A stream that gives one byte at a time, and an interruption before each.
struct Dribble<'a>(&'a [u8], bool);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = self.0.len().min(1);
        self.0.read(&mut buffer[..count])
    }
}

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const ENDIANS: [Endian; 2] = [Endian::Little, Endian::Big];

/// Two Ethernet frames, the second one cut by the snaplen.
fn small_pcap(endian: Endian, magic: u32) -> Bytes {
    let file = Bytes::new(endian).pcap(magic, 1);
    file.packet((1_700_000_000, 123_456), &ethernet(b"\x08\0", IPV4), 54)
        .packet((1_700_000_001, 7), &ethernet(b"\x86\xdd", IPV6), 1514)
}

#[test]
fn both_byte_orders_and_resolutions_of_pcap() {
    for endian in ENDIANS {
        for (magic, unit) in [(MICROSECONDS, 1_000), (NANOSECONDS, 1)] {
            let (frames, cut_off, error) = read(&small_pcap(endian, magic).bytes[..]);
            let first = 1_700_000_000_000_000_000 + 123_456 * unit;
            let second = 1_700_000_001_000_000_000 + 7 * unit;
            assert_eq!(
                frames,
                [
                    (Some(first), 0, IPV4.to_vec(), 40),
                    (Some(second), 0, IPV6.to_vec(), 1500),
                ]
            );
            assert_eq!((cut_off, error), (None, None));
        }
    }
}

#[test]
fn a_stream_that_dribbles_yields_the_same_frames() {
    let file = small_pcap(Endian::Little, MICROSECONDS).bytes;
    assert_eq!(read(Dribble(&file, false)), read(&file[..]));
}

#[test]
fn a_pcap_file_cut_anywhere_yields_what_was_whole() {
    let file = small_pcap(Endian::Big, NANOSECONDS).bytes;
    let whole = read(&file[..]).0;
    let first = 24 + 16 + 22;
    for cut in 24..file.len() {
        let (frames, cut_off, error) = read(&file[..cut]);
        let (count, begin) = if cut < first { (0, 24) } else { (1, first) };
        assert_eq!(frames, whole[..count], "cut at {cut}");
        let expected = (cut != begin).then_some(begin as u64);
        assert_eq!((cut_off, error), (expected, None), "cut at {cut}");
    }
    for cut in 0..24 {
        assert!(error(&file[..cut]).starts_with("expected a pcap or pcapng file, found "));
    }
}

#[test]
fn a_frame_check_sequence_in_the_link_type_is_tolerated() {
    let file = Bytes::new(Endian::Little).pcap(MICROSECONDS, 0x4400_0001);
    let file = file.packet((0, 0), &ethernet(b"\x08\0", IPV4), 54);
    assert_eq!(read(&file.bytes[..]).0.len(), 1);
}

#[test]
fn an_absurd_length_names_its_offset() {
    let file = small_pcap(Endian::Little, MICROSECONDS);
    let end = file.bytes.len();
    let file = file.u32(0).u32(0).u32((256 << 20) + 1).u32(60).raw(&[0; 8]);
    let (frames, _, error) = read(&file.bytes[..]);
    assert_eq!(frames.len(), 2);
    assert_eq!(
        error.unwrap(),
        format!("the capture is damaged at byte {end}: a packet of 268435457 bytes")
    );
}

#[test]
fn a_length_promised_is_not_allocated() {
    let file = Bytes::new(Endian::Little).pcap(MICROSECONDS, 1);
    let file = file.u32(0).u32(0).u32(256 << 20).u32(60).raw(&[0; 8]);
    let mut reader = CaptureReader::open(&file.bytes[..]).unwrap();
    assert!(reader.next_frame().unwrap().is_none());
    assert_eq!(reader.cut_off(), Some(24));
    assert!(reader.capacity() < 1 << 20);
}

#[test]
fn a_long_packet_is_read_whole() {
    let data = [IPV4, &vec![7; 1 << 20]].concat();
    let file = Bytes::new(Endian::Big).pcap(MICROSECONDS, 101);
    let file = file.packet((0, 0), &data, 1).packet((0, 1), IPV4, 40);
    let (frames, ..) = read(&file.bytes[..]);
    assert_eq!(frames[0].2, data);
    assert_eq!(frames[0].3, data.len(), "never less than was captured");
    assert_eq!(frames[1].2, IPV4);
}

#[test]
fn what_is_no_capture_is_named() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "an empty file"),
        (b"conn,outcome\n1,served\n", "text: \"conn,outcome\\n1,s\""),
        (
            b"\x1f\x8b\x08\0",
            "gzip data; unpack it into a pipe: `zcat FILE |`, and - for the capture",
        ),
        (
            b"\xfd7zXZ\0\0\x04",
            "xz data; unpack it into a pipe: `xzcat FILE |`, and - for the capture",
        ),
        (
            b"\x7fELF\x02",
            "a file that begins with the bytes 7f 45 4c 46",
        ),
        (b"\xd4\xc3\xb2\xa1\x02\0", "6 bytes of a pcap file's header"),
    ];
    for (bytes, found) in cases {
        let expected = format!("expected a pcap or pcapng file, found {found}");
        assert_eq!(error(bytes), expected);
    }
}

#[test]
fn an_unsupported_link_type_is_named_with_those_that_are() {
    let file = Bytes::new(Endian::Little).pcap(MICROSECONDS, 127);
    let error = error(&file.bytes);
    assert!(error.starts_with("link type 127 is not supported; these are: Ethernet (1), "));
}

#[test]
fn a_failed_read_says_where() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("a broken disk"))
        }
    }
    let file = small_pcap(Endian::Little, MICROSECONDS).bytes;
    let (frames, _, error) = read(file.chain(Broken));
    assert_eq!(frames.len(), 2);
    assert_eq!(error.unwrap(), "reading the capture failed at byte 100");
}
