//! The table on the terminal: outcomes counted, what was lost and when, what could not be seen.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::course::CourseReport;
use super::parts;
use super::words::{millis, plural, signed_millis};
use crate::outcome::Outcome;
use crate::summary::{OutcomeSummary, Pool, Spread, Summary};
use crate::time::Stamp;

/// What the table says besides the summary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting {
    /// Whom was connected to.
    pub(crate) target: String,
    /// How long the run took, in nanoseconds.
    pub(crate) took_ns: i64,
    /// What was done to the server, a line each.
    pub(crate) triggers: Vec<String>,
    /// The instant before the first trigger.
    pub(crate) signal: Option<Stamp>,
    /// What the server did around the signal.
    pub(crate) course: CourseReport,
    /// What could not be observed or went wrong, a line each.
    pub(crate) notes: Vec<String>,
}

/// What the table of several runs says besides their pools.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolSetting {
    /// Whom was connected to.
    pub(crate) target: String,
    /// How many runs, in words.
    pub(crate) runs: String,
    /// What was done to the servers, a line each.
    pub(crate) triggers: Vec<String>,
    /// What could not be observed or went wrong, a line each.
    pub(crate) notes: Vec<String>,
}

/// The table of one run as text, newline included.
pub(crate) fn render(summary: &Summary, setting: &Setting) -> String {
    let mut text = String::new();
    let line = |text: &mut String, line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    let took = millis(setting.took_ns);
    let n = summary.connections;
    line(
        &mut text,
        &format!(
            "{n} {} to {} in {took}",
            plural(n, "connection"),
            setting.target
        ),
    );
    for trigger in &setting.triggers {
        line(&mut text, trigger);
    }
    if n > 0 {
        text.push('\n');
        text.push_str(&outcomes(summary));
        text.push('\n');
        text.push('\n');
        line(&mut text, &losses(summary, setting.signal));
        for part in server_parts(summary) {
            line(&mut text, &part);
        }
        let moments = setting.course.lines();
        if !moments.is_empty() {
            text.push('\n');
            moments.iter().for_each(|moment| line(&mut text, moment));
            text.push('\n');
        }
    }
    for note in differences(summary).iter().chain(&setting.notes) {
        line(&mut text, note);
    }
    text
}

/// The table of several runs as text, newline included: pools one below the other, each under its
/// label where it has one.
pub(crate) fn render_pools(pools: &[(Option<&str>, &Pool)], setting: &PoolSetting) -> String {
    let mut summary = Summary::default();
    for (_, pool) in pools {
        summary.merge(&pool.summary);
    }
    let n = summary.connections;
    let (target, runs) = (&setting.target, &setting.runs);
    let mut lines = vec![format!(
        "{n} {} to {target} in {runs}",
        plural(n, "connection")
    )];
    lines.extend(setting.triggers.iter().cloned());
    for (label, pool) in pools.iter().filter(|(_, p)| p.summary.connections > 0) {
        lines.push(String::new());
        lines.extend(label.map(|label| format!("{label}:")));
        lines.push(outcomes(&pool.summary));
        lines.push(String::new());
        lines.push(pooled_losses(pool));
        lines.extend(server_parts(&pool.summary));
    }
    lines.extend(differences(&summary));
    lines.extend(setting.notes.iter().cloned());
    lines.join("\n") + "\n"
}

/// What the server did to them, where its kernel told.
fn server_parts(summary: &Summary) -> Vec<String> {
    match summary.at_the_server {
        0 => Vec::new(),
        _ => parts::lines(summary),
    }
}

