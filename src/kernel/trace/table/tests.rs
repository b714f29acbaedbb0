use super::*;
use crate::flow::script::ends;

const LISTENER: u64 = 0x11;
const SOCKET: u64 = 0xa0;
const ABLE: Able = Able {
    reads: true,
    closings: true,
};

fn task(tid: i32) -> Task {
    Task {
        tid,
        pid: Some(tid / 10),
        comm: None,
        softirq: false,
        bh_off: false,
    }
}

/// The same while softirqs are held off.
fn held_off(tid: i32) -> Task {
    Task {
        bh_off: true,
        ..task(tid)
    }
}

/// A listener at the server's address.
fn listener(inode: u64, queued: u32) -> Listening {
    Listening {
        local: ends().server,
        inode,
        bound: false,
        queued,
        limit: 10,
    }
}

/// Whoever runs when the network has something to do.
fn nobody() -> Task {
    Task {
        softirq: true,
        ..task(990)
    }
}

fn act(at: i64, pid: i32) -> Act {
    Act {
        at: Stamp(at),
        pid: Some(pid),
    }
}

/// Events one after the other, 10 nanoseconds apart.
struct Script {
    table: TraceTable,
    at: i64,
}

impl Script {
    fn new() -> Script {
        Script {
            table: TraceTable::new(ABLE, ends().server, Stamp(0), false),
            at: 0,
        }
    }

    fn event(&mut self, task: Task, what: TracedWhat) -> &mut Script {
        self.at += 10;
        self.table.push(&Traced {
            at: Stamp(self.at),
            task,
            what,
        });
        self
    }

    fn state(&mut self, task: Task, socket: u64, from: TcpState, to: TcpState) -> &mut Script {
        let ends = match socket {
            LISTENER => Ends {
                client: "0.0.0.0:0".parse().unwrap(),
                server: ends().server,
            },
            _ => ends(),
        };
        self.event(
            task,
            TracedWhat::State {
                ends,
                socket,
                from: Some(from),
                to: Some(to),
            },
        )
    }

    /// The handshake is done; the second event.
    fn established(&mut self, socket: u64) -> &mut Script {
        self.state(nobody(), socket, TcpState::Listen, TcpState::SynRecv)
            .state(nobody(), socket, TcpState::SynRecv, TcpState::Established)
    }

    fn read(&mut self, task: Task, socket: u64) -> &mut Script {
        let ends = ends();
        self.event(task, TracedWhat::Read { ends, socket })
    }

    fn reset(&mut self, task: Task, socket: Option<u64>, reason: &str) -> &mut Script {
        self.event(
            task,
            TracedWhat::ResetSent {
                ends: ends(),
                socket,
                state: socket.map(|_| TcpState::Close),
                reason: Some(reason.into()),
            },
        )
    }

    fn destroyed(&mut self, socket: u64) -> &mut Script {
        self.event(task(990), TracedWhat::Destroyed { socket })
    }

    fn accepted(&mut self, task: Task, listener: Option<u64>) -> &mut Script {
        self.event(
            task,
            TracedWhat::Accepted {
                listener,
                fd: 7,
                entered: None,
            },
        )
    }

    /// A process closes the connection, and the kernel resets it for that.
    fn aborted(&mut self, task: Task, socket: u64, reason: &str) -> &mut Script {
        self.state(task, socket, TcpState::Established, TcpState::Close)
            .reset(task, Some(socket), reason)
            .destroyed(socket)
    }

    fn life(&self) -> Life {
        Life {
            opened: Stamp(1),
            closed: Stamp(self.at),
            end: Stamp(self.at),
        }
    }

    /// What is known of the connection that lived all the while.
    fn side(&mut self) -> Option<TraceSide> {
        self.table.advance(Stamp(self.at + 1));
        let life = self.life();
        Some(self.table.take(ends(), life)?.0)
    }
}

#[test]
fn a_reset_from_time_wait_is_of_the_connection_that_was() {
    let mut script = Script::new();
    script.established(SOCKET).read(task(70), SOCKET).event(
        nobody(),
        TracedWhat::ResetSent {
            ends: ends(),
            socket: Some(0xdd),
            state: Some(TcpState::TimeWait),
            reason: Some("TCP_TIMEWAIT_SOCKET".into()),
        },
    );
    let side = script.side().unwrap();
    assert_eq!(side.read, Some(act(30, 7)));
    assert_eq!(side.reset.unwrap().by, ResetBy::Kernel);
}

