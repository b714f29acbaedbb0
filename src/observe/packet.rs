//! The wire vantage: a ring of packets to and from the target, read by a thread of its own, put in
//! order and handed on as they are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::net::if_::if_indextoname;
use rustix::event::{PollFd, PollFlags, poll};

use super::filter;
use super::order::Order;
use super::route::Route;
use crate::sys::ring::v3::{Layout, Ring};
use crate::sys::ring::{RingStats, Tap, may_open};
use crate::sys::timespec;
use crate::time::{Clock, Stamp};
use crate::wire::{self, Packet, ParseError};

/// Header blocks of requests and responses fit; bodies are counted by their length alone.
pub(crate) const SNAP: u32 = 4096;
/// 16 MiB: at 30,000 connections per second about a quarter of a second's packets.
const LAYOUT: Layout = Layout {
    block_bytes: 1 << 20,
    blocks: 16,
    retire_ms: RETIRE_MS,
};
/// How long a packet may sit in a block that is not full.
const RETIRE: Duration = Duration::from_millis(RETIRE_MS as u64);
const RETIRE_MS: u32 = 8;
/// How much later than its stamp a packet may reach the ring. Where every core is busy a processor's
/// backlog waits for ksoftirqd to be scheduled: over 12 ms was seen, at 10,000 connections per second.
const SLACK: Duration = Duration::from_millis(40);

/// What the wire showed since the last batch.
#[derive(Debug)]
pub(crate) struct Batch {
    /// In the order of their stamps.
    pub(crate) packets: Vec<Caught>,
    /// Nothing stamped before this will follow.
    pub(crate) watermark: Stamp,
}

/// A packet from the ring.
#[derive(Debug)]
pub(crate) struct Caught {
    /// What it is.
    pub(crate) packet: Packet<'static>,
    /// As it was, where that is kept.
    pub(crate) raw: Option<Raw>,
}

/// A packet's bytes.
#[derive(Debug)]
pub(crate) struct Raw {
    /// The kernel's stamp.
    pub(crate) at: Stamp,
    /// Those that were captured, from the IP header on.
    pub(crate) bytes: Box<[u8]>,
    /// How many there were on the wire.
    pub(crate) len: u32,
}

/// What the wire vantage saw and what it missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct WireStats {
    /// Packets that passed the filter.
    pub(crate) packets: u64,
    /// Packets that the kernel dropped for want of room.
    pub(crate) kernel_drops: u64,
    /// Packets that came out of order beyond what was waited for.
    pub(crate) late: u64,
    /// Fragments, counted and not read.
    pub(crate) fragments: u64,
    /// Packets that could not be read.
    pub(crate) malformed: u64,
    /// Packets with a wrong checksum, where somebody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bad_checksums: Option<u64>,
    /// RSTs that the engine sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resets: Option<u64>,
    /// RSTs that this host's own TCP sent into connections that are not its.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) foreign_resets: Option<u64>,
}

/// An interface's name.
pub(crate) fn interface_name(index: u32) -> String {
    let name = if_indextoname(index).map(|name| name.to_string_lossy().into_owned());
    // It may have gone since, and its number is a name as well.
    name.unwrap_or_else(|_| index.to_string())
}

/// Packets that were seen, on their way into a batch.
pub(crate) struct Gathered {
    /// Whether their bytes are kept.
    keep: bool,
    order: Order<Caught>,
    fragments: u64,
    malformed: u64,
}

impl Gathered {
    /// None; with `keep` each one's bytes will be kept.
    pub(crate) fn new(keep: bool) -> Gathered {
        Gathered {
            keep,
            order: Order::new(),
            fragments: 0,
            malformed: 0,
        }
    }

    /// Takes a packet that was stamped `at`: what could be read of it, its captured bytes and its length
    /// on the wire.
    pub(crate) fn take(
        &mut self,
        at: Stamp,
        read: Result<Packet<'_>, ParseError>,
        bytes: &[u8],
        len: usize,
    ) {
        match read {
            Ok(packet @ (Packet::Segment(_) | Packet::IcmpError(_))) => {
                let raw = self.keep.then(|| Raw {
                    at,
                    bytes: bytes.into(),
                    len: u32::try_from(len).unwrap_or(u32::MAX),
                });
                let packet = packet.into_owned();
                self.order.push(at, Caught { packet, raw });
            }
            Ok(Packet::Fragment) => self.fragments += 1,
            Ok(Packet::Other) => {}
            Err(_) => self.malformed += 1,
        }
    }

