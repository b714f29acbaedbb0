//! Whether a packet's checksums are right: the IPv4 header's, and those of TCP and ICMP. Whether they
//! are filled in at all is left to whoever saw the packet.

use std::net::IpAddr;

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::util::{checksum, ipv4_checksum, ipv6_checksum};

use super::ip;

/// No word is left out: with its own field summed up too, a right checksum comes out as 0 (RFC 1071).
const NONE: usize = usize::MAX;

/// Verifies the IPv4 header's checksum and, where `transport` asks for it, that of TCP, ICMP or
/// ICMPv6 (RFC 9293 3.1, 792, 4443 2.3). `None` where that cannot be known: bytes that were cut off,
/// a fragment, another protocol, a packet that cannot be read.
pub fn checksums_are_right(bytes: &[u8], frame_len: usize, transport: bool) -> Option<bool> {
    if bytes.first().is_some_and(|first| first >> 4 == 4) {
        let header = usize::from(bytes[0] & 0x0f) * 4;
        if header < 20 {
            return None;
        }
        if checksum(bytes.get(..header)?, NONE) != 0 {
            return Some(false);
        }
    }
    if !transport {
        return Some(true);
    }
    let ip = ip::locate(bytes, frame_len).ok()?;
    // pnet_packet's sums overflow beyond what an IP header can tell the length of.
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
