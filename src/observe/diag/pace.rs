//! How often a question may be asked: by what asking it costs. The time and the cost are passed in.

use std::time::Duration;

use crate::time::Stamp;

/// When a question is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// It may use one part in so many of a core's time.
    part: u32,
    /// It is not asked more often than this, however cheap it is.
    least: Duration,
    /// What asking costs, later answers counting more.
    cost: Duration,
    next: Stamp,
}

/// A new cost counts one part in so many: a single dear answer (its thread was interrupted, or ran
/// for the first time) must not blind us for long, and a lasting rise is followed in a few polls. In
/// the long run a mean so made adds up to what was spent.
const WEIGHT: u32 = 4;

impl Pace {
    /// Due at once.
    pub(super) fn new(part: u32, least: Duration) -> Pace {
        Pace {
            part,
            least,
            cost: Duration::ZERO,
            next: Stamp::default(),
        }
    }

    /// When it is due.
    pub(super) fn next(&self) -> Stamp {
        self.next
    }

    /// It was asked at `asked`, which used `cost` of a core's time.
    pub(super) fn asked(&mut self, asked: Stamp, cost: Duration) {
        self.cost = (self.cost * (WEIGHT - 1) + cost) / WEIGHT;
        self.next = asked + self.least.max(self.cost.saturating_mul(self.part));
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
        let (times, _) = second(Pace::new(25, LEAST), |_| Duration::from_micros(400));
        // Before its cost is known it is asked a few times more.
        assert_eq!(times, 100 + 4);
    }

    #[test]
    fn what_becomes_dearer_is_asked_less_often_within_a_few_times() {
        let cost = |times| Duration::from_micros(if times < 50 { 400 } else { 8_000 });
        let (times, spent) = second(Pace::new(25, LEAST), cost);
        // The periods grow from 10 ms to 200 ms.
        assert_eq!(times, 50 + 5);
        assert_eq!(spent, Duration::from_millis(20 + 40));
    }

    #[test]
    fn one_dear_answer_is_paid_off_over_a_few_periods() {
        let cost = |times| Duration::from_micros(if times == 50 { 4_000 } else { 400 });
        let mut pace = Pace::new(25, LEAST);
        let mut longest = 0;
        for times in 0..100 {
            pace.asked(Stamp(0), cost(times));
            longest = longest.max(pace.next().0);
        }
        assert!((32_000_000..33_000_000).contains(&longest), "{longest}");
        // In a second nine others are left out for it.
        let (times, _) = second(Pace::new(25, LEAST), cost);
        assert_eq!(times, 100 + 4 - 9);
    }
}
