//! Two clocks put on one: packets are stamped by the wall clock, tracepoints by the monotonic one, and
//! what must follow each other does so in every row.
#![expect(clippy::panic, reason = "tests end at the first surprise")]

mod common;

use common::enter_namespace;
use common::prefork::{Measured, measure};

/// Some thousand connections, as fast as four workers take them.
const LOAD: &str = "--count 4000 --concurrency 32 --signal none --observe socket,wire,diag,trace";

/// What happens to a connection that is served, in its order. The request may come before or after
/// accept(); the kernel's own SYN-ACK precedes both.
const ORDERS: [&[&str]; 2] = [
    &["syn_ack_us", "request_us", "read_us", "first_byte_us"],
    &["syn_ack_us", "accepted_us", "read_us", "first_byte_us"],
];

fn every_connection_is_in_order(host: &str) {
    enter_namespace();
    let serve = format!("--listen {host}:0 --workers 4 --service-time 0ms");
    let Measured { rows, run, .. } = measure(LOAD, &serve);
    assert_eq!(rows.len(), 4000);
    let seen = run["vantages"].to_string();
    for row in &rows {
        assert_eq!(row["outcome"], "served", "{row:?}");
        for order in ORDERS {
            let at = |column: &&str| -> f64 {
                let cell = &row[*column];
                cell.parse()
                    .unwrap_or_else(|_| panic!("{column} is `{cell}`: {row:?}, {seen}"))
            };
            let times: Vec<f64> = order.iter().map(at).collect();
            assert!(times.is_sorted(), "{order:?} {times:?}: {row:?}");
        }
    }
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn the_syn_ack_the_read_and_the_response_come_in_this_order() {
    every_connection_is_in_order("127.0.0.1");
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn the_syn_ack_the_read_and_the_response_come_in_this_order_over_ipv6() {
    every_connection_is_in_order("[::1]");
}
