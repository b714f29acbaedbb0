//! Puts the events of tracepoints together by connection. They come in the order of their stamps.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;

use super::accepts::{Call, Match};
use super::closing::{Closer, Closing};
use super::course::Course;
use super::listeners::Listeners;
use super::{Lost, Task, Traced, TracedWhat};
use crate::event::{Event, Vantage};
use crate::kernel::lives::{Life, Lives, bare};
use crate::kernel::{Act, Listening, Reset, ResetBy, TcpState, TraceSide};
use crate::time::Stamp;
use crate::wire::Ends;

/// What the tracepoints of a kernel can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Able {
    /// Reads (tcp:tcp_rcv_space_adjust).
    pub reads: bool,
    /// When a listener has been closed (tcp:tcp_destroy_sock, syscalls:sys_exit_shutdown), so that
    /// RSTs of its queue can be told from those of a process that goes on closing.
    pub closings: bool,
}

/// The connections of one server, as tracepoints tell of them.
#[derive(Debug)]
pub struct TraceTable {
    able: Able,
    /// Events are known from here on.
    from: Stamp,
    /// And up to here.
    to: Stamp,
    /// List what was seen of each connection.
    keep: bool,
    connections: Lives<Connection>,
    /// Which client's connection a socket is, while it lives.
    sockets: HashMap<u64, SocketAddr, RandomState>,
    closing: Closing,
    listeners: Listeners,
    lost: Vec<Lost>,
    course: Course,
}

#[derive(Clone, Debug, Default)]
struct Connection {
    /// The server's end: its port is the target's, its address may be another.
    server: Option<SocketAddr>,
    socket: Option<u64>,
    /// Its socket holds the 4-tuple no longer.
    over: bool,
    /// Two sockets had its ends at the same time, in two name spaces: which is which is not told.
    ambiguous: bool,
    side: TraceSide,
    events: Vec<Event>,
}

/// A socket's state changed.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Stamp,
    task: Task,
    ends: Ends,
    socket: u64,
    /// From which to which, as far as this program knows their numbers.
    states: (Option<TcpState>, Option<TcpState>),
}

impl TraceTable {
    /// A table of what such tracepoints see from `from` on of connections to `target`'s port. With
    /// `keep` what was seen of each is listed.
    pub fn new(able: Able, target: SocketAddr, from: Stamp, keep: bool) -> TraceTable {
        TraceTable {
            able,
            from,
            to: from,
            keep,
            connections: Lives::default(),
            sockets: HashMap::default(),
            closing: Closing::default(),
            listeners: Listeners::of(target),
            lost: Vec::new(),
            course: Course::default(),
        }
    }

    /// What listened on the target's port at `since`. With `count` the accepts of everybody who can
    /// take connections from there are seen.
    pub fn listen(&mut self, listeners: &[Listening], count: bool, since: Stamp) {
        self.listeners.learn(listeners, count, since);
    }

    /// Everything that was seen before `to` was handed in.
    pub fn advance(&mut self, to: Stamp) {
        self.to = self.to.max(to);
    }

    /// Whether everything is known that happened until `at`.
    pub fn knows(&self, at: Stamp) -> bool {
        self.to > at
    }

    /// Events were lost.
    pub fn lose(&mut self, lost: Lost) {
        self.lost.push(lost);
        self.listeners.lose_count();
    }

    /// What the server did as a whole.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// Gives away what is known of a connection between these ends, and what was seen of it.
    pub fn take(&mut self, ends: Ends, life: Life) -> Option<(TraceSide, Vec<Event>)> {
        let server = Some(bare(ends.server));
        let its = |known: &Connection| known.server == server;
        let known = self.connections.take(ends.client, life, its)?;
        if known.ambiguous {
            return None;
        }
        let overlaps = |lost: &Lost| lost.from <= life.closed && lost.to >= life.opened;
        let mut side = known.side;
        side.whole = self.able.reads
            && self.from <= life.opened
            && self.knows(life.end)
            && !self.lost.iter().any(overlaps);
        Some((side, known.events))
    }

    /// Lets go of connections of which nothing was seen since `at`.
    pub fn forget(&mut self, at: Stamp) {
        self.connections.forget(at);
    }

