//! What the reader of one run's table must know besides its numbers.

use super::course::course;
use super::measure::{Ended, Log};
use super::one::Finished;
use super::vantages::{Missing, Seen};
use crate::event::Vantage;
use crate::observe::diag::DiagStats;
use crate::observe::packet::WireStats;
use crate::outcome::Outcome;
use crate::report::local_error;
use crate::report::table::Setting;
use crate::report::words::{millis, plural};
use crate::summary::Summary;
use crate::sys::capability;
use crate::target::child::Stop;
use crate::target::trigger::{Action, Fired};
use crate::time::Stamp;

/// A wall clock that moved further from the run clock was stepped.
const STEP_NS: i64 = 1_000_000;

impl Finished {
    /// What the table says besides the summary.
    pub(super) fn setting(&self) -> Setting {
        Setting {
            target: self.target_name(),
            took_ns: self.ended.took_ns,
            triggers: self.ended.log.fired.iter().map(describe).collect(),
            signal: self.ended.log.signal(),
            course: course(&self.ended),
            notes: self.remarks(),
        }
    }

    /// The target as typed, and its address where that is another.
    pub(super) fn target_name(&self) -> String {
        let address = self.target.address.to_string();
        if self.target.name == address {
            address
        } else {
            format!("{} ({address})", self.target.name)
        }
    }

    fn remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let Ended {
            recorded,
            seen,
            log,
            ..
        } = &self.ended;
        if let Some(before) = ended_before(log) {
            let before = millis(before);
            lines.push(format!(
                "the server had ended {before} before it was signalled"
            ));
        }
        lines.extend(trigger_failures(log));
        if let Some(stop) = self.server.as_ref().and_then(|s| s.stop.as_ref()) {
            lines.extend(self.stop_remark(stop));
        }
        lines.extend(seen.remarks());
        if recorded.answered_elsewhere {
            lines.push(format!(
                "connections were answered though nobody listens on {} here (a proxy or DNAT passes \
                 them on): diag and trace do not see the server's part; give the address that it \
                 listens on with --target, and --pid",
                self.target.address
            ));
        }
        lines.extend(local_error::lines(&recorded.summary));
        lines.extend(late(&recorded.summary));
        lines.extend(unknown_causes(&recorded.summary));
        if let Some(offset) = self.clock_step() {
            lines.push(format!(
                "the wall clock moved by {} during the run; packet times are off by up to that",
                millis(offset)
            ));
        }
        if let Some(error) = &self.broken {
            lines.push(format!(
                "broken off ({error:#}): this is what was seen until then"
            ));
        }
        if self.interrupted {
            lines.push("interrupted: this is what was seen until then".to_owned());
        }
        lines
    }

    /// How far the wall clock moved during the run, where it was stepped.
    pub(super) fn clock_step(&self) -> Option<i64> {
        Some(self.clock.wall_offset_ns()).filter(|offset| offset.abs() > STEP_NS)
    }

    /// How the server did not stop by itself.
    fn stop_remark(&self, stop: &Stop) -> Option<String> {
        let killed = stop.killed?;
        let since =
            |asked: Stamp| format!(" {} after it was asked to", millis(killed.since(asked)));
        let after = stop
            .asked
            .or(self.ended.log.signal())
            .map_or_else(String::new, since);
        let end = if stop.left.is_empty() {
            "was killed".to_owned()
        } else {
            let pids: Vec<String> = stop.left.iter().map(ToString::to_string).collect();
            let pids = pids.join(", ");
            format!("could not be killed: end {pids} yourself, as another user or as root")
        };
        Some(format!("the server had not stopped{after}, and {end}"))
    }
}

impl Seen {
    /// What was seen from where, and what was not.
    fn remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.wire.iter().flat_map(wire_remarks));
        lines.extend(self.diag.iter().map(diag_remark));
        lines.extend(
            self.trace
                .iter()
                .map(|trace| events_remark(trace.records, trace.lost)),
        );
        lines.extend(self.missing.iter().filter_map(Missing::remark));
        lines.extend(self.lacks.iter().cloned());
        lines
    }
}

impl Missing {
    /// What the table says of it; nothing of a vantage that nobody asked for but the wire, without
    /// which much is not seen.
    pub(super) fn remark(&self) -> Option<String> {
        let Missing {
            vantage,
            why,
            wanted,
        } = self;
        match vantage {
            Vantage::Wire => Some(format!("seen from the sockets alone; wire: {why}")),
            _ => wanted.then(|| format!("no {}: {why}", vantage.word())),
        }
    }
}

