//! Triggers and interrupts: what is done to the server, that it is told rightly, and that nothing of
//! our own doing is taken for the server's.
#![expect(
    clippy::disallowed_types,
    reason = "tests listen, start processes, read what they wrote, and end at the first surprise"
)]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use nix::sys::signal::Signal;

use common::process::{RunningProbe, assert_ended, ruby};
use common::{
    enter_namespace, probe, read_csv, run_json, run_probe, run_probe_with, stderr, stdout,
};

/// A server in Ruby that answers on port 9292 and does not end on `survives`.
fn server(survives: &str) -> Vec<String> {
    ruby(&format!(
        "trap('{survives}') {{}}
         server = TCPServer.new('127.0.0.1', 9292)
         loop do
           client = server.accept
           client.readpartial(4096)
           client.write(\"HTTP/1.1 204 No Content\\r\\n\\r\\n\")
           client.close
         end"
    ))
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_signal_that_servers_survive_is_followed_by_term() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = format!("-n 10 --signal USR1 --out {}", out.display());
    let output = run_probe_with(&options, &server("USR1"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = run_json(&out);
    assert!(run["server"]["asked_to_stop_unix_ns"].is_i64(), "{run}");
    assert!(run["server"]["killed_unix_ns"].is_null(), "{run}");
    assert!(
        !stdout(&output).contains("was killed"),
        "{}",
        stdout(&output)
    );
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_trigger_that_runs_on_is_not_taken_for_the_server() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut probing = probe();
    probing
        .args([
            "-n",
            "10",
            "--signal",
            "TERM@5",
            "--trigger-at",
            "5",
            "--trigger",
            "sleep 1000",
        ])
        .args(["--fail-on-loss", "--out", &out.to_string_lossy(), "--"])
        .args(server("USR1"));
    let output = probing.output().unwrap();
    let shown = stdout(&output);
    assert!(shown.contains("1 trigger command still running"), "{shown}");
    assert!(!shown.contains("the server had not stopped"), "{shown}");
    assert!(run_json(&out)["server"]["killed_unix_ns"].is_null());
    // Killed with its shell, it failed, and the gate says so.
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_port_that_somebody_else_listens_on_is_refused() {
    enter_namespace();
    let _other = TcpListener::bind("127.0.0.1:8000").unwrap();
    let output = run_probe_with("--target 127.0.0.1:8000", &server("USR1"));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "probe: somebody already listens where 127.0.0.1:8000 leads, and would be probed instead; \
         stop that, or give another port to both\n"
    );
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_terminal_that_goes_away_leaves_nothing_behind() {
    enter_namespace();
    let mut running = RunningProbe::start("--rate 50 --count 3000 --signal none", &server("USR1"));
    running.wait_for_row();
    let held = running.hold_server();
    running.signal(Signal::SIGHUP);
    let ended = running.end();
    assert_eq!(ended.code, Some(129));
    assert_ended(&held);
}

#[test]
#[ignore = "needs root, netns"]
fn idle_connections_that_end_early_hold_nobody_up() {
    enter_namespace();
    let output =
        run_probe("--target 127.0.0.1:9292 -n 6 --idle 3 -c 2 --trigger true --trigger-at 2");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains(" refused      6 "),
        "{}",
        stdout(&output)
    );
}

/// Serves a client that closes first as Python's servers do: reads to the end, then closes.
fn close_after_the_client(listener: TcpListener, clients: usize) {
    thread::Builder::new()
        .spawn(move || {
            for stream in listener.incoming().take(clients) {
                let mut stream = stream.expect("a client");
                thread::Builder::new()
                    .spawn(move || stream.read_to_end(&mut Vec::new()))
                    .expect("a thread");
            }
        })
        .expect("a thread");
}

#[test]
#[ignore = "needs root, netns"]
fn what_an_interrupt_brings_about_is_nobodys_loss() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("connections.csv");
    let listener = TcpListener::bind("127.0.0.1:9292").unwrap();
    close_after_the_client(listener, 5);
    // The trigger interrupts the probe that pulls it, once all are open.
    let output = probe()
        .args([
            "--target",
            "127.0.0.1:9292",
            "-n",
            "5",
            "--csv",
            &csv.to_string_lossy(),
        ])
        .args(["--trigger", "kill -INT $PPID", "--trigger-at", "5"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let rows = read_csv(&csv);
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert_eq!(
            (row["outcome"].as_str(), row["lost"].as_str()),
            ("unfinished", ""),
            "{row:?}"
        );
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_failed_trigger_fails_the_gate() {
    enter_namespace();
    let listener = TcpListener::bind("127.0.0.1:9292").unwrap();
    thread::Builder::new()
        .spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a client");
                stream.read_exact(&mut [0; 20]).expect("a request");
                // Its reader may have had enough.
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            }
        })
        .unwrap();
    let run = |trigger: &str| {
        let output = probe()
            .args(["--target", "127.0.0.1:9292", "-n", "3", "--fail-on-loss"])
            .args(["--trigger", trigger])
            .output()
            .unwrap();
        (output.status.code(), stderr(&output))
    };
    assert_eq!(run("true"), (Some(0), String::new()));
    assert_eq!(
        run("false"),
        (Some(1), "probe: gate failed: a trigger failed\n".to_owned())
    );
}
