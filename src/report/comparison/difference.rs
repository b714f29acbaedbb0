//! Where two accounts of a connection differ first, from both sides.

use std::fmt::Write as _;

use crate::reconcile::{Account, Difference, Finding, Kind, MissingBytes, Pair, Side, Told, What};
use crate::sequence::{Sequence, Step};

/// Segments shown before the difference, and behind it.
const BEFORE: usize = 8;
const BEHIND: usize = 5;

/// A paragraph about a pair, newline included.
pub(super) fn show(pair: &Pair, run: &Told, capture: &Told) -> String {
    let mine = pair.run.map(|at| &run.accounts[at]);
    let theirs = pair.capture.map(|at| &capture.accounts[at]);
    let Some((account, finding)) = mine.or(theirs).zip(pair.first()) else {
        return String::new();
    };
    let mut text = format!(
        "{}: ",
        named(
            account,
            if mine.is_some() {
                Side::Run
            } else {
                Side::Capture
            }
        )
    );
    let more = pair.findings.len() - 1;
    text.push_str(&sentence(finding, mine, theirs, pair));
    if let Some(reason) = finding.reason {
        let _ = write!(text, " [{}]", reason.word());
    }
    if more > 0 {
        let _ = write!(text, "; {more} more");
    }
    text.push('\n');
    let place = match finding.what {
        What::Segment(difference) => Some(difference),
        _ => None,
    };
    for (side, account) in [(Side::Run, mine), (Side::Capture, theirs)] {
        let Some(steps) = account.and_then(steps) else {
            continue;
        };
        let at = place.map(|difference| marked(difference, side));
        let _ = writeln!(text, "  {:<9}{}", side.word(), around(&steps, at));
    }
    text
}

fn named(account: &Account, side: Side) -> String {
    let conn = match (&account.run_id, side) {
        (Some(run_id), _) => format!("{run_id} conn {}", account.conn),
        (None, Side::Run) => format!("conn {}", account.conn),
        (None, Side::Capture) => format!("connection {} of the capture", account.conn),
    };
    let client = account
        .client
        .map_or_else(|| "no port".to_owned(), |client| client.to_string());
    format!("{conn}, {client} to {}", account.server)
}

fn sentence(
    finding: &Finding,
    mine: Option<&Account>,
    theirs: Option<&Account>,
    pair: &Pair,
) -> String {
    match finding.what {
        What::Only(side) => {
            let outcome = mine.or(theirs).map_or("", |account| account.outcome.word());
            format!("only in the {} ({outcome})", side.word())
        }
        What::Outcome => format!(
            "{} in the run, {} in the capture",
            mine.map_or("", |account| account.outcome.word()),
            pair.capture_outcome.map_or("", |outcome| outcome.word())
        ),
        What::Segment(difference) => segment_sentence(difference, mine, theirs),
        What::Bytes(missing) => bytes_sentence(&missing),
        What::Content(direction) => {
            format!(
                "the bytes {} have another content in the capture",
                direction.arrow()
            )
        }
        What::Marks => "SYN, FIN and RST are not the same, or not in the same order".to_owned(),
    }
}

fn segment_sentence(
    difference: Difference,
    mine: Option<&Account>,
    theirs: Option<&Account>,
) -> String {
    let (has, at) = match difference.kind {
        Kind::OnlyCapture => (theirs, difference.capture),
        Kind::OnlyRun | Kind::Header | Kind::Payload | Kind::Order => (mine, difference.run),
    };
    let shown = has.and_then(steps).and_then(|steps| steps.get(at).copied());
    let mut segment = shown.map_or_else(String::new, |step| step.to_string());
    if let Some(noted) = has.and_then(|account| account.trace.segments()?.get(at)) {
        let after = has.map_or(0, |account| noted.at.since(account.opened));
        let _ = write!(
            segment,
            " (seq {}, {} ms after the beginning)",
            noted.seq,
            millis(after)
        );
    }
    let (n, other) = (at + 1, difference.capture + 1);
    match difference.kind {
        Kind::OnlyRun => format!("segment {n} of the run, {segment}, is not in the capture"),
        Kind::OnlyCapture => format!("segment {n} of the capture, {segment}, is not in the run"),
        Kind::Header => format!("segment {n}, {segment}, has another header in the capture"),
        Kind::Payload => format!("segment {n}, {segment}, has another payload in the capture"),
        Kind::Order => format!("segment {n}, {segment}, is number {other} in the capture"),
    }
}

fn bytes_sentence(missing: &MissingBytes) -> String {
    format!(
        "bytes {} to {} {} are not in the {}",
        missing.from,
        missing.to,
        missing.direction.arrow(),
        missing.lacking.word()
    )
}

fn millis(ns: i64) -> String {
    format!("{}.{:06}", ns / 1_000_000, ns.unsigned_abs() % 1_000_000)
}

/// Its segments, one by one.
fn steps(account: &Account) -> Option<Vec<Step>> {
    Some(account.trace.sequence()?.unfolded().collect())
}

/// Which place of a side is marked, and whether a segment stands there.
fn marked(difference: Difference, side: Side) -> (usize, bool) {
    let at = match side {
        Side::Run => difference.run,
        Side::Capture => difference.capture,
    };
    let lacks = match side {
        Side::Run => difference.kind == Kind::OnlyCapture,
        Side::Capture => difference.kind == Kind::OnlyRun,
    };
    (at, !lacks)
}

/// The sequence around a place, which stands in brackets; an empty pair of them where nothing is.
fn around(steps: &[Step], place: Option<(usize, bool)>) -> String {
    let Some((at, stands)) = place else {
        return folded(steps);
    };
    let at = at.min(steps.len());
    let next = (at + usize::from(stands)).min(steps.len());
    let (from, to) = (at.saturating_sub(BEFORE), (next + BEHIND).min(steps.len()));
    let mut parts = Vec::new();
    if from > 0 {
        parts.push("...".to_owned());
    }
    parts.push(folded(&steps[from..at]));
    parts.push(format!("[{}]", folded(&steps[at..next])));
    parts.push(folded(&steps[next..to]));
    if to < steps.len() {
        parts.push("...".to_owned());
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

fn folded(steps: &[Step]) -> String {
    let mut sequence = Sequence::default();
    for step in steps {
        sequence.push(step.direction, step.flags, step.len);
    }
    sequence.to_string()
}
