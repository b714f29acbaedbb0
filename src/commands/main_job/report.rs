//! What a finished run says: run.json, the table, and whether a gate failed.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use super::measure::{Ended, Log};
use super::{Notes, StartedServer};
use crate::commands::interrupt::Interrupt;
use crate::commands::outputs::OpenOutputs;
use crate::commands::say;
use crate::outcome::Outcome;
use crate::plan::Target;
use crate::report::run::{
    ClockReport, ExitReport, RunReport, SCHEMA, ServerReport, SummaryReport, TriggerReport,
    VantageReport,
};
use crate::report::table::{self, Setting, millis, plural};
use crate::summary::Summary;
use crate::sys::{host, reason};
use crate::target::child::Stop;
use crate::target::trigger::{Action, Fired};
use crate::time::{Clock, Stamp};

/// A wall clock that moved further from the run clock was stepped.
const STEP_NS: i64 = 1_000_000;

/// Outputs that could not be written.
#[derive(Default)]
struct Failures {
    sentences: Vec<String>,
}

impl Failures {
    fn add(&mut self, name: &str, error: &io::Error) {
        // A reader that went away has what it wanted.
        if error.kind() == ErrorKind::BrokenPipe {
            return;
        }
        self.sentences.push(format!(
            "cannot write {name}: {}; make room or give another path (what was measured is in the \
             outputs that could be written)",
            reason(error)
        ));
    }
}

/// Prints to stdout, all of it or an error.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// What there is to report.
pub(super) struct Report<'a> {
    pub(super) run_id: &'a str,
    pub(super) words: &'a [OsString],
    pub(super) target: &'a Target,
    pub(super) clock: Clock,
    pub(super) max_lost: Option<u64>,
    pub(super) interrupt: &'a Interrupt,
    pub(super) server: Option<&'a StartedServer>,
    pub(super) ended: &'a Ended,
}

impl Report<'_> {
    /// Writes run.json and the table, and says how the run went: whatever cannot be written, the rest
    /// is.
    pub(super) fn write(&self, opened: OpenOutputs, mut notes: Notes) -> ExitCode {
        let mut failures = Failures::default();
        for failed in &self.ended.recorded.failed {
            failures.add(&failed.name, &failed.error);
        }
        if let Some(error) = self
            .server
            .and_then(|s| s.stop.as_ref()?.log_error.as_ref())
        {
            failures.add("server.log", error);
        }
        if let Some((path, file)) = &opened.run
            && let Err(error) = serde_json::to_writer_pretty(file, &self.run_json(&notes))
        {
            failures.add(&path.display().to_string(), &error.into());
        }
        if !notes.quiet {
            let text = table::render(&self.ended.recorded.summary, &self.setting());
            if opened.stdout_taken {
                say(&mut io::stderr(), &text);
            } else if let Err(error) = print(&text) {
                failures.add("the table to stdout", &error);
            }
        }
        // Even where nothing else is said.
        notes.quiet = false;
        for sentence in &failures.sentences {
            notes.tell(sentence.clone());
        }
        ExitCode::from(if !failures.sentences.is_empty() {
            2
        } else if let Some(code) = self.interrupt.exit_code() {
            code
        } else {
            self.gate()
        })
    }

    fn setting(&self) -> Setting {
        Setting {
            target: self.target_name(),
            took_ns: self.ended.took_ns,
            triggers: self.ended.log.fired.iter().map(describe).collect(),
            signal: self.ended.log.signal(),
            notes: self.remarks(),
        }
    }

    /// 1 where --max-lost is exceeded or nothing certain was measured, said on stderr.
    fn gate(&self) -> u8 {
        let Some(max_lost) = self.max_lost else {
            return 0;
        };
        let summary = &self.ended.recorded.summary;
        let uncertain = summary.count(Outcome::LocalError) + summary.count(Outcome::Unfinished);
        let why = if summary.lost > max_lost {
            format!("{} lost, at most {max_lost} allowed", summary.lost)
        } else if summary.count(Outcome::Served) == 0 {
            "nothing was served".to_owned()
        } else if uncertain > 0 {
            format!("{uncertain} local_error or unfinished")
        } else if self.ended.log.has_failed_trigger() {
            "a trigger failed".to_owned()
        } else {
            return 0;
        };
        say(&mut io::stderr(), &format!("probe: gate failed: {why}\n"));
        1
    }

    fn target_name(&self) -> String {
        let address = self.target.address.to_string();
        if self.target.name == address {
            address
        } else {
            format!("{} ({address})", self.target.name)
        }
    }

    /// What the reader of the table must know.
    fn remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let Ended {
            recorded,
            capture,
            wire_missing,
            log,
            ..
        } = self.ended;
        trigger_remarks(log, &mut lines);
        if let Some(stop) = self.server.and_then(|s| s.stop.as_ref()) {
            lines.extend(self.stop_remark(stop));
        }
        if let Some(wire) = capture {
            lines.push(format!(
                "wire: {} packets of the target's, {} dropped by the kernel",
                wire.packets, wire.kernel_drops
            ));
            let odd = [
                (wire.late, "out of order beyond what is waited for"),
                (wire.fragments, "fragments, not read"),
                (wire.malformed, "unreadable"),
            ];
            for (n, what) in odd {
                if n > 0 {
                    lines.push(format!("wire: {n} {} {what}", plural(n, "packet")));
                }
            }
        }
        if let Some(missing) = wire_missing {
            lines.push(format!("seen from the sockets alone; wire: {missing}"));
        }
        lines.extend(late(&recorded.summary));
        lines.extend(unknown_causes(&recorded.summary));
        let offset = self.clock.wall_offset_ns();
        if offset.abs() > STEP_NS {
            lines.push(format!(
                "the wall clock moved by {} during the run; packet times are off by up to that",
                millis(offset)
            ));
        }
        if self.interrupt.came() {
            lines.push("interrupted: this is what was seen until then".to_owned());
        }
        lines
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

    fn run_json(&self, notes: &Notes) -> RunReport {
        let ended = self.ended;
        RunReport {
            schema: SCHEMA,
            run_id: self.run_id.to_owned(),
            probe_version: env!("CARGO_PKG_VERSION"),
            command: self
                .words
                .iter()
                .map(|w| w.to_string_lossy().into_owned())
                .collect(),
            target: self.target_name(),
            kernel: host::kernel(),
            sysctls: host::sysctls(),
            clock: ClockReport {
                started_unix_ns: self.clock.started().0,
                ended_unix_ns: self.clock.now().0,
                wall_offset_at_end_ns: self.clock.wall_offset_ns(),
            },
            vantages: vec![
                VantageReport {
                    name: "socket",
                    on: true,
                    missing: None,
                },
                VantageReport {
                    name: "wire",
                    on: ended.capture.is_some(),
                    missing: ended.wire_missing.clone(),
                },
            ],
            triggers: trigger_reports(&ended.log),
            exits: ended.log.exits.iter().map(exit_report).collect(),
            server: self.server.map(server_report),
            interrupted: self.interrupt.came(),
            notes: notes.lines.clone(),
            capture: ended.capture,
            summary: SummaryReport::new(&ended.recorded.summary, self.ended.log.signal()),
        }
    }
}

