//! Which process of the server's tree holds a connection, looked up once for each inode.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::time::Duration;

use nix::unistd::Pid;
use procfs::process::Process as Proc;

use crate::kernel::Owner;
use crate::target::holders::{Holders, holders, masters, sockets};
use crate::target::tree::tree;
use crate::time::Stamp;

/// The tree is looked at again after so long, as a server may have forked since, or at once where
/// nobody known holds a connection.
const REFRESH: Duration = Duration::from_millis(100);
/// A connection is given up on when its holder was not found in so many polls: accept() makes the
/// inode before the process has it among its files, but not for long.
const TRIES: u8 = 3;

/// Who holds which connection.
pub(super) struct Owners {
    roots: Vec<Pid>,
    /// Oldest first: of a connection that several share since a fork, the one that accepted it is
    /// taken to hold it. Its children hold it for a moment whenever it starts a program.
    members: Vec<Pid>,
    looked: Stamp,
    found: HashMap<u64, Finding>,
    /// Processes whose files we may not see.
    closed: BTreeSet<Pid>,
}

#[derive(Clone, Copy)]
enum Finding {
    Held(Pid),
    /// Nobody was found so many times.
    Missed(u8),
}

/// Whose a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListenerOf {
    /// A process of the tree holds it.
    Tree,
    /// None of them does; these do, as far as can be seen.
    Strangers(Holders),
    /// Nobody's that we can see.
    Unseen,
}

impl Owners {
    /// The processes below `master`; without one those that hold the listeners, and those below
    /// them.
    pub(super) fn new(master: Option<Pid>, listeners: &[u64], now: Stamp) -> Owners {
        let mut owners = Owners {
            roots: Vec::new(),
            members: Vec::new(),
            looked: now,
            found: HashMap::new(),
            closed: BTreeSet::new(),
        };
        match master {
            Some(pid) => owners.roots.push(pid),
            None if listeners.is_empty() => {}
            None => owners.roots = masters(&holders(listeners).pids),
        }
        owners.refresh(now);
        owners
    }
    /// A process of the tree whose files we may not see.
    pub(super) fn closed(&self) -> Option<Pid> {
        self.closed.first().copied()
    }

    /// Whose these listeners are.
    pub(super) fn listener_of(&mut self, listeners: &[u64]) -> ListenerOf {
        let members = self.members.clone();
        if members.into_iter().any(|pid| {
            let held = self.files(pid);
            listeners.iter().any(|inode| held.contains(inode))
        }) {
            return ListenerOf::Tree;
        }
        let others = holders(listeners);
        match others.pids.is_empty() {
            true => ListenerOf::Unseen,
            false => ListenerOf::Strangers(others),
        }
    }

    /// Finds out who holds these connections, and forgets those that are not among them any more.
    pub(super) fn look_up(&mut self, inodes: &[u64], now: Stamp) {
        let mut before = std::mem::take(&mut self.found);
        let mut wanted = HashSet::new();
        for &inode in inodes {
            let finding = before.remove(&inode).unwrap_or(Finding::Missed(0));
            self.found.insert(inode, finding);
            if matches!(finding, Finding::Missed(tries) if tries < TRIES) {
                wanted.insert(inode);
            }
        }
        if wanted.is_empty() || self.roots.is_empty() {
            return;
        }
        let is_fresh = now < self.looked + REFRESH;
        if !is_fresh {
            self.refresh(now);
        }
        self.search(&mut wanted);
        if is_fresh && !wanted.is_empty() {
            self.refresh(now);
            self.search(&mut wanted);
        }
        for inode in wanted {
            if let Some(Finding::Missed(tries)) = self.found.get_mut(&inode) {
                *tries += 1;
            }
        }
    }

    /// Who holds the socket with that inode; to be looked up before.
    pub(super) fn owner(&self, inode: u64) -> Owner {
        if inode == 0 {
            return Owner::Nobody;
        }
        let pid = match self.found.get(&inode) {
            Some(Finding::Held(pid)) => Some(pid.as_raw()),
            Some(Finding::Missed(_)) | None => None,
        };
        Owner::File { inode, pid }
    }

    /// Takes out of `wanted` what a process of the tree holds.
    fn search(&mut self, wanted: &mut HashSet<u64>) {
        for pid in self.members.clone() {
            if wanted.is_empty() {
                return;
            }
            for inode in self.files(pid) {
                if wanted.remove(&inode) {
                    self.found.insert(inode, Finding::Held(pid));
                }
            }
        }
    }

    fn files(&mut self, pid: Pid) -> Vec<u64> {
        match sockets(pid) {
            Ok(inodes) => {
                self.closed.remove(&pid);
                inodes
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::PermissionDenied {
                    self.closed.insert(pid);
                }
                Vec::new()
            }
        }
    }

    /// Looks who is in the tree. Workers that outlive their master stay in it.
    fn refresh(&mut self, now: Stamp) {
        self.looked = now;
        let roots = self.roots.iter().chain(&self.members);
        let pids: BTreeSet<Pid> = roots.flat_map(|&root| tree(root)).collect();
        let mut born: Vec<(u64, Pid)> = pids
            .into_iter()
            .filter_map(|pid| {
                let stat = Proc::new(pid.as_raw()).ok()?.stat().ok()?;
                (stat.state != 'Z').then_some((stat.starttime, pid))
            })
            .collect();
        // Processes of one clock tick go by their number.
        born.sort();
        self.members = born.into_iter().map(|(_, pid)| pid).collect();
    }
}
