//! Servers that serve, stop and are killed, through both engines at once: whoever's TCP makes a
//! connection, the same becomes of it, by its number. What may differ in its packets, and nothing but
//! that, is set aside by [`essence`]. Fates one by one go through both in tests/fates.
//!
//! Connections come evenly spaced, some 400 ms apart, and what else happens falls between two of them
//! or makes no difference where it falls: it is certain which are being served at the signal, which
//! are queued and which come after.

mod common;

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::thread;

use common::fate::{Vantage, essence, probe_rows};
use common::kernel::Port;
use common::nginx::Nginx;
use common::prefork::Serving;
use common::process::OwnServer;
use common::slow::Slow;
use common::{Row, enter_namespace};

/// Where servers listen, each in a namespace of its own.
const PORT: u16 = 8088;

/// Every process at once.
const KILL: &str = "--signal-tree --signal KILL";

/// A run without a stop: three at a time, so that some wait for a worker.
const UNSTOPPED: &str = "--count 12 --concurrency 3";

/// Has both engines make the connections of `run`, each to a server of its own, holds what became of
/// each connection through the one against the other, and returns the outcomes.
fn through_both<const RUNS: usize>(
    run: impl Fn(Vantage) -> [Vec<Row>; RUNS] + Sync,
) -> [Vec<String>; RUNS] {
    let run = &run;
    let [sockets, raw] = thread::scope(|scope| {
        let engines = [Vantage::Wire, Vantage::Raw].map(|engine| {
            let thread = thread::Builder::new().name(format!("{engine:?}"));
            let in_namespace = move || {
                enter_namespace();
                run(engine)
            };
            thread.spawn_scoped(scope, in_namespace).expect("a thread")
        });
        engines.map(|engine| engine.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let told = |rows: &Row| (rows["outcome"].clone(), essence(rows));
    let mut outcomes = [const { Vec::new() }; RUNS];
    for (of_run, (sockets, raw)) in outcomes.iter_mut().zip(sockets.into_iter().zip(raw)) {
        assert_eq!(sockets.len(), raw.len());
        for (socket, raw) in sockets.iter().zip(&raw) {
            assert_eq!(told(socket), told(raw), "{socket:?}\n{raw:?}");
            of_run.push(socket["outcome"].clone());
        }
    }
    outcomes
}

/// The rows of a run against what listens on `address`, in the order in which they were opened.
fn opened(address: SocketAddr, engine: Vantage, options: &str) -> Vec<Row> {
    let mut rows = probe_rows(address, engine, options);
    rows.sort_by_key(|row| row["conn"].parse::<u64>().expect("a number"));
    rows
}

/// What becomes of the connections of `load`, by which a server is stopped that has served some before.
fn stopped(start: fn(u16) -> Slow, load: &str) -> Vec<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], PORT));
    let [unstopped, outcomes] = through_both(|engine| {
        let server = start(PORT);
        let unstopped = opened(address, engine, UNSTOPPED);
        let options = format!("{load} --pid {}", server.pid());
        [unstopped, opened(address, engine, &options)]
    });
    assert_eq!(unstopped, ["served"; 12]);
    outcomes
}

/// Each worker waits for its thread when the signal comes, takes one more connection once it has it,
/// and then closes its listener: the third and the fourth are served, the fifth is reset in the queue.
#[test]
#[ignore = "needs root, netns, puma"]
fn both_engines_tell_pumas_stop_alike() {
    let outcomes = stopped(
        Slow::puma,
        "--rate 2.5 --count 6 --path /1400 --signal TERM@1s",
    );
    let served = ["served"; 4];
    assert_eq!(
        outcomes,
        [&served[..], &["reset_empty", "refused"]].concat()
    );
}

#[test]
#[ignore = "needs root, netns, puma"]
fn both_engines_tell_pumas_end_alike() {
    let load = format!("--rate 2.5 --count 4 --path /9000 {KILL}@1s");
    let lost = ["closed_empty", "closed_empty", "reset_empty", "refused"];
    assert_eq!(stopped(Slow::puma, &load), lost);
}

/// Nobody closes a worker's listener before its interpreter is gone, which takes a while: more time is
/// left behind the second's answer than before it.
#[test]
#[ignore = "needs root, netns, gunicorn"]
fn both_engines_tell_gunicorns_stop_alike() {
    let outcomes = stopped(
        Slow::gunicorn,
        "--rate 1.6 --count 5 --path /1400 --signal TERM@930ms",
    );
    let served = ["served", "served"];
    let lost = ["reset_empty", "reset_empty", "refused"];
    assert_eq!(outcomes, [&served[..], &lost].concat());
}

#[test]
#[ignore = "needs root, netns, gunicorn"]
fn both_engines_tell_gunicorns_end_alike() {
    let load = format!("--rate 2.5 --count 4 --path /9000 {KILL}@1s");
    let lost = ["closed_empty", "closed_empty", "reset_empty", "refused"];
    assert_eq!(stopped(Slow::gunicorn, &load), lost);
}

/// It takes connections at once whatever it is at: none is ever queued.
#[test]
#[ignore = "needs root, netns, nginx"]
fn both_engines_tell_nginxs_stops_alike() {
    let address = SocketAddr::from(([127, 0, 0, 1], PORT));
    for (stop, second) in [
        ("--signal QUIT", "served"),
        ("--signal TERM", "closed_empty"),
        (KILL, "closed_empty"),
    ] {
        let [unstopped, outcomes] = through_both(|engine| {
            let nginx = Nginx::on(address, 0);
            let server = OwnServer::listening(&nginx.command(), Port(PORT));
            let unstopped = opened(address, engine, UNSTOPPED);
            let options = format!(
                "--rate 2.5 --count 3 --path /slow {stop}@600ms --pid {}",
                server.pid()
            );
            [unstopped, opened(address, engine, &options)]
        });
        assert_eq!(unstopped, ["served"; 12]);
        assert_eq!(outcomes, ["served", second, "refused"], "{stop}");
    }
}

