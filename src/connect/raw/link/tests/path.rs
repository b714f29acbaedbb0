//! What the kernel's own TCP puts into its SYN is what ours is told to put there.

use rustix::net::connect;
use socket2::{Domain, Socket, Type};

use super::*;

/// What the kernel's own SYN to `target` has: source, MSS, TTL.
fn kernels(target: SocketAddr) -> (IpAddr, u16, u8) {
    let mut link = open(target);
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    // In progress, or refused.
    let _ = connect(&socket, &target);
    let mut syn = None;
    let begun = Instant::now();
    while syn.is_none() {
        assert!(begun.elapsed() < PATIENCE);
        link.wait(Some(PATIENCE)).unwrap();
        link.receive(|received| {
            let (ttl, tcp) = match target {
                SocketAddr::V4(_) => (received.bytes[8], 20),
                SocketAddr::V6(_) => (received.bytes[7], 40),
            };
            let packet = wire::parse(received.at, received.bytes, received.len).unwrap();
            let Packet::Segment(segment) = packet else {
                return;
            };
            // The MSS is Linux's first option (RFC 9293 3.2: kind 2, length 4).
            if let &[2, 4, high, low, ..] = &received.bytes[tcp + 20..]
                && segment.flags == Flags::SYN
            {
                syn = Some((segment.src.ip(), u16::from_be_bytes([high, low]), ttl));
            }
        });
    }
    syn.unwrap()
}

fn agree(target: &str) -> Path {
    let target: SocketAddr = target.parse().unwrap();
    let path = Path::to(target, route_to(target).unwrap(), None).unwrap();
    assert_eq!(
        (path.source, path.mss, path.ttl),
        kernels(target),
        "{target}"
    );
    path
}

#[test]
#[ignore = "needs root, netns"]
fn a_path_is_what_the_kernels_own_syn_shows() {
    let _there = Host::linked();
    assert_eq!(agree("127.0.0.1:80").mss, 65_495);
    assert_eq!(agree("[::1]:80").mss, 65_476);
    let path = agree("10.0.0.2:80");
    assert_eq!((path.mtu, path.mss, path.ttl), (1500, 1460, 64));
    assert_eq!(path.source, IpAddr::from([10, 0, 0, 1]));
    assert_eq!(agree("[fd00::2]:80").mss, 1440);
    // Another source, MTU and TTL.
    run("ip addr add 10.0.0.9/24 dev near");
    run("ip route add 10.0.7.0/24 via 10.0.0.2 mtu 1400 src 10.0.0.9");
    run("sysctl -qw net.ipv4.ip_default_ttl=77");
    let path = agree("10.0.7.7:80");
    assert_eq!((path.mtu, path.mss, path.ttl), (1400, 1360, 77));
    assert_eq!(path.source, IpAddr::from([10, 0, 0, 9]));
    // An MSS of its own, and one that would be too small.
    run("ip route add 10.0.8.0/24 via 10.0.0.2 advmss 1111");
    assert_eq!(agree("10.0.8.8:80").mss, 1111);
    run("ip route add 10.0.9.0/24 via 10.0.0.2 mtu 200");
    assert_eq!(agree("10.0.9.9:80").mss, 256);
    run("sysctl -qw net.ipv6.conf.near.mtu=1300");
    let path = agree("[fd00::2]:80");
    assert_eq!((path.mtu, path.mss), (1300, 1240));
}

#[test]
#[ignore = "needs root, netns"]
fn a_source_that_is_given_is_kept_to() {
    let _there = Host::linked();
    run("ip addr add 10.0.0.9/24 dev near");
    let target: SocketAddr = "10.0.0.2:80".parse().unwrap();
    let route = route_to(target).unwrap();
    let source = IpAddr::from([10, 0, 0, 9]);
    let path = Path::to(target, route, Some(source)).unwrap();
    assert_eq!(path.source, source);
    let not_ours = Path::to(target, route, Some([10, 0, 0, 8].into()));
    assert_eq!(
        not_ours.unwrap_err().kind(),
        io::ErrorKind::AddrNotAvailable
    );
}
