//! Who is to be opened, released and given up on, and when. Pure: an engine asks with the time, does
//! it, and says what came of it. What a connection is, and how one is opened, is the engine's.

use std::collections::VecDeque;
use std::time::Duration;

use super::Job;
use super::schedule::{Due, Schedule};
use crate::outcome::Cohort;
use crate::time::Stamp;

/// How long a connection whose response is complete is kept for the server's own FIN or RST, before
/// ours is sent.
const GRACE: Duration = Duration::from_millis(100);

/// All connections of a job, `T` being the engine's name for one that is open.
#[derive(Debug)]
pub(super) struct Roster<T> {
    count: u64,
    idle: u64,
    timeout: Duration,
    schedule: Schedule,
    idle_started: u64,
    open: u64,
    steady_open: u64,
    first_opened: Option<Stamp>,
    triggered: Option<Stamp>,
    interrupted: bool,
    /// Every idle connection was opened, and answered or given up on.
    settled: bool,
    /// Those that hold something back until the trigger; some may have ended.
    held: Vec<T>,
    /// How long after the trigger that is sent.
    held_for: Duration,
    /// Deadlines counted from the SYN, in the order in which they fall.
    deadlines: VecDeque<(Stamp, T)>,
    /// Deadlines counted from what was held back.
    late_deadlines: VecDeque<(Stamp, T)>,
    /// When complete connections are closed at the latest.
    graces: VecDeque<(Stamp, T)>,
}

/// Whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired<T> {
    /// It was complete, and the server left it open.
    Grace(T),
    /// Its deadline passed, counted from its SYN: none of those that hold something back.
    Deadline(T),
    /// Its deadline passed, counted from what was held back.
    LateDeadline(T),
}

impl<T: Copy> Roster<T> {
    /// A job of which nothing has been done.
    pub(super) fn new(job: &Job) -> Roster<T> {
        Roster {
            count: job.count,
            idle: job.idle,
            timeout: job.timeout,
            schedule: Schedule::new(job.arrivals),
            idle_started: 0,
            open: 0,
            steady_open: 0,
            first_opened: None,
            triggered: None,
            interrupted: false,
            settled: job.idle == 0,
            held: Vec::new(),
            held_for: job.idle_delay,
            deadlines: VecDeque::new(),
            late_deadlines: VecDeque::new(),
            graces: VecDeque::new(),
        }
    }

    /// Steady connections started so far.
    pub(super) fn steady_started(&self) -> u64 {
        self.schedule.started()
    }

    /// Whether the idle cohort stands: only then do steady connections and triggers begin.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Connections started so far.
    pub(super) fn started(&self) -> u64 {
        self.schedule.started() + self.idle_started
    }

    /// When the first connection was opened.
    pub(super) fn first_opened(&self) -> Option<Stamp> {
        self.first_opened
    }

    /// Whether every connection was started and has ended.
    pub(super) fn is_done(&self) -> bool {
        self.open == 0 && (self.interrupted || self.started() >= self.count)
    }

    /// The trigger was pulled at `at`: what is held back is sent after its delay.
    pub(super) fn trigger(&mut self, at: Stamp) {
        self.triggered.get_or_insert(at);
    }

    /// Nothing more is to be opened.
    pub(super) fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// What may be opened next and when, if anything is left to open: no more than `steady_limit`
    /// steady connections in all.
    pub(super) fn next(&self, now: Stamp, steady_limit: u64) -> Option<(Cohort, Due)> {
        let steady = (self.count - self.idle).min(steady_limit);
        if self.interrupted {
            None
        } else if self.idle_started < self.idle {
            Some((Cohort::Idle, Due::Now))
        } else if self.settled && self.schedule.started() < steady {
            Some((Cohort::Steady, self.schedule.next(now, self.steady_open)))
        } else {
            None
        }
    }

    /// One was opened at `at`, or its opening failed.
    pub(super) fn started_one(&mut self, cohort: Cohort, at: Stamp) {
        self.first_opened.get_or_insert(at);
        match cohort {
            Cohort::Idle => self.idle_started += 1,
            Cohort::Steady => self.schedule.opened(at),
        }
    }

    /// One that was started at `at` is open; `holds` where it keeps something back until the trigger.
    pub(super) fn opened(&mut self, token: T, cohort: Cohort, at: Stamp, holds: bool) {
        self.deadlines.push_back((at + self.timeout, token));
        self.open += 1;
        self.steady_open += u64::from(cohort == Cohort::Steady);
        if holds {
            self.held.push(token);
        }
    }

    /// The response of one is complete.
    pub(super) fn completed(&mut self, token: T, now: Stamp) {
        self.graces.push_back((now + GRACE, token));
    }

    /// One that was open has ended.
    pub(super) fn ended(&mut self, cohort: Cohort) {
        self.open -= 1;
        self.steady_open -= u64::from(cohort == Cohort::Steady);
    }

    /// Notes that the idle cohort stands, once every one was opened and none is `connecting`.
    pub(super) fn settle(&mut self, connecting: impl FnMut(T) -> bool) {
        if !self.settled && self.idle_started >= self.idle {
            self.settled = !self.held.iter().copied().any(connecting);
        }
    }

    /// Takes those that are to send what they held back, once their time has come. Some may have
    /// ended.
    pub(super) fn take_released(&mut self, now: Stamp) -> Vec<T> {
        match self.release_at() {
            Some(at) if at <= now => std::mem::take(&mut self.held),
            Some(_) | None => Vec::new(),
        }
    }

    /// One sends what it held back.
    pub(super) fn released(&mut self, token: T, now: Stamp) {
        self.late_deadlines.push_back((now + self.timeout, token));
    }

