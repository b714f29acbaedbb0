//! The raw engine: probe's own TCP, segment by segment, over raw sockets. It decides what is sent and
//! when, sees every packet of its connections itself, and is so its own wire vantage. TCP is left to
//! [`engine`], the way to the network to `link`.

mod addresses;
#[doc(hidden)]
pub mod bench;
mod conn;
pub mod engine;
pub(crate) mod link;
pub(crate) mod manner;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use self::addresses::Addresses;
use self::conn::{Conn, Stage};
use self::engine::{Close, Config, Event, Handshake, Id, State, Transmit};
use self::link::guards::Guards;
use self::link::path::Path;
use self::link::{Checksum, Link, Received};
use self::manner::{CloseBy, Does, Manner};
use super::errno::classify;
use super::request::Template;
use super::roster::{Expired, Roster};
use super::schedule::Due;
use super::{Engine, Job, LOOPBACK_SOURCES, Lingering, Opening};
use crate::observe::packet::{Batch, Gathered, WireStats};
use crate::observe::route::Route;
use crate::outcome::{Attempt, Call, Cohort, Errno, Failure, Maker, SocketEnd};
use crate::sys::host;
use crate::sys::ring::RingStats;
use crate::time::{Clock, Stamp};
use crate::wire::{self, IcmpError, Packet, Segment};

/// Connections opened before the engine looks at those that are open.
const BURST: usize = 256;
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
    core: Core,
    /// Where segments are made.
    packet: Vec<u8>,
    sink: Sink,
    handed_on: Stamp,
}

/// All of it but the way to the network.
struct Core {
    job: Job,
    /// The target, as packets name it: without a link-local address's scope.
    server: SocketAddr,
    manner: Manner,
    clock: Clock,
    addresses: Addresses,
    tcp: engine::Engine,
    /// By their slots in `tcp`.
    conns: Vec<Option<Conn>>,
    roster: Roster<Id>,
    requests: Requests,
    gathered: Gathered,
    ended: Vec<Attempt>,
    /// Handshakes done so far.
    connected: u64,
    /// RSTs that were sent, and that were seen to leave.
    resets: [u64; 2],
}

/// Requests, made anew for every segment: to keep them would cost more than all else that is known of
/// a connection.
struct Requests {
    template: Template,
    /// The last one.
    bytes: Vec<u8>,
    /// Whose it is.
    of: Option<u64>,
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
            seed: RandomState::new().build_hasher().finish(),
        };
        let guards = Guards::new(job.target);
        let sources = sources(&job, path.source);
        RawEngine {
            link,
            packet: vec![0; LARGEST],
            sink,
            handed_on: clock.now(),
            core: Core {
                server,
                manner,
                clock,
                addresses: Addresses::new(guards, sources, job.ports),
                tcp: engine::Engine::new(config),
                conns: Vec::new(),
                roster: Roster::new(&job),
                requests: Requests::new(job.request.clone()),
                gathered: Gathered::new(keep),
                ended: Vec::new(),
                connected: 0,
                resets: [0; 2],
                job,
            },
        }
    }

    /// Sends what TCP has to send, or much of it; says whether that was all.
    fn transmit(&mut self) -> bool {
        let RawEngine {
            link, core, packet, ..
        } = self;
        let now = core.clock.now();
        let mut sent = 0;
        while sent < SENT_AT_ONCE
            && let Some(transmit) = core.tcp.poll_transmit(now)
        {
            sent += 1;
            let payload = core.payload(&transmit, now);
            if let Some(len) = transmit.write(payload, packet) {
                link.queue(&packet[..len]);
                core.resets[0] += u64::from(transmit.flags.rst());
            }
        }
        for refused in link.flush() {
            core.note_refused(&refused.packet, &refused.error);
        }
        sent < SENT_AT_ONCE
    }

    /// Takes what the link has, or much of it, and what is due; says whether that was all.
    fn receive(&mut self) -> bool {
        let RawEngine { link, core, .. } = self;
        let mut rounds = 0..ROUNDS;
        let all = rounds.any(|_| link.receive(|received| core.take(&received)) == 0);
        core.tcp.handle_timeout(core.clock.now());
        core.note_events(core.clock.now());
        all
    }

    /// Hands on what was seen, now that all that had come by `looked` was taken, where that can be
    /// said.
    fn hand_on(&mut self, looked: Option<Stamp>) {
        let now = self.core.clock.now();
        let Some(to) = self.core.gathered.complete_to(looked) else {
            return;
        };
        if now > self.handed_on + HAND_ON {
            self.handed_on = now;
            // Whoever stops listening has failed, and says so itself.
            let _ = (self.sink)(self.core.gathered.batch(to));
        }
    }

    /// Answers what comes until `until`, or until something does.
    fn attend(&mut self, until: Option<Stamp>) -> io::Result<()> {
        let idle = self.transmit();
        let clock = self.core.clock;
        let now = clock.now();
        let soon = if idle { now + HAND_ON } else { now };
        let due = [until, self.core.tcp.poll_timeout(), Some(soon)];
        let wake = due.into_iter().flatten().min();
        self.link.wait(wake.map(|wake| clock.until(wake)))?;
        // Read before the ring is.
        let looked = clock.now();
        let all = self.receive();
        // What came is answered at once, and what is written next stands in a segment of its own.
        self.transmit();
        self.hand_on(all.then_some(looked));
        Ok(())
    }

    /// Goes on answering until told to stop; then resets what is left.
    fn linger(mut self, stop: &AtomicBool) -> WireStats {
        while !stop.load(Ordering::Relaxed) {
            // Nothing is lost by an interface that went down: there is nothing left to measure.
            if self.attend(None).is_err() {
                break;
            }
        }
        // What follows is recorded by nobody: its echo may overflow the ring.
        let counted = self.link.stats().unwrap_or_default();
        let foreign = self.core.resets[1].saturating_sub(self.core.resets[0]);
        self.core.reset_all();
        while !self.transmit() || self.link.queued() > 0 {
            if self.link.wait(Some(HAND_ON)).is_err() {
                break;
            }
        }
        let drops = RingStats {
            packets: counted.packets,
            drops: counted.kernel_drops,
        };
        WireStats {
            bad_checksums: Some(counted.bad_checksums),
            resets: Some(self.core.resets[0]),
            foreign_resets: Some(foreign),
            ..self.core.gathered.stats(drops)
        }
    }
}

