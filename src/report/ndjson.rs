//! NDJSON: one object a record, with the CSV's keys in the CSV's order and null for what was not
//! seen.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Context;
use super::columns::{COLUMNS, Cell};
use crate::record::Record;

/// Writes a record as one line.
pub(crate) fn write(out: &mut impl Write, record: &Record, run: &Context) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Row { record, run })?;
    out.write_all(b"\n")
}

struct Row<'a> {
    record: &'a Record,
    run: &'a Context,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(COLUMNS.len()))?;
        for column in COLUMNS {
            let cell = (column.value)(self.record, self.run);
            map.serialize_entry(column.name, &Value(&cell))?;
        }
        map.end()
    }
}

struct Value<'a>(&'a Cell<'a>);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Cell::Empty => serializer.serialize_none(),
            Cell::Word(word) => serializer.serialize_str(word),
            Cell::Text(text) => serializer.serialize_str(text),
            Cell::Address(address) => serializer.collect_str(address),
            Cell::Sequence(sequence) => serializer.collect_str(sequence),
            Cell::Number(number) => serializer.serialize_i64(*number),
            // The CSV's three decimals are exact in a double up to 2^53 nanoseconds, 104 days.
            #[expect(clippy::cast_precision_loss, reason = "spans within a run")]
            Cell::Micros(ns) => serializer.serialize_f64(*ns as f64 / 1_000.0),
            Cell::Bool(yes) => serializer.serialize_bool(*yes),
        }
    }
}
