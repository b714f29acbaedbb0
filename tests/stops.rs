//! Real servers stopped gracefully under load: what the kernel proves of each connection that was
//! lost, from its tracepoints and from sock_diag alone.
#![expect(
    clippy::unwrap_used,
    reason = "tests read what the probe wrote, and end at the first surprise"
)]

mod common;

use std::collections::HashSet;

use serde_json::Value;

use common::puma::puma;
use common::reads::Reads;
use common::{Row, enter_namespace, probe, read_csv, run_json, stderr, verdict};

/// Where the scenarios listen.
const PORT: u16 = 9292;

/// 100 connections, 250 a second, and the stop half-way. Two workers that take 20 ms each fall
/// behind: some thirty are queued by then.
const LOAD: &str = "--count 100 --rate 250";

/// A server and its graceful stop.
struct Server {
    command: Vec<String>,
    stop: &'static str,
}

impl Server {
    fn of(command: Vec<String>, stop: &'static str) -> Server {
        Server { command, stop }
    }

    fn puma() -> Server {
        Server::of(puma("sleepy"), "TERM@50")
    }

    fn gunicorn() -> Server {
        let config = scenario("gunicorn/gunicorn.conf.py");
        let command = ["gunicorn", "-c", &config].map(str::to_owned);
        Server::of(command.to_vec(), "TERM@50")
    }

    fn unicorn() -> Server {
        let [config, app] = ["unicorn.rb", "config.ru"].map(|f| scenario("unicorn/") + f);
        let command = ["unicorn", "-c", &config, &app].map(str::to_owned);
        Server::of(command.to_vec(), "QUIT@50")
    }

    /// Stops it under load. Every stop loses something, or nothing was tested.
    fn stopped(&self, observe: &str) -> Stopped {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let output = probe()
            .args(LOAD.split_whitespace())
            .args(["--signal", self.stop, "--observe", observe])
            .arg("--out")
            .arg(&out)
            .arg("--")
            .args(&self.command)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let stopped = Stopped {
            rows: read_csv(&out.join("connections.csv")),
            run: run_json(&out),
        };
        assert_eq!(stopped.rows.len(), 100);
        assert!(!stopped.reset().is_empty(), "{:?}", stopped.run["summary"]);
        stopped
    }
}

fn scenario(file: &str) -> String {
    format!("{}/scenarios/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// A server that was stopped, as the probe saw it.
struct Stopped {
    rows: Vec<Row>,
    run: Value,
}

impl Stopped {
    fn reset(&self) -> Vec<&Row> {
        let rows = self.rows.iter();
        rows.filter(|row| row["outcome"] == "reset_empty").collect()
    }

    /// Asserts that the rows claim no read that was none, and that no process read where they say so.
    fn does_not_contradict(&self, read: &HashSet<u16>) {
        for row in &self.rows {
            verdict::assert_honest(row);
            let was_read = read.contains(&row["src_port"].parse().unwrap());
            let fits = match row["cause"].as_str() {
                "never_accepted" | "accepted_unread" | "not_listening" | "queue_full" => !was_read,
                "read_unanswered" | "answered_partly" => was_read,
                _ => true,
            };
            assert!(fits, "read: {was_read}, {row:?}");
            match row["retry_safe"].as_str() {
                "yes" => assert!(!was_read, "{row:?}"),
                "no" => assert!(was_read, "{row:?}"),
                _ => {}
            }
        }
    }

    fn workers(&self) -> HashSet<String> {
        let exits = self.run["exits"].as_array().unwrap();
        let master = &self.run["server"]["pid"];
        let pids = exits.iter().map(|exit| &exit["pid"]);
        pids.filter(|pid| *pid != master)
            .map(Value::to_string)
            .collect()
    }
}

/// By tracepoints every cause is proven, and every connection that was served has its worker.
fn tracepoints_prove_every_cause(server: &Server) {
    enter_namespace();
    let reads = Reads::on(PORT);
    let stopped = server.stopped("auto");
    let read = reads.clients();
    stopped.does_not_contradict(&read);
    let workers = stopped.workers();
    for row in &stopped.rows {
        let was_read = read.contains(&row["src_port"].parse().unwrap());
        assert_eq!(!row["read_us"].is_empty(), was_read, "{row:?}");
        if was_read {
            assert!(workers.contains(&row["server_pid"]), "{workers:?}: {row:?}");
        }
        assert_ne!(row["cause"], "unknown", "{row:?}");
    }
    for row in stopped.reset() {
        assert!(!row["reset_reason"].is_empty(), "{row:?}");
        if row["cause"] == "never_accepted" {
            assert_eq!(row["retry_safe"], "yes", "{row:?}");
        }
    }
}

/// By sock_diag alone some causes are proven, and none of them wrongly.
fn sock_diag_is_never_wrong(server: &Server) {
    enter_namespace();
    let reads = Reads::on(PORT);
    let stopped = server.stopped("socket,wire,diag");
    stopped.does_not_contradict(&reads.clients());
    let reset = stopped.reset();
    let proven = reset.iter().filter(|row| row["cause"] != "unknown").count();
    // For whoever asks by --nocapture.
    println!("{proven} of {} proven by sock_diag alone", reset.len());
    assert!(proven > 0, "{reset:?}");
}

#[test]
#[ignore = "needs root, netns, tracefs, puma"]
fn every_connection_that_puma_loses_has_a_proven_cause() {
    tracepoints_prove_every_cause(&Server::puma());
}

#[test]
#[ignore = "needs root, netns, tracefs, gunicorn"]
fn every_connection_that_gunicorn_loses_has_a_proven_cause() {
    tracepoints_prove_every_cause(&Server::gunicorn());
}

#[test]
#[ignore = "needs root, netns, tracefs, unicorn"]
fn every_connection_that_unicorn_loses_has_a_proven_cause() {
    tracepoints_prove_every_cause(&Server::unicorn());
}

#[test]
#[ignore = "needs root, netns, tracefs, puma"]
fn what_sock_diag_alone_says_of_puma_is_never_wrong() {
    sock_diag_is_never_wrong(&Server::puma());
}

#[test]
#[ignore = "needs root, netns, tracefs, gunicorn"]
fn what_sock_diag_alone_says_of_gunicorn_is_never_wrong() {
    sock_diag_is_never_wrong(&Server::gunicorn());
}

#[test]
#[ignore = "needs root, netns, tracefs, unicorn"]
fn what_sock_diag_alone_says_of_unicorn_is_never_wrong() {
    sock_diag_is_never_wrong(&Server::unicorn());
}
