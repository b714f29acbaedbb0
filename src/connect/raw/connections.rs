//! The raw engine's connections: which there are, what each asks and is answered, and what is told of it
//! in the end. Packets that were seen are handed in, segments to send are asked for; the way to the
//! network is the engine's.

use std::io;
use std::net::SocketAddr;

use super::addresses::Addresses;
use super::conn::{Conn, Stage};
use super::engine::{Close, Config, Engine, Event, Handshake, Id, State, Transmit};
use super::link::{Checksum, Received};
use super::manner::{CloseBy, Does, Manner};
use super::resets::Resets;
use crate::connect::errno::classify;
use crate::connect::request::Template;
use crate::connect::roster::{Expired, Roster};
use crate::connect::schedule::Due;
use crate::connect::{Job, Opening};
use crate::observe::packet::Gathered;
use crate::outcome::{Attempt, Call, Cohort, Errno, Failure, Maker, SocketEnd};
use crate::time::{Clock, Stamp};
use crate::wire::{self, IcmpError, Packet, Segment};

/// Connections opened before the engine looks at those that are open.
const BURST: usize = 256;

/// All connections of an engine.
pub(super) struct Connections {
    job: Job,
    /// The target, as packets name it: without a link-local address's scope.
    server: SocketAddr,
    manner: Manner,
    clock: Clock,
    addresses: Addresses,
    tcp: Engine,
    /// By their slots in `tcp`.
    conns: Vec<Option<Conn>>,
    pub(super) roster: Roster<Id>,
    requests: Requests,
    pub(super) gathered: Gathered,
    ended: Vec<Attempt>,
    /// Handshakes done so far.
    connected: u64,
    pub(super) resets: Resets,
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

impl Connections {
    /// None yet, to be made from these addresses; what is seen of them is kept bytes and all where
    /// `keep` says so.
    pub(super) fn new(
        job: Job,
        manner: Manner,
        config: Config,
        addresses: Addresses,
        clock: Clock,
        keep: bool,
    ) -> Connections {
        Connections {
            server: config.server,
            manner,
            clock,
            addresses,
            tcp: Engine::new(config),
            conns: Vec::new(),
            roster: Roster::new(&job),
            requests: Requests::new(job.request.clone()),
            gathered: Gathered::new(keep),
            ended: Vec::new(),
            connected: 0,
            resets: Resets::default(),
            job,
        }
    }

    /// How many source addresses there are, where more than planned were needed.
    pub(super) fn moved_to(&self) -> Option<usize> {
        self.addresses.grown_to()
    }

    /// Handshakes done so far.
    pub(super) fn handshakes(&self) -> u64 {
        self.connected
    }

    /// Those that have ended since this was last asked for.
    pub(super) fn take_ended(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.ended)
    }

    /// When TCP next has something to do that nobody calls forth.
    pub(super) fn poll_timeout(&self) -> Option<Stamp> {
        self.tcp.poll_timeout()
    }

    /// Does what is due by now.
    pub(super) fn take_timeouts(&mut self) {
        self.tcp.handle_timeout(self.clock.now());
        self.note_events(self.clock.now());
    }

    /// Writes the next packet that TCP has to send, if there is one, and returns its length.
    pub(super) fn next_packet(&mut self, packet: &mut [u8]) -> Option<usize> {
        loop {
            let now = self.clock.now();
            let transmit = self.tcp.poll_transmit(now)?;
            let payload = self.payload(&transmit, now);
            if let Some(len) = transmit.write(payload, packet) {
                if transmit.flags.rst() {
                    self.resets.send(transmit.client, transmit.seq);
                }
                return Some(len);
            }
        }
    }

