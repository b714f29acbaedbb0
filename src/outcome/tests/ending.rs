//! What ends a connection that got no response: resets, FINs, ICMP errors, the deadline, and the client
//! that leaves.

use super::*;
use crate::flow::script::{TICK, live_until, segments};

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
