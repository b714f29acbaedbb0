//! The raw engine: probe's own TCP, segment by segment, over raw sockets. It decides what is sent and
//! when, sees every packet of its connections itself, and is so its own wire vantage. TCP is left to
//! [`engine`], the way to the network to `link`.

mod addresses;
#[doc(hidden)]
pub mod bench;
mod conn;
mod connections;
pub mod engine;
pub(crate) mod link;
pub(crate) mod manner;
mod resets;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use self::addresses::{Addresses, Ports};
use self::connections::Connections;
use self::engine::Config;
use self::link::Link;
use self::link::guards::Guards;
use self::link::path::Path;
use self::manner::Manner;
use super::{Engine, Job, LOOPBACK_SOURCES, Lingering};
use crate::observe::packet::{Batch, WireStats};
use crate::observe::route::Route;
use crate::outcome::Attempt;
use crate::sys::host;
use crate::sys::ring::RingStats;
use crate::time::{Clock, Stamp};

/// Segments sent before what they call forth is looked at: the ring holds that many times over what a
/// burst of them brings.
const SENT_AT_ONCE: usize = 512;
/// Rounds of receiving before something else is looked at.
const ROUNDS: usize = 16;
/// How often packets are handed on: records wait for them.
const HAND_ON: Duration = Duration::from_millis(8);
/// The largest packet there is: IPv6's length field does not count its header, and the MTU of loopback
/// allows for one byte of that.
const LARGEST: usize = 65_535 + 40;
/// What may be on its way to us at once, in bytes: a Linux host begins with a quarter of it and grows
/// to more.
const RECEIVE_BUFFER: u32 = 256 << 10;

/// How packets get to the server and back, all of it open.
pub(crate) struct Way {
    link: Link,
    path: Path,
}

impl Way {
    /// Opens what needs a privilege. Errors: EPERM without CAP_NET_RAW.
    pub(crate) fn open(target: SocketAddr, route: Route) -> io::Result<Way> {
        Ok(Way {
            link: Link::open(target, route)?,
            path: Path::to(target, route, None)?,
        })
    }
}

/// Takes packets; says whether anybody still does.
pub(crate) type Sink = Box<dyn FnMut(Batch) -> bool + Send>;

/// The engine at work.
pub(crate) struct RawEngine {
    link: Link,
    connections: Connections,
    /// Where segments are made.
    packet: Vec<u8>,
    sink: Sink,
    handed_on: Stamp,
    complete_to: Stamp,
    clock: Clock,
}

impl RawEngine {
    /// An engine that has not opened anything yet; what it sees goes to `sink`, with `keep` bytes and
    /// all.
    pub(crate) fn new(
        job: Job,
        manner: Manner,
        way: Way,
        clock: Clock,
        keep: bool,
        sink: Sink,
    ) -> RawEngine {
        let Way { link, path } = way;
        let server = SocketAddr::new(job.target.ip(), job.target.port());
        let config = Config {
            server,
            mss: path.mss,
            receive_buffer: RECEIVE_BUFFER,
            window_scale: host::window_scale(),
            seed: seed(),
        };
        let guards = Guards::new(job.target);
        let (sources, spare) = sources(&job, path.source);
        let ports = Ports {
            wanted: job.ports,
            most: job.most_ports,
        };
        let addresses = Addresses::new(guards, sources, spare, ports);
        RawEngine {
            link,
            packet: vec![0; LARGEST],
            sink,
            handed_on: clock.now(),
            complete_to: clock.now(),
            clock,
            connections: Connections::new(job, manner, config, addresses, clock, keep),
        }
    }

    /// Sends what TCP has to send, or much of it; says whether that was all.
    fn transmit(&mut self) -> bool {
        let RawEngine {
            link,
            connections,
            packet,
            ..
        } = self;
        let mut sent = 0;
        while sent < SENT_AT_ONCE
            && let Some(len) = connections.next_packet(packet)
        {
            sent += 1;
            link.queue(&packet[..len]);
        }
        for refused in link.flush() {
            connections.note_refused(&refused.packet, &refused.error);
        }
        sent < SENT_AT_ONCE
    }

    /// Takes what the link has, or much of it, and what is due; says whether that was all.
    fn receive(&mut self) -> bool {
        let RawEngine {
            link, connections, ..
        } = self;
        let mut rounds = 0..ROUNDS;
        let all = rounds.any(|_| link.receive(|received| connections.take(&received)) == 0);
        connections.take_timeouts();
        all
    }

    /// Hands on what was seen, now that all that had come by `looked` was taken, where that can be
    /// said.
    fn hand_on(&mut self, looked: Option<Stamp>) {
        let now = self.clock.now();
        let Some(to) = self.connections.gathered.complete_to(looked) else {
            return;
        };
        if now > self.handed_on + HAND_ON {
            self.handed_on = now;
            // Whoever stops listening has failed, and says so itself.
            let _ = (self.sink)(self.connections.gathered.batch(to));
        }
    }

