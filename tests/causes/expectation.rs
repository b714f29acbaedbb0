//! One row of a table, and what it asks of a row of the probe's. That the tables themselves claim
//! nothing that cannot be known is tested here too.

use crate::common::Row;
use crate::tables::{DIAG, EVERYTHING, TRACE};

/// Columns of the probe's that a table is about, in its order, behind the fate's name.
const COLUMNS: [&str; 9] = [
    "outcome",
    "cause",
    "cause_candidates",
    "retry_safe",
    "accepted_us",
    "read_us",
    "server_pid",
    "reset_reason",
    "reset_pid",
];

/// What the tables call processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pids<'a> {
    /// This process.
    pub(crate) server: u32,
    /// Those that the fate brought in.
    pub(crate) others: &'a [u32],
}

/// What must be said of a fate.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    fate: &'static str,
    cells: [&'static str; COLUMNS.len()],
}

/// A table's rows.
fn rows(table: &'static str) -> Vec<Expectation> {
    let lines = table.trim().lines().skip(1);
    lines
        .map(|line| {
            let words: Vec<&str> = line.split('|').map(str::trim).collect();
            Expectation {
                fate: words[0],
                cells: words[1..].try_into().expect("a cell of each column"),
            }
        })
        .collect()
}

impl Expectation {
    /// What `table` says of `fate`.
    pub(crate) fn of(fate: &str, table: &'static str) -> Expectation {
        let mut rows = rows(table);
        rows.retain(|row| row.fate == fate);
        assert_eq!(rows.len(), 1, "one row of `{fate}`");
        rows.remove(0)
    }

    /// Holds a row against it.
    pub(crate) fn is_met_by(&self, row: &Row, pids: Pids<'_>, by: &str) {
        let wrong: Vec<String> = COLUMNS
            .iter()
            .zip(self.cells)
            .filter(|(column, cell)| !cell.split('/').any(|word| fits(word, &row[**column], pids)))
            .map(|(column, cell)| format!("{column} is `{}`, not `{cell}`", row[*column]))
            .collect();
        let mut filled: Vec<_> = row.iter().filter(|(_, cell)| !cell.is_empty()).collect();
        filled.sort();
        assert!(
            wrong.is_empty(),
            "`{}` by {by}, {pids:?}: {}\n{filled:?}",
            self.fate,
            wrong.join(", ")
        );
    }

    fn cell(&self, column: &str) -> &'static str {
        let at = COLUMNS.iter().position(|name| *name == column);
        self.cells[at.expect("a column")]
    }

    /// Whether a column may hold `word`.
    fn allows(&self, column: &str, word: &str) -> bool {
        let mut words = self.cell(column).split('/');
        words.any(|allowed| allowed == word || allowed == "*")
    }
}

fn fits(word: &str, cell: &str, pids: Pids<'_>) -> bool {
    match word {
        "*" => true,
        "-" => cell.is_empty(),
        "some" => !cell.is_empty(),
        "server" => cell == pids.server.to_string(),
        "other" => pids.others.iter().any(|pid| cell == pid.to_string()),
        exactly => cell == exactly,
    }
}

#[test]
fn every_table_has_every_fate_in_the_same_order() {
    let fates = |table| -> Vec<(&str, &str)> {
        let rows = rows(table).into_iter();
        rows.map(|row| (row.fate, row.cell("outcome"))).collect()
    };
    assert_eq!(fates(EVERYTHING), fates(TRACE));
    assert_eq!(fates(EVERYTHING), fates(DIAG));
}

/// Who gave up leaves a request behind that may still be read, and a FIN proves that a process has it.
#[test]
fn no_table_calls_a_request_safe_that_was_read_or_may_still_be() {
    for row in [EVERYTHING, TRACE, DIAG].into_iter().flat_map(rows) {
        if !row.allows("retry_safe", "yes") {
            continue;
        }
        let safe = ["refused", "unanswered", "reset_on_connect", "reset_empty"];
        assert!(safe.contains(&row.cell("outcome")), "{row:?}");
        assert!(!row.allows("read_us", "some"), "{row:?}");
        assert!(!row.allows("cause", "read_unanswered"), "{row:?}");
    }
}

#[test]
fn what_fewer_vantages_say_does_not_contradict_what_all_do() {
    for fewer in [TRACE, DIAG] {
        for row in rows(fewer) {
            let all = Expectation::of(row.fate, EVERYTHING);
            let causes = row.cell("cause").split('/');
            for cause in causes.filter(|cause| *cause != "unknown") {
                assert!(all.allows("cause", cause), "{row:?}");
            }
        }
    }
}
