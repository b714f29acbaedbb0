//! What the server did as a whole: who got signals, who accepted last, who closed the listener, who
//! ended.

use std::collections::BTreeMap;

use crate::kernel::Act;
use crate::time::Stamp;

/// Signals and exits listed at most: a server that is signalled, or forks, all the time does not fill
/// memory.
const MOST: usize = 1_000;

/// What a server did around its signal, as tracepoints tell.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Signals that were delivered, and to which process.
    pub signals: Vec<(Act, Box<str>)>,
    /// What each of its processes took, by process id.
    pub accepted: BTreeMap<i32, Accepted>,
    /// The last close of a listener: every other copy had been closed before.
    pub listener_closed: Option<Act>,
    /// Who began to listen, first, while this was watched.
    pub listening: Option<Act>,
    /// The first connection that was reset in a listener's queue.
    pub queue_reset: Option<Stamp>,
    /// Its processes that ended.
    pub exits: Vec<Act>,
    /// Connections that the kernel took: the handshake was done.
    pub taken: u64,
    /// Those of them that it took after the last accept(), whoever called that.
    pub taken_since_accept: u64,
}

/// What a process took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How many connections.
    pub count: u64,
    /// The last of them.
    pub last: Stamp,
}

impl Course {
    /// When anybody last took a connection.
    pub fn last_accept(&self) -> Option<Stamp> {
        self.accepted.values().map(|by| by.last).max()
    }

    pub(super) fn signalled(&mut self, by: Act, signal: &str) {
        if self.signals.len() < MOST {
            self.signals.push((by, signal.into()));
        }
    }

    pub(super) fn exited(&mut self, process: Act) {
        if self.exits.len() < MOST {
            self.exits.push(process);
        }
    }

    pub(super) fn established(&mut self) {
        self.taken += 1;
        self.taken_since_accept += 1;
    }

    pub(super) fn accepted(&mut self, by: Act) {
        self.taken_since_accept = 0;
        if let Some(pid) = by.pid {
            let of_pid = self.accepted.entry(pid).or_insert(Accepted {
                count: 0,
                last: by.at,
            });
            of_pid.count += 1;
            of_pid.last = by.at;
        }
    }
}
