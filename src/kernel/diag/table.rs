//! Puts the answers of sock_diag together by connection. They come in the order in which they were
//! asked for.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Counters, Listening, Owner, Poll, Polled, Queue};
use crate::event::{Event, Vantage};
use crate::kernel::history::History;
use crate::kernel::lives::{Life, Lives};
use crate::kernel::{Act, DiagSide, TcpState, Unread};
use crate::time::Stamp;

/// How long after the RST of a process that closes with linger 0 its kernel may take to count that: it
/// sends first (tcp_close()), and the thread may have to wait for its processor in between.
const COUNTED: Duration = Duration::from_millis(20);

/// The connections of one server, as sock_diag tells of them.
#[derive(Debug)]
pub struct DiagTable {
    /// List what was seen of each connection.
    keep: bool,
    connections: Lives<Connection>,
    /// When connections were last asked for.
    asked: Option<Stamp>,
    counters: History<Counters>,
    latest: Option<Counters>,
    /// Whether somebody listened; none where that may not have been for our clients.
    listening: History<Option<bool>>,
    open: History<Open>,
    /// Whether the queue of any listener was full.
    full: History<bool>,
    queue: Queue,
}

/// Which sockets listened.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    /// Sorted.
    inodes: Vec<u64>,
    /// They listen on all addresses: nobody listened on the target's own, or they would not be shown.
    on_all: bool,
}

impl Open {
    fn new(listeners: &[Listening]) -> Open {
        let mut inodes: Vec<u64> = listeners.iter().map(|one| one.inode).collect();
        inodes.sort_unstable();
        let on_all = |one: &Listening| one.local.ip().is_unspecified();
        Open {
            inodes,
            on_all: listeners.iter().any(on_all),
        }
    }

    /// Whether one of these is not among those who listened `later`; none where none did, or where
    /// others may hide it.
    fn lost_any(&self, later: &Open) -> Option<bool> {
        let hidden = self.on_all && !later.on_all && !later.inodes.is_empty();
        if self.inodes.is_empty() || hidden {
            return None;
        }
        let is_there = |inode| later.inodes.binary_search(inode).is_ok();
        Some(!self.inodes.iter().all(is_there))
    }
}

#[derive(Clone, Debug, Default)]
struct Connection {
    side: DiagSide,
    /// Which socket that is: one 4-tuple may be another connection in the next answer.
    cookie: u64,
    /// The last question to which it was found.
    found: Option<Stamp>,
    /// The counters when it was last found in the accept queue, or before.
    counters: Option<Counters>,
    /// When the answer was given that last found it in the accept queue, if that had the listeners.
    queued_with_listeners: Option<Stamp>,
    events: Vec<Event>,
}

impl DiagTable {
    /// An empty table. With `keep` what was seen of each connection is listed.
    pub fn new(keep: bool) -> DiagTable {
        DiagTable {
            keep,
            connections: Lives::default(),
            asked: None,
            counters: History::default(),
            latest: None,
            listening: History::default(),
            open: History::default(),
            full: History::default(),
            queue: Queue::default(),
        }
    }

    /// Whether all was asked for that can be told of a connection that ended at `end`.
    pub fn knows(&self, end: Stamp) -> bool {
        self.asked.is_some_and(|asked| asked >= end + COUNTED)
    }

    /// How long the listeners' queues were.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Takes the answers to a round of questions; returns what changed of the listeners.
    pub fn push(&mut self, poll: &Poll) -> Option<Event> {
        let Poll {
            asked, answered, ..
        } = *poll;
        if let Some(counters) = poll.counters {
            self.counters.push(asked, answered, counters);
            self.latest = Some(counters);
        }
        let listeners = poll.listeners.as_deref();
        let changed = listeners.and_then(|listeners| self.listeners(asked, answered, listeners));
        if let Some(connections) = &poll.connections {
            self.asked = Some(asked);
            let with_listeners = listeners.map(|_| answered);
            for polled in connections {
                self.connection((asked, answered), with_listeners, polled);
            }
        }
        changed
    }

    fn listeners(
        &mut self,
        asked: Stamp,
        answered: Stamp,
        listeners: &[Listening],
    ) -> Option<Event> {
        let for_anybody = listeners.iter().any(|one| !one.bound);
        let listening = (for_anybody || listeners.is_empty()).then_some(for_anybody);
        self.listening.push(asked, answered, listening);
        self.open.push(asked, answered, Open::new(listeners));
        // As the kernel has it (sk_acceptq_is_full()).
        let full = listeners.iter().any(|one| one.queued > one.limit);
        self.full.push(asked, answered, full);
        let queued = listeners.iter().map(|one| one.queued).sum();
        let limit = listeners.iter().map(|one| one.limit).max();
        let changed = self.queue.push(answered, queued, limit);
        let detail = match limit {
            Some(limit) => format!("queued={queued} limit={limit}"),
            None => "nobody listens".to_owned(),
        };
        changed.then(|| seen(answered, "listener", None, detail))
    }

