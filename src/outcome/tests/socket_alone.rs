//! What a socket alone tells, without packets.

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
