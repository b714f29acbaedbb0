//! run.json: what was run, on what, what was done to the server, and what it amounts to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::course::CourseReport;
use crate::observe::diag::DiagStats;
use crate::observe::packet::WireStats;
use crate::observe::trace::TraceStats;
use crate::outcome::Outcome;
use crate::summary::Summary;
use crate::time::Stamp;

/// Raised whenever a name or a meaning in any output changes.
pub(crate) const SCHEMA: u32 = 1;

/// The whole file.
#[derive(Debug, Serialize)]
pub(crate) struct RunReport {
    pub(crate) schema: u32,
    pub(crate) run_id: String,
    pub(crate) probe_version: &'static str,
    /// The command line, a word each.
    pub(crate) command: Vec<String>,
    pub(crate) target: String,
    pub(crate) kernel: String,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) clock: ClockReport,
    pub(crate) vantages: Vec<VantageReport>,
    pub(crate) triggers: Vec<TriggerReport>,
    pub(crate) exits: Vec<ExitReport>,
    pub(crate) server: Option<ServerReport>,
    pub(crate) interrupted: bool,
    /// What broke it off before its end.
    pub(crate) broken_off: Option<String>,
    /// What was said on stderr.
    pub(crate) notes: Vec<String>,
    pub(crate) capture: Option<WireStats>,
    pub(crate) diag: Option<DiagStats>,
    pub(crate) trace: Option<TraceStats>,
    /// What the server did around its signal.
    pub(crate) course: CourseReport,
    pub(crate) summary: SummaryReport,
}

/// Clocks: all times are on the run clock, monotonic and shifted once to Unix time.
#[derive(Debug, Serialize)]
pub(crate) struct ClockReport {
    pub(crate) started_unix_ns: i64,
    pub(crate) ended_unix_ns: i64,
    /// What was added to CLOCK_MONOTONIC, by which tracepoints are stamped, in nanoseconds.
    pub(crate) monotonic_offset_ns: i64,
    /// How far the wall clock had moved from the run clock at the end, in nanoseconds.
    pub(crate) wall_offset_at_end_ns: i64,
}

/// A vantage and why it was not there.
#[derive(Debug, Serialize)]
pub(crate) struct VantageReport {
    pub(crate) name: &'static str,
    pub(crate) on: bool,
    pub(crate) missing: Option<String>,
}

/// A trigger that was pulled, or a command of one that ended.
#[derive(Debug, Serialize)]
pub(crate) struct TriggerReport {
    pub(crate) at_unix_ns: i64,
    pub(crate) action: String,
    pub(crate) pids: Vec<i32>,
    pub(crate) errors: Vec<String>,
    pub(crate) status: Option<String>,
    pub(crate) output: Option<String>,
}

/// A process of the server's tree that exited.
#[derive(Debug, Serialize)]
pub(crate) struct ExitReport {
    pub(crate) pid: i32,
    pub(crate) at_unix_ns: i64,
}

/// The server that the probe started.
#[derive(Debug, Serialize)]
pub(crate) struct ServerReport {
    pub(crate) pid: i32,
    /// Whether it had come to rest before the first connection.
    pub(crate) at_rest: bool,
    pub(crate) status: Option<String>,
    pub(crate) asked_to_stop_unix_ns: Option<i64>,
    pub(crate) killed_unix_ns: Option<i64>,
}

/// The run in numbers.
#[derive(Debug, Serialize)]
pub(crate) struct SummaryReport {
    pub(crate) connections: u64,
    pub(crate) taken: u64,
    pub(crate) lost: u64,
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// By cause; those without one are left out.
    pub(crate) causes: BTreeMap<&'static str, u64>,
    pub(crate) vantages_differ: u64,
    pub(crate) holes: u64,
    pub(crate) loss_window_us: Option<[f64; 2]>,
    pub(crate) latest_us: f64,
}

impl SummaryReport {
    /// The summary, times relative to the signal.
    pub(crate) fn new(summary: &Summary, signal: Option<Stamp>) -> SummaryReport {
        let window = summary.loss_window.zip(signal);
        SummaryReport {
            connections: summary.connections,
            taken: summary.taken,
            lost: summary.lost,
            outcomes: Outcome::ALL
                .into_iter()
                .filter(|&outcome| summary.count(outcome) > 0)
                .map(|outcome| (outcome.word(), summary.count(outcome)))
                .collect(),
            causes: summary
                .causes()
                .into_iter()
                .map(|(cause, n)| (cause.word(), n))
                .collect(),
            vantages_differ: summary.differing_count(),
            holes: summary.holes,
            loss_window_us: window.map(|((first, last), signal)| {
                [micros(first.since(signal)), micros(last.since(signal))]
            }),
            latest_us: micros(summary.latest_ns),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "spans within a run")]
fn micros(ns: i64) -> f64 {
    ns as f64 / 1_000.0
}
