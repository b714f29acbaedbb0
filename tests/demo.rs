//! `probe demo`: what it says is what it measured, for one policy and for all, and however it ends it
//! leaves no process behind.
#![expect(
    clippy::unwrap_used,
    reason = "tests start processes and read what they wrote, and end at the first surprise"
)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::process::{Held, descendants};
use common::{
    Row, as_nobody, enter_namespace, logfmt, probe, read_csv, rows, run_json, run_probe, stderr,
    stdout,
};

const POLICIES: [&str; 6] = [
    "hang",
    "leave-open",
    "close",
    "quick",
    "drain",
    "filter-drain",
];

fn count(rows: &[Row], outcome: &str) -> usize {
    rows.iter().filter(|row| row["outcome"] == outcome).count()
}

fn lost(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row["lost"] == "true").count()
}

#[test]
#[ignore = "needs root and a network namespace"]
fn a_plain_demo_shows_the_loss_says_what_was_done_and_what_to_try_next() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let output = run_probe(&format!("demo --out {}", out.display()));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    let rows = read_csv(&out.join("connections.csv"));
    assert_eq!(rows.len(), 50);
    let lost = lost(&rows);
    assert!(lost > 0, "{said}");
    let kernel = rows.iter().filter(|row| !row["syn_ack_us"].is_empty());
    let taken = kernel.count();
    assert!(
        said.contains(&format!("lost {lost} of the {taken} that")),
        "{said}"
    );
    let text = said.replace('\n', " ");
    for sentence in [
        "SIGTERM: the master closed its copy of the listening socket".to_owned(),
        format!("The server's kernel took {taken} of 50 connections"),
        format!(
            "{} were reset before a byte of the answer came",
            count(&rows, "reset_empty")
        ),
        format!("Try next:   {} demo --all", env!("CARGO_BIN_EXE_probe")),
    ] {
        assert!(text.contains(&sentence), "{sentence}: {said}");
    }
    let run = run_json(&out);
    assert_eq!(run["server"]["status"], "exit status 0");
    assert!(out.join("server.log").exists());
}

#[test]
#[ignore = "needs root and a network namespace"]
fn all_policies_stand_in_one_table_whose_numbers_are_those_of_the_rows() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs");
    let output = run_probe(&format!("demo --all --repeat 2 --out {}", out.display()));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    let pooled = read_csv(&out.join("connections.csv"));
    assert_eq!(pooled.len(), 600);
    for policy in POLICIES {
        let ours: Vec<Row> = ["001", "002"]
            .iter()
            .flat_map(|run| read_csv(&out.join(policy).join(run).join("connections.csv")))
            .collect();
        assert_eq!(ours.len(), 100, "{policy}");
        let ids: BTreeSet<&str> = ours.iter().map(|row| row["run_id"].as_str()).collect();
        let of_policy = |row: &&Row| ids.contains(row["run_id"].as_str());
        assert_eq!(pooled.iter().filter(of_policy).count(), 100, "{policy}");
        assert!(ids.iter().all(|id| id.contains(&format!("-{policy}-"))));
        let line = said.lines().find(|line| line.trim().starts_with(policy));
        let words: Vec<&str> = line.expect("its row").split_whitespace().collect();
        let taken = ours.iter().filter(|row| !row["syn_ack_us"].is_empty());
        let expected = [taken.count(), count(&ours, "served"), lost(&ours)];
        let expected = expected.map(|n| n.to_string());
        assert_eq!(words[1..4], expected, "{said}");
        let refused = count(&ours, "refused").to_string();
        assert_eq!(words[words.len() - 2], refused, "{said}");
    }
    assert!(said.contains("was killed in 2 of 12 runs"), "{said}");
}

/// The report that this program grew from: TERM to every process of a dyno.
#[test]
#[ignore = "needs root and a network namespace"]
fn the_heroku_reproduction_gives_h13_to_those_taken_and_h21_or_h10_to_those_refused() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("connections.csv");
    let output = run_probe(&format!(
        "demo --policy close --signal-tree --format heroku --csv {}",
        csv.display()
    ));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = read_csv(&csv);
    let lines = stdout(&output);
    let code = |line: &str| {
        let (_, said) = line.split_once("heroku[router]: ").expect("a router line");
        let pairs = logfmt::pairs(said);
        let code = pairs.iter().find(|(key, _)| key == "code");
        code.map_or(String::new(), |(_, code)| code.clone())
    };
    let codes: Vec<String> = lines.lines().map(code).collect();
    assert_eq!(codes.len(), rows.len());
    for (row, code) in rows.iter().zip(&codes) {
        let expected: &[&str] = match row["outcome"].as_str() {
            "served" => &[""],
            "refused" => &["H21", "H10"],
            "reset_empty" | "closed_empty" | "reset_on_connect" => &["H13"],
            other => unreachable!("{other}: {row:?}"),
        };
        assert!(expected.contains(&code.as_str()), "{code}: {row:?}");
    }
    for wanted in ["", "H13", "H10"] {
        assert!(
            codes.iter().any(|code| code == wanted),
            "no {wanted}: {lines}"
        );
    }
}

