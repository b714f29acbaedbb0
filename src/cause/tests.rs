use super::*;

fn candidates(outcome: Outcome, evidence: Evidence) -> Vec<&'static str> {
    let finding = find(outcome, &evidence).unwrap();
    assert_eq!(
        finding.cause == Cause::Unknown,
        !finding.candidates.is_empty()
    );
    finding.candidates.iter().map(|c| c.word()).collect()
}

fn reset_by(kind: RstKind) -> Evidence {
    Evidence {
        rst_kind: Some(kind),
        request_taken: Some(true),
        ..Evidence::default()
    }
}

#[test]
fn packets_cannot_tell_queue_reset_unread_close_and_linger_0_apart() {
    assert_eq!(
        candidates(Outcome::ResetEmpty, reset_by(RstKind::Active)),
        ["never_accepted", "accepted_unread", "read_unanswered"]
    );
}

#[test]
fn a_passive_reset_of_the_request_is_deferred_accept_or_overflow() {
    assert_eq!(
        candidates(Outcome::ResetEmpty, reset_by(RstKind::Passive)),
        ["queue_full", "never_accepted"]
    );
    let again = Evidence {
        retransmitted: true,
        ..reset_by(RstKind::Passive)
    };
    assert_eq!(candidates(Outcome::ResetEmpty, again).len(), 4);
}

#[test]
fn a_fin_proves_accept_and_not_read() {
    assert_eq!(
        candidates(Outcome::ClosedEmpty, Evidence::default()),
        ["accepted_unread", "read_unanswered"]
    );
}

#[test]
fn an_acknowledged_request_rules_out_limbo() {
    let acked = |request_taken| Evidence {
        request_taken,
        ..Evidence::default()
    };
    assert_eq!(
        candidates(Outcome::Hung, acked(Some(true))),
        ["never_accepted", "accepted_unread", "read_unanswered"]
    );
    assert_eq!(
        candidates(Outcome::Hung, acked(Some(false))),
        ["handshake_limbo"]
    );
    assert_eq!(candidates(Outcome::Hung, acked(None)).len(), 4);
    let late = Evidence {
        answered: true,
        ..acked(Some(true))
    };
    assert_eq!(
        candidates(Outcome::Hung, late),
        ["accepted_unread", "read_unanswered"]
    );
}

#[test]
fn a_connection_that_was_answered_before_had_been_accepted() {
    for kind in [RstKind::Active, RstKind::Passive] {
        let answered = Evidence {
            answered: true,
            ..reset_by(kind)
        };
        assert_eq!(
            candidates(Outcome::ResetEmpty, answered),
            ["accepted_unread", "read_unanswered"]
        );
    }
}

#[test]
fn response_bytes_prove_a_partial_answer() {
    for outcome in [Outcome::Truncated, Outcome::ResetMidway, Outcome::Stalled] {
        let finding = find(outcome, &Evidence::default()).unwrap();
        assert_eq!(finding.cause, Cause::AnsweredPartly);
        assert_eq!(
            retry_safe(outcome, &Evidence::default()),
            Some(RetrySafe::Unknown)
        );
    }
}

#[test]
fn only_what_never_left_is_safe_to_send_again() {
    let safe =
        |outcome: &Outcome| retry_safe(*outcome, &Evidence::default()) == Some(RetrySafe::Yes);
    let safe: Vec<_> = Outcome::ALL.into_iter().filter(safe).collect();
    assert_eq!(
        safe,
        [
            Outcome::Refused,
            Outcome::Unanswered,
            Outcome::ResetOnConnect
        ]
    );
}

#[test]
fn outcomes_without_a_servers_part_have_no_cause() {
    for outcome in [Outcome::Served, Outcome::LocalError, Outcome::Unreachable] {
        assert_eq!(find(outcome, &Evidence::default()), None);
        assert_eq!(retry_safe(outcome, &Evidence::default()), None);
    }
}

