//! Against listeners of the kernel's: what is sent must arrive, what arrives must be seen, and the
//! kernel must keep out of it.
#![expect(
    clippy::disallowed_methods,
    reason = "waiting for packets is bounded by a clock"
)]

mod build;

use std::net::TcpListener;
use std::process::Command;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};

use self::build::segment;
use super::guards::Guards;
use super::*;
use crate::observe::route::route_to;
use crate::wire::{Flags, Packet, Segment};

/// Longer than this nothing here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("needs root: unshare(CLONE_NEWNET)");
    run("ip link set lo up");
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status();
    assert!(status.unwrap().success(), "{command}");
}

fn open(target: SocketAddr) -> Link {
    Link::open(target, route_to(target).unwrap()).unwrap()
}

impl Link {
    /// Sends a segment, which nobody refuses.
    fn send(&mut self, packet: &[u8]) {
        self.queue(packet);
        let refused = self.flush();
        assert!(refused.is_empty(), "{refused:?}");
    }

    /// Waits until `pick` finds what it looks for in a segment.
    fn await_segment<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Received<'_>, &Segment<'_>) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        let mut found = None;
        while found.is_none() {
            assert!(begun.elapsed() < PATIENCE, "waited for {what}");
            self.receive(|received| {
                let packet = wire::parse(received.at, received.bytes, received.len).unwrap();
                if let Packet::Segment(segment) = packet
                    && found.is_none()
                {
                    found = pick(&received, &segment);
                }
            });
            if found.is_none() {
                self.wait(Some(PATIENCE)).unwrap();
            }
        }
        found.unwrap()
    }
}

/// Does a handshake by hand and returns its last number: (sequence, acknowledgment).
fn shake_hands(link: &mut Link, client: SocketAddr, server: SocketAddr) -> (u32, u32) {
    link.send(&segment(client, server, Flags::SYN, (1000, 0), &[]));
    let theirs = link.await_segment("SYN-ACK", |_, segment| {
        (segment.src == server && segment.flags == Flags::SYN.with(Flags::ACK)).then(|| {
            assert_eq!(segment.ack, 1001);
            segment.seq
        })
    });
    let numbers = (1001, theirs.wrapping_add(1));
    link.send(&segment(client, server, Flags::ACK, numbers, &[]));
    numbers
}

fn handshake_on(address: &str) {
    enter_namespace();
    let listener = TcpListener::bind(address).unwrap();
    let server = listener.local_addr().unwrap();
    let mut link = open(server);
    let mut guards = Guards::new(server);
    let client = SocketAddr::new(server.ip(), guards.take().unwrap());
    shake_hands(&mut link, client, server);
    let (_accepted, peer) = listener.accept().unwrap();
    assert_eq!(peer, client);
}

#[test]
#[ignore = "needs root, netns"]
fn a_handshake_by_hand_over_ipv4_loopback_is_accepted() {
    handshake_on("127.0.0.1:0");
}

#[test]
#[ignore = "needs root, netns"]
fn a_handshake_by_hand_over_ipv6_loopback_is_accepted() {
    handshake_on("[::1]:0");
}
