//! What must hold of any capture file: it is read to its end or to an error, alike however its bytes
//! come in, in no more memory than they take, and a part of it gives a part of its frames.

use std::io::{self, Read};

use super::rows;
use super::{fingerprint, pick};
use crate::observe::capture::{CaptureError, CaptureReader, Content, Frame};

/// A reader's buffer begins with a quarter of this, and doubles.
const SMALL: usize = 1 << 20;

/// Takes a capture file.
pub fn file(data: &[u8]) {
    let choice = fingerprint(data);
    let whole = Frames::read(data);
    let dribbled = Frames::read(Dribble {
        rest: data,
        most: 1 + pick(choice, 40),
    });
    assert_eq!(whole, dribbled);
    whole.check(data.len());
    let part = Frames::read(&data[..pick(choice, data.len() + 1)]);
    assert!(whole.frames.starts_with(&part.frames));
    rows::check(&whole.frames, choice);
}

/// A file that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) frames: Vec<OwnFrame>,
    cut_off: Option<u64>,
    error: Option<(String, Option<u64>)>,
    drops: Option<u64>,
    capacity: usize,
}

/// A frame that borrows nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnFrame {
    pub(super) at: Option<i64>,
    interface: u32,
    pub(super) content: OwnContent,
}

/// What it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OwnContent {
    Ip { bytes: Vec<u8>, len: usize },
    Duplicate,
    Other,
}

impl Frames {
    pub(super) fn read(input: impl Read) -> Frames {
        let mut read = Frames {
            frames: Vec::new(),
            cut_off: None,
            error: None,
            drops: None,
            capacity: 0,
        };
        let mut reader = match CaptureReader::open(input) {
            Ok(reader) => reader,
            Err(error) => {
                read.error = Some(told(&error));
                return read;
            }
        };
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => read.frames.push(own(&frame)),
                Ok(None) => break,
                Err(error) => {
                    read.error = Some(told(&error));
                    break;
                }
            }
        }
        assert!(matches!(reader.next_frame(), Ok(None)), "it has ended");
        read.cut_off = reader.cut_off();
        read.drops = reader.drops();
        read.capacity = reader.capacity();
        read
    }

    fn check(&self, size: usize) {
        // No record is shorter than pcap's header of a packet.
        assert!(self.frames.len() <= size / 16);
        let mut captured = 0;
        for frame in &self.frames {
            if let OwnContent::Ip { bytes, len } = &frame.content {
                assert!(bytes.len() <= *len);
                captured += bytes.len();
            }
        }
        assert!(captured <= size);
        let offset = match &self.error {
            Some((text, offset)) => {
                assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
                assert_eq!(self.cut_off, None);
                *offset
            }
            None => self.cut_off,
        };
        assert!(offset.is_none_or(|offset| offset < size as u64));
        assert!(self.capacity <= SMALL.max(4 * size));
    }
}

fn own(frame: &Frame<'_>) -> OwnFrame {
    OwnFrame {
        at: frame.at.map(|at| at.0),
        interface: frame.interface,
        content: match frame.content {
            Content::Ip { bytes, len } => OwnContent::Ip {
                bytes: bytes.to_vec(),
                len,
            },
            Content::Duplicate => OwnContent::Duplicate,
            Content::Other => OwnContent::Other,
        },
    }
}

/// What an error says, and of which byte.
fn told(error: &CaptureError) -> (String, Option<u64>) {
    let offset = match error {
        CaptureError::Damaged { offset, .. } => Some(*offset),
        CaptureError::NotACapture(_) | CaptureError::LinkType(_) | CaptureError::Read { .. } => {
            None
        }
    };
    (error.to_string(), offset)
}

/// A stream that gives so many bytes at a time.
struct Dribble<'a> {
    rest: &'a [u8],
    most: usize,
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.most.min(buffer.len());
        self.rest.read(&mut buffer[..count])
    }
}
