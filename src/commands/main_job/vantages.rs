//! From where a run is watched: what is opened before the first SYN, runs until the last connection
//! is recorded, and says in the end what it saw. What could not be had is told with its reason.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;

use crate::commands::recorder::{Message, Recorder};
use crate::event::Vantage;
use crate::kernel::{DiagTable, Poll, Tables, TraceTable};
use crate::observe::diag::{DiagMissing, DiagStats, DiagTap, DiagVantage};
use crate::observe::packet::{PacketTap, PacketVantage, WireStats, interface_name};
use crate::observe::route::Route;
use crate::observe::trace::{TraceStats, TraceTap, TraceVantage};
use crate::plan::{Wish, Wishes};
use crate::sys::{capability, reason};
use crate::target::holders::{holders, masters, proxy};
use crate::target::tree::tree;
use crate::time::Clock;

/// Why a vantage is missing that nobody wanted.
const UNWANTED: &str = "not asked for";

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
    /// Whether the engine itself sees every packet.
    pub(super) own_wire: bool,
    pub(super) clock: Clock,
}

/// Everything that watches, open and filling, with nobody reading it yet.
pub(super) struct Taps {
    wire: WireTap,
    diag: Option<DiagTap>,
    trace: Option<TraceTap>,
    /// The listeners and their queues when both were watching: from a queue on that was empty then it
    /// can be counted which accept() takes which connection.
    first: Option<Poll>,
    /// The server's processes, as far as they are known: of these tracepoints tell what they did.
    followed: Vec<Pid>,
    /// Whether nobody else holds the listener, and could accept.
    all_followed: bool,
    missing: Vec<Missing>,
}

/// Who sees packets.
enum WireTap {
    Nobody,
    /// A ring that is read beside the engine.
    Ring(PacketTap),
    /// The engine, on the interface of this number.
    Engine(u32),
}

/// Everything that watches, running.
pub(super) struct Vantages {
    wire: Option<PacketVantage>,
    diag: Option<DiagVantage>,
    trace: Option<TraceVantage>,
    interface: Option<String>,
    missing: Vec<Missing>,
    lacks: Vec<String>,
    saw_accepts: bool,
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
    /// Whether tracepoints told of every process that could accept.
    pub(super) saw_accepts: bool,
}

impl Taps {
    /// Opens what is wanted and may be had; an error where it was required.
    pub(super) fn open(watched: &Watched<'_>) -> Result<Taps> {
        let Wishes { wire, diag, trace } = watched.wishes;
        let mut missing = Vec::new();
        let wire_tap = open_wire(watched, wire)
            .map(Some)
            .or_else(|why| note(&mut missing, Vantage::Wire, wire, why))?;
        // Tracepoints, too, are told by who listens whom to follow.
        let mut looked = match (diag, trace) {
            (Wish::Off, Wish::Off) => Err(None),
            _ => DiagTap::open(watched.target, watched.master, watched.clock).map_err(Some),
        };
        let followed = server(watched, looked.as_ref().ok());
        let elsewhere = looked.as_ref().err().and_then(Option::as_ref);
        let trace_tap = open_trace(watched, &followed, elsewhere);
        let trace_tap = trace_tap.or_else(|why| note(&mut missing, Vantage::Trace, trace, why))?;
        if let Ok(tap) = &mut looked
            && let Err(error) = tap.ask_again()
        {
            looked = Err(Some(error));
        }
        let first = looked.as_ref().ok().map(|tap| tap.first().clone());
        let diag_tap = match (diag, looked) {
            (Wish::Off, _) | (_, Err(None)) => Err(UNWANTED.to_owned()),
            (_, Ok(tap)) => Ok(Some(tap)),
            (_, Err(Some(error))) => Err(error.to_string()),
        };
        let diag_tap = diag_tap.or_else(|why| note(&mut missing, Vantage::Diag, diag, why))?;
        Ok(Taps {
            wire: wire_tap.unwrap_or(WireTap::Nobody),
            diag: diag_tap,
            trace: trace_tap,
            all_followed: all_followed(first.as_ref(), &followed),
            first,
            followed,
            missing,
        })
    }

    /// Whether packets are seen.
    pub(super) fn has_wire(&self) -> bool {
        !matches!(self.wire, WireTap::Nobody)
    }

    /// What is missing.
    pub(super) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// What the vantages that are there cannot show, a line each.
    pub(super) fn lacks(&self) -> Vec<String> {
        let diag = self.diag.iter().flat_map(|tap| tap.lacks());
        let trace = self.trace.iter().flat_map(|tap| tap.lacks());
        let mut lacks: Vec<String> = diag.chain(trace).cloned().collect();
        let listeners = self
            .first
            .as_ref()
            .and_then(|first| first.listeners.as_ref());
        let somebody_listens = listeners.is_none_or(|listeners| !listeners.is_empty());
        if self.trace.is_some() && self.followed.is_empty() && somebody_listens {
            lacks.push(
                "no process of the server is known: its accepts, signals and exits are not seen; name \
                 one with --pid"
                    .to_owned(),
            );
        }
        if self.trace.is_some() && !self.followed.is_empty() && !self.all_followed {
            lacks.push(
                "processes outside the server's tree hold the listener too, or may: what they accept is \
                 not seen; give the server's first process with --pid"
                    .to_owned(),
            );
        }
        if let Some((pid, name)) = proxy(&self.followed) {
            lacks.push(format!(
                "{name} (process {pid}) listens there and passes connections on to a container: what is \
                 told is its part; give the address that the server itself listens on with --target, \
                 and --pid"
            ));
        }
        lacks
    }

