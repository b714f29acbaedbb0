//! A run's own capture, read again: each connection must be what the run said of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Row, probe, rows, stderr};

/// What `probe read` makes of a capture.
pub(crate) fn read_again(capture: &Path) -> Vec<Row> {
    let output = probe()
        .arg("read")
        .arg(capture)
        .args(["--csv", "-", "--quiet"])
        .output()
        .expect("the probe starts");
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
    rows(&output.stdout)
}

/// The capture must tell each connection of which packets were seen as `run` does, field by field,
/// and no other.
pub(crate) fn assert_told_again(run: &[Row], capture: &Path) {
    let key = |row: &Row| {
        let conn: u64 = row["conn"].parse().expect("a number");
        (row["run_id"].clone(), conn)
    };
    let read = read_again(capture);
    let mut again: BTreeMap<_, &Row> = read.iter().map(|row| (key(row), row)).collect();
    assert_eq!(again.len(), read.len(), "a connection told twice");
    for row in run.iter().filter(|row| row["evidence"].contains("wire")) {
        let told = again.remove(&key(row));
        let told = told.unwrap_or_else(|| panic!("not told again: {row:?}"));
        let mut differ: Vec<String> = row
            .iter()
            .filter(|&(column, cell)| told[column] != *cell)
            .map(|(column, cell)| format!("{column}: run `{cell}`, read `{}`", told[column]))
            .collect();
        differ.sort();
        assert!(differ.is_empty(), "{}\n{row:?}", differ.join("\n"));
        assert_eq!(told.len(), row.len());
    }
    assert!(again.is_empty(), "told of no connection: {again:?}");
}
