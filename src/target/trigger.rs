//! What is done to the server, and when: signals to a process or its tree, commands run by sh.
#![expect(
    clippy::disallowed_types,
    reason = "triggers are commands of the user's"
)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::process::Process;
use super::{listener, tree};
use crate::sys::{self, reason};
use crate::time::{Clock, Stamp};

/// How often a wait for commands looks for an interrupt.
const SLICE: Duration = Duration::from_millis(50);
/// How long a command that was killed may take to be gone.
const LAST_WORDS: Duration = Duration::from_secs(1);

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

/// Who of the server's processes gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The main process.
    Master,
    /// It and all its descendants.
    Tree,
    /// The first of its descendants that listens, or where none does the first there is.
    Worker,
}

impl Whom {
    /// Everybody that can be named.
    pub(crate) const ALL: [Whom; 3] = [Whom::Master, Whom::Tree, Whom::Worker];

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Whom::Master => "master",
            Whom::Tree => "tree",
            Whom::Worker => "worker",
        }
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A signal.
    Signal(Signal, Whom),
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

/// The shells that run commands of triggers: children of ours that are not the server's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shells {
    running: Arc<Mutex<Vec<Pid>>>,
}

impl Shells {
    /// Those that run now.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        self.lock().clone()
    }

    fn add(&self, pid: Pid) {
        self.lock().push(pid);
    }

    fn remove(&self, pid: Pid) {
        self.lock().retain(|&p| p != pid);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The triggers of a run that are still to be pulled.
pub(crate) struct Triggers {
    pending: Vec<Trigger>,
    master: Option<Process>,
    clock: Clock,
    shells: Shells,
    running: usize,
    ended_early: usize,
    tell: Sender<CommandResult>,
    results: Receiver<CommandResult>,
}

impl Triggers {
    /// `master` is the server's main process, where it is known.
    pub(crate) fn new(
        pending: Vec<Trigger>,
        master: Option<Process>,
        shells: Shells,
        clock: Clock,
    ) -> Triggers {
        let (tell, results) = channel();
        Triggers {
            pending,
            master,
            clock,
            shells,
            running: 0,
            ended_early: 0,
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
            Action::Signal(signal, whom) => self.send(*signal, *whom),
            Action::Command(command) => (self.run(command.clone())?, Vec::new()),
        };
        Ok(Fired { at, action, sent })
    }

    fn send(&self, signal: Signal, whom: Whom) -> (Stamp, Vec<(Pid, nix::Result<()>)>) {
        // The tree is read before the clock: what counts is the moment before the first kill().
        let below = match (&self.master, whom) {
            (Some(master), Whom::Tree) => tree::hold_descendants(master.pid()),
            (Some(master), Whom::Worker) => worker(master.pid()).into_iter().collect(),
            (Some(_), Whom::Master) | (None, _) => Vec::new(),
        };
        let itself = self.master.iter().filter(|_| whom != Whom::Worker);
        let at = self.clock.now();
        let mut sent: Vec<_> = itself
            .chain(&below)
            .map(|process| (process.pid(), process.signal(signal)))
            .collect();
        if let (Some(master), []) = (&self.master, sent.as_slice()) {
            // A server without workers.
            sent.push((master.pid(), Err(Errno::ECHILD)));
        }
        (at, sent)
    }

    /// Starts a command and leaves it to a thread, so that the schedule is not held up.
    fn run(&mut self, command: String) -> io::Result<Stamp> {
        let (clock, tell, shells) = (self.clock, self.tell.clone(), self.shells.clone());
        let at = clock.now();
        thread::Builder::new()
            .name("probe-trigger".to_owned())
            .spawn(move || {
                let result = run_command(&command, &shells, &clock);
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

    /// Waits for the commands that still run, for at most `patience` or until interrupted; then ends
    /// them.
    pub(crate) fn wait_results(
        &mut self,
        patience: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Vec<CommandResult> {
        let deadline = self.clock.now() + patience;
        let mut results = Vec::new();
        while self.running > 0 && self.clock.now() < deadline && !interrupted() {
            results.extend(self.results_until(self.clock.now() + SLICE));
        }
        self.ended_early = self.running;
        for shell in self.shells.pids() {
            // It may end in this moment, which is what is wanted.
            let _ = killpg(shell, Signal::SIGKILL);
        }
        results.extend(self.results_until(self.clock.now() + LAST_WORDS));
        results
    }

    fn results_until(&mut self, deadline: Stamp) -> Vec<CommandResult> {
        let mut results = Vec::new();
        while self.running > 0 {
            let left = u64::try_from(deadline.since(self.clock.now())).unwrap_or(0);
            let Ok(result) = self.results.recv_timeout(Duration::from_nanos(left)) else {
                break;
            };
            self.running -= 1;
            results.push(result);
        }
        results
    }

    /// Commands that were ended because they would not.
    pub(crate) fn ended_early(&self) -> usize {
        self.ended_early
    }
}

/// Takes hold of one worker. Where none listens, as where the master accepts and hands on, it is the
/// first that was started.
fn worker(master: Pid) -> Option<Process> {
    let mut held = tree::hold_descendants(master);
    held.sort_by_key(Process::pid);
    let listens = |process: &Process| !listener::listeners(&[process.pid()]).is_empty();
    let at = held.iter().position(listens).unwrap_or(0);
    (at < held.len()).then(|| held.swap_remove(at))
}

fn run_command(command: &str, shells: &Shells, clock: &Clock) -> CommandResult {
    let shell = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that what it left running can be ended.
        .process_group(0)
        .spawn();
    let output = shell.and_then(|shell| {
        let pid = sys::process::pid(shell.id());
        shells.add(pid);
        let output = shell.wait_with_output();
        shells.remove(pid);
        output
    });
    let at = clock.now();
    let (status, success, output) = match output {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            (output.status.to_string(), output.status.success(), text)
        }
        Err(error) => (
            format!("sh could not be run: {}", reason(&error)),
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
