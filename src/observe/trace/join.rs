//! What several records say together, taken in the order of their stamps: a connection was accepted,
//! a signal arrived, a process ended. Pure: what has to be asked of the system was asked before.

use std::collections::HashMap;

use nix::sys::signal::Signal;

use super::events::{Context, Seen};
use crate::kernel::{Task, Traced, TracedWhat};
use crate::time::Stamp;

/// A record with what had to be asked at once.
#[derive(Debug)]
pub(super) struct Record {
    /// When, on the run clock.
    pub(super) at: Stamp,
    /// The thread.
    pub(super) tid: i32,
    /// Whether it had a part in this.
    pub(super) context: Context,
    /// What it says.
    pub(super) seen: Seen,
    /// The inode behind the descriptor that accept() was called with.
    pub(super) listener: Option<u64>,
}

/// A thread that was in accept() before that was recorded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Which.
    pub(super) tid: i32,
    /// It had taken nothing by then.
    pub(super) since: Stamp,
    /// It waited at some time from then to this: what returned before may be an earlier call's.
    pub(super) seen: Stamp,
    /// The inode of the listener.
    pub(super) listener: Option<u64>,
}

/// What is open between records.
#[derive(Debug, Default)]
pub(super) struct Join {
    /// The calls of accept() under way, by thread.
    entered: HashMap<i32, Entered>,
    /// The last signal sent to each process that may end it at once.
    sent: HashMap<i32, i32>,
}

#[derive(Clone, Copy, Debug)]
struct Entered {
    at: Stamp,
    /// When it is sure to have been under way.
    seen: Stamp,
    listener: Option<u64>,
}

impl Join {
    /// One that begins with these calls of accept() under way.
    pub(super) fn new(waiting: Vec<Waiting>) -> Join {
        let entered = waiting.into_iter().map(|call| {
            let Waiting {
                tid,
                since: at,
                seen,
                listener,
            } = call;
            (tid, Entered { at, seen, listener })
        });
        Join {
            entered: entered.collect(),
            ..Join::default()
        }
    }

    /// Takes the next record; `pid_of` names the process of another thread.
    pub(super) fn take(
        &mut self,
        record: Record,
        task: Task,
        pid_of: impl Fn(i32) -> Option<i32>,
    ) -> Option<Traced> {
        let at = record.at;
        let what = match record.seen {
            Seen::Socket(what) => what,
            Seen::AcceptEntered { .. } => {
                let listener = record.listener;
                let seen = at;
                let entered = Entered { at, seen, listener };
                self.entered.insert(task.tid, entered);
                return None;
            }
            Seen::AcceptLeft { result } => {
                let entered = self.entered.remove(&task.tid);
                let entered = entered.filter(|entered| entered.seen <= at);
                TracedWhat::Accepted {
                    listener: entered.and_then(|entered| entered.listener),
                    // An error is below 0, and no connection.
                    fd: i32::try_from(result).ok().filter(|&fd| fd >= 0)?,
                    entered: entered.map(|entered| entered.at),
                }
            }
            Seen::ShutDown => TracedWhat::ShutDown,
            Seen::SignalSent { signal, tid } => {
                self.sent.insert(pid_of(tid)?, signal);
                return None;
            }
            Seen::SignalDelivered { signal } => TracedWhat::Signalled {
                signal: self.delivered(signal, task.pid)?,
            },
            Seen::GroupExit => {
                self.sent.remove(&task.pid?);
                return None;
            }
            Seen::Exit { last, .. } => {
                self.entered.remove(&task.tid);
                if !last.unwrap_or(task.pid == Some(task.tid)) {
                    return None;
                }
                if let Some(pid) = task.pid {
                    self.sent.remove(&pid);
                }
                TracedWhat::Exited
            }
            Seen::Birth { .. } => return None,
        };
        Some(Traced { at, task, what })
    }

    /// The signal that was delivered, but for those by which a program talks to itself. What a process does not handle and ends it shows as SIGKILL, once
    /// for each of its threads; so does a thread's end when another calls exit_group() (get_signal()
    /// in kernel/signal.c). Only what was sent before tells which it was.
    fn delivered(&mut self, signal: i32, pid: Option<i32>) -> Option<Box<str>> {
        if signal == libc::SIGKILL {
            return Some(name(self.sent.remove(&pid?)?));
        }
        if let Some(pid) = pid
            && self.sent.get(&pid) == Some(&signal)
        {
            self.sent.remove(&pid);
        }
        (!PRIVATE.contains(&signal)).then(|| name(signal))
    }
}

/// Signals by which programs talk to themselves: a child's end, timers, data that arrived.
/// One that is not handled and ends the process is told all the same.
const PRIVATE: [i32; 7] = [
    libc::SIGCHLD,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGURG,
    libc::SIGIO,
    libc::SIGPIPE,
];

