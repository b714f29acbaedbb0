//! Real servers side by side: a row for each server, version and signal, as a table for a terminal, as
//! one for a page, and as numbers.

pub(crate) mod csv;
mod notes;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::words::{plural, signed_millis};
use crate::outcome::Outcome;
use crate::summary::{Interval, Pool, Stops, Summary, Times};

/// A row.
pub(crate) struct Line<'a> {
    /// What no other row is called.
    pub(crate) name: &'a str,
    /// The folder of its scenario.
    pub(crate) scenario: &'a str,
    /// The server.
    pub(crate) server: &'a str,
    /// Its version, where it is known.
    pub(crate) version: Option<&'a str>,
    /// What brings it: `debian puma`.
    pub(crate) package: &'a str,
    /// Its configuration.
    pub(crate) mode: &'a str,
    /// The signal's name, where one is sent.
    pub(crate) signal: Option<&'a str>,
    /// Who gets it: `master`, `tree`, `worker`.
    pub(crate) whom: &'static str,
    /// What it asks for.
    pub(crate) what: &'static str,
    /// Whether the server is to end on it.
    pub(crate) is_stop: bool,
    /// What came of it; nothing where it was not measured.
    pub(crate) runs: Option<Runs<'a>>,
    /// Why it was not, or not as often as asked for.
    pub(crate) unmade: Option<&'a str>,
}

/// The runs of a row.
pub(crate) struct Runs<'a> {
    /// Their records.
    pub(crate) pool: &'a Pool,
    /// Their turning points.
    pub(crate) stops: &'a Stops,
    /// In how many the server was killed, as it had not stopped in time.
    pub(crate) killed: usize,
    /// In how many its main process ended in time, and others of it did not.
    pub(crate) left_behind: usize,
    /// In how many it had ended before it was signalled.
    pub(crate) ended_before: usize,
    /// What the vantages could not see.
    pub(crate) unseen: &'a [String],
}

const HEADER: [&str; 10] = [
    "server",
    "signal",
    "taken",
    "served",
    "lost in a run",
    "lost: outcome, cause",
    "loss window",
    "refuses",
    "gone",
    "interleaved",
];

/// Columns of numbers.
const NUMBERS: [usize; 2] = [2, 3];

