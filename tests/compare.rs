//! `probe compare`: a capture held against itself agrees, and whatever is taken out of it, altered or
//! put elsewhere is found, at the very place.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests read captures, start the probe, and end at the first surprise"
)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::prelude::*;
use tempfile::TempDir;

use common::namespace::Namespace;
use common::nginx::Nginx;
use common::pcap::{Pcap, Record, kept};
use common::tshark::Capture;
use common::{Row, enter_namespace, one_processor, probe, read_csv, rows, run, stderr, stdout};

/// Where in an IPv4 packet without options TCP begins.
const TCP: usize = 20;

/// The next segment of the same connection.
fn next_of_connection(pcap: &Pcap, at: usize) -> Option<usize> {
    let ports = pcap.records[at].ports();
    (at + 1..pcap.records.len()).find(|&next| pcap.records[next].ports() == ports)
}

fn compare(run: &Path, capture: &Path) -> Output {
    let mut command = probe();
    command.arg("compare").args([run, capture]);
    command.args(["--port", "9292", "--csv", "-", "--quiet"]);
    command.output().unwrap()
}

/// Rows that differ in some way, explained or not.
fn differing(output: &Output) -> Vec<Row> {
    let rows = rows(&output.stdout).into_iter();
    rows.filter(|row| row["verdict"] != "same").collect()
}

/// What is done to a capture.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A packet is left out.
    Remove,
    /// A bit of its IP header, TCP header or payload is another.
    Alter(usize),
    /// It changes places with its connection's next one, each with its time.
    MoveRecord,
    /// It changes places with its connection's next one, and the times stay where they are.
    MovePacket,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Remove),
        any::<usize>().prop_map(Change::Alter),
        Just(Change::MoveRecord),
        Just(Change::MovePacket),
    ]
}

/// Makes the change; nothing where it would change nothing that is compared: a checksum.
fn changed(pcap: &Pcap, at: usize, change: Change) -> Option<Pcap> {
    let mut changed = pcap.clone();
    match change {
        Change::Remove => {
            changed.records.remove(at);
        }
        Change::Alter(bit) => {
            let packet = changed.records[at].ip_mut();
            let bit = bit % (packet.len() * 8);
            let (byte, bit) = (bit / 8, bit % 8);
            let checksums = [10..12, TCP + 16..TCP + 18];
            if checksums.iter().any(|checksum| checksum.contains(&byte)) {
                return None;
            }
            packet[byte] ^= 1 << bit;
        }
        Change::MoveRecord => changed.records.swap(at, next_of_connection(pcap, at)?),
        Change::MovePacket => changed.swap_packets(at, next_of_connection(pcap, at)?),
    }
    Some(changed)
}

/// Whether the two segments are on their way at once in opposite directions, so closely that no
/// capture's order means anything.
fn cross(pcap: &Pcap, a: usize, b: usize) -> bool {
    let number = |at: usize, field: usize| {
        let tcp = pcap.records[at].tcp();
        u32::from_be_bytes(tcp[field..field + 4].try_into().unwrap())
    };
    let opposite = pcap.records[a].tcp()[..2] != pcap.records[b].tcp()[..2];
    // The second acknowledges no more than the first's first byte.
    let independent = number(b, 8).wrapping_sub(number(a, 4)).cast_signed() <= 0;
    opposite && independent && pcap.stamp(b) - pcap.stamp(a) <= 1_000
}

const CAPTURES: [&str; 4] = [
    "puma-3.12.1-term",
    "puma-7.2.1-term",
    "puma-7.2.1-burst",
    "unicorn-6.0.0-quit",
];

#[test]
fn a_capture_agrees_with_itself_and_with_its_rows() {
    for name in CAPTURES {
        let capture = kept(name);
        let rows = capture.with_file_name("connections.csv");
        for run in [&capture, &rows] {
            let output = compare(run, &capture);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert_eq!(differing(&output), [], "{name}");
        }
    }
}

#[test]
fn kept_runs_agree_with_the_captures_that_were_taken_beside_them() {
    for name in ["puma-5.6.5-simple", "puma-5.6.5-repro", "puma-5.6.5-sleepy"] {
        let capture = kept(name);
        let folder = capture.parent().unwrap();
        for run in [
            folder,
            &folder.join("run.pcapng"),
            &folder.join("connections.csv"),
        ] {
            let output = compare_all(run, &capture);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert_eq!(differing(&output), [], "{}", run.display());
        }
    }
}

