//! What is seen of what arrives and leaves.

use std::net::Shutdown;

use super::*;
use crate::sys::ring::v3;

/// A segment that nobody answers.
fn silent(client: SocketAddr, server: SocketAddr, payload: &[u8]) -> Vec<u8> {
    segment(client, server, Flags::RST, (7, 0), payload)
}

fn ends() -> (SocketAddr, SocketAddr) {
    let address = |text: &str| text.parse().unwrap();
    (address("127.0.0.1:40000"), address("127.0.0.1:80"))
}

#[test]
#[ignore = "needs root, netns"]
fn packets_longer_than_a_frame_come_whole() {
    enter_namespace();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let mut link = open(server);
    let mut guards = Guards::new(server);
    let client = SocketAddr::new(server.ip(), guards.take().unwrap());
    let mut conversation = Conversation::open(&mut link, client, server);
    conversation.send(Flags::ACK, &[]);
    let (mut accepted, _) = listener.accept().unwrap();
    let answer: Vec<u8> = (0..60_000u32).map(|i| i.to_be_bytes()[3]).collect();
    // The window that is announced holds it all.
    accepted.write_all(&answer).unwrap();
    accepted.shutdown(Shutdown::Write).unwrap();
    let seen = link.until("FIN", |seen| seen.segment.flags.fin());
    let segments = seen.iter().filter(|seen| seen.segment.src == server);
    let mut longest = 0;
    let mut got = Vec::new();
    for seen in segments {
        assert_eq!((seen.captured, seen.segment.cut()), (seen.len, 0));
        assert_eq!(seen.checksum, Checksum::NotFilledIn);
        longest = longest.max(seen.len);
        got.extend_from_slice(&seen.segment.payload);
    }
    // Half the window at a time (tcp_bound_to_half_wnd).
    assert!(longest > 30_000, "{longest}");
    assert_eq!(got, answer);
    assert_eq!(link.stats().unwrap().cut, 0);
}

#[test]
#[ignore = "needs root, netns"]
fn long_packets_beyond_their_queue_are_cut_and_counted() {
    enter_namespace();
    let (client, server) = ends();
    let mut link = open(server);
    // Their bytes count twice over in the kernel's books (SO_RCVBUF): more than fits.
    let sent = 2 * LONG_PACKETS_BYTES / 60_000 + 10;
    for number in 0..sent {
        let number = u8::try_from(number % 256).unwrap();
        link.send(&silent(client, server, &vec![number; 60_000]));
    }
    let mut seen = Vec::new();
    while seen.len() < sent {
        let more = link.segments();
        assert!(!more.is_empty());
        seen.extend(more);
    }
    let mut cut = 0;
    for (number, seen) in seen.iter().enumerate() {
        assert_eq!(seen.len, 60_040);
        let payload = &seen.segment.payload;
        assert!(
            payload
                .iter()
                .all(|&byte| usize::from(byte) == number % 256)
        );
        if seen.captured < seen.len {
            cut += 1;
            assert_eq!(seen.checksum, Checksum::Unknown);
            assert!(seen.captured > 1900);
        } else {
            assert_eq!(seen.checksum, Checksum::Right);
        }
    }
    assert!(cut > 0 && cut < sent, "{cut} of {sent}");
    assert_eq!(link.stats().unwrap().cut, cut as u64);
    // Those that come when there is room again are whole again.
    link.send(&silent(client, server, &[1; 60_000]));
    let [seen] = &link.segments()[..] else {
        panic!("one packet");
    };
    assert_eq!(seen.captured, seen.len);
}

#[test]
#[ignore = "needs root, netns"]
fn what_finds_no_room_in_the_ring_is_counted() {
    enter_namespace();
    let (client, server) = ends();
    let mut link = open(server);
    let room = u64::from(RING_MEBIBYTES) * 512;
    let packet = silent(client, server, &[]);
    for _ in 0..room + 1000 {
        link.queue(&packet);
    }
    assert!(link.flush().is_empty());
    let mut seen = 0;
    loop {
        match link.segments().len() {
            0 => break,
            more => seen += more as u64,
        }
    }
    assert_eq!(seen, room);
    let expected = LinkStats {
        packets: room + 1000,
        kernel_drops: 1000,
        ..LinkStats::default()
    };
    assert_eq!(link.stats().unwrap(), expected);
    // What it dropped does not hold up what comes later.
    link.send(&packet);
    assert_eq!(link.segments().len(), 1);
    let stats = link.stats().unwrap();
    assert_eq!((stats.packets, stats.kernel_drops), (room + 1001, 1000));
}

