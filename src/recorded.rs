//! What an earlier run wrote, read again: the rows of its connections.csv. Opening files is left to
//! whoever asks.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::outcome::Outcome;
use crate::record::Caveats;
use crate::sequence::Sequence;
use crate::time::Stamp;

/// A row, as far as it is read again. What the run did not see is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) run_id: String,
    pub(crate) conn: u64,
    /// Whether the probe itself made the connection; else it was read from a capture.
    pub(crate) own: bool,
    pub(crate) src: Option<SocketAddr>,
    pub(crate) dst: SocketAddr,
    pub(crate) opened: Stamp,
    pub(crate) outcome: Outcome,
    pub(crate) caveats: Caveats,
    pub(crate) sequence: Option<Sequence>,
    pub(crate) http_status: Option<u16>,
    pub(crate) requests: Option<u32>,
    pub(crate) syn_ack: Option<Stamp>,
    pub(crate) request: Option<Stamp>,
    pub(crate) first_byte: Option<Stamp>,
    pub(crate) end: Option<Stamp>,
}

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    /// There is no header.
    #[error("it is empty: the run was ended before it could write it")]
    Empty,
    /// The header is another.
    #[error("it has no column `{0}`, which every connections.csv has")]
    Column(&'static str),
    /// A cell says something that its column cannot.
    #[error("line {line}: `{cell}` in column {column} is no {expected}")]
    Cell {
        line: u64,
        column: &'static str,
        cell: String,
        expected: &'static str,
    },
    /// It is no CSV, or cannot be read.
    #[error(transparent)]
    Csv(#[from] csv::Error),
}

/// The columns that are read, in the order of [`Cells`].
const READ: [&str; 17] = [
    "run_id",
    "conn",
    "engine",
    "src_addr",
    "src_port",
    "dst_addr",
    "dst_port",
    "opened_unix_ns",
    "outcome",
    "caveats",
    "sequence",
    "http_status",
    "requests",
    "syn_ack_us",
    "request_us",
    "first_byte_us",
    "end_us",
];

/// Reads all rows.
pub(crate) fn rows(input: impl Read) -> Result<Vec<Row>, RowsError> {
    let mut reader = csv::Reader::from_reader(input);
    let header = reader.headers()?;
    if header.is_empty() {
        return Err(RowsError::Empty);
    }
    let place = |name: &'static str| {
        let found = header.iter().position(|column| column == name);
        found.ok_or(RowsError::Column(name))
    };
    let places = READ.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record)? {
        let cells = Cells {
            record: &record,
            places: &places,
        };
        rows.push(cells.row()?);
    }
    Ok(rows)
}

/// The cells of one row.
struct Cells<'a> {
    record: &'a csv::StringRecord,
    places: &'a [usize],
}

