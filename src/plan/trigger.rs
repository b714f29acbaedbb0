//! What is done to the server, when, and to which process.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{PlanError, read, refuse};
use crate::cli::{RunArgs, SignalArg, WhenArg};
use crate::target::process::Process;
use crate::target::trigger::{Action, Trigger, When, Whom};

/// A pid file holds a number; some servers write a few lines.
const MAX_PID_FILE: u64 = 64 << 10;

pub(super) fn triggers(args: &RunArgs, steady: u64) -> Result<Vec<Trigger>, PlanError> {
    let half = WhenArg(When::Started(steady.div_ceil(2)));
    let whom = match args.job.signal_tree {
        true => Whom::Tree,
        false => Whom::Master,
    };
    let mut triggers = Vec::new();
    let mut wanted = args.job.signal.clone();
    // With a command of ours the default is to stop it; a trigger takes the signal's place.
    if wanted.is_empty() && !args.command.is_empty() && args.job.trigger.is_none() {
        wanted.push(SignalArg::Send(Signal::SIGTERM, None));
    }
    if wanted.len() > 1 && wanted.contains(&SignalArg::None) {
        return refuse("--signal none and another --signal exclude each other; leave one out");
    }
    for signal in wanted {
        if let SignalArg::Send(signal, when) = signal {
            let WhenArg(when) = when.unwrap_or(half);
            let action = Action::Signal(signal, whom);
            triggers.push(Trigger { action, when });
        }
    }
    if let Some(command) = &args.job.trigger {
        if command.trim().is_empty() {
            return refuse("--trigger has no command; give one that sh can run");
        }
        let WhenArg(when) = args.job.trigger_at.unwrap_or(half);
        let action = Action::Command(command.clone());
        triggers.push(Trigger { action, when });
    }
    for trigger in &triggers {
        if let When::Started(n) = trigger.when
            && n > steady
        {
            return refuse(format!(
                "a trigger waits for {n} connections and only {steady} are started; give a \
                 larger --count, or an earlier @{steady}"
            ));
        }
    }
    Ok(triggers)
}

/// Takes hold of the process to signal.
pub(super) fn master(args: &RunArgs, triggers: &[Trigger]) -> Result<Option<Process>, PlanError> {
    let signals = triggers
        .iter()
        .any(|t| matches!(t.action, Action::Signal(..)));
    let pid = match (&args.pid, &args.pidfile) {
        (Some(_), _) | (_, Some(_)) if !args.command.is_empty() => {
            return refuse(
                "with `-- COMMAND` the command itself is signalled; leave out --pid or --pidfile",
            );
        }
        (Some(pid), _) => *pid,
        (None, Some(file)) => pid_from_file(file)?,
        (None, None) if signals && args.command.is_empty() => {
            return refuse("--signal has nobody to go to; add --pid, --pidfile or `-- COMMAND`");
        }
        (None, None) if args.job.signal_tree && args.command.is_empty() => {
            return refuse("--signal-tree has no process to begin at; add --pid or --pidfile");
        }
        (None, None) => return Ok(None),
    };
    if pid <= 1 {
        return refuse(format!(
            "{pid} is no process of a server's; give the pid of its main process"
        ));
    }
    let origin = args
        .pidfile
        .as_ref()
        .map_or_else(String::new, |file| format!(" (from {})", file.display()));
    let gone = || {
        PlanError(format!(
            "there is no process {pid}{origin}; start the server, or give the pid it has now"
        ))
    };
    let process = Process::open(Pid::from_raw(pid)).map_err(|_| gone())?;
    if !process.is_alive() {
        return Err(gone());
    }
    match process.may_signal() {
        Ok(()) => Ok(Some(process)),
        Err(Errno::EPERM) if signals => refuse(format!(
            "process {pid}{origin} is not ours to signal; run probe as its user or as root"
        )),
        Err(Errno::ESRCH) => Err(gone()),
        Err(_) => Ok(Some(process)),
    }
}

fn pid_from_file(file: &Path) -> Result<i32, PlanError> {
    let text = read(file, "--pidfile", MAX_PID_FILE)?;
    let text = String::from_utf8_lossy(&text);
    let word = text.trim();
    if word.is_empty() {
        return refuse(format!(
            "the pid file {} is empty; wait until the server has written it",
            file.display()
        ));
    }
    word.parse().map_err(|_| {
        let start: String = word.chars().take(20).collect();
        PlanError(format!(
            "the pid file {} holds `{start}`, which is no pid; give the file the server writes",
            file.display()
        ))
    })
}
