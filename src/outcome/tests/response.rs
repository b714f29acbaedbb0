//! Responses: what makes one complete, and what cuts it.

use super::*;

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
