//! Whole IP packets, built by hand.

use std::net::{IpAddr, SocketAddr};

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::{self, MutableTcpPacket};

use crate::wire::Flags;

/// The MSS of IPv4 on loopback: a SYN without one would have the peer send 536 bytes at a time.
const MSS: [u8; 4] = [2, 4, 0xff, 0xd7];

/// A segment with right checksums. `numbers` are its sequence and acknowledgment numbers.
pub(super) fn segment(
    src: SocketAddr,
    dst: SocketAddr,
    flags: Flags,
    numbers: (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let options: &[u8] = if flags.syn() { &MSS } else { &[] };
    let payload = &[options, payload].concat();
    let len = u16::try_from(20 + payload.len()).unwrap();
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut bytes = vec![0; 20 + usize::from(len)];
            let part = tcp(&mut bytes[20..], src, dst, flags, numbers, payload);
            let checksum = tcp::ipv4_checksum(&part.to_immutable(), &from, &to);
            MutableTcpPacket::new(&mut bytes[20..])
                .unwrap()
                .set_checksum(checksum);
            let mut ip = MutableIpv4Packet::new(&mut bytes).unwrap();
            ip.set_version(4);
            ip.set_header_length(5);
            ip.set_total_length(20 + len);
            ip.set_ttl(64);
            ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
            ip.set_source(from);
            ip.set_destination(to);
            ip.set_identification(7);
            let checksum = ipv4::checksum(&ip.to_immutable());
            ip.set_checksum(checksum);
            bytes
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut bytes = vec![0; 40 + usize::from(len)];
            let part = tcp(&mut bytes[40..], src, dst, flags, numbers, payload);
            let checksum = tcp::ipv6_checksum(&part.to_immutable(), &from, &to);
            MutableTcpPacket::new(&mut bytes[40..])
                .unwrap()
                .set_checksum(checksum);
            let mut ip = MutableIpv6Packet::new(&mut bytes).unwrap();
            ip.set_version(6);
            ip.set_payload_length(len);
            ip.set_hop_limit(64);
            ip.set_next_header(IpNextHeaderProtocols::Tcp);
            ip.set_source(from);
            ip.set_destination(to);
            bytes
        }
        _ => panic!("{src} and {dst} are of two families"),
    }
}

fn tcp<'a>(
    bytes: &'a mut [u8],
    src: SocketAddr,
    dst: SocketAddr,
    flags: Flags,
    (seq, ack): (u32, u32),
    payload: &[u8],
) -> MutableTcpPacket<'a> {
    let mut part = MutableTcpPacket::new(bytes).unwrap();
    part.set_source(src.port());
    part.set_destination(dst.port());
    part.set_sequence(seq);
    part.set_acknowledgement(ack);
    part.set_data_offset(5);
    part.set_flags(flags.0);
    part.set_window(u16::MAX);
    part.set_payload(payload);
    part.set_data_offset(5 + u8::from(flags.syn()));
    part
}
