//! Where a capture's bytes come from: a file, with a progress bar where it takes long, or a pipe, which
//! is waited for. An interrupt ends either.
#![expect(clippy::disallowed_types, reason = "the capture is opened here")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use indicatif::ProgressBar;
use rustix::event::{PollFd, PollFlags, poll};

use crate::commands::interrupt::Interrupt;
use crate::commands::progress;
use crate::sys::{reason, timespec};
use crate::time::{Clock, Stamp};

/// How often a wait looks whether it was interrupted.
const LOOK: Duration = Duration::from_millis(100);
/// How long whoever writes a pipe may take to hand on what it holds and to end, where an interrupt
/// reached it as well.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A reading that takes longer shows how far it is.
const LONG: Duration = Duration::from_secs(1);

/// The bytes.
pub(super) struct Input {
    file: File,
    /// A file's size, where progress is to be shown.
    size: Option<u64>,
    pipe: Option<Rc<Pipe>>,
    interrupt: Interrupt,
    clock: Clock,
    read: u64,
    bar: Option<ProgressBar>,
}

/// A pipe, to be waited for.
pub(super) struct Pipe {
    fd: OwnedFd,
    interrupt: Interrupt,
    clock: Clock,
    /// When an interrupt was first met.
    interrupted: std::cell::Cell<Option<Stamp>>,
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// There is something to read, or the end.
    Ready,
    /// Nothing came.
    Quiet,
    /// Somebody interrupted, and nothing more is to be expected.
    Over,
}

impl Input {
    /// Opens a capture, stdin where no file is given.
    pub(super) fn open(file: Option<&Path>, show: bool, interrupt: &Interrupt) -> Result<Input> {
        let opened = match file {
            Some(path) => File::open(path),
            None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        let name = file.map_or_else(|| "stdin".into(), |file| file.display().to_string());
        let cannot = |error: &io::Error| {
            anyhow!(
                "cannot read {name}: {}; give a capture that exists and may be read, or - for stdin",
                reason(error)
            )
        };
        let file = opened.map_err(|error| cannot(&error))?;
        let meta = file.metadata().map_err(|error| cannot(&error))?;
        if meta.is_dir() {
            return Err(anyhow!(
                "{name} is a folder; give a capture, of a run its run.pcapng"
            ));
        }
        let clock = Clock::start();
        let pipe = if meta.is_file() {
            None
        } else {
            Some(Rc::new(Pipe {
                fd: file
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(|error| cannot(&error))?,
                interrupt: interrupt.clone(),
                clock,
                interrupted: None.into(),
            }))
        };
        Ok(Input {
            file,
            size: (meta.is_file() && show).then_some(meta.len()),
            pipe,
            interrupt: interrupt.clone(),
            clock,
            read: 0,
            bar: None,
        })
    }

    /// The pipe that it is, if it is one.
    pub(super) fn pipe(&self) -> Option<Rc<Pipe>> {
        self.pipe.clone()
    }

    fn show(&mut self) {
        let Some(size) = self.size else { return };
        if self.bar.is_none() && self.clock.now() < self.clock.started() + LONG {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| progress::over_bytes(size));
        bar.set_position(self.read.min(size));
    }
}

impl Read for Input {
    /// What is interrupted ends here.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.pipe {
            Some(pipe) => loop {
                match pipe.wait()? {
                    Waited::Ready => break,
                    Waited::Quiet => {}
                    Waited::Over => return Ok(0),
                }
            },
            None if self.interrupt.came() => return Ok(0),
            None => {}
        }
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        self.show();
        Ok(count)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Pipe {
    /// Waits for something to read, not for long.
    pub(super) fn wait(&self) -> io::Result<Waited> {
        if self.interrupt.came() {
            let now = self.clock.now();
            let since = self.interrupted.get().unwrap_or(now);
            self.interrupted.set(Some(since));
            if now >= since + LAST_WORDS {
                return Ok(Waited::Over);
            }
        }
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(LOOK))) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(Waited::Quiet),
            Ok(_) => Ok(Waited::Ready),
            Err(error) => Err(error.into()),
        }
    }

    /// The present on a clock that never runs backwards.
    pub(super) fn now(&self) -> Stamp {
        self.clock.now()
    }
}
