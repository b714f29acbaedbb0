use super::*;
use crate::cause::{Cause, RetrySafe};
use crate::flow::script::{TICK, ends, segments, segments_from};
use crate::kernel::{
    Able, Act, Counters, DiagTable, Owner, Poll, Polled, Sides, Task, TcpState, TraceSide,
    TraceTable, Traced, TracedWhat,
};
use crate::outcome::{Call, Cohort, Errno, Failure, Response};

/// An attempt on the script's 4-tuple that connected, asked at its third segment, and ended.
fn attempt(conn: u64, opened: i64, end: SocketEnd, ended: i64) -> Attempt {
    let local = Some(ends().client);
    Attempt {
        conn,
        maker: Maker::Socket,
        cohort: Cohort::Steady,
        local,
        peer: ends().server,
        due: None,
        opened: Stamp(opened),
        connected: Some(Stamp(opened + TICK)),
        request: Some(Stamp(opened + 2 * TICK)),
        request_len: 27,
        written: 27,
        response: Response::default(),
        end,
        ended: Stamp(ended),
        info: None,
    }
}

fn reading(errno: Errno) -> SocketEnd {
    SocketEnd::Failed(Failure {
        call: Call::Read,
        errno,
    })
}

fn join() -> Join {
    Join::with_wire(
        ends().server,
        Protocol::Http,
        Some(Duration::from_secs(5)),
        false,
    )
}

fn show(join: &mut Join, script: &str) {
    for segment in &segments(script) {
        join.segment(segment);
    }
}

fn late(after: i64, span: Duration) -> Stamp {
    Stamp(after) + span
}

const RESET: &str = ">S <S. >. >P.[get] <. <R.";

#[test]
fn a_record_waits_until_its_flow_is_over_and_settled() {
    let mut join = join();
    join.attempt(attempt(1, 0, reading(Errno::Reset), 6 * TICK));
    show(&mut join, RESET);
    join.advance(Stamp(7 * TICK));
    assert!(join.next_record().is_none());
    join.advance(late(6 * TICK, SETTLE));
    let record = join.next_record().unwrap();
    assert_eq!(record.outcome, Outcome::ResetEmpty);
    assert_eq!(
        record.sequence.unwrap().to_string(),
        ">S <S. >. >P.(27) <. <R."
    );
    assert_eq!(record.socket_outcome, None);
    assert_eq!(record.times.end, Some(Stamp(5 * TICK)));
    assert_eq!(record.curl_exit, Some(56));
}

#[test]
fn a_flow_that_the_server_leaves_open_is_let_go_of() {
    let mut join = join();
    join.attempt(attempt(1, 0, SocketEnd::Deadline, 6 * TICK));
    show(&mut join, ">S <S. >. >P.[get] <.");
    join.advance(late(6 * TICK, LINGER / 2));
    assert!(join.next_record().is_none());
    join.advance(late(6 * TICK, LINGER));
    assert_eq!(join.next_record().unwrap().outcome, Outcome::Hung);
}

#[test]
fn records_keep_the_order_in_which_attempts_ended() {
    let mut join = join();
    let other = |conn, ended| Attempt {
        local: Some("10.0.0.1:40001".parse().unwrap()),
        ..attempt(conn, 0, reading(Errno::Reset), ended)
    };
    join.attempt(other(2, 5 * TICK));
    join.attempt(attempt(1, 0, reading(Errno::Reset), 6 * TICK));
    show(&mut join, RESET);
    join.advance(late(6 * TICK, SETTLE));
    // The second is complete, the first still waits for its flow.
    assert!(join.next_record().is_none());
    join.advance(late(6 * TICK, LINGER));
    assert_eq!(join.next_record().unwrap().conn, 2);
    assert_eq!(join.next_record().unwrap().conn, 1);
}

#[test]
fn a_port_used_again_gives_each_attempt_its_own_flow() {
    let mut join = join();
    let second_at = 50_000_000;
    show(&mut join, RESET);
    for mut segment in segments_from(">S <R.", 77, 88) {
        segment.at = Stamp(segment.at.0 + second_at);
        join.segment(&segment);
    }
    let refused = SocketEnd::Failed(Failure {
        call: Call::Connect,
        errno: Errno::Refused,
    });
    let second = Attempt {
        connected: None,
        request: None,
        written: 0,
        ..attempt(2, second_at, refused, second_at + TICK)
    };
    join.attempt(attempt(1, 0, reading(Errno::Reset), 6 * TICK));
    join.attempt(second);
    join.finish();
    let first = join.next_record().unwrap();
    assert_eq!((first.conn, first.outcome), (1, Outcome::ResetEmpty));
    let second = join.next_record().unwrap();
    assert_eq!((second.conn, second.outcome), (2, Outcome::Refused));
    assert_eq!(second.sequence.unwrap().to_string(), ">S <R.");
}