#[test]
#[ignore = "needs root, netns"]
fn a_wrong_checksum_is_told_and_one_left_to_hardware_is_not() {
    let there = Host::linked();
    for (ours, theirs) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let listener = there.listen(&SocketAddr::new(theirs.parse().unwrap(), 0).to_string());
        let server = listener.local_addr().unwrap();
        let client = SocketAddr::new(ours.parse().unwrap(), 40_000);
        let mut link = open(server);
        let mut peer = there.within(|| open(client));

        let right = segment(server, client, Flags::RST, (7, 0), b"whole");
        let mut wrong = segment(server, client, Flags::ACK, (7, 0), b"whole");
        *wrong.last_mut().unwrap() ^= 1;
        peer.send(&right);
        peer.send(&wrong);
        let seen = link.until("both", |seen| seen.segment.flags == Flags::ACK);
        let told: Vec<_> = seen.iter().map(|seen| seen.checksum).collect();
        assert_eq!(told, [Checksum::Right, Checksum::Bad]);
        assert_eq!(link.stats().unwrap().bad_checksums, 1);
        // The kernel saw that as well: it did not answer.
        link.send(&segment(client, server, Flags::SYN, (1000, 0), &[]));
        let answer = link.until_from(server, SYN_ACK);
        assert_eq!(answer.checksum, Checksum::NotFilledIn);
        assert_eq!(link.stats().unwrap().bad_checksums, 1);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn the_kernels_own_checksums_are_right_where_it_fills_them_in() {
    let there = Host::linked();
    there.within(|| run("ethtool -K far tx off"));
    for theirs in ["10.0.0.2:0", "[fd00::2]:0"] {
        let listener = there.listen(theirs);
        let server = listener.local_addr().unwrap();
        let mut link = open(server);
        let mut guards = Guards::new(server);
        let path = Path::to(server, route_to(server).unwrap(), None).unwrap();
        let client = SocketAddr::new(path.source, guards.take().unwrap());
        link.send(&segment(client, server, Flags::SYN, (1000, 0), &[]));
        let answer = link.until_from(server, SYN_ACK);
        assert_eq!(answer.checksum, Checksum::Right);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn what_leaves_towards_another_host_is_seen_leaving() {
    let there = Host::linked();
    let listener = there.listen("10.0.0.2:0");
    let server = listener.local_addr().unwrap();
    let client: SocketAddr = "10.0.0.1:40000".parse().unwrap();
    let mut link = open(server);
    let clock = crate::time::Clock::start();
    link.send(&segment(client, server, Flags::SYN, (1000, 0), &[]));
    let seen = link.until("SYN-ACK", |seen| seen.segment.flags == SYN_ACK);
    let told: Vec<_> = seen
        .iter()
        .map(|seen| {
            (
                seen.segment.flags,
                seen.segment.dst == server,
                seen.checksum,
            )
        })
        .collect();
    assert_eq!(
        told[..2],
        [
            (Flags::SYN, true, Checksum::Right),
            (SYN_ACK, false, Checksum::NotFilledIn)
        ]
    );
    let now = clock.now();
    let at = |i: usize| seen[i].segment.at;
    assert!(clock.started() <= at(0) && at(0) <= at(1) && at(1) <= now);
}

#[test]
#[ignore = "needs root, netns"]
fn an_icmp_error_is_seen() {
    let there = Host::linked();
    let target: SocketAddr = "10.0.0.2:80".parse().unwrap();
    let client: SocketAddr = "10.0.0.1:40000".parse().unwrap();
    there.within(|| {
        run("nft add table inet probe");
        run("nft add chain inet probe in { type filter hook input priority 0 ; }");
        run("nft add rule inet probe in tcp dport 80 reject with icmpx port-unreachable");
    });
    let mut link = open(target);
    link.send(&segment(client, target, Flags::SYN, (1000, 0), &[]));
    let begun = Instant::now();
    let mut error = None;
    while error.is_none() {
        assert!(begun.elapsed() < PATIENCE);
        link.wait(Some(PATIENCE)).unwrap();
        link.receive(|received| {
            let packet = wire::parse(received.at, received.bytes, received.len).unwrap();
            if let Packet::IcmpError(found) = packet {
                error = Some((found, received.checksum));
            }
        });
    }
    let (_, checksum) = error.unwrap();
    assert_eq!(checksum, Checksum::Right);
}

#[test]
#[ignore = "needs root, netns"]
fn an_interface_that_goes_down_is_told_once() {
    let _there = Host::linked();
    let mut link = open("10.0.0.2:80".parse().unwrap());
    run("ip link set near down");
    let error = link.wait(Some(PATIENCE)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
    link.wait(Some(Duration::ZERO)).unwrap();
}

#[test]
#[ignore = "needs root, netns"]
fn a_vantage_is_not_kept_awake_by_an_interface_that_went_down() {
    let _there = Host::linked();
    let target = "10.0.0.2:80".parse().unwrap();
    let tap = Tap {
        interface: route_to(target).unwrap().interface,
        filter: &filter::program(target, u32::MAX),
        received_only: false,
    };
    let layout = v3::Layout {
        block_bytes: 1 << 16,
        blocks: 2,
        retire_ms: 8,
    };
    let mut ring = v3::Ring::open(&tap, layout).unwrap();
    run("ip link set near down");
    let failed = |ring: &v3::Ring, patience| {
        let mut fds = [PollFd::new(ring, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(patience))).unwrap();
        fds[0].revents().contains(PollFlags::ERR)
    };
    assert!(failed(&ring, PATIENCE));
    let error = ring.take_error().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
    assert!(!failed(&ring, Duration::ZERO));
}
