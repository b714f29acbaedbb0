//! The report of `probe compare`: how many connections agree, what explains those that differ, and
//! where the others differ first, shown from both sides.

pub(crate) mod csv;
mod difference;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::words::plural;
use crate::reconcile::{Compared, Comparison, Pair, Reason, Side, Told, Verdict, What};

/// Connections of which the first difference is shown.
const SHOWN: usize = 10;

/// The report as text, newline included; `names` are those of the run and of the capture.
pub(crate) fn render(
    compared: &Comparison,
    run: &Told,
    capture: &Told,
    names: &[String; 2],
) -> String {
    let mut text = format!(
        "{}, held against {}\n\n",
        described(run, &names[0]),
        described(capture, &names[1])
    );
    for (label, of) in [
        ("matched", None),
        ("only in the run", Some(Side::Run)),
        ("only in the capture", Some(Side::Capture)),
    ] {
        let pairs: Vec<&Pair> = compared.pairs.iter().filter(|p| told_by(p) == of).collect();
        line(&mut text, &format!("{label:<20}{}", counted(&pairs, of)));
        if of.is_none() {
            let outcome = |what: What| what == What::Outcome;
            line(
                &mut text,
                &found("differing sequences", &pairs, |what| !outcome(what)),
            );
            line(&mut text, &found("differing outcomes", &pairs, outcome));
        }
    }
    for left_out in not_compared(compared, run) {
        line(&mut text, &left_out);
    }
    text.push('\n');
    line(&mut text, &times(compared));
    let differing = with_verdict(compared, Verdict::Differs);
    let explained = with_verdict(compared, Verdict::Explained);
    for pairs in [&differing, &explained] {
        for pair in pairs
            .iter()
            .filter(|pair| is_worth_showing(pair))
            .take(SHOWN)
        {
            text.push('\n');
            text.push_str(&difference::show(pair, run, capture));
        }
    }
    text.push('\n');
    let conclusion = if compared.is_void() {
        "Nothing was compared: the two have no connection in common.".to_owned()
    } else {
        conclusion(compared, differing.len(), explained.len())
    };
    line(&mut text, &conclusion);
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

fn described(told: &Told, name: &str) -> String {
    let n = told.accounts.len() as u64;
    let segments: usize = told
        .accounts
        .iter()
        .map(|account| account.trace.segments().map_or(0, <[_]>::len))
        .sum();
    let segments = segments as u64;
    let mut text = format!("{name}: {n} {}", plural(n, "connection"));
    if segments > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, ", {segments} {}", plural(segments, "segment"));
    }
    text
}

/// The only side that tells of it; nothing where both do.
fn told_by(pair: &Pair) -> Option<Side> {
    match (pair.run, pair.capture) {
        (Some(_), None) => Some(Side::Run),
        (None, Some(_)) => Some(Side::Capture),
        _ => None,
    }
}

fn counted(pairs: &[&Pair], of: Option<Side>) -> String {
    let count = |verdict| {
        pairs
            .iter()
            .filter(|pair| pair.verdict() == verdict)
            .count()
    };
    let mut parts = Vec::new();
    let (same, differs) = (count(Verdict::Same), count(Verdict::Differs));
    if same > 0 {
        parts.push(format!("{same} the same"));
    }
    if differs > 0 {
        parts.push(match of {
            None => format!("{differs} differ"),
            Some(_) => format!("{differs} unexplained"),
        });
    }
    for (reason, n) in reasons(pairs) {
        parts.push(format!("{n} {}", reason.word()));
    }
    format!("{:>7}   {}", pairs.len(), parts.join(", "))
}

/// How many pairs have a finding of that kind, and in how many nothing explains one.
fn found(label: &str, pairs: &[&Pair], is_one: impl Fn(What) -> bool) -> String {
    let having = |unexplained: bool| {
        let counts = |pair: &&&Pair| {
            let mut findings = pair.findings.iter().filter(|found| is_one(found.what));
            findings.any(|found| !unexplained || found.reason.is_none())
        };
        pairs.iter().filter(counts).count()
    };
    match (having(false), having(true)) {
        (0, _) => format!("{label:<20}{:>7}", 0),
        (all, 0) => format!("{label:<20}{all:>7}   all explained"),
        (all, n) => format!("{label:<20}{all:>7}   {n} unexplained"),
    }
}

/// How many are explained by what; by the first reason, where there are several.
fn reasons(pairs: &[&Pair]) -> BTreeMap<Reason, usize> {
    let mut counts = BTreeMap::new();
    for pair in pairs
        .iter()
        .filter(|pair| pair.verdict() == Verdict::Explained)
    {
        if let Some(&reason) = pair.reasons().first() {
            *counts.entry(reason).or_default() += 1;
        }
    }
    counts
}

fn with_verdict(compared: &Comparison, verdict: Verdict) -> Vec<&Pair> {
    let pairs = compared.pairs.iter();
    pairs.filter(|pair| pair.verdict() == verdict).collect()
}

