//! The server's log: one event a line on stdout, `UNIX_NANOSECONDS PID EVENT [DETAIL...]`, so that
//! what the probe inferred can be held against what the server did. Every line is one write(), so
//! that it is out before the next thing happens and lines of several processes never mix.

use std::cell::Cell;
use std::fmt::{Arguments, Write as _};
use std::io::{self, ErrorKind, Write as _};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use crate::time::Clock;

/// The log of one process.
pub(super) struct Log {
    clock: Clock,
    pid: Pid,
    /// Who ends the server where nobody reads the log any more.
    master: Pid,
    broken: Cell<bool>,
}

impl Log {
    /// The log of this process, which `master` is the master of.
    pub(super) fn new(clock: Clock, master: Pid) -> Log {
        Log {
            clock,
            pid: getpid(),
            master,
            broken: Cell::new(false),
        }
    }

    /// An event without anything to add.
    pub(super) fn event(&self, event: &str) {
        self.detail(event, format_args!(""));
    }

    /// An event and what belongs to it.
    pub(super) fn detail(&self, event: &str, detail: Arguments<'_>) {
        if self.broken.get() {
            return;
        }
        let mut line = format!("{} {} {event}", self.clock.now(), self.pid);
        if detail.as_str() != Some("") {
            // Writing to a String cannot fail.
            let _ = write!(line, " {detail}");
        }
        line.push('\n');
        // Stdout is line buffered: one line is one write().
        if let Err(error) = io::stdout().write_all(line.as_bytes()) {
            self.broken.set(true);
            if error.kind() == ErrorKind::BrokenPipe {
                // The reader has seen enough: the server ends as any command in a pipe does.
                let _ = kill(self.master, Signal::SIGINT);
            }
        }
    }
}
