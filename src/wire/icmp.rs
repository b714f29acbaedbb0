//! ICMP errors (RFC 792, RFC 4443) and the TCP segment that each quotes.

use std::net::{IpAddr, SocketAddr};

use pnet_packet::icmp::IcmpPacket;

use super::ip::{Transport, locate};
use crate::time::Stamp;

/// An ICMP error about a TCP segment somebody sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// When the vantage saw it.
    pub at: Stamp,
    /// Who sent the error.
    pub from: IpAddr,
    /// The quoted segment's source: whom the error concerns.
    pub src: SocketAddr,
    /// The quoted segment's destination.
    pub dst: SocketAddr,
    /// The quoted segment's sequence number.
    pub seq: u32,
    /// IP version, 4 or 6: types and codes differ.
    pub version: u8,
    /// The ICMP type.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
    /// The largest packet that the next link takes, in bytes, where the error says that the quoted one
    /// was larger (RFC 1191 4, RFC 8201 3). 0 from routers that do not know better.
    pub mtu: Option<u32>,
}

impl IcmpError {
    /// Whether Linux turns it into ECONNREFUSED for a socket in SYN-SENT: port unreachable, over
    /// IPv4 (`icmp_err_convert` in net/ipv4/icmp.c) and over IPv6 (`tab_unreach` in
    /// net/ipv6/icmp.c).
    pub fn is_refusal(&self) -> bool {
        matches!((self.version, self.kind, self.code), (4, 3, 3) | (6, 1, 4))
    }

    /// Whether it ends a connection attempt: `tcp_v4_err` and `tcp_v6_err` fail a socket in
    /// SYN-SENT on anything but path MTU discovery and source quench.
    pub fn ends_connecting(&self) -> bool {
        match (self.version, self.kind) {
            (4, 3) => self.code != 4,
            (4, 11 | 12) => true,
            (6, 1 | 3 | 4) => true,
            _ => false,
        }
    }
}

/// Reads an ICMP error; none where the packet is no error or quotes no TCP.
pub(super) fn parse_v4(at: Stamp, ip: &Transport<'_>) -> Option<IcmpError> {
    let (kind, code, rest, quoted) = icmp_parts(ip)?;
    let mtu = ((kind, code) == (3, 4)).then_some(rest & 0xffff);
    // RFC 792: destination unreachable 3, source quench 4, time exceeded 11, parameter problem 12.
    matches!(kind, 3 | 4 | 11 | 12).then(|| quote(at, ip, 4, (kind, code, mtu), quoted))?
}

/// Reads an ICMPv6 error; none where the packet is no error or quotes no TCP.
pub(super) fn parse_v6(at: Stamp, ip: &Transport<'_>) -> Option<IcmpError> {
    let (kind, code, rest, quoted) = icmp_parts(ip)?;
    let mtu = (kind == 2).then_some(rest);
    // RFC 4443 2.1: error messages have types below 128.
    (kind < 128).then(|| quote(at, ip, 6, (kind, code, mtu), quoted))?
}

fn quote(
    at: Stamp,
    outer: &Transport<'_>,
    version: u8,
    (kind, code, mtu): (u8, u8, Option<u32>),
    quoted: &[u8],
) -> Option<IcmpError> {
    const TCP: u8 = 6;
    let inner = locate(quoted, quoted.len()).ok()?;
    // RFC 792 quotes at least eight bytes of the transport header: ports and sequence number.
    let &[s0, s1, d0, d1, q0, q1, q2, q3] = inner.bytes.get(..8)? else {
        return None;
    };
    if inner.protocol != TCP {
        return None;
    }
    Some(IcmpError {
        at,
        from: outer.src,
        src: SocketAddr::new(inner.src, u16::from_be_bytes([s0, s1])),
        dst: SocketAddr::new(inner.dst, u16::from_be_bytes([d0, d1])),
        seq: u32::from_be_bytes([q0, q1, q2, q3]),
        version,
        kind,
        code,
        mtu,
    })
}

/// An ICMP packet's type, code, the rest of its header of eight bytes, and what follows that.
fn icmp_parts<'a>(ip: &Transport<'a>) -> Option<(u8, u8, u32, &'a [u8])> {
    let packet = IcmpPacket::new(ip.bytes)?;
    let (header, quoted) = ip.bytes.split_first_chunk::<8>()?;
    let &[_, _, _, _, a, b, c, d] = header;
    let rest = u32::from_be_bytes([a, b, c, d]);
    Some((
        packet.get_icmp_type().0,
        packet.get_icmp_code().0,
        rest,
        quoted,
    ))
}
