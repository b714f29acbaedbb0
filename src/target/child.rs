//! `-- CMD`: starts the server in a process group of its own, waits until it listens and has come to
//! rest, keeps its output, stops it, and leaves no process behind however the probe ends.
#![expect(
    clippy::disallowed_types,
    reason = "this room starts the server under test"
)]

mod output;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use rustix::event::{PollFd, PollFlags, poll};

use self::output::Output;
use super::listener;
use super::process::Process;
use super::tree;
use super::trigger::Shells;
use crate::sys::{self, reason, timespec};
use crate::time::{Clock, Stamp};

/// How long is spent on killing what will not end.
const KILLING: Duration = Duration::from_secs(5);
/// How often the tree is looked at while something is awaited that no event announces.
const LOOK: Duration = Duration::from_millis(10);
/// A tree that used no more than so much processor time in each of two such periods, and has the
/// same processes, is at rest: Puma boots its workers for long after it listens.
const REST: (Duration, u64) = (Duration::from_millis(100), 2_000_000);
/// A server that never rests is probed all the same, after so long.
const RESTLESS: Duration = Duration::from_secs(10);

/// The server that the probe started. Dropping it kills what is left of it.
pub(crate) struct Server {
    process: Process,
    clock: Clock,
    output: Output,
    shells: Shells,
    status: Option<WaitStatus>,
    /// Nothing of it is left.
    gone: bool,
    /// What is left cannot be ended.
    given_up: bool,
}

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Invocation {
    /// The program and its arguments.
    pub(crate) words: Vec<OsString>,
    /// The folder that it runs in, where it is not the probe's.
    pub(crate) folder: Option<PathBuf>,
    /// What its environment has besides the probe's, or instead. The program is looked for on the PATH
    /// that is given here, if one is.
    pub(crate) env: Vec<(OsString, OsString)>,
}

/// Why the server could not be probed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// It could not be started at all.
    #[error("cannot start `{command}`: {reason}; give a program that exists and may be run")]
    Spawn { command: String, reason: String },
    /// It ended before it listened.
    #[error("the command ended ({status}) before it listened; {advice}{tail}")]
    Ended {
        status: String,
        advice: &'static str,
        tail: String,
    },
    /// It never listened.
    #[error(
        "the command did not listen on {place} within {waited:?}; \
         have it listen there, say where it does (--target, or `port` in a scenario.toml), or give more \
         time with --start-timeout{tail}"
    )]
    Silent {
        place: String,
        waited: Duration,
        tail: String,
    },
    /// It listens on several ports.
    #[error("the command listens on {0}; say which with --target")]
    Several(String),
    /// The port is taken before the command is even started.
    #[error(
        "somebody already listens where {0} leads, and would be probed instead; \
         stop that, or give another port to both"
    )]
    Taken(SocketAddr),
    /// The user interrupted the wait.
    #[error("interrupted while the command was starting")]
    Interrupted,
}

/// How the server was stopped.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// The signal that asked it to stop, where nothing had been signalled before.
    pub(crate) asked: Option<Stamp>,
    /// When its group was killed because it had not stopped.
    pub(crate) killed: Option<Stamp>,
    /// How the command itself ended.
    pub(crate) status: Option<String>,
    /// Processes that could not be ended.
    pub(crate) left: Vec<Pid>,
    /// What its log could not be written for.
    pub(crate) log_error: Option<io::Error>,
}

impl Server {
    /// Refuses a target on which somebody else listens already.
    pub(crate) fn check_free(target: SocketAddr) -> Result<(), StartError> {
        if listener::is_listened_to(getpid(), target) {
            return Err(StartError::Taken(target));
        }
        Ok(())
    }

