//! What guards do, and what happens where there is none.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread;

use super::*;
use crate::sys::process::tie_to_us;

/// A segment that only a closed port answers: a listening socket answers it as well, with RST.
fn stray_syn_ack(from: SocketAddr, to: SocketAddr, ttl: u8) -> Vec<u8> {
    let mut packet = segment(from, to, SYN_ACK, (1, 1), &[]);
    // IPv4's header checksum is the kernel's business, IPv6 has none.
    let at = if from.is_ipv4() { 8 } else { 7 };
    packet[at] = ttl;
    packet
}

/// What the kernel answers to a SYN-ACK at `to`, and to a SYN-ACK behind it where nobody is: the
/// second is always answered, and with it the wait is over.
fn answers(link: &mut Link, server: SocketAddr, to: SocketAddr, ttl: u8) -> usize {
    let nobody = SocketAddr::new(to.ip(), 9);
    link.send(&stray_syn_ack(server, to, ttl));
    link.send(&stray_syn_ack(server, nobody, ttl));
    let rst = |seen: &Seen| seen.segment.flags.rst();
    let seen = link.until("RST", |seen| rst(seen) && seen.segment.src == nobody);
    seen.iter()
        .filter(|seen| rst(seen) && seen.segment.src == to)
        .count()
}

/// Waits until nobody holds a guard that was let go of: a process that another test is just starting
/// has a copy of every descriptor until it executes its program.
fn soon<T>(what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(is) = is_so() {
            return is;
        }
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        thread::yield_now();
    }
}

fn is_let_go(link: &mut Link, server: SocketAddr, client: SocketAddr) {
    soon("RST", || {
        let answers = answers(link, server, client, 64);
        (answers == 1).then_some(())
    });
}

#[test]
#[ignore = "needs root, netns"]
fn without_a_guard_the_kernel_resets_what_it_has_no_socket_for() {
    enter_namespace();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let server = listener.local_addr().unwrap();
        let mut link = open(server);
        let client = SocketAddr::new(server.ip(), 9);
        link.send(&segment(client, server, Flags::SYN, (1000, 0), &[]));
        let seen = link.until("RST", |seen| seen.segment.flags.rst());
        let flags: Vec<_> = seen.iter().map(|seen| seen.segment.flags).collect();
        assert_eq!(flags, [Flags::SYN, SYN_ACK, Flags::RST]);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_guard_holds_off_every_hop_limit_on_every_address() {
    enter_namespace();
    run("ip addr add 10.9.9.9/32 dev lo");
    for (server, ours) in [
        ("127.0.0.1:80", ["127.0.0.1", "10.9.9.9"]),
        ("[::1]:80", ["::1", "::1"]),
    ] {
        let server: SocketAddr = server.parse().unwrap();
        let mut link = open(server);
        let mut guards = Guards::new(server);
        let port = guards.take().unwrap();
        for ip in ours {
            let client = SocketAddr::new(ip.parse().unwrap(), port);
            for ttl in [1, 64, 254, 255] {
                assert_eq!(answers(&mut link, server, client, ttl), 0, "{client} {ttl}");
            }
        }
        drop(guards);
        let client = SocketAddr::new(server.ip(), port);
        is_let_go(&mut link, server, client);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn an_ordinary_users_guard_holds_off_what_a_server_begins_with() {
    enter_namespace();
    for server in ["127.0.0.1:80", "[::1]:80"] {
        let server: SocketAddr = server.parse().unwrap();
        privileges::as_ordinary_user(|| {
            let mut link = open(server);
            let mut guards = Guards::new(server);
            let client = SocketAddr::new(server.ip(), guards.take().unwrap());
            for ttl in [64, 128, 254] {
                assert_eq!(answers(&mut link, server, client, ttl), 0, "{ttl}");
            }
            // As docs/limits.md says.
            assert_eq!(answers(&mut link, server, client, 255), 1);
        });
    }
}

/// Leaves 40000 and 40001 to be chosen from.
fn two_ports() {
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
}

#[test]
#[ignore = "needs root, netns"]
fn a_guarded_port_is_nobody_elses_until_it_is_let_go_of() {
    enter_namespace();
    two_ports();
    let server: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let mut guards = Guards::new(server);
    let ports = [guards.take().unwrap(), guards.take().unwrap()];
    assert_ne!(ports[0], ports[1]);
    assert_eq!(guards.len(), 2);
    assert_eq!(guards.take().unwrap_err().kind(), ErrorKind::AddrInUse);
    for port in ports {
        for ip in ["127.0.0.1", "0.0.0.0", "::", "::1"] {
            let address = SocketAddr::new(ip.parse().unwrap(), port);
            let error = TcpListener::bind(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{address}");
        }
    }
    drop(guards);
    let mut guards = Guards::new(server);
    let again = soon("a port", || guards.take().ok());
    assert!(ports.contains(&again));
}

#[test]
#[ignore = "needs root, netns"]
fn the_targets_own_port_is_never_guarded() {
    // Nobody listens there, and so it shall stay: a client of it is refused.
    for target in ["127.0.0.1:40000", "127.0.0.1:40001"] {
        enter_namespace();
        two_ports();
        let target: SocketAddr = target.parse().unwrap();
        let mut guards = Guards::new(target);
        assert_ne!(guards.take().unwrap(), target.port());
        assert!(guards.take().is_err());
        soon("the target's port", || TcpListener::bind(target).ok());
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_host_without_ipv6_is_guarded_too() {
    enter_namespace();
    run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    let server: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let mut link = open(server);
    let mut guards = Guards::new(server);
    let client = SocketAddr::new(server.ip(), guards.take().unwrap());
    assert_eq!(answers(&mut link, server, client, 64), 0);
}

#[test]
#[ignore = "needs root, netns"]
fn guards_go_with_the_process_that_holds_them() {
    enter_namespace();
    let server: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let mut link = open(server);
    let mut guards = Guards::new(server);
    let port = guards.take().unwrap();
    let client = SocketAddr::new(server.ip(), port);
    // Another process, which has nothing else of ours: a server that we start does not inherit them.
    let sleep = |stdin: Stdio| {
        let mut sleep = Command::new("sleep");
        tie_to_us(&mut sleep);
        sleep.arg("infinity").stdin(stdin).spawn().unwrap()
    };
    let mut other = sleep(Stdio::null());
    let mut holding = sleep(OwnedFd::from(guards.copy(port)).into());
    drop(guards);
    assert_eq!(answers(&mut link, server, client, 64), 0);
    holding.kill().unwrap();
    holding.wait().unwrap();
    is_let_go(&mut link, server, client);
    soon("the port", || TcpListener::bind(client).ok());
    other.kill().unwrap();
    other.wait().unwrap();
}
