//! The life of the server that the probe starts: how it comes up or not, how it is stopped, and that
//! no process of it is left however the probe ends.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests start processes, read what they wrote, and end at the first surprise"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use common::process::{Held, RunningProbe, assert_ended, exists, ruby};
use common::puma::puma;
use common::{enter_namespace, rows, run_json, run_probe_with, stderr, stdout};
use probe::sequence::Sequence;

/// So many connections that the probe is still at work when it is interrupted.
const LONG: &str = "--rate 50 --count 3000 --signal none";

/// Answers on port 9292 and does `on_term` when it is asked to stop, which it does not.
fn stubborn(on_term: &str) -> Vec<String> {
    ruby(&format!(
        "trap(:TERM) {{ {on_term} }}
         server = TCPServer.new('127.0.0.1', 9292)
         loop do
           client = server.accept
           # An interrupted probe closes its connections.
           client.readpartial(4096) && client.write(\"HTTP/1.1 204 No Content\\r\\n\\r\\n\") rescue nil
           client.close
         end"
    ))
}

/// A command of the shell's that leaves its number in `pidfile`.
fn shell(pidfile: &Path, script: &str) -> Vec<String> {
    let script = format!("echo $$ > {}; {script}", pidfile.display());
    ["sh", "-c", &script].map(str::to_owned).to_vec()
}

fn pid_in(file: &Path) -> i64 {
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// What a probe that could not measure must say: one sentence on stderr and nothing on stdout.
fn assert_refused(output: &Output, sentence: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert_eq!(stdout(output), "");
    assert!(stderr(output).contains(sentence), "{}", stderr(output));
}

#[test]
#[ignore = "needs root, netns"]
fn a_command_that_dies_before_it_listens_shows_its_last_lines() {
    enter_namespace();
    let command = [
        "sh",
        "-c",
        "echo no such config; echo giving up >&2; exit 3",
    ];
    let output = run_probe_with("", &command.map(str::to_owned));
    assert_refused(
        &output,
        "the command ended (exit status 3) before it listened",
    );
    assert!(
        stderr(&output).contains("    no such config\n    giving up"),
        "{}",
        stderr(&output)
    );
}

#[test]
#[ignore = "needs root, netns"]
fn a_command_that_never_listens_is_given_up_and_killed() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let pidfile = folder.path().join("pid");
    let output = run_probe_with("--start-timeout 500ms", &shell(&pidfile, "exec sleep 1000"));
    assert_refused(&output, "did not listen on any port within 500ms");
    assert!(!exists(pid_in(&pidfile)));
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn of_two_ports_the_user_must_choose_one() {
    enter_namespace();
    let two = "a, b = [9292, 9293].map { TCPServer.new('127.0.0.1', _1) }
               loop do
                 client = b.accept
                 client.readpartial(4096)
                 client.write(\"HTTP/1.1 204 No Content\\r\\n\\r\\n\")
                 client.close
               end";
    let output = run_probe_with("", &ruby(two));
    assert_refused(
        &output,
        "listens on 127.0.0.1:9292 and 127.0.0.1:9293; say which with --target",
    );
    let options = "--target 127.0.0.1:9293 --count 3 --signal none --format csv";
    let output = run_probe_with(options, &ruby(two));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = rows(&output.stdout);
    assert_eq!(rows.len(), 3);
    assert!(
        rows.iter().all(|row| row["outcome"] == "served"),
        "{rows:?}"
    );
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_daemon_is_advised_against_and_not_left_behind() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let pidfile = folder.path().join("pid");
    // In a session of its own, as daemons are.
    let script = format!(
        "setsid ruby -rsocket -e 'TCPServer.new(9292); sleep' & echo $! > {}",
        pidfile.display()
    );
    let output = run_probe_with("", &["sh", "-c", &script].map(str::to_owned));
    assert_refused(
        &output,
        "if it became a daemon, have it stay in the foreground",
    );
    assert!(!exists(pid_in(&pidfile)));
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_server_that_ignores_term_is_killed_and_that_is_recorded() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let options = format!("--stop-timeout 300ms --out {}", out.display());
    let output = run_probe_with(&options, &stubborn(""));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = run_json(&out);
    let server = &run["server"];
    assert_eq!(server["status"], "killed by SIGKILL");
    let killed = server["killed_unix_ns"].as_i64().unwrap();
    let asked = run["triggers"][0]["at_unix_ns"].as_i64().unwrap();
    let patience = Duration::from_millis(300).as_nanos();
    assert!(u128::try_from(killed - asked).unwrap() >= patience);
    assert!(
        stdout(&output).contains("and was killed"),
        "{}",
        stdout(&output)
    );
    assert!(!exists(server["pid"].as_i64().unwrap()));
}

#[test]
#[ignore = "needs root, netns, puma"]
fn an_interrupted_probe_writes_what_it_saw_and_leaves_no_process() {
    enter_namespace();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut probe = RunningProbe::start(LONG, &puma("sleepy"));
        probe.wait_for_row();
        let server = probe.hold_server();
        assert_eq!(server.len(), 3);
        probe.signal(signal);
        let ended = probe.end();
        assert_eq!(ended.code, Some(code));
        assert_ended(&server);
        // The rows are whole, and those under way are there as well.
        assert!(!ended.rows.is_empty());
        for row in &ended.rows {
            assert!(row["sequence"].parse::<Sequence>().is_ok(), "{row:?}");
        }
    }
}

#[test]
#[ignore = "needs root, netns, ruby"]
fn a_second_interrupt_ends_the_probe_at_once_and_kills_the_server() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    mkfifo(&asked, Mode::S_IRWXU).unwrap();
    // Without the second interrupt the probe would wait for an hour.
    let options = format!("{LONG} --stop-timeout 3600s");
    let on_term = format!("File.write('{}', \"asked\\n\")", asked.display());
    let mut probe = RunningProbe::start(&options, &stubborn(&on_term));
    probe.wait_for_row();
    let server = probe.hold_server();
    assert_eq!(server.len(), 1);
    probe.signal(Signal::SIGINT);
    // The server tells us that it was asked to stop: the first interrupt has done its work.
    let mut line = String::new();
    let fifo = fs::File::open(&asked).unwrap();
    BufReader::new(fifo).read_line(&mut line).unwrap();
    assert_eq!(line, "asked\n");
    probe.signal(Signal::SIGINT);
    assert_eq!(probe.end().code, Some(130));
    // Its end follows the signal that the probe sent last of all.
    server.iter().for_each(Held::wait);
}

#[test]
#[ignore = "needs root, netns, puma"]
fn a_killed_probe_takes_the_server_along() {
    enter_namespace();
    let mut probe = RunningProbe::start(LONG, &puma("sleepy"));
    probe.wait_for_row();
    let server = probe.hold_server();
    assert_eq!(server.len(), 3);
    probe.signal(Signal::SIGKILL);
    assert_eq!(probe.end().code, None);
    // The kernel kills the master with its parent; the workers see their pipe to it close.
    server.iter().for_each(Held::wait);
}
