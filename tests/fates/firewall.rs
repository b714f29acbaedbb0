//! Connections that a packet filter or the routing table answers, or that nothing answers.

use crate::common::enter_namespace;
use crate::fate::{Fate, REFUSED, Vantage, probe_rows};
use crate::fate_server::{CONNECTIONS, Listener, Server, firewall};

/// A server behind the firewall, and as well as any.
fn listen(host: &str) -> Server {
    Listener::on(host).serve(|listener| listener)
}

/// Nothing sets the firewall's RST apart from that of a port where nobody listens.
#[test]
#[ignore = "needs root, netns, nft"]
fn a_firewall_that_rejects_with_a_reset_is_refused_as_if_nobody_listened() {
    enter_namespace();
    firewall("reject with tcp reset");
    REFUSED.is_met("", listen);
}

/// The same errno without a RST on the wire.
const PORT_UNREACHABLE: Fate = Fate {
    sequence: ">S",
    wire: "conn_state=S0 history=S rst_kind=",
    ..REFUSED
};

#[test]
#[ignore = "needs root, netns, nft"]
fn a_firewall_that_rejects_with_icmp_port_unreachable_is_refused_without_a_reset() {
    enter_namespace();
    firewall("reject with icmp port-unreachable");
    PORT_UNREACHABLE.is_met_on("127.0.0.1", "", || listen("127.0.0.1"));
}

#[test]
#[ignore = "needs root, netns, nft"]
fn a_firewall_that_rejects_with_icmpv6_port_unreachable_is_refused_without_a_reset() {
    enter_namespace();
    firewall("reject with icmpv6 port-unreachable");
    PORT_UNREACHABLE.is_met_on("::1", "", || listen("::1"));
}

/// Any other ICMP error ends the attempt as well, and says nothing of a server.
pub(crate) const UNREACHABLE: Fate = Fate {
    says: "outcome=unreachable lost=false curl_exit=7 heroku_code= request_acked= \
           response_bytes=0 cause= cause_candidates= retry_safe=",
    sequence: ">S",
    wire: "conn_state=S0 history=S rst_kind=",
    socket: "",
};

#[test]
#[ignore = "needs root, netns, nft"]
fn a_firewall_that_rejects_with_icmp_host_unreachable_is_unreachable() {
    enter_namespace();
    firewall("reject with icmp host-unreachable");
    let unreachable = Fate {
        socket: "errno=EHOSTUNREACH",
        wire: "errno=EHOSTUNREACH conn_state=S0 history=S",
        ..UNREACHABLE
    };
    unreachable.is_met_on("127.0.0.1", "", || listen("127.0.0.1"));
}

#[test]
#[ignore = "needs root, netns, nft"]
fn a_firewall_that_rejects_with_icmpv6_admin_prohibited_is_unreachable() {
    enter_namespace();
    firewall("reject with icmpv6 admin-prohibited");
    let unreachable = Fate {
        socket: "errno=EACCES",
        wire: "errno=EACCES conn_state=S0 history=S",
        ..UNREACHABLE
    };
    unreachable.is_met_on("::1", "", || listen("::1"));
}

#[test]
#[ignore = "needs root, netns, nft"]
fn a_firewall_that_drops_is_unanswered() {
    enter_namespace();
    firewall("drop");
    let unanswered = Fate {
        says: "outcome=unanswered lost=false errno= curl_exit=28 heroku_code=H19 request_acked= \
               response_bytes=0 cause=unknown cause_candidates=queue_full retry_safe=yes",
        sequence: ">S",
        wire: "conn_state=S0 history=S rst_kind= syn_retransmits=0",
        socket: "",
    };
    unanswered.is_met("--timeout 300ms", listen);
}

/// Without a route there is no interface to capture on either: the sockets alone can tell.
#[test]
#[ignore = "needs root, netns"]
fn a_target_without_a_route_is_unreachable() {
    enter_namespace();
    let no_route = Fate {
        says: "outcome=unreachable lost=false errno=ENETUNREACH curl_exit=7 cause= retry_safe= \
               src_port=",
        ..Fate::default()
    };
    // TEST-NET-1 (RFC 5737): a namespace of loopback alone has no way there.
    let target = "192.0.2.1:80".parse().unwrap();
    let rows = probe_rows(target, Vantage::Socket, "");
    assert_eq!(rows.len(), CONNECTIONS);
    no_route.is_told_by(&rows, Vantage::Socket);
}