    fn connection(
        &mut self,
        (asked, answered): (Stamp, Stamp),
        with_listeners: Option<Stamp>,
        polled: &Polled,
    ) {
        use TcpState::{CloseWait, Established, NewSynRecv, SynRecv};
        let Polled { client, cookie, .. } = *polled;
        let is_it = |known: &Connection| known.cookie == cookie;
        let known = match self.connections.find(client, asked, is_it) {
            Some(known) => known,
            None => self.connections.begin_within(client, asked, answered),
        };
        known.cookie = cookie;
        known.found = Some(asked);
        let side = &mut known.side;
        let event = match (polled.state, polled.owner) {
            (_, Owner::File { pid, .. }) => {
                let act = Act { at: answered, pid };
                if let Established | CloseWait = polled.state {
                    side.unread = Some(Unread {
                        asked,
                        answered,
                        bytes: polled.unread,
                    });
                }
                let first = side.owned.is_none();
                side.owned.get_or_insert(act);
                first.then_some("owned")
            }
            (SynRecv | NewSynRecv, Owner::Nobody) => {
                let first = side.half_open.is_none();
                side.half_open = Some(asked);
                first.then_some("half_open")
            }
            (Established | CloseWait, Owner::Nobody) => {
                let first = side.queued.is_none();
                side.queued = Some(asked);
                known.counters = self.latest;
                known.queued_with_listeners = with_listeners;
                first.then_some("queued")
            }
            // Closed by its process, it has nobody again.
            (_, Owner::Nobody) => None,
        };
        if let Some(event) = event.filter(|_| self.keep) {
            let pid = side.owned.and_then(|owned| owned.pid);
            let detail = format!("unread={}", polled.unread);
            known.events.push(seen(answered, event, pid, detail));
        }
    }

    /// Gives away what is known of a connection that `client` had, and what was seen of it. Of one
    /// that was never found it is known whether somebody listened.
    pub fn take(&mut self, client: SocketAddr, life: Life) -> (DiagSide, Vec<Event>) {
        let known = self
            .connections
            .take(client, life, |_| true)
            .unwrap_or_default();
        let mut side = known.side;
        side.listening = self.listening.at(life.opened).copied().flatten();
        side.listening_at_end = self.listening.at(life.end).copied().flatten();
        side.listener_closed = self.lost_listener(known.queued_with_listeners, life.end);
        side.full = self.full.any(life.opened, life.end, |&full| full);
        let before = self.counters.by(life.opened);
        side.overflowed = self.moved(before, life.end, |counters| counters.listen_overflows);
        side.aborts = self.moved(known.counters.as_ref(), life.end, |counters| {
            Some(counters.abort_on_close? + counters.abort_on_data?)
        });
        let outlived = known.found.map(|found| found >= life.end);
        side.outlived = outlived.filter(|_| self.knows(life.end));
        (side, known.events)
    }

    /// Whether a listener that the answer given at `queued` had is missing from the first after `end`.
    fn lost_listener(&self, queued: Option<Stamp>, end: Stamp) -> Option<bool> {
        self.open.by(queued?)?.lost_any(self.open.from(end)?)
    }

    /// Whether a counter moved between that answer and the first in which it counts what happened
    /// until `end`.
    fn moved(
        &self,
        before: Option<&Counters>,
        end: Stamp,
        counter: impl Fn(&Counters) -> Option<u64>,
    ) -> Option<bool> {
        let before = counter(before?)?;
        let after = counter(self.counters.from(end + COUNTED)?)?;
        Some(after != before)
    }

    /// Lets go of connections of which nothing was seen since `at`, and of what was answered before.
    pub fn forget(&mut self, at: Stamp) {
        self.connections.forget(at);
        self.counters.forget(at);
        self.listening.forget(at);
        self.open.forget(at);
        self.full.forget(at);
    }
}

/// Seen by sock_diag.
fn seen(at: Stamp, event: &'static str, pid: Option<i32>, detail: String) -> Event {
    Event {
        at,
        vantage: Vantage::Diag,
        event,
        pid,
        detail: Some(detail),
    }
}

#[cfg(test)]
mod tests;
