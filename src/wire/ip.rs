//! IPv4 and IPv6 headers: find the transport header, its true length, and fragments.

use std::net::IpAddr;

use pnet_packet::ip::IpNextHeaderProtocols as Proto;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;

use super::ParseError;

/// An IP packet's payload, located.
pub(super) struct Transport<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    pub(super) ip_id: Option<u16>,
    pub(super) fragment: bool,
    /// The captured bytes from the transport header on.
    pub(super) bytes: &'a [u8],
    /// How many there were on the wire.
    pub(super) len: usize,
}

/// Finds the transport header of the packet at the start of `bytes`.
pub(super) fn locate(bytes: &[u8], frame_len: usize) -> Result<Transport<'_>, ParseError> {
    match bytes.first().map(|b| b >> 4) {
        None => Err(ParseError::Short("IP")),
        Some(4) => locate_v4(bytes, frame_len),
        Some(6) => locate_v6(bytes, frame_len),
        Some(version) => Err(ParseError::Version(version)),
    }
}

fn locate_v4(bytes: &[u8], frame_len: usize) -> Result<Transport<'_>, ParseError> {
    let ip = Ipv4Packet::new(bytes).ok_or(ParseError::Short("IPv4"))?;
    let header = usize::from(ip.get_header_length()) * 4;
    let total = match usize::from(ip.get_total_length()) {
        0 => frame_len,
        total => total,
    };
    if header < Ipv4Packet::minimum_packet_size() || total < header {
        return Err(ParseError::Length("IPv4"));
    }
    // RFC 791: a whole packet has offset 0 and no more-fragments bit.
    let more_fragments = ip.get_flags() & 0b001 != 0;
    Ok(Transport {
        src: IpAddr::V4(ip.get_source()),
        dst: IpAddr::V4(ip.get_destination()),
        protocol: ip.get_next_level_protocol().0,
        ip_id: Some(ip.get_identification()),
        fragment: more_fragments || ip.get_fragment_offset() != 0,
        bytes: within(bytes, header, total),
        len: total - header,
    })
}

fn locate_v6(bytes: &[u8], frame_len: usize) -> Result<Transport<'_>, ParseError> {
    const HEADER: usize = 40;
    let ip = Ipv6Packet::new(bytes).ok_or(ParseError::Short("IPv6"))?;
    let payload = match usize::from(ip.get_payload_length()) {
        0 => frame_len.saturating_sub(HEADER),
        payload => payload,
    };
    let mut transport = Transport {
        src: IpAddr::V6(ip.get_source()),
        dst: IpAddr::V6(ip.get_destination()),
        protocol: ip.get_next_header().0,
        ip_id: None,
        fragment: false,
        bytes: within(bytes, HEADER, HEADER + payload),
        len: payload,
    };
    skip_extensions(&mut transport)?;
    Ok(transport)
}

/// Steps over IPv6 extension headers (RFC 8200 4) up to the transport header.
fn skip_extensions(ip: &mut Transport<'_>) -> Result<(), ParseError> {
    loop {
        let header = if [Proto::Hopopt, Proto::Ipv6Route, Proto::Ipv6Opts]
            .map(|p| p.0)
            .contains(&ip.protocol)
        {
            8 + usize::from(*ip.bytes.get(1).ok_or(ParseError::Short("IPv6 extension"))?) * 8
        } else if ip.protocol == Proto::Ipv6Frag.0 {
            let field = ip
                .bytes
                .get(2..4)
                .ok_or(ParseError::Short("IPv6 fragment"))?;
            let field = u16::from_be_bytes([field[0], field[1]]);
            // RFC 8200 4.5: thirteen bits of offset, two reserved, the more-fragments bit.
            ip.fragment = field & 0xfff9 != 0;
            8
        } else {
            return Ok(());
        };
        ip.protocol = ip.bytes[0];
        ip.len = ip
            .len
            .checked_sub(header)
            .ok_or(ParseError::Length("IPv6 extension"))?;
        ip.bytes = ip.bytes.get(header..).unwrap_or_default();
        if ip.fragment {
            return Ok(());
        }
    }
}

/// The captured part of `bytes[from..to]`: link padding behind the packet and cut-off tails are
/// both left out.
fn within(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    let to = to.min(bytes.len());
    bytes.get(from..to).unwrap_or_default()
}
