//! The columns of connections.csv: one table that every format reads, held to docs/columns.md by a
//! test.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Context, errno_symbol};
use crate::record::Record;
use crate::time::Stamp;

/// One column.
pub(crate) struct Column {
    /// Its name, units included.
    pub(crate) name: &'static str,
    /// Its value for a record.
    pub(crate) value: for<'a> fn(&'a Record, &'a Context) -> Cell<'a>,
}

/// A value; what was not seen is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    /// Not seen, or without meaning here.
    Empty,
    /// A word or a text.
    Text(Cow<'a, str>),
    /// A count or a time in whole nanoseconds.
    Number(i64),
    /// A span of so many nanoseconds, shown in microseconds with three decimals.
    Micros(i64),
    /// Yes or no.
    Bool(bool),
}

impl Cell<'_> {
    /// Appends the value as CSV shows it.
    pub(crate) fn show(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Cell::Empty => Ok(()),
            Cell::Text(text) => out.write_str(text),
            Cell::Number(number) => write!(out, "{number}"),
            Cell::Micros(ns) => {
                let sign = if *ns < 0 { "-" } else { "" };
                let ns = ns.unsigned_abs();
                write!(out, "{sign}{}.{:03}", ns / 1_000, ns % 1_000)
            }
            Cell::Bool(yes) => out.write_str(if *yes { "true" } else { "false" }),
        };
    }
}

fn word<'a>(word: Option<&'static str>) -> Cell<'a> {
    word.map_or(Cell::Empty, |word| Cell::Text(Cow::Borrowed(word)))
}

fn text<'a>(text: Option<String>) -> Cell<'a> {
    text.map_or(Cell::Empty, |text| Cell::Text(Cow::Owned(text)))
}

fn number<'a>(number: Option<impl TryInto<i64>>) -> Cell<'a> {
    number.map_or(Cell::Empty, |n| {
        Cell::Number(n.try_into().unwrap_or(i64::MAX))
    })
}

fn yes_no<'a>(yes: Option<bool>) -> Cell<'a> {
    yes.map_or(Cell::Empty, Cell::Bool)
}

fn list<'a>(words: impl Iterator<Item = &'static str>) -> Cell<'a> {
    let mut joined = Cow::Borrowed("");
    for word in words {
        if joined.is_empty() {
            joined = Cow::Borrowed(word);
        } else {
            let text: &mut String = joined.to_mut();
            text.push('+');
            text.push_str(word);
        }
    }
    if joined.is_empty() {
        Cell::Empty
    } else {
        Cell::Text(joined)
    }
}

/// Microseconds from the SYN to `at`.
fn since_open<'a>(record: &Record, at: Option<Stamp>) -> Cell<'a> {
    at.map_or(Cell::Empty, |at| {
        Cell::Micros(at.since(record.times.opened))
    })
}

fn never<'a>(_: &'a Record, _: &'a Context) -> Cell<'a> {
    Cell::Empty
}

fn target_was_dead(record: &Record, run: &Context) -> bool {
    run.target_dead
        .is_some_and(|dead| dead <= record.times.opened)
}

