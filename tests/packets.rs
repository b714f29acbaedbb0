//! The probe's sequences against a capture of the same packets: whatever a server does, every
//! connection must read the same in connections.csv as tshark tells it from tcpdump's file.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests start processes, read what they wrote, and end at the first surprise"
)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use common::namespace::Namespace;
use common::nginx::Nginx;
use common::puma::puma;
use common::tshark::{Capture, CapturedFlow, CapturedSegment};

use common::{Row, enter_namespace, nft, one_processor, probe, read_csv, run_json, stderr};

/// A flow's SYN lies so near to what its row says, or it is another flow's.
const SAME_SYN_NS: i64 = 1_000_000;

/// How often each outcome occurred.
type Outcomes = BTreeMap<String, usize>;

/// One run as both saw it.
struct Both {
    rows: Vec<Row>,
    events: Vec<Row>,
    run: serde_json::Value,
    captured: Vec<CapturedFlow>,
}

/// Runs the probe, and tcpdump beside it on the same interface.
fn watch_both(interface: &str, server: SocketAddr, options: &str, command: &[String]) -> Both {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let capture = Capture::start(interface);
    let mut probe = probe();
    probe
        .args(["--target", &server.to_string()])
        .args(options.split_whitespace())
        .arg("--out")
        .arg(&out);
    if !command.is_empty() {
        probe.arg("--").args(command);
    }
    let output = probe.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let captured = capture.finish(server);
    Both {
        rows: read_csv(&out.join("connections.csv")),
        events: read_csv(&out.join("events.csv")),
        run: run_json(&out),
        captured,
    }
}

impl Both {
    /// Both must tell every connection alike, segment by segment in order. That holds on one
    /// processor only: see [`one_processor`].
    fn assert_equal(self) -> Outcomes {
        let mut differences = Vec::new();
        let outcomes = self.compare(|row, _, flow| {
            if row["sequence"] != flow.sequence().to_string() {
                differences.push(format!(
                    "connection {} ({})\n  probe  {}\n  tshark {}",
                    row["conn"],
                    row["outcome"],
                    row["sequence"],
                    flow.sequence()
                ));
            }
        });
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        outcomes
    }

    /// Both must have seen the same segments of every connection, each as often; not all in one
    /// order.
    fn assert_same_segments(self) -> Outcomes {
        self.compare(|row, seen, flow| {
            let mut probe: Vec<String> = seen.iter().map(|event| of_event(event)).collect();
            let mut tshark = of_flow(flow);
            probe.sort();
            tshark.sort();
            assert_eq!(probe, tshark, "probe, tshark: {row:?}");
        })
    }

    /// Pairs each row and its events with the captured connection, asserts what must hold whatever
    /// the server did, and counts outcomes.
    fn compare(mut self, mut each: impl FnMut(&Row, &[&Row], &CapturedFlow)) -> Outcomes {
        assert_eq!(self.run["capture"]["kernel_drops"], 0);
        assert_eq!(self.run["capture"]["late"], 0);
        assert_eq!(self.rows.len(), self.captured.len(), "connections");
        let segments = segments(&self.events);
        let mut apart = Vec::new();
        let mut outcomes = Outcomes::new();
        for row in &self.rows {
            let flow = take_flow_of(row, &mut self.captured);
            let seen = &segments[row["conn"].as_str()];
            each(row, seen, &flow);
            assert_vantages_agree(row);
            let stamps = seen.iter().map(|event| number(event, "at_unix_ns"));
            apart.extend(stamps.zip(&flow.segments).map(|(a, b)| (a - b.at).abs()));
            *outcomes.entry(row["outcome"].clone()).or_insert(0) += 1;
        }
        let median = median(apart);
        assert!(median <= 1_000, "stamps lie {median} ns apart");
        outcomes
    }
}

/// Both vantages saw the connection, nothing is missing, and they say the same of it. But where a RST
/// was on the wire before the request, the socket may have written without having noticed.
fn assert_vantages_agree(row: &Row) {
    let crossed = row["outcome"] == "reset_on_connect" && row["socket_outcome"] == "reset_empty";
    let (outcome, caveats) = if crossed {
        ("reset_empty", "vantages_differ")
    } else {
        ("", "")
    };
    assert!(row["evidence"].starts_with("socket+wire"), "{row:?}");
    assert_eq!(row["socket_outcome"], outcome, "{row:?}");
    assert_eq!(row["caveats"], caveats, "{row:?}");
}

/// The segments of each connection, as events.csv lists them.
fn segments(events: &[Row]) -> HashMap<&str, Vec<&Row>> {
    let mut segments: HashMap<&str, Vec<&Row>> = HashMap::new();
    for event in events.iter().filter(|event| event["event"] == "segment") {
        segments.entry(&event["conn"]).or_default().push(event);
    }
    segments
}

/// A segment in one word: `<P.(89) from 1`.
fn of_event(event: &Row) -> String {
    let cell = |name: &str| &event[name];
    let (direction, flags) = (cell("direction"), cell("flags"));
    format!(
        "{direction}{flags}({}) from {}",
        cell("len"),
        cell("rel_seq")
    )
}

