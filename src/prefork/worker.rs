//! A worker: accepts as long as it has a thread free, reads, answers when the service time is over,
//! and ends as the policy says. One thread of ours does the work of all of them, so that nothing a
//! client does can block it. Being started and replaced is the [`master`](super::master)'s business.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::client::{Client, Got, Stage, Status};
use super::listener::Listener;
use super::log::Log;
use super::once::Once;
use super::phase::{Phase, Settling};
use super::{Config, FirstRequest, Policy};
use crate::sys::process::exit_now;
use crate::sys::timespec;
use crate::target::tree;
use crate::time::{Clock, Stamp};

/// Clients that a worker has at a time; further ones stay in the accept queue.
const MAX_CLIENTS: usize = 512;
/// Where a connection cannot be accepted for want of descriptors or memory, it is tried again after
/// so long.
const PAUSE: Duration = Duration::from_millis(100);
/// Behind a filter the accept queue and handshakes are looked at so often.
const LOOK: Duration = Duration::from_millis(10);

/// A worker process at work.
pub(super) struct Worker<'a> {
    config: &'a Config,
    log: &'a Log,
    clock: Clock,
    master: Pid,
    signals: SignalFd,
    listener: Option<Listener>,
    first_request: &'a Once,
    clients: BTreeMap<u64, Client>,
    /// Clients whose request is there while all threads are busy, the first first.
    waiting: VecDeque<u64>,
    /// Clients that a thread is at, the first due first.
    served: VecDeque<u64>,
    phase: Phase,
    accept_again: Option<Stamp>,
    count: Counters,
}

/// What a worker has done.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    accepted: u64,
    read: u64,
    answered: u64,
}

