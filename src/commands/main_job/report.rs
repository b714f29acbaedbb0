//! What a series of runs says in the end: the table, whether a gate failed, and the exit code.

use std::process::ExitCode;

use anyhow::{Error, Result};

use super::one::Finished;
use super::remarks::{ended_before, late, unknown_causes};
use super::tally::{Tally, counted, share};
use super::vantages::Missing;
use crate::commands::ending::{Failures, gate_failure, print_table};
use crate::commands::tell;
use crate::plan::{Case, Plan};
use crate::report::local_error;
use crate::report::table::{self, PoolSetting, Setting};
use crate::summary::{Pool, Stops, Summary, Turns};

/// What was measured of a case.
#[derive(Default)]
pub(in crate::commands) struct CaseMeasured {
    /// What it is called among several.
    pub(in crate::commands) label: Option<String>,
    /// Its runs; none where the series ended before it.
    pub(in crate::commands) pool: Pool,
    /// How its server stopped in each of them.
    pub(in crate::commands) stops: Stops,
    /// Runs whose server was killed, as it had not stopped in time.
    pub(in crate::commands) killed: usize,
    /// Runs in which its main process had ended in time, and others of it had not.
    pub(in crate::commands) left_behind: usize,
    /// Runs whose server had ended before it was signalled.
    pub(in crate::commands) ended_before: usize,
    /// What the vantages could not see, each once.
    pub(in crate::commands) unseen: Vec<String>,
    /// Why it has fewer runs than were asked for.
    pub(in crate::commands) unmade: Option<String>,
    /// Whether an interrupt cut it short.
    pub(in crate::commands) interrupted: bool,
    /// What the table of its last run says besides the numbers.
    setting: Setting,
}

impl CaseMeasured {
    fn add(&mut self, run: &Finished) {
        let (ended, setting) = (&run.ended, run.setting());
        let summary = &ended.recorded.summary;
        let whole = !run.interrupted && run.broken.is_none();
        self.pool.add(summary, setting.signal, whole);
        let stop = run.server.as_ref().and_then(|s| s.stop.as_ref());
        let killed = stop.and_then(|stop| stop.killed);
        let exit = ended.log.master_exit();
        let gone = exit.filter(|&exit| killed.is_none_or(|killed| exit < killed));
        let of = |event: &str| {
            let moments = setting.course.moments.iter();
            moments
                .filter(|moment| moment.event == event)
                .map(|moment| moment.at)
                .max()
        };
        let turns = Turns {
            signal: setting.signal,
            last_accept: of("last_accept"),
            listener_closed: of("listener_closed"),
            gone,
        };
        self.stops.add(summary, &turns);
        // Whom an interrupt ended had not had its time.
        let overdue = killed.is_some() && !run.interrupted;
        self.killed += usize::from(overdue && gone.is_none());
        self.left_behind += usize::from(overdue && gone.is_some());
        self.ended_before += usize::from(ended_before(&ended.log).is_some());
        let missing = ended.seen.missing.iter().filter_map(Missing::remark);
        for unseen in missing.chain(ended.seen.lacks.iter().cloned()) {
            if !self.unseen.contains(&unseen) {
                self.unseen.push(unseen);
            }
        }
        self.setting = setting;
    }
}

/// A series that was measured, as far as it went.
pub(in crate::commands) struct Measured {
    cases: Vec<CaseMeasured>,
    tally: Tally,
    /// How many runs were to be made.
    planned: u64,
    max_lost: Option<u64>,
    quiet: bool,
    stdout_taken: bool,
    pub(super) failures: Failures,
    /// The exit code that whoever interrupted it asked for.
    pub(super) interrupted: Option<u8>,
    /// What ended it before its time.
    pub(super) stopped: Option<Error>,
}

impl Measured {
    /// Nothing yet.
    pub(super) fn new(planned: u64, cases: &[Case], plan: &Plan, stdout_taken: bool) -> Measured {
        let unmeasured = |case: &Case| CaseMeasured {
            label: case.label.clone(),
            ..CaseMeasured::default()
        };
        Measured {
            cases: cases.iter().map(unmeasured).collect(),
            tally: Tally::default(),
            planned,
            max_lost: plan.max_lost,
            quiet: plan.outputs.quiet,
            stdout_taken,
            failures: Failures::default(),
            interrupted: None,
            stopped: None,
        }
    }

    /// Adds a run of the case at `at`.
    pub(super) fn add(&mut self, at: usize, run: &Finished) {
        self.tally.add(run);
        if let Some(case) = self.cases.get_mut(at) {
            case.add(run);
        }
    }

    /// Notes why no further run was made of the case at `at`.
    pub(super) fn give_up(&mut self, at: usize, why: &Error) {
        if let Some(case) = self.cases.get_mut(at) {
            case.unmade = Some(format!("{why:#}"));
        }
    }