    /// Starts `command`; its output goes to `log` line by line. Everything below us but `shells` is
    /// taken for the server's.
    pub(crate) fn start(
        command: &Invocation,
        log: Option<File>,
        shells: Shells,
        clock: Clock,
    ) -> Result<Server, StartError> {
        let shown = command
            .words
            .join(" ".as_ref())
            .to_string_lossy()
            .into_owned();
        let fail = |error: io::Error| StartError::Spawn {
            command: shown.clone(),
            reason: reason(&error),
        };
        let (program, arguments) = command
            .words
            .split_first()
            .ok_or_else(|| fail(io::Error::from(io::ErrorKind::NotFound)))?;
        sys::process::adopt_orphans().map_err(|e| fail(e.into()))?;
        let (output, writer) = io::pipe().map_err(fail)?;
        let mut spawn = Command::new(program);
        spawn
            .args(arguments)
            .envs(command.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(fail)?)
            .stderr(writer);
        if let Some(folder) = &command.folder {
            spawn.current_dir(folder);
        }
        sys::process::tie_to_us(&mut spawn);
        let pid = sys::process::pid(spawn.spawn().map_err(fail)?.id());
        // The pipe's writing ends in `spawn` would keep the reader waiting.
        drop(spawn);
        let process = Process::open(pid).map_err(|error| {
            // Without a hold on it nothing could be done with it: leave nothing behind.
            let _ = killpg(pid, Signal::SIGKILL);
            fail(error)
        })?;
        let output = Output::read(output, log).map_err(fail)?;
        Ok(Server {
            process,
            clock,
            output,
            shells,
            status: None,
            gone: false,
            given_up: false,
        })
    }

