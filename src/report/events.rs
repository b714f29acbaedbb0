//! events.csv: one row an event, of a connection or of the run.

use std::io::{self, Write};

use super::columns::Cell;
use super::csv::Table;
use super::{Context, errno_symbol};
use crate::event::{Event, Vantage};
use crate::flow::SeenWhat;
use crate::outcome::{Attempt, Call, SocketEnd};
use crate::record::{Record, Steps};
use crate::time::Stamp;
use crate::wire::Direction;

/// The header.
pub(crate) const HEADER: [&str; 14] = [
    "run_id",
    "conn",
    "at_unix_ns",
    "since_open_us",
    "since_signal_us",
    "vantage",
    "event",
    "direction",
    "flags",
    "rel_seq",
    "rel_ack",
    "len",
    "pid",
    "detail",
];

/// Writes events as CSV.
pub(crate) struct EventsReport<W> {
    table: Table<W>,
}

#[derive(Default)]
struct Row {
    at: Stamp,
    vantage: &'static str,
    event: &'static str,
    direction: Option<Direction>,
    flags: Option<String>,
    rel_seq: Option<u32>,
    rel_ack: Option<u32>,
    len: Option<u64>,
    pid: Option<i32>,
    detail: Option<String>,
}

impl<W: Write> EventsReport<W> {
    /// Begins with the header.
    pub(crate) fn new(out: W) -> io::Result<EventsReport<W>> {
        let table = Table::new(out, HEADER.into_iter())?;
        Ok(EventsReport { table })
    }

    /// Adds the events of a connection, in the order in which they happened.
    pub(crate) fn write(&mut self, record: &Record, run: &Context) -> io::Result<()> {
        let Some(steps) = &record.steps else {
            return Ok(());
        };
        let mut rows = steps.attempt.as_ref().map_or_else(Vec::new, socket_rows);
        rows.extend(wire_rows(steps));
        rows.extend(steps.events.iter().map(event_row));
        rows.sort_by_key(|row| row.at);
        for row in rows {
            self.row(Some(record), &row, run)?;
        }
        Ok(())
    }

    /// Adds an event of the run.
    pub(crate) fn write_event(&mut self, event: &Event, run: &Context) -> io::Result<()> {
        self.row(None, &event_row(event), run)
    }

    /// Hands everything on.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.table.flush()
    }

    fn row(&mut self, record: Option<&Record>, row: &Row, run: &Context) -> io::Result<()> {
        let micros = |since: Option<Stamp>| {
            since.map_or(Cell::Empty, |since| Cell::Micros(row.at.since(since)))
        };
        let text = |text: Option<String>| text.map_or(Cell::Empty, |t| Cell::Text(t.into()));
        let number = |number: Option<i64>| number.map_or(Cell::Empty, Cell::Number);
        let direction = row.direction.map(|d| d.arrow().to_string());
        let cells = [
            Cell::Text(run.run_id.as_str().into()),
            number(record.and_then(|r| i64::try_from(r.conn).ok())),
            Cell::Number(row.at.0),
            micros(record.map(|r| r.times.opened)),
            micros(run.signal),
            Cell::Word(row.vantage),
            Cell::Word(row.event),
            text(direction),
            text(row.flags.clone()),
            number(row.rel_seq.map(i64::from)),
            number(row.rel_ack.map(i64::from)),
            number(row.len.and_then(|len| i64::try_from(len).ok())),
            number(row.pid.map(i64::from)),
            text(row.detail.clone()),
        ];
        self.table.row(cells.into_iter())
    }
}

fn socket_rows(attempt: &Attempt) -> Vec<Row> {
    let row = |at, event| Row {
        at,
        vantage: Vantage::Socket.word(),
        event,
        ..Row::default()
    };
    let mut rows = vec![Row {
        detail: attempt.late_ns().map(|ns| format!("late_ns={ns}")),
        ..row(attempt.opened, "connect")
    }];
    rows.extend(attempt.connected.map(|at| row(at, "connected")));
    rows.extend(attempt.request.map(|at| Row {
        len: Some(attempt.written),
        ..row(at, "request")
    }));
    let response = &attempt.response;
    rows.extend(response.first_byte.map(|at| row(at, "first_byte")));
    rows.extend(response.complete.map(|at| Row {
        len: Some(response.bytes),
        detail: response.status.map(|status| format!("status={status}")),
        ..row(at, "complete")
    }));
    rows.extend(response.malformed.map(|at| row(at, "malformed")));
    let (event, detail) = match attempt.end {
        SocketEnd::Eof => ("eof", None),
        SocketEnd::Failed(failure) => {
            let call = match failure.call {
                Call::Socket => "socket",
                Call::Connect => "connect",
                Call::Write => "write",
                Call::Read => "read",
            };
            (
                "error",
                Some(format!("{call}: {}", errno_symbol(failure.errno))),
            )
        }
        SocketEnd::Deadline => ("deadline", None),
        SocketEnd::Enough | SocketEnd::Left => ("close", None),
        SocketEnd::Disturbed => ("disturbed", None),
        SocketEnd::Interrupted => ("interrupted", None),
    };
    rows.push(Row {
        detail,
        ..row(attempt.ended, event)
    });
    rows
}

fn event_row(event: &Event) -> Row {
    Row {
        at: event.at,
        vantage: event.vantage.word(),
        event: event.event,
        pid: event.pid,
        detail: event.detail.clone(),
        ..Row::default()
    }
}

fn wire_rows(steps: &Steps) -> impl Iterator<Item = Row> {
    steps.seen.iter().map(|seen| {
        let row = Row {
            at: seen.at,
            vantage: Vantage::Wire.word(),
            direction: Some(seen.direction),
            ..Row::default()
        };
        match seen.what {
            SeenWhat::Segment {
                flags,
                rel_seq,
                rel_ack,
                len,
            } => Row {
                event: "segment",
                flags: Some(flags.to_string()),
                rel_seq: Some(rel_seq),
                rel_ack,
                len: Some(len.into()),
                ..row
            },
            SeenWhat::Icmp { kind, code } => Row {
                event: "icmp",
                detail: Some(format!("type={kind} code={code}")),
                ..row
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::documented;

    #[test]
    fn every_column_has_its_entry_in_the_docs_in_order() {
        assert_eq!(documented("## events.csv", "## run.json"), HEADER);
    }
}
