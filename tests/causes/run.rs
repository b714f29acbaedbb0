//! Runs of the probe against a fate: by all vantages over IPv4 and IPv6, and by fewer over one of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::common::fate_server::{Bell, CONNECTIONS, Connection, LOOPBACKS, Listener, Server};
use crate::common::prefork::peer;
use crate::common::process::wait_for_rounds;
use crate::common::{self, Row, enter_namespace, stderr, verdict};
use crate::expectation::{Expectation, Pids};
use crate::tables::{DIAG, EVERYTHING, TRACE};

/// Who connects and what is observed, and the table that must be met.
struct Set {
    options: &'static str,
    table: &'static str,
    /// Without sock_diag nobody else says whose the listener is.
    by_pid: bool,
    hosts: &'static [&'static str],
}

const SETS: [Set; 4] = [
    Set {
        options: "--observe auto",
        table: EVERYTHING,
        by_pid: false,
        hosts: &LOOPBACKS,
    },
    Set {
        options: "--observe socket,wire,trace",
        table: TRACE,
        by_pid: true,
        hosts: &["::1"],
    },
    Set {
        options: "--observe socket,wire,diag",
        table: DIAG,
        by_pid: false,
        hosts: &["127.0.0.1"],
    },
    // The server's kernel proves the same whoever's TCP its client is. Its packets over IPv6 are held
    // by tests/fates.
    Set {
        options: "--engine raw --observe auto",
        table: EVERYTHING,
        by_pid: false,
        hosts: &["127.0.0.1"],
    },
];

/// Options of a run of nothing but idle connections, which send nothing before the server is done
/// with them; the bell rings once all are connected.
pub(crate) fn idle(bell: &Bell) -> String {
    let ring = bell.command();
    format!("--count 5 --idle 5 --idle-delay 1h --trigger-at 0 --trigger {ring}")
}

/// Rounds of the probe's polling after which it has seen whatever holds still: it asks for listeners
/// every round, and for connections every few rounds, so that this is plenty.
const ROUNDS: u64 = 100;

/// A namespace of the test's own, and this process to itself: a process being started has a copy of
/// every file of ours until it calls exec(), and would close a listener last.
pub(crate) struct Alone {
    _turn: MutexGuard<'static, ()>,
}

impl Alone {
    /// Waits for the tests before.
    pub(crate) fn enter() -> Alone {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        enter_namespace();
        Alone { _turn: turn }
    }

    /// Has `start` carry out `fate`, once for each set of vantages on each loopback, and holds every
    /// row against the set's table. Where there are idle connections, they are what is looked at.
    pub(crate) fn meets(&self, fate: &str, options: &str, start: impl Fn(&str) -> Server) {
        for set in &SETS {
            let by = set.options;
            for host in set.hosts {
                let server = start(host);
                let target = server.address().to_string();
                let mut command = common::probe();
                command
                    .args(["--target", &target])
                    .args(set.options.split_whitespace())
                    .args(["--format", "csv"])
                    .args(options.split_whitespace());
                if !options.contains("--count") {
                    command.args(["--count", &CONNECTIONS.to_string()]);
                }
                if set.by_pid && server.is_at_work() {
                    command.args(["--pid", &std::process::id().to_string()]);
                }
                let output = command.output().expect("the probe starts");
                let said = stderr(&output);
                assert_eq!(output.status.code(), Some(0), "{fate} by {by}: {said}");
                let notes = server.finish();
                let rows = cohort(common::rows(&output.stdout), options);
                assert_eq!(rows.len(), CONNECTIONS, "{fate} by {by}: {said}");
                let pids = Pids {
                    server: std::process::id(),
                    others: &notes.others,
                };
                for row in &rows {
                    let singled_out = notes.singled_out.iter().find(|(who, _)| *who == peer(row));
                    let fate = singled_out.map_or(fate, |(_, fate)| fate);
                    verdict::assert_honest(row);
                    Expectation::of(fate, set.table).is_met_by(row, pids, by);
                }
            }
        }
    }
}

/// The rows that a test is about.
fn cohort(rows: Vec<Row>, options: &str) -> Vec<Row> {
    let only_idle = options.contains("--idle");
    rows.into_iter()
        .filter(|row| !only_idle || row["cohort"] == "idle")
        .collect()
}

/// Accepts all connections once they are there: of an accept() that was under way before the probe
/// began, tracepoints show the return and not whose listener it was.
pub(crate) fn accept_all(listener: &Listener) -> Vec<Connection> {
    listener.port().wait_for_queued(CONNECTIONS);
    (0..CONNECTIONS).map(|_| listener.accept()).collect()
}

/// Holds everything still until sock_diag must have shown it to the probe.
pub(crate) fn let_the_probe_look() {
    wait_for_rounds("probe", "probe-diag", ROUNDS);
}