/// The same for a captured connection's segments.
fn of_flow(flow: &CapturedFlow) -> Vec<String> {
    let word = |segment: &CapturedSegment| {
        let arrow = segment.direction.arrow();
        let isn = flow.isn(segment.direction).unwrap();
        let from = segment.seq.wrapping_sub(isn);
        format!("{arrow}{}({}) from {from}", segment.flags, segment.len)
    };
    flow.segments.iter().map(word).collect()
}

/// Takes the captured flow that a row tells of: by the client's port, and by the time of the SYN,
/// because a port may serve twice.
fn take_flow_of(row: &Row, captured: &mut Vec<CapturedFlow>) -> CapturedFlow {
    let ip = row["src_addr"].parse().unwrap();
    let client = SocketAddr::new(ip, row["src_port"].parse().unwrap());
    let opened = number(row, "opened_unix_ns");
    let apart = |flow: &CapturedFlow| (flow.syn_at() - opened).abs();
    let nearest = (0..captured.len())
        .filter(|&i| captured[i].client == client && apart(&captured[i]) < SAME_SYN_NS)
        .min_by_key(|&i| apart(&captured[i]));
    let nearest = nearest.unwrap_or_else(|| panic!("the capture has no flow for {row:?}"));
    captured.swap_remove(nearest)
}

fn number(row: &Row, column: &str) -> i64 {
    row[column].parse().unwrap()
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}

const V4: &str = "127.0.0.1:8080";
const PUMA: &str = "127.0.0.1:9292";

/// Two thousand answers of a few bytes, 64 at a time.
fn short_answers() -> Both {
    let server = V4.parse().unwrap();
    let nginx = Nginx::on(server, 0);
    let options = "--count 2000 --concurrency 64 --signal none";
    watch_both("lo", server, options, &nginx.command())
}

/// Two hundred answers of 200 KiB each, as they pass `interface`; the server is started as `inside`
/// has it.
fn long_answers(
    interface: &str,
    server: &str,
    inside: impl FnOnce(&[String]) -> Vec<String>,
) -> Both {
    let server = server.parse().unwrap();
    let nginx = Nginx::on(server, 200 << 10);
    let options = "--count 200 --concurrency 16 --path /large --signal none";
    watch_both(interface, server, options, &inside(&nginx.command()))
}

/// Nothing but served, and so many.
fn served(n: usize) -> Outcomes {
    BTreeMap::from([("served".to_owned(), n)])
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, nginx"]
fn two_thousand_short_answers_on_one_processor() {
    enter_namespace();
    one_processor();
    assert_eq!(short_answers().assert_equal(), served(2000));
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, nginx"]
fn two_thousand_short_answers_on_all_processors() {
    enter_namespace();
    assert_eq!(short_answers().assert_same_segments(), served(2000));
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, nginx"]
fn answers_of_many_segments() {
    enter_namespace();
    one_processor();
    let both = long_answers("lo", V4, <[String]>::to_vec);
    assert_eq!(both.assert_equal(), served(200));
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, nginx"]
fn answers_over_ipv6() {
    enter_namespace();
    one_processor();
    let both = long_answers("lo", "[::1]:8080", <[String]>::to_vec);
    assert_eq!(both.assert_equal(), served(200));
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, nginx"]
fn answers_from_another_host() {
    enter_namespace();
    one_processor();
    let there = Namespace::linked();
    let both = long_answers("near", "10.0.0.2:8080", |command| there.command(command));
    assert_eq!(both.assert_equal(), served(200));
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, nft"]
fn a_firewall_that_answers_port_unreachable() {
    enter_namespace();
    one_processor();
    nft("table inet filter {
           chain input {
             type filter hook input priority 0;
             tcp dport 8080 reject with icmpx type port-unreachable
           }
         }");
    // The errors arrive while connect() still holds the socket, and are dropped (LockDroppedIcmps).
    // Over IPv4 the client is told all the same; over IPv6 it learns from the answer to its second
    // SYN, a second later.
    for server in [V4, "[::1]:8080"] {
        let both = watch_both("lo", server.parse().unwrap(), "--count 20", &[]);
        let outcomes = both.assert_equal();
        assert_eq!(outcomes, BTreeMap::from([("refused".to_owned(), 20)]));
    }
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, puma"]
fn a_puma_cluster_that_is_told_to_stop() {
    enter_namespace();
    one_processor();
    let server = PUMA.parse().unwrap();
    let options = "--count 100 --rate 250 --signal TERM@50";
    let both = watch_both("lo", server, options, &puma("sleepy"));
    let outcomes = both.assert_equal();
    for outcome in ["served", "reset_empty", "refused"] {
        assert!(outcomes.contains_key(outcome), "{outcomes:?}");
    }
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, puma"]
fn a_puma_cluster_that_stops_itself_under_a_burst() {
    enter_namespace();
    one_processor();
    let options = "--count 50 --signal none";
    let both = watch_both("lo", PUMA.parse().unwrap(), options, &puma("repro"));
    let outcomes = both.assert_equal();
    assert!(outcomes.contains_key("served"), "{outcomes:?}");
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, puma"]
fn a_puma_that_kills_itself_in_the_first_request() {
    enter_namespace();
    one_processor();
    let options = "--count 5 --signal none";
    let both = watch_both("lo", PUMA.parse().unwrap(), options, &puma("simple"));
    let outcomes = both.assert_equal();
    assert!(outcomes.contains_key("closed_empty"), "{outcomes:?}");
}