/// One worker, which takes `service_ms` a request, of `probe serve`.
fn serving(policy: &str, service_ms: u32, load: &str) -> Vec<String> {
    let [outcomes] = through_both(|engine| {
        let server = Serving::start(&format!(
            "--policy {policy} --workers 1 --service-time {service_ms}ms"
        ));
        let options = format!("{load} --pid {}", server.master());
        [opened(server.address(), engine, &options)]
    });
    outcomes
}

/// The first is being served and the second queued when the signal comes, the third and the fourth
/// come after it.
const FOUR: &str = "--rate 2.5 --count 4 --signal TERM@600ms";

#[test]
#[ignore = "needs root, netns"]
fn both_engines_tell_what_is_served_alike_whatever_the_policy() {
    for policy in [
        "hang",
        "leave-open",
        "close",
        "quick",
        "drain",
        "filter-drain",
    ] {
        assert_eq!(serving(policy, 5, UNSTOPPED), ["served"; 12], "{policy}");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn both_engines_tell_a_server_that_hangs_alike() {
    let load = format!("{FOUR} --timeout 1300ms");
    assert_eq!(
        serving("hang", 1000, &load),
        ["served", "hung", "hung", "hung"]
    );
}

#[test]
#[ignore = "needs root, netns"]
fn both_engines_tell_a_queue_that_is_reset_alike() {
    for policy in ["leave-open", "close"] {
        assert_eq!(
            serving(policy, 1000, FOUR),
            ["served", "reset_empty", "reset_empty", "refused"],
            "{policy}"
        );
    }
}

/// Killed, policies do not differ.
#[test]
#[ignore = "needs root, netns"]
fn both_engines_tell_a_server_that_ends_at_once_alike() {
    let killed = FOUR.replace("--signal TERM", KILL);
    for (policy, load) in [("quick", FOUR), ("close", &killed)] {
        assert_eq!(
            serving(policy, 1000, load),
            ["closed_empty", "reset_empty", "refused", "refused"],
            "{policy}"
        );
    }
}

/// Evenly spaced connections are either never queued or the queue is never empty again. So two idle
/// ones ask at the signal, while the first steady one is being served, and the second steady one
/// comes while they are.
#[test]
#[ignore = "needs root, netns"]
fn both_engines_tell_a_queue_that_is_drained_alike() {
    let load = "--rate 1.25 --count 5 --idle 2 --signal TERM@175ms";
    assert_eq!(
        serving("drain", 350, load),
        ["served", "served", "served", "served", "refused"]
    );
}

/// What comes behind the filter sends its SYN again a second later, as either TCP does, when nobody
/// listens any more.
#[test]
#[ignore = "needs root, netns"]
fn both_engines_tell_a_filtered_listener_alike() {
    assert_eq!(
        serving("filter-drain", 800, FOUR),
        ["served", "served", "refused", "refused"]
    );
}

/// What [`essence`] makes of a sequence.
fn of_sequence(sequence: &str, request_acked: bool) -> String {
    let acked = request_acked.to_string();
    let cells = [
        ("sequence", sequence),
        ("request_acked", &acked),
        ("request_bytes", "9"),
    ];
    essence(&cells.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
}

#[test]
fn the_engines_may_differ_in_this() {
    const ASKED: &str = ">S <S. >. >P.(9)";
    for (why, acked, [one, other]) in [
        (
            "acknowledgments are delayed, or are not",
            true,
            ["<. <P.(5) >. <F. >. >F. <.", "<P.(5) <F. >F. <."],
        ),
        (
            "a response is cut into segments",
            true,
            ["<. <P.(2) >. <P.(3) <F. >F. <.", "<. <P.(5) <F. >F. <."],
        ),
        (
            "a FIN that was sent again draws a reset",
            true,
            ["<. <F. >F. <. <F. >R", "<. <F. >F. <."],
        ),
        (
            "our FIN crosses the server's reset",
            true,
            ["<. >F. <R.", "<. <R."],
        ),
        (
            "a request that is not acknowledged is sent again",
            false,
            [">P.(9)x2 >F.", ""],
        ),
    ] {
        let [one, other] = [one, other].map(|rest| format!("{ASKED} {rest}"));
        assert_eq!(
            of_sequence(&one, acked),
            of_sequence(&other, acked),
            "{why}"
        );
    }
}

#[test]
fn the_engines_may_not_differ_in_that() {
    const ASKED: &str = ">S <S. >. >P.(9) <.";
    for [one, other] in [
        ["<P.(5) <F. >F. <.", "<P.(4) <F. >F. <."],
        ["<P.(5) <F. >F. <.", "<P.(5) >F. <F. >."],
        ["<F. >F. <.", "<R."],
        ["<F. >F. <.", "<F. >R."],
        ["<F. >F. <. <R.", "<F. >F. <."],
        ["<P.(5) <F. >F. <.", "<F. >F. <."],
    ] {
        let [one, other] = [one, other].map(|rest| of_sequence(&format!("{ASKED} {rest}"), true));
        assert_ne!(one, other);
    }
}
