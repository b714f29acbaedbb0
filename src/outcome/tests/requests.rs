//! Several requests on one connection: its outcome is the last one's.

use super::*;
use crate::flow::script::TICK;

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
fn a_request_into_an_idle_close_is_closed_empty() {
    let script = ">S <S. >. >P.[get] <P.[ok] >. <F. >. >P.[get] <R";
    assert_eq!(live(&play(script)), Outcome::ClosedEmpty);
}
