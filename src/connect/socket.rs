//! The socket engine: non-blocking kernel sockets on epoll, one attempt per connection and never a
//! hidden retry. It opens what is due, reads what came, and hands out each attempt as it ends.

mod conn;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use rustix::event::epoll;

use self::conn::{Conn, Io};
use super::roster::{Expired, Roster};
use super::schedule::Due;
use super::{Engine, Job, LOOPBACK_SOURCES, Lingering, Opening};
use crate::outcome::{Attempt, Cohort, SocketEnd};
use crate::sys::timespec;
use crate::time::{Clock, Stamp};

/// Events taken from the kernel at a time.
const EVENTS: usize = 256;
/// Connections opened before the engine looks at those that are open.
const BURST: usize = 64;
/// The engine at work.
pub(crate) struct SocketEngine {
    job: Job,
    clock: Clock,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    roster: Roster<Token>,
    io: Io,
    ended: Vec<Attempt>,
    complete_to: Stamp,
    source: u8,
}

/// A slot of the table and its generation: a reference to a connection that may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    slot: u32,
    generation: u32,
}

struct Slot {
    generation: u32,
    conn: Option<Conn>,
}

impl SocketEngine {
    /// An engine that has not opened anything yet.
    pub(crate) fn new(job: Job, clock: Clock) -> io::Result<SocketEngine> {
        let zero = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        Ok(SocketEngine {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: vec![zero; EVENTS],
            slots: Vec::new(),
            free: Vec::new(),
            roster: Roster::new(&job),
            io: Io::new(job.request.clone()),
            ended: Vec::new(),
            complete_to: clock.now(),
            source: 1,
            job,
            clock,
        })
    }

    fn open_due(&mut self, steady_limit: u64) {
        for _ in 0..BURST {
            let now = self.clock.now();
            match self.roster.next(now, steady_limit) {
                Some((cohort, Due::Now)) => self.open_one(cohort, None),
                Some((cohort, Due::Since(since))) => self.open_one(cohort, Some(since)),
                Some((_, Due::At(_) | Due::AfterAnother)) | None => return,
            }
        }
    }

    fn open_one(&mut self, cohort: Cohort, due: Option<Stamp>) {
        let opening = Opening {
            number: self.roster.started() + 1,
            cohort,
            due,
        };
        let mut opened = self.connect(opening);
        // Nobody has been asked yet: another source address has ports of its own.
        while opened.as_ref().is_err_and(|a| a.is_out_of_ports()) && self.move_source() {
            opened = self.connect(opening);
        }
        let at = match &opened {
            Ok(conn) => conn.opened(),
            Err(failed) => failed.attempt.opened,
        };
        self.roster.started_one(cohort, at);
        match opened.and_then(|conn| self.register(conn)) {
            Ok(token) => self
                .roster
                .opened(token, cohort, at, cohort == Cohort::Idle),
            Err(failed) => self.ended.push(*failed.attempt),
        }
    }

    fn connect(&self, opening: Opening) -> Result<Conn, conn::Failed> {
        let source = self.source(opening.number);
        Conn::open(&self.job, opening, source, &self.clock)
    }

