//! Who may see what of the server: what is missing is named in one line with the reason, and the run
//! goes on with what it has.
#![expect(
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests start the probe, read what the probe wrote, and end at the first surprise"
)]

mod common;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use common::namespace::Namespace;
use common::prefork::{Serving, serve_command};
use common::{
    Row, as_nobody, binary_for_everybody, enter_namespace, probe, read_csv, run, run_json, stderr,
};

/// Five connections that are served.
const FIVE: [&str; 2] = ["--count", "5"];

/// What a run left.
struct Observed {
    rows: Vec<Row>,
    run: Value,
    said: String,
}

/// Runs the probe, and reads what it left in `out`.
fn observe(mut command: Command, server: &Serving, out: &Path) -> Observed {
    let target = server.address().to_string();
    let output = command
        .args(["--target", &target, "--out"])
        .arg(out)
        .args(FIVE)
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let rows = read_csv(&out.join("connections.csv"));
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row["outcome"] == "served"), "{said}");
    Observed {
        rows,
        run: run_json(out),
        said,
    }
}

impl Observed {
    fn vantage(&self, name: &str) -> &Value {
        let vantages = self.run["vantages"].as_array().unwrap();
        let found = vantages.iter().find(|vantage| vantage["name"] == name);
        found.unwrap_or(&Value::Null)
    }

    fn has(&self, name: &str) -> bool {
        self.vantage(name)["on"] == true
    }

    /// Asserts that a vantage is missing, and that run.json and one line on stderr give the reason in
    /// these words.
    fn lacks(&self, name: &str, words: &[&str]) {
        assert!(!self.has(name), "{:?}", self.run["vantages"]);
        let why = self.vantage(name)["missing"].as_str().unwrap_or_default();
        for word in words {
            assert!(why.contains(word), "{name}: {why}");
        }
        let lines = self.said.lines().filter(|line| line.contains(name));
        assert_eq!(lines.count(), 1, "{}", self.said);
        assert_eq!(why.lines().count(), 1, "{why}");
    }

    fn all(&self, column: &str, holds: impl Fn(&str) -> bool) {
        for row in &self.rows {
            assert!(holds(&row[column]), "{column}: {row:?}\n{}", self.said);
        }
    }
}

/// Its own servers a user may look into, by sock_diag and /proc; tracepoints are root's.
#[test]
#[ignore = "needs root, netns"]
fn an_ordinary_user_has_sock_diag_of_an_own_server() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let binary = binary_for_everybody(folder.path());
    run("chmod", &["a+rwx", &folder.path().to_string_lossy()]);
    let mut command = as_nobody(&binary);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command.args(["--service-time", "200ms"]);
    let server = Serving::of(command);
    let observed = observe(as_nobody(&binary), &server, &folder.path().join("run"));
    assert!(observed.has("diag"), "{:?}", observed.run["vantages"]);
    observed.lacks("trace", &["root"]);
    let workers = workers(&server);
    // Held for 200 ms each, a connection is seen in its worker's hands.
    observed.all("server_pid", |pid| workers.iter().any(|w| w == pid));
    observed.all("evidence", |evidence| evidence == "socket+diag");
    server.interrupt();
}

/// That somebody holds a connection is seen of every server, who does of one's own alone.
#[test]
#[ignore = "needs root, netns"]
fn an_ordinary_user_does_not_see_which_process_of_roots_it_was() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let binary = binary_for_everybody(folder.path());
    run("chmod", &["a+rwx", &folder.path().to_string_lossy()]);
    let server = Serving::start("");
    let observed = observe(as_nobody(&binary), &server, &folder.path().join("run"));
    assert!(observed.has("diag"), "{:?}", observed.run["vantages"]);
    assert!(observed.said.contains("/proc/PID/fd"), "{}", observed.said);
    observed.all("server_pid", str::is_empty);
    server.interrupt();
}

#[test]
#[ignore = "needs root, netns"]
fn of_a_server_on_another_host_the_kernel_cannot_be_asked() {
    enter_namespace();
    let there = Namespace::linked();
    let server = serve_there(&there);
    let folder = tempfile::tempdir().unwrap();
    let observed = observe(probe(), &server, &folder.path().join("run"));
    assert!(observed.has("wire"), "{:?}", observed.run["vantages"]);
    observed.lacks("diag", &["another host"]);
    observed.lacks("trace", &["another host"]);
    observed.all("accepted_us", str::is_empty);
    observed.all("evidence", |evidence| evidence == "socket+wire");
    server.interrupt();
}

/// A container's server is on this host, though its address is not.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_server_in_another_network_namespace_is_looked_into_by_its_pid() {
    enter_namespace();
    let there = Namespace::linked();
    let server = serve_there(&there);
    let folder = tempfile::tempdir().unwrap();
    let mut command = probe();
    command.args(["--pid", &server.master().to_string()]);
    let observed = observe(command, &server, &folder.path().join("run"));
    for vantage in ["diag", "trace"] {
        assert!(observed.has(vantage), "{:?}", observed.run["vantages"]);
    }
    let workers = workers(&server);
    observed.all("server_pid", |pid| workers.iter().any(|w| w == pid));
    observed.all("read_us", |at| !at.is_empty());
    observed.all("evidence", |evidence| evidence == "socket+wire+diag+trace");
    server.interrupt();
}

/// The numbers of its workers, as a row has them.
fn workers(server: &Serving) -> Vec<String> {
    let workers = server.workers();
    workers.iter().map(ToString::to_string).collect()
}

/// The embedded server on the other host.
fn serve_there(there: &Namespace) -> Serving {
    let words = there.command(&serve_command("--listen 10.0.0.2:9292"));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Serving::of(command)
}
