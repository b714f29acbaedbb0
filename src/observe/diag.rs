//! The diag vantage: what the server's kernel says of its sockets on the target's port, asked again
//! and again by a thread of its own. What the answers prove is left to [`cause`](crate::cause).

mod counters;
mod owners;
mod pace;
mod place;
mod poller;
mod query;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::unistd::Pid;
use serde::Serialize;

use self::counters::CounterFile;
use self::owners::ListenerOf;
use self::pace::Pace;
use self::place::Place;
use self::poller::Poller;
use self::query::{Family, Kind, SockDiag};
use crate::kernel::{Counters, Poll};
use crate::sys::reason;
use crate::time::{Clock, Stamp, thread_cpu_time};

/// Queues of a busy server fill and drain in a millisecond: no question is asked more often.
const LEAST: Duration = Duration::from_millis(1);
/// Of a core's time, the listener may take one part in so many and everything one in so many: 4 %
/// together. What proves a cause is in the connections, so most is theirs; with 31 us for one (5 of
/// them for asking, the others for waking up) the listener alone is asked for every 4 ms.
const LISTENER_PART: u32 = 120;
const CONNECTIONS_PART: u32 = 32;

/// Why the server's kernel cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiagMissing {
    /// The kernel has no such thing, or does not let us.
    #[error("{call}: {reason}; {remedy}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// What it said.
        reason: String,
        /// What would help.
        remedy: &'static str,
    },
    /// The target is another host, or may as well be.
    #[error(
        "the server is on another host: {} is no address of this one; run the probe there", .0.ip()
    )]
    OtherHost(SocketAddr),
    /// The process is in our name space, the target's address is not.
    #[error(
        "connections to {target} do not end where process {pid} is: {} is no address there (a proxy \
         or DNAT stands between); give an address that the server itself has with --target",
        .target.ip()
    )]
    NotItsAddress {
        /// Where clients connect to.
        target: SocketAddr,
        /// The server.
        pid: Pid,
    },
    /// The process is in another name space, and the target's address is in ours.
    #[error(
        "connections to {target} end in this name space, and process {pid} is in another (a proxy or \
         DNAT stands between); give the address that the server has in its own with --target"
    )]
    EndsBefore {
        /// Where clients connect to.
        target: SocketAddr,
        /// The server.
        pid: Pid,
    },
    /// The server's name space may not be entered.
    #[error(
        "process {pid} is in another name space, which this user may not enter ({reason}); that \
         needs root (CAP_SYS_ADMIN)"
    )]
    Closed {
        /// The server.
        pid: Pid,
        /// What the kernel said.
        reason: String,
    },
    /// The process has ended.
    #[error("process {0} is gone; give one that runs with --pid")]
    Gone(Pid),
}

impl DiagMissing {
    /// Whether connections to the target end where nobody of this host's can see them, or at
    /// somebody else than the server: tracepoints then do not see the server's part either.
    pub(crate) fn is_elsewhere(&self) -> bool {
        match self {
            DiagMissing::OtherHost(_)
            | DiagMissing::NotItsAddress { .. }
            | DiagMissing::EndsBefore { .. } => true,
            DiagMissing::Refused { .. } | DiagMissing::Closed { .. } | DiagMissing::Gone(_) => {
                false
            }
        }
    }

    fn refused(call: &'static str, error: &io::Error) -> DiagMissing {
        let remedy = match error.raw_os_error() {
            Some(libc::ENOENT | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
                "load the kernel's modules for it (modprobe tcp_diag), or use a kernel that has them"
            }
            Some(libc::EPERM | libc::EACCES) => {
                "something keeps this process from asking (seccomp, a security module): run the probe \
                 outside of it"
            }
            _ => "run the probe again, or go without with --observe socket,wire",
        };
        DiagMissing::Refused {
            call,
            reason: reason(error),
            remedy,
        }
    }
}

/// Asked once, and nobody polling yet.
pub(crate) struct DiagTap {
    poller: Poller,
    first: Poll,
    lacks: Vec<String>,
    name_space: NameSpace,
}

