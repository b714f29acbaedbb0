//! Processes that cannot outlive each other, forks, signals taken by descriptor, and adopting what a
//! process leaves behind.
#![expect(clippy::disallowed_types, reason = "processes are tied to us here")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid, getpid, getppid};
use procfs::process::Process as Proc;

/// Has `command` start in a process group of its own and die with the thread that starts it.
pub(crate) fn tie_to_us(command: &mut Command) {
    let us = getpid();
    command.process_group(0);
    let hook = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // We may have died between fork and here.
        if getppid() != us {
            return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the hook only makes system calls that are async-signal-safe
    // (prctl, getppid) and allocates nothing.
    unsafe {
        command.pre_exec(hook);
    }
}

/// Has orphans among our descendants become our children, so that they can be found and reaped.
pub(crate) fn adopt_orphans() -> nix::Result<()> {
    prctl::set_child_subreaper(true)
}

/// Has us die when the process `parent` does, which is our parent; ESRCH where it no longer is.
pub(crate) fn die_with(parent: Pid) -> nix::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have died before.
    if getppid() == parent {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

/// Forks a process that has no other threads; EBUSY where it has.
pub(crate) fn fork() -> nix::Result<ForkResult> {
    let threads = Proc::myself()
        .and_then(|us| us.stat())
        .map(|stat| stat.num_threads);
    if !matches!(threads, Ok(1)) {
        return Err(Errno::EBUSY);
    }
    // SAFETY: no other thread can hold a lock or be in the middle of anything, so the child may do
    // whatever the parent might.
    unsafe { nix::unistd::fork() }
}

/// Has these signals come through a descriptor and by no other way, even those that whoever started
/// us had ignored. Children inherit that; each makes its own descriptor.
pub(crate) fn take_signals(signals: &[Signal]) -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for &one in signals {
        // SAFETY: the default action is no handler of ours.
        unsafe { signal(one, SigHandler::SigDfl) }?;
        set.add(one);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Ends the process at once, running no destructor: for a second interrupt.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// A process id as the kernel counts them.
pub(crate) fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap_or(i32::MAX))
}