impl Cells<'_> {
    fn row(&self) -> Result<Row, RowsError> {
        let opened = Stamp(self.needed("opened_unix_ns", "time")?);
        let after = |column| {
            let ns = self.span(column)?;
            Ok::<_, RowsError>(ns.map(|ns| Stamp(opened.0.saturating_add(ns))))
        };
        let address = |addr: Option<IpAddr>, port: Option<u16>| {
            addr.zip(port)
                .map(|(addr, port)| SocketAddr::new(addr, port))
        };
        let src = address(
            self.parsed("src_addr", "address")?,
            self.parsed("src_port", "port")?,
        );
        let dst = SocketAddr::new(
            self.needed("dst_addr", "address")?,
            self.needed("dst_port", "port")?,
        );
        let outcome = self.cell("outcome");
        let caveats = self.cell("caveats");
        Ok(Row {
            run_id: self.cell("run_id").to_owned(),
            conn: self.needed("conn", "number")?,
            own: !self.cell("engine").is_empty(),
            src,
            dst,
            opened,
            outcome: Outcome::from_word(outcome).ok_or_else(|| self.wrong("outcome", "outcome"))?,
            caveats: Caveats::from_words(caveats).ok_or_else(|| self.wrong("caveats", "caveat"))?,
            sequence: self.parsed("sequence", "sequence")?,
            http_status: self.parsed("http_status", "status")?,
            requests: self.parsed("requests", "number")?,
            syn_ack: after("syn_ack_us")?,
            request: after("request_us")?,
            first_byte: after("first_byte_us")?,
            end: after("end_us")?,
        })
    }

    fn cell(&self, column: &'static str) -> &str {
        let at = READ.iter().position(|&name| name == column);
        at.and_then(|at| self.record.get(self.places[at]))
            .unwrap_or("")
    }

    fn wrong(&self, column: &'static str, expected: &'static str) -> RowsError {
        RowsError::Cell {
            line: self.record.position().map_or(0, csv::Position::line),
            column,
            cell: self.cell(column).to_owned(),
            expected,
        }
    }

    /// A value, if the cell is not empty.
    fn parsed<T: FromStr>(
        &self,
        column: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, RowsError> {
        let cell = self.cell(column);
        if cell.is_empty() {
            return Ok(None);
        }
        cell.parse()
            .map(Some)
            .map_err(|_| self.wrong(column, expected))
    }

    fn needed<T: FromStr>(
        &self,
        column: &'static str,
        expected: &'static str,
    ) -> Result<T, RowsError> {
        let parsed = self.parsed(column, expected)?;
        parsed.ok_or_else(|| self.wrong(column, expected))
    }

    /// Nanoseconds from microseconds with three decimals.
    fn span(&self, column: &'static str) -> Result<Option<i64>, RowsError> {
        let cell = self.cell(column);
        if cell.is_empty() {
            return Ok(None);
        }
        let ns = cell.split_once('.').and_then(|(whole, thousandths)| {
            let digits = thousandths.len() == 3 && thousandths.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| format!("{whole}{thousandths}").parse().ok())?
        });
        ns.map(Some)
            .ok_or_else(|| self.wrong(column, "span in microseconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::record::Record;
    use crate::report::Context;
    use crate::report::csv::CsvReport;

    /// What is written for `record`.
    fn written(record: &Record) -> String {
        let mut bytes = Vec::new();
        let mut report = CsvReport::new(&mut bytes).unwrap();
        let context = Context {
            run_id: "a run, and more".to_owned(),
            ..Context::default()
        };
        report.write(record, &context).unwrap();
        report.flush().unwrap();
        drop(report);
        String::from_utf8(bytes).unwrap()
    }

    fn record() -> Record {
        let mut record = Record::new(7, "[::1]:9292".parse().unwrap(), Outcome::ResetEmpty);
        record.src = Some("[::1]:40000".parse().unwrap());
        record.cause = Some(Cause::Unknown);
        record.caveats.hole = true;
        record.caveats.snapped = true;
        record.sequence = Some(">S <S. >. >P.(83) <. <R.".parse().unwrap());
        record.requests = Some(1);
        record.times.opened = Stamp(1_763_861_787_000_000_123);
        record.times.syn_ack = Some(Stamp(1_763_861_787_000_011_124));
        record.times.request = Some(Stamp(1_763_861_786_999_999_999));
        record
    }

    #[test]
    fn what_was_written_is_read_again() {
        let record = record();
        let rows = rows(written(&record).as_bytes()).unwrap();
        assert_eq!(
            rows,
            [Row {
                run_id: "a run, and more".to_owned(),
                conn: 7,
                own: false,
                src: record.src,
                dst: record.dst,
                opened: record.times.opened,
                outcome: Outcome::ResetEmpty,
                caveats: record.caveats,
                sequence: record.sequence.clone(),
                http_status: None,
                requests: Some(1),
                syn_ack: record.times.syn_ack,
                request: record.times.request,
                first_byte: None,
                end: None,
            }]
        );
    }

    #[test]
    fn an_empty_file_is_called_so() {
        let said = rows(&b""[..]).unwrap_err().to_string();
        assert_eq!(
            said,
            "it is empty: the run was ended before it could write it"
        );
    }

    #[test]
    fn a_cell_that_means_nothing_is_named_with_its_line() {
        for (from, to, message) in [
            (
                "reset_empty",
                "lost",
                "line 2: `lost` in column outcome is no outcome",
            ),
            (
                "hole+",
                "pit+",
                "line 2: `pit+snapped` in column caveats is no caveat",
            ),
            (
                "11.001",
                "11.1",
                "line 2: `11.1` in column syn_ack_us is no span in microseconds",
            ),
            (
                "outcome,",
                "result,",
                "it has no column `outcome`, which every connections.csv has",
            ),
        ] {
            let text = written(&record()).replacen(from, to, 1);
            assert_eq!(rows(text.as_bytes()).unwrap_err().to_string(), message);
        }
    }
}
