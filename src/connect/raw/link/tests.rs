//! Against listeners of the kernel's: what is sent must arrive, what arrives must be seen, and the
//! kernel must keep out of it.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests listen, start processes, and bound their waiting by a clock"
)]

mod build;
mod guards;
mod path;
mod privileges;
mod receive;
mod send;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddrV6, TcpListener};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Instant;

use nix::sched::{CloneFlags, setns, unshare};

use self::build::segment;
use super::guards::Guards;
use super::path::Path;
use super::*;
use crate::observe::route::route_to;
use crate::wire::{Flags, Packet, Segment};

/// Longer than this nothing here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);

fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("needs root: unshare(CLONE_NEWNET)");
    run("ip link set lo up");
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{command}: {done:?}");
}

/// Another host behind a veth pair: `near` with 10.0.0.1, fd00::1 and fe80::1 here, `far` with
/// 10.0.0.2, fd00::2 and fe80::2 there.
struct Host(File);

impl Host {
    fn linked() -> Host {
        enter_namespace();
        let there = Host::current();
        configure("far", 2, |far| {
            run(&format!("ip link add {far} type veth peer name near"));
        });
        enter_namespace();
        let here = Host::current();
        there.within(|| {
            let path = format!("/proc/{}/fd/{}", std::process::id(), here.0.as_raw_fd());
            run(&format!("ip link set near netns {path}"));
        });
        configure("near", 1, |_| {});
        there
    }

    fn current() -> Host {
        Host(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// Does something there: what is opened there stays there.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let here = Host::current();
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
        let done = work();
        setns(&here.0, CloneFlags::CLONE_NEWNET).unwrap();
        done
    }

    fn listen(&self, address: &str) -> TcpListener {
        self.within(|| TcpListener::bind(address).unwrap())
    }
}

fn configure(interface: &str, number: u8, make: impl FnOnce(&str)) {
    make(interface);
    run(&format!("ip addr add 10.0.0.{number}/24 dev {interface}"));
    run(&format!(
        "ip addr add fd00::{number}/64 dev {interface} nodad"
    ));
    run(&format!("ip link set {interface} addrgenmode none"));
    run(&format!(
        "ip addr add fe80::{number}/64 dev {interface} nodad"
    ));
    run(&format!("ip link set {interface} up"));
}

fn open(target: SocketAddr) -> Link {
    Link::open(target, route_to(target).unwrap()).unwrap()
}

/// What a test looks at in a packet.
#[derive(Debug)]
struct Seen {
    segment: Segment<'static>,
    len: usize,
    captured: usize,
    checksum: Checksum,
}

impl Link {
    /// Sends a segment, which nobody refuses.
    fn send(&mut self, packet: &[u8]) {
        self.queue(packet);
        let refused = self.flush();
        assert!(refused.is_empty(), "{refused:?}");
    }

    /// The segments that are there now.
    fn segments(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        self.receive(|received| {
            let packet = wire::parse(received.at, received.bytes, received.len).unwrap();
            if let Packet::Segment(segment) = packet {
                seen.push(Seen {
                    segment: segment.into_owned(),
                    len: received.len,
                    captured: received.bytes.len(),
                    checksum: received.checksum,
                });
            }
        });
        seen
    }

    /// Collects segments until there is one that is waited for.
    fn until(&mut self, what: &str, is_it: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let begun = Instant::now();
        let mut seen = Vec::new();
        loop {
            let new = self.segments();
            let found = new.iter().any(&is_it);
            seen.extend(new);
            if found {
                return seen;
            }
            assert!(begun.elapsed() < PATIENCE, "waited for {what}: {seen:#?}");
            self.wait(Some(PATIENCE)).unwrap();
        }
    }

    fn until_from(&mut self, source: SocketAddr, flags: Flags) -> Seen {
        let what = format!("{flags} of {source}");
        let is_it = |seen: &Seen| seen.segment.src == source && seen.segment.flags == flags;
        let mut seen = self.until(&what, is_it);
        let at = seen.iter().position(is_it).unwrap();
        seen.swap_remove(at)
    }
}

/// A connection by hand: a client's half of it.
struct Conversation<'a> {
    link: &'a mut Link,
    client: SocketAddr,
    server: SocketAddr,
    seq: u32,
    ack: u32,
    /// What was seen, in the sequence notation's letters.
    seen: Vec<String>,
}

