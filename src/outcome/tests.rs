//! One script for each row of the outcomes' table and of the measured causes, and what must hold for
//! any stream of segments.

use proptest::prelude::*;

use super::*;
use crate::flow::Protocol;
use crate::flow::script::{
    TICK, decision, direction, flow_of, flow_with, live, live_until, play, segments, segments_from,
};
use crate::wire::{Direction, Flags, Segment};

/// What a live wire makes of a script whose deadline passes at its end.
fn at_deadline(script: &str) -> Outcome {
    let flow = play(script);
    let deadline = Some(Stamp(flow.last().0 + 1));
    decision(&flow, live_until(deadline)).outcome
}

fn in_capture(script: &str) -> Outcome {
    decision(&play(script), Watch::Capture).outcome
}

#[test]
fn reset_of_the_syn_is_refused() {
    assert_eq!(live(&play(">S <R.")), Outcome::Refused);
}

#[test]
fn silence_after_the_syn_is_unanswered() {
    assert_eq!(at_deadline(">S >S~ >S~"), Outcome::Unanswered);
    assert_eq!(live(&play(">S >S~")), Outcome::Unfinished);
}

#[test]
fn reset_before_the_request_leaves_is_reset_on_connect() {
    assert_eq!(live(&play(">S <S. >. <R.")), Outcome::ResetOnConnect);
    assert_eq!(live(&play(">S <S. <R.")), Outcome::ResetOnConnect);
    // The request left, but the RST was there before it.
    assert_eq!(
        live(&play(">S <S. >. <R. >P.[get] <R")),
        Outcome::ResetOnConnect
    );
}

#[test]
fn reset_after_request_is_acked_is_reset_empty() {
    // Queue reset, unread close and linger 0 are this one sequence.
    assert_eq!(
        live(&play(">S <S. >. >P.[get] <. <R.")),
        Outcome::ResetEmpty
    );
}

#[test]
fn reset_in_reply_to_the_request_is_reset_empty() {
    // TCP_DEFER_ACCEPT with the listener gone, or overflow with abort_on_overflow.
    assert_eq!(live(&play(">S <S. >. >P.[get] <R")), Outcome::ResetEmpty);
}

#[test]
fn reset_after_a_half_close_is_reset_empty() {
    assert_eq!(
        live(&play(">S <S. >. >P.[get] >F. <. <R.")),
        Outcome::ResetEmpty
    );
}

#[test]
fn fin_without_a_response_is_closed_empty() {
    let flow = play(">S <S. >. >P.[get] <. <F. >F. <.");
    assert_eq!(live(&flow), Outcome::ClosedEmpty);
    assert!(flow.is_over());
}

#[test]
fn fin_before_a_late_request_is_closed_empty() {
    assert_eq!(
        live(&play(">S <S. >. <F. >. >P.[get] <R")),
        Outcome::ClosedEmpty
    );
}

#[test]
fn simultaneous_fin_is_closed_empty() {
    assert_eq!(
        live(&play(">S <S. >. >P.[get] <. <F. >F. <. >.")),
        Outcome::ClosedEmpty
    );
}

#[test]
fn silence_after_the_request_is_hung() {
    assert_eq!(at_deadline(">S <S. >. >P.[get] <."), Outcome::Hung);
    // Limbo: the request is sent again and again and never acknowledged.
    assert_eq!(
        at_deadline(">S <S. >. >P.[get] >P.[get]~ >P.[get]~"),
        Outcome::Hung
    );
}

#[test]
fn what_comes_after_the_deadline_changes_nothing() {
    let flow = play(">S <S. >. >P.[get] <. >F. <. <R.");
    let deadline = Some(Stamp(5 * TICK - 1));
    assert_eq!(decision(&flow, live_until(deadline)).outcome, Outcome::Hung);
    let after = Some(Stamp(7 * TICK + 1));
    assert_eq!(
        decision(&flow, live_until(after)).outcome,
        Outcome::ResetEmpty
    );
}

#[test]
fn what_our_own_interrupt_brings_about_is_nobodys_loss() {
    let flow = play(">S <S. >. >P.[get] <. >F. <F. >.");
    let abandoned = Watch::Live {
        deadline: None,
        abandoned: Some(Stamp(5 * TICK - 1)),
        left: None,
    };
    assert_eq!(decision(&flow, abandoned).outcome, Outcome::Unfinished);
}