    /// The command's process id, which is also its group's.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Waits until the server listens where a client of `target` would arrive, or without a target
    /// on its only port, and has come to rest. Returns where to connect to, and whether it rests.
    pub(crate) fn wait_until_ready(
        &mut self,
        target: Option<SocketAddr>,
        patience: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(SocketAddr, bool), StartError> {
        let deadline = self.clock.now() + patience;
        while self.listening(target).is_empty() {
            if interrupted() {
                return Err(StartError::Interrupted);
            }
            if self.has_ended(LOOK) {
                return Err(self.ended());
            }
            if self.clock.now() > deadline {
                let place = target.map_or_else(|| "any port".to_owned(), |t| t.to_string());
                let (waited, tail) = (patience, self.output.tail());
                return Err(StartError::Silent {
                    place,
                    waited,
                    tail,
                });
            }
        }
        let rests = self.wait_until_at_rest(interrupted)?;
        match self.listening(target).as_slice() {
            [one] => Ok((*one, rests)),
            [] => Err(self.ended()),
            several => {
                let list: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(StartError::Several(list.join(" and ")))
            }
        }
    }

    /// Where it listens, of what was asked for.
    fn listening(&self, target: Option<SocketAddr>) -> Vec<SocketAddr> {
        match target {
            Some(target) if listener::is_listened_to(self.pid(), target) => vec![target],
            Some(_) => Vec::new(),
            None => {
                let mut found = listener::listeners(&tree::tree(self.pid()));
                for listener in &mut found {
                    *listener = listener::reachable(*listener);
                }
                // One port on 0.0.0.0 and [::] is one listener to a client.
                found.sort_by_key(|address| (address.port(), address.is_ipv6()));
                found.dedup_by_key(|address| address.port());
                found
            }
        }
    }

    fn wait_until_at_rest(&mut self, interrupted: &dyn Fn() -> bool) -> Result<bool, StartError> {
        let (period, allowance) = REST;
        let deadline = self.clock.now() + RESTLESS;
        let mut before = tree::run_times(self.pid());
        let mut calm = 0;
        while calm < 2 {
            if interrupted() {
                return Err(StartError::Interrupted);
            }
            if self.has_ended(period) {
                return Err(self.ended());
            }
            let now = tree::run_times(self.pid());
            let same =
                now.len() == before.len() && now.iter().zip(&before).all(|(a, b)| a.0 == b.0);
            let spent = |times: &[(Pid, u64)]| times.iter().map(|t| t.1).sum::<u64>();
            let rests = same && spent(&now).saturating_sub(spent(&before)) <= allowance;
            calm = if rests { calm + 1 } else { 0 };
            before = now;
            if self.clock.now() > deadline {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the command itself has ended, waiting for that no longer than `patience`.
    fn has_ended(&mut self, patience: Duration) -> bool {
        if self.status.is_none() {
            wait_for_exit(&self.process, patience);
            if let Ok(status) = waitpid(self.pid(), Some(WaitPidFlag::WNOHANG))
                && status != WaitStatus::StillAlive
            {
                self.status = Some(status);
            }
        }
        self.status.is_some()
    }

    fn ended(&mut self) -> StartError {
        let status = self.status;
        // A daemon it left behind would hold the output open.
        self.kill_all();
        if self.gone {
            // A log that broke off says less than these last lines.
            let _ = self.output.finish();
        }
        self.status = status;
        let advice = if matches!(self.status, Some(WaitStatus::Exited(_, 0))) {
            "if it became a daemon, have it stay in the foreground"
        } else {
            "see its last lines for the reason"
        };
        StartError::Ended {
            status: self.status.map_or_else(String::new, describe),
            advice,
            tail: self.output.tail(),
        }
    }

    /// Stops the server: with `ask` TERM first; then waits `patience` for all its processes to end,
    /// kills what has not, and reaps everything.
    pub(crate) fn stop(
        &mut self,
        ask: bool,
        patience: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Stop {
        let mut stop = Stop::default();
        if ask && !self.has_ended(Duration::ZERO) {
            stop.asked = Some(self.clock.now());
            // It may have ended in this moment, which is what was wanted.
            let _ = self.process.signal(Signal::SIGTERM);
        }
        let deadline = self.clock.now() + patience;
        while !self.is_gone() && self.clock.now() < deadline && !interrupted() {
            self.wait_a_moment();
        }
        if !self.is_gone() {
            stop.killed = Some(self.clock.now());
            self.kill_all();
        }
        if self.gone {
            stop.log_error = self.output.finish().err();
        } else {
            stop.left = self.descendants();
        }
        stop.status = self.status.map(describe);
        stop
    }

    /// Whether nothing of its group or of what we adopted from it is left; reaps what has ended.
    fn is_gone(&mut self) -> bool {
        if self.gone {
            return true;
        }
        self.has_ended(Duration::ZERO);
        for pid in self.descendants() {
            if pid != self.pid() {
                // Still running, or no child of ours: both are seen below.
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
        }
        self.gone = self.status.is_some() && self.descendants().is_empty() && self.group_is_gone();
        self.gone
    }

    fn group_is_gone(&self) -> bool {
        killpg(self.pid(), None) == Err(Errno::ESRCH)
    }

    /// All processes below us but the commands of triggers.
    fn descendants(&self) -> Vec<Pid> {
        let shells = self.shells.pids();
        tree::children(getpid())
            .into_iter()
            .filter(|pid| !shells.contains(pid))
            .flat_map(tree::tree)
            .collect()
    }

    /// Kills its group and everything below us until nothing is left, or nothing can be done about
    /// what is: it runs as somebody else, or hangs in the kernel.
    fn kill_all(&mut self) {
        let deadline = self.clock.now() + KILLING;
        while !self.is_gone() && self.clock.now() < deadline {
            if !self.group_is_gone() {
                let _ = killpg(self.pid(), Signal::SIGKILL);
            }
            for pid in self.descendants() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            self.wait_a_moment();
        }
        self.given_up = !self.gone;
    }

    /// Waits for the command to end; when it has, orphans are left that no descriptor announces.
    fn wait_a_moment(&mut self) {
        if self.status.is_none() {
            self.has_ended(LOOK);
        } else {
            let _ = poll(&mut [], Some(&timespec(LOOK)));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.given_up && !self.is_gone() {
            self.kill_all();
        }
    }
}

/// Kills the group of `pid` at once, for a probe that must not wait any more.
pub(crate) fn kill_group(pid: Pid) {
    let _ = killpg(pid, Signal::SIGKILL);
    for pid in tree::tree(getpid()).into_iter().skip(1) {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

fn wait_for_exit(process: &Process, patience: Duration) {
    let timeout = timespec(patience);
    match process.exit_fd() {
        Some(fd) => {
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&timeout));
        }
        None => {
            let _ = poll(&mut [], Some(&timeout));
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit status {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("killed by {signal}"),
        other => format!("{other:?}"),
    }
}