/// A signal's name. Real-time signals go by number.
fn name(number: i32) -> Box<str> {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().into(),
        Err(_) => number.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    /// Threads 10 and 11 are of process 10, all others their own.
    fn pid_of(tid: i32) -> Option<i32> {
        Some(if tid == 11 { 10 } else { tid })
    }

    fn record(at: i64, tid: i32, seen: Seen) -> (Task, Record) {
        let task = Task {
            tid,
            pid: pid_of(tid),
            comm: None,
            softirq: false,
            bh_off: false,
        };
        let record = Record {
            at: Stamp(at),
            tid,
            context: Context::Thread { bh_off: false },
            seen,
            listener: Some(77),
        };
        (task, record)
    }

    /// What (tid, seen), in this order and a nanosecond apart, come to.
    fn joined(records: impl IntoIterator<Item = (i32, Seen)>) -> Vec<(i32, TracedWhat)> {
        let mut join = Join::default();
        let mut out = Vec::new();
        for (at, (tid, seen)) in (1..).zip(records) {
            let (task, record) = record(at, tid, seen);
            let traced = join.take(record, task, pid_of);
            out.extend(traced.map(|traced| (traced.task.tid, traced.what)));
        }
        out
    }

    fn sent(signal: i32, tid: i32) -> (i32, Seen) {
        (99, Seen::SignalSent { signal, tid })
    }

    fn delivered(tid: i32, signal: i32) -> (i32, Seen) {
        (tid, Seen::SignalDelivered { signal })
    }

    fn exit(tid: i32, last: bool) -> (i32, Seen) {
        let last = Some(last);
        (tid, Seen::Exit { last, comm: None })
    }

    fn signalled(tid: i32, signal: i32) -> (i32, TracedWhat) {
        let signal = name(signal);
        (tid, TracedWhat::Signalled { signal })
    }

    #[test]
    fn an_accept_has_its_listener_and_its_beginning() {
        let found = joined([
            (10, Seen::AcceptEntered { fd: 3 }),
            (11, Seen::AcceptLeft { result: 8 }),
            (10, Seen::AcceptLeft { result: 7 }),
            (10, Seen::AcceptLeft { result: 9 }),
        ]);
        let accepted = |tid, fd, begun: Option<i64>| {
            let what = TracedWhat::Accepted {
                listener: begun.map(|_| 77),
                fd,
                entered: begun.map(Stamp),
            };
            (tid, what)
        };
        let expected = [
            accepted(11, 8, None),
            accepted(10, 7, Some(1)),
            accepted(10, 9, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_accept_that_was_under_way_has_its_listener_unless_it_may_be_an_earlier_one() {
        let first = |left, records: &[Seen]| {
            let waiting = Waiting {
                tid: 10,
                since: Stamp(5),
                seen: Stamp(7),
                listener: Some(66),
            };
            let mut join = Join::new(vec![waiting]);
            let told = (left..).zip(records).find_map(|(at, seen)| {
                let (task, record) = record(at, 10, seen.clone());
                join.take(record, task, pid_of)
            });
            match told.expect("an accept").what {
                TracedWhat::Accepted {
                    listener, entered, ..
                } => (listener, entered),
                other => panic!("{other:?}"),
            }
        };
        let (enter, left) = (
            Seen::AcceptEntered { fd: 3 },
            Seen::AcceptLeft { result: 8 },
        );
        let waited = (Some(66), Some(Stamp(5)));
        assert_eq!(first(9, slice::from_ref(&left)), waited);
        assert_eq!(first(7, slice::from_ref(&left)), waited);
        assert_eq!(first(6, slice::from_ref(&left)), (None, None));
        assert_eq!(first(4, &[enter, left]), (Some(77), Some(Stamp(4))));
    }

    #[test]
    fn what_a_program_tells_itself_is_left_out_unless_it_ends_it() {
        let found = joined([
            delivered(10, libc::SIGCHLD),
            delivered(10, libc::SIGALRM),
            sent(libc::SIGALRM, 10),
            delivered(10, libc::SIGKILL),
        ]);
        assert_eq!(found, [signalled(10, libc::SIGALRM)]);
    }

    #[test]
    fn an_accept_that_failed_is_none() {
        let again = Seen::AcceptLeft { result: -11 };
        assert_eq!(
            joined([(10, Seen::AcceptEntered { fd: 3 }), (10, again)]),
            []
        );
    }

    #[test]
    fn a_signal_that_is_not_handled_is_told_by_its_own_number_and_once() {
        let found = joined([
            sent(libc::SIGTERM, 10),
            delivered(10, libc::SIGKILL),
            exit(10, false),
            delivered(11, libc::SIGKILL),
            exit(11, true),
        ]);
        assert_eq!(
            found,
            [signalled(10, libc::SIGTERM), (11, TracedWhat::Exited)]
        );
    }

    #[test]
    fn a_signal_that_is_handled_is_told_and_then_forgotten() {
        let found = joined([
            sent(libc::SIGTERM, 10),
            delivered(11, libc::SIGTERM),
            delivered(10, libc::SIGKILL),
        ]);
        assert_eq!(found, [signalled(11, libc::SIGTERM)]);
    }

    #[test]
    fn threads_that_end_with_their_process_got_no_signal() {
        let found = joined([
            // Sent and never taken: blocked, and read from a signalfd.
            sent(libc::SIGTERM, 10),
            (10, Seen::GroupExit),
            exit(10, false),
            delivered(11, libc::SIGKILL),
            exit(11, true),
        ]);
        assert_eq!(found, [(11, TracedWhat::Exited)]);
    }

    #[test]
    fn without_group_dead_a_process_ends_with_its_first_thread() {
        let end = |tid| {
            let (last, comm) = (None, None);
            (tid, Seen::Exit { last, comm })
        };
        assert_eq!(joined([end(11), end(10)]), [(10, TracedWhat::Exited)]);
    }
}
