//! `-- CMD`: starts the server in a process group of its own, waits until it listens and has come to
//! rest, keeps its output, stops it, and leaves no process behind however the probe ends.
#![expect(
    clippy::disallowed_types,
    reason = "this room starts the server under test"
)]

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::listener;
use super::process::Process;
use super::tree;
use crate::sys::{self, reason};
use crate::time::{Clock, Stamp};

/// Lines of output kept for an error message.
const TAIL: usize = 20;
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
    tail: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<io::Result<()>>>,
    status: Option<WaitStatus>,
    gone: bool,
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
         give the right --target, or more time with --start-timeout{tail}"
    )]
    Silent {
        place: String,
        waited: Duration,
        tail: String,
    },
    /// It listens on several ports.
    #[error("the command listens on {0}; say which with --target")]
    Several(String),
    /// The user interrupted the wait.
    #[error("interrupted while the command was starting")]
    Interrupted,
}

/// How the server was stopped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// The signal that asked it to stop, where nothing had been signalled before.
    pub(crate) asked: Option<Stamp>,
    /// When its group was killed because it had not stopped.
    pub(crate) killed: Option<Stamp>,
    /// How the command itself ended.
    pub(crate) status: Option<String>,
}

impl Server {
    /// Starts `command`; its output goes to `log` line by line.
    pub(crate) fn start(
        command: &[OsString],
        log: Option<File>,
        clock: Clock,
    ) -> Result<Server, StartError> {
        let shown = command.join(" ".as_ref()).to_string_lossy().into_owned();
        let fail = |error: io::Error| StartError::Spawn {
            command: shown.clone(),
            reason: reason(&error),
        };
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| fail(io::Error::from(io::ErrorKind::NotFound)))?;
        sys::process::adopt_orphans().map_err(|e| fail(e.into()))?;
        let (output, writer) = io::pipe().map_err(fail)?;
        let mut spawn = Command::new(program);
        spawn
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(fail)?)
            .stderr(writer);
        sys::process::tie_to_us(&mut spawn);
        let pid = sys::process::pid(spawn.spawn().map_err(fail)?.id());
        // The pipe's writing ends in `spawn` would keep the reader waiting.
        drop(spawn);
        let process = Process::open(pid).map_err(|error| {
            // Without a hold on it nothing could be done with it: leave nothing behind.
            let _ = killpg(pid, Signal::SIGKILL);
            fail(error)
        })?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let reader = read_output(output, log, Arc::clone(&tail)).map_err(fail)?;
        Ok(Server {
            process,
            clock,
            tail,
            reader: Some(reader),
            status: None,
            gone: false,
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
                let (waited, tail) = (patience, self.tail());
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
        self.join_reader();
        self.status = status;
        let advice = if matches!(self.status, Some(WaitStatus::Exited(_, 0))) {
            "if it became a daemon, have it stay in the foreground"
        } else {
            "see its last lines for the reason"
        };
        StartError::Ended {
            status: self.status.map_or_else(String::new, describe),
            advice,
            tail: self.tail(),
        }
    }

    fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.is_empty() {
            return "; it printed nothing".to_owned();
        }
        let lines: Vec<String> = tail.iter().map(|line| format!("    {line}")).collect();
        format!("; its last lines were:\n{}", lines.join("\n"))
    }

    /// Stops the server: with `ask` TERM first; then waits `patience` for its whole group to end,
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
            self.has_ended(LOOK);
            if self.status.is_some() {
                // What is left are orphans without a common descriptor to wait on.
                wait_for_orphans(LOOK);
            }
        }
        if !self.is_gone() {
            stop.killed = Some(self.clock.now());
            self.kill_all();
        }
        self.join_reader();
        stop.status = self.status.map(describe);
        stop
    }

    /// Whether nothing of its group or of what we adopted from it is left; reaps what has ended.
    fn is_gone(&mut self) -> bool {
        if self.gone {
            return true;
        }
        self.has_ended(Duration::ZERO);
        for pid in tree::children(getpid()) {
            if pid != self.pid() {
                // Still running, or somebody else's to reap: both are seen below.
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
        }
        let group_gone = killpg(self.pid(), None) == Err(Errno::ESRCH);
        self.gone = self.status.is_some() && group_gone && tree::children(getpid()).is_empty();
        self.gone
    }

    /// Kills its group and everything below us until nothing is left.
    fn kill_all(&mut self) {
        while !self.is_gone() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            for pid in tree::tree(getpid()).into_iter().skip(1) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            self.has_ended(LOOK);
            wait_for_orphans(LOOK);
        }
    }

    fn join_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            // A log that could not be written was reported when it was opened; the run goes on.
            let _ = reader.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_gone() {
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

/// Waits until some child of ours has ended, or for `patience`; reaps nothing.
fn wait_for_orphans(patience: Duration) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    if waitid(Id::All, peek) == Ok(WaitStatus::StillAlive) {
        let _ = poll(&mut [], Some(&timespec(patience)));
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

fn read_output(
    output: PipeReader,
    mut log: Option<File>,
    tail: Arc<Mutex<VecDeque<String>>>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    thread::Builder::new()
        .name("probe-output".to_owned())
        .spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            let mut logged = Ok(());
            while reader.read_until(b'\n', &mut line)? > 0 {
                if let (Some(log), Ok(())) = (&mut log, &logged) {
                    // Whatever becomes of the log, the pipe is emptied: a full one stops the server.
                    logged = log.write_all(&line);
                }
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(text);
                line.clear();
            }
            logged
        })
}

fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit status {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("killed by {signal}"),
        other => format!("{other:?}"),
    }
}
