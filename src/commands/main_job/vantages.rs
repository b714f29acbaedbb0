//! From where a run is watched: what is opened before the first SYN, runs until the last connection
//! is recorded, and says in the end what it saw. What could not be had is told with its reason.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;

use crate::commands::recorder::{Message, Recorder};
use crate::event::Vantage;
use crate::kernel::{DiagTable, Poll, Tables, TraceTable};
use crate::observe::diag::{DiagStats, DiagTap, DiagVantage};
use crate::observe::packet::{PacketTap, PacketVantage, WireStats};
use crate::observe::route::Route;
use crate::observe::trace::{TraceStats, TraceTap, TraceVantage};
use crate::plan::{Wish, Wishes};
use crate::sys::{capability, reason};
use crate::target::holders::{holders, masters};
use crate::time::Clock;

/// A vantage that is not there.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    /// Which.
    pub(super) vantage: Vantage,
    /// Why, and what would help.
    pub(super) why: String,
    /// Whether the user wanted it.
    pub(super) wanted: bool,
}

/// What to watch.
pub(super) struct Watched<'a> {
    pub(super) target: SocketAddr,
    /// How it is reached.
    pub(super) route: &'a io::Result<Route>,
    /// The server's main process, where it is known.
    pub(super) master: Option<Pid>,
    pub(super) wishes: Wishes,
    pub(super) clock: Clock,
}

/// Everything that watches, open and filling, with nobody reading it yet.
pub(super) struct Taps {
    wire: Option<PacketTap>,
    diag: Option<DiagTap>,
    trace: Option<TraceTap>,
    /// The listeners and their queues, when both were watching.
    first: Option<Poll>,
    missing: Vec<Missing>,
}

/// Everything that watches, running.
pub(super) struct Vantages {
    wire: Option<PacketVantage>,
    diag: Option<DiagVantage>,
    trace: Option<TraceVantage>,
    interface: Option<String>,
    missing: Vec<Missing>,
    lacks: Vec<String>,
}

/// What was seen, and what was not.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Packets.
    pub(super) wire: Option<WireStats>,
    /// The interface that they passed.
    pub(super) interface: Option<String>,
    /// What sock_diag was asked.
    pub(super) diag: Option<DiagStats>,
    /// What tracepoints told.
    pub(super) trace: Option<TraceStats>,
    /// Vantages that were not there.
    pub(super) missing: Vec<Missing>,
    /// What those that were could not show, a line each.
    pub(super) lacks: Vec<String>,
}

impl Taps {
    /// Opens what is wanted and may be had; an error where it was required.
    pub(super) fn open(watched: &Watched<'_>) -> Result<Taps> {
        let mut missing = Vec::new();
        let wish = watched.wishes;
        let wire = match open_wire(watched, wish.wire) {
            Ok(tap) => Some(tap),
            Err(why) => note(&mut missing, Vantage::Wire, wish.wire, why)?,
        };
        let unwanted = || "not asked for".to_owned();
        // Tracepoints, too, are told whom to follow by who listens.
        let mut looked = match (wish.diag, wish.trace) {
            (Wish::Off, Wish::Off) => Err(None),
            _ => DiagTap::open(watched.target, watched.master, watched.clock).map_err(Some),
        };
        let trace = match (wish.trace, &looked) {
            (Wish::Off, _) => Err(unwanted()),
            (_, Err(Some(missing))) if missing.is_elsewhere() => Err(missing.to_string()),
            (_, looked) => {
                let tree = server(watched, looked.as_ref().ok());
                let tap = TraceTap::open(watched.target, &tree, watched.clock);
                tap.map_err(|missing| missing.to_string())
            }
        };
        let trace = match trace {
            Ok(tap) => Some(tap),
            Err(why) => note(&mut missing, Vantage::Trace, wish.trace, why)?,
        };
        if let Ok(tap) = &mut looked {
            // Which accept() takes which connection is counted from a queue on that was empty when
            // both were watching.
            if let Err(error) = tap.ask_again() {
                looked = Err(Some(error));
            }
        }
        let first = looked.as_ref().ok().map(|tap| tap.first().clone());
        let diag = match (wish.diag, looked) {
            (Wish::Off, _) => Err(unwanted()),
            (_, Ok(tap)) => Ok(tap),
            (_, Err(error)) => Err(error.map_or_else(unwanted, |error| error.to_string())),
        };
        let diag = match diag {
            Ok(tap) => Some(tap),
            Err(why) => note(&mut missing, Vantage::Diag, wish.diag, why)?,
        };
        Ok(Taps {
            wire,
            diag,
            trace,
            first,
            missing,
        })
    }

    /// Whether packets are seen.
    pub(super) fn has_wire(&self) -> bool {
        self.wire.is_some()
    }