    /// Answers what comes until `until`, or until something does.
    fn attend(&mut self, until: Option<Stamp>) -> io::Result<()> {
        let idle = self.transmit();
        let now = self.clock.now();
        let soon = if idle { now + HAND_ON } else { now };
        let due = [until, self.connections.poll_timeout(), Some(soon)];
        let wake = due.into_iter().flatten().min();
        self.wait(wake.map(|wake| self.clock.until(wake)))?;
        // Read before the ring is.
        let looked = self.clock.now();
        let all = self.receive();
        // What came is answered at once, and what is written next stands in a segment of its own.
        self.transmit();
        let looked = all.then_some(looked);
        self.complete_to = looked.unwrap_or(self.complete_to);
        self.hand_on(looked);
        Ok(())
    }

    /// As the link does, but goes on where the interface went down: nothing comes until it is up again,
    /// and then the ring fills by itself (`packet_notifier`). What is sent meanwhile is refused, as a
    /// socket's is.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.link.wait(timeout) {
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(()),
            waited => waited,
        }
    }

    /// Goes on answering until told to stop; then resets what is left.
    fn linger(mut self, stop: &AtomicBool) -> WireStats {
        while !stop.load(Ordering::Relaxed) {
            if self.attend(None).is_err() {
                break;
            }
        }
        // What follows is recorded by nobody: its echo may overflow the ring.
        let counted = self.link.stats().unwrap_or_default();
        let resets = &self.connections.resets;
        let (sent, foreign) = (resets.sent(), resets.foreign());
        self.connections.reset_all();
        while !self.transmit() || self.link.queued() > 0 {
            if self.wait(Some(HAND_ON)).is_err() {
                break;
            }
        }
        let drops = RingStats {
            packets: counted.packets,
            drops: counted.kernel_drops,
        };
        WireStats {
            bad_checksums: Some(counted.bad_checksums),
            resets: Some(sent),
            foreign_resets: Some(foreign),
            ..self.connections.gathered.stats(drops)
        }
    }
}

impl Engine for RawEngine {
    fn steady_started(&self) -> u64 {
        self.connections.roster.steady_started()
    }

    fn started(&self) -> u64 {
        self.connections.roster.started()
    }

    fn is_settled(&self) -> bool {
        self.connections.roster.is_settled()
    }

    fn first_opened(&self) -> Option<Stamp> {
        self.connections.roster.first_opened()
    }

    fn is_done(&self) -> bool {
        self.connections.roster.is_done()
    }

    fn trigger(&mut self, at: Stamp) {
        self.connections.roster.trigger(at);
    }

    fn turn(&mut self, steady_limit: u64, wake: Option<Stamp>) -> io::Result<()> {
        self.connections.open_due(steady_limit);
        let ended = self.connections.release();
        if !ended.is_empty() {
            self.transmit();
            self.connections.tell_closed_by_peer(&ended);
            // A request to this host is answered by now, and the kernel knows that before it is told to
            // close.
            self.receive();
            self.connections.close(&ended);
        }
        let now = self.clock.now();
        let until = self.connections.roster.next_due(now, steady_limit, wake);
        self.attend(until)?;
        self.connections.expire();
        Ok(())
    }

    fn interrupt(&mut self) {
        self.connections.interrupt();
        self.transmit();
    }

    fn take_ended(&mut self) -> Vec<Attempt> {
        self.connections.take_ended()
    }

    fn moved_to(&self) -> Option<usize> {
        self.connections.moved_to()
    }

    fn complete_to(&self) -> Stamp {
        self.complete_to
    }

    fn linger(self: Box<Self>) -> io::Result<Lingering> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("probe-raw".to_owned())
            .spawn(move || RawEngine::linger(*self, &told))?;
        Ok(Lingering::new(stop, thread))
    }
}

/// What no other host can guess, and the next run draws as well: a server that is in TIME-WAIT since the
/// last one takes a SYN from the same port only where sequence number or timestamp goes on from there
/// (RFC 6191).
fn seed() -> u64 {
    let Some(boot) = host::boot_id() else {
        return RandomState::new().build_hasher().finish();
    };
    let mut hasher = DefaultHasher::new();
    boot.hash(&mut hasher);
    hasher.finish()
}

/// The source addresses of a job, the kernel's choice or on loopback as many as it takes; and those that
/// may serve besides.
fn sources(job: &Job, chosen: IpAddr) -> (Vec<IpAddr>, VecDeque<IpAddr>) {
    let address = |n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n));
    let sources = match job.sources.min(LOOPBACK_SOURCES) {
        0 | 1 => vec![chosen],
        last => (1..=last).map(address).collect(),
    };
    let loopback_v4 = matches!(job.target.ip(), IpAddr::V4(ip) if ip.is_loopback());
    let others = (1..=LOOPBACK_SOURCES).map(address);
    let others = others.filter(|other| loopback_v4 && !sources.contains(other));
    let others = others.collect();
    (sources, others)
}
