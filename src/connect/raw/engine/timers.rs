//! When which connection has something to do. Entries are never taken back: a connection says, when
//! one comes up, whether it still waits for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::Id;
use crate::time::Stamp;

/// A connection's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Due {
    pub(super) at: Stamp,
    pub(super) id: Id,
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        let key = |due: &Due| (due.at, due.id.slot, due.id.generation);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Far entries lie unordered in buckets of about a millisecond, 2^20 ns: only those of the next one
/// are put in order. A million SYNs a second wait for a second each, and nearly none comes to its turn.
const BUCKET_SHIFT: u32 = 20;

#[derive(Debug, Default)]
pub(super) struct Timers {
    /// All that is due in the bucket at hand or before; never empty while `far` holds anything.
    near: BinaryHeap<Reverse<Due>>,
    /// The bucket at hand.
    bucket: i64,
    far: BTreeMap<i64, Vec<Due>>,
}

impl Timers {
    pub(super) fn push(&mut self, due: Due) {
        let bucket = due.at.0 >> BUCKET_SHIFT;
        if self.near.is_empty() && self.far.is_empty() {
            self.bucket = bucket;
        }
        if bucket <= self.bucket {
            self.near.push(Reverse(due));
        } else {
            self.far.entry(bucket).or_default().push(due);
        }
    }

    /// The next entry that is due by `now`.
    pub(super) fn pop(&mut self, now: Stamp) -> Option<Due> {
        let Reverse(first) = self.near.peek()?;
        if first.at > now {
            return None;
        }
        let due = self.near.pop().map(|Reverse(due)| due);
        if self.near.is_empty() {
            self.refill(|_| true);
        }
        due
    }

    /// Drops the first entries, down to one that is kept.
    pub(super) fn tidy(&mut self, mut keeps: impl FnMut(&Due) -> bool) {
        while let Some(Reverse(first)) = self.near.peek() {
            if keeps(first) {
                return;
            }
            self.near.pop();
            if self.near.is_empty() {
                self.refill(&mut keeps);
            }
        }
    }

    pub(super) fn next(&self) -> Option<Stamp> {
        self.near.peek().map(|Reverse(due)| due.at)
    }

    fn refill(&mut self, mut keeps: impl FnMut(&Due) -> bool) {
        while self.near.is_empty()
            && let Some((bucket, mut entries)) = self.far.pop_first()
        {
            self.bucket = bucket;
            entries.retain(&mut keeps);
            self.near = entries.into_iter().map(Reverse).collect();
        }
    }
}
