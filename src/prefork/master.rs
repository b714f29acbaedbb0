//! The master: opens the listener, forks the workers, replaces those that die, passes signals on to
//! them, reaps them, and ends as the policy says. It accepts nothing itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid};
use rustix::event::{PollFd, PollFlags, poll};

use super::listener::Listener;
use super::log::Log;
use super::once::Once;
use super::pidfile::PidFile;
use super::worker::Worker;
use super::{Config, Policy, ServeError};
use crate::sys::{capability, process, reason, timespec};
use crate::time::{Clock, Stamp};

/// A worker that dies is replaced at once, but no sooner than so long after it was started.
const RESPAWN: Duration = Duration::from_millis(100);
/// Workers that are to end at once and do not are killed after so long.
const STUCK: Duration = Duration::from_secs(1);

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// On TERM.
    Stopped,
    /// On INT.
    Interrupted,
}

/// Serves until it is told to stop. `note` is told what the user should know.
pub(crate) fn serve(
    config: &Config,
    clock: Clock,
    note: &mut dyn FnMut(&str),
) -> Result<Ended, ServeError> {
    if let Some(parent) = config.tied_to {
        process::die_with(parent).map_err(system("be tied to a process that has ended"))?;
    }
    let listener = Listener::open(config.listen, config.backlog, config.deferred_accept)?;
    if config.policy == Policy::FilterDrain {
        may_be_filtered(&listener)?;
    }
    let pidfile = config.pidfile.as_deref().map(PidFile::write).transpose()?;
    if let Some(pid) = pidfile.as_ref().and_then(|file| file.stale) {
        note(&format!(
            "replaced the pid file of process {pid}, which is gone"
        ));
    }
    let signals = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGCHLD,
    ];
    let signals = process::take_signals(&signals).map_err(system("take signals by descriptor"))?;
    let log = Log::new(clock, getpid());
    log.detail(
        "listening",
        format_args!(
            "{} policy={} workers={} threads={}",
            listener.address(),
            config.policy.word(),
            config.workers,
            config.threads
        ),
    );
    let first_request = Once::new().map_err(system("make an eventfd"))?;
    let mut master = Master {
        config,
        clock,
        log,
        signals,
        listener: Some(listener),
        first_request,
        slots: Vec::new(),
        stopping: None,
    };
    let ended = master.run();
    master.close_listener();
    drop(pidfile);
    master.log.event("exit");
    ended
}

/// Whether this user may run a server with `policy`, on this kernel.
pub(crate) fn may_serve(policy: Policy) -> Result<(), ServeError> {
    if policy != Policy::FilterDrain {
        return Ok(());
    }
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    may_be_filtered(&Listener::open(anywhere, 0, false)?)
}

fn may_be_filtered(listener: &Listener) -> Result<(), ServeError> {
    listener
        .may_be_filtered()
        .map_err(|error| ServeError::Filter {
            reason: reason(&error),
            remedy: capability::how_to_get_net_admin(),
        })
}

fn system(call: &'static str) -> impl FnOnce(Errno) -> ServeError {
    move |error| ServeError::System {
        call,
        reason: error.desc().to_lowercase(),
    }
}

struct Master<'a> {
    config: &'a Config,
    clock: Clock,
    log: Log,
    signals: SignalFd,
    listener: Option<Listener>,
    first_request: Once,
    /// The workers' places.
    slots: Vec<Slot>,
    stopping: Option<Stopping>,
}

/// A worker's place.
struct Slot {
    pid: Option<Pid>,
    started: Stamp,
}

/// A stop under way.
#[derive(Clone, Copy)]
struct Stopping {
    ended: Ended,
    /// Workers that are left then are killed.
    kill_at: Option<Stamp>,
}