/// How often sock_diag was asked.
pub(super) fn diag_remark(diag: &DiagStats) -> String {
    let DiagStats {
        listener_polls,
        connection_polls,
        cpu_share,
        ..
    } = diag;
    let listener = listener_polls.times + connection_polls.times;
    format!(
        "diag: asked for the listener {listener} {}, for connections {}, with {:.1} % of a core",
        plural_times(listener),
        connection_polls.times,
        cpu_share * 100.0
    )
}

fn plural_times(n: u64) -> &'static str {
    if n == 1 { "time" } else { "times" }
}

/// How much tracepoints told, and what was lost.
pub(super) fn events_remark(records: u64, lost: u64) -> String {
    format!("trace: {records} {}, {lost} lost", plural(records, "event"))
}

/// What the wire vantage saw and what it missed.
pub(super) fn wire_remarks(wire: &WireStats) -> Vec<String> {
    let mut lines = vec![format!(
        "wire: {} packets of the target's, {} dropped by the kernel",
        wire.packets, wire.kernel_drops
    )];
    let odd = [
        (wire.late, "out of order beyond what is waited for"),
        (wire.fragments, "fragments, not read"),
        (wire.malformed, "unreadable"),
        (
            wire.bad_checksums.unwrap_or(0),
            "with a wrong checksum, dropped as a host would",
        ),
    ];
    for (n, what) in odd {
        if n > 0 {
            lines.push(format!("wire: {n} {} {what}", plural(n, "packet")));
        }
    }
    let foreign = wire.foreign_resets.unwrap_or(0);
    if foreign > 0 {
        lines.push(format!(
            "this host's own TCP sent {foreign} {} into connections of the raw engine; those that it ended \
             are local_error rows, and not the server's losses (a firewall here rejects what comes, or the \
             server sends with a TTL of 255, and to drop that unanswered needs {})",
            plural(foreign, "reset"),
            capability::how_to_get_net_admin()
        ));
    }
    lines
}

/// How long the server had ended before it was signalled, in nanoseconds.
pub(super) fn ended_before(log: &Log) -> Option<i64> {
    let before = log.signal()?.since(log.master_exit()?);
    (before > 0).then_some(before)
}

/// What became of triggers that failed.
pub(super) fn trigger_failures(log: &Log) -> Vec<String> {
    let mut lines = Vec::new();
    for (fired, (pid, error)) in log
        .fired
        .iter()
        .flat_map(|fired| fired.sent.iter().map(move |sent| (fired, sent)))
        .filter_map(|(fired, (pid, sent))| Some((fired, (pid, sent.err()?))))
    {
        let Action::Signal(signal, _) = &fired.action else {
            continue;
        };
        lines.push(format!(
            "{signal} did not reach process {pid}: {}",
            error.desc().to_lowercase()
        ));
    }
    for command in log.commands.iter().filter(|command| !command.success) {
        let printed = match command.output.trim() {
            "" => String::new(),
            output => format!(": {output}"),
        };
        lines.push(format!(
            "trigger `{}` failed ({}){printed}",
            command.command, command.status
        ));
    }
    if log.ended_early > 0 {
        lines.push(format!(
            "{} {} still running when the run ended, and was killed",
            log.ended_early,
            plural(log.ended_early as u64, "trigger command")
        ));
    }
    if log.unfired {
        lines.push("ended before every trigger was pulled".to_owned());
    }
    lines
}

/// Open-loop arrivals that came late say something about this host, not about the server.
pub(super) fn late(summary: &Summary) -> Option<String> {
    const WORTH_SAYING_NS: i64 = 1_000_000;
    (summary.latest_ns > WORTH_SAYING_NS).then(|| {
        format!(
            "connections were opened up to {} later than scheduled",
            millis(summary.latest_ns)
        )
    })
}

/// What could not be told.
pub(super) fn unknown_causes(summary: &Summary) -> Option<String> {
    let open = [Outcome::ResetEmpty, Outcome::ClosedEmpty, Outcome::Hung];
    let counted = open
        .iter()
        .filter_map(|outcome| summary.outcomes.get(outcome));
    let n: u64 = counted.map(|counted| counted.parts.unknown()).sum();
    (n > 0).then(|| {
        format!(
            "{n} {} whose cause is not proven: see cause_candidates in --csv",
            plural(n, "connection")
        )
    })
}

fn describe(fired: &Fired) -> String {
    match &fired.action {
        Action::Command(command) => format!("trigger: {command}"),
        Action::Signal(signal, _) => {
            let pids: Vec<String> = fired.sent.iter().map(|(pid, _)| pid.to_string()).collect();
            format!("{signal} to {}", pids.join(", "))
        }
    }
}
