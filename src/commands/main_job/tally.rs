//! What is counted of several runs besides their records: what was done to their servers, what went
//! wrong, what could not be seen. Process ids and moments stay with each run.

use nix::unistd::Pid;

use super::one::Finished;
use super::remarks::{ended_before, events_remark, trigger_failures, wire_remarks};
use super::vantages::Missing;
use crate::observe::packet::WireStats;
use crate::report::words::{millis, plural};
use crate::target::trigger::Action;

/// Runs, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    runs: usize,
    /// Where connections were made to, each once.
    targets: Vec<String>,
    /// What was done to the server, and in how many runs.
    triggers: Vec<(String, usize)>,
    /// Runs whose server had ended before it was signalled.
    ended_before: usize,
    /// Runs with a trigger that failed.
    failed_triggers: usize,
    /// How the first one did.
    first_failure: Option<String>,
    /// Runs that ended before every trigger was pulled.
    unfired: usize,
    /// Runs whose server had to be killed.
    killed: usize,
    /// Those of them that were made to their end.
    overdue: usize,
    /// Processes that could not be.
    left: Vec<Pid>,
    /// What the wire vantages saw together, where there was one.
    wire: Option<WireStats>,
    /// Events that tracepoints told of and that were lost, where there were any.
    trace: Option<(u64, u64)>,
    /// What the vantages could not see, and in how many runs.
    unseen: Vec<(String, usize)>,
    /// Runs during which the wall clock was stepped, and how far at most.
    clock_steps: (usize, i64),
}

impl Tally {
    /// Counts a run.
    pub(super) fn add(&mut self, run: &Finished) {
        self.runs += 1;
        let target = run.target_name();
        if !self.targets.contains(&target) {
            self.targets.push(target);
        }
        self.add_triggers(run);
        if let Some(stop) = run.server.as_ref().and_then(|s| s.stop.as_ref()) {
            self.killed += usize::from(stop.killed.is_some());
            // Whom an interrupt ended had not had its time.
            self.overdue += usize::from(stop.killed.is_some() && !run.interrupted);
            self.left.extend(&stop.left);
        }
        let seen = &run.ended.seen;
        if let Some(wire) = &seen.wire {
            let sum = self.wire.get_or_insert_default();
            sum.packets += wire.packets;
            sum.kernel_drops += wire.kernel_drops;
            sum.late += wire.late;
            sum.fragments += wire.fragments;
            sum.malformed += wire.malformed;
        }
        if let Some(trace) = &seen.trace {
            let (records, lost) = self.trace.get_or_insert_default();
            *records += trace.records;
            *lost += trace.lost;
        }
        let missing = seen.missing.iter().filter_map(Missing::remark);
        missing.for_each(|missing| count(&mut self.unseen, &missing));
        seen.lacks
            .iter()
            .for_each(|lack| count(&mut self.unseen, lack));
        if let Some(offset) = run.clock_step() {
            let (runs, most) = self.clock_steps;
            self.clock_steps = (runs + 1, most.max(offset.abs()));
        }
    }

    fn add_triggers(&mut self, run: &Finished) {
        let log = &run.ended.log;
        let mut pulled: Vec<String> = Vec::new();
        for fired in &log.fired {
            let what = match &fired.action {
                Action::Signal(signal, _) => signal.to_string(),
                Action::Command(command) => format!("trigger `{command}`"),
            };
            // Once a run, however often it was done.
            if !pulled.contains(&what) {
                count(&mut self.triggers, &what);
                pulled.push(what);
            }
        }
        self.ended_before += usize::from(ended_before(log).is_some());
        self.unfired += usize::from(log.unfired);
        // An interrupt leaves triggers unpulled, which is no failure of theirs.
        if log.has_failed_trigger() && !run.interrupted {
            self.failed_triggers += 1;
            if self.first_failure.is_none() {
                self.first_failure = trigger_failures(log).into_iter().next();
            }
        }
    }

    /// How many runs were counted.
    pub(super) fn runs(&self) -> usize {
        self.runs
    }