#[test]
fn a_connection_that_was_to_ask_nothing_ends_with_what_came_first() {
    let left = Watch::Live {
        deadline: None,
        abandoned: None,
        left: Some(Stamp(3 * TICK)),
    };
    for (script, outcome) in [
        (">S <S. >R", Outcome::ClientClosed),
        (">S <S. >. >R.", Outcome::ClientClosed),
        (">S <S. >. >F. <F. >.", Outcome::ClientClosed),
        (">S <S. >. <R", Outcome::ResetOnConnect),
        (">S <S. >. <F. >. >F. <.", Outcome::ClosedEmpty),
        (">S <R.", Outcome::Refused),
    ] {
        let flow = play(script);
        assert_eq!(decision(&flow, left).outcome, outcome, "{script}");
    }
}

#[test]
fn a_complete_response_is_served_whatever_follows() {
    for end in ["<F. >F. <.", "<R.", "", "<F. >. >R."] {
        let script = format!(">S <S. >. >P.[get] <. <P.[ok] >. {end}");
        assert_eq!(live(&play(&script)), Outcome::Served, "{end}");
    }
}

#[test]
fn early_response_then_reset_is_served() {
    assert_eq!(
        live(&play(">S <S. >. >P.[post] <P.[busy] >. <R.")),
        Outcome::Served
    );
}

#[test]
fn responses_are_framed_as_http_frames_them() {
    for response in [
        "<P.[ok-head] <P.[he] <P.[llo]",
        "<P.[chunks] <P.[last-chunk]",
        "<P.[continue] <P.[ok]",
        "<P.[to-the-end] <F.",
    ] {
        let script = format!(">S <S. >. >P.[get] <. {response}");
        assert_eq!(live(&play(&script)), Outcome::Served, "{response}");
    }
    assert_eq!(
        live(&play(">S <S. >. >P.[head] <. <P.[ok-head]")),
        Outcome::Served
    );
}

#[test]
fn fin_inside_a_response_is_truncated() {
    for part in ["cut-head", "ok-head", "chunks"] {
        let script = format!(">S <S. >. >P.[get] <. <P.[{part}] <F. >F. <.");
        assert_eq!(live(&play(&script)), Outcome::Truncated, "{part}");
    }
}

#[test]
fn reset_inside_a_response_is_reset_midway() {
    for part in ["cut-head", "ok-head", "chunks", "to-the-end"] {
        let script = format!(">S <S. >. >P.[get] <. <P.[{part}] >. <R.");
        assert_eq!(live(&play(&script)), Outcome::ResetMidway, "{part}");
    }
}

#[test]
fn silence_inside_a_response_is_stalled() {
    assert_eq!(
        at_deadline(">S <S. >. >P.[get] <. <P.[ok-head] >."),
        Outcome::Stalled
    );
}

#[test]
fn bytes_that_are_no_http_are_malformed() {
    assert_eq!(
        live(&play(">S <S. >. >P.[get] <. <P.[ssh] <R.")),
        Outcome::Malformed
    );
}

#[test]
fn a_capture_cannot_tell_a_deadline_from_an_abort() {
    assert_eq!(
        in_capture(">S <S. >. >P.[get] <. >F. <."),
        Outcome::ClientClosed
    );
    assert_eq!(
        in_capture(">S <S. >. >P.[get] <. >F. <. <R."),
        Outcome::ClientClosed
    );
    assert_eq!(
        in_capture(">S <S. >. >P.[get] <. >R."),
        Outcome::ClientClosed
    );
    assert_eq!(in_capture(">S <S. >. >P.[get] <."), Outcome::Unfinished);
    // A response into a closed client, which its kernel answers with RST.
    assert_eq!(
        in_capture(">S <S. >. >P.[get] <. >F. <. <P.[ok] >R"),
        Outcome::ClientClosed
    );
    // It reset a connection whose response had begun.
    assert_eq!(
        in_capture(">S <S. >. >P.[get] <. <P.[ok-head] >R."),
        Outcome::ClientClosed
    );
}

#[test]
fn a_capture_that_begins_inside_decides_only_what_is_complete() {
    assert_eq!(
        in_capture("<P.[ok-head] >. <F. >F. <."),
        Outcome::Unfinished
    );
    assert_eq!(in_capture(">P.[get] <. <R."), Outcome::Unfinished);
    assert_eq!(
        in_capture(">P.[get] <. <P.[ok] <F. >F. <."),
        Outcome::Served
    );
}

