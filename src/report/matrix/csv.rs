//! matrix.csv: a row for each server, version and signal, in numbers. A row that was not measured has
//! its names, and why; its numbers are empty.

use std::io::{self, Write};

use super::Line;
use crate::cause::Cause;
use crate::outcome::Outcome;
use crate::summary::{Interval, Times};

/// What the row is about.
const NAMES: [&str; 9] = [
    "row", "scenario", "server", "version", "package", "mode", "signal", "whom", "what",
];

/// Counts over all runs, and what one run loses.
const COUNTS: [&str; 9] = [
    "runs",
    "connections",
    "taken",
    "lost",
    "lost_per_run",
    "lost_per_run_low",
    "lost_per_run_high",
    "unproven",
    "interleaved_runs",
];

/// Runs in which the server did not end as it should.
const ENDS: [&str; 3] = ["killed_runs", "left_behind_runs", "ended_before_runs"];

/// Moments from the signal, each as its least, its median and its most of all runs.
const TIMES: [&str; 4] = ["last_accept", "listener_closed", "refused", "gone"];

/// Why a row was not measured, or not as often as asked for.
const UNMADE: &str = "unmade";

/// Causes that a lost connection may have.
const CAUSES: [Cause; 8] = [
    Cause::NotListening,
    Cause::QueueFull,
    Cause::HandshakeLimbo,
    Cause::NeverAccepted,
    Cause::AcceptedUnread,
    Cause::ReadUnanswered,
    Cause::AnsweredPartly,
    Cause::Unknown,
];

/// Writes rows as they are complete.
pub(crate) struct MatrixCsv<W: Write> {
    out: csv::Writer<W>,
}

impl<W: Write> MatrixCsv<W> {
    /// Begins with the header.
    pub(crate) fn new(out: W) -> io::Result<MatrixCsv<W>> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(header())?;
        out.flush()?;
        Ok(MatrixCsv { out })
    }

    /// Adds a row, and hands it on.
    pub(crate) fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.out.write_record(cells(line))?;
        self.out.flush()
    }
}

/// The columns' names.
pub(crate) fn header() -> Vec<String> {
    let mut header: Vec<String> = NAMES.iter().chain(&COUNTS).map(|&c| c.to_owned()).collect();
    header.extend(Outcome::ALL.map(|outcome| outcome.word().to_owned()));
    header.extend(CAUSES.map(|cause| format!("lost_{}", cause.word())));
    header.extend(["loss_from_ms", "loss_to_ms"].map(str::to_owned));
    for moment in TIMES {
        header.extend(["min", "median", "max"].map(|which| format!("{moment}_ms_{which}")));
    }
    header.extend(ENDS.map(str::to_owned));
    header.push(UNMADE.to_owned());
    header
}

fn cells(line: &Line<'_>) -> Vec<String> {
    let mut cells: Vec<String> = [
        line.name,
        line.scenario,
        line.server,
        line.version.unwrap_or_default(),
        line.package,
        line.mode,
        line.signal.unwrap_or_default(),
        if line.signal.is_some() { line.whom } else { "" },
        line.what,
    ]
    .map(str::to_owned)
    .to_vec();
    let Some(runs) = &line.runs else {
        cells.resize(header().len() - 1, String::new());
        cells.push(match line.unmade {
            Some(why) => why.to_owned(),
            None => "not installed".to_owned(),
        });
        return cells;
    };
    let (pool, stops, summary) = (runs.pool, runs.stops, &runs.pool.summary);
    let interval = Interval::of(&pool.lost);
    let of =
        |end: fn(Interval) -> f64| interval.map_or_else(String::new, |i| format!("{:.3}", end(i)));
    cells.extend([
        pool.runs().to_string(),
        summary.connections.to_string(),
        summary.taken.to_string(),
        summary.lost.to_string(),
        match pool.lost.as_slice() {
            [only] => only.to_string(),
            _ => of(|interval| interval.mean),
        },
        of(|interval| interval.low),
        of(|interval| interval.high),
        summary.unproven.to_string(),
        stops.interleaved.to_string(),
    ]);
    cells.extend(Outcome::ALL.map(|outcome| summary.count(outcome).to_string()));
    let causes = summary.lost_causes();
    cells.extend(CAUSES.map(|cause| causes.get(&cause).copied().unwrap_or(0).to_string()));
    let (from, to) = pool.loss_window.unzip();
    cells.extend([millis(from), millis(to)]);
    for times in [
        &stops.last_accept,
        &stops.listener_closed,
        &stops.refused,
        &stops.gone,
    ] {
        cells.extend(moments(times));
    }
    cells.extend([runs.killed, runs.left_behind, runs.ended_before].map(|n| n.to_string()));
    cells.push(line.unmade.unwrap_or_default().to_owned());
    cells
}

fn moments(times: &Times) -> [String; 3] {
    [times.least(), times.median(), times.most()].map(millis)
}

/// Milliseconds with three decimals; empty where there is nothing.
fn millis(ns: Option<i64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "spans within a run")]
    ns.map_or_else(String::new, |ns| format!("{:.3}", ns as f64 / 1e6))
}
