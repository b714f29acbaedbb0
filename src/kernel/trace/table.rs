//! Puts the events of tracepoints together by connection. They come in the order of their stamps.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;

use super::accepts::{Accepts, Call, Match};
use super::course::Course;
use super::{Lost, Task, Traced, TracedWhat};
use crate::event::{Event, Vantage};
use crate::kernel::lives::{Life, Lives};
use crate::kernel::{Act, Reset, ResetBy, TcpState, TraceSide};
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
    /// Tasks that are closing a listener, and the listener's socket.
    closing: HashMap<i32, u64>,
    /// Inodes of the sockets that listen on the target's port; none where they are not known.
    listeners: Vec<u64>,
    accepts: Option<CountedQueue>,
    lost: Vec<Lost>,
    course: Course,
}

/// The queue of the only listener, which is known to have been empty once.
#[derive(Debug)]
struct CountedQueue {
    /// It is counted from then on.
    since: Stamp,
    accepts: Accepts,
}

#[derive(Clone, Debug, Default)]
struct Connection {
    socket: Option<u64>,
    /// Two sockets had its ends at the same time, in two name spaces: which is which is not told.
    ambiguous: bool,
    side: TraceSide,
    events: Vec<Event>,
}

impl TraceTable {
    /// A table of what such tracepoints see from `from` on. With `keep` what was seen of each
    /// connection is listed.
    pub fn new(able: Able, from: Stamp, keep: bool) -> TraceTable {
        TraceTable {
            able,
            from,
            to: from,
            keep,
            connections: Lives::default(),
            sockets: HashMap::default(),
            closing: HashMap::default(),
            listeners: Vec::new(),
            accepts: None,
            lost: Vec::new(),
            course: Course::default(),
        }
    }

    /// What listened on the target's port at `since`, by inode and length of its queue. Of a single
    /// empty queue it can be counted which accept() takes which connection.
    pub fn listen(&mut self, listeners: &[(u64, u32)], since: Stamp) {
        self.listeners = listeners.iter().map(|&(inode, _)| inode).collect();
        self.accepts = matches!(listeners, [(_, 0)]).then(|| CountedQueue {
            since,
            accepts: Accepts::default(),
        });
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
        self.accepts = None;
    }

    /// What the server did as a whole.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// Gives away what is known of a connection that `client` had, and what was seen of it.
    pub fn take(&mut self, client: SocketAddr, life: Life) -> Option<(TraceSide, Vec<Event>)> {
        let known = self.connections.take(client, life)?;
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
        let event = |event, detail: Option<String>| traced(at, task, event, detail);
        match what {
            TracedWhat::State {
                ends,
                socket,
                from,
                to,
            } => {
                if ends.client.port() == 0 {
                    return self.listener_state(at, task, *socket, (*from, *to));
                }
                self.state(at, task, *ends, *socket, (*from, *to));
            }
            TracedWhat::Read { ends, socket } => {
                self.closing.remove(&task.tid);
                let act = Act { at, pid: task.pid };
                self.used(*ends, *socket, event("read", None), act, |side| {
                    &mut side.read
                });
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
                self.closing.retain(|_, listener| listener != socket);
            }
            TracedWhat::Accepted {
                listener, entered, ..
            } => {
                let call = Call {
                    entered: *entered,
                    returned: Act { at, pid: task.pid },
                };
                self.accepted(call, *listener, event("accepted", None));
            }
            TracedWhat::ShutDown => {
                self.closing.remove(&task.tid);
            }
            TracedWhat::Signalled { signal } => {
                self.course.signalled(Act { at, pid: task.pid }, signal);
                return Some(event("signal_delivered", Some(signal.to_string())));
            }
            TracedWhat::Exited => {
                self.closing.remove(&task.tid);
                self.course.exited(Act { at, pid: task.pid });
                return Some(event("exit", None));
            }
        }
        None
    }

    fn listener_state(
        &mut self,
        at: Stamp,
        task: Task,
        socket: u64,
        change: (Option<TcpState>, Option<TcpState>),
    ) -> Option<Event> {
        match change {
            (Some(TcpState::Listen), Some(_)) if !task.softirq => {
                self.closing.insert(task.tid, socket);
                self.course.listener_closed = Some(Act { at, pid: task.pid });
                Some(traced(at, task, "listener_closed", None))
            }
            (_, Some(TcpState::Listen)) => Some(traced(at, task, "listening", None)),
            _ => None,
        }
    }

