//! Whether a packet's checksums are right: the IPv4 header's, and those of TCP and ICMP. Whether they
//! are filled in at all is left to whoever saw the packet.

use std::net::IpAddr;

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::util::{checksum, ipv4_checksum, ipv6_checksum};

use super::ip;

/// No word is left out: with its own field summed up too, a right checksum comes out as 0 (RFC 1071).
const NONE: usize = usize::MAX;

/// Verifies the IPv4 header's checksum and, where `transport` asks for it, that of TCP, ICMP or
/// ICMPv6 (RFC 9293 3.1, RFC 792, RFC 4443 2.3). `None` where that cannot be known: bytes that were cut
/// off, a fragment, another protocol, a packet that cannot be read. `frame_len` is as for
/// [`parse`](super::parse).
pub fn checksums_are_right(bytes: &[u8], frame_len: usize, transport: bool) -> Option<bool> {
    let ip = ip::locate(bytes, frame_len).ok()?;
    if ip.src.is_ipv4() {
        let header = usize::from(bytes[0] & 0x0f) * 4;
        if checksum(bytes.get(..header)?, NONE) != 0 {
            return Some(false);
        }
    }
    if !transport {
        return Some(true);
    }
    // pnet_packet's sums overflow well beyond what an IP header can give as a length.
    if ip.fragment || ip.bytes.len() < ip.len || ip.len > usize::from(u16::MAX) {
        return None;
    }
    let protocol = IpNextHeaderProtocol(ip.protocol);
    let sum = match (protocol, ip.src, ip.dst) {
        (IpNextHeaderProtocols::Tcp, IpAddr::V4(src), IpAddr::V4(dst)) => {
            ipv4_checksum(ip.bytes, NONE, &[], &src, &dst, protocol)
        }
        (
            IpNextHeaderProtocols::Tcp | IpNextHeaderProtocols::Icmpv6,
            IpAddr::V6(src),
            IpAddr::V6(dst),
        ) => ipv6_checksum(ip.bytes, NONE, &[], &src, &dst, protocol),
        (IpNextHeaderProtocols::Icmp, IpAddr::V4(_), _) => checksum(ip.bytes, NONE),
        _ => return None,
    };
    Some(sum == 0)
}

#[cfg(test)]
mod tests {
    use pnet_packet::tcp::{self, TcpPacket};
    use pnet_packet::{icmp, icmpv6, ipv4};
    use proptest::prelude::*;

    use super::*;

    // An RST as Linux 6.18 sends it by a link that leaves no checksum to hardware: what another
    // implementation summed up.
    const RST_V4: [u8; 40] = [
        0x45, 0x00, 0x00, 0x28, 0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0x26, 0xce, 0x0a, 0x00, 0x00,
        0x02, 0x0a, 0x00, 0x00, 0x01, 0x00, 0x52, 0xda, 0xe2, 0x00, 0x00, 0x00, 0x00, 0x3f, 0x85,
        0xc8, 0x08, 0x50, 0x14, 0x00, 0x00, 0xb9, 0x0b, 0x00, 0x00,
    ];
    const RST_V6: [u8; 60] = [
        0x60, 0x07, 0x1c, 0x83, 0x00, 0x14, 0x06, 0x40, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x52, 0xc9, 0xb2, 0x00,
        0x00, 0x00, 0x00, 0xde, 0x45, 0x58, 0xdc, 0x50, 0x14, 0x00, 0x00, 0xb4, 0xa5, 0x00, 0x00,
    ];
    /// Where the IPv6 packet's first address begins: what stands before it is not summed up.
    const V6_ADDRESSES: usize = 8;

    fn right(bytes: &[u8]) -> Option<bool> {
        checksums_are_right(bytes, bytes.len(), true)
    }

    /// One of the two packets above with `inner` in the place of its TCP header.
    fn packet(v6: bool, protocol: IpNextHeaderProtocol, inner: &[u8]) -> Vec<u8> {
        let len = u16::try_from(inner.len()).unwrap();
        if v6 {
            let mut bytes = [&RST_V6[..40], inner].concat();
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
            bytes[6] = protocol.0;
            return bytes;
        }
        let mut bytes = [&RST_V4[..20], inner].concat();
        bytes[2..4].copy_from_slice(&(20 + len).to_be_bytes());
        bytes[9] = protocol.0;
        let mut header = ipv4::MutableIpv4Packet::new(&mut bytes).unwrap();
        let sum = ipv4::checksum(&header.to_immutable());
        header.set_checksum(sum);
        bytes
    }

