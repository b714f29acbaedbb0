//! Whom to connect to: names resolved, slips in writing an address met with their remedy.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::{PlanError, refuse};
use crate::cli::url_authority;
use crate::target::listener;

/// A resolved target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As typed: it goes into the Host header.
    pub(crate) name: String,
    /// The address used.
    pub(crate) address: SocketAddr,
}

/// Cuts `HOST:PORT` as `option` takes it: an IPv6 address stands in brackets.
pub(super) fn host_and_port<'a>(text: &'a str, option: &str) -> Result<(&'a str, u16), PlanError> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return refuse(format!("`{text}` has no port; give {option} {text}:PORT"));
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return refuse(format!(
            "`{text}` is no address; write an IPv6 address in brackets, as in [::1]:9292"
        ));
    }
    match port.parse() {
        Ok(port) if !host.is_empty() => Ok((host, port)),
        Ok(_) | Err(_) => refuse(format!(
            "`{text}` is no address; give {option} HOST:PORT with a port up to 65535"
        )),
    }
}

/// Resolves a target; the first address is used, the others are named.
pub(super) fn resolve(
    text: &str,
    v4: bool,
    v6: bool,
    notes: &mut Vec<String>,
) -> Result<Target, PlanError> {
    if let Some(authority) = url_authority(text) {
        return refuse(format!(
            "a target has no scheme or path; give --target {authority}, and the path with --path"
        ));
    }
    let (host, port) = host_and_port(text, "--target")?;
    if port == 0 {
        return refuse("port 0 cannot be connected to; give the port the server listens on");
    }
    let addresses = text.to_socket_addrs().map_err(|_| {
        PlanError(format!(
            "the name `{host}` does not resolve; give a name that does, or an address"
        ))
    })?;
    let mut addresses: Vec<SocketAddr> = addresses
        .filter(|a| (!v4 || a.is_ipv4()) && (!v6 || a.is_ipv6()))
        .collect();
    for address in &mut addresses {
        // What the kernel makes of them: an IPv4 address in IPv6's clothes, and the wildcard.
        address.set_ip(address.ip().to_canonical());
        address.set_ip(listener::reachable(*address).ip());
    }
    addresses.dedup();
    let Some((&address, others)) = addresses.split_first() else {
        let family = if v4 { "IPv4" } else { "IPv6" };
        return refuse(format!(
            "`{host}` has no {family} address; leave out -4 or -6"
        ));
    };
    if !others.is_empty() {
        let others: Vec<String> = others.iter().map(|a| a.ip().to_string()).collect();
        notes.push(format!(
            "using {} for {host}; it is also {}",
            address.ip(),
            others.join(", ")
        ));
    }
    if address.ip().is_multicast() || matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast()) {
        return refuse(format!(
            "{} is no single host; give a unicast address",
            address.ip()
        ));
    }
    Ok(Target {
        name: text.to_owned(),
        address,
    })
}