    pub(super) fn open_due(&mut self, steady_limit: u64) {
        // Whoever is gone leaves its address to another.
        self.note_events(self.clock.now());
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

    /// A packet could not be sent. Linux's own TCP only minds where there is no way at all for the first
    /// SYN (`tcp_v4_connect`); what a firewall holds back is lost like any other packet (`tcp_connect`),
    /// and what is sent again is sent once more later (`tcp_retransmit_timer`).
    pub(super) fn note_refused(&mut self, packet: &[u8], error: &io::Error) {
        let now = self.clock.now();
        let Ok(Packet::Segment(segment)) = wire::parse(now, packet, packet.len()) else {
            return;
        };
        if segment.flags.rst() {
            self.resets.refuse(segment.src, segment.seq);
        }
        let is_lost = matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOBUFS));
        if segment.flags.syn()
            && !is_lost
            && let Some(id) = self.tcp.find(segment.src)
            && self.is_first(id)
        {
            self.end(id, failed(Call::Connect, classify(error)), now);
        }
    }

    /// Whether nothing of a connection was sent twice.
    fn is_first(&self, id: Id) -> bool {
        let status = self.tcp.status(id);
        status.is_some_and(|status| status.retransmits == 0)
    }

    /// Takes a packet that was seen on the interface.
    pub(super) fn take(&mut self, received: &Received<'_>) {
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
                if segment.flags.rst()
                    && self.addresses.hold(segment.src.port())
                    && self.resets.see(segment.src, segment.seq)
                {
                    self.disturbed(segment.src, at);
                }
            }
            Ok(Packet::IcmpError(error)) => {
                self.tcp.handle_icmp(at, error);
                self.note_events(at);
            }
            Ok(Packet::Fragment | Packet::Other) | Err(_) => {}
        }
        self.gathered.take(at, read, received.bytes, received.len);
    }

    /// This host's own TCP reset a connection: what its server makes of that is not the server's doing.
    fn disturbed(&mut self, client: SocketAddr, at: Stamp) {
        if let Some(id) = self.tcp.find(client)
            && self.tell(id, SocketEnd::Disturbed, at)
        {
            // The server may have thought nothing of it.
            self.tcp.close(self.clock.now(), id, Close::Rst);
            self.note_events(at);
        }
    }

    fn take_segment(&mut self, segment: &Segment<'_>) {
        let now = self.clock.now();
        let Connections {
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
        let Some(conn) = live(&mut self.conns, id).filter(|conn| conn.stage() != Stage::Over)
        else {
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
    pub(super) fn release(&mut self) -> Vec<Id> {
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

    /// Ends connections whose time is up, and notes who is through connecting.
    pub(super) fn expire(&mut self) {
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
                None => break,
            }
        }
        let Connections { roster, conns, .. } = self;
        roster.settle(|id| live(conns, id).is_some_and(|conn| conn.stage() == Stage::Connecting));
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
            self.close_one(id);
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

    /// Has TCP end these.
    pub(super) fn close(&mut self, connections: &[Id]) {
        for &id in connections {
            self.close_one(id);
        }
    }

    /// Tells of these that their server closed them.
    pub(super) fn tell_closed_by_peer(&mut self, connections: &[Id]) {
        let now = self.clock.now();
        for &id in connections {
            self.tell(id, SocketEnd::Eof, now);
        }
    }

    /// Ends all that are open.
    pub(super) fn interrupt(&mut self) {
        self.roster.interrupt();
        let now = self.clock.now();
        let open: Vec<Id> = self.conns.iter().flatten().map(Conn::id).collect();
        for id in open {
            self.end(id, SocketEnd::Interrupted, now);
        }
    }

    /// Has TCP end a connection. Whoever never ends its side has none before it is connected: it gives
    /// up connecting, as any other does.
    fn close_one(&mut self, id: Id) {
        let connected = live(&mut self.conns, id).is_some_and(|conn| conn.is_connected());
        let how = match (self.manner.does, self.manner.close) {
            (Does::Syn, _) | (_, CloseBy::Rst) => Close::Rst,
            (_, CloseBy::Nothing) if connected => return,
            (_, CloseBy::Fin | CloseBy::Nothing) => Close::Fin,
        };
        self.tcp.close(self.clock.now(), id, how);
    }

    /// Resets whatever the server may still know of.
    pub(super) fn reset_all(&mut self) {
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
