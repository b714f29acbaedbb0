//! run.json of a run that has ended.

use std::ffi::OsString;

use super::course::course;
use super::measure::Log;
use super::one::Finished;
use super::server::StartedServer;
use super::vantages::Seen;
use crate::commands::command_line;
use crate::event::Vantage;
use crate::plan::Engine;
use crate::report::run::{
    ClockReport, ExitReport, RunReport, SCHEMA, ServerReport, SummaryReport, TriggerReport,
    VantageReport,
};
use crate::sys::host;
use crate::target::trigger::Action;
use crate::time::Stamp;

impl Finished {
    /// The whole file, of a run that the command line `words` asked for.
    pub(super) fn run_json(&self, words: &[OsString], notes: &[String]) -> RunReport {
        let ended = &self.ended;
        RunReport {
            schema: SCHEMA,
            run_id: self.run_id.clone(),
            probe_version: env!("CARGO_PKG_VERSION"),
            command: command_line(words),
            target: self.target_name(),
            kernel: host::kernel(),
            sysctls: host::sysctls(),
            clock: ClockReport {
                started_unix_ns: self.clock.started().0,
                ended_unix_ns: self.clock.now().0,
                monotonic_offset_ns: self.clock.monotonic_offset_ns(),
                wall_offset_at_end_ns: self.clock.wall_offset_ns(),
            },
            vantages: vantage_reports(&ended.seen, self.engine),
            triggers: trigger_reports(&ended.log),
            exits: ended.log.exits.iter().map(exit_report).collect(),
            server: self.server.as_ref().map(server_report),
            interrupted: self.interrupted,
            broken_off: self.broken.as_ref().map(|error| format!("{error:#}")),
            notes: notes.to_vec(),
            capture: ended.seen.wire,
            diag: ended.seen.diag.clone(),
            trace: ended.seen.trace,
            course: course(ended),
            summary: SummaryReport::new(&ended.recorded.summary, ended.log.signal()),
        }
    }
}

fn vantage_reports(seen: &Seen, engine: Engine) -> Vec<VantageReport> {
    let of = |vantage: Vantage, on| {
        let missing = seen.missing.iter().find(|one| one.vantage == vantage);
        VantageReport {
            name: vantage.word(),
            on,
            missing: missing.map(|missing| missing.why.clone()),
        }
    };
    let sockets = engine == Engine::Socket;
    let raw = (!sockets).then(|| "connections are made by probe's own TCP".to_owned());
    vec![
        VantageReport {
            missing: raw,
            ..of(Vantage::Socket, sockets)
        },
        of(Vantage::Wire, seen.wire.is_some()),
        of(Vantage::Diag, seen.diag.is_some()),
        of(Vantage::Trace, seen.trace.is_some()),
    ]
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
                Action::Signal(signal, _) => signal.to_string(),
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
