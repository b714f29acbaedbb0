//! What a packet holds beyond what is read of it, in two numbers: enough to tell whether two captures
//! of one packet are the same.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use foldhash::fast::FixedState;
use pnet_packet::ip::IpNextHeaderProtocols;

use super::ip;

/// Payload behind this is left out: a live run keeps no more of it.
const PAYLOAD: usize = 4_000;
/// Where checksums stand (RFC 791 3.1, RFC 9293 3.1).
const IPV4_CHECKSUM: Range<usize> = 10..12;
const TCP_CHECKSUM: Range<usize> = 16..18;

/// Packets of one content have equal digests; others, but for chance, have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    header: u64,
    payload: u64,
    /// How many bytes each was made from: captures with different snap lengths tell less.
    header_len: u16,
    payload_len: u16,
}

/// What two digests say of their packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// The same, as far as both were captured.
    Same,
    /// Something in the IP or TCP header differs that is not a checksum.
    Header,
    /// The payload differs.
    Payload,
}

impl Digest {
    /// The digest of a TCP segment that begins at its IP header; `frame_len` as in
    /// [`parse`](super::parse). Nothing where it is no TCP segment. Checksums are left out: where
    /// they are offloaded each capture shows another.
    pub fn of(bytes: &[u8], frame_len: usize) -> Option<Digest> {
        let found = ip::locate(bytes, frame_len).ok()?;
        if found.protocol != IpNextHeaderProtocols::Tcp.0 || found.fragment {
            return None;
        }
        let tcp = found.bytes;
        let data_offset = usize::from(tcp.get(12)? >> 4) * 4;
        let (header, payload) = tcp.split_at(data_offset.min(tcp.len()));
        // `found.bytes` is a part of `bytes`: what stands before it are the IP headers.
        let ip_header = &bytes[..tcp.as_ptr().addr() - bytes.as_ptr().addr()];
        let ip_checksum = (bytes.first()? >> 4 == 4).then_some(IPV4_CHECKSUM);
        let mut hasher = FixedState::default().build_hasher();
        write_without(&mut hasher, ip_header, ip_checksum);
        write_without(&mut hasher, header, Some(TCP_CHECKSUM));
        let payload = &payload[..payload.len().min(PAYLOAD)];
        let header_len = ip_header.len() + header.len();
        Some(Digest {
            header: hasher.finish(),
            payload: FixedState::default().hash_one(payload),
            header_len: u16::try_from(header_len).unwrap_or(u16::MAX),
            payload_len: u16::try_from(payload.len()).unwrap_or(u16::MAX),
        })
    }

    /// The digest of a packet that a test made up.
    #[cfg(test)]
    pub(crate) fn made_up(header: u64, payload: u64) -> Digest {
        Digest {
            header,
            payload,
            header_len: 40,
            payload_len: 0,
        }
    }

    /// Whether the two packets are the same, as far as both were captured.
    pub fn likeness(&self, other: &Digest) -> Likeness {
        if self.header_len == other.header_len && self.header != other.header {
            Likeness::Header
        } else if self.payload_len == other.payload_len && self.payload != other.payload {
            Likeness::Payload
        } else {
            Likeness::Same
        }
    }
}

fn write_without(hasher: &mut impl Hasher, bytes: &[u8], hole: Option<Range<usize>>) {
    let hole = hole.filter(|hole| hole.end <= bytes.len());
    let hole = hole.unwrap_or(bytes.len()..bytes.len());
    hasher.write(&bytes[..hole.start]);
    hasher.write(&bytes[hole.end..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        let mut bytes = vec![0_u8; 20 + 32 + 5];
        bytes[0] = 0x45;
        bytes[3] = 57;
        bytes[9] = 6;
        bytes[32] = 8 << 4;
        bytes
    }

    fn likeness(change: impl Fn(&mut Vec<u8>)) -> Likeness {
        let mut changed = packet();
        change(&mut changed);
        let digest = |bytes: &[u8]| Digest::of(bytes, 57).unwrap();
        digest(&packet()).likeness(&digest(&changed))
    }

    #[test]
    fn any_byte_counts_but_those_of_checksums() {
        for at in (0..57).filter(|at| ![0, 2, 3, 6, 7, 9, 32].contains(at)) {
            let found = likeness(|bytes| bytes[at] ^= 1);
            let expected = match at {
                10 | 11 | 36 | 37 => Likeness::Same,
                0..52 => Likeness::Header,
                _ => Likeness::Payload,
            };
            assert_eq!(found, expected, "byte {at}");
        }
    }

    #[test]
    fn what_one_capture_cut_off_is_not_held_against_it() {
        assert_eq!(likeness(|bytes| bytes.truncate(54)), Likeness::Same);
        assert_eq!(likeness(|bytes| bytes.truncate(40)), Likeness::Same);
    }

    #[test]
    fn only_tcp_has_one() {
        let mut udp = packet();
        udp[9] = 17;
        assert_eq!(Digest::of(&udp, 57), None);
        assert_eq!(Digest::of(&[], 0), None);
    }
}