#[test]
fn a_half_close_does_not_end_the_response() {
    assert_eq!(
        live(&play(">S <S. >. >P.[get] >F. <. <P.[ok] <F. >.")),
        Outcome::Served
    );
    assert_eq!(
        in_capture(">S <S. >. >P.[get] <P.[ok-head] >F. <P.[he] <P.[llo]"),
        Outcome::Served
    );
}

#[test]
fn keep_alive_takes_the_last_request() {
    let script = ">S <S. >. >P.[get] <P.[ok] >. >P.[get] <. <R.";
    let flow = play(script);
    assert_eq!(live(&flow), Outcome::ResetEmpty);
    assert_eq!(
        (flow.exchanges().requests(), flow.exchanges().responses()),
        (2, 1)
    );
    let served = play(">S <S. >. >P.[get] <P.[ok] >P.[head] <P.[ok-head] >P.[get] <P.[ok] >. <F.");
    assert_eq!(live(&served), Outcome::Served);
    assert_eq!(
        (
            served.exchanges().requests(),
            served.exchanges().responses()
        ),
        (3, 3)
    );
}

#[test]
fn a_last_request_that_a_fin_alone_answers_is_closed_empty() {
    for (script, requests) in [
        (">S <S. >. >P.[get] <. <P.[ok] >. >P.[get] <F. >F. <.", 2),
        (">S <S. >. >P.[get] <. <P.[ok] >. >P.[half] <F. >F. <.", 2),
        (
            ">S <S. >. >P.[get] <P.[ok] >P.[get] <P.[chunks] <P.[last-chunk] >P.[head] <P.[ok-head] >P.[get] <. <F. >.",
            4,
        ),
    ] {
        let flow = play(script);
        assert_eq!(live(&flow), Outcome::ClosedEmpty, "{script}");
        assert_eq!(in_capture(script), Outcome::ClosedEmpty, "{script}");
        let exchanges = flow.exchanges();
        assert_eq!(exchanges.requests(), requests, "{script}");
        assert_eq!(exchanges.responses(), requests - 1, "{script}");
        assert_eq!(exchanges.status(), Some(200), "{script}");
    }
    // A client that gave up before was not answered either.
    let gone = ">S <S. >. >P.[get] <. <P.[ok] >. >P.[get] <. >F. <F. >.";
    assert_eq!(in_capture(gone), Outcome::ClientClosed);
    assert_eq!(play(gone).exchanges().responses(), 1);
    // Begun inside: the first response is whole, what came before it nobody knows.
    let inside = "<P.[ok] >. >P.[get] <F. >F. <.";
    assert_eq!(in_capture(inside), Outcome::Unfinished);
    assert_eq!(play(inside).exchanges().responses(), 1);
}

#[test]
fn each_of_several_requests_under_way_has_its_own_response() {
    let asked = ">S <S. >. >P.[get] >P.[get] <. <P.[ok] >.";
    for (end, outcome, responses) in [
        ("<F. >F. <.", Outcome::ClosedEmpty, 1),
        ("<R.", Outcome::ResetEmpty, 1),
        ("<P.[cut-head] >. <F. >.", Outcome::Truncated, 1),
        ("<P.[ok-head] >. <R.", Outcome::ResetMidway, 1),
        ("<P.[ssh] >. <R.", Outcome::Malformed, 1),
        ("<P.[ok] >. <R.", Outcome::Served, 2),
        ("<P.[to-the-end] >. <F. >.", Outcome::Served, 2),
    ] {
        let script = format!("{asked} {end}");
        assert_eq!(live(&play(&script)), outcome, "{script}");
        assert_eq!(in_capture(&script), outcome, "{script}");
        let flow = play(&script);
        let exchanges = flow.exchanges();
        assert_eq!(exchanges.requests(), 2, "{script}");
        assert_eq!(exchanges.responses(), responses, "{script}");
        // The second one's, as are all times.
        assert_eq!(exchanges.times().request, Some(Stamp(4 * TICK)), "{script}");
    }
    assert_eq!(at_deadline(asked), Outcome::Hung);
    // Who shut its own side and went on to read had not given up.
    assert_eq!(
        in_capture(">S <S. >. >P.[get] >P.[get] >F. <. <P.[ok] >. <F. >."),
        Outcome::ClosedEmpty
    );
}

