//! Where a worker stands in its life, and when it has nothing left to wait for. What was seen is
//! passed in, and the time with it; looking and acting is the [`worker`](super::worker)'s part.

use std::time::Duration;

use crate::time::Stamp;

/// Behind a filter the accept queue must have been empty for so long, with no handshake under way:
/// under SYN cookies handshakes leave no trace.
const QUIET: Duration = Duration::from_millis(200);
/// Handshakes are given up on once nothing else has happened for so long: under TCP_DEFER_ACCEPT
/// they can last.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepts and serves.
    Serving,
    /// Goes on until the accept queue is empty: whether it was when last looked at.
    Draining { empty: bool },
    /// Goes on until the accept queue has been empty for a while, behind a filter.
    Settling(Settling),
    /// Accepts no more, and ends with its last client.
    Finishing,
}

/// How quiet it is behind the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settling {
    /// Since when nobody is queued or served.
    idle: Option<Stamp>,
    /// Since when no handshake is under way either.
    quiet: Option<Stamp>,
}

/// Handshakes that were given up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GaveUp {
    pub(super) half_open: usize,
}

impl Phase {
    /// Whether new clients are taken.
    pub(super) fn accepts(self) -> bool {
        self != Phase::Finishing
    }

    /// Whether it has come to its end, with so many `clients` left.
    pub(super) fn is_over(self, clients: usize) -> bool {
        clients == 0 && matches!(self, Phase::Finishing | Phase::Draining { empty: true })
    }

    /// The accept queue was found empty, with so many `clients` left. Where there are any it has to be
    /// looked at again: while they are served others may come.
    pub(super) fn queue_is_empty(&mut self, clients: usize) {
        if let Phase::Draining { empty } = self {
            *empty = clients == 0;
        }
    }

    /// Moves on where it settles, at `now`: `busy` while anybody is queued or served. Handshakes are
    /// asked for only when nobody is, as that takes time.
    pub(super) fn settle(
        &mut self,
        now: Stamp,
        busy: bool,
        half_open: impl FnOnce() -> usize,
    ) -> Option<GaveUp> {
        let Phase::Settling(settling) = self else {
            return None;
        };
        if busy {
            // They are served however long it takes: no others come.
            *settling = Settling::default();
            return None;
        }
        let half_open = half_open();
        let idle = *settling.idle.get_or_insert(now);
        settling.quiet = (half_open == 0).then(|| settling.quiet.unwrap_or(now));
        let is_over = settling.quiet.is_some_and(|since| now >= since + QUIET);
        let gives_up = !is_over && now >= idle + PATIENCE;
        if is_over || gives_up {
            *self = Phase::Finishing;
        }
        gives_up.then_some(GaveUp { half_open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Stamp {
        Stamp(0) + Duration::from_millis(ms)
    }

    #[test]
    fn a_draining_worker_ends_when_the_queue_is_empty_and_nobody_is_left() {
        let mut phase = Phase::Draining { empty: false };
        phase.queue_is_empty(1);
        assert!(!phase.is_over(1));
        // Others may have come while that one was served.
        assert!(!phase.is_over(0));
        phase.queue_is_empty(0);
        assert!(phase.is_over(0) && phase.accepts());
    }

    #[test]
    fn a_settling_worker_waits_until_it_has_been_quiet_for_a_while() {
        let mut phase = Phase::Settling(Settling::default());
        for (ms, busy, half_open) in [(0, true, 0), (50, false, 0), (100, false, 1)] {
            assert_eq!(phase.settle(at(ms), busy, || half_open), None);
        }
        // Quiet only from here on.
        assert_eq!(phase.settle(at(150), false, || 0), None);
        assert_eq!(phase.settle(at(349), false, || 0), None);
        assert!(phase.accepts());
        assert_eq!(phase.settle(at(350), false, || 0), None);
        assert_eq!(phase, Phase::Finishing);
    }

    #[test]
    fn whoever_comes_has_it_wait_anew() {
        let mut phase = Phase::Settling(Settling::default());
        phase.settle(at(0), false, || 0);
        phase.settle(at(199), true, || unreachable!("nobody has the time"));
        phase.settle(at(200), false, || 0);
        phase.settle(at(399), false, || 0);
        assert!(phase.accepts());
    }

    #[test]
    fn handshakes_that_never_end_are_given_up_on() {
        let mut phase = Phase::Settling(Settling::default());
        assert_eq!(phase.settle(at(9_000), true, || 3), None);
        assert_eq!(phase.settle(at(10_000), false, || 3), None);
        assert_eq!(phase.settle(at(19_999), false, || 3), None);
        let gave_up = phase.settle(at(20_000), false, || 3);
        assert_eq!(gave_up, Some(GaveUp { half_open: 3 }));
        assert!(phase.is_over(0));
    }
}
