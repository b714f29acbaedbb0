//! The columns of connections.csv: one table that every format reads, held to docs/columns.md by a
//! test.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{Context, errno_symbol};
use crate::record::Record;
use crate::sequence::Sequence;
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
    /// A word of ours, made of letters, digits and underscores.
    Word(&'static str),
    /// Any text.
    Text(Cow<'a, str>),
    /// An address, without its port.
    Address(IpAddr),
    /// The segments of a connection.
    Sequence(&'a Sequence),
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
        match self {
            Cell::Empty => {}
            Cell::Word(word) => out.push_str(word),
            Cell::Text(text) => out.push_str(text),
            Cell::Address(address) => show_address(*address, out),
            // Writing to a String cannot fail.
            Cell::Sequence(sequence) => drop(sequence.write_to(out)),
            Cell::Number(number) => out.push_str(itoa::Buffer::new().format(*number)),
            Cell::Micros(ns) => show_micros(*ns, out),
            Cell::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        }
    }
}

/// As [`IpAddr`] prints itself; its own code for IPv4 takes several times as long.
fn show_address(address: IpAddr, out: &mut String) {
    match address {
        IpAddr::V4(address) => {
            for (i, octet) in address.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push('.');
                }
                out.push_str(itoa::Buffer::new().format(octet));
            }
        }
        // Writing to a String cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn show_micros(ns: i64, out: &mut String) {
    if ns < 0 {
        out.push('-');
    }
    let ns = ns.unsigned_abs();
    out.push_str(itoa::Buffer::new().format(ns / 1_000));
    out.push('.');
    // The leading 1 keeps the zeros behind it.
    out.push_str(&itoa::Buffer::new().format(1_000 + ns % 1_000)[1..]);
}

fn word<'a>(word: Option<&'static str>) -> Cell<'a> {
    word.map_or(Cell::Empty, Cell::Word)
}

fn address<'a>(end: Option<SocketAddr>) -> Cell<'a> {
    end.map_or(Cell::Empty, |end| Cell::Address(end.ip()))
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

fn list<'a>(mut words: impl Iterator<Item = &'static str>) -> Cell<'a> {
    let Some(first) = words.next() else {
        return Cell::Empty;
    };
    let Some(second) = words.next() else {
        return Cell::Word(first);
    };
    let mut joined = format!("{first}+{second}");
    for word in words {
        joined.push('+');
        joined.push_str(word);
    }
    Cell::Text(Cow::Owned(joined))
}

/// Microseconds from the SYN to `at`.
fn since_open<'a>(record: &Record, at: Option<Stamp>) -> Cell<'a> {
    at.map_or(Cell::Empty, |at| {
        Cell::Micros(at.since(record.times.opened))
    })
}

const fn column(
    name: &'static str,
    value: for<'a> fn(&'a Record, &'a Context) -> Cell<'a>,
) -> Column {
    Column { name, value }
}

/// The contract: names and order do not change within a schema version.
pub(crate) const COLUMNS: &[Column] = &[
    column("run_id", |_, run| Cell::Text(Cow::Borrowed(&run.run_id))),
    column("conn", |r, _| number(Some(r.conn))),
    column("cohort", |r, _| word(r.cohort.map(|c| c.word()))),
    column("engine", |r, _| word(r.maker.map(|m| m.word()))),
    column("src_addr", |r, _| address(r.src)),
    column("src_port", |r, _| number(r.src.map(|a| a.port()))),
    column("dst_addr", |r, _| address(Some(r.dst))),
    column("dst_port", |r, _| number(Some(r.dst.port()))),
    column("opened_unix_ns", |r, _| number(Some(r.times.opened.0))),
    column("since_signal_us", |r, run| {
        run.signal.map_or(Cell::Empty, |signal| {
            Cell::Micros(r.times.opened.since(signal))
        })
    }),
    column("outcome", |r, _| word(Some(r.outcome.word()))),
    column("socket_outcome", |r, _| {
        word(r.socket_outcome.map(|o| o.word()))
    }),
    column("lost", |r, _| yes_no(r.outcome.is_lost())),
    column("cause", |r, _| word(r.cause.map(|c| c.word()))),
    column("cause_candidates", |r, _| {
        list(r.candidates.iter().map(|c| c.word()))
    }),
    column("evidence", |r, _| list(r.evidence.words())),
    column("caveats", |r, _| list(r.caveats.words())),
    column("retry_safe", |r, _| word(r.retry_safe.map(|s| s.word()))),
    column("sequence", |r, _| {
        r.sequence.as_ref().map_or(Cell::Empty, Cell::Sequence)
    }),
    column("conn_state", |r, _| word(r.conn_state.map(|s| s.word()))),
    column("history", |r, _| {
        r.history
            .as_deref()
            .map_or(Cell::Empty, |h| Cell::Text(Cow::Borrowed(h)))
    }),
    column("rst_kind", |r, _| word(r.rst_kind.map(|k| k.word()))),
    column("curl_exit", |r, _| number(r.curl_exit)),
    column("heroku_code", |r, run| word(run.heroku_code(r))),
    column("errno", |r, _| text(r.errno().map(errno_symbol))),
    column("http_status", |r, _| number(r.http_status)),
    column("requests", |r, _| number(r.requests)),
    column("responses", |r, _| number(r.responses)),
    column("request_bytes", |r, _| number(r.request_bytes)),
    column("request_acked", |r, _| yes_no(r.request_acked)),
    column("response_bytes", |r, _| number(r.response_bytes)),
    column("syn_retransmits", |r, _| number(r.syn_retransmits)),
    column("retransmits", |r, _| number(r.retransmits)),
    column("syn_ack_us", |r, _| since_open(r, r.times.syn_ack)),
    column("request_us", |r, _| since_open(r, r.times.request)),
    column("request_acked_us", |r, _| {
        since_open(r, r.times.request_acked)
    }),
    column("accepted_us", |r, _| since_open(r, r.times.accepted)),
    column("read_us", |r, _| since_open(r, r.times.read)),
    column("first_byte_us", |r, _| since_open(r, r.times.first_byte)),
    column("end_us", |r, _| since_open(r, r.times.end)),
    column("server_pid", |r, _| number(r.server_pid)),
    column("reset_reason", |r, _| {
        r.reset_reason
            .as_deref()
            .map_or(Cell::Empty, |reason| Cell::Text(Cow::Borrowed(reason)))
    }),
    column("reset_pid", |r, _| number(r.reset_pid)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::documented;

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
        assert_eq!(shown(Cell::Micros(i64::MIN)), "-9223372036854775.808");
        assert_eq!(shown(Cell::Empty), "");
        assert_eq!(shown(list(["a", "b"].into_iter())), "a+b");
        assert_eq!(list([].into_iter()), Cell::Empty);
    }

    #[test]
    fn addresses_are_shown_as_they_print_themselves() {
        for text in ["0.0.0.0", "127.0.0.1", "255.10.200.99", "::", "2001:db8::1"] {
            let mut out = String::new();
            Cell::Address(text.parse().unwrap()).show(&mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn every_column_has_its_entry_in_the_docs_in_order() {
        let columns: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(documented("## connections.csv", "## events.csv"), columns);
    }
}
