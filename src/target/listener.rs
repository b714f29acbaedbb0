//! The listening sockets of a process tree, in the name space the tree lives in.

use std::collections::HashSet;
use std::net::SocketAddr;

use nix::unistd::Pid;
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::Process as Proc;

use super::holders::sockets;

/// The addresses on which a process tree listens, each once.
pub(crate) fn listeners(pids: &[Pid]) -> Vec<SocketAddr> {
    let Some(&first) = pids.first() else {
        return Vec::new();
    };
    let owned: HashSet<u64> = pids
        .iter()
        .flat_map(|&pid| sockets(pid))
        .flatten()
        .collect();
    let mut found = Vec::new();
    for entry in listening(first) {
        if owned.contains(&entry.inode) && !found.contains(&entry.local_address) {
            found.push(entry.local_address);
        }
    }
    found
}

/// Whether anybody in the name space of `pid` listens where a client of `target` would arrive.
pub(crate) fn is_listened_to(pid: Pid, target: SocketAddr) -> bool {
    listening(pid).iter().any(|entry| {
        let local = entry.local_address;
        local.port() == target.port() && (local.ip() == target.ip() || local.ip().is_unspecified())
    })
}

/// Where a client on this host reaches a listener: a wildcard address through loopback.
pub(crate) fn reachable(listener: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// The LISTEN sockets that /proc/PID/net shows.
fn listening(pid: Pid) -> Vec<TcpNetEntry> {
    let Ok(process) = Proc::new(pid.as_raw()) else {
        return Vec::new();
    };
    let v4 = process.tcp().unwrap_or_default();
    let v6 = process.tcp6().unwrap_or_default();
    v4.into_iter()
        .chain(v6)
        .filter(|entry| entry.state == TcpState::Listen)
        .collect()
}
