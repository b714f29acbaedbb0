//! The only reader of clocks. Everything is ordered on one run clock: CLOCK_MONOTONIC, shifted once
//! by the wall clock's offset at the start, so that it never runs backwards and still compares with
//! the kernel's packet stamps (CLOCK_REALTIME).
#![expect(
    clippy::disallowed_methods,
    reason = "clocks are read here and nowhere else"
)]

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A point in time: nanoseconds since the Unix epoch, on the run clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub i64);

impl Stamp {
    /// Signed nanoseconds from `earlier` to `self`.
    pub fn since(self, earlier: Stamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Stamp {
    type Output = Stamp;

    fn add(self, span: Duration) -> Stamp {
        Stamp(self.0.saturating_add(nanos(span)))
    }
}

impl Sub<Duration> for Stamp {
    type Output = Stamp;

    fn sub(self, span: Duration) -> Stamp {
        Stamp(self.0.saturating_sub(nanos(span)))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// The run clock: monotonic, expressed as Unix time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_unix_ns: i64,
    start_monotonic_ns: i64,
}

impl Clock {
    /// Starts the run clock and fixes its offset to the wall clock.
    pub fn start() -> Clock {
        let (start, start_unix_ns) = read_beside(wall_ns);
        // std's Instant is CLOCK_MONOTONIC, whose number it keeps to itself.
        let (then, monotonic) = read_beside(monotonic_ns);
        let since = nanos(then.saturating_duration_since(start));
        Clock {
            start,
            start_unix_ns,
            start_monotonic_ns: monotonic - since,
        }
    }

    /// A kernel's stamp by CLOCK_MONOTONIC, in nanoseconds, on the run clock: right to well under a
    /// microsecond.
    pub(crate) fn of_monotonic(&self, ns: u64) -> Stamp {
        let since_start = i64::try_from(ns)
            .unwrap_or(i64::MAX)
            .saturating_sub(self.start_monotonic_ns);
        Stamp(self.start_unix_ns.saturating_add(since_start))
    }

    /// What the run clock is ahead of CLOCK_MONOTONIC, in nanoseconds.
    pub(crate) fn monotonic_offset_ns(&self) -> i64 {
        self.start_unix_ns.saturating_sub(self.start_monotonic_ns)
    }

    /// The present on the run clock.
    pub fn now(&self) -> Stamp {
        Stamp(self.start_unix_ns) + self.start.elapsed()
    }

    /// How long it still is to `at`; nothing where that has passed.
    pub fn until(&self, at: Stamp) -> Duration {
        Duration::from_nanos(u64::try_from(at.since(self.now())).unwrap_or(0))
    }

    /// When the run clock was started.
    pub fn started(&self) -> Stamp {
        Stamp(self.start_unix_ns)
    }

    /// How far the wall clock has moved away from the run clock since the start, in nanoseconds:
    /// drift is microseconds, a step (NTP, an administrator) is more.
    pub fn wall_offset_ns(&self) -> i64 {
        wall_ns() - self.now().0
    }
}

/// Reads another clock between two monotonic readings; the closest of a few pairs bounds the offset's
/// error to well under a microsecond.
fn read_beside(other: impl Fn() -> i64) -> (Instant, i64) {
    let mut best: Option<(Duration, Instant, i64)> = None;
    for _ in 0..5 {
        let before = Instant::now();
        let read = other();
        let width = before.elapsed();
        if best.is_none_or(|(narrowest, ..)| width < narrowest) {
            best = Some((width, before + width / 2, read));
        }
    }
    best.map_or_else(|| (Instant::now(), other()), |(_, at, read)| (at, read))
}

fn monotonic_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// How much processor time this thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    let secs = u64::try_from(used.tv_sec).unwrap_or(0);
    Duration::from_secs(secs) + Duration::from_nanos(u64::try_from(used.tv_nsec).unwrap_or(0))
}

fn wall_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_clock_agrees_with_the_wall_clock_at_the_start() {
        let clock = Clock::start();
        assert!(clock.wall_offset_ns().abs() < 50_000_000);
        assert!(clock.now() >= clock.started());
    }

    #[test]
    fn monotonic_stamps_stand_between_readings_of_the_run_clock() {
        let clock = Clock::start();
        // Reading the offset may be off by half the width of a reading.
        let error = Duration::from_micros(50);
        for _ in 0..100 {
            let before = clock.now();
            let at = clock.of_monotonic(u64::try_from(monotonic_ns()).unwrap());
            let after = clock.now();
            assert!(before - error <= at && at <= after + error);
        }
    }

    #[test]
    fn spans_between_stamps_are_signed() {
        let late = Stamp(5_000);
        assert_eq!(late.since(Stamp(7_000)), -2_000);
        assert_eq!((late - Duration::from_nanos(1_000)).0, 4_000);
        assert_eq!((late + Duration::from_nanos(1_000)).0, 6_000);
    }
}
