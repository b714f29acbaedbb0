//! The socket engine: non-blocking kernel sockets on epoll, one attempt per connection and never a
//! hidden retry. It opens what is due, reads what came, and hands out each attempt as it ends.

mod conn;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll;

use self::conn::{Conn, Content, Io};
use super::request::Template;
use super::schedule::{Arrivals, Due, Schedule};
use crate::outcome::{Attempt, Cohort, SocketEnd};
use crate::sys::timespec;
use crate::time::{Clock, Stamp};

/// How long a connection whose response is complete is kept for the server's own FIN or RST, before
/// ours is sent.
const GRACE: Duration = Duration::from_millis(100);
/// Events taken from the kernel at a time.
const EVENTS: usize = 256;
/// Connections opened before the engine looks at those that are open.
const BURST: usize = 64;
/// Loopback source addresses used at most: 127.0.0.1 to 127.0.0.250.
pub(crate) const LOOPBACK_SOURCES: u8 = 250;

/// What the engine is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Whom to connect to.
    pub(crate) target: SocketAddr,
    /// Connections in all, those of the idle cohort included.
    pub(crate) count: u64,
    /// How many of them are idle.
    pub(crate) idle: u64,
    /// When an idle one sends its request, after the trigger.
    pub(crate) idle_delay: Duration,
    /// How the steady ones arrive.
    pub(crate) arrivals: Arrivals,
    /// From the SYN, or an idle one's request, to the deadline.
    pub(crate) timeout: Duration,
    /// What is sent.
    pub(crate) request: Template,
    /// What is expected back.
    pub(crate) content: Content,
    /// Spread over several source addresses from the start (loopback only).
    pub(crate) sources: u8,
}

pub(crate) use self::conn::Content as ExpectedContent;

/// The engine at work.
pub(crate) struct Engine {
    job: Job,
    clock: Clock,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    schedule: Schedule,
    idle_started: u64,
    first_opened: Option<Stamp>,
    triggered: Option<Stamp>,
    /// Steady deadlines, in the order in which they fall.
    deadlines: VecDeque<(Stamp, Token)>,
    /// Idle deadlines, counted from their requests.
    idle_deadlines: VecDeque<(Stamp, Token)>,
    /// When complete connections are closed at the latest.
    graces: VecDeque<(Stamp, Token)>,
    /// Steady connections that are open.
    steady_open: u64,
    /// Idle connections that wait for the trigger; some may have ended.
    waiting: Vec<Token>,
    /// Every idle connection was opened, and answered or given up on.
    settled: bool,
    io: Io,
    ended: Vec<Attempt>,
    source: u8,
    interrupted: bool,
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

impl Engine {
    /// An engine that has not opened anything yet.
    pub(crate) fn new(job: Job, clock: Clock) -> io::Result<Engine> {
        let zero = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        Ok(Engine {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: vec![zero; EVENTS],
            slots: Vec::new(),
            free: Vec::new(),
            schedule: Schedule::new(job.arrivals),
            idle_started: 0,
            first_opened: None,
            triggered: None,
            deadlines: VecDeque::new(),
            idle_deadlines: VecDeque::new(),
            graces: VecDeque::new(),
            steady_open: 0,
            waiting: Vec::new(),
            settled: job.idle == 0,
            io: Io::new(job.request.clone(), job.content),
            ended: Vec::new(),
            source: 1,
            interrupted: false,
            job,
            clock,
        })
    }

    /// Steady connections started so far.
    pub(crate) fn steady_started(&self) -> u64 {
        self.schedule.started()
    }

    /// Whether the idle cohort stands: only then do steady connections and triggers begin.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Connections started so far.
    pub(crate) fn started(&self) -> u64 {
        self.schedule.started() + self.idle_started
    }

    /// When the first connection was opened.
    pub(crate) fn first_opened(&self) -> Option<Stamp> {
        self.first_opened
    }

    /// Whether every connection was started and has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.open() == 0 && (self.interrupted || self.started() >= self.job.count)
    }

    /// The trigger was pulled at `at`: idle connections send their requests after their delay.
    pub(crate) fn trigger(&mut self, at: Stamp) {
        self.triggered.get_or_insert(at);
    }

    /// Opens nothing more and ends what is open.
    pub(crate) fn interrupt(&mut self) {
        self.interrupted = true;
        let now = self.clock.now();
        for slot in 0..self.slots.len() {
            let token = self.token(slot);
            self.end(token, SocketEnd::Interrupted, now);
        }
    }

