//! What the first request does to the server.

use nix::sys::signal::{Signal, kill};

use crate::common::enter_namespace;
use crate::common::prefork::{Client, REQUEST, Serving, measure};

#[test]
#[ignore = "needs root, netns"]
fn a_worker_that_kills_itself_costs_its_client_alone() {
    enter_namespace();
    let measured = measure(
        // One after the other: of a burst a worker accepts more than it serves.
        "--count 20 --rate 250 --signal none",
        "--first-request kill-self --service-time 2ms",
    );
    measured.agrees();
    let fatal = measured.log.first("read");
    let row = measured.row(fatal);
    assert_eq!(row["outcome"], "closed_empty", "{row:?}");
    assert_eq!(measured.count("served"), 19, "{:?}", measured.run);
    // It is reaped and replaced, in its own place.
    let reaped = measured.log.first("reaped");
    assert_eq!(reaped.subject::<i32>(), fatal.pid.as_raw());
    assert_eq!(reaped.value("signal"), "SIGKILL");
    let booted = measured.log.of("booted");
    assert_eq!(booted.len(), 3, "{:?}", measured.log);
    let dead = booted.iter().find(|event| event.pid == fatal.pid);
    let place = dead.map(|event| event.value("worker"));
    assert_eq!(place, Some(booted[2].value("worker")));
}

#[test]
#[ignore = "needs root, netns"]
fn the_first_request_can_have_the_server_stopped() {
    enter_namespace();
    for first in ["term-master", "term-all"] {
        // All come while the first is served, and few so close to it that the other worker could
        // take them before it is told.
        let measured = measure(
            "--count 10 --rate 100 --signal none",
            &format!("--first-request {first} --service-time 200ms"),
        );
        measured.agrees();
        // Each process is told once, and the workers finish what they are at.
        assert_eq!(measured.log.count("term"), 3, "{:?}", measured.log);
        let asked = measured.log.first("read");
        assert_eq!(measured.row(asked)["outcome"], "served");
        assert!(measured.count("reset_empty") >= 5, "{:?}", measured.run);
        assert_eq!(measured.run["server"]["status"], "exit status 0");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn term_master_reaches_workers_by_way_of_the_master() {
    enter_namespace();
    let server = Serving::start("--first-request term-master");
    Client::asking(server.address(), REQUEST).gets(200);
    let ended = server.end();
    assert_eq!(ended.code, Some(0));
    let term = ended.log.of("term");
    assert_eq!(term.len(), 3);
    assert_eq!(term[0].pid, ended.log.master());
}

#[test]
#[ignore = "needs root, netns"]
fn term_all_reaches_workers_even_while_the_master_cannot_run() {
    enter_namespace();
    let mut server = Serving::start("--first-request term-all");
    server.signal(Signal::SIGSTOP);
    Client::asking(server.address(), REQUEST).gets(200);
    server.wait_for("term", 2);
    server.wait_for("exit", 2);
    assert!(
        server
            .log()
            .of("term")
            .iter()
            .all(|e| e.pid != server.master())
    );
    kill(server.master(), Signal::SIGCONT).expect("the master is there");
    let ended = server.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.log.last("term").pid, ended.log.master());
}