    /// Whether what is held back may be sent by `now`.
    pub(super) fn is_released(&self, now: Stamp) -> bool {
        let at = self.triggered.map(|at| at + self.held_for);
        at.is_some_and(|at| at <= now)
    }

    /// One holds something back until its time has come, or for a moment if it has.
    pub(super) fn hold(&mut self, token: T) {
        self.held.push(token);
    }

    fn release_at(&self) -> Option<Stamp> {
        let triggered = self.triggered.filter(|_| !self.held.is_empty());
        triggered.map(|at| at + self.held_for)
    }

    /// When the engine must look again, `wake` at the latest.
    pub(super) fn next_due(
        &self,
        now: Stamp,
        steady_limit: u64,
        wake: Option<Stamp>,
    ) -> Option<Stamp> {
        let opening = match self.next(now, steady_limit) {
            Some((_, Due::Now | Due::Since(_))) => Some(now),
            Some((_, Due::At(at))) => Some(at),
            Some((_, Due::AfterAnother)) | None => None,
        };
        // The trigger that holds the others back is to be pulled at once.
        let limited = (self.settled && self.schedule.started() >= steady_limit).then_some(now);
        [
            wake,
            limited,
            opening,
            self.release_at(),
            self.deadlines.front().map(|d| d.0),
            self.late_deadlines.front().map(|d| d.0),
            self.graces.front().map(|d| d.0),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes the next one whose time is up; those that are no longer `live` are passed over.
    pub(super) fn expired(&mut self, now: Stamp, live: impl Fn(T) -> bool) -> Option<Expired<T>> {
        pop_due(&mut self.graces, now, &live)
            .map(Expired::Grace)
            .or_else(|| pop_due(&mut self.late_deadlines, now, &live).map(Expired::LateDeadline))
            .or_else(|| pop_due(&mut self.deadlines, now, &live).map(Expired::Deadline))
    }
}

/// Takes the next live one whose time is up off a queue, with those before it that are gone.
fn pop_due<T: Copy>(
    queue: &mut VecDeque<(Stamp, T)>,
    now: Stamp,
    live: impl Fn(T) -> bool,
) -> Option<T> {
    while let Some(&(at, token)) = queue.front() {
        let is_live = live(token);
        if is_live && at > now {
            return None;
        }
        queue.pop_front();
        if is_live {
            return Some(token);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::schedule::Arrivals;

    const MS: Duration = Duration::from_millis(1);

    fn roster(count: u64, idle: u64) -> Roster<u32> {
        let mut job = Job::example(Arrivals::AtOnce);
        (job.count, job.idle, job.idle_delay, job.timeout) = (count, idle, 10 * MS, 5 * MS);
        Roster::new(&job)
    }

    #[test]
    fn steady_ones_wait_until_no_idle_one_is_connecting() {
        let mut roster = roster(2, 1);
        let at = Stamp(0);
        assert_eq!(roster.next(at, 9), Some((Cohort::Idle, Due::Now)));
        roster.started_one(Cohort::Idle, at);
        roster.opened(1, Cohort::Idle, at, true);
        roster.settle(|_| true);
        assert_eq!(roster.next(at, 9), None);
        roster.settle(|_| false);
        assert_eq!(roster.next(at, 9), Some((Cohort::Steady, Due::Now)));
        assert_eq!(roster.next(at, 0), None);
    }

    #[test]
    fn what_is_held_back_is_sent_after_the_trigger_and_its_deadline_counts_from_then() {
        let mut roster = roster(1, 0);
        roster.started_one(Cohort::Steady, Stamp(0));
        roster.opened(7, Cohort::Steady, Stamp(0), true);
        assert!(roster.take_released(Stamp(0) + 20 * MS).is_empty());
        roster.trigger(Stamp(0) + 20 * MS);
        assert!(roster.take_released(Stamp(0) + 29 * MS).is_empty());
        let now = Stamp(0) + 30 * MS;
        assert_eq!(roster.take_released(now), [7]);
        roster.released(7, now);
        let live = |_| true;
        assert_eq!(roster.expired(now, live), Some(Expired::Deadline(7)));
        assert_eq!(roster.expired(now + 4 * MS, live), None);
        let late = roster.expired(now + 5 * MS, live);
        assert_eq!(late, Some(Expired::LateDeadline(7)));
    }

    #[test]
    fn who_has_ended_does_not_expire_and_holds_nobody_up() {
        let mut roster = roster(2, 0);
        for token in [1, 2] {
            roster.started_one(Cohort::Steady, Stamp(0));
            roster.opened(token, Cohort::Steady, Stamp(0), false);
        }
        roster.ended(Cohort::Steady);
        let now = Stamp(0) + 5 * MS;
        assert_eq!(roster.expired(now, |t| t == 2), Some(Expired::Deadline(2)));
        assert_eq!(roster.expired(now, |t| t == 2), None);
        assert!(!roster.is_done());
        roster.ended(Cohort::Steady);
        assert!(roster.is_done());
    }

    #[test]
    fn whoever_is_complete_is_given_a_grace() {
        let mut roster = roster(1, 0);
        roster.started_one(Cohort::Steady, Stamp(0));
        roster.opened(1, Cohort::Steady, Stamp(0), false);
        roster.completed(1, Stamp(0));
        let due = roster.next_due(Stamp(0), 1, None);
        assert_eq!(due, Some(Stamp(0)));
        assert_eq!(
            roster.expired(Stamp(0) + GRACE, |_| true),
            Some(Expired::Grace(1))
        );
    }
}