/// Whose counters and sockets these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NameSpace {
    /// The probe's own network name space.
    #[default]
    Own,
    /// The server's, which is another.
    Other,
}

/// The running vantage.
pub(crate) struct DiagVantage {
    /// Dropped to have it end.
    stop: Sender<()>,
    thread: JoinHandle<DiagStats>,
}

/// What the vantage did, and what the counters did meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct DiagStats {
    /// Whose sockets and counters.
    pub(crate) name_space: NameSpace,
    /// Questions for the listener alone.
    pub(crate) listener_polls: Asked,
    /// Questions for counters, listeners and connections.
    pub(crate) connection_polls: Asked,
    /// Questions that were not answered, or not in whole.
    pub(crate) failed: u64,
    /// Part of one core's time that all of it took.
    pub(crate) cpu_share: f64,
    /// How far the counters moved from the first poll to the last.
    pub(crate) moved: Moved,
}

/// How often something was asked, and what that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Asked {
    /// How often.
    pub(crate) times: u64,
    /// Processor time of one, on the average, in microseconds.
    pub(crate) mean_cost_us: f64,
    /// The longest time from one to the next, in microseconds.
    pub(crate) longest_gap_us: f64,
}

/// How far the fields of [`Counters`] moved, under the kernel's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Moved {
    #[serde(rename = "ListenOverflows")]
    pub(crate) listen_overflows: Option<u64>,
    #[serde(rename = "ListenDrops")]
    pub(crate) listen_drops: Option<u64>,
    #[serde(rename = "TCPAbortOnClose")]
    pub(crate) abort_on_close: Option<u64>,
    #[serde(rename = "TCPAbortOnData")]
    pub(crate) abort_on_data: Option<u64>,
    #[serde(rename = "TCPReqQFullDrop")]
    pub(crate) syn_queue_drops: Option<u64>,
}

impl Moved {
    fn between(from: &Counters, to: &Counters) -> Moved {
        let moved = |from: Option<u64>, to: Option<u64>| Some(to?.wrapping_sub(from?));
        Moved {
            listen_overflows: moved(from.listen_overflows, to.listen_overflows),
            listen_drops: moved(from.listen_drops, to.listen_drops),
            abort_on_close: moved(from.abort_on_close, to.abort_on_close),
            abort_on_data: moved(from.abort_on_data, to.abort_on_data),
            syn_queue_drops: moved(from.syn_queue_drops, to.syn_queue_drops),
        }
    }
}

impl DiagTap {
    /// Finds the server's name space, and asks there once. `master` is the server's first process
    /// where it is known; without one whoever holds the listener is taken for the server.
    pub(crate) fn open(
        target: SocketAddr,
        master: Option<Pid>,
        clock: Clock,
    ) -> Result<DiagTap, DiagMissing> {
        let (place, mut poller) = match Place::find(target, master) {
            Err(missing @ DiagMissing::EndsBefore { .. }) => {
                let mut poller = DiagTap::poller(&Place::Ours, target, master, clock)?;
                // A socket stays in the name space it was made in, wherever its process goes (a
                // service that systemd listens for).
                if !poller.is_the_trees().map_err(not_asked)? {
                    return Err(missing);
                }
                (Place::Ours, poller)
            }
            place => {
                let place = place?;
                let poller = DiagTap::poller(&place, target, master, clock)?;
                (place, poller)
            }
        };
        let first = poller.everything().map_err(not_asked)?;
        let lacks = lacks(&mut poller, master, &first);
        let name_space = match place {
            Place::Ours => NameSpace::Own,
            Place::Other(_) => NameSpace::Other,
        };
        Ok(DiagTap {
            poller,
            first,
            lacks,
            name_space,
        })
    }