#[test]
fn what_follows_http_changes_nothing() {
    for (script, requests) in [
        (">S <S. >. >P.[get] <. <P.[upgrade] >.", 1),
        (">S <S. >. >P.[connect] <. <P.[tunnel] >.", 1),
        (">S <S. >. >P.[connect] >P.[tls] <. <P.[tunnel] >.", 1),
        (">S <S. >. >P.[get] <P.[ok] >P.[connect] <P.[tunnel] >.", 2),
    ] {
        for end in [
            "",
            "<P.[ssh] >P.[tls] <P.[ok] >. >F. <F. >.",
            ">P.[tls] <. <P.[ssh] >. <F. >F. <.",
            ">P.[get] <. <F. >F. <.",
            ">P.[get] <. <P.[ok-head] >. <R.",
            ">P.[tls] <R.",
            "<P.[ssh] >R.",
        ] {
            let script = format!("{script} {end}");
            let flow = play(&script);
            assert_eq!(live(&flow), Outcome::Served, "{script}");
            assert_eq!(in_capture(&script), Outcome::Served, "{script}");
            let exchanges = flow.exchanges();
            assert_eq!(exchanges.requests(), requests, "{script}");
            assert_eq!(exchanges.responses(), requests, "{script}");
            assert_eq!(flow.flaws(), crate::flow::Flaws::default(), "{script}");
        }
    }
    // A tunnel that was not opened leaves HTTP as it is.
    let refused = ">S <S. >. >P.[connect] <. <P.[busy] >. >P.[get] <. <F. >.";
    assert_eq!(in_capture(refused), Outcome::ClosedEmpty);
}

#[test]
fn a_request_into_an_idle_close_is_closed_empty() {
    let script = ">S <S. >. >P.[get] <P.[ok] >. <F. >. >P.[get] <R";
    assert_eq!(live(&play(script)), Outcome::ClosedEmpty);
}

#[test]
fn bytes_that_are_no_http_request_are_answered_by_any_byte_and_fin() {
    assert_eq!(
        live(&play(">S <S. >. >P.[tls] <. <P.[ssh] <F. >F. <.")),
        Outcome::Served
    );
    // Mail, databases and others: the server greets first.
    assert_eq!(
        live(&play(">S <S. >. <P.[ssh] >P.[tls] <. <P.[ssh] <F. >F. <.")),
        Outcome::Served
    );
    assert_eq!(
        live(&play(">S <S. >. <P.[ssh] >P.[get] <. <F. >F. <.")),
        Outcome::Malformed
    );
    assert_eq!(
        live(&play(">S <S. >. >P.[tls] <. <F. >F. <.")),
        Outcome::ClosedEmpty
    );
    assert_eq!(
        live(&play(">S <S. >. >P.[tls] <. <P.[ssh] <R.")),
        Outcome::ResetMidway
    );
}

#[test]
fn a_client_of_another_protocol_may_end_first_if_the_server_ends_too() {
    // A TLS client's close, as nginx meets it in its several ways: with FIN; with its own
    // close_notify, into a client that is gone; with RST, over what it has not read.
    let answered = ">S <S. >. >P.[tls] <. <P.[ssh] >. >P.[tls] >F.";
    for (end, outcome) in [
        ("<F. >.", Outcome::Served),
        ("<. <P.[ssh] <F. >.", Outcome::Served),
        ("<P.[ssh] >R", Outcome::ClientClosed),
        ("<R.", Outcome::ClientClosed),
        ("<.", Outcome::ClientClosed),
    ] {
        assert_eq!(in_capture(&format!("{answered} {end}")), outcome, "{end}");
    }
    assert_eq!(
        in_capture(">S <S. >. >P.[tls] <. >F. <. <F. >."),
        Outcome::ClientClosed
    );
    // In HTTP an answer's end is known, and this one has none.
    assert_eq!(
        in_capture(">S <S. >. >P.[get] <. <P.[ok-head] >. >F. <F. >."),
        Outcome::ClientClosed
    );
}

#[test]
fn expected_bytes_are_an_answer_without_fin() {
    let expecting = |n| Protocol::Opaque { expect: Some(n) };
    let segments = segments(">S <S. >. >P.[get] <. <P.[ssh] <R.");
    assert_eq!(live(&flow_with(&segments, expecting(11))), Outcome::Served);
    assert_eq!(
        live(&flow_with(&segments, expecting(12))),
        Outcome::ResetMidway
    );
}

