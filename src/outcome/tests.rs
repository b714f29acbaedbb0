//! One script for each row of the outcomes' table and of the measured causes, by theme, and what must
//! hold for any stream of segments.

mod captures;
mod ending;
mod mangled;
mod order;
mod protocols;
mod requests;
mod response;
mod socket_alone;

use super::*;
use crate::flow::script::{decision, flow_of, live, live_until, play};

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
