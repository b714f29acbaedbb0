//! CSV (RFC 4180): a header, then a row for each record of connections.csv or event of events.csv.
//! Own code, because most cells cannot need quotes and are written straight into the row: the csv
//! crate's writer, which takes finished fields and looks through each, makes `probe read` take 6 per
//! cent longer (docs/benchmarks.md).

use std::io::{self, Write};

use super::Context;
use super::columns::{COLUMNS, Cell};
use crate::record::Record;

/// Writes records as CSV.
pub(crate) struct CsvReport<W> {
    table: Table<W>,
}

impl<W: Write> CsvReport<W> {
    /// Begins with the header.
    pub(crate) fn new(out: W) -> io::Result<CsvReport<W>> {
        let table = Table::new(out, COLUMNS.iter().map(|column| column.name))?;
        Ok(CsvReport { table })
    }

    /// Adds a row.
    pub(crate) fn write(&mut self, record: &Record, run: &Context) -> io::Result<()> {
        let cells = COLUMNS.iter().map(|column| (column.value)(record, run));
        self.table.row(cells)
    }

    /// Hands everything on.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.table.flush()
    }
}

/// Rows of cells under a header.
pub(super) struct Table<W> {
    out: W,
    row: String,
}

impl<W: Write> Table<W> {
    /// Begins with the header.
    pub(super) fn new(out: W, header: impl Iterator<Item = &'static str>) -> io::Result<Table<W>> {
        let row = String::new();
        let mut table = Table { out, row };
        table.row(header.map(Cell::Word))?;
        Ok(table)
    }

    /// Adds a row.
    pub(super) fn row<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) -> io::Result<()> {
        self.row.clear();
        for cell in cells {
            match &cell {
                Cell::Text(text) if needs_quotes(text) => quote(text, &mut self.row),
                // Nothing else holds a byte that would need them.
                cell => cell.show(&mut self.row),
            }
            self.row.push(',');
        }
        self.row.pop();
        self.row.push('\n');
        self.out.write_all(self.row.as_bytes())
    }

    /// Hands everything on.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// RFC 4180 2.6.
fn needs_quotes(text: &str) -> bool {
    let special = |byte| matches!(byte, b',' | b'"' | b'\r' | b'\n');
    text.bytes().any(special)
}

/// RFC 4180 2.7: a quote within is written twice.
fn quote(text: &str, row: &mut String) {
    row.push('"');
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            row.push_str("\"\"");
        }
        row.push_str(part);
    }
    row.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_as_it_was_written(
            texts in proptest::collection::vec("[a,\"\r\n é]{0,6}", 2..5),
        ) {
            let mut written = Vec::new();
            let mut table = Table::new(&mut written, ["x"; 5].into_iter().take(texts.len())).unwrap();
            table.row(texts.iter().map(|text| Cell::Text(text.into()))).unwrap();
            let mut read = csv::Reader::from_reader(&*written);
            let row = read.records().next().unwrap().unwrap();
            prop_assert_eq!(row.iter().collect::<Vec<_>>(), texts.clone());
            // And as the library that reads it would have written it.
            let mut like = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
            like.write_record(vec!["x"; texts.len()]).unwrap();
            like.write_record(&texts).unwrap();
            prop_assert_eq!(written, like.into_inner().unwrap());
        }
    }
}