#[test]
fn data_before_the_handshakes_last_ack_counts() {
    assert_eq!(live(&play(">S <S. >P.[get] <. <P.[ok]")), Outcome::Served);
}

#[test]
fn reordered_responses_are_put_in_order() {
    let mut reordered = segments(">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <P.[llo] <F. >F. <.");
    reordered.swap(5, 8);
    reordered.swap(6, 7);
    let flow = flow_of(&reordered);
    assert_eq!(live(&flow), Outcome::Served);
    assert_eq!(flow.flaws(), crate::flow::Flaws::default());
}

#[test]
fn fin_that_overtakes_data_waits_for_it() {
    let mut overtaken = segments(">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <F.");
    overtaken.swap(6, 7);
    let before: Vec<Segment> = overtaken[..7].to_vec();
    assert_eq!(live(&flow_of(&before)), Outcome::Unfinished);
    assert_eq!(live(&flow_of(&overtaken)), Outcome::Truncated);
}

#[test]
fn sequence_numbers_that_wrap_change_nothing() {
    let script = ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <P.[llo] <F. >F. <.";
    for isn in [u32::MAX, u32::MAX - 3, u32::MAX - 40, 0] {
        let flow = flow_of(&segments_from(script, isn, isn));
        assert_eq!(live(&flow), Outcome::Served, "{isn}");
        assert_eq!(flow.response_bytes(), 43, "{isn}");
    }
}

#[test]
fn a_reset_outside_the_window_ends_nothing() {
    let mut hostile = segments(">S <S. >. >P.[get] <. <R. <P.[ok] <F. >F. <.");
    hostile[5].seq = hostile[5].seq.wrapping_sub(5_000);
    assert_eq!(live(&flow_of(&hostile)), Outcome::Served);
    let mut refusal = segments(">S <R. <S. >. >P.[get] <. <P.[ok]");
    refusal[1].ack = 77;
    assert_eq!(live(&flow_of(&refusal)), Outcome::Served);
}

#[test]
fn icmp_errors_end_a_connection_attempt_only() {
    use crate::wire::IcmpError;
    let ends = crate::flow::script::ends();
    let error = |kind, code| IcmpError {
        at: Stamp(TICK),
        from: ends.server.ip(),
        src: ends.client,
        dst: ends.server,
        seq: 1_000,
        version: 4,
        kind,
        code,
        mtu: None,
    };
    let after = |script: &str, kind, code| {
        let mut flow = play(script);
        flow.push_icmp(&error(kind, code));
        live(&flow)
    };
    assert_eq!(after(">S", 3, 3), Outcome::Refused);
    assert_eq!(after(">S", 3, 1), Outcome::Unreachable);
    assert_eq!(after(">S", 3, 13), Outcome::Unreachable);
    assert_eq!(after(">S", 11, 0), Outcome::Unreachable);
    assert_eq!(after(">S", 3, 4), Outcome::Unfinished);
    assert_eq!(after(">S <S. >.", 3, 3), Outcome::Unfinished);
    // One that others than Linux take for a hint, and go on.
    let before = |script: &str, kind, code| {
        let segments = segments(script);
        let mut flow = flow_of(&segments[..1]);
        flow.push_icmp(&error(kind, code));
        for segment in &segments[1..] {
            flow.push(segment);
        }
        flow.settle();
        (live(&flow), flow.is_over())
    };
    let served = ">S <S. >. >P.[get] <. <P.[ok] >. <F. >F. <.";
    for (kind, code) in [(3, 1), (3, 3), (11, 0)] {
        assert_eq!(before(served, kind, code), (Outcome::Served, true));
    }
    assert_eq!(
        before(">S >S~ <S. >P.[get] <. <F. >.", 3, 1),
        (Outcome::ClosedEmpty, false)
    );
    // A late SYN-ACK is nothing that the client did.
    assert_eq!(before(">S <S. <S.~", 3, 1), (Outcome::Unreachable, true));
    assert_eq!(before(">S <S. >R", 3, 1), (Outcome::Unreachable, true));
}

#[test]
fn a_gap_in_the_header_block_leaves_the_end_unknown() {
    let mut cut = segments(">S <S. >. >P.[get] <. <P.[ok] <F. >F. <.");
    cut[5].payload.to_mut().truncate(10);
    let flow = flow_of(&cut);
    assert_eq!(live(&flow), Outcome::Unfinished);
    assert!(flow.flaws().snapped);
}

