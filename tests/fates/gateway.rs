//! A server two hops away: behind a gateway, which answers for hosts that are not there.

use crate::common::enter_namespace;
use crate::common::namespace::Namespace;
use crate::fate::{Fate, REFUSED, Vantage, probe_rows};
use crate::fate_server::{CONNECTIONS, Listener, OK};
use crate::firewall::UNREACHABLE;
use crate::response::SERVED;

/// Where it is, over IPv4 and IPv6.
const THERE: [&str; 2] = ["10.2.0.2", "fd00:2::2"];

#[test]
#[ignore = "needs root, netns"]
fn a_request_over_a_gateway_is_served() {
    enter_namespace();
    let [_gateway, there] = Namespace::behind_gateway();
    for host in THERE {
        SERVED.is_met_on(host, "", || {
            there.within(|| Listener::on(host).serve_each(|connection| drop(connection.answer(OK))))
        });
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_syn_over_a_gateway_is_refused_where_nobody_listens() {
    enter_namespace();
    let [_gateway, there] = Namespace::behind_gateway();
    for host in THERE {
        REFUSED.is_met_on(host, "", || there.within(|| Listener::on(host).stop()));
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_host_that_is_not_there_is_unreachable_by_its_gateways_word() {
    enter_namespace();
    let _hosts = Namespace::behind_gateway();
    let unreachable = Fate {
        wire: "errno=EHOSTUNREACH conn_state=S0 history=S",
        socket: "errno=EHOSTUNREACH",
        ..UNREACHABLE
    };
    for nobody in ["10.2.0.9:80", "[fd00:2::9]:80"] {
        for vantage in Vantage::ALL {
            let rows = probe_rows(nobody.parse().expect("an address"), vantage, "");
            assert_eq!(rows.len(), CONNECTIONS);
            unreachable.is_told_by(&rows, vantage);
        }
    }
}
