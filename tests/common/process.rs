//! Processes of a test: holding them to see their end, and the probe while it runs.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::kernel::{Port, State, wait_until};
use super::{Row, probe, rows};

/// A process that has not ended by then never will.
const PATIENCE: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

/// A process, held so that its end is seen even when its number is used again.
pub(crate) struct Held {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Held {
    /// Takes hold of a process that lives.
    pub(crate) fn open(pid: Pid) -> Held {
        let raw = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).expect("a live process");
        Held { pid, pidfd }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_within(Timespec::default())
    }

    /// Waits for its end.
    pub(crate) fn wait(&self) {
        assert!(self.ends_within(PATIENCE), "{} did not end", self.pid);
    }

    fn ends_within(&self, patience: Timespec) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&patience)).expect("poll") > 0
    }
}

/// Asserts that nothing of what was held is left.
pub(crate) fn assert_ended(processes: &[Held]) {
    for process in processes {
        assert!(process.has_ended(), "{} is left", process.pid());
    }
}

/// The command that runs a server in a few words of Ruby.
pub(crate) fn ruby(script: &str) -> Vec<String> {
    ["ruby", "-rsocket", "-e", script]
        .map(str::to_owned)
        .to_vec()
}

/// Everything below `root`, parents before children.
pub(crate) fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|c| c.parse().ok());
            parents.extend(children.clone().map(Pid::from_raw));
            found.extend(children.map(Pid::from_raw));
        }
    }
    found
}

/// Waits until the thread of that name in `program`, run in this thread's network namespace, has gone
/// to sleep and woken up `rounds` times, or has ended. Where there is none nothing is waited for.
pub(crate) fn wait_for_rounds(program: &str, thread: &str, rounds: u64) {
    let here = fs::read_link("/proc/thread-self/ns/net").expect("this thread's namespace");
    let named = |folder: &Path, name: &str| {
        let comm = fs::read_to_string(folder.join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    let processes = entries("/proc".as_ref()).into_iter();
    let mut threads = processes
        .filter(|process| named(process, program))
        .filter(|process| fs::read_link(process.join("ns/net")).is_ok_and(|ns| ns == here))
        .flat_map(|process| entries(&process.join("task")))
        .filter(|task| named(task, thread));
    let Some(task) = threads.next() else {
        return;
    };
    let Some(before) = sleeps(&task) else {
        return;
    };
    wait_until(&format!("{thread} goes around"), || {
        sleeps(&task).is_none_or(|now| now >= before + rounds)
    });
}

/// How often a thread has gone to sleep by itself; none once it has ended.
fn sleeps(task: &Path) -> Option<u64> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count?.trim().parse().ok()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Whether there is a process of that number.
pub(crate) fn exists(pid: i64) -> bool {
    fs::exists(format!("/proc/{pid}")).expect("/proc")
}

/// The probe at work, its rows on their way to us.
pub(crate) struct RunningProbe {
    child: Child,
    stdout: BufReader<ChildStdout>,
    csv: String,
}

/// A probe that has ended.
pub(crate) struct EndedProbe {
    /// Its exit code; none where a signal killed it.
    pub(crate) code: Option<i32>,
    /// The rows that it wrote.
    pub(crate) rows: Vec<Row>,
}

impl RunningProbe {
    /// Starts `probe OPTIONS -- COMMAND` with its CSV on stdout.
    pub(crate) fn start(options: &str, command: &[String]) -> RunningProbe {
        let mut child = probe()
            .args(["--csv", "-", "--quiet"])
            .args(options.split_whitespace())
            .arg("--")
            .args(command)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the probe starts");
        let stdout = BufReader::new(child.stdout.take().expect("its stdout is ours"));
        RunningProbe {
            child,
            stdout,
            csv: String::new(),
        }
    }

    /// Waits for the first row: the server is up and was probed.
    pub(crate) fn wait_for_row(&mut self) {
        self.wait_for_rows(1);
    }

    /// Waits for so many rows.
    pub(crate) fn wait_for_rows(&mut self, rows: usize) {
        // The header is the first line.
        while self.csv.lines().count() < 1 + rows {
            let read = self.stdout.read_line(&mut self.csv).expect("its stdout");
            assert!(read > 0, "the probe ended without that many rows");
        }
    }

    /// The probe's own number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Takes hold of the server's processes.
    pub(crate) fn hold_server(&self) -> Vec<Held> {
        let below = descendants(self.pid());
        below.into_iter().map(Held::open).collect()
    }

    /// Signals the probe.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the probe is there");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> EndedProbe {
        self.stdout
            .read_to_string(&mut self.csv)
            .expect("its stdout");
        let code = self.child.wait().expect("the probe is ours").code();
        // Killed at once it may have left half a row.
        let whole = self.csv.rfind('\n').map_or(0, |end| end + 1);
        EndedProbe {
            code,
            rows: rows(&self.csv.as_bytes()[..whole]),
        }
    }
}

impl Drop for RunningProbe {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that the test itself started, and kills with its children at the end.
pub(crate) struct OwnServer {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl OwnServer {
    /// Starts `command` and waits until it has printed `line` so often.
    pub(crate) fn start(command: &[String], line: &str, times: usize) -> OwnServer {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stdout = BufReader::new(child.stdout.take().expect("its stdout is ours"));
        let mut server = OwnServer { child, stdout };
        let mut said = String::new();
        while said.matches(line).count() < times {
            let read = server.stdout.read_line(&mut said).expect("its stdout");
            assert!(read > 0, "the server ended: {said}");
        }
        server
    }

    /// Starts `command` and waits until it listens.
    pub(crate) fn listening(command: &[String], port: Port) -> OwnServer {
        let server = OwnServer::start(command, "", 0);
        port.wait_for(State::Listen, 1);
        server
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until it and its children have ended: until nobody is left to print anything.
    pub(crate) fn wait(mut self) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("its stdout");
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // It has ended, or nobody needs it any more. A master that outlived its workers would start
        // others.
        let below = descendants(self.pid());
        let _ = self.child.kill();
        for pid in below {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
