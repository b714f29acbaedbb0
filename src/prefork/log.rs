//! The server's log: one event a line on stdout, `UNIX_NANOSECONDS PID EVENT [DETAIL...]`, so that
//! what the probe inferred can be held against what the server did. Every line is one write(), so
//! that it is out before the next thing happens and lines of several processes never mix.

use std::cell::Cell;
use std::fmt::{Arguments, Write as _};
use std::io::{self, Write as _};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::sys::reason;
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
        if let Err(error) = write(line.as_bytes()) {
            self.broken.set(true);
            if error == Errno::PIPE {
                // The reader has seen enough: the server ends as any command in a pipe does.
                let _ = kill(self.master, Signal::SIGINT);
            } else {
                // Where stderr cannot be written to either, there is nobody to tell.
                let _ = writeln!(
                    io::stderr(),
                    "probe: process {} cannot write its log: {}; it goes on without one",
                    self.pid,
                    reason(&error.into())
                );
            }
        }
    }
}

/// Writes a line to stdout with one write(), past any buffer. Whoever started us may have made it
/// nonblocking; where it has no room, that is waited for as a blocking one would.
fn write(mut line: &[u8]) -> rustix::io::Result<()> {
    let stdout = io::stdout();
    while !line.is_empty() {
        match rustix::io::write(&stdout, line) {
            Ok(written) => line = &line[written..],
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
                // Interrupted or not, it is tried again.
                let _ = poll(&mut fds, None);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
