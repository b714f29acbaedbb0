//! Which interface packets to the target leave by, as the kernel's routing says.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

/// The way to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The interface's index.
    pub(crate) interface: u32,
    /// Whether the target is this host.
    pub(crate) local: bool,
    /// The MSS to advertise, where the route has one of its own.
    pub(crate) advmss: Option<u32>,
}

/// Asks the kernel for the route to `target` (RTM_GETROUTE, rtnetlink(7)).
pub(crate) fn route_to(target: SocketAddr) -> io::Result<Route> {
    let (family, prefix, address) = match target.ip() {
        IpAddr::V4(ip) => (AddressFamily::Inet, 32, RouteAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(ip)),
    };
    let mut question = RouteMessage::default();
    question.header.address_family = family;
    question.header.destination_prefix_length = prefix;
    question
        .attributes
        .push(RouteAttribute::Destination(address));
    // A link-local address alone does not say by which link.
    if let SocketAddr::V6(v6) = target
        && v6.scope_id() != 0
    {
        question.attributes.push(RouteAttribute::Oif(v6.scope_id()));
    }
    match ask(RouteNetlinkMessage::GetRoute(question))? {
        RouteNetlinkMessage::NewRoute(route) => {
            let interface = route.attributes.iter().find_map(|a| match a {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            let interface = interface.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            let local = route.header.kind == RouteType::Local;
            let metrics = route.attributes.iter().find_map(|a| match a {
                RouteAttribute::Metrics(metrics) => Some(metrics.as_slice()),
                _ => None,
            });
            let advmss = metrics.unwrap_or_default().iter().find_map(|m| match m {
                RouteMetric::Advmss(bytes) => Some(*bytes),
                _ => None,
            });
            Ok(Route {
                interface,
                local,
                advmss,
            })
        }
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

fn ask(question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(inner) => Ok(inner),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_host() {
        let route = route_to("127.0.0.1:80".parse().unwrap()).unwrap();
        assert!(route.local);
        assert!(route.interface > 0);
    }
}
