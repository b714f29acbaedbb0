//! What the kernel refuses to send, and what it has no room for yet.

use super::*;

fn ends() -> (SocketAddr, SocketAddr) {
    let address = |text: &str| text.parse().unwrap();
    (address("10.0.0.1:40000"), address("10.0.0.2:80"))
}

/// A segment that nobody answers.
fn numbered(number: u32) -> Vec<u8> {
    let (client, server) = ends();
    segment(client, server, Flags::RST, (number, 0), &[])
}

fn errnos(refused: &[Refused]) -> Vec<Option<i32>> {
    refused
        .iter()
        .map(|refused| refused.error.raw_os_error())
        .collect()
}

#[test]
#[ignore = "needs root, netns"]
fn a_packet_that_a_firewall_rejects_is_told_and_the_others_leave() {
    let _there = Host::linked();
    let (client, server) = ends();
    let mut link = open(server);
    run("nft add table ip probe");
    run("nft add chain ip probe out { type filter hook output priority 0 ; }");
    run("nft add rule ip probe out tcp flags syn reject with tcp reset");
    for number in 0..500 {
        // Every fifth, so that they stand at the start of a batch, inside, and at its end.
        let flags = if number % 5 == 0 {
            Flags::SYN
        } else {
            Flags::RST
        };
        link.queue(&segment(client, server, flags, (number, 0), &[]));
    }
    let begun = Instant::now();
    let (mut refused, mut left) = (Vec::new(), Vec::new());
    while left.len() < 400 {
        assert!(begun.elapsed() < PATIENCE);
        // The first wait for their neighbour's address, and fill the socket's buffer meanwhile.
        refused.extend(link.flush());
        link.wait(Some(PATIENCE)).unwrap();
        let seen = link.segments();
        left.extend(
            seen.iter()
                .filter(|s| s.segment.dst == server)
                .map(|s| s.segment.seq),
        );
    }
    assert_eq!(errnos(&refused), [Some(libc::EPERM); 100]);
    let expected = segment(client, server, Flags::SYN, (495, 0), &[]);
    assert_eq!(*refused[99].packet, *expected);
    assert!(left.iter().copied().eq((0..500).filter(|n| n % 5 != 0)));
}

#[test]
#[ignore = "needs root, netns"]
fn a_packet_beyond_the_mtu_is_told() {
    let _there = Host::linked();
    let (client, server) = ends();
    let mut link = open(server);
    link.queue(&segment(client, server, Flags::RST, (1, 0), &[0; 1461]));
    link.queue(&segment(client, server, Flags::RST, (2, 0), &[0; 1460]));
    assert_eq!(errnos(&link.flush()), [Some(libc::EMSGSIZE)]);
    let seen = link.until("the other", |seen| seen.segment.seq == 2);
    assert_eq!(seen[0].segment.seq, 2);
}

#[test]
#[ignore = "needs root, netns"]
fn a_route_that_has_gone_is_told() {
    let _there = Host::linked();
    let mut link = open(ends().1);
    run("ip addr flush dev near");
    link.queue(&numbered(1));
    assert_eq!(errnos(&link.flush()), [Some(libc::ENETUNREACH)]);
}

#[test]
#[ignore = "needs root, netns"]
fn what_the_sockets_buffer_has_no_room_for_leaves_later_and_in_order() {
    const ALL: u32 = 3000;
    let _there = Host::linked();
    let mut link = open(ends().1);
    // About twenty packets a second.
    run("tc qdisc add dev near root tbf rate 10kbit burst 1600 limit 10000000");
    for number in 0..ALL {
        link.queue(&numbered(number));
    }
    assert!(link.flush().is_empty());
    let queued = link.queued();
    assert!(queued > 1000, "{queued}");
    run("tc qdisc change dev near root tbf rate 1gbit burst 160000 limit 10000000");
    let begun = Instant::now();
    let mut left = Vec::new();
    while left.len() < ALL as usize {
        assert!(begun.elapsed() < PATIENCE);
        link.wait(Some(PATIENCE)).unwrap();
        assert!(link.flush().is_empty());
        left.extend(link.segments().iter().map(|seen| seen.segment.seq));
    }
    assert_eq!(link.queued(), 0);
    assert!(left.iter().copied().eq(0..ALL));
}
