//! One process, held so that a reused pid is never signalled: by pidfd, or where the kernel has none
//! by its start time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::Process as Proc;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

/// A process that was alive when this was made.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: Handle,
}

#[derive(Debug)]
enum Handle {
    Pidfd(OwnedFd),
    /// Kernels before 5.3: clock ticks since boot at which it started.
    StartTime(u64),
}

impl Process {
    /// Takes hold of a live process.
    pub(crate) fn open(pid: Pid) -> io::Result<Process> {
        let raw = rustix::process::Pid::from_raw(pid.as_raw())
            .ok_or_else(|| io::Error::from(Errno::ESRCH))?;
        match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => Ok(Process {
                pid,
                handle: Handle::Pidfd(fd),
            }),
            Err(rustix::io::Errno::NOSYS) => Ok(Process {
                pid,
                handle: Handle::StartTime(start_time(pid).ok_or(Errno::ESRCH)?),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that becomes readable when it exits, where the kernel has one.
    pub(crate) fn exit_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            Handle::Pidfd(fd) => Some(fd.as_fd()),
            Handle::StartTime(_) => None,
        }
    }

    /// Sends it a signal; ESRCH where it has exited, whoever has its pid now.
    pub(crate) fn signal(&self, signal: Signal) -> nix::Result<()> {
        match &self.handle {
            Handle::Pidfd(fd) => {
                let signal =
                    rustix::process::Signal::from_named_raw(signal as i32).ok_or(Errno::EINVAL)?;
                pidfd_send_signal(fd, signal).map_err(|e| Errno::from_raw(e.raw_os_error()))
            }
            Handle::StartTime(started) => {
                if start_time(self.pid) != Some(*started) {
                    return Err(Errno::ESRCH);
                }
                kill(self.pid, signal)
            }
        }
    }

    /// Whether we may signal it.
    pub(crate) fn may_signal(&self) -> nix::Result<()> {
        kill(self.pid, None)
    }

    /// Whether it has not exited; a zombie has.
    pub(crate) fn is_alive(&self) -> bool {
        Proc::new(self.pid.as_raw())
            .and_then(|p| p.stat())
            .is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }
}

fn start_time(pid: Pid) -> Option<u64> {
    let stat = Proc::new(pid.as_raw()).ok()?.stat().ok()?;
    Some(stat.starttime)
}