/// A row of the table: outcome, what is proven, cause, candidates, whether it is safe to retry.
type Row = (Outcome, Proof, &'static str, &'static str, &'static str);

const NOTHING: Proof = Proof {
    listened: None,
    overflowed: None,
    listens: None,
    had_socket: false,
    half_open: false,
    accepted: None,
    read: None,
    ever_read: false,
    reset: false,
};
const QUEUED: Proof = Proof {
    accepted: Some(false),
    read: Some(false),
    ..NOTHING
};
const HELD: Proof = Proof {
    accepted: Some(true),
    ..NOTHING
};
const UNREAD: Proof = Proof {
    read: Some(false),
    ..HELD
};
const READ: Proof = Proof {
    read: Some(true),
    ever_read: true,
    ..HELD
};
const READ_LATER: Proof = Proof {
    ever_read: true,
    ..QUEUED
};

const fn reset(proof: Proof) -> Proof {
    Proof {
        reset: true,
        ..proof
    }
}

const fn overflowed(yes: bool, listens: Option<bool>) -> Proof {
    Proof {
        overflowed: Some(yes),
        listens,
        ..NOTHING
    }
}

const fn listened(yes: bool) -> Proof {
    Proof {
        listened: Some(yes),
        ..NOTHING
    }
}

/// What the row says where the client sent a request, which was acknowledged.
fn assert_rows(kind: Option<RstKind>, rows: &[Row]) {
    for &(outcome, proof, cause, fits, safe) in rows {
        let evidence = Evidence {
            rst_kind: kind,
            request_taken: Some(true),
            proof,
            ..Evidence::default()
        };
        let row = format!("{outcome:?} {proof:?}");
        let finding = find(outcome, &evidence).unwrap();
        assert_eq!(finding.cause.word(), cause, "{row}");
        let candidates: Vec<_> = finding.candidates.iter().map(|c| c.word()).collect();
        assert_eq!(candidates.join("+"), fits, "{row}");
        assert_eq!(
            retry_safe(outcome, &evidence).unwrap().word(),
            safe,
            "{row}"
        );
    }
}

#[test]
fn a_refusal_is_proven_where_nobody_listened() {
    let fits = "not_listening";
    let refused = Outcome::Refused;
    assert_rows(
        Some(RstKind::Passive),
        &[
            (refused, listened(false), "not_listening", "", "yes"),
            (refused, NOTHING, "unknown", fits, "yes"),
            // For somebody else, or a firewall answers.
            (refused, listened(true), "unknown", fits, "yes"),
        ],
    );
}

#[test]
fn silence_is_a_full_queue_where_one_overflowed() {
    let room = Proof {
        listened: Some(true),
        ..overflowed(false, Some(true))
    };
    let silent = Outcome::Unanswered;
    assert_rows(
        None,
        &[
            (
                silent,
                overflowed(true, Some(true)),
                "queue_full",
                "",
                "yes",
            ),
            (silent, room, "unknown", "", "yes"),
            (silent, NOTHING, "unknown", "queue_full", "yes"),
            (silent, listened(false), "unknown", "queue_full", "yes"),
        ],
    );
}

#[test]
fn a_reset_tells_how_far_the_connection_had_come() {
    let any = "never_accepted+accepted_unread+read_unanswered";
    let held = "accepted_unread+read_unanswered";
    let unread = Proof {
        accepted: None,
        ..UNREAD
    };
    let empty = Outcome::ResetEmpty;
    assert_rows(
        Some(RstKind::Active),
        &[
            (empty, reset(QUEUED), "never_accepted", "", "yes"),
            (empty, reset(UNREAD), "accepted_unread", "", "yes"),
            (empty, reset(READ), "read_unanswered", "", "no"),
            (empty, NOTHING, "unknown", any, "unknown"),
            (empty, reset(HELD), "unknown", held, "unknown"),
            (
                empty,
                reset(unread),
                "unknown",
                "never_accepted+accepted_unread",
                "yes",
            ),
            // Somebody else's RST: the server may go on.
            (empty, UNREAD, "accepted_unread", "", "unknown"),
        ],
    );
    let at_once = Outcome::ResetOnConnect;
    assert_rows(
        Some(RstKind::Active),
        &[
            (at_once, reset(QUEUED), "never_accepted", "", "yes"),
            (at_once, reset(UNREAD), "accepted_unread", "", "yes"),
        ],
    );
}

#[test]
fn the_answer_to_a_last_ack_is_a_full_queue_or_a_listener_that_is_gone() {
    let empty = Outcome::ResetEmpty;
    let gone = overflowed(true, Some(false));
    let no_room = overflowed(true, Some(true));
    // Nobody had it, as its kernel shows.
    let unread_no_room = Proof {
        accepted: Some(false),
        read: Some(false),
        ..no_room
    };
    // It had a socket: its RST was none of the listener's.
    let queued_no_room = Proof {
        had_socket: true,
        ..no_room
    };
    let fits = "queue_full+never_accepted";
    assert_rows(
        Some(RstKind::Passive),
        &[
            (empty, no_room, "queue_full", "", "unknown"),
            (empty, reset(unread_no_room), "queue_full", "", "yes"),
            (empty, queued_no_room, "unknown", fits, "unknown"),
            (empty, gone, "unknown", fits, "unknown"),
            (
                empty,
                overflowed(false, None),
                "unknown",
                "never_accepted",
                "unknown",
            ),
            (empty, reset(QUEUED), "never_accepted", "", "yes"),
        ],
    );
}

#[test]
fn a_fin_is_never_safe_to_retry() {
    let held = "accepted_unread+read_unanswered";
    let closed = Outcome::ClosedEmpty;
    assert_rows(
        None,
        &[
            (closed, HELD, "unknown", held, "unknown"),
            (closed, UNREAD, "accepted_unread", "", "unknown"),
            (closed, READ, "read_unanswered", "", "no"),
            // Read after the FIN.
            (
                closed,
                Proof {
                    ever_read: true,
                    ..UNREAD
                },
                "accepted_unread",
                "",
                "no",
            ),
        ],
    );
}

#[test]
fn who_gives_up_does_not_know_what_is_still_done() {
    let hung = Outcome::Hung;
    assert_rows(
        None,
        &[
            (hung, QUEUED, "never_accepted", "", "unknown"),
            (hung, READ_LATER, "never_accepted", "", "no"),
            (hung, UNREAD, "accepted_unread", "", "unknown"),
            (hung, READ, "read_unanswered", "", "no"),
        ],
    );
}

#[test]
fn a_handshake_that_was_not_done_is_limbo_where_the_request_was_never_acknowledged() {
    let half_open = Proof {
        half_open: true,
        ..QUEUED
    };
    let cause = |outcome, request_taken| {
        let evidence = Evidence {
            request_taken,
            proof: half_open,
            ..Evidence::default()
        };
        find(outcome, &evidence).unwrap().cause
    };
    let hung = Outcome::Hung;
    assert_eq!(cause(hung, Some(false)), Cause::HandshakeLimbo);
    // TCP_DEFER_ACCEPT acknowledges data, and keeps it.
    assert_eq!(cause(hung, Some(true)), Cause::NeverAccepted);
    assert_eq!(cause(hung, None), Cause::NeverAccepted);
    // Its listener was closed before it had sent anything.
    assert_eq!(
        cause(Outcome::ResetEmpty, Some(false)),
        Cause::NeverAccepted
    );
}

#[test]
fn what_was_read_is_never_safe_to_retry() {
    for outcome in Outcome::ALL {
        let evidence = Evidence {
            proof: reset(READ),
            ..Evidence::default()
        };
        let no_request = matches!(
            outcome,
            Outcome::Refused | Outcome::Unanswered | Outcome::ResetOnConnect
        );
        if let Some(safe) = retry_safe(outcome, &evidence).filter(|_| !no_request) {
            assert_eq!(safe, RetrySafe::No, "{outcome:?}");
        }
    }
}
