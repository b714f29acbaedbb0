//! `probe compare --csv`: a row for each connection that either side tells of.

use std::io::{self, Write};

use super::finding_words;
use crate::reconcile::{Account, Comparison, Pair, Told, What};
use crate::report::columns::Cell;
use crate::report::csv::Table;

/// The header.
pub(crate) const HEADER: [&str; 21] = [
    "run_id",
    "conn",
    "capture_conn",
    "src_addr",
    "src_port",
    "dst_addr",
    "dst_port",
    "opened_unix_ns",
    "compared",
    "verdict",
    "reasons",
    "first_difference",
    "run_segment",
    "capture_segment",
    "run_outcome",
    "capture_outcome",
    "run_sequence",
    "capture_sequence",
    "matched_segments",
    "crossed_segments",
    "apart_us",
];

/// Writes all rows.
pub(crate) fn write(
    out: impl Write,
    compared: &Comparison,
    run: &Told,
    capture: &Told,
) -> io::Result<()> {
    let mut table = Table::new(out, HEADER.into_iter())?;
    for pair in &compared.pairs {
        let mine = pair.run.map(|at| &run.accounts[at]);
        let theirs = pair.capture.map(|at| &capture.accounts[at]);
        let row = row(pair, mine, theirs);
        table.row(row.into_iter().map(|cell| Cell::Text(cell.into())))?;
    }
    table.flush()
}

fn row(pair: &Pair, mine: Option<&Account>, theirs: Option<&Account>) -> [String; HEADER.len()] {
    let either = mine.or(theirs);
    let text = |found: Option<String>| found.unwrap_or_default();
    let client = either.and_then(|account| account.client);
    let server = either.map(|account| account.server);
    let place = pair.first().and_then(|finding| match finding.what {
        What::Segment(difference) => Some(difference),
        _ => None,
    });
    let both = pair.run.is_some() && pair.capture.is_some();
    let sequence = |account: Option<&Account>| {
        text(
            account
                .and_then(|a| a.trace.sequence())
                .map(|s| s.to_string()),
        )
    };
    let reasons = pair.reasons();
    let reasons: Vec<&str> = reasons.iter().map(|reason| reason.word()).collect();
    [
        text(mine.and_then(|a| a.run_id.as_deref()).map(str::to_owned)),
        text(mine.map(|a| a.conn.to_string())),
        text(theirs.map(|a| a.conn.to_string())),
        text(client.map(|at| at.ip().to_string())),
        text(client.map(|at| at.port().to_string())),
        text(server.map(|at| at.ip().to_string())),
        text(server.map(|at| at.port().to_string())),
        text(either.map(|a| a.opened.to_string())),
        text(both.then(|| pair.compared.word().to_owned())),
        pair.verdict().word().to_owned(),
        reasons.join("+"),
        finding_words(pair).unwrap_or_default().to_owned(),
        text(place.map(|difference| (difference.run + 1).to_string())),
        text(place.map(|difference| (difference.capture + 1).to_string())),
        text(mine.map(|a| a.outcome.word().to_owned())),
        text(
            pair.capture_outcome
                .map(|outcome| outcome.word().to_owned()),
        ),
        sequence(mine),
        sequence(theirs),
        text(both.then(|| pair.matched.to_string())),
        text(both.then(|| pair.crossed.to_string())),
        text(
            pair.apart_ns
                .map(|ns| format!("{}.{:03}", ns / 1_000, ns % 1_000)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::documented;

    #[test]
    fn every_column_has_its_entry_in_the_docs_in_order() {
        assert_eq!(documented("## compare --csv", "## matrix.csv"), HEADER);
    }
}
