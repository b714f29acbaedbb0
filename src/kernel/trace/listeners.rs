//! The target's listeners: whether a connection is one of theirs, and which accept() took which.

use std::net::{IpAddr, SocketAddr};

use super::accepts::{Accepts, Call, Match};
use crate::kernel::{Act, Listening};
use crate::time::Stamp;

/// What is known of the sockets that listen on the target's port.
#[derive(Debug)]
pub(super) struct Listeners {
    /// The target's address, as far as no more is known.
    target: IpAddr,
    known: Vec<Listening>,
    /// The queue of the only one, which is known to have been empty once.
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    /// It is counted from then on.
    since: Stamp,
    accepts: Accepts,
}

impl Listeners {
    /// Nothing is known but the address that clients connect to.
    pub(super) fn of(target: SocketAddr) -> Listeners {
        Listeners {
            target: target.ip(),
            known: Vec::new(),
            counted: None,
        }
    }

    /// These listen. With `count` nobody but processes whose accept() is seen can take from them: from
    /// an empty queue of a single one on it can be counted which accept() takes which connection.
    pub(super) fn learn(&mut self, listeners: &[Listening], count: bool, since: Stamp) {
        self.known = listeners.to_vec();
        let alone = matches!(listeners, [only] if only.queued == 0);
        self.counted = (alone && count).then(|| Counted {
            since,
            accepts: Accepts::default(),
        });
    }

    /// Others listen now than were known.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.counted = None;
    }

    /// Nothing can be counted any more.
    pub(super) fn lose_count(&mut self) {
        self.counted = None;
    }

    /// Whether one of them is, or would be, reached at that address of the server's.
    pub(super) fn serve(&self, server: IpAddr) -> bool {
        if self.known.is_empty() {
            return server == self.target;
        }
        let serves = |one: &Listening| match one.local.ip() {
            IpAddr::V4(any) if any.is_unspecified() => server.is_ipv4(),
            // It may take IPv4 clients as well.
            IpAddr::V6(any) if any.is_unspecified() => true,
            ip => ip.to_canonical() == server,
        };
        self.known.iter().any(serves)
    }

    /// Whether a socket that listens at `local`, of which no more is known, may be one of them.
    pub(super) fn may_be(&self, local: IpAddr) -> bool {
        local.is_unspecified() || local == self.target || self.serve(local)
    }

    /// A connection to that address of the server's joins the queue.
    pub(super) fn established(&mut self, server: IpAddr, socket: u64, at: Stamp) {
        let ours = self.serve(server);
        if let Some(counted) = self.counted.as_mut().filter(|c| ours && at > c.since) {
            counted.accepts.established(socket, at);
        }
    }

    /// An accept() on `listener` returned: whether that may be one of these, and which connection it
    /// took, where that can be told.
    pub(super) fn accepted(&mut self, listener: Option<u64>, call: Call) -> Option<Option<Match>> {
        let is_known = |inode| self.known.iter().any(|one| one.inode == inode);
        if !self.known.is_empty() && listener.is_some_and(|inode| !is_known(inode)) {
            return None;
        }
        let Some(counted) = &mut self.counted else {
            return Some(None);
        };
        if listener.is_none() {
            // Perhaps from this one, perhaps not.
            counted.accepts.lose_count();
        }
        let counts = call.returned.at > counted.since;
        Some(counts.then(|| counted.accepts.accepted(call)).flatten())
    }

    /// A process read from a connection, or closed it: which accepts that puts right.
    pub(super) fn used(&mut self, socket: u64, by: Act) -> Vec<Match> {
        let counted = self.counted.as_mut();
        counted.map_or_else(Vec::new, |counted| counted.accepts.used(socket, by))
    }

    /// A connection leaves the queue with its listener.
    pub(super) fn reset(&mut self, socket: u64) {
        if let Some(counted) = &mut self.counted {
            counted.accepts.reset(socket);
        }
    }
}
