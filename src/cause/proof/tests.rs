use super::*;
use crate::kernel::{Act, Reset, Unread};

/// The request, 83 bytes of it, was acknowledged at 20, and all was over at 100.
const KNOWN: Known = Known {
    end: Stamp(100),
    ended_by_rst: false,
    rst_kind: None,
    ended_by_fin: false,
    sent: 83,
    acked: Some(Stamp(20)),
};
const RESET: Known = Known {
    ended_by_rst: true,
    rst_kind: Some(RstKind::Active),
    ..KNOWN
};

fn act(at: i64) -> Option<Act> {
    Some(Act {
        at: Stamp(at),
        pid: Some(70),
    })
}

fn whole() -> TraceSide {
    TraceSide {
        whole: true,
        established: Some(Stamp(10)),
        ..TraceSide::default()
    }
}

fn reset(by: ResetBy, at: i64) -> TraceSide {
    TraceSide {
        reset: Some(Reset {
            at: Stamp(at),
            by,
            pid: None,
            reason: None,
        }),
        ..whole()
    }
}

fn traced(trace: &TraceSide, known: &Known) -> (Option<bool>, Option<bool>) {
    let proof = Proof::of(Some(trace), None, known);
    (proof.accepted, proof.read)
}

fn polled(diag: &DiagSide, known: &Known) -> (Option<bool>, Option<bool>) {
    let proof = Proof::of(None, Some(diag), known);
    (proof.accepted, proof.read)
}

#[test]
fn without_a_vantage_nothing_is_proven() {
    assert_eq!(Proof::of(None, None, &KNOWN), Proof::default());
    assert_eq!(
        Proof::of(
            Some(&TraceSide::default()),
            Some(&DiagSide::default()),
            &KNOWN
        ),
        Proof::default()
    );
}

#[test]
fn what_a_tracepoint_would_have_shown_did_not_happen() {
    assert_eq!(traced(&whole(), &KNOWN), (None, Some(false)));
    let part = TraceSide {
        whole: false,
        ..whole()
    };
    assert_eq!(traced(&part, &KNOWN), (None, None));
}

#[test]
fn a_read_proves_itself_by_when_it_was() {
    let read = |at| TraceSide {
        read: act(at),
        ..whole()
    };
    assert_eq!(traced(&read(90), &KNOWN), (Some(true), Some(true)));
    let late = Proof::of(Some(&read(110)), None, &KNOWN);
    assert_eq!((late.accepted, late.read), (None, Some(false)));
    assert!(late.ever_read);
    // Nobody reads after a RST: its packet was stamped first.
    assert_eq!(traced(&read(110), &RESET), (Some(true), Some(true)));
}

#[test]
fn whoever_accepts_or_closes_had_it() {
    let closed = TraceSide {
        closed: act(99),
        ..whole()
    };
    let accepted = TraceSide {
        accepted: act(99),
        ..whole()
    };
    for side in [closed, accepted] {
        assert_eq!(traced(&side, &KNOWN), (Some(true), Some(false)));
    }
    let later = TraceSide {
        accepted: act(101),
        ..whole()
    };
    assert_eq!(traced(&later, &KNOWN), (Some(false), Some(false)));
    let by_fin = Known {
        ended_by_fin: true,
        ..KNOWN
    };
    assert_eq!(traced(&whole(), &by_fin), (Some(true), Some(false)));
}

#[test]
fn a_reset_tells_by_whom_it_came_about() {
    for at in [99, 105] {
        assert_eq!(
            traced(&reset(ResetBy::Listener, at), &RESET),
            (Some(false), Some(false))
        );
        assert_eq!(
            traced(&reset(ResetBy::Process, at), &RESET),
            (Some(true), Some(false))
        );
        // In reply to a segment, to a connection that had its socket.
        assert_eq!(
            traced(&reset(ResetBy::Kernel, at), &RESET),
            (None, Some(false))
        );
        let never_a_socket = TraceSide {
            established: None,
            ..reset(ResetBy::Kernel, at)
        };
        assert_eq!(traced(&never_a_socket, &RESET), (Some(false), Some(false)));
    }
    // A queue that was reset after its client had given up had kept it until then.
    assert_eq!(
        traced(&reset(ResetBy::Listener, 900), &KNOWN),
        (Some(false), Some(false))
    );
    assert_eq!(
        traced(&reset(ResetBy::Process, 900), &KNOWN),
        (None, Some(false))
    );
}

