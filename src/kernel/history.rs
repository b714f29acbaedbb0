//! What was answered again and again, as spans in which the answer stayed the same.

use crate::time::Stamp;

/// Answers in the order in which they were asked for. An answer says how things were at some moment
/// between its question and itself.
#[derive(Clone, Debug)]
pub(super) struct History<T> {
    spans: Vec<Span<T>>,
}

/// Neighbouring answers that are the same.
#[derive(Clone, Debug)]
struct Span<T> {
    /// When the first of them had been answered.
    known: Stamp,
    /// When the last of them was asked for.
    asked: Stamp,
    value: T,
}

impl<T> Default for History<T> {
    fn default() -> History<T> {
        History { spans: Vec::new() }
    }
}

impl<T: PartialEq> History<T> {
    /// Adds an answer.
    pub(super) fn push(&mut self, asked: Stamp, answered: Stamp, value: T) {
        match self.spans.last_mut() {
            Some(last) if last.value == value => last.asked = asked,
            Some(_) | None => self.spans.push(Span {
                known: answered,
                asked,
                value,
            }),
        }
    }

    /// The last answer that had been given by `at`.
    pub(super) fn by(&self, at: Stamp) -> Option<&T> {
        let after = self.spans.partition_point(|span| span.known <= at);
        Some(&self.spans.get(after.checked_sub(1)?)?.value)
    }

    /// The first answer that was asked for at `at` or later.
    pub(super) fn from(&self, at: Stamp) -> Option<&T> {
        let first = self.spans.partition_point(|span| span.asked < at);
        Some(&self.spans.get(first)?.value)
    }

    /// Whether `is` holds of any answer from the last that had been given by `from` to the first that
    /// was asked for at `to` or later; none where either is missing.
    pub(super) fn any(&self, from: Stamp, to: Stamp, is: impl Fn(&T) -> bool) -> Option<bool> {
        let first = self.spans.partition_point(|span| span.known <= from);
        let first = first.checked_sub(1)?;
        let last = self.spans.partition_point(|span| span.asked < to);
        let spans = self.spans.get(first.min(last)..=first.max(last))?;
        Some(spans.iter().any(|span| is(&span.value)))
    }

    /// How things were at `at`, where the answers on both sides of it agree; a change back and forth
    /// between two questions goes unseen.
    pub(super) fn at(&self, at: Stamp) -> Option<&T> {
        let (by, from) = (self.by(at)?, self.from(at)?);
        (by == from).then_some(by)
    }

    /// Lets go of what was known before `at`, but for the last of it.
    pub(super) fn forget(&mut self, at: Stamp) {
        let after = self.spans.partition_point(|span| span.known <= at);
        self.spans.drain(..after.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked for at each time, answered 5 later.
    fn history(answers: &[(i64, char)]) -> History<char> {
        let mut history = History::default();
        for &(at, value) in answers {
            history.push(Stamp(at), Stamp(at + 5), value);
        }
        history
    }

    #[test]
    fn an_answer_holds_from_when_it_was_given_until_it_was_last_asked_for() {
        let history = history(&[(0, 'a'), (10, 'a'), (20, 'b'), (30, 'b')]);
        let at = |at| history.at(Stamp(at)).copied();
        assert_eq!(at(4), None);
        assert_eq!(at(5), Some('a'));
        assert_eq!(at(10), Some('a'));
        // Between the question that had one answer and the one that had another.
        assert_eq!(at(11), None);
        assert_eq!(at(24), None);
        assert_eq!(at(25), Some('b'));
        assert_eq!(at(30), Some('b'));
        // Nobody has asked since.
        assert_eq!(at(31), None);
        assert_eq!(history.by(Stamp(99)), Some(&'b'));
        assert_eq!(history.from(Stamp(11)), Some(&'b'));
    }

    #[test]
    fn any_answer_counts_from_the_last_before_a_time_to_the_first_after_another() {
        let history = history(&[(0, 'a'), (10, 'b'), (20, 'c'), (30, 'd'), (40, 'd')]);
        let seen = |from, to| {
            let is = |one| history.any(Stamp(from), Stamp(to), |&value| value == one);
            let mut seen = String::new();
            for one in "abcd".chars() {
                seen.extend(is(one)?.then_some(one));
            }
            Some(seen)
        };
        assert_eq!(seen(15, 20).as_deref(), Some("bc"));
        assert_eq!(seen(14, 21).as_deref(), Some("abcd"));
        assert_eq!(seen(36, 37).as_deref(), Some("d"));
        assert_eq!(seen(25, 25).as_deref(), Some("cd"));
        assert_eq!(seen(4, 20), None);
        assert_eq!(seen(15, 41), None);
    }

    #[test]
    fn what_is_forgotten_leaves_the_answer_that_still_holds() {
        let mut history = history(&[(0, 'a'), (10, 'b'), (20, 'c')]);
        history.forget(Stamp(16));
        assert_eq!(history.spans.len(), 2);
        assert_eq!(history.by(Stamp(16)), Some(&'b'));
        history.forget(Stamp(99));
        assert_eq!(history.by(Stamp(99)), Some(&'c'));
    }
}
