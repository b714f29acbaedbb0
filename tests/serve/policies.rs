//! Each policy against the servers it is a model of: 100 connections 4 ms apart, TERM half-way, to
//! the master alone and to the whole tree.

use nix::sys::signal::Signal;

use crate::common::Row;
use crate::common::enter_namespace;
use crate::common::prefork::{CLOCKS, Client, Measured, REQUEST, Serving, measure, opened, time};

/// 100 connections 4 ms apart, TERM half-way. Two workers that take 20 ms each, as they do unless
/// told otherwise, fall behind: half of what has come by then is still queued.
const LOAD: &str = "--count 100 --rate 250 --signal TERM@50";

/// Runs of which the median is taken.
const RUNS: usize = 10;

/// Both ways of stopping a server, each held against the server's log.
fn stop_both_ways(options: &str, serve_options: &str) -> [Measured; 2] {
    ["", "--signal-tree"].map(|whom| stop(&format!("{options} {whom}"), serve_options))
}

fn stop(options: &str, serve_options: &str) -> Measured {
    let measured = measure(options, serve_options);
    assert_eq!(measured.rows.len(), 100);
    measured.agrees();
    measured
}

fn opened_after(measured: &Measured, at: i64) -> impl Iterator<Item = &Row> {
    let rows = measured.rows.iter();
    rows.filter(move |row| opened(row) > at)
}

/// Asserts that connections were reset in the queue, all at the last close of the listener.
fn assert_queue_reset(measured: &Measured) {
    let reset = measured.of("reset_empty");
    // Some 50 had come and 20 were served.
    assert!(reset.len() >= 10, "{:?}", measured.run["summary"]);
    let last_answer = measured.log.last("answered").at;
    let last_close = measured.log.last("listener_closed").at;
    for row in reset {
        assert!(measured.event("accepted", row).is_none(), "{row:?}");
        let end = time(row, "end_us");
        assert!(end > last_answer - CLOCKS, "{row:?} {:?}", measured.log);
        assert!(end < last_close + CLOCKS, "{row:?} {:?}", measured.log);
    }
}

/// Asserts that whoever came after the last close of the listener was refused, and nobody else.
fn assert_refused_once_closed(measured: &Measured) {
    let last_close = measured.log.last("listener_closed").at;
    let mut late = opened_after(measured, last_close + CLOCKS);
    assert!(late.all(|row| row["outcome"] == "refused"));
    assert!(measured.count("refused") > 0);
}

