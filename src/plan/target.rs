//! Whom to connect to: names resolved, slips in writing an address met with their remedy.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

use nix::net::if_::{if_indextoname, if_nametoindex};

use super::{PlanError, refuse};
use crate::cli::url_authority;
use crate::target::listener;

/// A resolved target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As typed, without a zone: it goes into the Host header.
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

/// The addresses of `text`, which is `HOST:PORT`; none where the name has none. An IPv6 address may name
/// its zone: `[fe80::1%eth0]:9292`.
pub(super) fn addresses(text: &str, option: &str) -> Result<Vec<SocketAddr>, PlanError> {
    let (host, port) = host_and_port(text, option)?;
    let found = match zoned(host) {
        Some((ip, zone)) => vec![SocketAddrV6::new(ip, port, 0, index_of(zone)?).into()],
        None => text
            .to_socket_addrs()
            .map_or_else(|_| Vec::new(), Iterator::collect),
    };
    let unscoped = |address: &SocketAddr| match address {
        SocketAddr::V6(v6) => v6.ip().is_unicast_link_local() && v6.scope_id() == 0,
        SocketAddr::V4(_) => false,
    };
    if let Some(address) = found.first().filter(|address| unscoped(address)) {
        return refuse(format!(
            "{ip} is of one link and does not say of which; name its interface, as in \
             {option} [{ip}%eth0]:{port}",
            ip = address.ip()
        ));
    }
    Ok(found)
}

/// An IPv6 address in brackets and its zone, where it has one.
fn zoned(host: &str) -> Option<(Ipv6Addr, &str)> {
    let (ip, zone) = host.strip_prefix('[')?.strip_suffix(']')?.split_once('%')?;
    Some((ip.parse().ok()?, zone))
}

/// The number of an interface that is given by name, or by that number.
fn index_of(zone: &str) -> Result<u32, PlanError> {
    // Of a number that no interface has nix makes an empty name.
    let is_known = |&n: &u32| if_indextoname(n).is_ok_and(|name| !name.is_empty());
    let number = zone.parse().ok().filter(is_known);
    number.or_else(|| if_nametoindex(zone).ok()).ok_or_else(|| {
        PlanError(format!(
            "`{zone}` is no interface of this host; give one that `ip link` lists, as in [fe80::1%eth0]"
        ))
    })
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
    let addresses = addresses(text, "--target")?;
    if addresses.is_empty() {
        return refuse(format!(
            "the name `{host}` does not resolve; give a name that does, or an address"
        ));
    }
    let mut addresses: Vec<SocketAddr> = addresses
        .into_iter()
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
        name: match zoned(host) {
            // A zone means nothing to anybody else (RFC 6874, section 4).
            Some((ip, _)) => format!("[{ip}]:{port}"),
            None => text.to_owned(),
        },
        address,
    })
}
