//! How often a question may be asked: by what asking it has just cost. The time and the cost are
//! passed in.

use std::time::Duration;

use crate::time::Stamp;

/// When a question is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// It may use one part in so many of a core's time.
    part: u32,
    /// It is not asked more often than this, however cheap it is.
    least: Duration,
    next: Stamp,
}

impl Pace {
    /// Due at once.
    pub(super) fn new(part: u32, least: Duration) -> Pace {
        Pace {
            part,
            least,
            next: Stamp::default(),
        }
    }

    /// When it is due.
    pub(super) fn next(&self) -> Stamp {
        self.next
    }

    /// It was asked at `asked`, which used `cost` of a core's time: it pays for itself before it is
    /// asked again, so that no spell of dear answers goes over its part.
    pub(super) fn asked(&mut self, asked: Stamp, cost: Duration) {
        self.next = asked + self.least.max(cost.saturating_mul(self.part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for a second of virtual time with such costs; returns how often, and for how long in all.
    fn second(mut pace: Pace, cost: impl Fn(u32) -> Duration) -> (u32, Duration) {
        let (mut times, mut spent) = (0, Duration::ZERO);
        let mut now = Stamp(0);
        while now < Stamp(1_000_000_000) {
            let one = cost(times);
            pace.asked(now, one);
            (times, spent) = (times + 1, spent + one);
            now = pace.next().max(now + one);
        }
        (times, spent)
    }

    const LEAST: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_cheap_is_asked_as_often_as_it_may_be() {
        let (times, _) = second(Pace::new(100, LEAST), |_| Duration::from_micros(10));
        assert_eq!(times, 1000);
    }

    #[test]
    fn what_is_dear_is_asked_as_often_as_its_part_allows() {
        let (times, spent) = second(Pace::new(25, LEAST), |_| Duration::from_micros(400));
        assert_eq!(times, 100);
        assert_eq!(spent, Duration::from_millis(40));
    }

    #[test]
    fn what_becomes_dearer_is_asked_less_often_at_once() {
        let cost = |times| Duration::from_micros(if times < 50 { 400 } else { 8_000 });
        let (times, spent) = second(Pace::new(25, LEAST), cost);
        assert_eq!(times, 50 + 3);
        // The last one has not paid for itself yet.
        assert!(spent <= Duration::from_millis(40 + 8));
    }
}
