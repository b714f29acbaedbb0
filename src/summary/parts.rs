//! The server's part in an outcome, counted: what it did, and which of its processes.

use std::collections::BTreeMap;

use crate::cause::Cause;
use crate::kernel::ResetBy;
use crate::record::Record;

/// Processes counted for one part; further ones are counted together.
const MAX_PIDS: usize = 64;

/// What the server did to connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Its part.
    pub cause: Cause,
    /// What fits where it is unknown.
    pub candidates: Vec<Cause>,
    /// How its RST came about.
    pub reset_by: Option<ResetBy>,
    /// Why, in the kernel's words.
    pub reset_reason: Option<Box<str>>,
}

/// How often, and who.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Connections.
    pub count: u64,
    /// Those whose process is known, by process: who closed them, or had them.
    pub pids: BTreeMap<i32, u64>,
}

/// Parts by how often they were played.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    by_part: BTreeMap<Part, Share>,
}

impl Parts {
    pub(super) fn add(&mut self, record: &Record) {
        let Some(cause) = record.cause else {
            return;
        };
        let part = Part {
            cause,
            candidates: record.candidates.clone(),
            reset_by: record.reset_by,
            reset_reason: record.reset_reason.clone(),
        };
        let pid = record.reset_pid.or(record.server_pid);
        self.by_part.entry(part).or_default().add(1, pid);
    }

    pub(super) fn merge(&mut self, other: &Parts) {
        for (part, share) in &other.by_part {
            let ours = self.by_part.entry(part.clone()).or_default();
            let named: u64 = share.pids.values().sum();
            for (&pid, &count) in &share.pids {
                ours.add(count, Some(pid));
            }
            ours.add(share.count.saturating_sub(named), None);
        }
    }

    /// Connections of whose part more than one thing is possible, or none that is known.
    pub fn unknown(&self) -> u64 {
        let unknown = self.by_part.iter();
        let unknown = unknown.filter(|(part, _)| part.cause == Cause::Unknown);
        unknown.map(|(_, share)| share.count).sum()
    }

    /// The commonest first.
    pub fn ranked(&self) -> Vec<(&Part, &Share)> {
        let mut parts: Vec<_> = self.by_part.iter().collect();
        parts.sort_by_key(|(_, share)| std::cmp::Reverse(share.count));
        parts
    }
}

impl Share {
    fn add(&mut self, count: u64, pid: Option<i32>) {
        self.count += count;
        let Some(pid) = pid else {
            return;
        };
        if self.pids.contains_key(&pid) || self.pids.len() < MAX_PIDS {
            *self.pids.entry(pid).or_default() += count;
        }
    }
}
