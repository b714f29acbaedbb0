//! Notes when each process of the server's tree exits.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};

use super::process::Process;
use super::tree;
use crate::time::{Clock, Stamp};

/// A process that exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Which.
    pub(crate) pid: Pid,
    /// When we saw it.
    pub(crate) at: Stamp,
}

/// Watches processes for their exits, each in the order in which it happens.
pub(crate) struct ExitWatch {
    clock: Clock,
    watched: Vec<Pid>,
    /// Watched processes whose exit was not taken yet.
    open: usize,
    tell: Sender<Exit>,
    exits: Receiver<Exit>,
}

impl ExitWatch {
    pub(crate) fn new(clock: Clock) -> ExitWatch {
        let (tell, exits) = channel();
        ExitWatch {
            clock,
            watched: Vec::new(),
            open: 0,
            tell,
            exits,
        }
    }

    /// Watches `root` and those of its descendants that are not watched yet.
    pub(crate) fn watch_tree(&mut self, root: Pid) -> io::Result<()> {
        let fresh: Vec<Process> = Process::open(root)
            .into_iter()
            .chain(tree::hold_descendants(root))
            .filter(|process| !self.watched.contains(&process.pid()))
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.watched.extend(fresh.iter().map(Process::pid));
        self.open += fresh.iter().filter_map(Process::exit_fd).count();
        let (clock, tell) = (self.clock, self.tell.clone());
        thread::Builder::new()
            .name("probe-exits".to_owned())
            .spawn(move || watch(fresh, clock, &tell))?;
        Ok(())
    }

    /// Exits since the last call.
    pub(crate) fn take(&mut self) -> Vec<Exit> {
        let exits: Vec<Exit> = self.exits.try_iter().collect();
        self.open -= exits.len();
        exits
    }

    /// The same where every watched process is known to have ended: the threads that watch them may
    /// not have come round to saying so, and each is given `patience`.
    pub(crate) fn take_last(&mut self, patience: Duration) -> Vec<Exit> {
        let mut exits = self.take();
        while self.open > 0 {
            let Ok(exit) = self.exits.recv_timeout(patience) else {
                break;
            };
            self.open -= 1;
            exits.push(exit);
        }
        exits
    }
}

/// Waits until all have exited or nobody wants to know.
fn watch(mut processes: Vec<Process>, clock: Clock, tell: &Sender<Exit>) {
    while !processes.is_empty() {
        let mut fds: Vec<PollFd<'_>> = processes
            .iter()
            .filter_map(Process::exit_fd)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // Without pidfds there is nothing to wait for, and exits go unrecorded.
        if fds.len() < processes.len() || poll(&mut fds, None).is_err() {
            return;
        }
        let at = clock.now();
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        let mut told = true;
        processes.retain(|process| {
            let exited = ready.next().unwrap_or(false);
            if exited {
                let pid = process.pid();
                told &= tell.send(Exit { pid, at }).is_ok();
            }
            !exited
        });
        if !told {
            return;
        }
    }
}
