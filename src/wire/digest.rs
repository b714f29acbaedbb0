//! What a packet holds beyond what is read of it, in two numbers: enough to tell whether two captures
//! of one packet are the same.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use foldhash::fast::FixedState;
use pnet_packet::ip::IpNextHeaderProtocols;

use super::ip;

/// Payload behind this is left out: a live run keeps no more of it.
const PAYLOAD: usize = 4_000;
/// Up to where payload is looked at by itself as well, so that a packet that one capture cut can be
/// held against a longer one: half as much is lost at most.
const STEPS: [usize; 8] = [16, 32, 64, 128, 256, 512, 1_024, 2_048];
/// Where checksums stand (RFC 791 3.1, RFC 9293 3.1).
const IPV4_CHECKSUM: Range<usize> = 10..12;
const TCP_CHECKSUM: Range<usize> = 16..18;

/// Packets of one content have equal digests; others, but for chance, have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Of the IP and TCP headers, if they were captured whole.
    header: Option<u64>,
    /// Of the captured payload, and of its first bytes up to each step.
    payload: u64,
    steps: [u32; STEPS.len()],
    /// How much of it was captured.
    captured: u16,
    /// Whether more was on the wire.
    cut: bool,
}

/// What two digests say of their packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// The same.
    Same,
    /// The same as far as it can be told: one of the two was cut.
    SameInPart,
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
        let on_wire = found.len.saturating_sub(data_offset).min(PAYLOAD);
        let payload = &payload[..payload.len().min(PAYLOAD)];
        // `found.bytes` is a part of `bytes`: what stands before it are the IP headers.
        let ip_header = &bytes[..tcp.as_ptr().addr() - bytes.as_ptr().addr()];
        let whole_header = header.len() == data_offset;
        let mut steps = [0; STEPS.len()];
        for (step, &len) in steps.iter_mut().zip(&STEPS) {
            // Half of the hash: what is compared by it is a rest.
            *step = payload
                .get(..len)
                .map_or(0, |bytes| (hash(bytes) >> 32) as u32);
        }
        Some(Digest {
            header: whole_header.then(|| hash_headers(bytes, ip_header, header)),
            payload: hash(payload),
            steps,
            captured: u16::try_from(payload.len()).unwrap_or(u16::MAX),
            cut: !whole_header || payload.len() < on_wire,
        })
    }

    /// The digest of a packet that a test made up.
    #[cfg(test)]
    pub(crate) fn made_up(header: u64, payload: u64) -> Digest {
        Digest {
            header: Some(header),
            payload,
            steps: [0; STEPS.len()],
            captured: 0,
            cut: false,
        }
    }

    /// Whether the two packets are the same, as far as both were captured.
    pub fn likeness(&self, other: &Digest) -> Likeness {
        if let (Some(mine), Some(theirs)) = (self.header, other.header)
            && mine != theirs
        {
            return Likeness::Header;
        }
        let same = if self.captured == other.captured {
            self.payload == other.payload
        } else {
            let both = usize::from(self.captured.min(other.captured));
            let reached = STEPS.iter().rposition(|&step| step <= both);
            reached.is_none_or(|step| self.steps[step] == other.steps[step])
        };
        match (same, self.cut || other.cut) {
            (false, _) => Likeness::Payload,
            (true, true) => Likeness::SameInPart,
            (true, false) => Likeness::Same,
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    FixedState::default().hash_one(bytes)
}

fn hash_headers(packet: &[u8], ip: &[u8], tcp: &[u8]) -> u64 {
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let mut hasher = FixedState::default().build_hasher();
    write_without(&mut hasher, ip, is_v4.then_some(IPV4_CHECKSUM));
    write_without(&mut hasher, tcp, Some(TCP_CHECKSUM));
    hasher.finish()
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
        assert_eq!(likeness(|bytes| bytes.truncate(54)), Likeness::SameInPart);
        assert_eq!(likeness(|bytes| bytes.truncate(40)), Likeness::SameInPart);
    }

    #[test]
    fn options_that_are_gone_are_no_cut() {
        let shorter = likeness(|bytes| {
            bytes.drain(40..52);
            bytes[3] = 45;
            bytes[32] = 5 << 4;
        });
        assert_eq!(shorter, Likeness::Header);
    }

    #[test]
    fn what_both_captured_of_a_cut_packet_is_compared() {
        let packet = |payload: &[u8]| {
            let mut bytes = packet();
            bytes.truncate(52);
            bytes.extend(payload);
            bytes
        };
        let digest = |payload: &[u8]| {
            let mut whole = packet(payload);
            // Of 100 on the wire.
            whole[3] = 152;
            Digest::of(&whole, 152).unwrap()
        };
        let (whole, cut) = ([7; 100], [7; 40]);
        assert_eq!(digest(&whole).likeness(&digest(&whole)), Likeness::Same);
        assert_eq!(digest(&whole).likeness(&digest(&cut)), Likeness::SameInPart);
        let mut other = cut;
        other[31] = 8;
        assert_eq!(digest(&whole).likeness(&digest(&other)), Likeness::Payload);
        assert_eq!(digest(&cut).likeness(&digest(&cut)), Likeness::SameInPart);
    }

    #[test]
    fn only_tcp_has_one() {
        let mut udp = packet();
        udp[9] = 17;
        assert_eq!(Digest::of(&udp, 57), None);
        assert_eq!(Digest::of(&[], 0), None);
    }
}
