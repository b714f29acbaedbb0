//! Classic pcap (draft-ietf-opsawg-pcap): a file header, then packets one after the other.

use std::io::Read;

use super::endian::Endian;
use super::link::Link;
use super::window::Window;
use super::{CaptureError, MAX_RECORD, Packet, Step};
use crate::time::Stamp;

const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// What the file header says of all packets.
pub(super) struct Pcap {
    endian: Endian,
    /// In a unit of the stamps' second half.
    nanos: i64,
    link: Link,
}

impl Pcap {
    /// Reads the file header; `None` if it is no pcap file.
    pub(super) fn open<R: Read>(window: &mut Window<R>) -> Result<Option<Pcap>, CaptureError> {
        window.fill(FILE_HEADER)?;
        let Some((endian, nanos)) = recognize(window.bytes()) else {
            return Ok(None);
        };
        let header = window.bytes();
        let fields = (endian.u16(header, 4), endian.u32(header, 20));
        let (Some(major), Some(network)) = fields else {
            let found = format!("{} bytes of a pcap file's header", header.len());
            return Err(CaptureError::NotACapture(found));
        };
        if major != 2 {
            let found = format!("version {major} of pcap (2 is supported)");
            return Err(CaptureError::NotACapture(found));
        }
        // The upper half is flags and the length of the frame check sequence.
        let link = Link::from_number(network & 0xffff)?;
        window.consume(FILE_HEADER);
        Ok(Some(Pcap {
            endian,
            nanos,
            link,
        }))
    }

    /// Finds the next packet.
    pub(super) fn next<R: Read>(&mut self, window: &mut Window<R>) -> Result<Step, CaptureError> {
        if !window.fill(PACKET_HEADER)? {
            return Ok(Step::end_of(window));
        }
        let Some(header) = window.bytes().first_chunk::<PACKET_HEADER>() else {
            return Ok(Step::end_of(window));
        };
        let field = |at| self.endian.u32(header, at).unwrap_or_default();
        let (seconds, fraction) = (i64::from(field(0)), i64::from(field(4)));
        let (captured, len) = (field(8) as usize, field(12) as usize);
        if captured > MAX_RECORD {
            return Err(CaptureError::Damaged {
                offset: window.offset(),
                what: format!("a packet of {captured} bytes"),
            });
        }
        let record = PACKET_HEADER + captured;
        if !window.fill(record)? {
            return Ok(Step::end_of(window));
        }
        Ok(Step::Packet(Packet {
            at: Some(Stamp(seconds * 1_000_000_000 + fraction * self.nanos)),
            interface: 0,
            link: self.link,
            data: PACKET_HEADER..record,
            options: 0..0,
            len: len.max(captured),
            record,
        }))
    }
}

fn recognize(bytes: &[u8]) -> Option<(Endian, i64)> {
    [Endian::Little, Endian::Big]
        .into_iter()
        .find_map(|endian| match endian.u32(bytes, 0)? {
            MICROSECONDS => Some((endian, 1_000)),
            NANOSECONDS => Some((endian, 1)),
            _ => None,
        })
}