#[test]
fn a_missing_data_segment_is_a_hole() {
    let mut holed = segments(">S <S. >. >P.[get] <. <P.[ok] >. <R.");
    holed.remove(5);
    let flow = flow_of(&holed);
    assert!(flow.flaws().hole);
    assert_eq!(live(&flow), Outcome::Unfinished);
}

#[test]
fn every_outcome_is_lost_or_not_as_the_contract_says() {
    let lost: Vec<&str> = Outcome::ALL
        .into_iter()
        .filter(|outcome| outcome.is_lost() == Some(true))
        .map(Outcome::word)
        .collect();
    assert_eq!(
        lost,
        [
            "reset_on_connect",
            "malformed",
            "closed_empty",
            "reset_empty",
            "hung",
            "truncated",
            "reset_midway",
            "stalled"
        ]
    );
}

mod socket_alone {
    use super::*;

    fn attempt(end: SocketEnd) -> Attempt {
        Attempt {
            conn: 1,
            maker: Maker::Socket,
            cohort: Cohort::Steady,
            local: None,
            peer: crate::flow::script::ends().server,
            due: None,
            opened: Stamp(0),
            connected: None,
            request: None,
            request_len: 20,
            written: 0,
            response: Response::default(),
            end,
            ended: Stamp(100),
            info: None,
        }
    }

    fn failing(call: Call, errno: Errno) -> SocketEnd {
        SocketEnd::Failed(Failure { call, errno })
    }

    fn outcome(attempt: &Attempt) -> Outcome {
        decide(&socket_facts(attempt)).outcome
    }

    fn connected(end: SocketEnd) -> Attempt {
        Attempt {
            connected: Some(Stamp(10)),
            ..attempt(end)
        }
    }

    fn asked(end: SocketEnd) -> Attempt {
        Attempt {
            request: Some(Stamp(11)),
            written: 20,
            ..connected(end)
        }
    }

    #[test]
    fn connect_errors_tell_how_the_syn_fared() {
        let outcome = |errno| outcome(&attempt(failing(Call::Connect, errno)));
        assert_eq!(outcome(Errno::Refused), Outcome::Refused);
        assert_eq!(outcome(Errno::Unreachable(113)), Outcome::Unreachable);
        assert_eq!(outcome(Errno::TimedOut), Outcome::Unanswered);
        assert_eq!(outcome(Errno::Other(99)), Outcome::LocalError);
        // The handshake was done, or the RST would have read as refused.
        assert_eq!(outcome(Errno::Reset), Outcome::ResetOnConnect);
    }

    #[test]
    fn read_errors_tell_how_the_request_fared() {
        assert_eq!(
            outcome(&asked(failing(Call::Read, Errno::Reset))),
            Outcome::ResetEmpty
        );
        assert_eq!(outcome(&asked(SocketEnd::Eof)), Outcome::ClosedEmpty);
        assert_eq!(outcome(&asked(SocketEnd::Deadline)), Outcome::Hung);
        assert_eq!(
            outcome(&asked(failing(Call::Read, Errno::TimedOut))),
            Outcome::Hung
        );
        assert_eq!(outcome(&asked(SocketEnd::Interrupted)), Outcome::Unfinished);
        assert_eq!(outcome(&attempt(SocketEnd::Deadline)), Outcome::Unanswered);
    }

    #[test]
    fn a_write_that_fails_at_once_sent_nothing() {
        let failed = Attempt {
            request: Some(Stamp(11)),
            ..connected(failing(Call::Write, Errno::Reset))
        };
        assert_eq!(outcome(&failed), Outcome::ResetOnConnect);
        let after_fin = Attempt {
            request: Some(Stamp(11)),
            ..connected(failing(Call::Write, Errno::Pipe))
        };
        assert_eq!(outcome(&after_fin), Outcome::ClosedEmpty);
    }

    #[test]
    fn a_complete_response_is_served_whatever_ends_the_socket() {
        for end in [
            SocketEnd::Eof,
            SocketEnd::Enough,
            SocketEnd::Deadline,
            failing(Call::Read, Errno::Reset),
        ] {
            let mut attempt = asked(end);
            attempt.response.first_byte = Some(Stamp(20));
            attempt.response.complete = Some(Stamp(21));
            assert_eq!(outcome(&attempt), Outcome::Served, "{end:?}");
        }
    }