    /// Takes an event; returns it as one of the run, where it is one and worth listing.
    pub fn push(&mut self, event: &Traced) -> Option<Event> {
        let Traced { at, task, ref what } = *event;
        self.closing.look(task);
        let event = |event, detail: Option<String>| traced(at, task, event, detail);
        match what {
            TracedWhat::State {
                ends,
                socket,
                from,
                to,
            } => {
                let change = Change {
                    at,
                    task,
                    ends: *ends,
                    socket: *socket,
                    states: (*from, *to),
                };
                if ends.client.port() == 0 {
                    return self.listener_state(&change);
                }
                self.state(&change);
            }
            TracedWhat::Read { ends, socket } => {
                self.closing.end(task.tid);
                self.list(*ends, Some(*socket), || event("read", None));
                let act = Act { at, pid: task.pid };
                self.used(*ends, *socket, act, |side| &mut side.read);
            }
            TracedWhat::ResetSent {
                ends,
                socket,
                state,
                reason,
            } => {
                let from = (*socket, *state);
                return self.reset_sent(at, task, *ends, from, reason.as_deref());
            }
            TracedWhat::ResetReceived { ends, socket } => {
                self.list(*ends, Some(*socket), || event("reset_received", None));
            }
            TracedWhat::Retransmitted { ends } => {
                self.list(*ends, None, || event("retransmit", None));
            }
            TracedWhat::Destroyed { socket } => {
                self.sockets.remove(socket);
                self.closing.let_go(*socket);
            }
            TracedWhat::Accepted {
                listener, entered, ..
            } => {
                let call = Call {
                    entered: *entered,
                    returned: Act { at, pid: task.pid },
                };
                self.accepted(call, *listener, || event("accepted", None));
            }
            TracedWhat::ShutDown => {
                self.closing.end(task.tid);
            }
            TracedWhat::Signalled { signal } => {
                self.course.signalled(Act { at, pid: task.pid }, signal);
                return Some(event("signal_delivered", Some(signal.to_string())));
            }
            TracedWhat::Exited => {
                self.closing.end(task.tid);
                self.course.exited(Act { at, pid: task.pid });
                return Some(event("exit", None));
            }
        }
        None
    }

    fn listener_state(&mut self, change: &Change) -> Option<Event> {
        let Change { at, task, ends, .. } = *change;
        if !self.listeners.may_be(ends.server.ip()) {
            return None;
        }
        let act = Act { at, pid: task.pid };
        match change.states {
            (Some(TcpState::Listen), Some(_)) if !task.softirq => {
                self.closing.begin(task.tid, change.socket);
                self.course.listener_closed = Some(act);
                Some(traced(at, task, "listener_closed", None))
            }
            (_, Some(TcpState::Listen)) => {
                self.listeners.forget();
                self.course.listening.get_or_insert(act);
                Some(traced(at, task, "listening", None))
            }
            _ => None,
        }
    }

    fn state(&mut self, change: &Change) {
        use TcpState::{Close, CloseWait, Established, Listen, SynRecv, TimeWait};
        let Change {
            at,
            task,
            ends,
            socket,
            states,
        } = *change;
        match states {
            (Some(Listen), Some(SynRecv)) => self.begin(ends, socket, at),
            (_, Some(Established)) => {
                if self.listeners.serve(ends.server.ip()) {
                    self.course.established();
                }
                self.list(ends, Some(socket), || traced(at, task, "established", None));
                if let Some(known) = self.known(ends, socket, at) {
                    known.side.established.get_or_insert(at);
                    self.listeners.established(ends.server.ip(), socket, at);
                }
            }
            // Out of the states in which a process may hold it open.
            (Some(Established | CloseWait), Some(to))
                if to != CloseWait
                    && self.closing.closer(task, self.able.closings) == Closer::Owner =>
            {
                self.list(ends, Some(socket), || traced(at, task, "closed", None));
                let act = Act { at, pid: task.pid };
                self.used(ends, socket, act, |side| &mut side.closed);
            }
            _ => {}
        }
        if let (_, Some(Close | TimeWait)) = states
            && let Some(known) = self.known(ends, socket, at)
        {
            known.over = true;
        }
    }

    /// A connection gets a socket of its own.
    fn begin(&mut self, ends: Ends, socket: u64, at: Stamp) {
        let server = Some(bare(ends.server));
        let lives = |known: &Connection| {
            let socket = known.socket.as_ref();
            let held = socket.is_some_and(|socket| self.sockets.contains_key(socket));
            known.server == server && held && !known.over
        };
        let shared = self.connections.find(ends.client, at, lives);
        let ambiguous = shared.map(|other| other.ambiguous = true).is_some();
        // What was seen of it before it had a socket.
        let early = |known: &Connection| known.server == server && known.socket.is_none();
        let early = self.connections.find(ends.client, at, early);
        let known = match early {
            Some(known) if known.side.reset.is_none() => known,
            Some(_) | None => self.connections.begin(ends.client, at),
        };
        known.server = server;
        known.socket = Some(socket);
        known.ambiguous = ambiguous;
        self.sockets.insert(socket, ends.client);
    }