    /// Takes the attempts that have ended since the last call, in that order.
    pub(crate) fn take_ended(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.ended)
    }

    /// One turn: opens what is due, but no more than `steady_limit` steady connections in all; waits
    /// for events until something is due, `wake` at the latest; takes the events and deadlines.
    pub(crate) fn turn(&mut self, steady_limit: u64, wake: Option<Stamp>) -> io::Result<()> {
        self.open_due(steady_limit);
        self.send_idle();
        let until = self.next_due(steady_limit, wake);
        let ready = self.wait(until)?;
        let now = self.clock.now();
        for i in 0..ready {
            let event = self.events[i];
            self.handle(Token::unpack(event.data.u64()), event.flags, now);
        }
        self.expire(self.clock.now());
        self.settle();
        Ok(())
    }

    /// Notes that the idle cohort stands: every one was opened, and answered or given up on.
    fn settle(&mut self) {
        if self.settled || self.idle_started < self.job.idle {
            return;
        }
        let Engine { waiting, slots, .. } = self;
        let connecting =
            |&token: &Token| live(slots, token).is_some_and(|conn| conn.is_connecting());
        self.settled = !waiting.iter().any(connecting);
    }

    fn open(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }

    fn steady_count(&self) -> u64 {
        self.job.count - self.job.idle
    }

    /// When the next connection may be opened, if any is left to open.
    fn due(&self, now: Stamp, steady_limit: u64) -> Option<(Cohort, Due)> {
        if self.interrupted {
            None
        } else if self.idle_started < self.job.idle {
            Some((Cohort::Idle, Due::Now))
        } else if self.settled && self.schedule.started() < self.steady_count().min(steady_limit) {
            Some((Cohort::Steady, self.schedule.next(now, self.steady_open)))
        } else {
            None
        }
    }

    fn open_due(&mut self, steady_limit: u64) {
        for _ in 0..BURST {
            let now = self.clock.now();
            match self.due(now, steady_limit) {
                Some((cohort, Due::Now)) => self.open_one(cohort, None),
                Some((cohort, Due::Since(since))) => self.open_one(cohort, Some(since)),
                Some((_, Due::At(_) | Due::AfterAnother)) | None => return,
            }
        }
    }

    fn open_one(&mut self, cohort: Cohort, due: Option<Stamp>) {
        let number = self.started() + 1;
        let source = self.source(number);
        let mut opened = Conn::open(self.job.target, source, number, cohort, due, &self.clock);
        // Nobody has been asked yet: another source address has ports of its own.
        while opened.as_ref().is_err_and(|a| a.is_out_of_ports()) && self.move_source() {
            let source = self.source(number);
            opened = Conn::open(self.job.target, source, number, cohort, due, &self.clock);
        }
        let at = match &opened {
            Ok(conn) => conn.opened(),
            Err(failed) => failed.attempt.opened,
        };
        self.first_opened.get_or_insert(at);
        match cohort {
            Cohort::Idle => self.idle_started += 1,
            Cohort::Steady => self.schedule.opened(at),
        }
        match opened.and_then(|conn| self.register(conn)) {
            Ok(token) => {
                self.deadlines.push_back((at + self.job.timeout, token));
                match cohort {
                    Cohort::Idle => self.waiting.push(token),
                    Cohort::Steady => self.steady_open += 1,
                }
            }
            Err(failed) => self.ended.push(*failed.attempt),
        }
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
        let Some(triggered) = self.triggered else {
            return;
        };
        let now = self.clock.now();
        if now < triggered + self.job.idle_delay || self.waiting.is_empty() {
            return;
        }
        for token in std::mem::take(&mut self.waiting) {
            if let Some(conn) = self.conn(token) {
                conn.release();
            }
            self.idle_deadlines
                .push_back((self.clock.now() + self.job.timeout, token));
            self.handle(token, epoll::EventFlags::empty(), now);
        }
    }

    fn next_due(&self, steady_limit: u64, wake: Option<Stamp>) -> Option<Stamp> {
        let now = self.clock.now();
        let opening = match self.due(now, steady_limit) {
            Some((_, Due::Now | Due::Since(_))) => Some(now),
            Some((_, Due::At(at))) => Some(at),
            Some((_, Due::AfterAnother)) | None => None,
        };
        // The trigger that holds the others back is to be pulled at once.
        let held = (self.settled && self.schedule.started() >= steady_limit).then_some(now);
        let idle = self
            .triggered
            .filter(|_| !self.waiting.is_empty())
            .map(|at| at + self.job.idle_delay);
        [
            wake,
            held,
            opening,
            idle,
            self.deadlines.front().map(|d| d.0),
            self.idle_deadlines.front().map(|d| d.0),
            self.graces.front().map(|d| d.0),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn wait(&mut self, until: Option<Stamp>) -> io::Result<usize> {
        let timeout = until.map(|until| timespec(self.clock.until(until)));
        match epoll::wait(&self.epoll, &mut self.events[..], timeout.as_ref()) {
            Ok(ready) => Ok(ready),
            Err(rustix::io::Errno::INTR) => Ok(0),
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
                self.graces.push_back((now + GRACE, token));
            }
            None => {}
        }
    }

    /// Ends connections whose time is up.
    fn expire(&mut self, now: Stamp) {
        while let Some(token) = pop_due(&mut self.graces, now, &self.slots) {
            self.end(token, SocketEnd::Enough, now);
        }
        while let Some(token) = pop_due(&mut self.idle_deadlines, now, &self.slots) {
            self.time_out(token, now);
        }
        while let Some(token) = pop_due(&mut self.deadlines, now, &self.slots) {
            // An idle connection that is connected has its deadline from its request.
            if self.conn(token).is_some_and(|conn| conn.counts_from_syn()) {
                self.time_out(token, now);
            }
        }
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
            self.steady_open -= u64::from(attempt.cohort == Cohort::Steady);
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

fn live(slots: &mut [Slot], token: Token) -> Option<&mut Conn> {
    let slot = slots.get_mut(token.slot as usize)?;
    (slot.generation == token.generation)
        .then_some(slot.conn.as_mut())
        .flatten()
}

/// Takes the next live connection whose time is up off a queue, with those before it that are gone.
fn pop_due(queue: &mut VecDeque<(Stamp, Token)>, now: Stamp, slots: &[Slot]) -> Option<Token> {
    while let Some(&(at, token)) = queue.front() {
        let gone = slots[token.slot as usize].generation != token.generation;
        if !gone && at > now {
            return None;
        }
        queue.pop_front();
        if !gone {
            return Some(token);
        }
    }
    None
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
