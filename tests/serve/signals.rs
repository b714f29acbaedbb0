//! Signals other than TERM, to the server and to single processes of it: nothing hangs, and nothing
//! is left.
#![expect(
    clippy::disallowed_methods,
    reason = "tests read what the kernel says of processes"
)]

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::prefork::{Client, Log, REQUEST, Serving};
use crate::common::process::{Held, descendants, exists};
use crate::common::{enter_namespace, rows, run_probe};

/// So long that nobody waits for it.
const ENDLESS: &str = "--service-time 1h";

/// The counters of each worker added up.
fn sum(log: &Log, event: &str, key: &str) -> u64 {
    let workers = log.of(event).into_iter();
    let workers = workers.filter(|event| event.pid != log.master());
    workers.map(|event| event.number(key)).sum()
}

#[test]
#[ignore = "needs root, netns"]
fn an_interrupt_ends_everything_at_once() {
    enter_namespace();
    let mut server = Serving::start(ENDLESS);
    let clients: Vec<Client> = (0..5)
        .map(|_| Client::asking(server.address(), REQUEST))
        .collect();
    server.wait_for("read", 2);
    server.port().wait_for_queued(3);
    let served: Vec<_> = server
        .log()
        .of("read")
        .iter()
        .map(|e| e.subject())
        .collect();
    let ended = server.interrupt();
    assert_eq!(ended.code, Some(130));
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.log.count("int"), 3);
    assert_eq!(sum(&ended.log, "exit", "read"), 2);
    assert_eq!(sum(&ended.log, "exit", "answered"), 0);
    for client in clients {
        let was_served = served.contains(&client.address());
        match client.answer() {
            Ok(answer) => assert_eq!((answer.as_str(), was_served), ("", true)),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                assert!(!was_served);
            }
        }
    }
}

#[test]
#[ignore = "needs root, netns"]
fn counters_add_up_to_the_rows() {
    enter_namespace();
    let mut server = Serving::start("--service-time 1ms --workers 3");
    let options = format!("--target {} -n 40 --format csv", server.address());
    let output = run_probe(&options);
    let served = rows(&output.stdout);
    assert!(served.iter().all(|row| row["outcome"] == "served"));
    assert_eq!(served.len(), 40);
    server.signal(Signal::SIGUSR1);
    server.wait_for("counters", 3);
    for key in ["accepted", "read", "answered"] {
        assert_eq!(sum(server.log(), "counters", key), 40, "{key}");
    }
    // It goes on serving, and the counters that it ends with go on counting.
    Client::asking(server.address(), REQUEST).gets(200);
    server.signal(Signal::SIGTERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(sum(&ended.log, "exit", "answered"), 41);
}

#[test]
#[ignore = "needs root, netns"]
fn a_killed_worker_is_replaced_and_leaves_no_zombie() {
    enter_namespace();
    let mut server = Serving::start("");
    let victim = server.workers()[0];
    kill(victim, Signal::SIGKILL).expect("the worker is there");
    server.wait_for("booted", 3);
    let reaped = server.log().first("reaped");
    assert_eq!(reaped.subject::<i32>(), victim.as_raw());
    assert_eq!(reaped.value("signal"), "SIGKILL");
    assert!(!exists(victim.as_raw().into()));
    assert_eq!(descendants(server.master()).len(), 2);
    // Both serve: the other is kept from it.
    let other = server.workers()[1];
    kill(other, Signal::SIGSTOP).expect("the worker is there");
    Client::asking(server.address(), REQUEST).gets(200);
    kill(other, Signal::SIGCONT).expect("the worker is there");
    let ended = server.interrupt();
    assert_eq!(ended.log.count("reaped"), 3);
}

#[test]
#[ignore = "needs root, netns"]
fn a_worker_that_alone_gets_term_is_replaced_and_clients_are_served_again() {
    enter_namespace();
    for policy in [
        "leave-open",
        "hang",
        "close",
        "drain",
        "filter-drain",
        "quick",
    ] {
        let mut server = Serving::start(&format!("--policy {policy}"));
        kill(server.workers()[0], Signal::SIGTERM).expect("the worker is there");
        server.wait_for("booted", 3);
        Client::asking(server.address(), REQUEST).gets(200);
        server.signal(Signal::SIGTERM);
        // With hang the master stays.
        server.wait_for("reaped", 3);
        server.interrupt();
    }
}

#[test]
#[ignore = "needs root, netns"]
fn workers_end_with_their_master_and_the_port_is_free_again() {
    enter_namespace();
    let server = Serving::start(ENDLESS);
    let workers: Vec<Held> = server.workers().into_iter().map(Held::open).collect();
    let busy = Client::asking(server.address(), REQUEST);
    server.port().wait_for_requests(0);
    let address = server.address();
    server.signal(Signal::SIGKILL);
    workers.iter().for_each(Held::wait);
    assert_eq!(server.end().code, None);
    drop(busy);
    let again = Serving::start(&format!("--listen {address}"));
    Client::asking(again.address(), REQUEST).gets(200);
    again.interrupt();
}

#[test]
#[ignore = "needs root, netns"]
fn a_stopped_worker_is_killed_when_the_server_is_to_end_at_once() {
    enter_namespace();
    for (signal, policy, code) in [
        (Signal::SIGINT, "close", 130),
        (Signal::SIGTERM, "quick", 0),
    ] {
        let server = Serving::start(&format!("--policy {policy}"));
        let stopped = server.workers()[0];
        kill(stopped, Signal::SIGSTOP).expect("the worker is there");
        server.signal(signal);
        let ended = server.end();
        assert_eq!(ended.code, Some(code), "{policy}");
        let mut reaped = ended.log.of("reaped").into_iter();
        let killed = reaped.find(|event| event.subject::<i32>() == stopped.as_raw());
        assert_eq!(killed.expect("it is reaped").value("signal"), "SIGKILL");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn an_interrupt_ends_a_stop_that_does_not() {
    enter_namespace();
    // Serving for an hour keeps every patient policy from its end.
    for policy in ["leave-open", "hang", "close", "drain", "filter-drain"] {
        let mut server = Serving::start(&format!("{ENDLESS} --policy {policy}"));
        let _busy = Client::asking(server.address(), REQUEST);
        server.wait_for("read", 1);
        server.signal(Signal::SIGTERM);
        server.wait_for("term", 3);
        let ended = server.interrupt();
        assert_eq!(ended.code, Some(130), "{policy}");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_server_in_the_background_heeds_the_interrupt_that_its_shell_had_it_ignore() {
    enter_namespace();
    let server = Serving::by_shell("\"$@\" & wait $!", "");
    let started_by = status(server.master(), "PPid").parse::<i32>();
    // What a shell that is not interactive starts in the background ignores INT and QUIT.
    let ignored = u64::from_str_radix(&status(server.master(), "SigIgn"), 16).expect("a mask");
    assert_ne!(ignored & (1 << (Signal::SIGQUIT as u32 - 1)), 0);
    assert!(started_by.is_ok_and(|pid| exists(pid.into())));
    let ended = server.interrupt();
    assert_eq!(ended.log.count("int"), 3);
    assert_eq!(ended.code, Some(130));
}

/// A line of /proc/PID/status.
fn status(pid: Pid, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let mut lines = text.lines().filter_map(|line| line.split_once(":\t"));
    let found = lines.find(|(name, _)| *name == key);
    found.expect("a line of that name").1.trim().to_owned()
}
