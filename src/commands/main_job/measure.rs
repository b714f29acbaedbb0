//! The run itself: one loop over what is due, what came, and what the server's processes did.

use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::server::StartedServer;
use super::vantages::{Seen, Vantages};
use crate::commands::interrupt::Interrupt;
use crate::commands::progress;
use crate::commands::recorder::{Recorded, Recorder};
use crate::connect::{Engine, Lingering};
use crate::event::{Event, Vantage};
use crate::target::trigger::{Action, CommandResult, Fired, Triggers, Whom};
use crate::target::watch::{Exit, ExitWatch};
use crate::time::{Clock, Stamp};

/// How long the engine may wait before it looks for interrupts, exits and the progress bar.
const SLICE: Duration = Duration::from_millis(50);
/// How often the recorder is told that nothing ended.
const TELL_AGAIN: Duration = Duration::from_millis(100);
/// How often the server's tree is looked at for new processes.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A progress bar is shown once a run has lasted so long.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// Longer than this a command of --trigger is not waited for once all connections have ended.
const TRIGGER_PATIENCE: Duration = Duration::from_secs(10);
/// A process that has ended is reported as soon as the thread that watches it runs.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// What a run is carried out with, all of it open.
pub(super) struct Parts {
    pub(super) clock: Clock,
    pub(super) triggers: Triggers,
    pub(super) exits: ExitWatch,
    pub(super) recorder: Recorder,
    pub(super) vantages: Vantages,
    /// Connections in all.
    pub(super) count: u64,
}

/// A run under way.
pub(super) struct Run {
    parts: Parts,
    ended: u64,
    /// Up to when the recorder knows of all that ended.
    told: Stamp,
    log: Log,
    /// When the server's tree was last looked at.
    looked: Stamp,
    progress: Option<ProgressBar>,
}

/// What was done to the server and seen of its processes.
#[derive(Default)]
pub(super) struct Log {
    /// Triggers pulled.
    pub(super) fired: Vec<Fired>,
    /// Commands of triggers that ended.
    pub(super) commands: Vec<CommandResult>,
    /// Commands of triggers that would not end, and were ended.
    pub(super) ended_early: usize,
    /// Processes that exited.
    pub(super) exits: Vec<(Pid, Stamp)>,
    /// The server's main process.
    pub(super) master: Option<Pid>,
    /// Triggers that were never pulled.
    pub(super) unfired: bool,
}

impl Log {
    /// The instant before the first trigger.
    pub(super) fn signal(&self) -> Option<Stamp> {
        self.fired.iter().map(|fired| fired.at).min()
    }

    /// When the server's main process was seen to have exited.
    pub(super) fn master_exit(&self) -> Option<Stamp> {
        let of_master = |(pid, _): &&(Pid, Stamp)| Some(*pid) == self.master;
        self.exits.iter().find(of_master).map(|&(_, at)| at)
    }

    /// Whether a signal reached nobody, or a command failed or had to be ended.
    pub(super) fn has_failed_trigger(&self) -> bool {
        let unsent = |fired: &Fired| fired.sent.iter().any(|(_, sent)| sent.is_err());
        self.fired.iter().any(unsent)
            || self.commands.iter().any(|command| !command.success)
            || self.unfired
    }

    /// Whether the server itself, and not a worker of it, got a signal that it stops on.
    fn was_asked_to_stop(&self, stops_on: &[Signal]) -> bool {
        self.fired.iter().any(|fired| {
            let stops = match &fired.action {
                Action::Signal(signal, whom) => *whom != Whom::Worker && stops_on.contains(signal),
                Action::Command(_) => false,
            };
            stops && fired.sent.first().is_some_and(|(_, sent)| sent.is_ok())
        })
    }
}

/// A run that has ended.
pub(super) struct Ended {
    /// What was recorded.
    pub(super) recorded: Recorded,
    /// What the vantages saw, and which were missing.
    pub(super) seen: Seen,
    /// What was done to the server.
    pub(super) log: Log,
    /// From the first connection to the end of the last.
    pub(super) took_ns: i64,
}

impl Run {
    /// A run of which nothing has been done.
    pub(super) fn new(parts: Parts) -> Run {
        let log = Log {
            master: parts.triggers.master().map(|master| master.pid()),
            ..Log::default()
        };
        Run {
            looked: parts.clock.now(),
            told: parts.clock.now(),
            parts,
            ended: 0,
            log,
            progress: None,
        }
    }

    /// Makes all connections and pulls all triggers, until the last has ended or somebody
    /// interrupts.
    pub(super) fn measure(
        &mut self,
        engine: &mut dyn Engine,
        interrupt: &Interrupt,
        show_progress: bool,
    ) -> Result<()> {
        let began = self.parts.clock.now();
        while !engine.is_done() || self.parts.triggers.is_pending() {
            if interrupt.came() || self.parts.recorder.has_failed() {
                break;
            }
            self.pull_triggers(engine)?;
            let first = engine.first_opened();
            let slice = self.parts.clock.now() + SLICE;
            let wake = self
                .parts
                .triggers
                .next_due(first)
                .map_or(slice, |due| due.min(slice));
            engine
                .turn(self.parts.triggers.steady_limit(), Some(wake))
                .context("waiting for connections failed")?;
            // An exit that came before the end of a connection is known when that is told of.
            self.note_server();
            let to = engine.complete_to();
            self.hand_over(engine, to);
            if show_progress && self.parts.clock.now() > began + PROGRESS_AFTER {
                self.show_progress(engine);
            }
        }
        if let Some(progress) = &self.progress {
            progress.finish_and_clear();
        }
        Ok(())
    }