impl Core {
    fn open_due(&mut self, steady_limit: u64) {
        for _ in 0..BURST {
            let now = self.clock.now();
            match self.roster.next(now, steady_limit) {
                Some((cohort, Due::Now)) => self.open_one(cohort, None, now),
                Some((cohort, Due::Since(since))) => self.open_one(cohort, Some(since), now),
                Some((_, Due::At(_) | Due::AfterAnother)) | None => return,
            }
        }
    }

    fn open_one(&mut self, cohort: Cohort, due: Option<Stamp>, now: Stamp) {
        let opening = Opening {
            number: self.roster.started() + 1,
            cohort,
            due,
        };
        self.roster.started_one(cohort, now);
        match self.begin(now) {
            Ok((id, client)) => {
                if self.conns.len() <= id.slot() {
                    self.conns.resize_with(id.slot() + 1, || None);
                }
                self.conns[id.slot()] = Some(Conn::new(id, opening, client, now));
                let splits = matches!(self.manner.does, Does::Split { .. });
                let holds = splits || cohort == Cohort::Idle;
                self.roster.opened(id, cohort, now, holds);
            }
            Err(error) => {
                let mut attempt = opening.attempt(Maker::Raw, self.job.target, now);
                attempt.end = failed(Call::Socket, classify(&error));
                attempt.ended = self.clock.now();
                self.ended.push(attempt);
            }
        }
    }

