//! Capture files, pcap and pcapng, read as a stream: from a file's or a pipe's bytes to IP packets
//! with their times. What the packets mean is left to [`wire`](crate::wire), opening files to the
//! caller.
//!
//! The readers are our own because of what `pcap-parser` 0.17 does with files that are not quite as
//! usual: in big-endian sections it takes options' numbers for little-endian, it takes a packet
//! longer than its block for the end of the file, it knows no Packet Blocks, and its read errors
//! have no cause.

mod copies;
mod endian;
mod link;
mod pcap;
mod pcapng;
mod sort;
mod window;

use std::fmt::Write;
use std::io::{self, Read};
use std::mem;
use std::ops::Range;

use self::link::Link;
use self::pcap::Pcap;
use self::pcapng::Pcapng;
use self::window::Window;
use crate::time::Stamp;

pub(crate) use self::copies::Copies;
pub(crate) use self::sort::{Sorted, Sorter};

/// No packet is longer; a file that says so is damaged. Far above any snaplen that tools accept.
const MAX_RECORD: usize = 256 << 20;

/// A capture file being read, one frame at a time.
pub(crate) struct CaptureReader<R> {
    window: Window<R>,
    format: Format,
    /// Bytes of the record that the last frame lent from.
    lent: usize,
    ended: bool,
    cut_off: Option<u64>,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// When it was captured, in Unix nanoseconds; pcapng's Simple Packet Blocks do not say.
    pub(crate) at: Option<Stamp>,
    /// Which interface saw it, from 0 on, counted over the whole file: each pcapng section has
    /// interfaces of its own.
    pub(crate) interface: u32,
    /// Where exactly, in a capture that may show a packet at several points.
    pub(crate) point: Option<Point>,
    /// What it holds.
    pub(crate) content: Content<'a>,
    /// What the run says that recorded it; nothing where that is anybody else's.
    pub(crate) run: Option<OfRun<'a>>,
}

/// What a run writes into its own capture besides packets:
/// [`account`](crate::record::account) reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfRun<'a> {
    /// Which of the file's sections this is, from 1 on.
    pub(crate) section: u32,
    /// Of the run as a whole.
    pub(crate) run: &'a str,
    /// Of the connection whose last packet this is: what its socket did.
    pub(crate) socket: Option<&'a str>,
}

/// A point that packets pass: an interface, in or out where the link layer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Point(pub(crate) u64);

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// An IP packet.
    Ip {
        /// The captured bytes from the IP header on, trailing link bytes included.
        bytes: &'a [u8],
        /// How many there were on the wire.
        len: usize,
    },
    /// What loopback sent: it is received there as well, and shown a second time. libpcap leaves
    /// one of the two out by itself, other writers of `-i any` captures do not.
    Duplicate,
    /// Not IP, or cut within the link header.
    Other,
}

/// Why a capture could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// The first bytes are something else.
    #[error("expected a pcap or pcapng file, found {0}")]
    NotACapture(String),
    /// Frames of a link layer that is not known here.
    #[error("link type {0} is not supported; these are: {supported}", supported = link::supported())]
    LinkType(u32),
    /// The file contradicts itself.
    #[error("the capture is damaged at byte {offset}: {what}")]
    Damaged {
        /// Of the record in question.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// The bytes could not be had.
    #[error("reading the capture failed at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// What read() said.
        source: io::Error,
    },
}

/// How the search for the next packet ended.
enum Step {
    Packet(Packet),
    End,
    /// Within the record that begins there.
    CutOff(u64),
}

impl Step {
    /// The stream has no more bytes: its end, if none are left over.
    fn end_of<R: Read>(window: &Window<R>) -> Step {
        if window.bytes().is_empty() {
            Step::End
        } else {
            Step::CutOff(window.offset())
        }
    }
}