fn trigger_remarks(log: &Log, lines: &mut Vec<String>) {
    if let (Some(exit), Some(signal)) = (log.master_exit(), log.signal())
        && exit < signal
    {
        let before = millis(signal.since(exit));
        lines.push(format!(
            "the server had ended {before} before it was signalled"
        ));
    }
    for (fired, (pid, error)) in log
        .fired
        .iter()
        .flat_map(|fired| fired.sent.iter().map(move |sent| (fired, sent)))
        .filter_map(|(fired, (pid, sent))| Some((fired, (pid, sent.err()?))))
    {
        let Action::Signal(signal) = &fired.action else {
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
}

/// Open-loop arrivals that came late say something about this host, not about the server.
fn late(summary: &Summary) -> Option<String> {
    const WORTH_SAYING_NS: i64 = 1_000_000;
    (summary.latest_ns > WORTH_SAYING_NS).then(|| {
        format!(
            "connections were opened up to {} later than scheduled",
            millis(summary.latest_ns)
        )
    })
}

/// What packets and sockets cannot tell.
fn unknown_causes(summary: &Summary) -> Option<String> {
    let open = [Outcome::ResetEmpty, Outcome::ClosedEmpty, Outcome::Hung];
    let n: u64 = open.iter().map(|&outcome| summary.count(outcome)).sum();
    (n > 0).then(|| {
        format!(
            "{n} {} whose cause packets alone cannot tell: see cause_candidates",
            plural(n, "connection")
        )
    })
}

fn describe(fired: &Fired) -> String {
    match &fired.action {
        Action::Command(command) => format!("trigger: {command}"),
        Action::Signal(signal) => {
            let pids: Vec<String> = fired.sent.iter().map(|(pid, _)| pid.to_string()).collect();
            format!("{signal} to {}", pids.join(", "))
        }
    }
}

fn trigger_reports(log: &Log) -> Vec<TriggerReport> {
    let fired = log.fired.iter().map(|fired| {
        let errors = fired.sent.iter().filter_map(|(pid, sent)| {
            let error = sent.err()?;
            Some(format!("{pid}: {error:?}"))
        });
        TriggerReport {
            at_unix_ns: fired.at.0,
            action: match &fired.action {
                Action::Signal(signal) => signal.to_string(),
                Action::Command(command) => command.clone(),
            },
            pids: fired.sent.iter().map(|(pid, _)| pid.as_raw()).collect(),
            errors: errors.collect(),
            status: None,
            output: None,
        }
    });
    let commands = log.commands.iter().map(|command| TriggerReport {
        at_unix_ns: command.at.0,
        action: format!("end of {}", command.command),
        pids: Vec::new(),
        errors: Vec::new(),
        status: Some(command.status.clone()),
        output: Some(command.output.clone()),
    });
    fired.chain(commands).collect()
}

fn exit_report(&(pid, at): &(nix::unistd::Pid, Stamp)) -> ExitReport {
    ExitReport {
        pid: pid.as_raw(),
        at_unix_ns: at.0,
    }
}

fn server_report(started: &StartedServer) -> ServerReport {
    let stop = started.stop.as_ref();
    ServerReport {
        pid: started.server.pid().as_raw(),
        at_rest: started.at_rest,
        status: stop.and_then(|stop| stop.status.clone()),
        asked_to_stop_unix_ns: stop.and_then(|stop| stop.asked).map(|at| at.0),
        killed_unix_ns: stop.and_then(|stop| stop.killed).map(|at| at.0),
    }
}
