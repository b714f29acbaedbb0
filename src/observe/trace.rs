//! The trace vantage: tracepoints of the kernel that the server runs on, recorded in instances of
//! tracefs of our own, read by a thread of its own, put in order and handed on as values. What they
//! prove is left to [`kernel`](crate::kernel) and [`cause`](crate::cause).
//!
//! Not seen by these tracepoints: connections accepted by io_uring or by 32-bit programs (they make no
//! such system call), and signals that a process takes by signalfd or sigwait (nothing is delivered).
//! The signals that run-times send themselves are left out by [`join`], though they are few: a busy
//! Ruby 3.1 with threads got five SIGVTALRM in four seconds.
//!
//! Read in binary: 2.3 microseconds of processor time per connection, all nine of its records looked up
//! and put in order, where `cat` alone takes 48 to read them as text.

mod events;
mod format;
mod instance;
mod join;
mod page;
mod reader;
mod threads;
mod tracefs;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use nix::unistd::Pid;

use self::events::{Decoder, Scope, WANTED, Wanted};
use self::format::Format;
use self::instance::{Instance, Instances};
use self::join::Waiting;
use self::page::Layout;
use self::reader::Reader;
use self::threads::Threads;
use self::tracefs::Tracefs;
use crate::kernel::{Able, Lost, Traced};
use crate::sys::reason;
use crate::target::tree::tree as descendants;
use crate::time::{Clock, Stamp};

/// The instances' words in their names.
const HOST: &str = "host";
const SERVER: &str = "server";
/// What all buffers of the host's instance may take together: beyond 16 processors each has less.
const ALL_BUFFERS: usize = 64 << 20;
/// One processor's: at 20,000 connections per second both of two together record about 16 MB/s (780
/// bytes each, measured), so that this holds what one of them records in half a second.
const ONE_BUFFER: usize = 4 << 20;
/// Calls and signals take a fourth of what sockets do.
const SERVER_SHARE: usize = 4;
/// How often the process tree is listed again until nobody new turns up in it.
const LISTINGS: usize = 10;

/// What the tracepoints showed since the last batch.
#[derive(Debug)]
pub(crate) struct TraceBatch {
    /// In the order of their stamps over all processors.
    pub(crate) events: Vec<Traced>,
    /// When events were lost.
    pub(crate) lost: Vec<Lost>,
    /// Nothing stamped before this will follow.
    pub(crate) watermark: Stamp,
}

/// What the trace vantage read and what it missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct TraceStats {
    /// Records read from the kernel's buffers.
    pub(crate) records: u64,
    /// Events handed on: a record may need another to say something.
    pub(crate) events: u64,
    /// Records that the kernel's buffers had no room for.
    pub(crate) lost: u64,
    /// Records that came out of order beyond what was waited for.
    pub(crate) late: u64,
    /// Pages that could not be read.
    pub(crate) unreadable: u64,
    /// How often all buffers were read.
    pub(crate) rounds: u64,
    /// Pages read.
    pub(crate) pages: u64,
    /// From opening to closing, in milliseconds.
    pub(crate) open_ms: u64,
}

/// Why tracepoints cannot be seen.
#[derive(Debug, thiserror::Error)]
#[error("{call} {object}: {}: {remedy}", reason(error))]
pub(crate) struct TraceMissing {
    call: &'static str,
    object: String,
    error: io::Error,
    remedy: &'static str,
}

/// Everything enabled and recording, with nobody reading it yet.
pub(crate) struct TraceTap {
    instances: Vec<Instance>,
    layout: Layout,
    decoder: Decoder,
    threads: Threads,
    /// Who waited in accept() before that was recorded.
    waiting: Vec<Waiting>,
    clock: Clock,
    opened: Stamp,
    /// The names of the events that were enabled.
    seen: Vec<&'static str>,
    lacks: Vec<String>,
}

/// The running vantage. Dropping it stops it as well.
pub(crate) struct TraceVantage {
    running: Option<(Sender<()>, JoinHandle<TraceStats>)>,
}

