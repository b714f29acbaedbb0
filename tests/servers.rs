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

#[test]
#[ignore = "needs root, netns, tracefs, scenarios/install"]
fn every_server_is_measured_and_each_of_its_losses_has_a_proven_cause() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("matrix");
    let scenarios = format!("{}/scenarios", env!("CARGO_MANIFEST_DIR"));
    let output = probe()
        .args(["matrix", &scenarios])
        .args("--count 60 --rate 250 --at 30 --stop-timeout 3s".split(' '))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = read_csv(&out.join("matrix.csv"));
    assert!(rows.len() > 40, "{}", rows.len());
    for row in &rows {
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
    let of = |name: &str| {
        let mut found = rows.iter().filter(|row| row["row"] == name);
        found.next().unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(number(of("embedded-filter-drain-TERM"), "lost"), 0);
    assert!(number(of("problem-embedded-local-TERM"), "hung") >= 30);
    assert!(number(of("embedded-close-TERM"), "lost_never_accepted") > 0);
    for row in read_csv(&out.join("connections.csv")) {
        verdict::assert_honest(&row);
    }
}