    fn state(
        &mut self,
        at: Stamp,
        task: Task,
        ends: Ends,
        socket: u64,
        change: (Option<TcpState>, Option<TcpState>),
    ) {
        use TcpState::{CloseWait, Established, Listen, SynRecv};
        match change {
            (Some(Listen), Some(SynRecv)) => self.begin(ends, socket, at),
            (_, Some(Established)) => {
                self.course.established();
                self.list(ends, Some(socket), || traced(at, task, "established", None));
                if let Some(known) = self.known(ends, socket, at) {
                    known.side.established.get_or_insert(at);
                    if let Some(counted) = &mut self.accepts
                        && at > counted.since
                    {
                        counted.accepts.established(socket, at);
                    }
                }
            }
            // Out of the states in which a process may hold it open.
            (Some(Established | CloseWait), Some(to))
                if to != CloseWait && !task.softirq && !self.closing.contains_key(&task.tid) =>
            {
                let event = traced(at, task, "closed", None);
                let act = Act { at, pid: task.pid };
                self.used(ends, socket, event, act, |side| &mut side.closed);
            }
            _ => {}
        }
    }

    /// A connection gets a socket of its own.
    fn begin(&mut self, ends: Ends, socket: u64, at: Stamp) {
        let lives = |known: &Connection| {
            let socket = known.socket.as_ref();
            socket.is_some_and(|socket| self.sockets.contains_key(socket))
        };
        let shared = self.connections.find(ends.client, at, lives);
        let ambiguous = shared.map(|other| other.ambiguous = true).is_some();
        // What was seen of it before it had a socket.
        let early = self
            .connections
            .find(ends.client, at, |known| known.socket.is_none());
        let known = match early {
            Some(known) if known.side.reset.is_none() => known,
            Some(_) | None => self.connections.begin(ends.client, at),
        };
        known.socket = Some(socket);
        known.ambiguous = ambiguous;
        self.sockets.insert(socket, ends.client);
    }

    /// A process used a connection: what was seen of that first is kept.
    fn used(
        &mut self,
        ends: Ends,
        socket: u64,
        event: Event,
        act: Act,
        which: impl Fn(&mut TraceSide) -> &mut Option<Act>,
    ) {
        self.list(ends, Some(socket), || event);
        let Some(known) = self.known(ends, socket, act.at) else {
            return;
        };
        which(&mut known.side).get_or_insert(act);
        if let Some(counted) = &mut self.accepts {
            for one in counted.accepts.used(socket, act) {
                self.set_accepted(one);
            }
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
        let by = if task.softirq || socket.is_none() {
            ResetBy::Kernel
        } else if !self.closing.contains_key(&task.tid) {
            ResetBy::Process
        } else if self.able.closings {
            ResetBy::Listener
        } else {
            // Perhaps the listener's queue, perhaps what the task went on to close.
            ResetBy::Kernel
        };
        let event = traced(at, task, "reset_sent", reason.map(str::to_owned));
        if ends.client.port() == 0 {
            // An overflowing listener's: it does not say to whom.
            return Some(event);
        }
        if by == ResetBy::Listener {
            self.course.queue_reset.get_or_insert(at);
        }
        if let (Some(counted), Some(socket)) = (&mut self.accepts, socket)
            && by != ResetBy::Process
        {
            counted.accepts.reset(socket);
        }
        let reset = Reset {
            at,
            by,
            pid: task.pid.filter(|_| by != ResetBy::Kernel),
            reason: reason.map(Box::from),
        };
        let keep = self.keep;
        // What rests in TIME-WAIT is another socket of the same connection.
        let any = socket.is_none() || state == Some(TcpState::TimeWait);
        let is_its = |known: &Connection| any || known.socket == socket;
        let known = match self.connections.find(ends.client, at, is_its) {
            Some(known) => known,
            None => self.connections.begin(ends.client, at),
        };
        known.side.reset.get_or_insert(reset);
        if keep {
            known.events.push(event);
        }
        None
    }

    fn accepted(&mut self, call: Call, listener: Option<u64>, event: Event) {
        let ours = listener.map(|listener| self.listeners.contains(&listener));
        let elsewhere = ours == Some(false) && !self.listeners.is_empty();
        if elsewhere {
            return;
        }
        self.course.accepted(call.returned);
        let Some(counted) = &mut self.accepts else {
            return;
        };
        if ours.is_none() {
            // Perhaps from this listener, perhaps not.
            counted.accepts.lose_count();
        }
        if call.returned.at > counted.since
            && let Some(one) = counted.accepts.accepted(call)
        {
            self.set_accepted(one);
            if self.keep
                && let Some(known) = self.by_socket(one.0)
            {
                known.events.push(event);
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
        let is_its = |known: &Connection| socket.is_none() || known.socket == socket;
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