impl TraceMissing {
    fn new(call: &'static str, object: String, error: impl Into<io::Error>) -> TraceMissing {
        let error = error.into();
        let remedy = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "tracepoints need root outside of a container (CAP_SYS_ADMIN), and no kernel lockdown"
            }
            Some(libc::ENODEV) => "this kernel has no tracefs (CONFIG_EVENT_TRACING)",
            Some(libc::ENOSYS) => "mount it first: mount -t tracefs nodev /sys/kernel/tracing",
            Some(libc::EMFILE | libc::ENFILE) => {
                "it takes two files for each processor: allow more of them (ulimit -n)"
            }
            Some(libc::ENOMEM) => "its buffers take up to 80 MiB: free some memory",
            _ => "the kernel's log may say more (dmesg)",
        };
        TraceMissing {
            call,
            object,
            error,
            remedy,
        }
    }
}

impl TraceTap {
    /// Enables the events; when this returns every one of them is recorded. `tree` are the server's
    /// processes, as far as they are known: their descendants are found, and followed.
    pub(crate) fn open(
        target: SocketAddr,
        tree: &[Pid],
        clock: Clock,
    ) -> Result<TraceTap, TraceMissing> {
        TraceTap::open_in(&Tracefs::open()?, target, tree, clock)
    }

    fn open_in(
        tracefs: &Tracefs,
        target: SocketAddr,
        tree: &[Pid],
        clock: Clock,
    ) -> Result<TraceTap, TraceMissing> {
        let folder = Instances::open(tracefs)?;
        let ours = Threads::are_ours();
        let host = make(&folder, HOST, 1)?;
        let mut tap = TraceTap {
            layout: layout(&host)?,
            instances: vec![host],
            decoder: Decoder::new(target.port()),
            threads: Threads::new(ours),
            waiting: Vec::new(),
            clock,
            opened: clock.now(),
            seen: Vec::new(),
            lacks: Vec::new(),
        };
        tap.enable(0, Scope::Host, target.port());
        if !ours {
            tap.lacks.push(
                "this is not the initial pid name space: by tracepoints it is not seen which process did \
                 what; run probe in that one (a container's --pid=host)"
                    .to_owned(),
            );
        } else if !tree.is_empty() {
            tap.instances.push(make(&folder, SERVER, SERVER_SHARE)?);
            tap.follow(tree)?;
            tap.enable(1, Scope::Server, target.port());
            tap.note_waiting();
        }
        for instance in &mut tap.instances {
            instance.open_pipes()?;
        }
        tap.opened = clock.now();
        Ok(tap)
    }

    /// What this kernel does not have or this user may not see, and what that takes away: one line
    /// each.
    pub(crate) fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// From when on every event is recorded.
    pub(crate) fn opened(&self) -> Stamp {
        self.opened
    }

    /// What this kernel lets it see.
    pub(crate) fn able(&self) -> Able {
        let closings = [
            "inet_sock_set_state",
            "tcp_destroy_sock",
            "sys_exit_shutdown",
        ];
        Able {
            reads: self.seen.contains(&"tcp_rcv_space_adjust"),
            closings: closings.iter().all(|name| self.seen.contains(name)),
        }
    }

    /// Reads it from a thread of its own; batches go to `sink` until it says that nobody listens.
    pub(crate) fn read(
        self,
        sink: impl FnMut(TraceBatch) -> bool + Send + 'static,
    ) -> io::Result<TraceVantage> {
        let (stop, stopped) = mpsc::channel();
        let reader = Reader::new(self);
        let thread = thread::Builder::new()
            .name("probe-trace".to_owned())
            .spawn(move || reader.run(&stopped, sink))?;
        Ok(TraceVantage {
            running: Some((stop, thread)),
        })
    }

    fn enable(&mut self, instance: usize, scope: Scope, port: u16) {
        for wanted in WANTED.iter().filter(|wanted| wanted.scope == scope) {
            match self.enable_one(&self.instances[instance], wanted, port) {
                Ok((format, lacks)) => {
                    // It was learned once before, to see whether it is of use.
                    let _ = self.decoder.learn(wanted, &format);
                    self.seen.push(wanted.name);
                    self.lacks.extend(lacks);
                }
                Err(lacks) => self.lacks.push(lacks),
            }
        }
    }