#[test]
fn a_reset_is_the_servers_own_where_its_kernel_shows_it() {
    let own =
        |trace: Option<&TraceSide>, diag: Option<&DiagSide>| Proof::of(trace, diag, &RESET).reset;
    assert!(own(Some(&reset(ResetBy::Process, 99)), None));
    assert!(own(Some(&reset(ResetBy::Listener, 99)), None));
    assert!(!own(Some(&whole()), None));
    // What had a socket and is reset by the kernel may still be accepted, and read.
    assert!(!own(Some(&reset(ResetBy::Kernel, 99)), None));
    let never_a_socket = TraceSide {
        established: None,
        ..reset(ResetBy::Kernel, 99)
    };
    assert!(own(Some(&never_a_socket), None));
    let outlived = |outlived| DiagSide {
        outlived,
        ..DiagSide::default()
    };
    assert!(own(None, Some(&outlived(Some(false)))));
    assert!(!own(None, Some(&outlived(Some(true)))));
    assert!(!own(None, Some(&outlived(None))));
    // A RST that was forged to both sides leaves no connection, and none of the server's RSTs.
    assert!(!own(Some(&whole()), Some(&outlived(Some(false)))));
}

#[test]
fn a_queue_is_proven_by_its_last_answer_and_counters_that_stood_still() {
    let waited = DiagSide {
        queued: Some(Stamp(95)),
        listener_closed: Some(true),
        aborts: Some(false),
        outlived: Some(false),
        ..DiagSide::default()
    };
    let queue = (Some(false), Some(false));
    assert_eq!(polled(&waited, &RESET), queue);
    let held = DiagSide {
        owned: act(97),
        ..waited.clone()
    };
    assert_eq!(polled(&held, &RESET), (Some(true), None));
    for other in [
        DiagSide {
            aborts: Some(true),
            ..waited.clone()
        },
        DiagSide {
            aborts: None,
            ..waited.clone()
        },
        DiagSide {
            outlived: Some(true),
            ..waited.clone()
        },
        DiagSide {
            queued: None,
            ..waited.clone()
        },
        // A process that takes it and disconnects moves no counter; but its listener stays.
        DiagSide {
            listener_closed: Some(false),
            ..waited.clone()
        },
        DiagSide {
            listener_closed: None,
            ..waited.clone()
        },
    ] {
        assert_eq!(polled(&other, &RESET), (None, None), "{other:?}");
    }
    let passive = Known {
        rst_kind: Some(RstKind::Passive),
        ..RESET
    };
    assert_eq!(polled(&waited, &passive), (None, None));
    // Seen from the socket alone: it was in the queue, and that its RST was the server's own is open.
    let unseen = Known {
        rst_kind: None,
        ..RESET
    };
    let proof = Proof::of(None, Some(&waited), &unseen);
    assert_eq!((proof.accepted, proof.reset), (Some(false), false));
    // It hung: what counts is an answer after its end.
    assert_eq!(polled(&waited, &KNOWN), (None, None));
    let still = DiagSide {
        queued: Some(Stamp(100)),
        outlived: Some(true),
        ..DiagSide::default()
    };
    assert_eq!(polled(&still, &KNOWN), queue);
}

