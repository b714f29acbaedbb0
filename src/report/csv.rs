//! connections.csv: the header, then a row for each record.

use std::io::{self, Write};

use super::Context;
use super::columns::COLUMNS;
use crate::record::Record;

/// Writes records as CSV (RFC 4180).
pub(crate) struct CsvReport<W: Write> {
    writer: csv::Writer<W>,
    cell: String,
}

impl<W: Write> CsvReport<W> {
    /// Begins with the header.
    pub(crate) fn new(out: W) -> io::Result<CsvReport<W>> {
        let mut writer = csv::Writer::from_writer(out);
        writer
            .write_record(COLUMNS.iter().map(|column| column.name))
            .map_err(into_io)?;
        let cell = String::new();
        Ok(CsvReport { writer, cell })
    }

    /// Adds a row.
    pub(crate) fn write(&mut self, record: &Record, run: &Context) -> io::Result<()> {
        for column in COLUMNS {
            self.cell.clear();
            (column.value)(record, run).show(&mut self.cell);
            self.writer.write_field(&self.cell).map_err(into_io)?;
        }
        self.writer.write_record(None::<&[u8]>).map_err(into_io)
    }

    /// Hands everything on.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The I/O error that a CSV error is: rows of one length cannot fail otherwise.
pub(super) fn into_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
