//! Capture files, made byte by byte.

use super::super::endian::Endian;

/// Bytes in one byte order.
#[derive(Clone)]
pub(super) struct Bytes {
    pub(super) endian: Endian,
    pub(super) bytes: Vec<u8>,
}

impl Bytes {
    pub(super) fn new(endian: Endian) -> Bytes {
        Bytes {
            endian,
            bytes: Vec::new(),
        }
    }

    pub(super) fn u16(mut self, value: u16) -> Bytes {
        self.bytes.extend(match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Bytes {
        self.bytes.extend(match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Bytes {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A classic pcap file's header.
    pub(super) fn pcap(self, magic: u32, link: u32) -> Bytes {
        let version = self.u32(magic).u16(2).u16(4);
        version.u32(0).u32(0).u32(262_144).u32(link)
    }

    /// A classic pcap packet, `len` bytes on the wire.
    pub(super) fn packet(self, at: (u32, u32), data: &[u8], len: u32) -> Bytes {
        let captured = u32::try_from(data.len()).unwrap();
        let header = self.u32(at.0).u32(at.1).u32(captured).u32(len);
        header.raw(data)
    }
}

/// The beginning of an IPv4 packet.
pub(super) const IPV4: &[u8] = &[0x45, 0, 0, 40, 1, 2, 3, 4];
/// The beginning of an IPv6 packet.
pub(super) const IPV6: &[u8] = &[0x60, 0, 0, 0, 0, 20, 6, 64];

/// An Ethernet frame, `tags` being what follows the addresses.
pub(super) fn ethernet(tags: &[u8], ip: &[u8]) -> Vec<u8> {
    [&[0; 12], tags, ip].concat()
}