impl<'a> Conversation<'a> {
    /// Shakes hands.
    fn open(link: &'a mut Link, client: SocketAddr, server: SocketAddr) -> Conversation<'a> {
        let mut conversation = Conversation {
            link,
            client,
            server,
            seq: 1000,
            ack: 0,
            seen: Vec::new(),
        };
        conversation.send(Flags::SYN, &[]);
        conversation.until(SYN_ACK);
        conversation.send(Flags::ACK, &[]);
        conversation
    }

    fn send(&mut self, flags: Flags, payload: &[u8]) {
        let numbers = (self.seq, self.ack);
        let packet = segment(self.client, self.server, flags, numbers, payload);
        self.link.send(&packet);
        let space = u32::from(flags.syn()) + u32::from(flags.fin());
        self.seq += u32::try_from(payload.len()).unwrap() + space;
    }

    /// Takes what comes until a segment of the server's has these flags.
    fn until(&mut self, flags: Flags) {
        let (client, server) = (self.client, self.server);
        let ours = |segment: &Segment<'_>| (segment.src == client) != (segment.src == server);
        let awaited = |seen: &Seen| seen.segment.src == server && seen.segment.flags == flags;
        for seen in self.link.until(&format!("<{flags}"), awaited) {
            let segment = seen.segment;
            if !ours(&segment) {
                continue;
            }
            let arrow = if segment.src == server { '<' } else { '>' };
            self.seen.push(format!("{arrow}{}", segment.flags));
            if segment.src == server {
                self.ack = segment.seq.wrapping_add(segment.space());
            }
        }
    }

    /// Asks for something, gets an answer from the server, which closes, and closes.
    fn ask(mut self, listener: &TcpListener) -> Vec<String> {
        const PUSH: Flags = Flags::PSH.with(Flags::ACK);
        const FIN: Flags = Flags::FIN.with(Flags::ACK);
        let (mut accepted, peer) = listener.accept().unwrap();
        let expected = (self.client.ip(), self.client.port());
        assert_eq!((peer.ip().to_canonical(), peer.port()), expected);
        self.send(PUSH, b"ping");
        let mut question = [0; 4];
        accepted.read_exact(&mut question).unwrap();
        assert_eq!(&question, b"ping");
        accepted.write_all(b"pong").unwrap();
        self.until(PUSH);
        self.send(Flags::ACK, &[]);
        drop(accepted);
        self.until(FIN);
        self.send(FIN, &[]);
        self.until(Flags::ACK);
        self.seen
    }
}

/// Every segment is ours or the server's: nobody else spoke.
const WHOLE: [&str; 10] = [
    ">S", "<S.", ">.", ">P.", "<.", "<P.", ">.", "<F.", ">F.", "<.",
];

fn exchange_with(listener: &TcpListener, server: SocketAddr) {
    let mut link = open(server);
    let path = Path::to(server, route_to(server).unwrap(), None).unwrap();
    let mut guards = Guards::new(server);
    let client = SocketAddr::new(path.source, guards.take().unwrap());
    // In packets an address has no scope.
    let server = SocketAddr::new(server.ip(), server.port());
    let seen = Conversation::open(&mut link, client, server).ask(listener);
    assert_eq!(seen, WHOLE);
    let stats = link.stats().unwrap();
    // From a link-local address come reports of multicast groups too: they have extension headers.
    assert!(stats.packets >= 10);
    let missed = LinkStats {
        packets: 0,
        ..stats
    };
    assert_eq!(missed, LinkStats::default());
}

fn exchange_on_this_host(address: &str) {
    enter_namespace();
    let listener = TcpListener::bind(address).unwrap();
    let server = listener.local_addr().unwrap();
    exchange_with(&listener, server);
}

#[test]
#[ignore = "needs root, netns"]
fn an_exchange_by_hand_over_ipv4_loopback_is_ours_alone() {
    exchange_on_this_host("127.0.0.1:0");
}

#[test]
#[ignore = "needs root, netns"]
fn an_exchange_by_hand_over_ipv6_loopback_is_ours_alone() {
    exchange_on_this_host("[::1]:0");
}

#[test]
#[ignore = "needs root, netns"]
fn an_exchange_by_hand_with_another_host_is_ours_alone() {
    let there = Host::linked();
    for address in ["10.0.0.2:0", "[fd00::2]:0"] {
        let listener = there.listen(address);
        let server = listener.local_addr().unwrap();
        exchange_with(&listener, server);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn an_exchange_by_hand_over_a_link_local_address_is_ours_alone() {
    let there = Host::linked();
    let listener = there.listen("[::]:0");
    let near = nix::net::if_::if_nametoindex("near").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = SocketAddrV6::new("fe80::2".parse().unwrap(), port, 0, near);
    exchange_with(&listener, server.into());
}