#[test]
#[ignore = "needs root, netns"]
fn hang_hangs_every_connection_after_the_signal() {
    enter_namespace();
    let options = format!("{LOAD} --timeout 1s --stop-timeout 10ms");
    for measured in stop_both_ways(&options, "--policy hang") {
        let signalled = measured.signalled();
        let mut late = opened_after(&measured, signalled);
        assert!(late.all(|row| row["outcome"] == "hung"));
        // Of those before it the workers served some, and finished what they were at.
        assert!(measured.count("served") >= 10, "{:?}", measured.run);
        assert!(measured.count("hung") > 50, "{:?}", measured.run);
        assert_eq!(measured.count("served") + measured.count("hung"), 100);
        // Both workers have ended, and the master had to be killed.
        assert_eq!(measured.log.count("exit"), 2);
        assert_eq!(measured.run["server"]["status"], "killed by SIGKILL");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_hanging_master_holds_the_queue_until_it_is_interrupted() {
    enter_namespace();
    let mut server = Serving::start("--policy hang");
    server.signal(Signal::SIGTERM);
    server.wait_for("reaped", 2);
    let queued: Vec<Client> = (0..5)
        .map(|_| Client::asking(server.address(), REQUEST))
        .collect();
    server.port().wait_for_queued(5);
    server.port().wait_for_requests(5);
    // A second TERM changes nothing: it is INT that ends it.
    server.signal(Signal::SIGTERM);
    server.signal(Signal::SIGINT);
    let ended = server.end();
    assert_eq!(ended.code, Some(130));
    assert_eq!(ended.log.count("listener_closed"), 3);
    assert_eq!(ended.log.last("listener_closed").pid, ended.log.master());
    for client in queued {
        let error = client.answer().expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn leave_open_resets_the_queue_when_the_master_closes_last() {
    enter_namespace();
    for measured in stop_both_ways(LOAD, "--policy leave-open") {
        assert_queue_reset(&measured);
        assert_refused_once_closed(&measured);
        let closed = measured.log.of("listener_closed");
        assert_eq!(closed.len(), 3);
        assert_eq!(closed[2].pid, measured.log.master());
        // It waits for its workers' ends before.
        let reaped = measured.log.last("reaped").at;
        for row in measured.of("reset_empty") {
            assert!(time(row, "end_us") > reaped - CLOCKS, "{row:?}");
        }
    }
}

#[test]
#[ignore = "needs root, netns"]
fn close_resets_the_queue_when_the_last_worker_closes() {
    enter_namespace();
    let runs = stop_both_ways(LOAD, "--policy close");
    for measured in &runs {
        assert_queue_reset(measured);
        assert_refused_once_closed(measured);
        assert_eq!(measured.log.count("listener_closed"), 3);
    }
    // Who is signalled by way of the master can only close after it.
    let [by_master, _] = &runs;
    let closed = by_master.log.of("listener_closed");
    assert_eq!(closed[0].pid, by_master.log.master());
}

#[test]
#[ignore = "needs root, netns"]
fn between_the_masters_close_and_the_last_workers_connections_are_still_taken_and_reset() {
    enter_namespace();
    // The one worker serves its first client for 300 ms, of which 100 are left after the signal.
    let measured = stop(LOAD, "--policy close --workers 1 --service-time 300ms");
    let closed = measured.log.of("listener_closed");
    assert_eq!(closed.len(), 2);
    assert_eq!(closed[0].pid, measured.log.master());
    let answered = measured.log.first("answered").at;
    let between: Vec<&Row> = opened_after(&measured, closed[0].at)
        .filter(|row| opened(row) < answered - CLOCKS)
        .collect();
    assert!(between.len() >= 10, "{}", between.len());
    for row in between {
        assert_eq!(row["outcome"], "reset_empty", "{row:?}");
    }
    assert_eq!(measured.count("served"), 1);
    assert_queue_reset(&measured);
    assert_refused_once_closed(&measured);
}

#[test]
#[ignore = "needs root, netns"]
fn quick_closes_those_being_served_and_resets_those_queued() {
    enter_namespace();
    for measured in stop_both_ways(LOAD, "--policy quick") {
        // One thread in each worker, and both had work.
        assert_eq!(measured.count("closed_empty"), 2, "{:?}", measured.run);
        for row in measured.of("closed_empty") {
            assert!(measured.event("read", row).is_some(), "{row:?}");
        }
        assert!(measured.count("reset_empty") >= 10, "{:?}", measured.run);
        for row in measured.of("reset_empty") {
            assert!(measured.event("accepted", row).is_none());
        }
        let exit = measured.log.last("exit");
        assert_eq!(exit.pid, measured.log.master());
        let mut late = opened_after(&measured, exit.at + CLOCKS);
        assert!(late.all(|row| row["outcome"] == "refused"));
    }
}

#[test]
#[ignore = "needs root, netns"]
fn drain_serves_what_is_queued() {
    enter_namespace();
    // Of connections that come faster than they are served the queue is never empty.
    for measured in stop_both_ways(LOAD, "--policy drain") {
        assert!(measured.lost() <= 1, "{:?}", measured.run);
        assert!(measured.count("served") > 50, "{:?}", measured.run);
        assert_eq!(measured.log.count("term"), 3);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn drain_loses_next_to_nothing_where_the_queue_is_never_empty() {
    enter_namespace();
    assert_loses_next_to_nothing("--policy drain");
}

#[test]
#[ignore = "needs root, netns"]
fn drain_loses_next_to_nothing_where_the_queue_does_get_empty() {
    enter_namespace();
    let runs = assert_loses_next_to_nothing("--policy drain --service-time 2ms");
    // It ends while clients still come, unless the machine is so busy that they come in heaps.
    let ended = runs.iter().filter(|measured| measured.count("refused") > 0);
    assert!(ended.count() >= RUNS / 2);
}

/// A connection that comes between the last look at the queue and the last close is reset, which
/// happens to one of 100 now and then.
fn assert_loses_next_to_nothing(serve_options: &str) -> Vec<Measured> {
    let runs: Vec<Measured> = (0..RUNS).map(|_| stop(LOAD, serve_options)).collect();
    let mut lost: Vec<usize> = runs.iter().map(Measured::lost).collect();
    lost.sort_unstable();
    assert!(lost[RUNS / 2] <= 1, "{lost:?}");
    runs
}

#[test]
#[ignore = "needs root, netns"]
fn filter_drain_loses_none_and_has_the_others_refused() {
    enter_namespace();
    for measured in stop_both_ways(LOAD, "--policy filter-drain") {
        assert_eq!(measured.lost(), 0, "{:?}", measured.run["summary"]);
        assert_eq!(measured.log.count("filter_on"), 2);
        // Whoever came behind the filter sent its SYN again until nobody listened; those that were
        // opened after that met no filter.
        let closed = measured.log.last("listener_closed").at;
        let refused = measured.of("refused");
        let mut filtered = refused.iter().filter(|row| opened(row) < closed - CLOCKS);
        assert!(filtered.clone().count() > 0, "{:?}", measured.run);
        assert!(filtered.all(|row| row["syn_retransmits"] != "0"));
    }
}

#[test]
#[ignore = "needs root, netns"]
fn filter_drain_loses_none_of_2000_a_second() {
    enter_namespace();
    // Idle workers, workers that just keep up, and workers that fall behind.
    for service in ["0ms", "1ms", "3ms"] {
        let measured = measure(
            "--count 1200 --rate 2000 --signal TERM@600",
            &format!("--policy filter-drain --service-time {service}"),
        );
        let summary = &measured.run["summary"];
        assert_eq!(measured.lost(), 0, "{service}: {summary}");
        let [served, refused] = ["served", "refused"].map(|outcome| measured.count(outcome));
        assert!(served >= 500 && refused > 0, "{service}: {summary}");
        assert_eq!(served + refused, 1200, "{service}: {summary}");
        assert_eq!(measured.log.count("gave_up"), 0);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn filter_drain_serves_a_long_queue_to_its_end() {
    enter_namespace();
    // Longer than it waits for handshakes, which is 10 s.
    let measured = measure(
        "--count 110 --concurrency 110 --signal TERM@110 --timeout 30s",
        "--policy filter-drain --workers 1 --service-time 100ms",
    );
    assert_eq!(measured.lost(), 0, "{:?}", measured.run["summary"]);
    let closed = measured.log.last("listener_closed").at;
    let stopping = closed - measured.log.first("filter_on").at;
    assert!(stopping > 10_000_000_000, "{stopping} ns");
    assert_eq!(measured.log.count("gave_up"), 0);
}