#[test]
fn a_queue_is_reset_by_whoever_closes_the_listener() {
    let mut script = Script::new();
    script
        .established(SOCKET)
        .state(task(700), LISTENER, TcpState::Listen, TcpState::Close)
        .aborted(task(700), SOCKET, "TCP_STATE");
    let side = script.side().unwrap();
    let reset = Reset {
        at: Stamp(50),
        by: ResetBy::Listener,
        pid: Some(70),
        reason: Some("TCP_STATE".into()),
    };
    assert_eq!(
        side,
        TraceSide {
            whole: true,
            established: Some(Stamp(20)),
            reset: Some(reset),
            ..TraceSide::default()
        }
    );
    let course = script.table.course();
    assert_eq!(course.listener_closed, Some(act(30, 70)));
    assert_eq!(course.queue_reset, Some(Stamp(50)));
}

#[test]
fn whoever_goes_on_closing_after_the_listener_resets_what_he_had_accepted() {
    let closing = |after: &dyn Fn(&mut Script)| {
        let mut script = Script::new();
        script.established(SOCKET);
        script.state(task(700), LISTENER, TcpState::Listen, TcpState::Close);
        after(&mut script);
        script.aborted(task(700), SOCKET, "TCP_STATE");
        script.side().unwrap()
    };
    let let_go = closing(&|script| {
        script.destroyed(LISTENER);
    });
    let shut_down = closing(&|script| {
        script.event(task(700), TracedWhat::ShutDown);
    });
    for side in [let_go, shut_down] {
        assert_eq!(side.reset.unwrap().by, ResetBy::Process);
        assert_eq!(side.closed, Some(act(50, 70)));
    }
    // Another thread's listener says nothing about this one's connections.
    let mut script = Script::new();
    script
        .established(SOCKET)
        .state(task(701), LISTENER, TcpState::Listen, TcpState::Close)
        .aborted(task(700), SOCKET, "TCP_STATE");
    assert_eq!(script.side().unwrap().reset.unwrap().by, ResetBy::Process);
}

#[test]
fn a_kernel_that_does_not_show_when_a_listener_is_closed_leaves_it_open_who_reset() {
    let mut script = Script::new();
    script.table.able.closings = false;
    script
        .established(SOCKET)
        .state(task(700), LISTENER, TcpState::Listen, TcpState::Close)
        .aborted(task(700), SOCKET, "TCP_STATE");
    let side = script.side().unwrap();
    assert_eq!(side.reset.unwrap().by, ResetBy::Kernel);
    assert_eq!(side.closed, None);
}

#[test]
fn what_the_kernel_sends_by_itself_is_nobodys() {
    for (socket, task) in [(None, task(700)), (Some(SOCKET), nobody())] {
        let mut script = Script::new();
        script.established(SOCKET);
        if socket.is_none() {
            script.destroyed(SOCKET);
        }
        script.reset(task, socket, "NO_SOCKET");
        let reset = script.side().unwrap().reset.unwrap();
        assert_eq!((reset.by, reset.pid), (ResetBy::Kernel, None));
    }
    // Of a connection that never had a socket, too.
    let mut script = Script::new();
    script.reset(nobody(), None, "NO_SOCKET");
    let side = script.side().unwrap();
    assert_eq!(side.established, None);
    assert_eq!(side.reset.unwrap().reason.as_deref(), Some("NO_SOCKET"));
}

#[test]
fn the_first_read_counts_and_who_closes_had_accepted() {
    let mut script = Script::new();
    script
        .established(SOCKET)
        .read(task(700), SOCKET)
        .read(task(710), SOCKET)
        .state(task(701), SOCKET, TcpState::Established, TcpState::FinWait1);
    let side = script.side().unwrap();
    assert_eq!(side.read, Some(act(30, 70)));
    assert_eq!(side.closed, Some(act(50, 70)));
}

#[test]
fn a_client_that_closes_closes_nothing_of_the_servers() {
    let mut script = Script::new();
    script
        .established(SOCKET)
        .state(
            task(700),
            SOCKET,
            TcpState::Established,
            TcpState::CloseWait,
        )
        .state(nobody(), SOCKET, TcpState::CloseWait, TcpState::Close);
    assert_eq!(script.side().unwrap().closed, None);
}

