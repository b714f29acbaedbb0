//! Judges each pair of accounts. Only what a side itself shows explains a difference: when it began and
//! ended, and what it proves to have missed.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::align::{self, Difference, Kind};
use super::pairs::{Offset, Positions};
use super::verdict::{Compared, Comparison, Finding, Pair, Reason, What};
use super::{
    Account, CROSSING, Noted, Side, Source, Strictness, Told, Trace, holes, ranges, steps,
};
use crate::outcome::{Outcome, decide};
use crate::record::SETTLE;
use crate::sequence::Step;
use crate::time::Stamp;

/// Judges each pair.
pub(super) fn judge(
    run: &Told,
    capture: &Told,
    pairs: &[Positions],
    offset: Offset,
    strictness: Strictness,
) -> Comparison {
    let mut bench = Bench {
        run,
        capture,
        offset,
        strictness,
        servers: run.accounts.iter().map(|account| account.server).collect(),
        apart_ns: Vec::new(),
    };
    let pairs = pairs.iter().map(|&(mine, theirs)| bench.pair(mine, theirs));
    let pairs = pairs.collect();
    bench.apart_ns.sort_unstable();
    Comparison {
        offset,
        pairs,
        apart_ns: bench.apart_ns,
    }
}

struct Bench<'a> {
    run: &'a Told,
    capture: &'a Told,
    offset: Offset,
    strictness: Strictness,
    /// Whom the run talked to.
    servers: BTreeSet<SocketAddr>,
    apart_ns: Vec<u64>,
}