/// Other people's connections, and those from before and after, are counted only.
fn is_worth_showing(pair: &Pair) -> bool {
    let hole = |reason: &Reason| matches!(reason, Reason::Hole(_));
    pair.verdict() == Verdict::Differs || pair.reasons().iter().any(hole)
}

/// What could not be compared, a line each.
fn not_compared(compared: &Comparison, run: &Told) -> Vec<String> {
    let both = || compared.pairs.iter().filter(|pair| told_by(pair).is_none());
    let by = |how: Compared| both().filter(|pair| pair.compared == how).count() as u64;
    let in_part: u64 = both().map(|pair| pair.in_part).sum();
    let directions = both().any(|pair| pair.compared == Compared::Bytes);
    let mut lines = Vec::new();
    let mut tell = |n: u64, what: &str, how: &str| {
        if n > 0 {
            lines.push(format!("of {n} {}, {how}", plural(n, what)));
        }
    };
    tell(
        by(Compared::Nothing),
        "connection",
        "the run has no packets: only outcomes and times were compared",
    );
    tell(
        by(Compared::Sequence),
        "connection",
        "the run's rows were compared: flags and lengths in order, outcomes and times",
    );
    if directions {
        tell(
            in_part,
            "direction",
            "the content was not compared: it is cut, or came again cut up in another way",
        );
    } else {
        tell(
            in_part,
            "segment",
            "not all was compared, as captures cut them",
        );
    }
    if run.unjudged {
        lines.push(
            "outcomes were not compared: the run did not carry HTTP (--payload), and its rows do not \
             say what it took for an answer; give its folder"
                .to_owned(),
        );
    }
    lines
}

/// How much was compared at most.
fn depth(compared: &Comparison) -> Option<Compared> {
    let pairs = compared.pairs.iter().filter(|pair| told_by(pair).is_none());
    pairs.map(|pair| pair.compared).max()
}

/// What the times of matched segments say of the clocks.
fn times(compared: &Comparison) -> String {
    let offset = compared.offset;
    let by = offset.measured_by as u64;
    if by == 0 {
        return "clocks: no connection to measure their offset by; taken for one clock".to_owned();
    }
    let apart = &compared.apart_ns;
    let ahead = if offset.ns < 0 { "behind" } else { "ahead of" };
    let mut text = format!(
        "clocks: the capture's is {} {ahead} the run's, by {by} {}",
        micros(offset.ns.unsigned_abs()),
        plural(by, "connection")
    );
    if let Some(&most) = apart.last() {
        let n = apart.len() as u64;
        let _ = write!(
            text,
            "; the times of {n} {} then differ by {} (median), {} (99 %), {} (most)",
            plural(n, "segment"),
            micros(quantile(apart, 50)),
            micros(quantile(apart, 99)),
            micros(most)
        );
    }
    let crossed: u64 = compared.pairs.iter().map(|pair| pair.crossed).sum();
    if crossed > 0 {
        let _ = write!(
            text,
            "; {crossed} crossed another too closely for their order to mean anything"
        );
    }
    text
}

/// Of values in order, the one below which that many percent lie.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).copied().unwrap_or(0)
}

fn micros(ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    if ns >= SECOND {
        format!("{}.{:09} s", ns / SECOND, ns % SECOND)
    } else {
        format!("{}.{:03} us", ns / 1_000, ns % 1_000)
    }
}

fn conclusion(compared: &Comparison, differing: usize, explained: usize) -> String {
    let shown = |n: usize| match n.checked_sub(SHOWN) {
        Some(1..) => format!(" (the first {SHOWN} are shown; --csv lists all)"),
        _ => String::new(),
    };
    match (differing as u64, explained) {
        (0, _) if depth(compared) == Some(Compared::Nothing) => {
            "Nothing that could be compared differs; no packets of the run's could.".to_owned()
        }
        (0, 0) => "Nothing differs.".to_owned(),
        (0, _) => "Nothing differs beyond what is explained.".to_owned(),
        (1, _) => "1 connection differs, and nothing explains it.".to_owned(),
        (n, _) => format!(
            "{n} connections differ, and nothing explains it{}.",
            shown(differing)
        ),
    }
}

/// A finding in words that fit into a cell.
fn finding_words(pair: &Pair) -> Option<&'static str> {
    use crate::reconcile::Kind;
    Some(match pair.first()?.what {
        What::Only(Side::Run) => "only_run",
        What::Only(Side::Capture) => "only_capture",
        What::Segment(difference) => match difference.kind {
            Kind::OnlyRun => "segment_only_run",
            Kind::OnlyCapture => "segment_only_capture",
            Kind::Header => "header",
            Kind::Payload => "payload",
            Kind::Order => "order",
        },
        What::Bytes(_) => "bytes",
        What::Content(_) => "payload",
        What::Marks => "marks",
        What::Outcome => "outcome",
    })
}