    /// Has TCP begin a connection from an address that nobody uses.
    fn begin(&mut self, now: Stamp) -> io::Result<(Id, SocketAddr)> {
        let client = self.addresses.take()?;
        let handshake = match self.manner.does {
            Does::Syn => Handshake::HalfOpen,
            Does::Ask | Does::Handshake | Does::Split { .. } => Handshake::Full,
        };
        let begun = self.tcp.open(now, client, handshake);
        let id = begun.ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRINUSE))?;
        Ok((id, client))
    }

    /// The payload of a segment.
    fn payload(&mut self, transmit: &Transmit, now: Stamp) -> &[u8] {
        let range = transmit.payload.clone();
        let conn = transmit.id.and_then(|id| live(&mut self.conns, id));
        let Some(conn) = conn.filter(|_| !range.is_empty()) else {
            return &[];
        };
        conn.send(now);
        let request = self.requests.of(conn.number());
        let place = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        request
            .get(place(range.start)..place(range.end))
            .unwrap_or_default()
    }

    /// A packet could not be sent. Linux's own TCP only minds where there is no way at all
    /// (`tcp_v4_connect`); what a firewall holds back is lost like any other packet (`tcp_connect`).
    fn note_refused(&mut self, packet: &[u8], error: &io::Error) {
        let now = self.clock.now();
        let Ok(Packet::Segment(segment)) = wire::parse(now, packet, packet.len()) else {
            return;
        };
        let is_lost = matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOBUFS));
        if segment.flags.syn()
            && !is_lost
            && let Some(id) = self.tcp.find(segment.src)
        {
            self.end(id, failed(Call::Connect, classify(error)), now);
        }
    }

    /// Takes a packet that was seen on the interface.
    fn take(&mut self, received: &Received<'_>) {
        // A host drops such a packet, and nobody knows whom it is from.
        if received.checksum == Checksum::Bad {
            return;
        }
        let read = wire::parse(received.at, received.bytes, received.len);
        let at = received.at;
        match &read {
            Ok(Packet::Segment(segment)) if segment.src == self.server => {
                self.take_segment(segment);
            }
            Ok(Packet::Segment(segment)) => {
                let ours = segment.flags.rst() && self.addresses.hold(segment.src.port());
                self.resets[1] += u64::from(ours);
            }
            Ok(Packet::IcmpError(error)) => {
                self.tcp.handle_icmp(at, error);
                self.note_events(at);
            }
            Ok(Packet::Fragment | Packet::Other) | Err(_) => {}
        }
        self.gathered.take(at, read, received.bytes, received.len);
    }

    fn take_segment(&mut self, segment: &Segment<'_>) {
        let now = self.clock.now();
        let Core {
            tcp, conns, job, ..
        } = self;
        let mut completed = false;
        let id = tcp.handle_segment(now, segment, &mut |id, chunk| {
            if let Some(conn) = live(conns, id).filter(|conn| conn.stage() != Stage::Over) {
                let was_complete = conn.is_complete();
                let answer = conn.answer(job.content);
                answer.take(chunk.bytes, segment.at);
                answer.skip(chunk.unseen.into(), segment.at);
                completed |= !was_complete && conn.is_complete() && !conn.is_idle();
            }
        });
        if let Some(id) = id.filter(|_| completed) {
            self.roster.completed(id, segment.at);
        }
        self.note_events(segment.at);
    }

    /// Takes what TCP says happened at `at`.
    fn note_events(&mut self, at: Stamp) {
        while let Some((id, event)) = self.tcp.poll_event() {
            match event {
                Event::Connected => self.connected(id, at),
                Event::PeerClosed => self.peer_closed(id, at),
                Event::Reset { from } => {
                    let (call, errno) = match from {
                        State::SynSent => (Call::Connect, Errno::Refused),
                        _ => (Call::Read, Errno::Reset),
                    };
                    self.end(id, failed(call, errno), at);
                }
                Event::Unreachable(error) => {
                    self.end(id, failed(Call::Connect, errno_of(&error)), at);
                }
                Event::TimedOut => {
                    let call = match live(&mut self.conns, id) {
                        Some(conn) if conn.is_connected() => Call::Read,
                        _ => Call::Connect,
                    };
                    self.end(id, failed(call, Errno::TimedOut), at);
                }
                Event::Gone => {
                    let slot = self.conns.get_mut(id.slot());
                    if let Some(conn) = slot.and_then(Option::take) {
                        self.addresses.give_back(conn.client());
                    }
                }
            }
        }
    }

    /// The SYN was answered: does what is to be done then.
    fn connected(&mut self, id: Id, at: Stamp) {
        let Some(conn) = live(&mut self.conns, id) else {
            return;
        };
        if self.manner.does == Does::Syn {
            // To the server it never is.
            self.end(id, SocketEnd::Left, at);
            return;
        }
        conn.connect(at);
        self.connected += 1;
        let released = self.roster.is_released(at);
        match self.manner.does {
            Does::Handshake | Does::Syn => conn.set_stage(Stage::Asked),
            Does::Ask if conn.cohort() == Cohort::Idle && !released => {
                conn.set_stage(Stage::Holding { ended: false });
            }
            Does::Ask => self.ask_rest(id, at),
            Does::Split { first, .. } => {
                conn.set_stage(Stage::Holding { ended: false });
                self.write(id, first, at);
                if released {
                    // In a segment of its own all the same: after this turn.
                    self.roster.hold(id);
                }
            }
        }
    }

    fn peer_closed(&mut self, id: Id, at: Stamp) {
        let content = self.job.content;
        let Some(conn) = live(&mut self.conns, id) else {
            return;
        };
        if conn.is_idle() {
            conn.set_stage(Stage::Holding { ended: true });
            return;
        }
        if conn.stage() != Stage::Over {
            conn.answer(content).finish(at);
            self.end(id, SocketEnd::Eof, at);
        }
    }

    /// Has those send what they held back whose time has come; says who has nothing to wait for then.
    fn release(&mut self) -> Vec<Id> {
        let now = self.clock.now();
        let mut ended = Vec::new();
        for id in self.roster.take_released(now) {
            self.roster.released(id, now);
            let stage = live(&mut self.conns, id).map(|conn| conn.stage());
            // Who is connecting sends it once it is connected.
            if let Some(Stage::Holding { ended: over }) = stage {
                self.ask_rest(id, now);
                if over {
                    ended.push(id);
                } else if live(&mut self.conns, id).is_some_and(|conn| conn.is_complete()) {
                    // The server lost patience meanwhile, and said so.
                    self.roster.completed(id, now);
                }
            }
        }
        ended
    }

    /// Writes what of the request is not written.
    fn ask_rest(&mut self, id: Id, now: Stamp) {
        self.write(id, u64::MAX, now);
        if let Some(conn) = live(&mut self.conns, id) {
            conn.set_stage(Stage::Asked);
        }
    }

    /// Writes so many more bytes of the request, as far as it goes.
    fn write(&mut self, id: Id, bytes: u64, now: Stamp) {
        if let Some(conn) = live(&mut self.conns, id) {
            let len = self.requests.of(conn.number()).len() as u64;
            let more = conn.write(bytes, len);
            self.tcp.write(now, id, more);
        }
    }

    /// Ends connections whose time is up.
    fn expire(&mut self) {
        let now = self.clock.now();
        loop {
            let conns = &self.conns;
            let is_live = |id: Id| {
                let conn = conns.get(id.slot()).and_then(Option::as_ref);
                conn.is_some_and(|conn| conn.id() == id && conn.stage() != Stage::Over)
            };
            match self.roster.expired(now, is_live) {
                Some(Expired::Grace(id)) => self.end(id, SocketEnd::Enough, now),
                Some(Expired::LateDeadline(id)) => self.time_out(id, now),
                Some(Expired::Deadline(id)) => {
                    let conn = live(&mut self.conns, id);
                    let holds = conn.is_some_and(|conn| {
                        let held = conn.cohort() == Cohort::Idle
                            || matches!(self.manner.does, Does::Split { .. });
                        held && conn.is_connected()
                    });
                    if !holds {
                        self.time_out(id, now);
                    }
                }
                None => return,
            }
        }
    }

    fn time_out(&mut self, id: Id, now: Stamp) {
        let Some(conn) = live(&mut self.conns, id) else {
            return;
        };
        let end = if conn.is_complete() {
            SocketEnd::Enough
        } else if conn.is_connected() && !self.manner.does.asks() {
            SocketEnd::Left
        } else {
            SocketEnd::Deadline
        };
        self.end(id, end, now);
    }

    /// Tells what became of a connection, and has TCP end it.
    fn end(&mut self, id: Id, end: SocketEnd, at: Stamp) {
        if self.tell(id, end, at) {
            self.close(id);
        }
    }

    /// Tells what became of a connection, unless that was done.
    fn tell(&mut self, id: Id, end: SocketEnd, at: Stamp) -> bool {
        let status = self.tcp.status(id);
        let Some(conn) = live(&mut self.conns, id).filter(|conn| conn.stage() != Stage::Over)
        else {
            return false;
        };
        conn.set_stage(Stage::Over);
        self.ended
            .push(conn.attempt(self.job.target, status, end, at));
        self.roster.ended(conn.cohort());
        true
    }

    /// Has TCP end a connection.
    fn close(&mut self, id: Id) {
        let how = match (self.manner.does, self.manner.close) {
            (Does::Syn, _) | (_, CloseBy::Rst) => Close::Rst,
            (_, CloseBy::Fin) => Close::Fin,
            (_, CloseBy::Nothing) => return,
        };
        self.tcp.close(self.clock.now(), id, how);
    }

    /// Resets whatever the server may still know of.
    fn reset_all(&mut self) {
        let now = self.clock.now();
        for id in self.conns.iter().flatten().map(Conn::id) {
            let status = self.tcp.status(id);
            // There the server has nothing left but an acknowledgment to lose.
            let waits = status.is_some_and(|status| status.state == State::TimeWait);
            let how = if waits { Close::Forget } else { Close::Rst };
            self.tcp.close(now, id, how);
        }
        self.note_events(now);
    }
}