#[test]
fn a_handshake_under_way_is_in_no_process() {
    let half_open = |asked, outlived| DiagSide {
        half_open: Some(Stamp(asked)),
        outlived: Some(outlived),
        ..DiagSide::default()
    };
    let proof = Proof::of(None, Some(&half_open(100, true)), &KNOWN);
    assert!(proof.half_open);
    assert_eq!(proof.accepted, Some(false));
    // TCP_DEFER_ACCEPT: the request found no socket.
    let passive = Known {
        rst_kind: Some(RstKind::Passive),
        ..RESET
    };
    assert_eq!(
        polled(&half_open(90, false), &passive),
        (Some(false), Some(false))
    );
    assert_eq!(polled(&half_open(90, false), &KNOWN), (None, None));
}

#[test]
fn a_receive_queue_shorter_than_the_request_was_read_from() {
    let unread = |asked: i64, bytes| DiagSide {
        owned: act(15),
        unread: Some(Unread {
            asked: Stamp(asked),
            answered: Stamp(asked + 1),
            bytes,
        }),
        ..DiagSide::default()
    };
    let read = (Some(true), Some(true));
    assert_eq!(polled(&unread(30, 0), &KNOWN), read);
    // One byte of it.
    assert_eq!(polled(&unread(30, 82), &KNOWN), read);
    // Nothing, or a peek: that leaves no trace here.
    assert_eq!(polled(&unread(30, 83), &KNOWN), (Some(true), None));
    // The request may not have come by then.
    assert_eq!(polled(&unread(20, 0), &KNOWN), (Some(true), None));
    let unacked = Known {
        acked: None,
        ..KNOWN
    };
    assert_eq!(polled(&unread(30, 0), &unacked), (Some(true), None));
    // After the client had gone.
    let late = Proof::of(None, Some(&unread(100, 0)), &KNOWN);
    assert_eq!((late.read, late.ever_read), (None, true));
}

#[test]
fn where_nothing_was_sent_nothing_was_read() {
    let silent = Known { sent: 0, ..RESET };
    let held = DiagSide {
        owned: act(15),
        ..DiagSide::default()
    };
    assert_eq!(polled(&held, &silent), (Some(true), Some(false)));
}

#[test]
fn nobody_listened_where_no_socket_answered_or_none_was_found() {
    let no_socket = |reason: &str| TraceSide {
        reset: Some(Reset {
            at: Stamp(3),
            by: ResetBy::Kernel,
            pid: None,
            reason: Some(reason.into()),
        }),
        ..TraceSide::default()
    };
    let of_trace = |reason| Proof::of(Some(&no_socket(reason)), None, &KNOWN).listened;
    assert_eq!(of_trace("NO_SOCKET"), Some(false));
    assert_eq!(of_trace("TCP_STATE"), None);
    for listening in [None, Some(true), Some(false)] {
        let diag = DiagSide {
            // As it was before the SYN was sent again.
            listening: Some(true),
            listening_at_end: listening,
            ..DiagSide::default()
        };
        assert_eq!(Proof::of(None, Some(&diag), &KNOWN).listened, listening);
    }
}

#[test]
fn vantages_that_contradict_each_other_prove_nothing() {
    let no_socket = TraceSide {
        reset: Some(Reset {
            at: Stamp(3),
            by: ResetBy::Kernel,
            pid: None,
            reason: Some("NO_SOCKET".into()),
        }),
        ..TraceSide::default()
    };
    let listening = |yes| DiagSide {
        listening_at_end: Some(yes),
        ..DiagSide::default()
    };
    let listened = |yes| Proof::of(Some(&no_socket), Some(&listening(yes)), &KNOWN).listened;
    assert_eq!(listened(true), None);
    assert_eq!(listened(false), Some(false));
}

#[test]
fn an_overflow_is_this_queues_where_it_was_found_full() {
    let proof = |overflowed, full| {
        let diag = DiagSide {
            overflowed,
            full,
            ..DiagSide::default()
        };
        Proof::of(None, Some(&diag), &KNOWN).overflowed
    };
    assert_eq!(proof(Some(true), Some(true)), Some(true));
    assert_eq!(proof(Some(true), Some(false)), None);
    assert_eq!(proof(Some(true), None), None);
    assert_eq!(proof(Some(false), Some(true)), Some(false));
    assert_eq!(proof(None, Some(true)), None);
}