    /// One that asks in that place, and knows whose processes the server's are.
    fn poller(
        place: &Place,
        target: SocketAddr,
        master: Option<Pid>,
        clock: Clock,
    ) -> Result<Poller, DiagMissing> {
        let opened = place.within(|| (SockDiag::open(), CounterFile::open()));
        let (diag, counters) = opened.map_err(|error| DiagMissing::refused("setns", &error))?;
        let diag = diag.map_err(|e| DiagMissing::refused("socket(NETLINK_SOCK_DIAG)", &e))?;
        let counters = counters.map_err(|e| DiagMissing::refused("/proc/net/netstat", &e))?;
        let mut poller = Poller::new(target, clock, diag, counters);
        poller.whose(master).map_err(not_asked)?;
        Ok(poller)
    }

    /// What it cannot tell, and why; a line each.
    pub(crate) fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// Asks everything anew, for a first answer that is later than what was done meanwhile.
    pub(crate) fn ask_again(&mut self) -> Result<(), DiagMissing> {
        self.first = self.poller.everything().map_err(not_asked)?;
        Ok(())
    }

    /// The first answer, to everything.
    pub(crate) fn first(&self) -> &Poll {
        &self.first
    }

    /// Polls from a thread of its own; answers go to `sink` until it says that nobody listens. It
    /// polls whether anything is open or not: the share of a core that it takes is bounded all the
    /// same.
    pub(crate) fn read(
        self,
        sink: impl FnMut(Poll) -> bool + Send + 'static,
    ) -> io::Result<DiagVantage> {
        let (stop, stopped) = channel();
        let thread = thread::Builder::new()
            .name("probe-diag".to_owned())
            .spawn(move || Reader::new(self).run(&stopped, sink))?;
        Ok(DiagVantage { stop, thread })
    }
}

/// How many handshakes are under way on a port of this thread's name space, in either family.
pub(crate) fn half_open(port: u16) -> io::Result<usize> {
    let mut diag = SockDiag::open()?;
    let v4 = diag.dump(Family::V4, Kind::Handshakes, port)?;
    let v6 = diag.dump(Family::V6, Kind::Handshakes, port)?;
    Ok(v4.len() + v6.len())
}

fn not_asked(error: io::Error) -> DiagMissing {
    DiagMissing::refused("sock_diag", &error)
}

/// Looks what cannot be told.
fn lacks(poller: &mut Poller, master: Option<Pid>, first: &Poll) -> Vec<String> {
    let mut lacks = Vec::new();
    let target = poller.target;
    let listeners = first.listeners.as_deref().unwrap_or_default();
    let inodes: Vec<u64> = listeners.iter().map(|one| one.inode).collect();
    if inodes.is_empty() {
        // Without a process to be there it is a refusal as any other.
        lacks.extend(master.map(|pid| {
            format!(
                "nobody listens on {target}, where process {pid} is: give the address that it listens \
                 on with --target"
            )
        }));
    } else if let Some(line) = whose_listener(poller, master, &inodes) {
        lacks.push(line);
    }
    let missing: Vec<&str> = poller.counters.lacks().collect();
    if !missing.is_empty() {
        let names = missing.join(", ");
        lacks.push(format!("this kernel does not count {names}"));
    }
    lacks
}

fn whose_listener(poller: &mut Poller, master: Option<Pid>, inodes: &[u64]) -> Option<String> {
    let target = poller.target;
    let of = poller.owners.listener_of(inodes);
    let hidden = |whose: String| {
        format!(
            "which process holds a connection cannot be seen: /proc/PID/fd of {whose} needs its own \
             user or root"
        )
    };
    if let Some(pid) = poller.owners.closed() {
        return Some(hidden(format!("process {pid}")));
    }
    match (of, master) {
        (ListenerOf::Tree, _) => None,
        (ListenerOf::Strangers(others), Some(master)) => {
            let pids: Vec<String> = others.pids.iter().map(ToString::to_string).collect();
            Some(strangers(target, master, &pids))
        }
        (ListenerOf::Strangers(_) | ListenerOf::Unseen, _) => {
            Some(hidden(format!("whoever listens on {target}")))
        }
    }
}

fn strangers(target: SocketAddr, master: Pid, pids: &[String]) -> String {
    let who = match pids {
        [pid] => format!("process {pid} does"),
        pids => format!("processes {} do", pids.join(", ")),
    };
    format!(
        "process {master} and those below it do not listen on {target}, {who}: give the server's \
         first process with --pid"
    )
}

