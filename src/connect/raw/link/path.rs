//! What the kernel's own TCP would put into packets to a target, so that ours are treated alike.
#![expect(
    clippy::disallowed_types,
    reason = "a socket that sends nothing asks the kernel"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt::{ip_mtu, ip_ttl, ipv6_mtu, ipv6_unicast_hops};

use crate::observe::route::Route;

/// The lengths of the headers that an MSS leaves room for (RFC 9293 3.7.1): options are not counted.
const HEADERS_V4: u32 = 40;
const HEADERS_V6: u32 = 60;
/// The least that Linux advertises: its default of net.ipv4.route.min_adv_mss, and what IPv6's least
/// MTU of 1280 bytes leaves (net.ipv6.route.min_adv_mss).
const LEAST_V4: u32 = 256;
const LEAST_V6: u32 = 1220;

/// The way of a packet to a target, as far as its own headers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The source address that the kernel chooses.
    pub(crate) source: IpAddr,
    /// The longest packet in bytes, IP header included, as far as it is known here: the interface's, the
    /// route's, or what a router said.
    pub(crate) mtu: u32,
    /// The MSS to advertise in a SYN, in bytes.
    pub(crate) mss: u16,
    /// The TTL or hop limit.
    pub(crate) ttl: u8,
}

impl Path {
    /// Asks the kernel (udp(7): connecting sends nothing). From `source` where one is given, which must
    /// be an address of this host.
    pub(crate) fn to(target: SocketAddr, route: Route, source: Option<IpAddr>) -> io::Result<Path> {
        // With the target's scope: a link-local address of ours has the same.
        let mut from = target;
        from.set_port(0);
        from.set_ip(source.unwrap_or(match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }));
        let socket = UdpSocket::bind(from)?;
        socket.connect(target)?;
        let (mtu, ttl) = match target {
            SocketAddr::V4(_) => (ip_mtu(&socket)?, u8::try_from(ip_ttl(&socket)?)),
            SocketAddr::V6(_) => (ipv6_mtu(&socket)?, Ok(ipv6_unicast_hops(&socket)?)),
        };
        Ok(Path {
            source: socket.local_addr()?.ip(),
            mtu,
            mss: mss(target, route, mtu),
            ttl: ttl.map_err(io::Error::other)?,
        })
    }
}

/// As ipv4_default_advmss and ip6_default_advmss have it, where the route does not say.
fn mss(target: SocketAddr, route: Route, mtu: u32) -> u16 {
    let (headers, least) = match target {
        SocketAddr::V4(_) => (HEADERS_V4, LEAST_V4),
        SocketAddr::V6(_) => (HEADERS_V6, LEAST_V6),
    };
    let mss = route
        .advmss
        .unwrap_or_else(|| mtu.saturating_sub(headers).max(least));
    u16::try_from(mss).unwrap_or(u16::MAX)
}
