//! The way to the network: whole IP packets out through a raw socket, so that routes and neighbours
//! stay the kernel's business, and in through a receive ring. Guards keep the kernel's own TCP from
//! answering for it. What the packets say is left to the engine.
#![expect(
    clippy::disallowed_types,
    reason = "raw sockets and guards are opened here"
)]

pub(crate) mod guards;
mod outbox;
pub(crate) mod path;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use outbox::Outbox;
pub(crate) use outbox::Refused;

use crate::observe::filter;
use crate::observe::route::Route;
use crate::sys::ring::Tap;
use crate::sys::ring::v2::{self, Ring};
use crate::sys::timespec;
use crate::time::Stamp;
use crate::wire;

/// 32 MiB are 16,384 frames: at 100,000 handshakes per second of three packets each, 55 ms of them.
const RING_MEBIBYTES: u32 = 32;
/// What packets longer than a frame may take up until they are read: some forty merged segments of
/// 64 KiB with the kernel's own share of them.
const LONG_PACKETS_BYTES: usize = 4 << 20;
/// The loopback interface of every name space (LOOPBACK_IFINDEX in include/net/flow.h).
const LOOPBACK: u32 = 1;
/// What this host's own errors may take up: a few for each connection that waits for a neighbour.
const ERRORS_MEBIBYTES: u32 = 1;
/// So many frames are handed on at most before what they call for can be sent.
const AT_ONCE: usize = 256;

/// A raw socket and a ring, both open.
pub(crate) struct Link {
    ring: Ring,
    /// The ICMP errors that this host makes itself, where another is the target: that a neighbour does
    /// not answer (arp_error_report, ndisc_error_report). They reach their sender by loopback.
    own_errors: Option<Ring>,
    outbox: Outbox,
    bad_checksums: u64,
    cut: u64,
}

/// A packet that was seen on the interface towards the target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// The kernel's stamp.
    pub(crate) at: Stamp,
    /// From the IP header on; fewer than `len` where the packet was cut.
    pub(crate) bytes: &'a [u8],
    /// How many there were.
    pub(crate) len: usize,
    /// Whether its checksums are right.
    pub(crate) checksum: Checksum,
}

/// Whether the checksums of a packet are right: the IPv4 header's, and TCP's or ICMP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// They are.
    Right,
    /// One is not: a host would drop the packet.
    Bad,
    /// The transport's was left to hardware, which on loopback and veth is not there.
    NotFilledIn,
    /// It cannot be known: the packet was cut, is a fragment, or cannot be read.
    Unknown,
}

/// What the link saw and what it missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkStats {
    /// Packets that passed the filter, both ways.
    pub(crate) packets: u64,
    /// Those that the kernel dropped for want of room in the ring.
    pub(crate) kernel_drops: u64,
    /// Those whose bytes were not all captured, for want of room in the queue of long packets.
    pub(crate) cut: u64,
    /// Those with a bad checksum.
    pub(crate) bad_checksums: u64,
}

impl Link {
    /// Opens everything that needs a privilege: the raw socket that sends, and the ring. When this
    /// returns every packet to or from `target` is seen, and ICMP errors. Needs CAP_NET_RAW (EPERM).
    pub(crate) fn open(target: SocketAddr, route: Route) -> io::Result<Link> {
        let program = filter::program(target, u32::MAX);
        let tap = Tap {
            interface: route.interface,
            filter: &program,
            received_only: route.local,
        };
        let at_home = Tap {
            interface: LOOPBACK,
            received_only: true,
            ..tap
        };
        let elsewhere = !route.local && route.interface != LOOPBACK;
        Ok(Link {
            ring: Ring::open(&tap, RING_MEBIBYTES, LONG_PACKETS_BYTES)?,
            own_errors: elsewhere
                .then(|| Ring::open(&at_home, ERRORS_MEBIBYTES, LONG_PACKETS_BYTES))
                .transpose()?,
            outbox: Outbox::new(raw_socket(target)?, target),
            bad_checksums: 0,
            cut: 0,
        })
    }

    /// Queues a packet, which begins with its IP header, and sends what is queued when that is much.
    /// Of IPv4 the kernel fills in the header's checksum, and an identification of 0 (raw(7)).
    pub(crate) fn queue(&mut self, packet: &[u8]) {
        self.outbox.push(packet);
    }

    /// Sends what is queued. Returned are the packets that the kernel refused since the last call,
    /// each with its error: EPERM by a firewall, ENETUNREACH without a route, EMSGSIZE beyond the
    /// interface's MTU. Where the socket's buffer is full the others stay queued.
    pub(crate) fn flush(&mut self) -> Vec<Refused> {
        self.outbox.flush();
        self.outbox.take_refused()
    }

    /// How many packets are still queued.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Hands on the packets that are there now, both ways, in the order in which the kernel had them,
    /// but only so many at once. Returns how many they were.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Received<'_>)) -> usize {
        let Link {
            ring,
            own_errors,
            bad_checksums,
            cut,
            ..
        } = self;
        let mut one = |frame: v2::Frame<'_>| {
            let received = Received {
                at: frame.at,
                bytes: frame.bytes,
                len: frame.len,
                checksum: Checksum::of(&frame),
            };
            *bad_checksums += u64::from(received.checksum == Checksum::Bad);
            *cut += u64::from(received.bytes.len() < received.len);
            each(received);
        };
        let mut next = || {
            ring.read_frame(&mut one)
                || own_errors
                    .as_mut()
                    .is_some_and(|ring| ring.read_frame(&mut one))
        };
        (0..AT_ONCE).take_while(|_| next()).count()
    }

    /// Waits until a packet is there, what is queued can be sent, a signal came, or the time is up.
    /// The error is the interface's: ENETDOWN, once, when it went down.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(timespec);
        let mut fds = vec![PollFd::new(&self.ring, PollFlags::IN)];
        fds.extend(
            self.own_errors
                .iter()
                .map(|ring| PollFd::new(ring, PollFlags::IN)),
        );
        if !self.outbox.is_empty() {
            fds.push(PollFd::new(self.outbox.socket(), PollFlags::OUT));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let failed = fds[0].revents().contains(PollFlags::ERR);
        if failed {
            self.ring.take_error()
        } else {
            Ok(())
        }
    }

    /// What was seen and missed so far.
    pub(crate) fn stats(&mut self) -> io::Result<LinkStats> {
        let ring = self.ring.stats()?;
        Ok(LinkStats {
            packets: ring.packets,
            kernel_drops: ring.drops,
            cut: self.cut,
            bad_checksums: self.bad_checksums,
        })
    }
}

impl Checksum {
    fn of(frame: &v2::Frame<'_>) -> Checksum {
        // Nobody leaves the IPv4 header's checksum to hardware.
        let transport = frame.checksum == v2::Checksum::Unknown;
        match wire::checksums_are_right(frame.bytes, frame.len, transport) {
            Some(false) => Checksum::Bad,
            _ if frame.checksum == v2::Checksum::NotFilledIn => Checksum::NotFilledIn,
            Some(true) => Checksum::Right,
            None => Checksum::Unknown,
        }
    }
}

/// A socket that sends IP packets as they are: with IPPROTO_RAW the header is included, in IPv6 too
/// (inet_create, inet6_create), and nothing is ever received. It is not connected, so that no error of
/// one packet is told of another.
fn raw_socket(target: SocketAddr) -> io::Result<Socket> {
    let domain = match target.ip() {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
}

#[cfg(test)]
mod tests;
