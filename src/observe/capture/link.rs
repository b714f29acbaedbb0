//! Link layers: from a captured frame to the IP header in it, by the capture's link type
//! (<https://www.tcpdump.org/linktypes.html>). The IP header itself is left to
//! [`wire`](crate::wire).

use super::endian::Endian;
use super::{CaptureError, Content, Point};

/// What stands in front of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    /// Linux "cooked": what `-i any` writes, version 1 up to tcpdump 4.99.
    CookedV1,
    /// The same with the interface's number.
    CookedV2,
    /// Nothing: IPv4 or IPv6 by the version field.
    Raw,
    Ipv4,
    Ipv6,
    /// BSD loopback, the address family in the writer's byte order.
    Null,
    /// OpenBSD loopback, the address family in network order.
    Loop,
}

const SUPPORTED: &[(u32, Link, &str)] = &[
    (1, Link::Ethernet, "Ethernet"),
    (113, Link::CookedV1, "Linux cooked"),
    (276, Link::CookedV2, "Linux cooked v2"),
    (101, Link::Raw, "raw IP"),
    // DLT_RAW's own value, which old writers put into files: 12, and 14 on OpenBSD.
    (12, Link::Raw, "raw IP"),
    (14, Link::Raw, "raw IP"),
    (228, Link::Ipv4, "IPv4"),
    (229, Link::Ipv6, "IPv6"),
    (0, Link::Null, "BSD loopback"),
    (108, Link::Loop, "OpenBSD loopback"),
];

/// What an unsupported link type's error offers instead.
pub(super) fn supported() -> String {
    let names: Vec<String> = SUPPORTED
        .iter()
        .map(|(number, _, name)| format!("{name} ({number})"))
        .collect();
    names.join(", ")
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad (QinQ), and the number that QinQ had before it was a standard.
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// linux/if_arp.h.
const ARPHRD_LOOPBACK: u16 = 772;
/// linux/if_packet.h.
const PACKET_OUTGOING: u16 = 4;

const AF_INET: u32 = 2;
/// Linux, NetBSD and OpenBSD, FreeBSD, Darwin.
const AF_INET6: [u32; 4] = [10, 24, 28, 30];

impl Link {
    /// The link layer of that number.
    pub(super) fn from_number(number: u32) -> Result<Link, CaptureError> {
        SUPPORTED
            .iter()
            .find(|(known, ..)| *known == number)
            .map(|&(_, link, _)| link)
            .ok_or(CaptureError::LinkType(number))
    }

    /// Where a frame was seen: on which of the file's interfaces, of which there are `several` or one,
    /// and on which of the host's, where the frame itself says.
    pub(super) fn point(self, bytes: &[u8], interface: u32, several: bool) -> Option<Point> {
        let within = match self {
            // Version 1 tells only which way it went.
            Link::CookedV1 => u64::from(Endian::Big.u16(bytes, 0)?),
            Link::CookedV2 => {
                let index = Endian::Big.u32(bytes, 4)?;
                u64::from(index) << 8 | u64::from(*bytes.get(10)?)
            }
            _ if several => 0,
            _ => return None,
        };
        Some(Point(u64::from(interface) << 40 | within))
    }

    /// Looks into a frame of which `bytes` were captured and that was `len` bytes long.
    pub(super) fn content(self, bytes: &[u8], len: usize) -> Content<'_> {
        // `None` is a frame that ends within its link header.
        let content = match self {
            Link::Ethernet => tagged(bytes, len, 12),
            Link::CookedV1 => cooked_v1(bytes, len),
            Link::CookedV2 => cooked_v2(bytes, len),
            Link::Raw => version(bytes).and_then(|version| match version {
                4 | 6 => ip(bytes, len, 0),
                _ => None,
            }),
            Link::Ipv4 | Link::Ipv6 => ip(bytes, len, 0),
            Link::Null | Link::Loop => loopback(bytes, len),
        };
        content.unwrap_or(Content::Other)
    }
}

/// The EtherType stands at `at`, behind it as many VLAN tags as there are.
fn tagged(bytes: &[u8], len: usize, at: usize) -> Option<Content<'_>> {
    protocol(bytes, len, Endian::Big.u16(bytes, at)?, at + 2)
}

/// `next` is `ethertype`, or the rest of a VLAN tag: two bytes of it, then the next EtherType.
fn protocol(bytes: &[u8], len: usize, ethertype: u16, next: usize) -> Option<Content<'_>> {
    let (mut ethertype, mut next) = (ethertype, next);
    while VLAN.contains(&ethertype) {
        ethertype = Endian::Big.u16(bytes, next + 2)?;
        next += 4;
    }
    match ethertype {
        IPV4 | IPV6 => ip(bytes, len, next),
        _ => None,
    }
}

/// Packet type, ARPHRD type, address length, address (8), protocol.
fn cooked_v1(bytes: &[u8], len: usize) -> Option<Content<'_>> {
    let direction = Endian::Big.u16(bytes, 0)?;
    if second_copy(Endian::Big.u16(bytes, 2)?, direction) {
        return Some(Content::Duplicate);
    }
    tagged(bytes, len, 14)
}

/// Protocol, two bytes of nothing, interface (4), ARPHRD type, packet type (1), address length (1),
/// address (8).
fn cooked_v2(bytes: &[u8], len: usize) -> Option<Content<'_>> {
    let direction = u16::from(*bytes.get(10)?);
    if second_copy(Endian::Big.u16(bytes, 8)?, direction) {
        return Some(Content::Duplicate);
    }
    protocol(bytes, len, Endian::Big.u16(bytes, 0)?, 20)
}

/// What goes out on loopback comes in there as well: one of the two is enough.
fn second_copy(hardware: u16, direction: u16) -> bool {
    hardware == ARPHRD_LOOPBACK && direction == PACKET_OUTGOING
}

fn loopback(bytes: &[u8], len: usize) -> Option<Content<'_>> {
    // Families are small numbers, so the writer's byte order shows.
    let little = Endian::Little.u32(bytes, 0)?;
    let family = little.min(little.swap_bytes());
    if family == AF_INET || AF_INET6.contains(&family) {
        ip(bytes, len, 4)
    } else {
        None
    }
}

fn version(bytes: &[u8]) -> Option<u8> {
    bytes.first().map(|byte| byte >> 4)
}

/// From `header` bytes on it is IP, if anything of that was captured.
fn ip(bytes: &[u8], len: usize, header: usize) -> Option<Content<'_>> {
    let bytes = bytes.get(header..).filter(|bytes| !bytes.is_empty())?;
    Some(Content::Ip {
        bytes,
        len: len.saturating_sub(header),
    })
}
