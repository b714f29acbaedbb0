//! When each connection is due. Pure: the engine asks with the time and its own counts.

use std::time::Duration;

use crate::time::Stamp;

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// All at once.
    AtOnce,
    /// Open loop: evenly spaced from the first on, however the earlier ones fare.
    Spaced(Duration),
    /// Closed loop: as soon as fewer than so many are open, opened no closer than `pace`.
    Closed {
        /// The most that are open at a time.
        limit: u64,
        /// The least time between two openings, where a ceiling holds.
        pace: Option<Duration>,
    },
}

/// When the next connection may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Now, and at no particular moment before.
    Now,
    /// The timetable had it then.
    Since(Stamp),
    /// Not before then.
    At(Stamp),
    /// When another one has ended.
    AfterAnother,
}

/// The steady cohort's timetable.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    started: u64,
    first: Option<Stamp>,
    last: Option<Stamp>,
}

impl Schedule {
    /// A timetable of which nothing has been carried out.
    pub(crate) fn new(arrivals: Arrivals) -> Schedule {
        Schedule {
            arrivals,
            started: 0,
            first: None,
            last: None,
        }
    }

    /// When the next connection is due, `open` being open.
    pub(crate) fn next(&self, now: Stamp, open: u64) -> Due {
        match self.arrivals {
            Arrivals::AtOnce => Due::Now,
            Arrivals::Spaced(gap) => {
                let span = Duration::from_nanos(nanos(gap).saturating_mul(self.started));
                let at = self.first.unwrap_or(now) + span;
                if at <= now {
                    Due::Since(at)
                } else {
                    Due::At(at)
                }
            }
            Arrivals::Closed { limit, .. } if open >= limit => Due::AfterAnother,
            Arrivals::Closed { pace, .. } => {
                let earliest = pace.zip(self.last).map_or(now, |(pace, last)| last + pace);
                if earliest <= now {
                    Due::Now
                } else {
                    Due::At(earliest)
                }
            }
        }
    }

    /// One connection was opened at `now`.
    pub(crate) fn opened(&mut self, now: Stamp) {
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.started += 1;
    }

    /// Connections opened so far.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaced_arrivals_are_late_and_never_skipped() {
        let mut schedule = Schedule::new(Arrivals::Spaced(Duration::from_nanos(10)));
        assert_eq!(schedule.next(Stamp(100), 0), Due::Since(Stamp(100)));
        schedule.opened(Stamp(100));
        assert_eq!(schedule.next(Stamp(105), 1), Due::At(Stamp(110)));
        assert_eq!(schedule.next(Stamp(147), 1), Due::Since(Stamp(110)));
        schedule.opened(Stamp(147));
        assert_eq!(schedule.next(Stamp(147), 2), Due::Since(Stamp(120)));
    }

    #[test]
    fn a_closed_loop_waits_for_a_slot() {
        let arrivals = Arrivals::Closed {
            limit: 2,
            pace: None,
        };
        let mut schedule = Schedule::new(arrivals);
        schedule.opened(Stamp(0));
        assert_eq!(schedule.next(Stamp(5), 1), Due::Now);
        assert_eq!(schedule.next(Stamp(5), 2), Due::AfterAnother);
    }

    #[test]
    fn a_pace_holds_a_closed_loop_back() {
        let arrivals = Arrivals::Closed {
            limit: 9,
            pace: Some(Duration::from_nanos(100)),
        };
        let mut schedule = Schedule::new(arrivals);
        assert_eq!(schedule.next(Stamp(7), 0), Due::Now);
        schedule.opened(Stamp(7));
        assert_eq!(schedule.next(Stamp(50), 0), Due::At(Stamp(107)));
    }
}