#[test]
fn the_report_shows_both_sides_of_a_difference_and_the_place_of_a_hole() {
    let name = "puma-7.2.1-simple";
    let folder = TempDir::new().unwrap();
    let mut pcap = Pcap::read(&kept(name));
    let of_first = |pcap: &Pcap, nth: usize| {
        let ports = pcap.records[0].ports();
        let mut of_first = (0..pcap.records.len()).filter(|&at| pcap.records[at].ports() == ports);
        of_first.nth(nth).unwrap()
    };
    let path = folder.path().join("cut.pcap");
    let report = |pcap: &Pcap| {
        pcap.write(&path);
        let output = probe()
            .arg("compare")
            .args([&kept(name), &path])
            .output()
            .unwrap();
        let report = stdout(&output);
        let (_, differences) = report.split_once("(most)\n\n").unwrap();
        (output.status.code(), differences.to_owned())
    };
    // The request, which the server's kernel acknowledged.
    pcap.records.remove(of_first(&pcap, 3));
    let (code, differences) = report(&pcap);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(differences, @r"
    conn 1, 127.0.0.1:3936 to 127.0.0.1:9292: segment 4 of the run, >P.(82) (seq 3600130252, 0.085724 ms after the beginning), is not in the capture [capture_hole]
      run      >S <S. >. [>P.(82)] <. <F. >F. <.
      capture  >S <S. >. [] <. <F. >F. <.

    Nothing differs beyond what is explained.
    ");
    // Its acknowledgment, which nothing acknowledges.
    pcap.records.remove(of_first(&pcap, 3));
    let (code, differences) = report(&pcap);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(differences, @r"
    conn 1, 127.0.0.1:3936 to 127.0.0.1:9292: segment 5 of the run, <. (seq 3348322595, 0.093191 ms after the beginning), is not in the capture; 1 more
      run      >S <S. >. >P.(82) [<.] <F. >F. <.
      capture  >S <S. >. [] <F. >F. <.

    1 connection differs, and nothing explains it.
    ");
}

#[test]
fn what_cannot_be_compared_is_said_in_one_sentence() {
    let capture = kept("unicorn-6.0.0-quit");
    let capture = capture.to_str().unwrap();
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let captures = captures.to_str().unwrap();
    let other = kept("puma-7.2.1-term");
    let other = other.to_str().unwrap();
    for (words, message) in [
        (
            &[][..],
            "`probe compare` needs a <RUN>; `probe compare --help` shows how",
        ),
        (
            &["-", capture],
            "a run is no stream; give its folder or a file, and - for the capture",
        ),
        (
            &[capture, capture, "x"],
            "`probe compare` takes a run and a capture; leave out `x`",
        ),
        (
            &[captures, capture],
            "holds a series of runs; give one of them, as ",
        ),
        (
            &[file!(), capture],
            "a run is its folder, its connections.csv or a capture: tests/compare.rs: expected a pcap",
        ),
        (
            &[other, capture],
            "nothing was compared, as the two have no connection in common; give a capture of that very run",
        ),
    ] {
        let output = probe().arg("compare").args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// On either side. What explains a difference is a hole, and it stands where the segment is missing.
    #[test]
    fn no_change_of_one_segment_goes_unnoticed(
        name in proptest::sample::select(&CAPTURES[..]),
        place in 0.0..1.0_f64,
        change in change(),
        in_capture in any::<bool>(),
    ) {
        let pcap = Pcap::read(&kept(name));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a small file")]
        let at = 1 + ((pcap.records.len() - 2) as f64 * place) as usize;
        let Some(changed) = changed(&pcap, at, change) else {
            return Ok(());
        };
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("changed.pcap");
        changed.write(&path);
        let output = if in_capture {
            compare(&kept(name), &path)
        } else {
            compare(&path, &kept(name))
        };
        let rows = differing(&output);
        if output.status.code() == Some(1) {
            prop_assert!(rows.iter().any(|row| row["verdict"] == "differs"));
            return Ok(());
        }
        prop_assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        if let (Change::MoveRecord | Change::MovePacket, Some(next)) = (change, next_of_connection(&pcap, at)) {
            prop_assert!(cross(&pcap, at, next), "{change:?} of packet {at} of {name} went unnoticed");
            return Ok(());
        }
        let hole = if in_capture { "capture_hole" } else { "run_hole" };
        let before = (0..at).filter(|&earlier| pcap.records[earlier].ports() == pcap.records[at].ports()).count();
        let segment = if in_capture { "run_segment" } else { "capture_segment" };
        prop_assert!(
            rows.iter().any(|row| row["reasons"].contains(hole) && row[segment] == (before + 1).to_string()),
            "{change:?} of packet {at} of {name} went unnoticed: {}", stdout(&output)
        );
    }
}

/// A run against nginx, and what tcpdump took of it on the same interface.
struct Watched {
    folder: TempDir,
    server: SocketAddr,
}

impl Watched {
    fn new(server: &str, options: &str) -> Watched {
        let watched = Watched {
            folder: TempDir::new().unwrap(),
            server: server.parse().unwrap(),
        };
        let capture = Capture::start("lo");
        let nginx = Nginx::on(watched.server, 0);
        let output = watched.probe(options, &nginx).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        fs::write(watched.capture(), capture.end(watched.server.ip())).unwrap();
        watched
    }

    fn probe(&self, options: &str, nginx: &Nginx) -> Command {
        let mut command = probe();
        command.args(["--target", &self.server.to_string(), "--out"]);
        command.arg(self.run()).args(options.split_whitespace());
        command.arg("--").args(nginx.command());
        command
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn capture(&self) -> PathBuf {
        self.folder.path().join("tcpdump.pcap")
    }
}

/// What the report says of the clocks, in nanoseconds: their offset, and by how much the times of
/// matched segments then differ in the middle.
fn clocks(report: &str) -> (u64, u64) {
    let line = report.lines().find(|line| line.starts_with("clocks: "));
    let mut spans = line
        .unwrap()
        .split(' ')
        .collect::<Vec<_>>()
        .windows(2)
        .filter_map(|pair| {
            let digits = pair[0].replace('.', "");
            (pair[1].trim_end_matches(';') == "us").then(|| digits.parse().unwrap())
        })
        .collect::<Vec<u64>>()
        .into_iter();
    (spans.next().unwrap(), spans.next().unwrap())
}

/// A run and tcpdump beside it, on one processor: nothing is missing on either side, nothing stands
/// elsewhere, and matched segments lie within a microsecond of each other.
fn agrees_with_tcpdump(server: &str) {
    enter_namespace();
    one_processor();
    let watched = Watched::new(server, "-n 1000 -c 32 --signal none");
    let output = probe()
        .arg("compare")
        .args([watched.run(), watched.capture()])
        .output()
        .unwrap();
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{report}{}", stderr(&output));
    assert!(
        report.contains("matched                1000   1000 the same\n"),
        "{report}"
    );
    assert!(report.contains("\nNothing differs.\n"), "{report}");
    let (offset, median) = clocks(&report);
    assert!(offset <= 1_000 && median <= 1_000, "{report}");
    // The run's own capture alone tells as much as its folder, and its rows alone nearly so.
    for part in ["run.pcapng", "connections.csv"] {
        let output = compare_all(&watched.run().join(part), &watched.capture());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(differing(&output), []);
    }
    let output = compare_all(&watched.run(), &watched.capture());
    let rows = rows(&output.stdout);
    assert_eq!(matched(&rows), segments(&watched));
    for row in rows {
        assert_eq!(row["run_sequence"], row["capture_sequence"]);
    }
}

fn matched(rows: &[Row]) -> usize {
    let matched = rows.iter().map(|row| &row["matched_segments"]);
    matched.map(|count| count.parse::<usize>().unwrap()).sum()
}

/// How many segments the run saw.
fn segments(watched: &Watched) -> usize {
    let events = read_csv(&watched.run().join("events.csv"));
    let segments = events.iter().filter(|event| event["event"] == "segment");
    segments.count()
}

fn compare_all(run: &Path, capture: &Path) -> Output {
    let mut command = probe();
    command
        .arg("compare")
        .args([run, capture])
        .args(["--csv", "-", "--quiet"]);
    command.output().unwrap()
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx"]
fn a_run_agrees_with_tcpdumps_capture_of_it() {
    agrees_with_tcpdump("127.0.0.1:8088");
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx"]
fn a_run_over_ipv6_agrees_with_tcpdumps_capture_of_it() {
    agrees_with_tcpdump("[::1]:8088");
}

/// On several processors two segments may stand in either order in either capture, and that is all
/// that may differ (docs/decisions/0001).
#[test]
#[ignore = "needs root, netns, tcpdump, nginx"]
fn on_every_processor_a_run_and_tcpdump_have_the_same_segments() {
    enter_namespace();
    let watched = Watched::new("127.0.0.1:8088", "-n 1000 -c 32 --signal none");
    let output = compare_all(&watched.run(), &watched.capture());
    let rows = rows(&output.stdout);
    assert_eq!(rows.len(), 1000);
    assert_eq!(matched(&rows), segments(&watched));
    for row in rows {
        let same = row["verdict"] == "same";
        assert!(same || row["reasons"] == "order", "{row:?}");
    }
}

/// What became of the connections of a run whose capture was edited, by editcap's arguments.
fn edited(watched: &Watched, options: &[&str], selection: &[&str]) -> (Option<i32>, Vec<Row>) {
    let capture = watched.folder.path().join("edited.pcap");
    let files = [watched.capture(), capture.clone()].map(|path| path.to_str().unwrap().to_owned());
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    run("editcap", &[options, &files, selection].concat());
    let output = compare_all(&watched.run(), &capture);
    (output.status.code(), differing(&output))
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx, editcap"]
fn a_capture_that_began_later_or_ended_earlier_explains_what_it_lacks() {
    enter_namespace();
    one_processor();
    let watched = Watched::new("127.0.0.1:8088", "-n 200 --signal TERM@100");
    let packets = Pcap::read(&watched.capture()).records.len();
    let middle = format!("{}-{}", packets / 3, packets * 2 / 3);
    let (code, rows) = edited(&watched, &["-r"], &[&middle]);
    assert_eq!(code, Some(0), "{rows:?}");
    let explained = |reason: &str| rows.iter().filter(|row| row["reasons"] == reason).count();
    assert!(explained("capture_start") > 10 && explained("capture_end") > 10);
    assert!(rows.iter().all(|row| row["verdict"] == "explained"));
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx, editcap"]
fn a_clock_that_is_an_hour_ahead_is_measured_and_allowed_for() {
    enter_namespace();
    one_processor();
    let watched = Watched::new("127.0.0.1:8088", "-n 50 --signal none");
    let (code, rows) = edited(&watched, &["-t", "3600"], &[]);
    assert_eq!((code, rows.len()), (Some(0), 0), "{rows:?}");
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx, editcap"]
fn a_packet_that_is_gone_from_the_capture_is_a_difference_or_a_hole() {
    enter_namespace();
    one_processor();
    let watched = Watched::new("127.0.0.1:8088", "-n 5 -c 1 --signal none");
    let pcap = Pcap::read(&watched.capture());
    for gone in 2..pcap.records.len() - 1 {
        let (code, rows) = edited(&watched, &[], &[&gone.to_string()]);
        let [row] = rows.as_slice() else {
            panic!("packet {gone}: {rows:?}");
        };
        match row["verdict"].as_str() {
            "differs" => assert_eq!(code, Some(1)),
            _ => assert_eq!((code, row["reasons"].as_str()), (Some(0), "capture_hole")),
        }
        assert_eq!(row["first_difference"], "segment_only_run");
    }
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx"]
fn what_a_run_knows_and_no_packet_shows_is_no_difference() {
    enter_namespace();
    one_processor();
    // The client has enough and closes first, and three bytes are no whole response.
    let request = tempfile::NamedTempFile::new().unwrap();
    fs::write(request.path(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let payload = request.path().display();
    let options = format!("-n 20 --signal none --payload {payload} --expect-bytes 3");
    let watched = Watched::new("127.0.0.1:8088", &options);
    for run in [watched.run(), watched.run().join("run.pcapng")] {
        let output = compare_all(&run, &watched.capture());
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        let rows = rows(&output.stdout);
        assert!(rows.iter().all(|row| row["capture_outcome"] == "served"));
    }
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx"]
fn a_run_without_packets_agrees_by_its_outcomes_alone_and_says_so() {
    enter_namespace();
    one_processor();
    let watched = Watched::new("127.0.0.1:8088", "-n 20 --signal none --observe socket");
    let output = probe()
        .arg("compare")
        .args([watched.run(), watched.capture()])
        .output()
        .unwrap();
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    let said = "of 20 connections, the run has no packets: only outcomes and times were compared";
    assert!(report.contains(said), "{report}");
    assert!(!report.contains("Nothing differs"), "{report}");
    let output = compare_all(&watched.run(), &watched.capture());
    assert!(
        rows(&output.stdout)
            .iter()
            .all(|row| row["compared"] == "nothing")
    );
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx"]
fn other_clients_of_the_server_are_told_from_connections_that_a_run_lost() {
    enter_namespace();
    one_processor();
    let watched = Watched::new("127.0.0.1:8088", "-n 20 --signal none");
    let rows = watched.run().join("connections.csv");
    let all = fs::read_to_string(&rows).unwrap();
    // The last connection's row is gone, and run.json knows of one more.
    let fewer: String = all
        .lines()
        .filter(|line| line.split(',').nth(1) != Some("20"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&rows, fewer).unwrap();
    let output = compare_all(&watched.run(), &watched.capture());
    let found = differing(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        (found.len(), found[0]["first_difference"].as_str()),
        (1, "only_capture")
    );
    // Without run.json and run.pcapng nothing says that one is missing.
    fs::remove_file(watched.run().join("run.json")).unwrap();
    fs::remove_file(watched.run().join("run.pcapng")).unwrap();
    let output = compare_all(&watched.run(), &watched.capture());
    assert_eq!(output.status.code(), Some(0), "{:?}", differing(&output));
    assert_eq!(differing(&output)[0]["reasons"], "other_traffic");
}

#[test]
#[ignore = "needs root, netns, tcpdump, nginx, ethtool"]
fn two_interfaces_show_the_same_bytes_in_other_segments() {
    enter_namespace();
    let there = Namespace::linked();
    // Cut up before it leaves, and put together on its way in: what a network card does too.
    there.run("ethtool", &["-K", "far", "tso", "off", "gso", "off"]);
    run("ethtool", &["-K", "near", "gro", "on"]);
    let server: SocketAddr = "10.0.0.2:8080".parse().unwrap();
    let nginx = Nginx::on(server, 200 << 10);
    let folder = TempDir::new().unwrap();
    let [out, near, far] = ["run", "near.pcap", "far.pcap"].map(|name| folder.path().join(name));
    let captures = [
        (&near, Capture::start("near")),
        (&far, there.within(|| Capture::start("far"))),
    ];
    let options = "--count 50 --concurrency 8 --path /large --signal none --target 10.0.0.2:8080";
    let mut command = probe();
    command.args(options.split(' ')).arg("--out").arg(&out);
    command.arg("--").args(there.command(&nginx.command()));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for (path, capture) in captures {
        fs::write(path, capture.end(server.ip())).unwrap();
    }
    let code = |run: &Path, capture: &Path, options: &[&str]| {
        let mut command = probe();
        command.arg("compare").args([run, capture]).args(options);
        let output = command.output().unwrap();
        (output.status.code(), stdout(&output))
    };
    let across = ["--across-interfaces"];
    assert_eq!(
        code(&out, &near, &[]).0,
        Some(0),
        "{}",
        code(&out, &near, &[]).1
    );
    for side in [&out, &near] {
        let (agrees, report) = code(side, &far, &across);
        assert_eq!(agrees, Some(0), "{report}");
    }
    let sizes = [&near, &far].map(|path| Pcap::read(path).records.len());
    assert_ne!(
        sizes[0], sizes[1],
        "the two have the same segments: nothing was tried"
    );
    assert_eq!(code(&near, &far, &[]).0, Some(1));
    // Data that is gone from one end is missed at the other.
    let mut cut = Pcap::read(&far);
    let data = |record: &Record| record.ip().len() > 300;
    let gone = cut.records.iter().rposition(data).unwrap();
    cut.records.remove(gone);
    cut.write(&far);
    let (_, report) = code(&near, &far, &across);
    assert!(
        report.contains("are not in the capture [capture_hole]"),
        "{report}"
    );
}