    /// A segment with its checksum filled in by the other functions of pnet_packet.
    fn segment(v6: bool, payload: &[u8]) -> Vec<u8> {
        let mut inner = [&RST_V4[20..], payload].concat();
        let header = TcpPacket::new(&inner).unwrap();
        let addresses = ip::locate(if v6 { &RST_V6 } else { &RST_V4 }, 0).unwrap();
        let sum = match (addresses.src, addresses.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => tcp::ipv4_checksum(&header, &src, &dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => tcp::ipv6_checksum(&header, &src, &dst),
            _ => unreachable!("both ends are of one family"),
        };
        inner[16..18].copy_from_slice(&sum.to_be_bytes());
        packet(v6, IpNextHeaderProtocols::Tcp, &inner)
    }

    #[test]
    fn what_the_kernel_summed_up_is_right() {
        assert_eq!(right(&RST_V4), Some(true));
        assert_eq!(right(&RST_V6), Some(true));
        // With an Ethernet's padding behind it.
        let padded = [&RST_V4[..], &[0xaa; 6]].concat();
        assert_eq!(right(&padded), Some(true));
    }

    #[test]
    fn what_is_not_all_there_is_not_known_to_be_right() {
        assert_eq!(right(&RST_V4[..39]), None);
        assert_eq!(right(&RST_V6[..59]), None);
        assert_eq!(right(&RST_V4[..19]), None);
        assert_eq!(right(&[]), None);
        let udp = packet(false, IpNextHeaderProtocols::Udp, &RST_V4[20..]);
        assert_eq!(right(&udp), None);
        let mut fragment = RST_V4;
        // Offset 8; the header's checksum makes up for it.
        fragment[7] += 1;
        fragment[11] -= 1;
        assert_eq!(right(&fragment), None);
    }

    #[test]
    fn a_transport_checksum_that_is_not_filled_in_does_not_count() {
        let mut packet = RST_V4;
        packet[36] ^= 0xff;
        assert_eq!(right(&packet), Some(false));
        assert_eq!(checksums_are_right(&packet, 40, false), Some(true));
        packet[8] = 63;
        assert_eq!(checksums_are_right(&packet, 40, false), Some(false));
    }

    #[test]
    fn icmp_errors_are_summed_up_as_their_protocols_have_it() {
        let mut error = [&[3, 3, 0, 0, 0, 0, 0, 0], &RST_V4[..28]].concat();
        let sum = icmp::checksum(&icmp::IcmpPacket::new(&error).unwrap());
        error[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut v4 = packet(false, IpNextHeaderProtocols::Icmp, &error);
        assert_eq!(right(&v4), Some(true));
        v4[30] ^= 1;
        assert_eq!(right(&v4), Some(false));

        let mut error = [&[1, 4, 0, 0, 0, 0, 0, 0], &RST_V6[..48]].concat();
        let IpAddr::V6(src) = ip::locate(&RST_V6, 60).unwrap().src else {
            unreachable!("an IPv6 packet")
        };
        let dst = "fd00::1".parse().unwrap();
        let sum = icmpv6::checksum(&icmpv6::Icmpv6Packet::new(&error).unwrap(), &src, &dst);
        error[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut v6 = packet(true, IpNextHeaderProtocols::Icmpv6, &error);
        assert_eq!(right(&v6), Some(true));
        v6[60] ^= 1;
        assert_eq!(right(&v6), Some(false));
    }

    proptest! {
        #[test]
        fn a_segment_is_right_until_any_bit_of_it_changes(
            v6: bool,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            at: prop::sample::Index,
            bit in 0..8u8,
        ) {
            let mut bytes = segment(v6, &payload);
            prop_assert_eq!(right(&bytes), Some(true));
            let from = if v6 { V6_ADDRESSES } else { 20 };
            let at = from + at.index(bytes.len() - from);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(right(&bytes), Some(false));
        }

        #[test]
        fn an_ipv4_header_is_right_until_any_bit_of_it_changes(at in 1usize..20, bit in 0..8u8) {
            let mut bytes = RST_V4;
            bytes[at] ^= 1 << bit;
            // A length that contradicts its header is no packet at all.
            prop_assert!(right(&bytes) == Some(false) || (at == 2 || at == 3) && right(&bytes).is_none());
        }
    }
}
