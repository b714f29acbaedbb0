//! What no row may say, whatever happened to its connection: claims that contradict each other, or
//! the evidence that the row itself names.

use super::Row;

/// Outcomes that the server's RST, or a refusal, brought about, or a SYN without an answer: after
/// every other a process may still read the request.
const OVER: [&str; 4] = ["refused", "unanswered", "reset_on_connect", "reset_empty"];

/// A time in a row, in microseconds; none where the cell is empty.
fn micros(row: &Row, column: &str) -> Option<f64> {
    let cell = &row[column];
    (!cell.is_empty()).then(|| cell.parse().expect("a number"))
}

/// Asserts that a row claims no more than it can know.
pub(crate) fn assert_honest(row: &Row) {
    let cell = |column: &str| row[column].as_str();
    let has = |vantage: &str| cell("evidence").split('+').any(|word| word == vantage);
    let implies = |holds: bool, then: bool, rule: &str| {
        assert!(!holds || then, "{rule}: {row:?}");
    };
    let by_end = |column: &str| {
        micros(row, column).is_some_and(|at| !micros(row, "end_us").is_some_and(|end| end < at))
    };
    let was_read = !cell("read_us").is_empty();
    let safe = cell("retry_safe") == "yes";
    implies(
        safe,
        OVER.contains(&cell("outcome")),
        "safe once it is over",
    );
    implies(safe, !was_read, "what was read is not safe");
    implies(
        was_read && !cell("retry_safe").is_empty(),
        cell("retry_safe") == "no",
        "what was read is not to be sent again",
    );
    implies(
        matches!(cell("cause"), "never_accepted" | "accepted_unread"),
        !by_end("read_us"),
        "unread is unread",
    );
    implies(
        cell("cause") == "never_accepted",
        !by_end("accepted_us"),
        "never accepted by anybody",
    );
    implies(
        cell("cause") == "accepted_unread",
        has("trace") || cell("outcome") == "reset_on_connect",
        "tracepoints alone prove that nobody read",
    );
    implies(
        cell("cause") != "unknown",
        cell("cause_candidates").is_empty(),
        "a proven cause has no rivals",
    );
    implies(
        was_read,
        has("trace") || has("diag"),
        "somebody saw it read",
    );
    implies(
        !cell("reset_reason").is_empty(),
        has("trace"),
        "the kernel's reason comes from a tracepoint",
    );
    implies(
        !cell("accepted_us").is_empty() || !cell("server_pid").is_empty(),
        has("trace") || has("diag"),
        "somebody saw it accepted",
    );
}