    /// A batch of what was stamped before `watermark`, before which nothing will follow.
    pub(crate) fn batch(&mut self, watermark: Stamp) -> Batch {
        Batch {
            packets: self.order.release(watermark),
            watermark,
        }
    }

    /// Up to when all has come, if whatever had come by `looked` was taken.
    pub(crate) fn complete_to(&self, looked: Option<Stamp>) -> Option<Stamp> {
        let latest = looked.max(self.order.newest());
        latest.map(|latest| latest - SLACK)
    }

    /// What was seen, `counted` by the kernel.
    pub(crate) fn stats(&self, counted: RingStats) -> WireStats {
        WireStats {
            packets: counted.packets,
            kernel_drops: counted.drops,
            late: self.order.late(),
            fragments: self.fragments,
            malformed: self.malformed,
            bad_checksums: None,
            resets: None,
            foreign_resets: None,
        }
    }
}

/// The ring, open and filling, with nobody reading it yet.
pub(crate) struct PacketTap {
    ring: Ring,
    interface: u32,
}

/// The running vantage.
pub(crate) struct PacketVantage {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<WireStats>,
}

impl PacketTap {
    /// Whether this user may open one at all.
    pub(crate) fn may_open() -> io::Result<()> {
        may_open()
    }

    /// Opens the ring; when this returns every packet to or from `target` is seen. Needs
    /// CAP_NET_RAW.
    pub(crate) fn open(target: SocketAddr, route: Route) -> io::Result<PacketTap> {
        let program = filter::program(target, SNAP);
        let tap = Tap {
            interface: route.interface,
            filter: &program,
            received_only: route.local,
        };
        let ring = Ring::open(&tap, LAYOUT)?;
        Ok(PacketTap {
            ring,
            interface: route.interface,
        })
    }

    /// The number of the interface that it listens to.
    pub(crate) fn interface(&self) -> u32 {
        self.interface
    }

    /// Reads it from a thread of its own; batches go to `sink` until it says that nobody listens.
    /// With `keep` their packets' bytes come along.
    pub(crate) fn read(
        self,
        clock: Clock,
        keep: bool,
        sink: impl FnMut(Batch) -> bool + Send + 'static,
    ) -> io::Result<PacketVantage> {
        let stop = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            ring: self.ring,
            clock,
            gathered: Gathered::new(keep),
        };
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("probe-wire".to_owned())
            .spawn(move || reader.run(&stopped, sink))?;
        Ok(PacketVantage { stop, thread })
    }
}

impl PacketVantage {
    /// Stops reading and says what was seen. What the ring still held is left out: whoever stops
    /// has waited for the watermark.
    pub(crate) fn stop(self) -> WireStats {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

struct Reader {
    ring: Ring,
    clock: Clock,
    gathered: Gathered,
}

impl Reader {
    fn run(mut self, stop: &AtomicBool, mut sink: impl FnMut(Batch) -> bool) -> WireStats {
        loop {
            // Read before the ring is: what is stamped before this and has had its time is in it.
            let looked = self.clock.now() - RETIRE;
            while self.read_block() {
                if !sink(self.batch(None)) {
                    return self.finish();
                }
            }
            if !sink(self.batch(Some(looked))) || stop.load(Ordering::Relaxed) {
                return self.finish();
            }
            self.wait();
        }
    }

    fn batch(&mut self, looked: Option<Stamp>) -> Batch {
        let watermark = self.gathered.complete_to(looked);
        self.gathered.batch(watermark.unwrap_or(Stamp(i64::MIN)))
    }

    fn read_block(&mut self) -> bool {
        let Reader { ring, gathered, .. } = self;
        ring.read_block(|frame| {
            let read = wire::parse(frame.at, frame.bytes, frame.len);
            gathered.take(frame.at, read, frame.bytes, frame.len);
        })
    }

    /// Waits for a full block, for as long as one may take to retire.
    fn wait(&mut self) {
        let mut fds = [PollFd::new(&self.ring, PollFlags::IN)];
        // A failed poll only means that the ring is looked at again at once.
        let _ = poll(&mut fds, Some(&timespec(RETIRE)));
        if fds[0].revents().contains(PollFlags::ERR) {
            // Its interface went down: packets come again once it is up.
            let _ = self.ring.take_error();
        }
    }

    fn finish(mut self) -> WireStats {
        let counted = self.ring.stats().unwrap_or_default();
        self.gathered.stats(counted)
    }
}