    /// In how many the server had to be killed.
    pub(super) fn killed(&self) -> usize {
        self.killed
    }

    /// Whether every run had all its triggers pulled, and none of them failed.
    pub(super) fn were_triggered_as_planned(&self) -> bool {
        self.failed_triggers == 0 && self.unfired == 0
    }

    /// In how many a trigger failed.
    pub(super) fn failed_triggers(&self) -> usize {
        self.failed_triggers
    }

    /// Whom connections were made to.
    pub(super) fn targets(&self) -> String {
        match self.targets.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            [first, rest @ ..] => {
                let n = rest.len();
                format!("{first} and {n} other {}", addresses(n))
            }
        }
    }

    /// What was done to the servers, a line each.
    pub(super) fn triggers(&self) -> Vec<String> {
        let line = |(what, n): &(String, usize)| format!("{what} in {}", self.share(*n));
        self.triggers.iter().map(line).collect()
    }

    /// What went wrong and could not be seen, a line each.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut lines = self.server_remarks();
        lines.extend(self.wire.iter().flat_map(wire_remarks));
        lines.extend(self.trace_remark());
        for (unseen, n) in &self.unseen {
            lines.push(format!("{}: {unseen}", self.share(*n)));
        }
        lines.extend(self.clock_remark());
        lines
    }

    /// The same where it is told elsewhere how servers ended, and what could not be seen of which.
    pub(super) fn remarks_beside_rows(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.trigger_remark().into_iter().collect();
        lines.extend(self.left_remark());
        lines.extend(self.wire.iter().flat_map(wire_remarks));
        lines.extend(self.trace_remark());
        lines.extend(self.clock_remark());
        lines
    }

    fn trace_remark(&self) -> Option<String> {
        let (records, lost) = self.trace?;
        Some(events_remark(records, lost))
    }

    fn clock_remark(&self) -> Option<String> {
        let (steps, most) = self.clock_steps;
        (steps > 0).then(|| {
            format!(
                "the wall clock moved by up to {} during {}; packet times are off by up to that",
                millis(most),
                self.share(steps)
            )
        })
    }

    fn trigger_remark(&self) -> Option<String> {
        (self.failed_triggers > 0).then(|| {
            let share = self.share(self.failed_triggers);
            let first = self.first_failure.iter();
            let first: String = first.map(|how| format!("; the first: {how}")).collect();
            format!("a trigger failed in {share}{first}")
        })
    }

    fn server_remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.ended_before > 0 {
            let share = self.share(self.ended_before);
            lines.push(format!(
                "the server had ended before it was signalled in {share}"
            ));
        }
        lines.extend(self.trigger_remark());
        if self.overdue > 0 {
            lines.push(format!(
                "the server had not stopped in time and was killed in {}",
                self.share(self.overdue)
            ));
        }
        lines.extend(self.left_remark());
        lines
    }

    fn left_remark(&self) -> Option<String> {
        (!self.left.is_empty()).then(|| {
            let pids: Vec<String> = self.left.iter().map(ToString::to_string).collect();
            format!(
                "processes that could not be killed: end {} yourself, as another user or as root",
                pids.join(", ")
            )
        })
    }

    /// So many of the runs, in words.
    fn share(&self, n: usize) -> String {
        share(n, self.runs)
    }
}

/// `n` of `runs` runs, in words.
pub(super) fn share(n: usize, runs: usize) -> String {
    match runs {
        2 if n == 2 => "both runs".to_owned(),
        3.. if n == runs => format!("all {runs} runs"),
        _ => format!("{n} of {}", counted(runs)),
    }
}

/// So many runs, in words.
pub(super) fn counted(runs: usize) -> String {
    format!("{runs} {}", plural(runs as u64, "run"))
}

fn addresses(n: usize) -> &'static str {
    if n == 1 { "address" } else { "addresses" }
}

fn count(counts: &mut Vec<(String, usize)>, what: &str) {
    match counts.iter_mut().find(|(known, _)| known == what) {
        Some((_, n)) => *n += 1,
        None => counts.push((what.to_owned(), 1)),
    }
}
