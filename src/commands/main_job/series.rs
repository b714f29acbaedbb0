//! A series of runs, mostly of one: each case as often as the plan says, one run after the other and
//! each against a server started afresh. How a run is made is left to [`one`](super::one), what the
//! series amounts to is told by [`report`](super::report).

use std::ffi::OsString;

use anyhow::{Context as _, Error, Result, anyhow};
use indicatif::ProgressBar;

use super::name::RunName;
use super::notes::Notes;
use super::one::{Finished, OneRun};
use super::report::{CaseMeasured, Measured};
use super::vantages::wire_refused;
use crate::commands::ending::Failures;
use crate::commands::interrupt::Interrupt;
use crate::commands::outputs::{self, OpenOutputs, RunFiles, SeriesFile};
use crate::commands::progress;
use crate::observe::packet::PacketTap;
use crate::plan::{Case, Plan, Wish};
use crate::target::process::Process;
use crate::target::trigger::Shells;
use crate::time::Clock;

/// What becomes of a series of which a case cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Unmeasurable {
    /// It ends.
    EndsTheSeries,
    /// It goes on with the next.
    EndsItsCase,
}

/// Why a run was not made.
enum Unmade {
    /// Its case's fault.
    Case(Error),
    /// No other could be made either.
    Series(Error),
}

/// What the runs of a series have in common.
pub(in crate::commands) struct Series<'a> {
    plan: Plan,
    words: &'a [OsString],
    interrupt: Interrupt,
    notes: Notes,
    opened: OpenOutputs,
    shells: Shells,
    /// Whom signals go to, where no command is given.
    master: Option<Process>,
    /// What their names begin with.
    stem: String,
    failures: Failures,
    /// Nobody is left who reads what is written.
    unread: bool,
}