#[test]
fn what_may_have_been_missed_is_not_whole() {
    let whole = |change: &dyn Fn(&mut Script)| {
        let mut script = Script::new();
        script.established(SOCKET);
        change(&mut script);
        script.side().unwrap().whole
    };
    assert!(whole(&|_| {}));
    let lost = |from, to| Lost {
        from: Stamp(from),
        to: Stamp(to),
    };
    assert!(!whole(&|script| script.table.lose(lost(15, 900))));
    assert!(whole(&|script| script.table.lose(lost(21, 900))));
    assert!(!whole(&|script| script.table.from = Stamp(2)));
    assert!(!whole(&|script| script.table.able.reads = false));
    // Its end is later than what has been handed in.
    let mut script = Script::new();
    script.established(SOCKET);
    let life = script.life();
    assert!(!script.table.take(ends(), life).unwrap().0.whole);
}

#[test]
fn one_4_tuple_in_two_name_spaces_is_nobodys_evidence() {
    let mut script = Script::new();
    script
        .established(SOCKET)
        .established(0xb0)
        .read(task(700), 0xb0);
    assert_eq!(script.side(), None);
    // One after the other it is two connections.
    let mut script = Script::new();
    script.established(SOCKET).read(task(700), SOCKET);
    let first = script.life();
    script.destroyed(SOCKET).established(0xb0);
    script.table.advance(Stamp(900));
    let (side, _) = script.table.take(ends(), first).unwrap();
    assert!(side.read.is_some());
    let life = Life {
        opened: Stamp(45),
        ..script.life()
    };
    let (side, _) = script.table.take(ends(), life).unwrap();
    assert_eq!((side.read, side.established), (None, Some(Stamp(60))));
}

#[test]
fn accepts_are_counted_from_an_empty_queue_of_a_single_listener() {
    let accepted = |listeners: &[Listening], from: Option<u64>| {
        let mut script = Script::new();
        script.table.listen(listeners, true, Stamp(0));
        script.established(SOCKET).accepted(task(700), from);
        script.side().unwrap().accepted
    };
    assert_eq!(accepted(&[listener(5, 0)], Some(5)), Some(act(30, 70)));
    // From another listener of the server's.
    assert_eq!(accepted(&[listener(5, 0)], Some(6)), None);
    assert_eq!(accepted(&[listener(5, 0)], None), None);
    assert_eq!(accepted(&[listener(5, 1)], Some(5)), None);
    assert_eq!(accepted(&[listener(5, 0), listener(6, 0)], Some(5)), None);
    assert_eq!(accepted(&[], Some(5)), None);
}

#[test]
fn the_course_tells_who_took_how_many_and_what_came_after() {
    let mut script = Script::new();
    script.table.listen(&[listener(5, 0)], true, Stamp(0));
    script
        .established(SOCKET)
        .accepted(task(700), Some(5))
        .established(0xb0)
        .accepted(task(710), Some(5))
        .accepted(task(711), Some(6))
        .established(0xc0)
        .established(0xd0)
        .event(
            task(700),
            TracedWhat::Signalled {
                signal: "SIGTERM".into(),
            },
        )
        .event(task(700), TracedWhat::Exited);
    let course = script.table.course();
    assert_eq!((course.taken, course.taken_since_accept), (4, 2));
    assert_eq!(course.last_accept(), Some(Stamp(60)));
    let counts: Vec<_> = course.accepted.iter().map(|(p, a)| (*p, a.count)).collect();
    assert_eq!(counts, [(70, 1), (71, 1)]);
    assert_eq!(course.signals, [(act(120, 70), "SIGTERM".into())]);
    assert_eq!(course.exits, [act(130, 70)]);
}

#[test]
fn what_was_seen_is_listed_where_asked_for() {
    let mut script = Script::new();
    script.table.keep = true;
    script.table.listen(&[listener(5, 0)], true, Stamp(0));
    script
        .established(SOCKET)
        .accepted(task(701), Some(5))
        .read(task(700), SOCKET)
        .aborted(task(700), SOCKET, "TCP_ABORT_ON_CLOSE");
    script.table.advance(Stamp(900));
    let life = script.life();
    let (_, events) = script.table.take(ends(), life).unwrap();
    let seen: Vec<_> = events.iter().map(|s| (s.at.0, s.event, s.pid)).collect();
    assert_eq!(
        seen,
        [
            (20, "established", None),
            (30, "accepted", Some(70)),
            (40, "read", Some(70)),
            (50, "closed", Some(70)),
            (60, "reset_sent", Some(70)),
        ]
    );
    assert_eq!(
        events[4].detail.as_deref(),
        Some("TCP_ABORT_ON_CLOSE tid=700")
    );
}