/// A packet found: its record stands at the beginning of the window.
struct Packet {
    at: Option<Stamp>,
    interface: u32,
    link: Link,
    /// Where its bytes stand in the window.
    data: Range<usize>,
    /// Bytes on the wire.
    len: usize,
    /// Where its options stand; only pcapng has any.
    options: Range<usize>,
    /// Bytes of the whole record.
    record: usize,
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file header; an error says what was expected and what was found.
    pub(crate) fn open(input: R) -> Result<Self, CaptureError> {
        let mut window = Window::new(input);
        let format = if let Some(pcap) = Pcap::open(&mut window)? {
            Format::Pcap(pcap)
        } else if let Some(pcapng) = Pcapng::open(&mut window)? {
            Format::Pcapng(pcapng)
        } else {
            return Err(CaptureError::NotACapture(describe(window.bytes())));
        };
        Ok(CaptureReader {
            window,
            format,
            lent: 0,
            ended: false,
            cut_off: None,
        })
    }

    /// The next frame in file order; `None` at the end, after an error, and where the file is cut
    /// off, which [`cut_off`](Self::cut_off) then tells.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        if self.ended {
            return Ok(None);
        }
        self.window.consume(mem::take(&mut self.lent));
        let step = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.window),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.window),
        };
        let packet = match step {
            Ok(Step::Packet(packet)) => packet,
            Ok(Step::End) => {
                self.ended = true;
                return Ok(None);
            }
            Ok(Step::CutOff(offset)) => {
                self.ended = true;
                self.cut_off = Some(offset);
                return Ok(None);
            }
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        };
        self.lent = packet.record;
        let window = self.window.bytes();
        let bytes = window.get(packet.data).unwrap_or_default();
        let options = window.get(packet.options).unwrap_or_default();
        let several = match &self.format {
            Format::Pcap(_) => false,
            Format::Pcapng(pcapng) => pcapng.has_several_interfaces(),
        };
        Ok(Some(Frame {
            at: packet.at,
            interface: packet.interface,
            point: packet.link.point(bytes, packet.interface, several),
            content: packet.link.content(bytes, packet.len),
            run: match &self.format {
                Format::Pcap(_) => None,
                Format::Pcapng(pcapng) => pcapng.of_run(options),
            },
        }))
    }

    /// Whether the next frame has still to be read: nothing that was read is left.
    pub(crate) fn is_drained(&self) -> bool {
        self.window.bytes().len() <= self.lent
    }

    /// Where the record begins in which the file ends, once that was reached.
    pub(crate) fn cut_off(&self) -> Option<u64> {
        self.cut_off
    }

    /// How many packets the capturing side says it dropped, in what was read so far; `None` where
    /// it does not say. Only pcapng can.
    pub(crate) fn drops(&self) -> Option<u64> {
        match &self.format {
            Format::Pcap(_) => None,
            Format::Pcapng(pcapng) => pcapng.drops(),
        }
    }

    /// How much memory the bytes in hand take.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        self.window.capacity()
    }
}

/// Magic numbers of compressed files, and what reads them.
const COMPRESSED: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "gzip", "zcat"),
    (b"\xfd7zXZ\0", "xz", "xzcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"),
    (b"BZh", "bzip2", "bzcat"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4cat"),
];

/// What the first bytes of a file that is no capture are.
fn describe(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty file".to_owned();
    }
    for (magic, name, command) in COMPRESSED {
        if bytes.starts_with(magic) {
            return format!(
                "{name} data; unpack it into a pipe: `{command} FILE |`, and - for the capture"
            );
        }
    }
    let head = bytes.get(..16).unwrap_or(bytes);
    if head
        .iter()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
    {
        return format!("text: {:?}", String::from_utf8_lossy(head));
    }
    let mut found = "a file that begins with the bytes".to_owned();
    for byte in bytes.iter().take(4) {
        // Writing to a string cannot fail.
        let _ = write!(found, " {byte:02x}");
    }
    found
}

#[cfg(test)]
mod tests;
