//! Series of runs: each against a server started afresh, pooled in one file and kept apart in folders,
//! and what is left of a series that ends before its time.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests start processes, read what they wrote, and end at the first surprise"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use common::process::{RunningProbe, assert_ended, exists, ruby};
use common::{Row, enter_namespace, read_csv, run_json, run_probe_with, stderr, stdout};

/// What a connection gets that is served.
const ANSWER: &str = "client.write(\"HTTP/1.1 204 No Content\\r\\n\\r\\n\")";

/// A server in Ruby that knows how often it was started.
struct Server {
    folder: TempDir,
}

impl Server {
    fn new() -> Server {
        Server {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Its command: does `first`, then listens on port 9292 and with each connection does `each`. Both
    /// may ask the `nth` start this is, and `each` the number of connections `taken`.
    fn command(&self, first: &str, each: &str) -> Vec<String> {
        let starts = self.starts();
        let starts = starts.display();
        ruby(&format!(
            "File.write('{starts}', \"#{{$$}}\\n\", mode: 'a')
             nth = File.readlines('{starts}').size
             taken = 0
             {first}
             server = TCPServer.new('127.0.0.1', 9292)
             loop do
               client = server.accept
               client.readpartial(4096)
               taken += 1
               {each}
               client.close
             end"
        ))
    }

    fn starts(&self) -> PathBuf {
        self.folder.path().join("starts")
    }

    /// The pid of each start.
    fn pids(&self) -> Vec<i64> {
        let text = fs::read_to_string(self.starts()).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Where --out goes.
    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }
}

fn run_ids(rows: &[Row]) -> BTreeSet<&str> {
    rows.iter().map(|row| row["run_id"].as_str()).collect()
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Asserts that `file` in `out` holds the rows of the runs' files, one run after the other, under one
/// header where there is any.
fn assert_pooled(out: &Path, file: &str, runs: &[&str]) {
    let mut pooled = Vec::new();
    for run in runs {
        let of_run = lines(&out.join(run).join(file));
        let header = usize::from(file.ends_with("csv"));
        let skipped = if pooled.is_empty() { 0 } else { header };
        pooled.extend(of_run.into_iter().skip(skipped));
    }
    assert_eq!(lines(&out.join(file)), pooled, "{file}");
}

/// Asserts that a run's folder tells one story, and returns its rows.
fn assert_whole(folder: &Path) -> (Vec<Row>, Value) {
    let rows = read_csv(&folder.join("connections.csv"));
    let run = run_json(folder);
    assert_eq!(
        run_ids(&rows),
        BTreeSet::from([run["run_id"].as_str().unwrap()])
    );
    assert_eq!(run["summary"]["connections"], rows.len());
    let lost = rows.iter().filter(|row| row["lost"] == "true").count();
    assert_eq!(run["summary"]["lost"], lost);
    let signal = run["triggers"][0]["at_unix_ns"].as_i64();
    for row in &rows {
        let opened: i64 = row["opened_unix_ns"].parse().unwrap();
        let since = signal.map_or_else(String::new, |signal| micros(opened - signal));
        assert_eq!(row["since_signal_us"], since);
    }
    (rows, run)
}

/// Nanoseconds as a column of microseconds shows them.
fn micros(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.abs();
    format!("{sign}{}.{:03}", ns / 1_000, ns % 1_000)
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn runs_are_pooled_in_one_file_and_kept_apart_in_folders() {
    enter_namespace();
    let server = Server::new();
    let out = server.out();
    let options = format!("-n 10 --repeat 3 --out {}", out.display());
    let output = run_probe_with(&options, &server.command("puts nth", ANSWER));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let runs = ["001", "002", "003"];
    for file in ["connections.csv", "connections.ndjson", "events.csv"] {
        assert_pooled(&out, file, &runs);
    }
    let pids = server.pids();
    for (i, name) in runs.iter().enumerate() {
        let folder = out.join(name);
        let (rows, run) = assert_whole(&folder);
        assert_eq!(rows.len(), 10);
        assert!(run["run_id"].as_str().unwrap().ends_with(name), "{run}");
        assert_eq!(run["triggers"][0]["pids"][0], pids[i]);
        assert_eq!(run["server"]["pid"], pids[i]);
        assert_eq!(lines(&folder.join("server.log")), [(i + 1).to_string()]);
    }
    let pooled = read_csv(&out.join("connections.csv"));
    assert_eq!(run_ids(&pooled).len(), 3);
    let lost = pooled.iter().filter(|row| row["lost"] == "true").count();
    let shown = stdout(&output);
    for said in [
        "30 connections to 127.0.0.1:9292 in 3 runs\nSIGTERM in all 3 runs\n".to_owned(),
        format!("lost {lost} of the "),
        " in a run, median ".to_owned(),
    ] {
        assert!(shown.contains(&said), "{said}: {shown}");
    }
    assert_eq!(stderr(&output), "");
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn an_interrupt_ends_the_run_and_the_series() {
    enter_namespace();
    let server = Server::new();
    let out = server.out();
    // A run lasts two seconds: it is under way when its first row comes.
    let options = format!(
        "--rate 50 -n 100 --signal none --repeat 20 --out {}",
        out.display()
    );
    let mut probe = RunningProbe::start(&options, &server.command("", ANSWER));
    probe.wait_for_rows(101);
    let processes = probe.hold_server();
    probe.signal(Signal::SIGINT);
    let ended = probe.end();
    assert_eq!(ended.code, Some(130));
    assert_ended(&processes);
    assert_eq!(server.pids().len(), 2);
    assert!(!out.join("003").exists());
    let (first, run) = assert_whole(&out.join("001"));
    assert_eq!(
        (first.len(), &run["interrupted"]),
        (100, &Value::Bool(false))
    );
    let (second, run) = assert_whole(&out.join("002"));
    assert_eq!(run["interrupted"], true);
    assert!((1..100).contains(&second.len()), "{}", second.len());
    // One header, and the rows of both.
    assert_eq!(ended.rows.len(), first.len() + second.len());
    assert_eq!(run_ids(&ended.rows).len(), 2);
    assert_pooled(&out, "connections.csv", &["001", "002"]);
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_server_that_fails_at_a_later_start_costs_no_earlier_run() {
    enter_namespace();
    let server = Server::new();
    let out = server.out();
    let options = format!("-n 10 --repeat 4 --out {}", out.display());
    let first = "(puts 'out of luck'; exit 3) if nth == 3";
    let output = run_probe_with(&options, &server.command(first, ANSWER));
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    let how = "probe: run 003: the command ended (exit status 3) before it listened";
    assert!(said.contains(how) && said.contains("out of luck"), "{said}");
    let shown = stdout(&output);
    assert!(shown.contains("in 2 of 4 runs\n"), "{shown}");
    assert_whole(&out.join("001"));
    assert_whole(&out.join("002"));
    assert_pooled(&out, "connections.csv", &["001", "002"]);
    // Of the run that never began there is no trace.
    assert!(!out.join("003").exists());
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_server_that_fails_at_its_first_start_leaves_no_files() {
    enter_namespace();
    let server = Server::new();
    let out = server.out();
    let options = format!("--repeat 2 --out {}", out.display());
    let output = run_probe_with(&options, &server.command("exit 3", ""));
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.starts_with("probe: run 001: the command ended"),
        "{said}"
    );
    assert_eq!(stdout(&output), "");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn an_output_that_fails_ends_the_series_with_what_was_measured() {
    enter_namespace();
    let server = Server::new();
    let options = "-n 10 --repeat 3 --csv /dev/full";
    let output = run_probe_with(options, &server.command("", ANSWER));
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    let how = "probe: run 001: cannot write /dev/full: no space left on device";
    assert!(said.starts_with(how), "{said}");
    assert!(stdout(&output).contains("in 1 of 3 runs\n"));
    assert_eq!(server.pids().len(), 1);
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_reader_that_goes_away_ends_the_series_quietly() {
    enter_namespace();
    let server = Server::new();
    let words =
        "\"$0\" --quiet -n 1000 --signal none --repeat 10 --format csv -- \"$@\" | head -n 2";
    let output = Command::new("sh")
        .args(["-c", words, env!("CARGO_BIN_EXE_probe")])
        .args(server.command("", ANSWER))
        .output()
        .unwrap();
    assert_eq!(stdout(&output).lines().count(), 2);
    assert_eq!(stderr(&output), "");
    assert_eq!(server.pids().len(), 1);
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn the_gate_counts_the_losses_of_all_runs() {
    enter_namespace();
    let server = Server::new();
    // Every second connection is closed without an answer.
    let command = server.command("", &format!("{ANSWER} if taken.odd?"));
    let options = "-n 6 -c 1 --signal none --max-lost 5";
    let output = run_probe_with(options, &command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = run_probe_with(&format!("{options} --repeat 2"), &command);
    assert_eq!(output.status.code(), Some(1));
    let said = "probe: gate failed: 6 lost, at most 5 allowed\n";
    assert_eq!(stderr(&output), said);
    let line = "lost 6 of the 12 that the server's kernel took; 3 to 3 in a run, median 3\n";
    let shown = stdout(&output);
    assert!(shown.contains(line), "{shown}");
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn the_gate_wants_something_served_in_every_run() {
    enter_namespace();
    let server = Server::new();
    let command = server.command("", &format!("{ANSWER} if nth == 1"));
    let options = "-n 3 --signal none --max-lost 100 --repeat 2";
    let output = run_probe_with(options, &command);
    assert_eq!(output.status.code(), Some(1));
    let said = "probe: gate failed: nothing was served in 1 of 2 runs\n";
    assert_eq!(stderr(&output), said);
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn what_holds_for_every_run_is_said_once_and_kept_with_each() {
    enter_namespace();
    let server = Server::new();
    let out = server.out();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"])
        .arg(env!("CARGO_BIN_EXE_probe"))
        .args(["-n", "4", "--repeat", "3", "--out"])
        .arg(&out)
        .arg("--")
        .args(server.command("", ANSWER))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    let note = said.trim_end().strip_prefix("probe: ").unwrap();
    assert!(
        note.ends_with("going on from the sockets alone, without run.pcapng"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    for name in ["001", "002", "003"] {
        let (_, run) = assert_whole(&out.join(name));
        assert_eq!(run["notes"], serde_json::json!([note]));
    }
    let shown = stdout(&output);
    let line = "\nall 3 runs: seen from the sockets alone; wire: no packets are seen";
    assert!(shown.contains(line), "{shown}");
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn servers_that_had_to_be_killed_are_counted() {
    enter_namespace();
    let server = Server::new();
    let options = "-n 4 --stop-timeout 100ms --repeat 3";
    let command = server.command("trap(:TERM) {} if nth != 2", ANSWER);
    let output = run_probe_with(options, &command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown = stdout(&output);
    let line = "\nthe server had not stopped in time and was killed in 2 of 3 runs\n";
    assert_eq!(shown.matches(line).count(), 1, "{shown}");
    for pid in server.pids() {
        assert!(!exists(pid));
    }
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_long_series_holds_no_more_open_than_a_short_one() {
    enter_namespace();
    let server = Server::new();
    let held = server.folder.path().join("held");
    // The server is started at the same point of every run, and counts what its parent holds.
    let first = format!(
        "held = ['fd', 'task'].map {{ Dir.children(\"/proc/#{{Process.ppid}}/#{{_1}}\").size }}
         File.write('{}', held.join(' ') + \"\\n\", mode: 'a')",
        held.display()
    );
    let out = server.out();
    let options = format!("-n 2 --repeat 12 --quiet --out {}", out.display());
    let output = run_probe_with(&options, &server.command(&first, ANSWER));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let counts: Vec<Vec<usize>> = lines(&held)
        .iter()
        .map(|line| line.split(' ').map(|n| n.parse().unwrap()).collect())
        .collect();
    assert_eq!(counts.len(), 12);
    let (first, last) = (&counts[0], &counts[11]);
    for (first, last) in first.iter().zip(last) {
        // While it waits for the server the probe now and then has a file of /proc open.
        assert!(*last < first + 4, "{counts:?}");
    }
}
