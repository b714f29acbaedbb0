//! Making connections: what is sent, when each one is due, and the engines that carry it out, with
//! the kernel's own sockets. What came of it is left to [`outcome`](crate::outcome).

mod answer;
mod errno;
pub mod raw;
pub(crate) mod request;
mod roster;
pub(crate) mod schedule;
pub(crate) mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use self::request::Template;
use self::schedule::Arrivals;
use crate::observe::packet::WireStats;
use crate::outcome::{Attempt, Cohort, Maker, Response, SocketEnd};
use crate::time::Stamp;

pub(crate) use self::answer::Content;

/// Loopback source addresses used at most: 127.0.0.1 to 127.0.0.250.
pub(crate) const LOOPBACK_SOURCES: u8 = 250;

/// What an engine is to do.
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
    /// Source ports that are held rather than use one again, where the kernel does not choose them.
    pub(crate) ports: usize,
    /// Those that may be.
    pub(crate) most_ports: usize,
}

/// A connection to be opened.
#[derive(Clone, Copy, Debug)]
struct Opening {
    /// Its number, from 1.
    number: u64,
    /// When its request is sent.
    cohort: Cohort,
    /// When the timetable had it.
    due: Option<Stamp>,
}

impl Opening {
    /// What is known of it at `opened`.
    fn attempt(self, maker: Maker, peer: SocketAddr, opened: Stamp) -> Attempt {
        Attempt {
            conn: self.number,
            maker,
            cohort: self.cohort,
            local: None,
            peer,
            due: self.due,
            opened,
            connected: None,
            request: None,
            request_len: 0,
            written: 0,
            response: Response::default(),
            end: SocketEnd::Interrupted,
            ended: opened,
            info: None,
        }
    }
}

/// What makes connections.
pub(crate) trait Engine {
    /// Steady connections started so far.
    fn steady_started(&self) -> u64;

    /// Connections started so far.
    fn started(&self) -> u64;

    /// Whether the idle cohort stands: only then do steady connections and triggers begin.
    fn is_settled(&self) -> bool;

    /// When the first connection was opened.
    fn first_opened(&self) -> Option<Stamp>;

    /// Whether every connection was started and has ended.
    fn is_done(&self) -> bool;

    /// The trigger was pulled at `at`: idle connections send their requests after their delay.
    fn trigger(&mut self, at: Stamp);

    /// One turn: opens what is due, but no more than `steady_limit` steady connections in all; waits
    /// for events until something is due, `wake` at the latest; takes the events and deadlines.
    fn turn(&mut self, steady_limit: u64, wake: Option<Stamp>) -> io::Result<()>;

    /// Opens nothing more and ends what is open.
    fn interrupt(&mut self);

    /// Takes the attempts that have ended since the last call, in that order.
    fn take_ended(&mut self) -> Vec<Attempt>;

    /// How many loopback addresses connections came from, where more than planned were needed.
    fn moved_to(&self) -> Option<usize>;

    /// Up to when everything that had come is taken: what ended an attempt before this has ended it.
    fn complete_to(&self) -> Stamp;

    /// Goes on doing what its connections' ends take, from a thread of its own, until it is stopped.
    fn linger(self: Box<Self>) -> io::Result<Lingering>;
}

/// An engine whose attempts have all ended.
pub(crate) struct Lingering(Option<(Arc<AtomicBool>, JoinHandle<WireStats>)>);

impl Lingering {
    /// What an engine leaves to nobody.
    fn none() -> Lingering {
        Lingering(None)
    }

    fn new(stop: Arc<AtomicBool>, thread: JoinHandle<WireStats>) -> Lingering {
        Lingering(Some((stop, thread)))
    }

    /// Ends whatever is left; says what it saw of the wire, if it watched.
    pub(crate) fn stop(self) -> Option<WireStats> {
        let (stop, thread) = self.0?;
        stop.store(true, Ordering::Relaxed);
        thread.join().ok()
    }
}

#[cfg(test)]
impl Job {
    /// One connection.
    fn example(arrivals: Arrivals) -> Job {
        Job {
            target: SocketAddr::from(([127, 0, 0, 1], 80)),
            count: 1,
            idle: 0,
            idle_delay: Duration::ZERO,
            arrivals,
            timeout: Duration::from_secs(1),
            request: Template::verbatim(b"x".to_vec()),
            content: Content::Bytes { expect: None },
            sources: 1,
            ports: 1,
            most_ports: 1,
        }
    }
}