    fn pull_triggers(&mut self, engine: &mut dyn Engine) -> Result<()> {
        if !engine.is_settled() || !self.parts.triggers.is_pending() {
            return Ok(());
        }
        let started = engine.steady_started();
        let first = engine.first_opened();
        if self.parts.triggers.is_due(started, first) {
            self.watch_server();
        }
        let fired = self
            .parts
            .triggers
            .fire_due(started, first)
            .context("cannot start a thread")?;
        for fired in fired {
            engine.trigger(fired.at);
            self.parts.recorder.signal(fired.at);
            for event in control_events(&fired) {
                self.parts.recorder.event(event);
            }
            self.log.fired.push(fired);
        }
        Ok(())
    }

    /// Hands attempts that have ended to the recorder: all that had by `to`.
    fn hand_over(&mut self, engine: &mut dyn Engine, to: Stamp) {
        let ended = engine.take_ended();
        if !ended.is_empty() || to > self.told + TELL_AGAIN {
            self.ended += ended.len() as u64;
            self.told = to;
            self.parts.recorder.ended(ended, to);
        }
    }

    /// Watches those of the server's processes that are not watched yet.
    fn watch_server(&mut self) {
        self.looked = self.parts.clock.now();
        let gone = self.log.master_exit().is_some();
        if let Some(master) = self.log.master.filter(|_| !gone) {
            // Without a thread to spare their exits go unrecorded; the connections do not.
            let _ = self.parts.exits.watch_tree(master);
        }
    }

    /// Notes exits of the server's processes and commands that ended.
    fn note_server(&mut self) {
        if self.parts.clock.now() > self.looked + LOOK_AGAIN {
            self.watch_server();
        }
        let exits = self.parts.exits.take();
        self.note_exits(exits);
        let results = self.parts.triggers.take_results();
        self.note_commands(results);
    }

    fn note_exits(&mut self, exits: Vec<Exit>) {
        for exit in exits {
            if Some(exit.pid) == self.log.master {
                self.parts.recorder.target_dead(exit.at);
            }
            let pid = Some(exit.pid.as_raw());
            self.parts
                .recorder
                .event(control(exit.at, "exit", pid, None));
            self.log.exits.push((exit.pid, exit.at));
        }
    }

    fn note_commands(&mut self, results: Vec<CommandResult>) {
        for result in results {
            let how = format!("{}: {}", result.command, result.status);
            let event = control(result.at, "trigger_end", None, Some(how));
            self.parts.recorder.event(event);
            self.log.commands.push(result);
        }
    }

    fn show_progress(&mut self, engine: &dyn Engine) {
        let bar = self
            .progress
            .get_or_insert_with(|| progress::over_connections(self.parts.count));
        bar.set_position(self.ended);
        let open = engine.started() - self.ended;
        bar.set_message(format!("{open} open"));
    }

    /// Stops what runs and waits until everything is recorded.
    pub(super) fn end(
        mut self,
        mut engine: Box<dyn Engine>,
        server: Option<&mut StartedServer>,
        interrupt: &Interrupt,
    ) -> Ended {
        // Whatever ended the measuring, what is still open now is not waited for.
        self.log.unfired = self.parts.triggers.is_pending();
        engine.interrupt();
        self.hand_over(engine.as_mut(), Stamp(i64::MAX));
        let took_ns = engine
            .first_opened()
            .map_or(0, |first| self.parts.clock.now().since(first));
        // Without a thread to spare, whatever is still to come of them is not answered.
        let lingering = engine.linger().ok();
        let came = || interrupt.came();
        let results = self.parts.triggers.wait_results(TRIGGER_PATIENCE, &came);
        self.note_commands(results);
        self.log.ended_early = self.parts.triggers.ended_early();
        // Workers that were forked since the last look.
        self.watch_server();
        if let Some(started) = server {
            self.stop_server(started, interrupt);
            let exits = self.parts.exits.take_last(EXIT_PATIENCE);
            self.note_exits(exits);
        }
        self.note_server();
        let recorded = self.parts.recorder.finish();
        let mut seen = self.parts.vantages.stop();
        seen.wire = seen.wire.or(lingering.and_then(Lingering::stop));
        Ended {
            recorded,
            seen,
            log: self.log,
            took_ns,
        }
    }

    fn stop_server(&mut self, started: &mut StartedServer, interrupt: &Interrupt) {
        let ask = !self.log.was_asked_to_stop(&started.stops_on) || interrupt.came();
        let came = interrupt.came();
        // An interrupt that came before asked for this stop; only another one cuts it short, at
        // once and from its own thread.
        let cut_short = || !came && interrupt.came();
        let stop = started.server.stop(ask, started.stop_timeout, &cut_short);
        let pid = Some(started.server.pid().as_raw());
        let steps = [
            (stop.asked, "signal", "SIGTERM to end it"),
            (stop.killed, "kill", "its group"),
        ];
        for (at, event, detail) in steps {
            if let Some(at) = at {
                let event = control(at, event, pid, Some(detail.to_owned()));
                self.parts.recorder.event(event);
            }
        }
        started.stop = Some(stop);
    }
}

/// Something that the probe did, or saw happen to a process.
fn control(at: Stamp, event: &'static str, pid: Option<i32>, detail: Option<String>) -> Event {
    Event {
        at,
        vantage: Vantage::Control,
        event,
        pid,
        detail,
    }
}

fn control_events(fired: &Fired) -> Vec<Event> {
    let at = fired.at;
    match &fired.action {
        Action::Command(command) => vec![control(at, "trigger", None, Some(command.clone()))],
        Action::Signal(signal, _) => fired
            .sent
            .iter()
            .map(|(pid, sent)| {
                let detail = match sent {
                    Ok(()) => signal.to_string(),
                    Err(error) => format!("{signal}: {error:?}"),
                };
                control(at, "signal", Some(pid.as_raw()), Some(detail))
            })
            .collect(),
    }
}