fn outcomes(summary: &Summary) -> String {
    let wire = summary.on_the_wire > 0;
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let mut header = vec!["outcome", "count", "curl"];
    if wire {
        header.extend(["commonest sequence", ""]);
    }
    table.set_header(header);
    for outcome in Outcome::ALL {
        let Some(counted) = summary.outcomes.get(&outcome) else {
            continue;
        };
        let mut row = vec![
            outcome.word().to_owned(),
            counted.count.to_string(),
            curl(counted),
        ];
        if wire {
            row.extend(sequence(counted));
        }
        table.add_row(row);
    }
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// curl's exit codes for an outcome, the commonest first.
fn curl(counted: &OutcomeSummary) -> String {
    let mut codes: Vec<(u8, u64)> = counted.curl.iter().map(|(&c, &n)| (c, n)).collect();
    codes.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
    let codes: Vec<String> = codes.iter().map(|(code, _)| code.to_string()).collect();
    if codes.is_empty() {
        "-".to_owned()
    } else {
        codes.join(",")
    }
}

fn sequence(counted: &OutcomeSummary) -> [String; 2] {
    let Some((sequence, count)) = counted.commonest_sequence() else {
        return ["-".to_owned(), String::new()];
    };
    let share = match counted.distinct_sequences() {
        1 => "all".to_owned(),
        kinds => format!("{count} of {} ({kinds} kinds)", counted.count),
    };
    [shorten(sequence), share]
}

fn losses(summary: &Summary, signal: Option<Stamp>) -> String {
    let mut text = lost_of_taken(summary);
    match (summary.loss_window, signal) {
        (Some((first, last)), Some(signal)) => {
            let (first, last) = (first.since(signal), last.since(signal));
            let _ = write!(
                text,
                "; loss window {} to {} from the signal",
                signed_millis(first),
                signed_millis(last)
            );
        }
        (Some((first, last)), None) => {
            let _ = write!(text, "; loss window {} long", millis(last.since(first)));
        }
        (None, _) => {}
    }
    text
}

/// Losses of several runs: of all, and how much one run differs from another.
fn pooled_losses(pool: &Pool) -> String {
    let mut text = lost_of_taken(&pool.summary);
    let differ = pool.lost.len() > 1 && pool.summary.taken > 0;
    if let Some(spread) = pool.spread().filter(|_| differ) {
        let Spread {
            least,
            median,
            most,
        } = spread;
        let _ = write!(text, "; {least} to {most} in a run, median {median}");
    }
    if let Some((first, last)) = pool.loss_window {
        let _ = write!(
            text,
            "; loss window {} to {} from each signal",
            signed_millis(first),
            signed_millis(last)
        );
    }
    text
}

fn lost_of_taken(summary: &Summary) -> String {
    if summary.is_all_local_error() {
        return "nothing was measured".to_owned();
    }
    let Summary {
        lost,
        taken,
        half_open,
        ..
    } = *summary;
    let asked = summary.asked_nothing == 0;
    if taken == 0 {
        return match (half_open, asked) {
            (0, true) => "the server's kernel took none of them, so none was lost".to_owned(),
            (0, false) => "the server's kernel took none of them".to_owned(),
            (n, _) => format!(
                "the server's kernel answered {n}; what is ended half-open never reaches its queue, and \
                 cannot be lost"
            ),
        };
    }
    let mut text = if asked {
        format!("lost {lost} of the {taken} that the server's kernel took")
    } else {
        // What it leaves open cannot be lost.
        let (ended, so) = match lost {
            0 => ("none".to_owned(), ""),
            n => (n.to_string(), ", which counts as lost"),
        };
        format!(
            "nothing was asked: the server ended {ended} of the {taken} that its kernel took{so}"
        )
    };
    let unfinished = summary.count(Outcome::Unfinished);
    if unfinished > 0 {
        let _ = write!(text, ", and perhaps the {unfinished} unfinished");
    }
    if half_open > 0 {
        let _ = write!(
            text,
            "; {half_open} more were ended half-open, and never reached its queue"
        );
    }
    text
}

fn differences(summary: &Summary) -> Vec<String> {
    let mut notes: Vec<String> = summary
        .differing
        .iter()
        .map(|((wire, socket), count)| {
            format!(
                "{count} {} where the wire says {} and the socket {} (socket_outcome)",
                plural(*count, "connection"),
                wire.word(),
                socket.word()
            )
        })
        .collect();
    if summary.holes > 0 {
        notes.push(format!(
            "{} {} that the wire vantage did not see whole (caveat hole)",
            summary.holes,
            plural(summary.holes, "connection")
        ));
    }
    notes
}

/// A sequence at most as wide as a screen; the CSV has all of it.
fn shorten(sequence: String) -> String {
    const WIDTH: usize = 100;
    if sequence.len() <= WIDTH {
        return sequence;
    }
    let end = sequence[..WIDTH].rfind(' ').unwrap_or(WIDTH);
    format!("{} ...", &sequence[..end])
}