#[test]
fn where_the_vantages_differ_both_are_told() {
    let mut join = join();
    // The RST was on the wire before the request was, but the socket wrote without noticing.
    show(&mut join, ">S <S. >. <R. >P.[get] <R");
    join.attempt(attempt(1, 0, reading(Errno::Reset), 6 * TICK));
    join.finish();
    let record = join.next_record().unwrap();
    assert_eq!(record.outcome, Outcome::ResetOnConnect);
    assert_eq!(record.socket_outcome, Some(Outcome::ResetEmpty));
    assert!(record.caveats.vantages_differ);
}

#[test]
fn a_reset_on_the_wire_before_the_deadline_decides() {
    let mut join = join();
    show(&mut join, RESET);
    join.attempt(attempt(1, 0, SocketEnd::Deadline, 6 * TICK));
    join.finish();
    let record = join.next_record().unwrap();
    assert_eq!(record.outcome, Outcome::ResetEmpty);
    assert_eq!(record.socket_outcome, Some(Outcome::Hung));
}

#[test]
fn what_the_wire_missed_the_socket_decides() {
    let mut join = join();
    join.attempt(attempt(1, 0, SocketEnd::Eof, 6 * TICK));
    join.finish();
    let record = join.next_record().unwrap();
    assert_eq!(record.outcome, Outcome::ClosedEmpty);
    assert!(record.caveats.hole && !record.caveats.vantages_differ);
    assert!(record.evidence.socket && !record.evidence.wire);
    assert_eq!(record.sequence, None);
}

#[test]
fn an_interrupted_attempt_is_unfinished_at_the_captures_end() {
    let mut join = join();
    show(&mut join, ">S <S. >. >P.[get] <.");
    join.attempt(attempt(1, 0, SocketEnd::Interrupted, 6 * TICK));
    join.finish();
    let record = join.next_record().unwrap();
    assert_eq!(record.outcome, Outcome::Unfinished);
    assert!(record.caveats.capture_end);
    assert_eq!(
        (record.cause, record.retry_safe, record.times.end),
        (None, None, None)
    );
}

#[test]
fn curl_takes_a_cut_header_block_for_a_response() {
    let exit = |part: &str, head: Option<Stamp>| {
        let mut join = join();
        show(
            &mut join,
            &format!(">S <S. >. >P.[get] <. <P.[{part}] <F. >F. <."),
        );
        let mut attempt = attempt(1, 0, SocketEnd::Eof, 9 * TICK);
        attempt.response.first_byte = Some(Stamp(6 * TICK));
        attempt.response.head = head;
        join.attempt(attempt);
        join.finish();
        let record = join.next_record().unwrap();
        assert_eq!(record.outcome, Outcome::Truncated);
        record.curl_exit
    };
    assert_eq!(exit("cut-head", None), Some(0));
    assert_eq!(exit("ok-head", Some(Stamp(6 * TICK))), Some(18));
}

#[test]
fn connect_itself_failing_is_curls_7() {
    let mut join = Join::of_sockets(None, false);
    let end = SocketEnd::Failed(Failure {
        call: Call::Connect,
        errno: Errno::Reset,
    });
    join.attempt(Attempt {
        connected: None,
        request: None,
        written: 0,
        ..attempt(1, 0, end, TICK)
    });
    let record = join.next_record().unwrap();
    assert_eq!(
        (record.outcome, record.curl_exit),
        (Outcome::ResetOnConnect, Some(7))
    );
    assert!(record.was_answered());
}

#[test]
fn other_peoples_flows_are_let_go_of() {
    let mut join = join();
    show(&mut join, RESET);
    let to = Stamp(6 * TICK) + Duration::from_secs(10);
    join.advance_attempts(to);
    join.advance(to);
    assert!(join.flows.as_ref().unwrap().is_empty());
}