impl Requests {
    fn new(template: Template) -> Requests {
        Requests {
            template,
            bytes: Vec::new(),
            of: None,
        }
    }

    /// The request of connection `number`.
    fn of(&mut self, number: u64) -> &[u8] {
        if self.of != Some(number) {
            self.bytes.clear();
            self.template.render(number, &mut self.bytes);
            self.of = Some(number);
        }
        &self.bytes
    }
}

impl Engine for RawEngine {
    fn steady_started(&self) -> u64 {
        self.core.roster.steady_started()
    }

    fn started(&self) -> u64 {
        self.core.roster.started()
    }

    fn is_settled(&self) -> bool {
        self.core.roster.is_settled()
    }

    fn first_opened(&self) -> Option<Stamp> {
        self.core.roster.first_opened()
    }

    fn is_done(&self) -> bool {
        self.core.roster.is_done()
    }

    fn trigger(&mut self, at: Stamp) {
        self.core.roster.trigger(at);
    }

    fn turn(&mut self, steady_limit: u64, wake: Option<Stamp>) -> io::Result<()> {
        self.core.open_due(steady_limit);
        let ended = self.core.release();
        if !ended.is_empty() {
            self.transmit();
            let now = self.core.clock.now();
            for &id in &ended {
                self.core.tell(id, SocketEnd::Eof, now);
            }
            // A request to this host is answered by now, and the kernel knows that before it is told to
            // close.
            self.receive();
            ended.into_iter().for_each(|id| self.core.close(id));
        }
        let now = self.core.clock.now();
        let until = self.core.roster.next_due(now, steady_limit, wake);
        self.attend(until)?;
        self.core.expire();
        let Core { roster, conns, .. } = &mut self.core;
        roster.settle(|id| live(conns, id).is_some_and(|conn| conn.stage() == Stage::Connecting));
        Ok(())
    }