impl<'a> Series<'a> {
    /// Opens what is open throughout.
    pub(in crate::commands) fn open(mut plan: Plan, words: &'a [OsString]) -> Result<Series<'a>> {
        let interrupt = Interrupt::catch().context("cannot catch SIGINT and SIGTERM")?;
        let mut notes = Notes::new(plan.outputs.quiet);
        notes.tell_all(&mut plan.notes);
        if let Wish::Required { .. } = plan.observe.wire {
            PacketTap::may_open()
                .map_err(|error| anyhow!("{}", wire_refused(&error, plan.observe.wire)))?;
        }
        Ok(Series {
            opened: outputs::open(&plan.outputs)?,
            master: plan.master.take(),
            plan,
            words,
            interrupt,
            notes,
            shells: Shells::default(),
            stem: stem(Clock::start()),
            failures: Failures::default(),
            unread: false,
        })
    }

    /// Creates a file of the whole series in --out's folder, if there is one.
    pub(in crate::commands) fn create(&mut self, name: &str) -> Result<Option<SeriesFile>> {
        self.opened.create(name)
    }

    /// Makes all runs, until one ends the series before its time. What was measured until then is
    /// kept; without any the error is all there is. `done` is told of each case when its last run has
    /// ended.
    pub(in crate::commands) fn measure(
        mut self,
        cases: &[Case],
        unmeasurable: Unmeasurable,
        mut done: impl FnMut(&CaseMeasured) -> Result<()>,
    ) -> Result<Measured> {
        let planned = self.plan.repeat.saturating_mul(cases.len() as u64);
        let mut measured = Measured::new(planned, cases, &self.plan, self.opened.stdout_taken);
        let progress = if planned > 1 && !self.plan.outputs.quiet {
            progress::over_runs(planned)
        } else {
            ProgressBar::hidden()
        };
        self.notes.keep_above(progress.clone());
        let mut made = Ok(());
        for (at, case) in cases.iter().enumerate() {
            if self.is_over() {
                break;
            }
            let all = self.make_all(at, case, &mut measured, &progress);
            made = match all {
                Ok(()) => Ok(()),
                Err(Unmade::Case(why)) if unmeasurable == Unmeasurable::EndsItsCase => {
                    measured.give_up(at, &why);
                    Ok(())
                }
                Err(Unmade::Case(error) | Unmade::Series(error)) => Err(error),
            };
            if self.interrupt.came() {
                measured.interrupt(at, self.plan.repeat);
            }
            let case = &measured.cases()[at];
            if case.pool.runs() > 0 || case.unmade.is_some() {
                made = made.and(done(case));
            }
            if made.is_err() {
                break;
            }
        }
        progress.finish_and_clear();
        if measured.runs() == 0 {
            // A folder with empty files would only be in the way.
            self.opened.discard();
            made?;
        } else {
            measured.stopped = made.err();
        }
        measured.failures = self.failures;
        measured.interrupted = self.interrupt.exit_code();
        Ok(measured)
    }

    /// Makes all runs of a case.
    fn make_all(
        &mut self,
        at: usize,
        case: &Case,
        measured: &mut Measured,
        progress: &ProgressBar,
    ) -> Result<(), Unmade> {
        let before = self.plan.repeat.saturating_mul(at as u64);
        for number in 1..=self.plan.repeat {
            let name = RunName::new(case.label.as_ref(), number, self.plan.repeat);
            let (nth, planned) = (before + number, measured.planned());
            let label = case.label.as_ref().map(|label| format!(", {label}"));
            let label = label.unwrap_or_default();
            progress.set_message(format!("run {nth} of {planned}{label}"));
            progress.set_position(nth - 1);
            let mut run = match self.make(case, &name, planned == 1, nth == planned) {
                Ok(run) => run,
                // Nobody waits for this server any more.
                Err(_) if self.interrupt.came() => return Ok(()),
                Err(Unmade::Case(error)) => return Err(Unmade::Case(name.blame(error))),
                Err(Unmade::Series(error)) => return Err(Unmade::Series(name.blame(error))),
            };
            measured.add(at, &run);
            if let Some(error) = run.broken.take() {
                return Err(Unmade::Series(name.blame(error)));
            }
            if self.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes a run and completes its files.
    fn make(
        &mut self,
        case: &Case,
        name: &RunName,
        alone: bool,
        last: bool,
    ) -> Result<Finished, Unmade> {
        let folder = name.folder();
        let server_log = case.command.is_some();
        let files = self.opened.open_run(folder.as_deref(), server_log);
        let mut files = files.map_err(Unmade::Series)?;
        self.notes.begin_run();
        let run = OneRun {
            run_id: name.run_id(&self.stem),
            plan: &self.plan,
            case,
            interrupt: &self.interrupt,
            shells: self.shells.clone(),
            clock: Clock::start(),
            last,
        };
        let show_progress = alone && !self.plan.outputs.quiet;
        let made = run.make(
            &mut files,
            self.master.take(),
            &mut self.opened,
            &mut self.notes,
            show_progress,
        );
        self.interrupt.leave();
        match made {
            Ok(mut run) => {
                self.keep(&mut run, name, files);
                Ok(run)
            }
            Err(error) => {
                self.opened.discard_run(files);
                Err(Unmade::Case(error))
            }
        }
    }

    /// Takes the writers back, and notes which outputs failed.
    fn keep(&mut self, run: &mut Finished, name: &RunName, mut files: RunFiles) {
        let mut failed = run.write_packets(self.words, &mut files.pcap, &mut self.opened.pcap);
        let written = &mut run.ended.recorded.written;
        failed.append(&mut written.failed);
        self.opened.writers = std::mem::take(&mut written.writers);
        self.opened.writers.end_run();
        let nobody = self.opened.writers.is_empty() && self.opened.pcap.is_none();
        self.unread = !failed.is_empty() && nobody;
        let whose = name
            .spoken()
            .map_or_else(String::new, |run| format!("{run}: "));
        for failed in &failed {
            self.failures.add(&whose, &failed.name, &failed.error);
        }
        let stop = run.server.as_ref().and_then(|s| s.stop.as_ref());
        if let Some(error) = stop.and_then(|stop| stop.log_error.as_ref()) {
            self.failures.add(&whose, "server.log", error);
        }
        if let Some((path, file)) = &files.run {
            let report = run.run_json(self.words, self.notes.lines());
            if let Err(error) = serde_json::to_writer_pretty(file, &report) {
                let path = path.display().to_string();
                self.failures.add(&whose, &path, &error.into());
            }
        }
    }

    /// Whether no further run is to be made.
    fn is_over(&self) -> bool {
        self.interrupt.came() || self.unread || !self.failures.is_empty()
    }
}

/// What the names of the runs begin with: it sorts by time and differs between probes at one moment.
fn stem(clock: Clock) -> String {
    let time = jiff::Timestamp::from_nanosecond(clock.started().0.into()).unwrap_or_default();
    format!("{}-{}", time.strftime("%Y%m%dT%H%M%S"), std::process::id())
}
