//! How long the accept queue was, and when.

use crate::time::Stamp;

/// Changes kept at most. The oldest are let go of: what matters of a long run is its end.
const MOST: usize = 100_000;

/// How long the accept queues of a target's listeners were, together.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// When that changed, and to what.
    changes: Vec<(Stamp, Length)>,
    /// The longest.
    pub longest: u32,
    /// How many more than which are refused, as last seen: it holds one more than this.
    pub limit: Option<u32>,
}

/// The length of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many connections wait.
    Queued(u32),
    /// Nobody listens.
    NoListener,
}

impl Queue {
    /// Notes how long it was at `at`; says whether that is another length than before.
    pub(super) fn push(&mut self, at: Stamp, queued: u32, limit: Option<u32>) -> bool {
        let length = match limit {
            Some(_) => Length::Queued(queued),
            None => Length::NoListener,
        };
        self.limit = limit.or(self.limit);
        self.longest = self.longest.max(queued);
        let changed = self.changes.last().is_none_or(|&(_, last)| last != length);
        if changed {
            if self.changes.len() == MOST {
                self.changes.drain(..MOST / 2);
            }
            self.changes.push((at, length));
        }
        changed
    }

    /// How long it was when last looked at before `at`.
    pub fn at(&self, at: Stamp) -> Option<Length> {
        let after = self.changes.partition_point(|&(seen, _)| seen <= at);
        Some(self.changes.get(after.checked_sub(1)?)?.1)
    }

    /// When nobody was found to listen any more.
    pub fn ended(&self) -> Option<Stamp> {
        let (at, length) = self.changes.last()?;
        (*length == Length::NoListener).then_some(*at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_holds_until_another_is_seen() {
        let mut queue = Queue::default();
        assert_eq!(queue.at(Stamp(5)), None);
        assert!(queue.push(Stamp(10), 0, Some(5)));
        assert!(queue.push(Stamp(11), 3, Some(5)));
        assert!(!queue.push(Stamp(12), 3, Some(5)));
        assert!(queue.push(Stamp(20), 0, None));
        assert_eq!(queue.at(Stamp(9)), None);
        assert_eq!(queue.at(Stamp(10)), Some(Length::Queued(0)));
        assert_eq!(queue.at(Stamp(19)), Some(Length::Queued(3)));
        assert_eq!(queue.at(Stamp(99)), Some(Length::NoListener));
        assert_eq!((queue.longest, queue.limit), (3, Some(5)));
        assert_eq!(queue.ended(), Some(Stamp(20)));
    }
}
