//! What the server's kernel says of each connection, held against what the server itself wrote.

use crate::common::prefork::{Measured, measure};
use crate::common::{Row, enter_namespace, verdict};

/// 500 connections, a thousand a second, of which 20 are idle when TERM comes: two workers that take
/// 3 ms each fall behind, so that every kind of end occurs.
const LOAD: &str = "--count 500 --rate 1000 --idle 20 --signal TERM@240 --timeout 1s \
                    --stop-timeout 10ms --observe socket,wire,diag,trace";

/// Each way of stopping is tried so often to the master alone, and so often to the whole tree: with
/// six policies 24 runs.
const ROUNDS: usize = 2;

#[test]
#[ignore = "needs root, netns, tracefs"]
fn the_kernel_says_of_every_connection_what_the_server_wrote() {
    enter_namespace();
    let mut causes = Vec::new();
    for policy in [
        "hang",
        "leave-open",
        "close",
        "quick",
        "drain",
        "filter-drain",
    ] {
        for whom in ["", "--signal-tree"] {
            for _ in 0..ROUNDS {
                let serve = format!("--policy {policy} --service-time 3ms");
                let measured = measure(&format!("{LOAD} {whom}"), &serve);
                assert_eq!(measured.rows.len(), 500, "{:?}", measured.run["summary"]);
                measured.agrees();
                measured.is_known_to_the_kernel();
                causes.extend(measured.rows.into_iter().map(|row| row["cause"].clone()));
            }
        }
    }
    // It was put to the test.
    for cause in ["never_accepted", "accepted_unread", "read_unanswered"] {
        let n = causes.iter().filter(|found| *found == cause).count();
        assert!(n >= 4, "{cause} {n} times");
    }
}

/// The same where one process accepts for several threads, over IPv6.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn the_kernel_says_what_a_server_of_many_threads_wrote_over_ipv6() {
    enter_namespace();
    for policy in ["close", "quick"] {
        let serve = format!(
            "--policy {policy} --service-time 6ms --workers 1 --threads 4 --listen [::1]:0"
        );
        let measured = measure(LOAD, &serve);
        measured.agrees();
        measured.is_known_to_the_kernel();
    }
}

/// Connections that a worker has and never reads from.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn connections_that_sent_nothing_are_known_to_be_unread() {
    enter_namespace();
    let options = "--count 100 --idle 100 --idle-delay 300ms --signal TERM@0 --timeout 1s \
                   --observe socket,wire,diag,trace";
    for policy in ["close", "quick"] {
        let measured = measure(options, &format!("--policy {policy}"));
        measured.agrees();
        measured.is_known_to_the_kernel();
        let unread = |row: &&Row| row["cause"] == "accepted_unread";
        let unread = measured.rows.iter().filter(unread).count();
        assert!(unread > 0, "{:?}", measured.run["summary"]);
    }
}

impl Measured {
    /// Asserts that the kernel's tracepoints told of every connection what the log has.
    pub(crate) fn is_known_to_the_kernel(&self) {
        for row in &self.rows {
            verdict::assert_honest(row);
            self.traces(row).are_known_to_the_kernel(row);
        }
    }
}
