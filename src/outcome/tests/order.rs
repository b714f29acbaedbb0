//! Segments out of their order, outside of the window, or missing.

use super::*;
use crate::flow::script::{segments, segments_from};
use crate::wire::Segment;

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