#[test]
fn softirqs_held_off_tell_a_queue_from_what_its_closer_had_accepted() {
    let closing = |closer: Task, reason: &str| {
        let mut script = Script::new();
        // That this kernel tells of it shows with the first socket that goes.
        script
            .event(held_off(990), TracedWhat::Destroyed { socket: 0xff })
            .established(SOCKET)
            .state(task(700), LISTENER, TcpState::Listen, TcpState::Close)
            .aborted(closer, SOCKET, reason);
        let side = script.side().unwrap();
        (side.reset.unwrap().by, side.closed.is_some())
    };
    let queue = (ResetBy::Listener, false);
    let owner = (ResetBy::Process, true);
    assert_eq!(closing(held_off(700), "TCP_STATE"), queue);
    // The listener was closed by a call whose end nobody sees (connect(), io_uring).
    assert_eq!(closing(task(700), "TCP_STATE"), owner);
    // From outside (ss -K).
    let outside = (ResetBy::Kernel, false);
    assert_eq!(closing(held_off(710), "TCP_STATE"), outside);
    assert_eq!(closing(task(710), "TCP_STATE"), owner);
}

#[test]
fn what_was_unread_or_accepted_was_in_no_queue() {
    let mut script = Script::new();
    script
        .established(SOCKET)
        .state(task(700), LISTENER, TcpState::Listen, TcpState::Close)
        .reset(task(700), Some(SOCKET), "TCP_ABORT_ON_CLOSE");
    assert_eq!(script.side().unwrap().reset.unwrap().by, ResetBy::Process);
    let mut script = Script::new();
    script.table.listen(&[listener(5, 0)], true, Stamp(0));
    script
        .established(SOCKET)
        .accepted(task(700), Some(5))
        .state(task(700), LISTENER, TcpState::Listen, TcpState::Close)
        .reset(task(700), Some(SOCKET), "TCP_STATE");
    assert_eq!(script.side().unwrap().reset.unwrap().by, ResetBy::Process);
}

#[test]
fn a_reset_without_a_socket_is_not_of_a_connection_that_has_one() {
    let mut script = Script::new();
    script
        .established(SOCKET)
        .reset(nobody(), None, "NO_SOCKET")
        .read(task(700), SOCKET)
        .aborted(task(700), SOCKET, "TCP_STATE");
    let reset = script.side().unwrap().reset.unwrap();
    assert_eq!(reset.reason.as_deref(), Some("TCP_STATE"));
}

#[test]
fn another_address_of_the_servers_is_another_connection() {
    let mut script = Script::new();
    script.established(SOCKET).read(task(700), SOCKET);
    script.table.advance(Stamp(900));
    let mut other = ends();
    other.server.set_ip("127.0.0.2".parse().unwrap());
    let life = script.life();
    assert!(script.table.take(other, life).is_none());
    assert!(script.table.take(ends(), life).is_some());
}

#[test]
fn what_joins_another_listeners_queue_is_not_counted_in_this_one() {
    let mut script = Script::new();
    let elsewhere = Listening {
        local: "127.0.0.2:80".parse().unwrap(),
        ..listener(5, 0)
    };
    script.table.listen(&[elsewhere], true, Stamp(0));
    script.established(SOCKET).accepted(task(700), Some(5));
    let course = script.table.course();
    assert_eq!((course.taken, course.accepted.len()), (0, 1));
    assert_eq!(script.side().unwrap().accepted, None);
    // Somebody accepts whose accepts nobody sees.
    let mut script = Script::new();
    script.table.listen(&[listener(5, 0)], false, Stamp(0));
    script.established(SOCKET).accepted(task(700), Some(5));
    assert_eq!(script.side().unwrap().accepted, None);
}

#[test]
fn whoever_begins_to_listen_later_has_a_queue_of_his_own() {
    let mut script = Script::new();
    script.table.listen(&[listener(5, 0)], true, Stamp(0));
    script
        .state(task(800), LISTENER, TcpState::Close, TcpState::Listen)
        .established(SOCKET)
        .accepted(task(800), Some(6));
    assert_eq!(script.table.course().listening, Some(act(10, 80)));
    assert_eq!(script.table.course().accepted.len(), 1);
    assert_eq!(script.side().unwrap().accepted, None);
}