    #[test]
    fn a_connection_that_was_to_ask_nothing_is_the_clients_to_close() {
        let left = connected(SocketEnd::Left);
        assert_eq!(outcome(&left), Outcome::ClientClosed);
        assert_eq!(outcome(&left).is_lost(), None);
    }

    #[test]
    fn part_of_a_response_is_lost_by_what_ends_it() {
        let ended = |end| {
            let mut attempt = asked(end);
            attempt.response.first_byte = Some(Stamp(20));
            outcome(&attempt)
        };
        assert_eq!(ended(SocketEnd::Eof), Outcome::Truncated);
        assert_eq!(
            ended(failing(Call::Read, Errno::Reset)),
            Outcome::ResetMidway
        );
        assert_eq!(ended(SocketEnd::Deadline), Outcome::Stalled);
    }

    #[test]
    fn trouble_of_our_own_is_never_the_servers() {
        let failed = attempt(failing(Call::Socket, Errno::Other(24)));
        assert_eq!(outcome(&failed), Outcome::LocalError);
        assert_eq!(Outcome::LocalError.is_lost(), None);
    }
}

/// Scripts that cover each decider, to be mangled.
const SCRIPTS: &[&str] = &[
    ">S <R.",
    ">S <S. >. <R.",
    ">S <S. >. >P.[get] <. <R.",
    ">S <S. >. >P.[get] <R",
    ">S <S. >. >P.[get] <. <F. >F. <.",
    ">S <S. >. <F. >. >P.[get] <R",
    ">S <S. >. >P.[get] <. <P.[ok] <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <P.[llo] <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <R.",
    ">S <S. >. >P.[get] <. <P.[chunks] >. <F. >F. <.",
    ">S <S. >. >P.[post] <P.[busy] >. <R.",
    ">S <S. >. >P.[get] <P.[ok] >. >P.[get] <. <R.",
];

proptest! {
    #[test]
    fn a_duplicated_segment_does_not_change_the_outcome(
        script in proptest::sample::select(SCRIPTS),
        which in any::<proptest::sample::Index>(),
        later in any::<proptest::sample::Index>(),
    ) {
        let original = segments(script);
        let which = which.index(original.len());
        let to = which + 1 + later.index(original.len() - which);
        let mut doubled = original.clone();
        doubled.insert(to, original[which].clone());
        prop_assert_eq!(live(&flow_of(&doubled)), live(&flow_of(&original)));
    }

    #[test]
    fn no_stream_of_segments_panics(
        stream in proptest::collection::vec(
            (any::<bool>(), any::<u8>(), 0_u32..4, -3_i64..3, 0_usize..20, any::<bool>()),
            1..60,
        ),
    ) {
        let mut flow = None;
        for (i, (to_server, flags, seq, ack, len, near)) in stream.into_iter().enumerate() {
            let mut segment = segments(">S <S.")[usize::from(!to_server)].clone();
            segment.at = Stamp(i as i64);
            segment.flags = Flags(flags);
            // Numbers around the initial one, its wrap, and the far side of the space.
            let base = if near { 1_000_u32 } else { 0x8000_0000 };
            segment.seq = base.wrapping_add(seq * 7);
            segment.ack = base.wrapping_add_signed(i32::try_from(ack * 5).unwrap());
            segment.len = u32::try_from(len).unwrap();
            segment.payload = vec![b'H'; len / 2].into();
            match &mut flow {
                None => {
                    let protocol = Protocol::Http;
                    let ends = crate::flow::script::ends();
                    flow = Some(crate::flow::Flow::new(ends, protocol, true, &segment));
                }
                Some(flow) => {
                    flow.push(&segment);
                }
            }
        }
        let mut flow = flow.unwrap();
        flow.settle();
        live(&flow);
        decision(&flow, Watch::Capture);
        let text = flow.sequence().to_string();
        let parsed = text.parse::<crate::sequence::Sequence>().unwrap();
        prop_assert_eq!(&parsed, flow.sequence());
    }

    #[test]
    fn losing_the_clients_pure_acks_changes_nothing(script in proptest::sample::select(SCRIPTS)) {
        let original = segments(script);
        let pure = |s: &Segment| {
            direction(s) == Direction::ToServer && s.flags == Flags::ACK && s.len == 0
        };
        let thinned: Vec<Segment> = original.iter().filter(|s| !pure(s)).cloned().collect();
        prop_assert_eq!(live(&flow_of(&thinned)), live(&flow_of(&original)));
    }
}
