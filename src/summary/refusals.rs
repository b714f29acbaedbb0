//! When the first connection was refused after the server had answered another. Rows come in the order
//! in which connections end, which says nothing of that: a server that hangs is found to have answered
//! long after it began to refuse.

use crate::time::Stamp;

/// Refusals that are told apart at most while none of them is known to be the one.
const MOST: usize = 64;

/// Refusals and answers, in whatever order they become known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// When the first connection was opened that the server answered.
    answered: Option<Stamp>,
    /// Refused connections by when they were opened, each with the earliest end that it stands for. Of
    /// those opened after `answered` there is one at most.
    refused: Vec<(Stamp, Stamp)>,
}

impl Refusals {
    /// The server answered a connection that was opened then.
    pub fn answered(&mut self, opened: Stamp) {
        if self.answered.is_none_or(|answered| opened < answered) {
            self.answered = Some(opened);
            self.fold();
        }
    }

    /// It refused one.
    pub fn refused(&mut self, opened: Stamp, end: Stamp) {
        let at = self.refused.partition_point(|&(other, _)| other <= opened);
        self.refused.insert(at, (opened, end));
        self.fold();
        if self.refused.len() > MOST {
            self.forget_one();
        }
    }

    /// When the first one was refused that was opened after one that was answered.
    pub fn first(&self) -> Option<Stamp> {
        let behind = self.behind();
        self.refused[behind..].iter().map(|&(_, end)| end).min()
    }

    /// Where those begin that were opened after the server had answered.
    fn behind(&self) -> usize {
        let Some(answered) = self.answered else {
            return self.refused.len();
        };
        let before = |&(opened, _): &(Stamp, Stamp)| opened <= answered;
        self.refused.partition_point(before)
    }

    /// An answer that becomes known later and makes a difference is an earlier one, which all of these are
    /// behind as well: one stands for all.
    fn fold(&mut self) {
        let behind = self.behind();
        if let (Some(end), Some(&(opened, _))) = (self.first(), self.refused.get(behind)) {
            self.refused.truncate(behind);
            self.refused.push((opened, end));
        }
    }

    /// Drops the one that follows another most closely, which then stands for both: it made a difference
    /// only to an answer that falls between the two.
    fn forget_one(&mut self) {
        let gaps = self.refused.windows(2).enumerate();
        let closest = gaps.min_by_key(|(_, pair)| pair[1].0.since(pair[0].0));
        if let Some((at, _)) = closest {
            let (_, end) = self.refused.remove(at + 1);
            self.refused[at].1 = self.refused[at].1.min(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first refusal of connections given in the order of their ends: opened, ended, and whether it
    /// was refused or answered.
    fn first(rows: impl IntoIterator<Item = (i64, i64, bool)>) -> Option<i64> {
        let mut refusals = Refusals::default();
        for (opened, end, refused) in rows {
            match refused {
                true => refusals.refused(Stamp(opened), Stamp(end)),
                false => refusals.answered(Stamp(opened)),
            }
            assert!(refusals.refused.len() <= MOST);
        }
        refusals.first().map(|at| at.0)
    }

    #[test]
    fn the_first_refusal_is_found_though_the_one_that_was_answered_ends_last() {
        let refused = (10..20).map(|at| (at, at + 1, true));
        assert_eq!(first(refused.chain([(5, 900, false)])), Some(11));
    }

    #[test]
    fn refusals_before_the_server_answered_anybody_do_not_count() {
        let before = [(1, 2, true), (3, 4, true)];
        assert_eq!(first(before), None);
        let rows = [(9, 10, true), (5, 20, false)];
        assert_eq!(first(before.into_iter().chain(rows)), Some(10));
        // One that was opened earlier still ends last.
        let rows = [(9, 10, true), (5, 20, false), (2, 30, false)];
        assert_eq!(first(before.into_iter().chain(rows)), Some(4));
    }

    #[test]
    fn a_refusal_that_took_long_is_not_the_first_for_being_opened_first() {
        let rows = [(1, 2, false), (5, 6, true), (4, 70, true)];
        assert_eq!(first(rows), Some(6));
    }

    #[test]
    fn a_server_that_comes_up_late_and_stops_is_told_in_constant_memory() {
        // Refused for a second, up at 1,000,000, stopping at 5,000,000; what it answered ends last.
        let down = (0..1_000).map(|n| (n * 1_000, n * 1_000 + 50, true));
        let stopped = (0..1_000).map(|n| (5_000_000 + n * 1_000, 5_000_050 + n * 1_000, true));
        let answered = (0..1_000)
            .rev()
            .map(|n| (1_000_000 + n * 4_000, 9_000_000, false));
        assert_eq!(first(down.chain(stopped).chain(answered)), Some(5_000_050));
    }
}