impl DiagVantage {
    /// Has it ask for everything once more, so that whatever ended before this is known to have
    /// ended, and says what it did.
    pub(crate) fn stop(self) -> DiagStats {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

/// How often one kind of question was asked.
struct Tally {
    pace: Pace,
    times: u64,
    spent: Duration,
    last: Stamp,
    longest: i64,
}

impl Tally {
    fn new(part: u32, now: Stamp) -> Tally {
        Tally {
            pace: Pace::new(part, LEAST),
            times: 0,
            spent: Duration::ZERO,
            last: now,
            longest: 0,
        }
    }

    fn asked(&mut self, at: Stamp, cost: Duration) {
        self.pace.asked(at, cost);
        self.times += 1;
        self.spent += cost;
        self.longest = self.longest.max(at.since(self.last));
        self.last = at;
    }

    fn summary(&self) -> Asked {
        let times = u32::try_from(self.times).unwrap_or(u32::MAX);
        let mean = self.spent.checked_div(times).unwrap_or_default();
        let longest = Duration::from_nanos(u64::try_from(self.longest).unwrap_or(0));
        Asked {
            times: self.times,
            mean_cost_us: mean.as_secs_f64() * 1e6,
            longest_gap_us: longest.as_secs_f64() * 1e6,
        }
    }
}

struct Reader {
    poller: Poller,
    name_space: NameSpace,
    started: Stamp,
    cpu: Duration,
    listeners: Tally,
    everything: Tally,
    failed: u64,
    counters: [Counters; 2],
}

impl Reader {
    fn new(tap: DiagTap) -> Reader {
        let now = tap.poller.clock.now();
        let counters = tap.first.counters.unwrap_or_default();
        Reader {
            poller: tap.poller,
            name_space: tap.name_space,
            started: now,
            cpu: thread_cpu_time(),
            listeners: Tally::new(LISTENER_PART, now),
            everything: Tally::new(CONNECTIONS_PART, now),
            failed: 0,
            counters: [counters; 2],
        }
    }

    fn run(mut self, stop: &Receiver<()>, mut sink: impl FnMut(Poll) -> bool) -> DiagStats {
        loop {
            let due = self.everything.pace.next().min(self.listeners.pace.next());
            let wait = self.poller.clock.until(due);
            let is_last = stop.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected);
            if !self.poll(is_last, &mut sink) || is_last {
                return self.finish();
            }
        }
    }

    /// Asks for what is due, everything being more than the listener alone.
    fn poll(&mut self, is_last: bool, sink: &mut impl FnMut(Poll) -> bool) -> bool {
        let now = self.poller.clock.now();
        let everything = is_last || now >= self.everything.pace.next();
        let answer = match everything {
            true => self.poller.everything(),
            false => self.poller.listeners(),
        };
        let goes_on = match answer {
            Ok(poll) => {
                if let Some(counters) = poll.counters {
                    self.counters[1] = counters;
                }
                sink(poll)
            }
            // One that changed under the dump is asked for again when it is due.
            Err(_) => {
                self.failed += 1;
                true
            }
        };
        // With waking up and handing on.
        let used = thread_cpu_time();
        let cost = used.saturating_sub(self.cpu);
        self.cpu = used;
        match everything {
            true => self.everything.asked(now, cost),
            false => self.listeners.asked(now, cost),
        }
        goes_on
    }

    fn finish(self) -> DiagStats {
        let ran = Duration::from_nanos(
            u64::try_from(self.poller.clock.now().since(self.started)).unwrap_or(0),
        );
        let spent = self.listeners.spent + self.everything.spent;
        let [from, to] = self.counters;
        DiagStats {
            name_space: self.name_space,
            listener_polls: self.listeners.summary(),
            connection_polls: self.everything.summary(),
            failed: self.failed,
            cpu_share: spent.as_secs_f64() / ran.as_secs_f64().max(f64::MIN_POSITIVE),
            moved: Moved::between(&from, &to),
        }
    }
}
