//! Starting a process that cannot outlive us, and adopting what it leaves behind.
#![expect(clippy::disallowed_types, reason = "processes are tied to us here")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

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

/// Ends the process at once, running no destructor: for a second interrupt.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// A process id as the kernel counts them.
pub(crate) fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap_or(i32::MAX))
}