    /// What is missing.
    pub(super) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// What the vantages that are there cannot show, a line each.
    pub(super) fn lacks(&self) -> Vec<String> {
        let diag = self.diag.iter().flat_map(|tap| tap.lacks());
        let trace = self.trace.iter().flat_map(|tap| tap.lacks());
        diag.chain(trace).cloned().collect()
    }

    /// Where what the server's kernel tells is put together.
    pub(super) fn tables(&self, keep: bool) -> Tables {
        let mut trace = self
            .trace
            .as_ref()
            .map(|tap| TraceTable::new(tap.able(), tap.opened(), keep));
        let mut diag = self.diag.as_ref().map(|_| DiagTable::new(keep));
        if let Some(first) = &self.first {
            if let Some(table) = &mut diag {
                table.push(first);
            }
            if let (Some(table), Some(listeners)) = (&mut trace, &first.listeners) {
                let queues: Vec<_> = listeners.iter().map(|l| (l.inode, l.queued)).collect();
                table.listen(&queues, first.answered);
            }
        }
        Tables { trace, diag }
    }

    /// Reads them, each from a thread of its own, into the recorder; with `keep` packets' bytes too.
    pub(super) fn read(self, recorder: &Recorder, keep: bool, clock: Clock) -> Result<Vantages> {
        const NO_THREAD: &str = "cannot start a thread";
        let lacks = self.lacks();
        let interface = self.wire.as_ref().map(PacketTap::interface_name);
        let sender = recorder.sender();
        let wire = self.wire.map(|tap| {
            tap.read(clock, keep, move |batch| {
                sender.send(Message::Wire(batch)).is_ok()
            })
        });
        let sender = recorder.sender();
        let diag = self
            .diag
            .map(|tap| tap.read(move |poll| sender.send(Message::Diag(poll)).is_ok()));
        let sender = recorder.sender();
        let trace = self
            .trace
            .map(|tap| tap.read(move |batch| sender.send(Message::Trace(batch)).is_ok()));
        Ok(Vantages {
            wire: wire.transpose().context(NO_THREAD)?,
            diag: diag.transpose().context(NO_THREAD)?,
            trace: trace.transpose().context(NO_THREAD)?,
            interface,
            missing: self.missing,
            lacks,
        })
    }
}

impl Vantages {
    /// Stops them all, and says what was seen.
    pub(super) fn stop(self) -> Seen {
        Seen {
            // The kernel takes its time to close some of them.
            wire: self.wire.map(PacketVantage::stop),
            interface: self.interface,
            diag: self.diag.map(DiagVantage::stop),
            trace: self.trace.map(TraceVantage::stop),
            missing: self.missing,
            lacks: self.lacks,
        }
    }
}

/// Notes what is missing; an error where it was required.
fn note<T>(
    missing: &mut Vec<Missing>,
    vantage: Vantage,
    wish: Wish,
    why: String,
) -> Result<Option<T>> {
    let wanted = match wish {
        Wish::Off => false,
        Wish::IfAllowed => true,
        Wish::Required { .. } if vantage == Vantage::Wire => bail!("{why}"),
        Wish::Required { otherwise } => {
            let vantage = vantage.word();
            bail!("there is no {vantage}: {why}; or {otherwise}")
        }
    };
    missing.push(Missing {
        vantage,
        why,
        wanted,
    });
    Ok(None)
}

/// The server's processes: what the user named, else whoever holds the listening socket.
fn server(watched: &Watched<'_>, diag: Option<&DiagTap>) -> Vec<Pid> {
    if let Some(master) = watched.master {
        return vec![master];
    }
    let listeners = diag.and_then(|tap| tap.first().listeners.as_ref());
    let inodes: Vec<u64> = listeners.into_iter().flatten().map(|l| l.inode).collect();
    masters(&holders(&inodes).pids)
}

/// Opens the packet ring, or says why there is none.
fn open_wire(watched: &Watched<'_>, wish: Wish) -> std::result::Result<PacketTap, String> {
    if wish == Wish::Off {
        return Err("not asked for".to_owned());
    }
    let route = watched
        .route
        .as_ref()
        .map_err(|error| wire_refused(error, wish))?;
    PacketTap::open(watched.target, *route).map_err(|error| wire_refused(&error, wish))
}

/// Why no packets can be seen, and what to do about it.
pub(super) fn wire_refused(error: &io::Error, wish: Wish) -> String {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("that needs {}", capability::how_to_get_net_raw())
        }
        _ => reason(error),
    };
    let otherwise = match wish {
        Wish::Required { otherwise } => format!("; or {otherwise}"),
        Wish::IfAllowed | Wish::Off => String::new(),
    };
    format!("no packets are seen: {why}{otherwise}")
}
