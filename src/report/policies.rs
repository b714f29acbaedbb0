//! The table of `probe demo --all`: a row for each policy, so that ways to stop can be compared.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::words::{plural, signed_millis};
use crate::outcome::Outcome;
use crate::prefork::Policy;
use crate::summary::{Pool, Summary};

/// A row for each policy with its runs, and what else there is to say, a line each.
pub(crate) fn render(all: &[(Policy, &Pool)], remarks: &[String]) -> String {
    let most = all.iter().map(|(_, pool)| pool.summary.connections).max();
    let n = most.unwrap_or(0);
    let servers = match all.iter().map(|(_, pool)| pool.runs()).max() {
        Some(runs @ 2..) => format!("{runs} servers"),
        _ => "a server".to_owned(),
    };
    let mut text = format!(
        "{n} {} to {servers} of each policy\n\n",
        plural(n, "connection")
    );
    text.push_str(&rows(all));
    text.push_str("\n\n");
    text.extend(unasked(all).map(|line| format!("{line}\n")));
    for remark in remarks {
        text.push_str(remark);
        text.push('\n');
    }
    text
}

fn rows(all: &[(Policy, &Pool)]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "policy",
            "taken",
            "served",
            "lost",
            "lost by outcome",
            "loss window from the signal",
            "refused",
            "other",
        ]);
    for (policy, pool) in all {
        let summary = &pool.summary;
        let served = summary.count(Outcome::Served);
        let refused = summary.count(Outcome::Refused);
        let other = summary
            .connections
            .saturating_sub(served + refused + summary.lost);
        table.add_row([
            policy.word().to_owned(),
            summary.taken.to_string(),
            where_possible(served, summary.asked_nothing == 0),
            where_possible(
                summary.lost,
                summary.asked_nothing == 0 || summary.taken > 0,
            ),
            by_outcome(summary),
            pool.loss_window.map_or_else(
                || "-".to_owned(),
                |(first, last)| format!("{} to {}", signed_millis(first), signed_millis(last)),
            ),
            refused.to_string(),
            other.to_string(),
        ]);
    }
    for column in [1, 2, 3, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// A count of what can be; nothing of what cannot.
fn where_possible(count: u64, possible: bool) -> String {
    match possible {
        true => count.to_string(),
        false => "-".to_owned(),
    }
}

/// What such a table means where nothing was asked.
fn unasked(all: &[(Policy, &Pool)]) -> Option<&'static str> {
    let of = |count: fn(&Summary) -> u64| all.iter().any(|(_, pool)| count(&pool.summary) > 0);
    if of(|summary| summary.half_open) {
        Some(
            "half-open connections are under `other`: they never reach the queue, and cannot be lost",
        )
    } else if of(|summary| summary.asked_nothing) {
        Some(
            "nothing was asked: `lost` are those that the server ended, `other` those that it left",
        )
    } else {
        None
    }
}

/// `17 reset_empty, 2 closed_empty`, the most first.
fn by_outcome(summary: &Summary) -> String {
    let mut lost: Vec<(u64, &str)> = Outcome::ALL
        .into_iter()
        .filter(|outcome| outcome.is_lost() == Some(true))
        .map(|outcome| (summary.count(outcome), outcome.word()))
        .filter(|&(count, _)| count > 0)
        .collect();
    lost.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    let words: Vec<String> = lost.iter().map(|(n, word)| format!("{n} {word}")).collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Stamp;

    fn run(outcomes: &[(Outcome, u64)], loss_window: Option<(Stamp, Stamp)>) -> Summary {
        let mut run = Summary {
            loss_window,
            ..Summary::default()
        };
        for &(outcome, count) in outcomes {
            run.connections += count;
            run.outcomes.entry(outcome).or_default().count = count;
            let lost = outcome.is_lost() == Some(true);
            run.lost += if lost { count } else { 0 };
            let taken = lost || outcome == Outcome::Served;
            run.taken += if taken { count } else { 0 };
        }
        run
    }

    fn pool(runs: &[Summary]) -> Pool {
        let mut pool = Pool::default();
        for run in runs {
            pool.add(run, Some(Stamp(100_000_000)), true);
        }
        pool
    }

    #[test]
    fn every_policy_has_a_row() {
        let outcomes = [
            (Outcome::Served, 8),
            (Outcome::ClosedEmpty, 2),
            (Outcome::ResetEmpty, 15),
            (Outcome::Refused, 24),
            (Outcome::Unanswered, 1),
        ];
        let window = (Stamp(43_800_000), Stamp(107_700_000));
        let close = pool(&[run(&outcomes, Some(window))]);
        let drain = pool(&[run(&[(Outcome::Served, 50)], None)]);
        let rows = [(Policy::Close, &close), (Policy::Drain, &drain)];
        insta::assert_snapshot!(render(&rows, &["a remark".to_owned()]), @r"
        50 connections to a server of each policy

         policy  taken  served  lost  lost by outcome                 loss window from the signal  refused  other
         close      25       8    17  15 reset_empty, 2 closed_empty  -56.2 ms to +7.7 ms               24      1
         drain      50      50     0  -                               -                                  0      0

        a remark
        ");
    }

    #[test]
    fn where_nothing_was_asked_nothing_is_said_to_be_served_or_not_lost() {
        let mut half_open = run(&[(Outcome::ClientClosed, 43), (Outcome::Refused, 7)], None);
        (half_open.asked_nothing, half_open.half_open) = (50, 43);
        let close = pool(&[half_open]);
        insta::assert_snapshot!(render(&[(Policy::Close, &close)], &[]), @r"
        50 connections to a server of each policy

         policy  taken  served  lost  lost by outcome  loss window from the signal  refused  other
         close       0       -     -  -                -                                  7     43

        half-open connections are under `other`: they never reach the queue, and cannot be lost
        ");
    }

    #[test]
    fn several_runs_are_said_to_be_so() {
        let served = run(&[(Outcome::Served, 50)], None);
        let twice = pool(&[served.clone(), served]);
        let text = render(&[(Policy::Drain, &twice)], &[]);
        assert!(text.starts_with("100 connections to 2 servers of each policy\n"));
    }
}
