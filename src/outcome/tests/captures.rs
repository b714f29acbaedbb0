//! What a capture cannot tell, and one that begins inside a connection.

use super::*;

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
