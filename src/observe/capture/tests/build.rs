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

    /// A pcapng block around `body`, padded.
    pub(super) fn block(self, kind: u32, body: impl FnOnce(Bytes) -> Bytes) -> Bytes {
        let mut body = body(Bytes::new(self.endian)).bytes;
        body.resize(body.len().next_multiple_of(4), 0);
        let len = u32::try_from(body.len()).unwrap() + 12;
        self.u32(kind).u32(len).raw(&body).u32(len)
    }

    /// A pcapng option, padded.
    pub(super) fn option(self, code: u16, value: &[u8]) -> Bytes {
        let len = u16::try_from(value.len()).unwrap();
        let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
        self.u16(code).u16(len).raw(value).raw(&padding)
    }

    /// A pcapng option that holds a number.
    pub(super) fn number(self, code: u16, value: u64) -> Bytes {
        let bytes = match self.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        };
        self.option(code, &bytes)
    }

    /// A section's header, with an option.
    pub(super) fn section(self) -> Bytes {
        self.block(0x0a0d_0d0a, |body| {
            let fields = body.u32(0x1a2b_3c4d).u16(1).u16(0);
            fields.raw(&[0xff; 8]).option(4, b"probe").option(0, b"")
        })
    }

    /// An interface without options: microseconds.
    pub(super) fn interface(self, link: u16) -> Bytes {
        self.block(1, |body| body.u16(link).u16(0).u32(0))
    }

    /// An Enhanced Packet Block, `len` bytes on the wire.
    pub(super) fn enhanced(self, interface: u32, ticks: u64, data: &[u8], len: u32) -> Bytes {
        let captured = u32::try_from(data.len()).unwrap();
        let [high, low] = halves(ticks);
        self.block(6, |body| {
            let fields = body.u32(interface).u32(high).u32(low);
            fields.u32(captured).u32(len).raw(data)
        })
    }
}

/// A stamp's upper and lower half.
pub(super) fn halves(ticks: u64) -> [u32; 2] {
    [ticks >> 32, ticks & 0xffff_ffff].map(|half| u32::try_from(half).unwrap())
}

/// The beginning of an IPv4 packet.
pub(super) const IPV4: &[u8] = &[0x45, 0, 0, 40, 1, 2, 3, 4];
/// The beginning of an IPv6 packet.
pub(super) const IPV6: &[u8] = &[0x60, 0, 0, 0, 0, 20, 6, 64];

/// An Ethernet frame, `tags` being what follows the addresses.
pub(super) fn ethernet(tags: &[u8], ip: &[u8]) -> Vec<u8> {
    [&[0; 12], tags, ip].concat()
}