#[test]
#[ignore = "needs root and a network namespace"]
fn a_first_request_that_stops_the_server_takes_the_place_of_the_signal() {
    enter_namespace();
    let output = run_probe("demo --first-request kill-self -n 20 --rate 250 --csv -");
    let ended = rows(&output.stdout);
    // The killed worker may have accepted others too, and have read from them or not.
    let lost = count(&ended, "closed_empty") + count(&ended, "reset_empty");
    assert!(count(&ended, "closed_empty") >= 1, "{ended:?}");
    assert_eq!(count(&ended, "served") + lost, 20, "{ended:?}");
    assert!(count(&ended, "served") >= 1, "{ended:?}");
    assert!(ended.iter().all(|row| row["since_signal_us"].is_empty()));
    let output = run_probe("demo --first-request term-all -n 20");
    let said = stdout(&output).replace('\n', " ");
    let told = "sent SIGTERM to the master and to every worker. On that the master closed";
    assert!(said.contains(told), "{said}");
}

#[test]
#[ignore = "needs root and a network namespace"]
fn filter_drain_loses_nothing_at_two_thousand_per_second() {
    enter_namespace();
    let typed = "demo --policy filter-drain --service-time 0s -n 400 --rate 2000 --repeat 10 \
                 --fail-on-loss";
    let output = run_probe(typed);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    assert!(said.contains("lost 0 of the "), "{said}");
}

/// The probe at work on a demonstration that hangs, its rows on their way to us.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it has written so far.
    text: String,
    /// The server and its workers.
    server: Vec<Held>,
}

impl Running {
    fn start() -> Running {
        let mut child = probe()
            .args(["demo", "--policy", "hang", "--csv", "-", "--quiet"])
            .args(["--timeout", "1m", "--stop-timeout", "1m"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut running = Running {
            child,
            stdout,
            text: String::new(),
            server: Vec::new(),
        };
        // A row: the server is up, and was signalled.
        running.wait_for("served");
        running.server = descendants(pid).into_iter().map(Held::open).collect();
        assert!(!running.server.is_empty());
        running
    }

    fn wait_for(&mut self, word: &str) {
        while !self.text.contains(word) {
            let read = self.stdout.read_line(&mut self.text).unwrap();
            assert!(read > 0, "{}", self.text);
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }
}

#[test]
#[ignore = "needs root and a network namespace"]
fn an_interrupted_demo_keeps_its_rows_and_ends_its_server() {
    enter_namespace();
    let mut running = Running::start();
    running.signal(Signal::SIGINT);
    // The rows are out before the server has stopped, which this one never does by itself.
    running.wait_for("unfinished");
    running.signal(Signal::SIGINT);
    assert_eq!(running.child.wait().unwrap().code(), Some(130));
    for process in &running.server {
        process.wait();
    }
    let rows = rows(running.text.as_bytes());
    assert!(count(&rows, "served") > 0, "{rows:?}");
}

#[test]
#[ignore = "needs root and a network namespace"]
fn a_demo_that_is_interrupted_before_its_signal_tells_of_none() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("connections.csv");
    let child = probe()
        .args(["demo", "--signal", "TERM@1h", "--csv"])
        .arg(&csv)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    // The header is out once the run has begun.
    while std::fs::metadata(&csv).map_or(0, |file| file.len()) == 0 {
        std::thread::yield_now();
    }
    kill(pid, Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(
        said.contains("ended before every trigger was pulled"),
        "{said}"
    );
    assert!(!said.contains("SIGTERM"), "{said}");
}

#[test]
#[ignore = "needs root and a network namespace"]
fn an_interrupted_table_has_no_row_of_a_policy_that_was_not_run() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs");
    let child = probe()
        .args([
            "demo",
            "--all",
            "--timeout",
            "100ms",
            "--stop-timeout",
            "0s",
        ])
        .arg("--out")
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The second policy's run has begun.
    while !out.join("leave-open").exists() {
        std::thread::yield_now();
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let said = stdout(&output);
    let has_row = |policy: &&str| said.lines().any(|line| line.trim().starts_with(*policy));
    assert!(has_row(&"hang"), "{said}");
    assert!(!POLICIES[2..].iter().any(has_row), "{said}");
}

#[test]
#[ignore = "needs root and a network namespace"]
fn a_killed_demo_leaves_no_server() {
    enter_namespace();
    let mut running = Running::start();
    running.signal(Signal::SIGKILL);
    running.child.wait().unwrap();
    for process in &running.server {
        process.wait();
    }
}

#[test]
#[ignore = "needs root and a network namespace"]
fn an_ordinary_user_sees_it_from_the_sockets() {
    enter_namespace();
    let output = as_nobody(Path::new(env!("CARGO_BIN_EXE_probe")))
        .args(["demo", "--all"])
        .output()
        .unwrap();
    let (said, noted) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{noted}");
    assert!(noted.contains("going on from the sockets alone"), "{noted}");
    // Some kernels ask for CAP_NET_ADMIN before they filter a listening socket.
    let filtered = said.lines().any(|line| line.contains("filter-drain"));
    let left_out = noted.contains("filter-drain is left out") && noted.contains("CAP_NET_ADMIN");
    assert!(filtered != left_out, "{said}{noted}");
    for policy in &POLICIES[..5] {
        let mut lines = said.lines();
        assert!(lines.any(|line| line.trim().starts_with(policy)), "{said}");
    }
}

#[test]
#[ignore = "needs root and a network namespace"]
fn what_it_cannot_do_as_asked_is_said() {
    enter_namespace();
    common::sysctl("net/core/somaxconn", "8");
    let output = run_probe("demo --backlog 100 -n 4");
    let noted = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{noted}");
    assert!(
        noted.contains("--backlog 100 is capped by the kernel: net.core.somaxconn is 8"),
        "{noted}"
    );
}
