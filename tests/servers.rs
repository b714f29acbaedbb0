//! Every server that `scenarios/` describes, in short: each is started, stopped in each of its ways
//! under load, and measured; what is lost has its cause, and no row claims more than it can know.
#![expect(
    clippy::unwrap_used,
    reason = "tests read what the probe wrote, and end at the first surprise"
)]

mod common;

use common::{Row, enter_namespace, probe, read_csv, stderr, verdict};

fn number(row: &Row, column: &str) -> u64 {
    row[column].parse().unwrap()
}

/// What is measured of the rows whose names contain one of `only`, from `port` on: tracepoints know no
/// name spaces, and two servers at once must not share one.
fn measured(port: &str, only: &[&str]) -> Vec<Row> {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("matrix");
    let scenarios = format!("{}/scenarios", env!("CARGO_MANIFEST_DIR"));
    let output = probe()
        .args(["matrix", &scenarios, "--port", port])
        .args("--count 60 --rate 250 --at 30 --stop-timeout 3s".split(' '))
        .args(only.iter().flat_map(|only| ["--only", only]))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for row in read_csv(&out.join("connections.csv")) {
        verdict::assert_honest(&row);
    }
    let rows = read_csv(&out.join("matrix.csv"));
    rows.iter().for_each(assert_measured);
    rows
}

fn assert_measured(row: &Row) {
    assert_eq!((&*row["unmade"], &*row["runs"]), ("", "1"), "{row:?}");
    assert_eq!(number(row, "unproven"), 0, "{row:?}");
    let [taken, served, lost] = ["taken", "served", "lost"].map(|count| number(row, count));
    assert_eq!(taken, served + lost, "{row:?}");
    assert_eq!(number(row, "left_behind_runs"), 0, "{row:?}");
    assert_eq!(number(row, "ended_before_runs"), 0, "{row:?}");
    if row["what"].ends_with("stop") {
        // One of them never ends, by its policy.
        let hangs = row["mode"] == "local";
        assert_eq!(row["gone_ms_median"].is_empty(), hangs, "{row:?}");
        assert_eq!(number(row, "killed_runs"), u64::from(hangs), "{row:?}");
    }
}

/// How many connections a row has in a column.
fn count(rows: &[Row], (scenario, mode, signal): (&str, &str, &str), column: &str) -> u64 {
    let is_it = |row: &&Row| {
        let names = ["scenario", "mode", "signal", "whom"].map(|name| row[name].as_str());
        names == [scenario, mode, signal, "master"]
    };
    number(rows.iter().find(is_it).unwrap(), column)
}

#[test]
#[ignore = "needs root, netns, tracefs, scenarios/install"]
fn every_server_is_measured_and_each_of_its_losses_has_a_proven_cause() {
    let servers = ["puma", "unicorn", "gunicorn", "node"];
    let rows = measured("9300", &servers);
    assert!(rows.len() >= 23, "{}", rows.len());
    let puma = ("puma", "cluster", "TERM");
    assert!(count(&rows, puma, "lost_never_accepted") > 0);
}

#[test]
#[ignore = "needs root, netns, tracefs, scenarios/install"]
fn every_server_besides_is_measured_and_each_of_its_losses_has_a_proven_cause() {
    let servers = [
        "apache",
        "hypercorn",
        "uvicorn",
        "uwsgi",
        "nginx",
        "embedded",
    ];
    let rows = measured("9400", &servers);
    assert!(rows.len() >= 25, "{}", rows.len());
    let ours = |mode, column| count(&rows, ("embedded", mode, "TERM"), column);
    assert_eq!(ours("filter-drain", "lost"), 0);
    assert!(ours("close", "lost_never_accepted") > 0);
    let local = ("problem-embedded", "local", "TERM");
    assert!(count(&rows, local, "hung") >= 30);
}