    fn interrupt(&mut self) {
        self.core.roster.interrupt();
        let now = self.core.clock.now();
        let open: Vec<Id> = self.core.conns.iter().flatten().map(Conn::id).collect();
        for id in open {
            self.core.end(id, SocketEnd::Interrupted, now);
        }
        self.transmit();
    }

    fn take_ended(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.core.ended)
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

/// The connection that `id` names, if it is there.
fn live(conns: &mut [Option<Conn>], id: Id) -> Option<&mut Conn> {
    let conn = conns.get_mut(id.slot())?.as_mut()?;
    (conn.id() == id).then_some(conn)
}

fn failed(call: Call, errno: Errno) -> SocketEnd {
    SocketEnd::Failed(Failure { call, errno })
}

/// What a socket in SYN-SENT would have got for an ICMP error.
fn errno_of(error: &IcmpError) -> Errno {
    if error.is_refusal() {
        return Errno::Refused;
    }
    Errno::Unreachable(match (error.version, error.kind, error.code) {
        (4, 3, 0 | 6 | 9 | 11) | (6, 1, 0) => libc::ENETUNREACH,
        (6, 1, 1 | 5 | 6) => libc::EACCES,
        (4, 3, 2) => libc::ENOPROTOOPT,
        (4, 3, 5) => libc::EOPNOTSUPP,
        (4, 3, 8) => libc::ENONET,
        (4, 12, _) | (6, 4, _) => libc::EPROTO,
        _ => libc::EHOSTUNREACH,
    })
}

/// The source addresses of a job: the kernel's choice, or on loopback as many as it takes.
fn sources(job: &Job, chosen: IpAddr) -> Vec<IpAddr> {
    match job.sources.min(LOOPBACK_SOURCES) {
        0 | 1 => vec![chosen],
        last => {
            let address = |n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n));
            (1..=last).map(address).collect()
        }
    }
}
