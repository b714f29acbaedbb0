//! What the reader of a matrix must know besides its rows: what could not be measured, or not proven,
//! and why.

use super::Line;
use crate::cause::Cause;
use crate::outcome::Outcome;
use crate::report::words::plural;
use crate::summary::Summary;

/// Lines under the table, those of a row behind its name.
pub(super) fn notes(lines: &[Line<'_>]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for line in lines {
        let about = about(line);
        notes.extend(
            about
                .into_iter()
                .map(|note| format!("{}: {note}", line.name)),
        );
    }
    notes.extend(unseen(lines));
    notes
}

fn about(line: &Line<'_>) -> Vec<String> {
    // An error of a run says which, and so does the note.
    let own = format!("run {}: ", line.name);
    let unmade = line.unmade.map(|why| why.strip_prefix(&own).unwrap_or(why));
    let mut notes: Vec<String> = unmade.map(str::to_owned).into_iter().collect();
    let Some(runs) = &line.runs else {
        return notes;
    };
    let made = runs.pool.runs();
    let in_runs = |n: usize| match made {
        1 => String::new(),
        _ => format!(" in {n} of {made} runs"),
    };
    if runs.ended_before > 0 {
        notes.push(format!(
            "the server had ended before it was signalled{}",
            in_runs(runs.ended_before)
        ));
    }
    if runs.killed > 0 && line.is_stop {
        notes.push(format!(
            "the server never stopped, and was killed after its deadline{}",
            in_runs(runs.killed)
        ));
    }
    if runs.left_behind > 0 {
        notes.push(format!(
            "the main process ended and left others behind, which were killed{}",
            in_runs(runs.left_behind)
        ));
    }
    notes.extend(unproven(&runs.pool.summary));
    notes
}

/// How many were lost without proof by tracepoints, and what fits them.
fn unproven(summary: &Summary) -> Option<String> {
    let n = summary.unproven;
    if n == 0 {
        return None;
    }
    let mut fits: Vec<&str> = Vec::new();
    let lost = summary.outcomes.iter();
    let lost = lost.filter(|(outcome, _)| Outcome::is_lost(**outcome) == Some(true));
    for (part, _) in lost.flat_map(|(_, counted)| counted.parts.ranked()) {
        let candidates = part.candidates.iter().map(|cause| cause.word());
        let fresh: Vec<&str> = candidates.filter(|word| !fits.contains(word)).collect();
        if part.cause == Cause::Unknown {
            fits.extend(fresh);
        }
    }
    let them = plural(n, "connection");
    let fits = match fits.as_slice() {
        [] => String::new(),
        fits => format!(", which fits {}", fits.join(" or ")),
    };
    Some(format!(
        "{n} lost {them} without a cause proven by tracepoints{fits}"
    ))
}

/// What the vantages could not see, and of which rows, where not of all.
fn unseen(lines: &[Line<'_>]) -> Vec<String> {
    let measured: Vec<&Line<'_>> = lines.iter().filter(|line| line.runs.is_some()).collect();
    let of = |line: &Line<'_>| {
        line.runs
            .as_ref()
            .map_or(&[][..], |runs| runs.unseen)
            .to_vec()
    };
    let mut all: Vec<String> = Vec::new();
    for what in measured.iter().flat_map(|line| of(line)) {
        if !all.contains(&what) {
            all.push(what);
        }
    }
    all.into_iter()
        .map(|what| {
            let rows = measured.iter().filter(|line| of(line).contains(&what));
            let rows: Vec<&str> = rows.map(|line| line.name).collect();
            if rows.len() == measured.len() {
                what
            } else {
                format!("{}: {what}", rows.join(", "))
            }
        })
        .collect()
}
