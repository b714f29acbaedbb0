//! Which accept() took which connection. No tracepoint says; but a listener's queue is served in its
//! order, so the n-th that is taken is the n-th that came. Two that are taken at the same time by two
//! processes may have changed places: who reads from them then tells.

use std::collections::{HashSet, VecDeque};

use crate::kernel::Act;
use crate::time::Stamp;

/// How many of the connections taken last may still change places.
const RECENT: usize = 64;

/// The queue of one listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepts {
    /// In the order in which they came, those that have left since among them.
    line: VecDeque<Child>,
    /// Those that are still there.
    waiting: HashSet<u64>,
    recent: VecDeque<Taken>,
    /// Something happened that cannot be in this order: nothing is said from then on.
    lost_count: bool,
}

/// A connection in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Child {
    socket: u64,
    established: Stamp,
}

/// An accept() that returned a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// When it was entered, where that was seen.
    pub(super) entered: Option<Stamp>,
    /// When it had returned, and to whom.
    pub(super) returned: Act,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    socket: u64,
    established: Stamp,
    call: Call,
    /// Whether its process was seen to read from it or close it.
    settled: bool,
}

/// A connection whose accept() is known now, or better known; without one where it waits after all.
pub(super) type Match = (u64, Option<Act>);

impl Accepts {
    /// A connection joins the queue.
    pub(super) fn established(&mut self, socket: u64, at: Stamp) {
        if !self.lost_count && self.waiting.insert(socket) {
            self.line.push_back(Child {
                socket,
                established: at,
            });
        }
    }

    /// An accept() returned: which connection.
    pub(super) fn accepted(&mut self, call: Call) -> Option<Match> {
        if self.lost_count {
            return None;
        }
        let next = loop {
            let next = self.line.pop_front();
            if next.is_none_or(|child| self.waiting.remove(&child.socket)) {
                break next;
            }
        };
        let Some(child) = next.filter(|child| child.established <= call.returned.at) else {
            // It came before we watched, or by another way (TCP Fast Open).
            self.lose_count();
            return None;
        };
        // The kernel uses the address of a socket that is gone for another.
        self.recent.retain(|taken| taken.socket != child.socket);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Taken {
            socket: child.socket,
            established: child.established,
            call,
            settled: false,
        });
        Some((child.socket, Some(call.returned)))
    }

    /// A process read from a connection or closed it. Where another was thought to have taken it, the
    /// two that changed places are returned as they are now.
    pub(super) fn used(&mut self, socket: u64, by: Act) -> Vec<Match> {
        if self.waiting.contains(&socket) {
            return self.taken_before_its_turn(socket, by);
        }
        let Some(here) = self.recent.iter().position(|taken| taken.socket == socket) else {
            return Vec::new();
        };
        let first_use = !std::mem::replace(&mut self.recent[here].settled, true);
        if !first_use || by.pid.is_none() || self.recent[here].call.returned.pid == by.pid {
            return Vec::new();
        }
        let Taken {
            call, established, ..
        } = self.recent[here];
        let other = self.recent.iter().position(|taken| {
            !taken.settled
                && taken.call.returned.pid == by.pid
                && taken.call.overlaps(&call)
                && taken.call.fits(established)
                && call.fits(taken.established)
        });
        let Some(other) = other else {
            // One process accepts and another serves.
            return Vec::new();
        };
        self.recent[here].call = self.recent[other].call;
        self.recent[other].call = call;
        [here, other]
            .map(|at| (self.recent[at].socket, Some(self.recent[at].call.returned)))
            .into()
    }

    /// A process uses what seems to wait: its accept() has been taken for another's, because two came
    /// at the same time on two processors and queued the other way round, or because a process that
    /// took one before has not returned from accept() yet.
    fn taken_before_its_turn(&mut self, socket: u64, by: Act) -> Vec<Match> {
        let at = self.line.iter().position(|child| child.socket == socket);
        let child = at.and_then(|at| self.line.remove(at));
        let taken = self.recent.iter_mut().find(|taken| {
            let its = by.pid.is_some() && taken.call.returned.pid == by.pid && !taken.settled;
            its && child.is_some_and(|child| taken.call.fits(child.established))
        });
        let (Some(child), Some(taken)) = (child, taken) else {
            // It was taken without an accept() that we saw (io_uring).
            self.lose_count();
            return Vec::new();
        };
        let waits = Child {
            socket: taken.socket,
            established: taken.established,
        };
        taken.socket = socket;
        taken.established = child.established;
        taken.settled = true;
        let found = Some(taken.call.returned);
        self.waiting.remove(&socket);
        self.waiting.insert(waits.socket);
        self.line.push_front(waits);
        vec![(socket, found), (waits.socket, None)]
    }

    /// A connection leaves the queue without being taken: its listener was closed.
    pub(super) fn reset(&mut self, socket: u64) {
        self.waiting.remove(&socket);
    }

    /// What comes next can no longer be told: events were lost, or several listeners share the port.
    pub(super) fn lose_count(&mut self) {
        self.lost_count = true;
        self.line.clear();
        self.waiting.clear();
        self.recent.clear();
    }
}

impl Call {
    /// Whether it can have taken what came then.
    fn fits(&self, established: Stamp) -> bool {
        established <= self.returned.at
    }