impl Bench<'_> {
    fn pair(&mut self, mine: Option<usize>, theirs: Option<usize>) -> Pair {
        let mut pair = Pair {
            run: mine,
            capture: theirs,
            findings: Vec::new(),
            capture_outcome: None,
            compared: Compared::Nothing,
            matched: 0,
            crossed: 0,
            in_part: 0,
            apart_ns: None,
        };
        let (run, capture) = (
            mine.map(|at| &self.run.accounts[at]),
            theirs.map(|at| &self.capture.accounts[at]),
        );
        match (run, capture) {
            (Some(run), Some(capture)) => {
                self.packets(run, capture, &mut pair);
                self.outcomes(run, capture, &mut pair);
            }
            (Some(run), None) => pair.findings.push(Finding {
                what: What::Only(Side::Run),
                reason: self.only_run(run),
            }),
            (None, Some(capture)) => {
                pair.capture_outcome = Some(capture.outcome);
                pair.findings.push(Finding {
                    what: What::Only(Side::Capture),
                    reason: self.only_capture(capture),
                });
            }
            (None, None) => {}
        }
        pair
    }

    /// Why the capture does not show a connection of the run.
    fn only_run(&self, run: &Account) -> Option<Reason> {
        if matches!(run.trace, Trace::Nothing) && run.outcome == Outcome::LocalError {
            return Some(Reason::NoPackets);
        }
        // A capture without a packet says nothing of when it was taken.
        let (first, last) = self.capture.span?;
        if self.offset.to_capture(run.last) < first {
            Some(Reason::Before(Side::Capture))
        } else if self.offset.to_capture(run.opened) > last {
            Some(Reason::After(Side::Capture))
        } else {
            None
        }
    }

    /// Why the run does not tell of a connection that the capture shows.
    fn only_capture(&self, capture: &Account) -> Option<Reason> {
        // A capture without a filter would have shown it as well.
        let is_run = matches!(self.run.source, Source::Run { .. });
        if is_run && !self.servers.contains(&capture.server) {
            return Some(Reason::OtherTraffic);
        }
        let (first, last) = self.run.span?;
        if self.offset.to_run(capture.last) < first {
            return Some(Reason::Before(Side::Run));
        }
        if self.offset.to_run(capture.opened) > last {
            return Some(Reason::After(Side::Run));
        }
        let complete = self.run.source == Source::Run { complete: true };
        complete.then_some(Reason::OtherTraffic)
    }

    fn packets(&mut self, run: &Account, capture: &Account, pair: &mut Pair) {
        match (&run.trace, &capture.trace, self.strictness) {
            (Trace::Segments(mine), Trace::Segments(theirs), Strictness::SameInterface) => {
                pair.compared = Compared::Segments;
                self.segments(run, (mine, theirs), pair);
            }
            (Trace::Segments(mine), Trace::Segments(theirs), Strictness::AcrossInterfaces) => {
                pair.compared = Compared::Bytes;
                self.bytes((mine, theirs), pair);
            }
            (Trace::Sequence { .. }, Trace::Segments(theirs), Strictness::SameInterface) => {
                pair.compared = Compared::Sequence;
                self.steps(run, theirs, pair);
            }
            _ => {}
        }
        self.marks(run, capture, pair);
    }

    fn segments(&mut self, run: &Account, (mine, theirs): (&[Noted], &[Noted]), pair: &mut Pair) {
        let aligned = align::align(mine, theirs);
        pair.matched = aligned.matched.len() as u64;
        pair.crossed = aligned.crossed;
        pair.in_part = aligned.in_part;
        for &(at, other) in &aligned.matched {
            self.apart(mine[at].at, theirs[other].at, pair);
        }
        for difference in aligned.differences {
            let reason = match difference.kind {
                Kind::OnlyRun => {
                    let missing = &mine[difference.run];
                    let hole = holes::proves(theirs, missing);
                    self.missing(Side::Capture, missing.at, hole)
                }
                Kind::OnlyCapture => {
                    let missing = &theirs[difference.capture];
                    let hole = holes::proves(mine, missing);
                    let at = self.offset.to_run(missing.at);
                    let settled = || self.is_settled(run, mine, at);
                    self.missing(Side::Run, missing.at, hole)
                        .or_else(|| settled().then_some(Reason::Settled))
                }
                Kind::Header | Kind::Payload | Kind::Order => None,
            };
            pair.findings.push(Finding {
                what: What::Segment(difference),
                reason,
            });
        }
    }

    /// Why a side lacks a segment that the other saw `at` that time, by the other's clock.
    fn missing(&self, side: Side, at: Stamp, hole: bool) -> Option<Reason> {
        let (told, at) = match side {
            Side::Run => (self.run, self.offset.to_run(at)),
            Side::Capture => (self.capture, self.offset.to_capture(at)),
        };
        let (first, last) = told.span?;
        if at < first + CROSSING {
            Some(Reason::Before(side))
        } else if at > last - CROSSING {
            Some(Reason::After(side))
        } else {
            hole.then_some(Reason::Hole(side))
        }
    }

    /// Whether a run had done with the connection by then.
    fn is_settled(&self, run: &Account, segments: &[Noted], at: Stamp) -> bool {
        let last = segments.last().map_or(run.last, |noted| noted.at);
        matches!(self.run.source, Source::Run { .. }) && at > last + SETTLE
    }

    fn bytes(&mut self, (mine, theirs): (&[Noted], &[Noted]), pair: &mut Pair) {
        let found = ranges::compare(mine, theirs);
        for missing in found.bytes {
            let reason = self.missing(missing.lacking, missing.at, missing.acknowledged);
            pair.findings.push(Finding {
                what: What::Bytes(missing),
                reason,
            });
        }
        for direction in found.content {
            pair.findings.push(Finding {
                what: What::Content(direction),
                reason: None,
            });
        }
        pair.in_part = found.unseen.len() as u64;
        for missing in found.marks {
            // A SYN or FIN that is proven to have been missed is told of among the bytes.
            let among_bytes = missing.counts && pair.findings.iter().any(|found| {
                matches!(found.what, What::Bytes(bytes) if bytes.lacking == missing.lacking && bytes.at == missing.at)
            });
            if !among_bytes {
                pair.findings.push(Finding {
                    what: What::Marks,
                    reason: self.missing(missing.lacking, missing.at, false),
                });
            }
        }
        if found.order {
            pair.findings.push(Finding {
                what: What::Marks,
                reason: None,
            });
        }
    }

    fn steps(&mut self, run: &Account, theirs: &[Noted], pair: &mut Pair) {
        let Some(sequence) = run.trace.sequence() else {
            return;
        };
        let mine: Vec<Step> = sequence.unfolded().collect();
        let aligned = steps::align(&mine, theirs);
        pair.matched = aligned.matched;
        pair.crossed = aligned.crossed;
        let mut proven = holes::Budget::of(theirs);
        for (at, place) in aligned.only_run {
            let edge = self.missing_step(run, place, theirs);
            let hole = || proven.take(mine[at]).then_some(Reason::Hole(Side::Capture));
            pair.findings.push(Finding {
                what: What::Segment(Difference {
                    kind: Kind::OnlyRun,
                    run: at,
                    capture: place,
                }),
                reason: edge.or_else(hole),
            });
        }
        let last = theirs.len().saturating_sub(aligned.only_capture.len());
        for (at, place) in aligned.only_capture {
            let by_run = self.offset.to_run(theirs[at].at);
            let before = at
                .checked_sub(1)
                .map(|before| self.offset.to_run(theirs[before].at));
            let settled = place == mine.len()
                && at >= last
                && before.is_some_and(|before| by_run > before.max(run.last) + SETTLE);
            pair.findings.push(Finding {
                what: What::Segment(Difference {
                    kind: Kind::OnlyCapture,
                    run: place,
                    capture: at,
                }),
                reason: self
                    .missing(
                        Side::Run,
                        theirs[at].at,
                        run.caveats.hole && theirs[at].space() > 0,
                    )
                    .filter(|reason| !matches!(reason, Reason::Before(_)))
                    .or_else(|| settled.then_some(Reason::Settled)),
            });
        }
        pair.findings.sort_by_key(|found| match found.what {
            What::Segment(difference) => (difference.run, difference.capture),
            _ => (usize::MAX, 0),
        });
    }

    /// Why the capture lacks a step of which the time is not known: it stands before all that the
    /// capture shows, which began later than the connection did; or behind all of it, and the capture
    /// ended before the connection was decided, or with the last that it shows of it.
    fn missing_step(&self, run: &Account, place: usize, theirs: &[Noted]) -> Option<Reason> {
        let (first, last) = self.capture.span?;
        let opened = self.offset.to_capture(run.opened);
        let ended = self.offset.to_capture(run.last);
        let shown_last = theirs.last().map_or(first, |noted| noted.at);
        if place == 0 && opened < first + CROSSING {
            Some(Reason::Before(Side::Capture))
        } else if place == theirs.len() && (ended > last || shown_last + CROSSING > last) {
            Some(Reason::After(Side::Capture))
        } else {
            None
        }
    }

    /// Times of a few segments, where that is all that a run tells.
    fn marks(&mut self, run: &Account, capture: &Account, pair: &mut Pair) {
        let (Trace::Sequence { marks, .. }, Trace::Segments(segments)) =
            (&run.trace, &capture.trace)
        else {
            return;
        };
        for (&mine, theirs) in marks.iter().zip(marks_of(segments)) {
            if let (Some(mine), Some(theirs)) = (mine, theirs) {
                self.apart(mine, theirs, pair);
            }
        }
    }

    fn apart(&mut self, run: Stamp, capture: Stamp, pair: &mut Pair) {
        let apart = self.offset.to_run(capture).since(run).unsigned_abs();
        self.apart_ns.push(apart);
        pair.apart_ns = pair.apart_ns.max(Some(apart));
    }

    fn outcomes(&self, run: &Account, capture: &Account, pair: &mut Pair) {
        if self.run.unjudged {
            return;
        }
        let seen = self.outcome_of_capture(run, capture);
        pair.capture_outcome = Some(seen);
        if seen == run.outcome {
            return;
        }
        let reason = self
            .unclear(capture, seen, Side::Capture, pair)
            .or_else(|| self.unclear(run, run.outcome, Side::Run, pair));
        // A run that was interrupted says no more of what was open.
        let is_run = matches!(self.run.source, Source::Run { .. });
        let stopped = is_run && run.outcome == Outcome::Unfinished;
        pair.findings.push(Finding {
            what: What::Outcome,
            reason: reason.or(stopped.then_some(Reason::After(Side::Run))),
        });
    }

    /// Why a side cannot tell an outcome: what it lacks by its edges or for a hole, as its packets were
    /// found to do; or packets cut where framing depends on them.
    fn unclear(
        &self,
        account: &Account,
        outcome: Outcome,
        side: Side,
        pair: &Pair,
    ) -> Option<Reason> {
        if outcome != Outcome::Unfinished {
            return None;
        }
        if account.caveats.snapped {
            return Some(Reason::Snapped(side));
        }
        let its_own = |reason: &Reason| {
            [
                Reason::Hole(side),
                Reason::Before(side),
                Reason::After(side),
            ]
            .contains(reason)
        };
        pair.reasons().into_iter().find(its_own)
    }

    /// A run's own deadline, that its client meant to ask nothing, and that its FIN is a half-close, are
    /// no packets: what the capture shows is judged as the run would.
    fn outcome_of_capture(&self, run: &Account, capture: &Account) -> Outcome {
        let (Source::Run { .. }, Some(mut facts)) = (self.run.source, capture.facts) else {
            return capture.outcome;
        };
        let gave_up = matches!(
            run.outcome,
            Outcome::Hung | Outcome::Stalled | Outcome::Unanswered
        );
        let decided = run.decided.map(|at| self.offset.to_capture(at));
        facts.deadline = decided.filter(|_| gave_up);
        facts.client_gone = decided.filter(|_| run.outcome == Outcome::ClientClosed);
        decide(&facts).outcome
    }
}

/// First SYN, SYN-ACK, request byte and response byte.
fn marks_of(segments: &[Noted]) -> [Option<Stamp>; 4] {
    use crate::wire::Direction::{ToClient, ToServer};
    let first = |test: &dyn Fn(&Noted) -> bool| {
        let mut found = segments.iter().filter(|&noted| test(noted));
        found.next().map(|noted| noted.at)
    };
    [
        first(&|n| n.direction == ToServer && n.flags.syn()),
        first(&|n| n.direction == ToClient && n.flags.syn()),
        first(&|n| n.direction == ToServer && n.len > 0),
        first(&|n| n.direction == ToClient && n.len > 0),
    ]
}