/// For a terminal; `remarks` are lines under it.
pub(crate) fn render(lines: &[Line<'_>], head: &str, remarks: &[String]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(HEADER);
    for line in lines {
        table.add_row(line.cells());
    }
    for column in NUMBERS {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{head}\n\n{}\n\n", table.trim_fmt());
    for note in notes::notes(lines).iter().chain(remarks) {
        text.push_str(note);
        text.push('\n');
    }
    text
}

/// For a page; `facts` say what it was measured with, a line each.
pub(crate) fn markdown(
    lines: &[Line<'_>],
    head: &str,
    facts: &[String],
    remarks: &[String],
) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("{head}\n\n");
    for fact in facts {
        text.push_str(&format!("- {fact}\n"));
    }
    text.push('\n');
    text.push_str(&row(&HEADER.map(str::to_owned)));
    let rule = |at: usize| if NUMBERS.contains(&at) { "---:" } else { "---" };
    let rules: Vec<String> = (0..HEADER.len()).map(|at| rule(at).to_owned()).collect();
    text.push_str(&row(&rules));
    for line in lines {
        let cells = line
            .cells()
            .map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        text.push_str(&row(&cells));
    }
    let notes = notes::notes(lines);
    if !notes.is_empty() || !remarks.is_empty() {
        text.push('\n');
    }
    for note in notes.iter().chain(remarks) {
        text.push_str(&format!("- {note}\n"));
    }
    text
}

impl Line<'_> {
    /// As in `Puma 5.6.5 cluster`.
    fn title(&self) -> String {
        let parts = [Some(self.server), self.version, Some(self.mode)];
        let parts: Vec<&str> = parts
            .into_iter()
            .flatten()
            .filter(|p| !p.is_empty())
            .collect();
        parts.join(" ")
    }

    /// As in `TERM to the tree: graceful stop`.
    fn asked(&self) -> String {
        match (self.signal, self.whom) {
            // Of a file that cannot be read it is not known.
            (None, _) if self.what.is_empty() => String::new(),
            (None, _) => "none".to_owned(),
            (Some(signal), "master") => format!("{signal}: {}", self.what),
            (Some(signal), "worker") => format!("{signal}: {}", self.what),
            (Some(signal), whom) => format!("{signal} to the {whom}: {}", self.what),
        }
    }

    fn cells(&self) -> [String; HEADER.len()] {
        let (title, asked) = (self.title(), self.asked());
        let Some(runs) = &self.runs else {
            let mut cells = [const { String::new() }; HEADER.len()];
            cells[0] = title;
            cells[1] = asked;
            cells[5] = match self.version {
                None if self.unmade.is_none() => format!("not installed ({})", self.package),
                _ => "not measured".to_owned(),
            };
            return cells;
        };
        let (pool, stops) = (runs.pool, runs.stops);
        let summary = &pool.summary;
        let made = pool.runs();
        [
            title,
            asked,
            summary.taken.to_string(),
            summary.count(Outcome::Served).to_string(),
            lost_in_a_run(pool),
            lost_by_part(summary),
            pool.loss_window.map_or_else(String::new, |(first, last)| {
                format!("{} to {}", signed_millis(first), signed_millis(last))
            }),
            moment(&stops.refused, made),
            self.gone(runs),
            match stops.interleaved {
                0 => "no".to_owned(),
                n if n == made => "yes".to_owned(),
                n => format!("in {n} of {made}"),
            },
        ]
    }

    /// When the server was gone, or that it was killed.
    fn gone(&self, runs: &Runs<'_>) -> String {
        let made = runs.pool.runs();
        let killed = match runs.killed {
            0 => None,
            n if n == made => Some("killed".to_owned()),
            n => Some(format!("killed in {n} of {made}")),
        };
        if !self.is_stop {
            // It was to go on, and ended when nobody asked it anything any more.
            return String::new();
        }
        let left = made - runs.killed - runs.pool.cut_short.min(made - runs.killed);
        let gone = (left > 0).then(|| moment(&runs.stops.gone, left));
        let parts: Vec<String> = gone.into_iter().chain(killed).collect();
        parts.join(", ")
    }
}

/// `17` of one run; of several the mean, and where the mean of all runs lies.
fn lost_in_a_run(pool: &Pool) -> String {
    match (pool.lost.as_slice(), Interval::of(&pool.lost)) {
        (_, Some(of)) if of.low == of.high => format!("{}", of.mean),
        (_, Some(of)) => format!("{:.1} ({:.1} to {:.1})", of.mean, of.low, of.high),
        ([only], None) => only.to_string(),
        (_, None) => format!("{} so far", pool.summary.lost),
    }
}

/// `153 reset_empty, never_accepted; 2 closed_empty, read_unanswered`, the most first.
fn lost_by_part(summary: &Summary) -> String {
    let lost = |outcome: &Outcome| outcome.is_lost() == Some(true);
    let mut parts: Vec<(u64, String)> = Vec::new();
    for outcome in Outcome::ALL.into_iter().filter(lost) {
        let Some(counted) = summary.outcomes.get(&outcome) else {
            continue;
        };
        for (part, share) in counted.parts.ranked() {
            let words = format!("{}, {}", outcome.word(), part.cause.word());
            match parts.iter_mut().find(|(_, known)| *known == words) {
                Some((count, _)) => *count += share.count,
                None => parts.push((share.count, words)),
            }
        }
    }
    parts.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    let words: Vec<String> = parts
        .iter()
        .map(|(n, words)| format!("{n} {words}"))
        .collect();
    words.join("; ")
}

/// When it was, in the middle of all runs, of which `of` could have seen it.
fn moment(times: &Times, of: usize) -> String {
    let Some(median) = times.median() else {
        return "never".to_owned();
    };
    let at = signed_millis(median);
    match times.count() {
        n if n >= of => at,
        n => format!("{at} in {n} of {of}"),
    }
}

/// As in `52 rows, 10 runs each: 200 connections, 250 a second, the signal once 100 were opened`.
pub(crate) fn head(rows: usize, repeat: u64, load: &str) -> String {
    let runs = plural(repeat, "run");
    let each = if rows == 1 { "" } else { " each" };
    format!(
        "{rows} {}, {repeat} {runs}{each}: {load}",
        plural(rows as u64, "row")
    )
}

#[cfg(test)]
mod tests;