/// The contract: names and order do not change within a schema version.
pub(crate) const COLUMNS: &[Column] = &[
    Column {
        name: "run_id",
        value: |_, run| Cell::Text(Cow::Borrowed(&run.run_id)),
    },
    Column {
        name: "conn",
        value: |r, _| number(Some(r.conn)),
    },
    Column {
        name: "cohort",
        value: |r, _| word(Some(r.cohort.word())),
    },
    Column {
        name: "engine",
        value: |_, _| word(Some("socket")),
    },
    Column {
        name: "src_addr",
        value: |r, _| text(r.src.map(|a| a.ip().to_string())),
    },
    Column {
        name: "src_port",
        value: |r, _| number(r.src.map(|a| a.port())),
    },
    Column {
        name: "dst_addr",
        value: |r, _| text(Some(r.dst.ip().to_string())),
    },
    Column {
        name: "dst_port",
        value: |r, _| number(Some(r.dst.port())),
    },
    Column {
        name: "opened_unix_ns",
        value: |r, _| number(Some(r.times.opened.0)),
    },
    Column {
        name: "since_signal_us",
        value: |r, run| {
            run.signal.map_or(Cell::Empty, |signal| {
                Cell::Micros(r.times.opened.since(signal))
            })
        },
    },
    Column {
        name: "outcome",
        value: |r, _| word(Some(r.outcome.word())),
    },
    Column {
        name: "socket_outcome",
        value: |r, _| word(r.socket_outcome.map(|o| o.word())),
    },
    Column {
        name: "lost",
        value: |r, _| yes_no(r.outcome.is_lost()),
    },
    Column {
        name: "cause",
        value: |r, _| word(r.cause.map(|c| c.word())),
    },
    Column {
        name: "cause_candidates",
        value: |r, _| list(r.candidates.iter().map(|c| c.word())),
    },
    Column {
        name: "evidence",
        value: |r, _| list(r.evidence.words()),
    },
    Column {
        name: "caveats",
        value: |r, _| list(r.caveats.words()),
    },
    Column {
        name: "retry_safe",
        value: |r, _| word(r.retry_safe.map(|s| s.word())),
    },
    Column {
        name: "sequence",
        value: |r, _| text(r.sequence.as_ref().map(ToString::to_string)),
    },
    Column {
        name: "conn_state",
        value: |r, _| word(r.conn_state.map(|s| s.word())),
    },
    Column {
        name: "history",
        value: |r, _| {
            r.history
                .as_deref()
                .map_or(Cell::Empty, |h| Cell::Text(Cow::Borrowed(h)))
        },
    },
    Column {
        name: "rst_kind",
        value: |r, _| word(r.rst_kind.map(|k| k.word())),
    },
    Column {
        name: "curl_exit",
        value: |r, _| number(r.curl_exit),
    },
    Column {
        name: "heroku_code",
        value: |r, run| word(r.outcome.heroku(target_was_dead(r, run))),
    },
    Column {
        name: "errno",
        value: |r, _| text(r.errno().map(errno_symbol)),
    },
    Column {
        name: "http_status",
        value: |r, _| number(r.http_status),
    },
    Column {
        name: "requests",
        value: |r, _| number(r.requests),
    },
    Column {
        name: "responses",
        value: |r, _| number(r.responses),
    },
    Column {
        name: "request_bytes",
        value: |r, _| number(r.request_bytes),
    },
    Column {
        name: "request_acked",
        value: |r, _| yes_no(r.request_acked),
    },
    Column {
        name: "response_bytes",
        value: |r, _| number(r.response_bytes),
    },
    Column {
        name: "syn_retransmits",
        value: |r, _| number(r.syn_retransmits),
    },
    Column {
        name: "retransmits",
        value: |r, _| number(r.retransmits),
    },
    Column {
        name: "syn_ack_us",
        value: |r, _| since_open(r, r.times.syn_ack),
    },
    Column {
        name: "request_us",
        value: |r, _| since_open(r, r.times.request),
    },
    Column {
        name: "request_acked_us",
        value: |r, _| since_open(r, r.times.request_acked),
    },
    Column {
        name: "accepted_us",
        value: never,
    },
    Column {
        name: "read_us",
        value: never,
    },
    Column {
        name: "first_byte_us",
        value: |r, _| since_open(r, r.times.first_byte),
    },
    Column {
        name: "end_us",
        value: |r, _| since_open(r, r.times.end),
    },
    Column {
        name: "server_pid",
        value: never,
    },
    Column {
        name: "reset_reason",
        value: never,
    },
    Column {
        name: "reset_pid",
        value: never,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_three_decimals_and_a_sign() {
        let shown = |cell: Cell<'_>| {
            let mut out = String::new();
            cell.show(&mut out);
            out
        };
        assert_eq!(shown(Cell::Micros(1_234_567)), "1234.567");
        assert_eq!(shown(Cell::Micros(-5)), "-0.005");
        assert_eq!(shown(Cell::Micros(0)), "0.000");
        assert_eq!(shown(Cell::Empty), "");
        assert_eq!(shown(list(["a", "b"].into_iter())), "a+b");
        assert_eq!(list([].into_iter()), Cell::Empty);
    }

    #[test]
    fn every_column_has_its_entry_in_the_docs_in_order() {
        let docs = include_str!("../../docs/columns.md");
        let documented: Vec<&str> = docs
            .lines()
            .skip_while(|line| *line != "## connections.csv")
            .take_while(|line| *line != "## events.csv")
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        let columns: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(documented, columns);
    }
}