    /// The source address of a connection, where it is not left to the kernel.
    fn source(&self, number: u64) -> Option<IpAddr> {
        let spread = u64::from(self.job.sources.max(1));
        let step = u8::try_from((number - 1) % spread).unwrap_or(0);
        let last = self.source.saturating_add(step).min(LOOPBACK_SOURCES);
        (last > 1).then(|| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
    }

    /// Moves on to the next loopback address; false where there is none.
    fn move_source(&mut self) -> bool {
        let v4_loopback = matches!(self.job.target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let more = v4_loopback && self.source < LOOPBACK_SOURCES;
        self.source += u8::from(more);
        more
    }

    fn register(&mut self, conn: Conn) -> Result<Token, conn::Failed> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
                self.slots.push(Slot {
                    generation: 0,
                    conn: None,
                });
                slot
            }
        };
        let entry = &mut self.slots[slot as usize];
        let token = Token {
            slot,
            generation: entry.generation,
        };
        // Edge-triggered for everything at once: no further call per connection.
        let interest = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(token.pack());
        if let Err(error) = epoll::add(&self.epoll, conn.socket(), data, interest) {
            self.free.push(slot);
            return Err(conn.fail_locally(error.into(), &self.clock));
        }
        entry.conn = Some(conn);
        Ok(token)
    }

    /// Sends the requests of idle connections once their time has come.
    fn send_idle(&mut self) {
        let now = self.clock.now();
        for token in self.roster.take_released(now) {
            if let Some(conn) = self.conn(token) {
                conn.release();
            }
            self.roster.released(token, self.clock.now());
            self.handle(token, epoll::EventFlags::empty(), now);
        }
    }

    /// Waits for events; returns how many there are, and whether others may have been left.
    fn wait(&mut self, until: Option<Stamp>) -> io::Result<(usize, bool)> {
        let timeout = until.map(|until| timespec(self.clock.until(until)));
        match epoll::wait(&self.epoll, &mut self.events[..], timeout.as_ref()) {
            Ok(ready) => Ok((ready, ready == EVENTS)),
            Err(rustix::io::Errno::INTR) => Ok((0, true)),
            Err(error) => Err(error.into()),
        }
    }

    fn handle(&mut self, token: Token, flags: epoll::EventFlags, now: Stamp) {
        let Some(conn) = live(&mut self.slots, token) else {
            return;
        };
        let was_complete = conn.is_complete();
        match conn.handle(flags, now, &self.clock, &mut self.io) {
            Some(end) => {
                let at = self.clock.now();
                self.end(token, end, at);
            }
            None if conn.is_complete() && !was_complete => {
                self.roster.completed(token, now);
            }
            None => {}
        }
    }

    /// Ends connections whose time is up.
    fn expire(&mut self, now: Stamp) {
        while let Some(expired) = self.next_expired(now) {
            match expired {
                Expired::Grace(token) => self.end(token, SocketEnd::Enough, now),
                Expired::LateDeadline(token) => self.time_out(token, now),
                // An idle connection that is connected has its deadline from its request.
                Expired::Deadline(token) => {
                    if self.conn(token).is_some_and(|conn| conn.counts_from_syn()) {
                        self.time_out(token, now);
                    }
                }
            }
        }
    }

    fn next_expired(&mut self, now: Stamp) -> Option<Expired<Token>> {
        let SocketEngine { roster, slots, .. } = self;
        let live = |token: Token| slots[token.slot as usize].generation == token.generation;
        roster.expired(now, live)
    }

    fn time_out(&mut self, token: Token, now: Stamp) {
        let complete = self.conn(token).is_some_and(|conn| conn.is_complete());
        let end = if complete {
            SocketEnd::Enough
        } else {
            SocketEnd::Deadline
        };
        self.end(token, end, now);
    }

    fn end(&mut self, token: Token, end: SocketEnd, at: Stamp) {
        let Some(slot) = self.slots.get_mut(token.slot as usize) else {
            return;
        };
        if slot.generation != token.generation {
            return;
        }
        if let Some(conn) = slot.conn.take() {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(token.slot);
            let attempt = conn.close(end, at);
            self.roster.ended(attempt.cohort);
            self.ended.push(attempt);
        }
    }

    fn conn(&mut self, token: Token) -> Option<&mut Conn> {
        live(&mut self.slots, token)
    }

    fn token(&self, slot: usize) -> Token {
        Token {
            slot: u32::try_from(slot).unwrap_or(u32::MAX),
            generation: self.slots[slot].generation,
        }
    }
}

impl Engine for SocketEngine {
    fn steady_started(&self) -> u64 {
        self.roster.steady_started()
    }

    fn started(&self) -> u64 {
        self.roster.started()
    }

    fn is_settled(&self) -> bool {
        self.roster.is_settled()
    }

    fn first_opened(&self) -> Option<Stamp> {
        self.roster.first_opened()
    }

    fn is_done(&self) -> bool {
        self.roster.is_done()
    }

    fn trigger(&mut self, at: Stamp) {
        self.roster.trigger(at);
    }

    fn turn(&mut self, steady_limit: u64, wake: Option<Stamp>) -> io::Result<()> {
        self.open_due(steady_limit);
        self.send_idle();
        let now = self.clock.now();
        let until = self.roster.next_due(now, steady_limit, wake);
        // Read before the kernel is asked.
        let looked = self.clock.now();
        let (ready, more) = self.wait(until)?;
        let now = self.clock.now();
        for i in 0..ready {
            let event = self.events[i];
            self.handle(Token::unpack(event.data.u64()), event.flags, now);
        }
        self.expire(self.clock.now());
        if !more {
            self.complete_to = looked;
        }
        let SocketEngine { roster, slots, .. } = self;
        roster.settle(|token| live(slots, token).is_some_and(|conn| conn.is_connecting()));
        Ok(())
    }

    fn interrupt(&mut self) {
        self.roster.interrupt();
        let now = self.clock.now();
        for slot in 0..self.slots.len() {
            let token = self.token(slot);
            self.end(token, SocketEnd::Interrupted, now);
        }
    }

    fn take_ended(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.ended)
    }

    fn moved_to(&self) -> Option<usize> {
        let last = self.source.saturating_add(self.job.sources.max(1) - 1);
        (self.source > 1).then_some(last.min(LOOPBACK_SOURCES).into())
    }

    fn complete_to(&self) -> Stamp {
        self.complete_to
    }

    fn linger(self: Box<Self>) -> io::Result<Lingering> {
        // The kernel ends what was closed.
        Ok(Lingering::none())
    }
}

fn live(slots: &mut [Slot], token: Token) -> Option<&mut Conn> {
    let slot = slots.get_mut(token.slot as usize)?;
    (slot.generation == token.generation)
        .then_some(slot.conn.as_mut())
        .flatten()
}

impl Token {
    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    fn unpack(data: u64) -> Token {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of pack()")]
        Token {
            slot: data as u32,
            generation: (data >> 32) as u32,
        }
    }
}