impl Worker<'_> {
    /// A worker that has done nothing yet.
    pub(super) fn new<'a>(
        config: &'a Config,
        log: &'a Log,
        clock: Clock,
        master: Pid,
        signals: SignalFd,
        listener: Listener,
        first_request: &'a Once,
    ) -> Worker<'a> {
        Worker {
            config,
            log,
            clock,
            master,
            signals,
            listener: Some(listener),
            first_request,
            clients: BTreeMap::new(),
            waiting: VecDeque::new(),
            served: VecDeque::new(),
            phase: Phase::Serving,
            accept_again: None,
            count: Counters::default(),
        }
    }

    /// Serves until it is told to stop and has done so.
    pub(super) fn run(mut self) -> rustix::io::Result<()> {
        while !self.phase.is_over(self.clients.len()) {
            let ready = self.wait()?;
            self.take_signals();
            self.answer_due();
            for id in ready {
                self.read(id);
            }
            self.send_away_idle();
            self.accept();
            self.settle();
        }
        drop(self.listener.take());
        self.log.event("listener_closed");
        self.log_end();
        Ok(())
    }

    /// Waits for anything to do, and returns the clients that have sent something.
    fn wait(&self) -> rustix::io::Result<Vec<u64>> {
        let mut ids = Vec::new();
        let mut fds = vec![PollFd::from_borrowed_fd(
            self.signals.as_fd(),
            PollFlags::IN,
        )];
        for (&id, client) in &self.clients {
            if client.is_read() {
                ids.push(id);
                fds.push(PollFd::new(client, PollFlags::IN));
            }
        }
        if self.may_accept()
            && let Some(listener) = &self.listener
        {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        let timeout = self.next_due().map(|due| timespec(self.clock.until(due)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let clients = fds[1..].iter().zip(ids);
        let ready = clients.filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, id)| id).collect())
    }

    /// When the next thing is due that no descriptor announces.
    fn next_due(&self) -> Option<Stamp> {
        let served = self.served.front().and_then(|id| self.clients.get(id));
        let due = served.and_then(|client| match client.stage {
            Stage::Served { due } => Some(due),
            Stage::Reading { .. } | Stage::Waiting | Stage::Lingering { .. } => None,
        });
        let deadline = self
            .clients
            .values()
            .filter_map(|client| match client.stage {
                Stage::Reading { until } | Stage::Lingering { until } => Some(until),
                Stage::Waiting | Stage::Served { .. } => None,
            });
        let look = match self.phase {
            Phase::Settling(_) => Some(self.clock.now() + LOOK),
            Phase::Serving | Phase::Draining { .. } | Phase::Finishing => None,
        };
        // Where no connection may be accepted anyway, its time is not waited for.
        let accept_again = self.accept_again.filter(|_| self.has_room());
        let times = [due, look, accept_again];
        times.into_iter().flatten().chain(deadline).min()
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGTERM)) => self.stop(),
                Ok(Ok(Signal::SIGUSR1)) => self.log_counters("counters"),
                _ => self.end_at_once("int"),
            }
        }
    }

    /// Does what the policy says on TERM.
    fn stop(&mut self) {
        if self.phase != Phase::Serving {
            return;
        }
        if self.config.policy == Policy::Quick {
            self.end_at_once("term");
        }
        self.log.event("term");
        self.phase = match (self.config.policy, &self.listener) {
            (Policy::Drain, _) => Phase::Draining { empty: false },
            (Policy::FilterDrain, Some(listener)) => match listener.hold_off_clients() {
                Ok(()) => {
                    self.log.event("filter_on");
                    Phase::Settling(Settling::default())
                }
                Err(error) => {
                    // Clients go on coming: there is only the queue to wait for.
                    self.log.detail("filter_failed", format_args!("{error}"));
                    Phase::Draining { empty: false }
                }
            },
            _ => Phase::Finishing,
        };
        if !self.config.policy.drains() {
            self.leave_silent_clients();
        }
    }

    /// Closes connections on which nothing has come yet, as servers do that keep idle clients apart
    /// from requests.
    fn leave_silent_clients(&mut self) {
        let silent =
            |client: &Client| client.received == 0 && matches!(client.stage, Stage::Reading { .. });
        let ids: Vec<u64> = self
            .clients
            .iter()
            .filter_map(|(&id, client)| silent(client).then_some(id))
            .collect();
        for id in ids {
            // It may have sent something in this very moment.
            self.read(id);
            if self.clients.get(&id).is_some_and(silent) {
                self.close(id, "stopping");
            }
        }
    }

    fn end_at_once(&self, why: &str) -> ! {
        self.log.event(why);
        self.log_end();
        exit_now(0)
    }

    /// Answers those whose service time is over, and begins with those that waited for a thread.
    fn answer_due(&mut self) {
        while let Some(&id) = self.served.front() {
            let now = self.clock.now();
            match self.clients.get(&id).map(|client| client.stage) {
                Some(Stage::Served { due }) if due > now => break,
                _ => self.served.pop_front(),
            };
            self.answer(id, now);
            if let Some(next) = self.waiting.pop_front() {
                self.serve(next);
            }
        }
    }

    fn answer(&mut self, id: u64, now: Stamp) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        let body = format!("served by process {}\n", getpid());
        match client.answer(Status::OK, &body, now) {
            Ok(bytes) => {
                self.count.answered += 1;
                let (peer, code) = (client.peer, Status::OK.code());
                self.log.detail(
                    "answered",
                    format_args!("{peer} status={code} bytes={bytes}"),
                );
            }
            Err(error) => {
                let (peer, why) = (client.peer, error.kind());
                self.log.detail("closed", format_args!("{peer} {why}"));
            }
        }
    }

    fn read(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match client.read() {
            Got::Part => {}
            Got::Request => {
                self.count.read += 1;
                let (peer, bytes) = (client.peer, client.received);
                self.log
                    .detail("read", format_args!("{peer} bytes={bytes}"));
                self.take_first_request();
                if self.served.len() < self.config.threads {
                    self.serve(id);
                } else {
                    self.wait_for_thread(id);
                }
            }
            Got::Refused(status) => self.refuse(id, status),
            Got::End => self.close(id, "by the client"),
            Got::Lost(error) => self.close(id, &error.to_string()),
        }
    }

    fn wait_for_thread(&mut self, id: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.stage = Stage::Waiting;
            self.waiting.push_back(id);
        }
    }

    fn serve(&mut self, id: u64) {
        let now = self.clock.now();
        if self.config.service_time.is_zero() {
            self.answer(id, now);
        } else if let Some(client) = self.clients.get_mut(&id) {
            let due = now + self.config.service_time;
            client.stage = Stage::Served { due };
            self.served.push_back(id);
        }
    }

    /// Tells a client why it is not served, and lets it go.
    fn refuse(&mut self, id: u64, status: Status) {
        let now = self.clock.now();
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let (peer, code) = (client.peer, status.code());
        let _ = client.answer(status, "not served\n", now);
        self.log
            .detail("rejected", format_args!("{peer} status={code}"));
        client.linger(now);
    }

    fn close(&mut self, id: u64, why: &str) {
        if let Some(client) = self.clients.remove(&id) {
            let (peer, bytes) = (client.peer, client.received);
            self.log
                .detail("closed", format_args!("{peer} bytes={bytes} {why}"));
        }
    }

    /// Sends away those whose request does not come.
    fn send_away_idle(&mut self) {
        let now = self.clock.now();
        let overdue: Vec<(u64, Stage, usize)> = self
            .clients
            .iter()
            .filter(|(_, client)| match client.stage {
                Stage::Reading { until } | Stage::Lingering { until } => until <= now,
                Stage::Waiting | Stage::Served { .. } => false,
            })
            .map(|(&id, client)| (id, client.stage, client.received))
            .collect();
        for (id, stage, received) in overdue {
            match stage {
                Stage::Reading { .. } if received > 0 => self.refuse(id, Status::TIMEOUT),
                _ => self.close(id, "idle"),
            }
        }
    }

    fn may_accept(&self) -> bool {
        self.has_room()
            && self
                .accept_again
                .is_none_or(|again| again <= self.clock.now())
    }

    fn has_room(&self) -> bool {
        self.phase.accepts()
            && self.served.len() < self.config.threads
            && self.clients.len() < MAX_CLIENTS
    }

    /// Accepts as long as a thread is free, and begins with whoever has sent a request already.
    fn accept(&mut self) {
        while self.may_accept() {
            let Some(listener) = &self.listener else {
                return;
            };
            match listener.accept() {
                Ok(Some((socket, peer))) => {
                    let id = self.count.accepted;
                    self.count.accepted += 1;
                    self.accept_again = None;
                    self.log.detail("accepted", format_args!("{peer}"));
                    let client = Client::new(socket, peer, self.clock.now());
                    self.clients.insert(id, client);
                    self.read(id);
                }
                Ok(None) => {
                    self.accept_again = None;
                    self.phase.queue_is_empty(self.clients.len());
                    return;
                }
                Err(error) => {
                    self.log.detail("accept_failed", format_args!("{error}"));
                    self.accept_again = Some(self.clock.now() + PAUSE);
                    return;
                }
            }
        }
    }

    /// Behind a filter: finds out whether nobody is left who could still be served.
    fn settle(&mut self) {
        let (Phase::Settling(_), Some(listener)) = (self.phase, &self.listener) else {
            return;
        };
        let busy = !self.clients.is_empty() || matches!(listener.queued(), Ok(1..));
        let half_open = || listener.half_open();
        if let Some(gave_up) = self.phase.settle(self.clock.now(), busy, half_open) {
            let half_open = gave_up.half_open;
            self.log
                .detail("gave_up", format_args!("half_open={half_open}"));
        }
    }

    /// Does to the server what its first request is to do.
    fn take_first_request(&self) {
        if self.config.first_request == FirstRequest::None || !self.first_request.take() {
            return;
        }
        let mut to_signal = Vec::new();
        let signal = match self.config.first_request {
            FirstRequest::None => return,
            FirstRequest::KillSelf => {
                to_signal.push(getpid());
                Signal::SIGKILL
            }
            FirstRequest::TermMaster => {
                to_signal.push(self.master);
                Signal::SIGTERM
            }
            FirstRequest::TermAll => {
                to_signal.push(self.master);
                to_signal.extend(tree::children(self.master));
                Signal::SIGTERM
            }
        };
        for pid in to_signal {
            // Whoever has ended needs no signal.
            let _ = kill(pid, signal);
        }
    }

    fn log_counters(&self, event: &str) {
        let Counters {
            accepted,
            read,
            answered,
        } = self.count;
        self.log.detail(
            event,
            format_args!("accepted={accepted} read={read} answered={answered}"),
        );
    }

    fn log_end(&self) {
        self.log_counters("exit");
    }
}