#[test]
fn an_attempt_that_is_handed_in_long_after_its_packets_still_finds_them() {
    let mut join = join();
    show(&mut join, RESET);
    join.advance_attempts(Stamp(3 * TICK));
    // The probe was stopped meanwhile, and read its packets first.
    let to = Stamp(6 * TICK) + Duration::from_secs(60);
    join.advance(to);
    join.attempt(attempt(1, 0, reading(Errno::Reset), to.0));
    join.advance_attempts(to);
    join.advance(to + Duration::from_secs(60));
    let record = join.next_record().unwrap();
    assert_eq!(
        record.sequence.unwrap().to_string(),
        ">S <S. >. >P.(27) <. <R."
    );
    assert!(!record.caveats.hole);
}

#[test]
fn a_finished_connection_that_is_held_stays_small() {
    // A million of them must fit into a gigabyte, what they point to included.
    assert!(size_of::<Record>() <= 512, "{}", size_of::<Record>());
}

#[test]
fn a_record_that_keeps_its_attempt_names_the_flow_that_its_segments_went_to() {
    let mut join = join().keeping_attempts();
    let straggler = &segments_from(">S <S. >. <R.", 7, 8)[3];
    let numbers = |join: &mut Join, segments: &[Segment]| {
        let numbers = segments.iter().map(|segment| join.segment(segment));
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(
        numbers(&mut join, std::slice::from_ref(straggler)),
        [Some(0)]
    );
    let own = segments(RESET);
    assert_eq!(numbers(&mut join, &own), vec![Some(1); own.len()]);
    join.attempt(attempt(4, 0, reading(Errno::Reset), 6 * TICK));
    join.advance(late(6 * TICK, LINGER));
    let steps = join.next_record().unwrap().steps.unwrap();
    assert_eq!(steps.flow, Some(1));
    assert_eq!(steps.attempt.unwrap().conn, 4);
    assert!(steps.seen.is_empty());
    // What comes later belongs to no record, and to no flow of one.
    let later = Segment {
        at: late(6 * TICK, LINGER),
        ..own[5].clone()
    };
    assert_ne!(join.segment(&later), Some(1));
}

/// Tracepoints that see everything from the beginning.
fn traced() -> TraceTable {
    let able = Able {
        reads: true,
        closings: true,
    };
    TraceTable::new(able, ends().server, Stamp(-1), true)
}

/// The server's socket, which process 70 then reads from.
fn events() -> Vec<Traced> {
    let state = |from, to| TracedWhat::State {
        ends: ends(),
        socket: 0xa0,
        from: Some(from),
        to: Some(to),
    };
    let read = TracedWhat::Read {
        ends: ends(),
        socket: 0xa0,
    };
    let whats = [
        (1, state(TcpState::Listen, TcpState::SynRecv)),
        (2, state(TcpState::SynRecv, TcpState::Established)),
        (4, read),
    ];
    let event = |(at, what)| Traced {
        at: Stamp(at * TICK),
        task: Task {
            tid: 700,
            pid: Some(70),
            comm: None,
            softirq: false,
            bh_off: false,
        },
        what,
    };
    whats.into_iter().map(event).collect()
}

#[test]
fn a_record_waits_until_tracepoints_have_told_of_its_end() {
    let mut join = join().with_kernel(Tables {
        trace: Some(traced()),
        diag: None,
    });
    join.attempt(attempt(1, 0, reading(Errno::Reset), 6 * TICK));
    show(&mut join, RESET);
    join.advance(late(6 * TICK, LINGER));
    assert!(join.next_record().is_none());
    let table = join.kernel().trace.as_mut().unwrap();
    events().iter().for_each(|event| drop(table.push(event)));
    table.advance(Stamp(7 * TICK));
    let record = join.next_record().unwrap();
    assert_eq!(record.cause, Some(Cause::ReadUnanswered));
    assert_eq!(record.retry_safe, Some(RetrySafe::No));
    assert_eq!(record.times.read, Some(Stamp(4 * TICK)));
    assert_eq!(record.server_pid, Some(70));
    let evidence: Vec<_> = record.evidence.words().collect();
    assert_eq!(evidence, ["socket", "wire", "trace"]);
}

#[test]
fn a_record_that_hung_waits_for_an_answer_after_its_end() {
    let mut join = Join::of_sockets(None, false).with_kernel(Tables {
        trace: None,
        diag: Some(DiagTable::new(false)),
    });
    join.attempt(attempt(1, 0, SocketEnd::Deadline, 6 * TICK));
    let queued = Polled {
        client: ends().client,
        cookie: 1,
        state: TcpState::CloseWait,
        owner: Owner::Nobody,
        unread: 28,
    };
    let poll = |asked: Stamp| Poll {
        asked,
        answered: asked,
        counters: Some(Counters::default()),
        listeners: None,
        connections: Some(vec![queued]),
    };
    let table = join.kernel().diag.as_mut().unwrap();
    table.push(&poll(Stamp(5 * TICK)));
    assert!(join.next_record().is_none());
    let table = join.kernel().diag.as_mut().unwrap();
    table.push(&poll(late(6 * TICK, Duration::from_secs(1))));
    let record = join.next_record().unwrap();
    assert_eq!(record.outcome, Outcome::Hung);
    assert_eq!(record.cause, Some(Cause::NeverAccepted));
    assert_eq!(record.retry_safe, Some(RetrySafe::Unknown));
    let evidence: Vec<_> = record.evidence.words().collect();
    assert_eq!(evidence, ["socket", "diag"]);
}

#[test]
fn an_end_is_an_end_though_the_servers_kernel_stays_silent() {
    let mut join = join().with_kernel(Tables {
        trace: Some(traced()),
        diag: Some(DiagTable::new(false)),
    });
    join.attempt(attempt(1, 0, reading(Errno::Reset), 6 * TICK));
    show(&mut join, RESET);
    join.finish();
    let record = join.next_record().unwrap();
    assert_eq!(record.cause, Some(Cause::Unknown));
    assert_eq!(record.candidates.len(), 3);
}

#[test]
fn a_listener_that_is_nowhere_here_says_nothing_of_a_server_that_answers() {
    let nobody_listens = |at: i64| Poll {
        asked: Stamp(at),
        answered: Stamp(at),
        counters: Some(Counters::default()),
        listeners: Some(Vec::new()),
        connections: Some(Vec::new()),
    };
    let mut table = DiagTable::new(false);
    table.push(&nobody_listens(-1));
    table.push(&nobody_listens(late(0, Duration::from_secs(1)).0));
    let mut join = Join::of_sockets(None, false).with_kernel(Tables {
        trace: None,
        diag: Some(table),
    });
    let refused = || {
        let end = SocketEnd::Failed(Failure {
            call: Call::Connect,
            errno: Errno::Refused,
        });
        Attempt {
            connected: None,
            request: None,
            written: 0,
            ..attempt(1, 0, end, TICK)
        }
    };
    join.attempt(refused());
    let record = join.next_record().unwrap();
    assert_eq!(record.cause, Some(Cause::NotListening));
    join.attempt(attempt(2, 0, SocketEnd::Deadline, 6 * TICK));
    assert_eq!(join.next_record().unwrap().outcome, Outcome::Hung);
    assert!(join.was_answered_elsewhere());
    join.attempt(refused());
    let record = join.next_record().unwrap();
    assert_eq!(record.cause, Some(Cause::Unknown));
    assert_eq!(record.candidates, [Cause::NotListening]);
}

#[test]
fn who_is_found_to_hold_a_connection_before_its_turn_took_it_unseen() {
    let act = |at, pid| {
        Some(Act {
            at: Stamp(at),
            pid: Some(pid),
        })
    };
    let accepted = |owned| {
        let trace = TraceSide {
            accepted: act(50, 70),
            ..TraceSide::default()
        };
        let diag = DiagSide {
            owned: act(owned, 71),
            ..DiagSide::default()
        };
        let mut record = Record::new(1, ends().server, Outcome::Hung);
        record.add_sides(&Sides {
            trace: Some(trace),
            diag: Some(diag),
        });
        (record.times.accepted, record.server_pid)
    };
    assert_eq!(accepted(60), (Some(Stamp(50)), Some(70)));
    assert_eq!(accepted(40), (Some(Stamp(40)), Some(71)));
}

#[test]
fn a_connection_that_asked_nothing_raises_no_question_of_asking_again() {
    for (script, connected, cause) in [
        (">S <S. >. >F. <F. >.", true, Some(Cause::Unknown)),
        (">S <S. >R", false, None),
    ] {
        let mut join = join();
        show(&mut join, script);
        join.attempt(Attempt {
            maker: Maker::Raw,
            connected: connected.then_some(Stamp(TICK)),
            request: None,
            written: 0,
            ..attempt(1, 0, SocketEnd::Left, 2 * TICK)
        });
        join.finish();
        let record = join.next_record().unwrap();
        assert_eq!(record.outcome, Outcome::ClientClosed, "{script}");
        assert_eq!(record.retry_safe, None, "{script}");
        assert_eq!(record.cause, cause, "{script}");
        assert!(!record.evidence.socket && record.evidence.wire);
    }
}
