//! What is done to the server, and when: signals to a process or its tree, commands run by sh.
#![expect(
    clippy::disallowed_types,
    reason = "triggers are commands of the user's"
)]

use std::io;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::process::Process;
use super::tree;
use crate::time::{Clock, Stamp};

/// When a trigger is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// So long after the first SYN.
    After(Duration),
    /// Once so many steady connections were started.
    Started(u64),
}

impl When {
    fn is_due(self, started: u64, first: Option<Stamp>, now: Stamp) -> bool {
        match self {
            When::Started(n) => started >= n,
            When::After(span) => first.is_some_and(|first| first + span <= now),
        }
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A signal.
    Signal(Signal),
    /// A command, run by sh.
    Command(String),
}

/// One thing to do to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// What.
    pub(crate) action: Action,
    /// When.
    pub(crate) when: When,
}

/// A trigger that was pulled.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    /// The instant before the first kill() or the start of the command.
    pub(crate) at: Stamp,
    /// What was done.
    pub(crate) action: Action,
    /// Who got the signal, or why not.
    pub(crate) sent: Vec<(Pid, nix::Result<()>)>,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub(crate) struct CommandResult {
    /// When.
    pub(crate) at: Stamp,
    /// Which.
    pub(crate) command: String,
    /// How, in words.
    pub(crate) status: String,
    /// Whether it ended with exit status 0.
    pub(crate) success: bool,
    /// What it printed, both streams.
    pub(crate) output: String,
}

/// The triggers of a run that are still to be pulled.
pub(crate) struct Triggers {
    pending: Vec<Trigger>,
    master: Option<Process>,
    whole_tree: bool,
    clock: Clock,
    running: usize,
    tell: Sender<CommandResult>,
    results: Receiver<CommandResult>,
}

impl Triggers {
    /// `master` gets the signals, or with `whole_tree` it and all its descendants.
    pub(crate) fn new(
        pending: Vec<Trigger>,
        master: Option<Process>,
        whole_tree: bool,
        clock: Clock,
    ) -> Triggers {
        let (tell, results) = channel();
        Triggers {
            pending,
            master,
            whole_tree,
            clock,
            running: 0,
            tell,
            results,
        }
    }

    /// Whether any is left to pull.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The server's main process.
    pub(crate) fn master(&self) -> Option<&Process> {
        self.master.as_ref()
    }

    /// No more than so many steady connections may be started before the next trigger.
    pub(crate) fn steady_limit(&self) -> u64 {
        self.pending
            .iter()
            .filter_map(|trigger| match trigger.when {
                When::Started(n) => Some(n),
                When::After(_) => None,
            })
            .min()
            .unwrap_or(u64::MAX)
    }

    /// When the next one falls due by the clock.
    pub(crate) fn next_due(&self, first: Option<Stamp>) -> Option<Stamp> {
        let first = first?;
        self.pending
            .iter()
            .filter_map(|trigger| match trigger.when {
                When::After(span) => Some(first + span),
                When::Started(_) => None,
            })
            .min()
    }

    /// Whether one is due.
    pub(crate) fn is_due(&self, started: u64, first: Option<Stamp>) -> bool {
        let now = self.clock.now();
        self.pending
            .iter()
            .any(|trigger| trigger.when.is_due(started, first, now))
    }

    /// Pulls what is due, `started` steady connections having been started, the first connection at
    /// `first`.
    pub(crate) fn fire_due(
        &mut self,
        started: u64,
        first: Option<Stamp>,
    ) -> io::Result<Vec<Fired>> {
        let now = self.clock.now();
        let mut fired = Vec::new();
        let mut i = 0;
        while i < self.pending.len() {
            if self.pending[i].when.is_due(started, first, now) {
                let trigger = self.pending.remove(i);
                fired.push(self.fire(trigger.action)?);
            } else {
                i += 1;
            }
        }
        Ok(fired)
    }

    fn fire(&mut self, action: Action) -> io::Result<Fired> {
        let (at, sent) = match &action {
            Action::Signal(signal) => self.send(*signal),
            Action::Command(command) => (self.run(command.clone())?, Vec::new()),
        };
        Ok(Fired { at, action, sent })
    }

    fn send(&self, signal: Signal) -> (Stamp, Vec<(Pid, nix::Result<()>)>) {
        // The tree is read before the clock: what counts is the moment before the first kill().
        let rest: Vec<Process> = match &self.master {
            Some(master) if self.whole_tree => tree::tree(master.pid())
                .into_iter()
                .skip(1)
                .filter_map(|pid| Process::open(pid).ok())
                .collect(),
            Some(_) | None => Vec::new(),
        };
        let at = self.clock.now();
        let sent = self
            .master
            .iter()
            .chain(&rest)
            .map(|process| (process.pid(), process.signal(signal)))
            .collect();
        (at, sent)
    }

    /// Starts a command and leaves it to a thread, so that the schedule is not held up.
    fn run(&mut self, command: String) -> io::Result<Stamp> {
        let (clock, tell) = (self.clock, self.tell.clone());
        let at = clock.now();
        thread::Builder::new()
            .name("probe-trigger".to_owned())
            .spawn(move || {
                let result = run_command(&command, &clock);
                // The run may be over: then nobody asks any more.
                let _ = tell.send(result);
            })?;
        self.running += 1;
        Ok(at)
    }

    /// Commands that ended since the last call.
    pub(crate) fn take_results(&mut self) -> Vec<CommandResult> {
        let results: Vec<_> = self.results.try_iter().collect();
        self.running -= results.len();
        results
    }

    /// Waits for the commands that still run, each for at most `patience`.
    pub(crate) fn wait_results(&mut self, patience: Duration) -> Vec<CommandResult> {
        let mut results = Vec::new();
        while self.running > 0 {
            let Ok(result) = self.results.recv_timeout(patience) else {
                break;
            };
            self.running -= 1;
            results.push(result);
        }
        results
    }

    /// Commands that were started and have not ended.
    pub(crate) fn running(&self) -> usize {
        self.running
    }
}

fn run_command(command: &str, clock: &Clock) -> CommandResult {
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .output();
    let at = clock.now();
    let (status, success, output) = match output {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            (output.status.to_string(), output.status.success(), text)
        }
        Err(error) => (
            format!("sh could not be started: {error}"),
            false,
            String::new(),
        ),
    };
    CommandResult {
        at,
        command: command.to_owned(),
        status,
        success,
        output,
    }
}