    /// Notes that an interrupt came in the case at `at`, before its last run of `repeat` had ended.
    pub(super) fn interrupt(&mut self, at: usize, repeat: u64) {
        if let Some(case) = self.cases.get_mut(at) {
            case.interrupted = (case.pool.lost.len() as u64) < repeat;
        }
    }

    /// How many runs were to be made.
    pub(super) fn planned(&self) -> u64 {
        self.planned
    }

    /// How many were.
    pub(super) fn runs(&self) -> usize {
        self.tally.runs()
    }

    /// In how many runs the server had to be killed.
    pub(in crate::commands) fn killed(&self) -> usize {
        self.tally.killed()
    }

    /// Every case, in the order given.
    pub(in crate::commands) fn cases(&self) -> &[CaseMeasured] {
        &self.cases
    }

    /// Whether every run had all its triggers pulled, and none of them failed.
    pub(in crate::commands) fn was_triggered_as_planned(&self) -> bool {
        self.tally.were_triggered_as_planned()
    }

    /// Prints what `table` makes of it and what went wrong, and says how to exit.
    pub(in crate::commands) fn report(
        mut self,
        table: impl FnOnce(&Measured) -> String,
    ) -> Result<ExitCode> {
        let nothing = self.runs() == 0;
        if nothing && !self.quiet {
            tell("interrupted before the first connection");
        } else if !self.quiet {
            let text = table(&self);
            print_table(&text, self.stdout_taken, &mut self.failures);
        }
        self.failures.tell();
        let unmade = self.cases.iter().filter_map(|case| case.unmade.as_deref());
        unmade.for_each(tell);
        let all_made = self.cases.iter().all(|case| case.unmade.is_none());
        let unmeasured = local_error::nothing_measured(&self.summary());
        unmeasured.iter().for_each(|why| tell(why));
        let code = if !self.failures.is_empty() || !all_made {
            2
        } else if let Some(code) = self.interrupted {
            code
        } else if unmeasured.is_some() {
            2
        } else {
            self.gate()
        };
        match self.stopped {
            Some(error) => Err(error),
            None => Ok(ExitCode::from(code)),
        }
    }

    /// The table of the main job.
    pub(in crate::commands) fn table(&self) -> String {
        match self.cases() {
            [only] if self.planned == 1 => table::render(&only.pool.summary, &only.setting),
            cases => {
                let pools = cases.iter().filter(|case| case.pool.runs() > 0);
                let pools = pools.map(|case| (case.label.as_deref(), &case.pool));
                table::render_pools(&pools.collect::<Vec<_>>(), &self.pool_setting())
            }
        }
    }

    fn pool_setting(&self) -> PoolSetting {
        let made = self.runs();
        let runs = if made as u64 == self.planned {
            counted(made)
        } else {
            format!("{made} of {} runs", self.planned)
        };
        PoolSetting {
            target: self.tally.targets(),
            runs,
            triggers: self.tally.triggers(),
            notes: self.remarks(),
        }
    }

    /// What the reader of a table of several runs must know besides the numbers, a line each.
    pub(in crate::commands) fn remarks(&self) -> Vec<String> {
        let mut lines = self.tally.remarks();
        lines.extend(self.remarks_of_all());
        lines
    }

    /// The same where rows tell of what became of servers, and of what was not seen.
    pub(in crate::commands) fn remarks_beside_rows(&self) -> Vec<String> {
        let mut lines = self.tally.remarks_beside_rows();
        lines.extend(self.remarks_of_all());
        lines
    }

    fn remarks_of_all(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let summary = self.summary();
        lines.extend(local_error::lines(&summary));
        lines.extend(late(&summary));
        lines.extend(unknown_causes(&summary));
        if self.interrupted.is_some() {
            lines.push("interrupted: this is what was seen until then".to_owned());
        }
        lines
    }

    /// All runs of all cases.
    fn summary(&self) -> Summary {
        let mut all = Summary::default();
        self.cases
            .iter()
            .for_each(|case| all.merge(&case.pool.summary));
        all
    }

    /// 1 where --max-lost is exceeded or nothing certain was measured, said on stderr.
    fn gate(&self) -> u8 {
        let Some(max_lost) = self.max_lost else {
            return 0;
        };
        let unserved: usize = self.cases.iter().map(|case| case.pool.unserved).sum();
        let unserved = (unserved > 0).then(|| self.in_runs(unserved));
        let failed = self.tally.failed_triggers();
        let trigger = || (failed > 0).then(|| format!("a trigger failed{}", self.in_runs(failed)));
        let Some(why) = gate_failure(&self.summary(), max_lost, unserved).or_else(trigger) else {
            return 0;
        };
        tell(&format!("gate failed: {why}"));
        1
    }

    /// In how many runs something was so, where there is more than one.
    fn in_runs(&self, n: usize) -> String {
        if self.planned == 1 {
            String::new()
        } else {
            format!(" in {}", share(n, self.runs()))
        }
    }
}