    fn overlaps(&self, other: &Call) -> bool {
        let began = |call: &Call| call.entered.unwrap_or(call.returned.at);
        began(self) <= other.returned.at && began(other) <= self.returned.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(at: i64, pid: i32) -> Act {
        Act {
            at: Stamp(at),
            pid: Some(pid),
        }
    }

    fn call(entered: i64, returned: i64, pid: i32) -> Call {
        Call {
            entered: Some(Stamp(entered)),
            returned: act(returned, pid),
        }
    }

    #[test]
    fn the_first_that_came_is_the_first_that_is_taken() {
        let mut accepts = Accepts::default();
        accepts.established(0xa, Stamp(1));
        accepts.established(0xb, Stamp(2));
        assert_eq!(
            accepts.accepted(call(3, 4, 70)),
            Some((0xa, Some(act(4, 70))))
        );
        assert_eq!(
            accepts.accepted(call(5, 6, 71)),
            Some((0xb, Some(act(6, 71))))
        );
        assert_eq!(accepts.used(0xa, act(7, 70)), []);
    }

    #[test]
    fn two_taken_at_once_change_places_when_their_readers_show_it() {
        let mut accepts = Accepts::default();
        accepts.established(0xa, Stamp(1));
        accepts.established(0xb, Stamp(2));
        accepts.accepted(call(3, 6, 70));
        accepts.accepted(call(4, 7, 71));
        assert_eq!(
            accepts.used(0xa, act(8, 71)),
            [(0xa, Some(act(7, 71))), (0xb, Some(act(6, 70)))]
        );
        // What follows is no news.
        assert_eq!(accepts.used(0xa, act(9, 71)), []);
        assert_eq!(accepts.used(0xb, act(9, 70)), []);
    }

    #[test]
    fn one_process_may_accept_for_another() {
        let mut accepts = Accepts::default();
        accepts.established(0xa, Stamp(1));
        accepts.established(0xb, Stamp(2));
        accepts.accepted(call(3, 4, 70));
        accepts.accepted(call(5, 6, 71));
        // Not at the same time: nobody changed places.
        assert_eq!(accepts.used(0xa, act(8, 71)), []);
    }

    #[test]
    fn no_accept_is_given_to_what_came_after_it() {
        let mut accepts = Accepts::default();
        accepts.established(0xa, Stamp(1));
        accepts.accepted(call(2, 3, 70));
        accepts.established(0xb, Stamp(4));
        accepts.accepted(call(2, 5, 71));
        // The calls overlap; but 70's was over when 0xb came.
        assert_eq!(accepts.used(0xb, act(6, 70)), []);
    }

    #[test]
    fn an_address_used_again_is_another_connection() {
        let mut accepts = Accepts::default();
        for at in [0, 100] {
            accepts.established(0xa, Stamp(at + 1));
            accepts.established(0xb, Stamp(at + 2));
            accepts.accepted(call(at + 3, at + 6, 70));
            accepts.accepted(call(at + 4, at + 7, 71));
            assert_eq!(
                accepts.used(0xa, act(at + 8, 71)),
                [(0xa, Some(act(at + 7, 71))), (0xb, Some(act(at + 6, 70)))]
            );
        }
    }

    #[test]
    fn two_that_queued_the_other_way_round_change_places() {
        let mut accepts = Accepts::default();
        accepts.established(0xa, Stamp(1));
        accepts.established(0xb, Stamp(2));
        accepts.accepted(call(3, 4, 70));
        assert_eq!(
            accepts.used(0xb, act(5, 70)),
            [(0xb, Some(act(4, 70))), (0xa, None)]
        );
        assert_eq!(
            accepts.accepted(call(6, 7, 71)),
            Some((0xa, Some(act(7, 71))))
        );
    }

    #[test]
    fn what_was_reset_in_the_queue_is_not_taken() {
        let mut accepts = Accepts::default();
        accepts.established(0xa, Stamp(1));
        accepts.established(0xb, Stamp(2));
        accepts.reset(0xa);
        assert_eq!(
            accepts.accepted(call(3, 4, 70)),
            Some((0xb, Some(act(4, 70))))
        );
    }

    #[test]
    fn once_the_count_is_lost_nothing_is_said() {
        let unseen = |events: &dyn Fn(&mut Accepts)| {
            let mut accepts = Accepts::default();
            accepts.established(0xa, Stamp(1));
            events(&mut accepts);
            accepts.established(0xc, Stamp(20));
            accepts.accepted(call(21, 22, 70))
        };
        assert_eq!(unseen(&|_| {}), Some((0xa, Some(act(22, 70)))));
        // More were taken than came.
        assert_eq!(
            unseen(&|accepts| {
                accepts.accepted(call(3, 4, 70));
                accepts.accepted(call(5, 6, 70));
            }),
            None
        );
        // Read without an accept().
        assert_eq!(
            unseen(&|accepts| {
                accepts.used(0xa, act(5, 70));
            }),
            None
        );
        assert_eq!(unseen(&|accepts| accepts.lose_count()), None);
    }

    #[test]
    fn nothing_is_taken_before_it_came() {
        let mut accepts = Accepts::default();
        accepts.established(0xa, Stamp(9));
        assert_eq!(accepts.accepted(call(3, 4, 70)), None);
    }
}