    fn enable_one(
        &self,
        instance: &Instance,
        wanted: &Wanted,
        port: u16,
    ) -> Result<(Format, Option<String>), String> {
        let folder = format!("events/{}/{}", wanted.system, wanted.name);
        let text = instance.read(&format!("{folder}/format"));
        let text = text.map_err(|_| wanted.lacking("is not in this kernel"))?;
        let format = Format::parse(&text);
        let format = format.ok_or_else(|| wanted.lacking("has a format that cannot be read"))?;
        let lacks = Decoder::new(port).learn(wanted, &format)?;
        let refused = |_| wanted.lacking("cannot be enabled");
        if let Some(filter) = wanted.filter(&format, port) {
            let file = format!("{folder}/filter");
            instance.write(&file, &filter).map_err(refused)?;
        }
        let file = format!("{folder}/enable");
        instance.write(&file, "1").map_err(refused)?;
        Ok((format, lacks))
    }

    /// Has the server's instance record the threads of these processes, of their descendants and of
    /// whomever they fork. What was forked before the kernel followed forks is found by looking
    /// again.
    fn follow(&mut self, tree: &[Pid]) -> Result<(), TraceMissing> {
        let instance = &self.instances[1];
        instance.write("options/event-fork", "1")?;
        for _ in 0..LISTINGS {
            let processes = tree.iter().flat_map(|&pid| descendants(pid));
            let tids: Vec<String> = processes
                .flat_map(|pid| self.threads.adopt(pid))
                .map(|tid| tid.to_string())
                .collect();
            if tids.is_empty() {
                break;
            }
            instance.write("set_event_pid", &tids.join(" "))?;
        }
        Ok(())
    }

    /// Notes which of the followed threads are in accept() already: they are not seen to enter it.
    /// Whoever enters it from now on is.
    fn note_waiting(&mut self) {
        // The kernel's own list: some were forked since processes were listed.
        let followed = self.instances[1].read("set_event_pid").unwrap_or_default();
        for tid in followed.lines().filter_map(|tid| tid.parse().ok()) {
            let since = self.clock.now();
            if let Some(fd) = threads::waits_in_accept(tid) {
                let seen = self.clock.now();
                self.threads.meet(tid, seen);
                self.waiting.push(Waiting {
                    tid,
                    since,
                    seen,
                    listener: self.threads.listener(tid, fd, seen),
                });
            }
        }
    }
}

/// Makes an instance that stamps by CLOCK_MONOTONIC, as the run clock does.
fn make(folder: &Instances, word: &str, share: usize) -> Result<Instance, TraceMissing> {
    let instance = folder.make(word)?;
    instance.write("trace_clock", "mono")?;
    let cpus = instance.cpus().map_or(1, |cpus| cpus.len().max(1));
    let bytes = (ALL_BUFFERS / cpus).min(ONE_BUFFER) / share;
    instance.write("buffer_size_kb", &(bytes >> 10).to_string())?;
    Ok(instance)
}

fn layout(instance: &Instance) -> Result<Layout, TraceMissing> {
    const FILE: &str = "events/header_page";
    let missing = |error| TraceMissing::new("read", FILE.to_owned(), error);
    let text = instance.read(FILE).map_err(missing)?;
    Layout::parse(&text).ok_or_else(|| missing(io::ErrorKind::InvalidData.into()))
}

impl TraceVantage {
    /// Stops recording, reads what was recorded until then, removes the instances and says what was
    /// seen.
    pub(crate) fn stop(mut self) -> TraceStats {
        self.finish()
    }

    fn finish(&mut self) -> TraceStats {
        let Some((stop, thread)) = self.running.take() else {
            return TraceStats::default();
        };
        drop(stop);
        thread.join().unwrap_or_default()
    }
}

impl Drop for TraceVantage {
    fn drop(&mut self) {
        self.finish();
    }
}