    /// A process used a connection: what was seen of that first is kept.
    fn used(
        &mut self,
        ends: Ends,
        socket: u64,
        act: Act,
        which: impl Fn(&mut TraceSide) -> &mut Option<Act>,
    ) {
        let Some(known) = self.known(ends, socket, act.at) else {
            return;
        };
        which(&mut known.side).get_or_insert(act);
        for one in self.listeners.used(socket, act) {
            self.set_accepted(one);
        }
    }

    fn reset_sent(
        &mut self,
        at: Stamp,
        task: Task,
        ends: Ends,
        (socket, state): (Option<u64>, Option<TcpState>),
        reason: Option<&str>,
    ) -> Option<Event> {
        let event = || traced(at, task, "reset_sent", reason.map(str::to_owned));
        if ends.client.port() == 0 {
            // An overflowing listener's: it does not say to whom.
            return Some(event());
        }
        let closer = match socket {
            Some(_) => self.closing.closer(task, self.able.closings),
            None => Closer::Outside,
        };
        // What rests in TIME-WAIT is another socket of the same connection.
        let any = socket.is_none() || state == Some(TcpState::TimeWait);
        let server = Some(bare(ends.server));
        let is_its = |known: &Connection| known.server == server && (any || known.socket == socket);
        let alive = &self.sockets;
        let known = match self.connections.find(ends.client, at, is_its) {
            Some(known) => known,
            None => self.connections.begin(ends.client, at),
        };
        known.server = server;
        if self.keep {
            known.events.push(event());
        }
        let has_socket = known
            .socket
            .is_some_and(|own| alive.contains_key(&own) && !known.over);
        if socket.is_none() && has_socket {
            // Somebody else's, who has the same ends in another name space.
            return None;
        }
        let by = match closer {
            // A process that discards what it has not read says so, whatever it closed before.
            Closer::Queue
                if known.side.accepted.is_some() || reason == Some("TCP_ABORT_ON_CLOSE") =>
            {
                ResetBy::Process
            }
            Closer::Queue => ResetBy::Listener,
            Closer::Owner => ResetBy::Process,
            Closer::Outside | Closer::Unclear => ResetBy::Kernel,
        };
        known.side.reset.get_or_insert(Reset {
            at,
            by,
            pid: task.pid.filter(|_| by != ResetBy::Kernel),
            reason: reason.map(Box::from),
        });
        if by == ResetBy::Listener {
            self.course.queue_reset.get_or_insert(at);
            socket
                .iter()
                .for_each(|&socket| self.listeners.reset(socket));
        }
        None
    }

    fn accepted(&mut self, call: Call, listener: Option<u64>, event: impl FnOnce() -> Event) {
        let Some(matched) = self.listeners.accepted(listener, call) else {
            return;
        };
        self.course.accepted(call.returned);
        if let Some(one) = matched {
            self.set_accepted(one);
            if self.keep
                && let Some(known) = self.by_socket(one.0)
            {
                known.events.push(event());
            }
        }
    }

    fn set_accepted(&mut self, (socket, act): Match) {
        if let Some(known) = self.by_socket(socket) {
            known.side.accepted = act;
        }
    }

    fn by_socket(&mut self, socket: u64) -> Option<&mut Connection> {
        let client = *self.sockets.get(&socket)?;
        let is_its = |known: &Connection| known.socket == Some(socket);
        self.connections.find(client, Stamp(i64::MIN), is_its)
    }

    fn known(&mut self, ends: Ends, socket: u64, at: Stamp) -> Option<&mut Connection> {
        let is_its = |known: &Connection| known.socket == Some(socket);
        self.connections.find(ends.client, at, is_its)
    }

    /// Lists what was seen of a socket, or of whatever is between these ends.
    fn list(&mut self, ends: Ends, socket: Option<u64>, event: impl FnOnce() -> Event) {
        if !self.keep {
            return;
        }
        let event = event();
        let server = Some(bare(ends.server));
        let is_its = |known: &Connection| {
            known.server == server && (socket.is_none() || known.socket == socket)
        };
        if let Some(known) = self.connections.find(ends.client, event.at, is_its) {
            known.events.push(event);
        }
    }
}

/// Seen by a tracepoint. What the kernel did in a softirq has no process.
fn traced(at: Stamp, task: Task, event: &'static str, detail: Option<String>) -> Event {
    let thread = (!task.softirq).then(|| {
        let comm = task.comm.map(|comm| format!(" comm={comm}"));
        format!("tid={}{}", task.tid, comm.unwrap_or_default())
    });
    let words: Vec<String> = detail.into_iter().chain(thread).collect();
    Event {
        at,
        vantage: Vantage::Trace,
        event,
        pid: task.pid.filter(|_| !task.softirq),
        detail: (!words.is_empty()).then(|| words.join(" ")),
    }
}

#[cfg(test)]
mod tests;