impl Master<'_> {
    fn run(&mut self) -> Result<Ended, ServeError> {
        for number in 0..self.config.workers {
            let started = self.clock.now();
            match self.fork(number) {
                Ok(pid) => self.slots.push(Slot {
                    pid: Some(pid),
                    started,
                }),
                Err(error) => {
                    self.stop_at_once(Ended::Stopped);
                    self.outlive_workers();
                    return Err(system("fork a worker")(error));
                }
            }
        }
        Ok(self.outlive_workers())
    }

    /// Does what signals ask for, until the server has ended.
    fn outlive_workers(&mut self) -> Ended {
        loop {
            if let Some(stopping) = self.stopping
                && self.workers().next().is_none()
                && !self.stays_for_ever(stopping)
            {
                return stopping.ended;
            }
            self.wait();
            while let Ok(Some(info)) = self.signals.read_signal() {
                match i32::try_from(info.ssi_signo).map(Signal::try_from) {
                    Ok(Ok(Signal::SIGTERM)) => self.stop(),
                    Ok(Ok(Signal::SIGINT)) => self.stop_at_once(Ended::Interrupted),
                    Ok(Ok(Signal::SIGUSR1)) => self.signal_workers(Signal::SIGUSR1),
                    _ => {}
                }
            }
            self.reap();
            self.replace_dead();
            self.kill_stuck();
        }
    }

    fn stays_for_ever(&self, stopping: Stopping) -> bool {
        self.config.policy == Policy::Hang && stopping.ended == Ended::Stopped
    }

    fn workers(&self) -> impl Iterator<Item = Pid> {
        self.slots.iter().filter_map(|slot| slot.pid)
    }

    fn wait(&self) {
        let mut fds = [PollFd::from_borrowed_fd(
            self.signals.as_fd(),
            PollFlags::IN,
        )];
        let kill_at = self.stopping.and_then(|stopping| stopping.kill_at);
        let respawn = self
            .slots
            .iter()
            .filter(|slot| slot.pid.is_none() && self.stopping.is_none())
            .map(|slot| slot.started + RESPAWN);
        let due = respawn.chain(kill_at).min();
        let timeout = due.map(|due| timespec(self.clock.until(due)));
        // Interrupted or not, everything is looked at afterwards.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    /// Does what the policy says on TERM.
    fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.log.event("term");
        if self.config.policy == Policy::Quick {
            self.signal_workers(Signal::SIGTERM);
            self.close_listener();
            self.stopping = Some(Stopping {
                ended: Ended::Stopped,
                kill_at: Some(self.clock.now() + STUCK),
            });
            return;
        }
        if !self.config.policy.master_keeps_listener() {
            self.close_listener();
        }
        self.signal_workers(Signal::SIGTERM);
        self.stopping = Some(Stopping {
            ended: Ended::Stopped,
            kill_at: None,
        });
    }

    fn stop_at_once(&mut self, ended: Ended) {
        self.log.event("int");
        self.signal_workers(Signal::SIGINT);
        self.close_listener();
        self.stopping = Some(Stopping {
            ended,
            kill_at: Some(self.clock.now() + STUCK),
        });
    }

    fn close_listener(&mut self) {
        if self.listener.take().is_some() {
            self.log.event("listener_closed");
        }
    }

    fn signal_workers(&self, signal: Signal) {
        for pid in self.workers() {
            // One that has ended is not reaped yet, so the number is still its own.
            let _ = kill(pid, signal);
        }
    }

    fn kill_stuck(&mut self) {
        if let Some(stopping) = &mut self.stopping
            && stopping.kill_at.is_some_and(|at| at <= self.clock.now())
        {
            stopping.kill_at = None;
            self.signal_workers(Signal::SIGKILL);
        }
    }

    /// Reaps the workers that have ended.
    fn reap(&mut self) {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("status={code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("signal={signal}")),
                _ => return,
            };
            self.log.detail("reaped", format_args!("{pid} {how}"));
            for slot in &mut self.slots {
                if slot.pid == Some(pid) {
                    slot.pid = None;
                }
            }
        }
    }

    /// Starts a worker in the place of each that died, unless the server is to stop.
    fn replace_dead(&mut self) {
        for number in 0..self.slots.len() {
            let now = self.clock.now();
            let is_due = |slot: &Slot| slot.pid.is_none() && slot.started + RESPAWN <= now;
            if self.stopping.is_some() || !self.slots.get(number).is_some_and(is_due) {
                continue;
            }
            if self.config.policy == Policy::FilterDrain
                && let Some(listener) = &self.listener
                && listener.let_clients_in()
            {
                // This worker alone had got TERM, and the server goes on.
                self.log.event("filter_off");
            }
            let pid = self.fork(number);
            if let Err(error) = pid {
                self.log.detail("fork_failed", format_args!("{error}"));
            }
            if let Some(slot) = self.slots.get_mut(number) {
                *slot = Slot {
                    pid: pid.ok(),
                    started: now,
                };
            }
        }
    }

    /// Starts a worker. In the child this does not return.
    fn fork(&mut self, number: usize) -> nix::Result<Pid> {
        let master = getpid();
        match process::fork()? {
            ForkResult::Parent { child } => Ok(child),
            ForkResult::Child => {
                let code = i32::from(self.be_worker(number, master).is_err());
                process::exit_now(code)
            }
        }
    }

    /// The life of a worker.
    fn be_worker(&mut self, number: usize, master: Pid) -> nix::Result<()> {
        process::die_with(master)?;
        let log = Log::new(self.clock, master);
        let signals = process::take_signals(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1])?;
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        log.detail("booted", format_args!("worker={}", number + 1));
        Worker::new(
            self.config,
            &log,
            self.clock,
            master,
            signals,
            listener,
            &self.first_request,
        )
        .run()
        .map_err(|error| Errno::from_raw(error.raw_os_error()))
    }
}