    /// Where what the server's kernel tells is put together.
    pub(super) fn tables(&self, target: SocketAddr, keep: bool) -> Tables {
        let mut trace = self
            .trace
            .as_ref()
            .map(|tap| TraceTable::new(tap.able(), target, tap.opened(), keep));
        let mut diag = self.diag.as_ref().map(|_| DiagTable::new(keep));
        if let Some(first) = &self.first {
            if let Some(table) = &mut diag {
                table.push(first);
            }
            if let (Some(table), Some(listeners)) = (&mut trace, &first.listeners) {
                table.listen(listeners, self.all_followed, first.asked);
            }
        }
        Tables { trace, diag }
    }

    /// Reads them, each from a thread of its own, into the recorder; with `keep` packets' bytes too.
    pub(super) fn read(self, recorder: &Recorder, keep: bool, clock: Clock) -> Result<Vantages> {
        const NO_THREAD: &str = "cannot start a thread";
        let lacks = self.lacks();
        let sender = recorder.sender();
        let (interface, wire) = match self.wire {
            WireTap::Nobody => (None, None),
            WireTap::Engine(interface) => (Some(interface_name(interface)), None),
            WireTap::Ring(tap) => {
                let name = interface_name(tap.interface());
                let sink = move |batch| sender.send(Message::Wire(batch)).is_ok();
                (Some(name), Some(tap.read(clock, keep, sink)))
            }
        };
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
            saw_accepts: self.all_followed && !self.followed.is_empty(),
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
            saw_accepts: self.saw_accepts,
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

/// Whether all processes that hold the listener are known to be among `followed` and those below them.
fn all_followed(first: Option<&Poll>, followed: &[Pid]) -> bool {
    let Some(listeners) = first.and_then(|first| first.listeners.as_ref()) else {
        return false;
    };
    let inodes: Vec<u64> = listeners.iter().map(|one| one.inode).collect();
    let members: Vec<Pid> = followed.iter().flat_map(|&pid| tree(pid)).collect();
    let found = holders(&inodes);
    !found.hidden && found.pids.iter().all(|pid| members.contains(pid))
}

/// Opens the packet ring, or says why there is none.
fn open_wire(watched: &Watched<'_>, wish: Wish) -> std::result::Result<WireTap, String> {
    if wish == Wish::Off {
        return Err(UNWANTED.to_owned());
    }
    let refused = |error: &io::Error| wire_refused(error, wish);
    let route = watched.route.as_ref().map_err(refused)?;
    if watched.own_wire {
        return Ok(WireTap::Engine(route.interface));
    }
    let tap = PacketTap::open(watched.target, *route).map_err(|error| refused(&error))?;
    Ok(WireTap::Ring(tap))
}

/// Enables tracepoints, or says why there are none: where connections end elsewhere than at the
/// server, they would tell of somebody else.
fn open_trace(
    watched: &Watched<'_>,
    followed: &[Pid],
    diag: Option<&DiagMissing>,
) -> std::result::Result<Option<TraceTap>, String> {
    if watched.wishes.trace == Wish::Off {
        return Err(UNWANTED.to_owned());
    }
    if let Some(elsewhere) = diag.filter(|missing| missing.is_elsewhere()) {
        return Err(elsewhere.to_string());
    }
    let tap = TraceTap::open(watched.target, followed, watched.clock);
    tap.map(Some).map_err(|missing| missing.to_string())
}

/// Why no packets can be seen, and what to do about it.
pub(super) fn wire_refused(error: &io::Error, wish: Wish) -> String {
    let (why, remedy) = match error.raw_os_error() {
        // What it takes is what would help.
        Some(libc::EPERM | libc::EACCES) => (
            format!("that needs {}", capability::how_to_get_net_raw()),
            None,
        ),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => (
            reason(error),
            Some("give a target that this host has a route to"),
        ),
        Some(libc::EMFILE) => (
            reason(error),
            Some("raise the limit of open files with `ulimit -n`"),
        ),
        Some(libc::ENFILE) => (reason(error), Some("raise fs.file-max")),
        Some(libc::ENOBUFS | libc::ENOMEM) => (reason(error), Some("free some memory")),
        _ => (reason(error), None),
    };
    let is_permission = error.kind() == io::ErrorKind::PermissionDenied;
    let otherwise = match wish {
        Wish::Required { otherwise } => Some(otherwise),
        Wish::IfAllowed | Wish::Off => None,
    };
    let rest = match (remedy, otherwise) {
        (Some(remedy), Some(otherwise)) => format!("; {remedy}, or {otherwise}"),
        (None, Some(otherwise)) if is_permission => format!("; or {otherwise}"),
        (Some(only), None) | (None, Some(only)) => format!("; {only}"),
        (None, None) => String::new(),
    };
    format!("no packets are seen: {why}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_no_packets_are_seen_is_told_with_a_remedy() {
        let required = Wish::Required {
            otherwise: "leave out --engine raw",
        };
        let said = |code| wire_refused(&io::Error::from_raw_os_error(code), required);
        assert_eq!(
            said(libc::ENETUNREACH),
            "no packets are seen: network is unreachable; give a target that this host has a route to, \
             or leave out --engine raw"
        );
        assert_eq!(
            said(libc::EMFILE),
            "no packets are seen: too many open files; raise the limit of open files with `ulimit -n`, \
             or leave out --engine raw"
        );
        assert_eq!(
            said(libc::EINVAL),
            "no packets are seen: invalid argument; leave out --engine raw"
        );
        let needs = said(libc::EPERM);
        assert!(
            needs.contains("that needs CAP_NET_RAW")
                && needs.ends_with("; or leave out --engine raw")
        );
        let unreachable = io::Error::from_raw_os_error(libc::ENETUNREACH);
        assert_eq!(
            wire_refused(&unreachable, Wish::IfAllowed),
            "no packets are seen: network is unreachable; give a target that this host has a route to"
        );
    }
}
