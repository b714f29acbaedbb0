//! Bytes that are not HTTP, from the start or from some point on.

use super::*;
use crate::flow::Protocol;
use crate::flow::script::{flow_with, segments};

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
