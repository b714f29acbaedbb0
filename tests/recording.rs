//! The probe's own recording: which packets it holds, what it says of them, that tshark opens it
//! without a word, and that reading it tells the run again.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests start processes, read what they wrote, and end at the first surprise"
)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;

use common::nginx::Nginx;
use common::process::{RunningProbe, ruby};
use common::puma::puma;
use common::recorded::{assert_told_again, read_again};
use common::tshark::Capture;
use common::{
    Row, as_nobody, binary_for_everybody, enter_namespace, probe, read_csv, run, run_json,
    run_probe, stderr, stdout,
};

const PUMA: &str = "127.0.0.1:9292";
const NGINX: &str = "127.0.0.1:8080";

/// A packet as tshark shows it.
struct Frame {
    number: usize,
    at: i64,
    comments: Vec<String>,
}

/// What tshark makes of a capture; it may not complain of anything.
fn frames(capture: &Path) -> Vec<Frame> {
    let told = tshark(
        capture,
        &[
            "-T",
            "fields",
            "-E",
            "aggregator=|",
            "-e",
            "frame.number",
            "-e",
            "frame.time_epoch",
            "-e",
            "frame.comment",
        ],
    );
    let frames = told.lines().map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let comments = cells[2].split('|').filter(|comment| !comment.is_empty());
        Frame {
            number: cells[0].parse().unwrap(),
            at: cells[1].replace('.', "").parse().unwrap(),
            comments: comments.map(str::to_owned).collect(),
        }
    });
    frames.collect()
}

fn tshark(capture: &Path, args: &[&str]) -> String {
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(capture)
        .args(args)
        .output()
        .unwrap();
    assert_eq!(complaints(&output), Vec::<String>::new());
    assert!(output.status.success());
    stdout(&output)
}

/// What tshark said on stderr, but for who runs it.
fn complaints(output: &Output) -> Vec<String> {
    let said = stderr(output);
    let lines = said
        .lines()
        .filter(|line| !line.starts_with("Running as user"));
    lines.map(str::to_owned).collect()
}

/// A run with everything in a folder.
struct Recorded {
    _folder: tempfile::TempDir,
    out: std::path::PathBuf,
}

impl Recorded {
    fn pcapng(&self) -> std::path::PathBuf {
        self.out.join("run.pcapng")
    }

    fn rows(&self) -> Vec<Row> {
        read_csv(&self.out.join("connections.csv"))
    }

    fn events(&self) -> Vec<Row> {
        read_csv(&self.out.join("events.csv"))
    }
}

/// Runs `probe OPTIONS --out DIR -- COMMAND`.
fn record(options: &str, command: &[String]) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut probe = probe();
    probe
        .args(options.split_whitespace())
        .arg("--out")
        .arg(&out);
    if !command.is_empty() {
        probe.arg("--").args(command);
    }
    let output = probe.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    Recorded {
        _folder: folder,
        out,
    }
}

/// Times of events.csv.
fn at(event: &Row) -> i64 {
    event["at_unix_ns"].parse().unwrap()
}

#[test]
#[ignore = "needs root, netns, tshark, puma"]
fn a_puma_that_is_told_to_stop_is_told_again_by_its_packets() {
    enter_namespace();
    let options = format!("--target {PUMA} --count 100 --rate 250 --idle 5 --signal TERM@50");
    let run = record(&options, &puma("sleepy"));
    let rows = run.rows();
    assert_told_again(&rows, &run.pcapng());
    for outcome in ["served", "reset_empty", "refused"] {
        assert!(
            rows.iter().any(|row| row["outcome"] == outcome),
            "{outcome}"
        );
    }

    let frames = frames(&run.pcapng());
    // Each segment and ICMP error that the rows are made of, and no other.
    let events = run.events();
    let seen = events.iter().filter(|event| event["vantage"] == "wire");
    let mut seen: Vec<i64> = seen.map(at).collect();
    seen.sort_unstable();
    let stamps: Vec<i64> = frames.iter().map(|frame| frame.at).collect();
    assert_eq!(stamps, seen);

    // Outcome and cause stand on the last packet of each connection.
    for row in &rows {
        let said = format!("connection {}: {}", row["conn"], row["outcome"]);
        let is_said =
            |comment: &String| *comment == said || comment.starts_with(&format!("{said};"));
        let on: Vec<&Frame> = frames
            .iter()
            .filter(|frame| frame.comments.iter().any(is_said))
            .collect();
        let mine = events.iter().filter(|event| event["conn"] == row["conn"]);
        let last = mine
            .filter(|event| event["vantage"] == "wire")
            .map(at)
            .max();
        assert_eq!(on.len(), 1, "{said}");
        assert_eq!(Some(on[0].at), last, "{said}");
        let cause = on[0]
            .comments
            .iter()
            .any(|comment| comment.contains("cause"));
        assert_eq!(cause, !row["cause"].is_empty(), "{said}");
    }

    // Signals and exits stand on the packet that follows them.
    let controls: Vec<&Row> = events
        .iter()
        .filter(|event| event["vantage"] == "control")
        .collect();
    assert!(controls.iter().any(|event| event["event"] == "signal"));
    for event in controls {
        let said = format!("{} of process {}", event["event"], event["pid"]);
        let on = frames.iter().find(|frame| {
            frame
                .comments
                .iter()
                .any(|comment| comment.starts_with(&said))
        });
        let follows = frames.iter().find(|frame| frame.at >= at(event));
        let number = |frame: Option<&Frame>| frame.map(|frame| frame.number);
        assert_eq!(number(on), number(follows), "{said}");
        if follows.is_none() {
            assert!(comments(&run.pcapng()).contains(&format!("after the last packet: {said}")));
        }
    }
}

/// The capture's own comments, as capinfos shows them.
fn comments(capture: &Path) -> String {
    run("capinfos", &["-k", &capture.to_string_lossy()])
}

#[test]
#[ignore = "needs root, netns, tshark"]
fn tshark_and_capinfos_find_nothing_wrong() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("all.pcapng");
    let output = probe()
        .args(["demo", "--all", "-n", "20", "--quiet", "--pcap"])
        .arg(&capture)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!frames(&capture).is_empty());
    let wrong = tshark(
        &capture,
        &[
            "-Y",
            "_ws.malformed || _ws.short || tcp.checksum.status == 0",
        ],
    );
    assert_eq!(wrong, "");
    let expert = tshark(&capture, &["-q", "-z", "expert"]);
    // Lines of a count, a group, a protocol and a summary.
    let mut groups: Vec<&str> = expert
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 3 && words[0].parse::<u64>().is_ok())
        .map(|words| words[1])
        .collect();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups, ["Comment", "Sequence"], "{expert}");
    let infos = run("capinfos", &["-I", &capture.to_string_lossy()]);
    assert!(infos.contains("Name = lo\n"), "{infos}");
    let infos = run("capinfos", &["-T", "-m", &capture.to_string_lossy()]);
    for word in [",pcapng,rawip,nanoseconds,", ",True,", ",probe "] {
        assert!(infos.contains(word), "{infos}");
    }
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, nginx, curl"]
fn the_packets_are_those_that_tcpdump_saw_of_our_connections_and_no_others() {
    enter_namespace();
    let nginx = Nginx::on(NGINX.parse().unwrap(), 20 << 10);
    let folder = tempfile::tempdir().unwrap();
    let pcap = folder.path().join("ours.pcapng");
    let tcpdump = Capture::start("lo");
    // Another client of the same server's, all the while.
    let others = "while :; do curl -s -o /dev/null http://127.0.0.1:8080/; done";
    let noise = |signal: &str| ["--trigger".to_owned(), signal.to_owned()];
    let output = probe()
        .args([
            "--target", NGINX, "-n", "300", "-c", "16", "--path", "/large", "--signal", "none",
        ])
        .args(noise(&format!("timeout 0.5 sh -c '{others}'; true")))
        .args(["--trigger-at", "1", "--csv", "-", "--pcap"])
        .arg(&pcap)
        .arg("--")
        .args(nginx.command())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = common::rows(&output.stdout);
    let ports: Vec<&str> = rows.iter().map(|row| row["src_port"].as_str()).collect();
    let flows = tcpdump.finish(NGINX.parse().unwrap());
    let (ours, others): (Vec<_>, Vec<_>) = flows
        .iter()
        .partition(|flow| ports.contains(&flow.client.port().to_string().as_str()));
    assert!(!others.is_empty());
    let segments: usize = ours.iter().map(|flow| flow.segments.len()).sum();
    assert_eq!(frames(&pcap).len(), segments);
    assert_told_again(&rows, &pcap);
}

/// A server that takes connections and answers none of them.
fn silent() -> TcpListener {
    TcpListener::bind(PUMA).unwrap()
}

#[test]
#[ignore = "needs root, netns, tshark"]
fn an_interrupt_leaves_a_whole_file_of_what_was_seen() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let pcap = folder.path().join("run.pcapng");
    let server = ruby(
        "server = TCPServer.new('127.0.0.1', 9292)
         held = []
         loop { held << server.accept; held.shift.close if held.size == 5 }",
    );
    let options = format!(
        "--rate 100 --duration 60s --signal none --pcap {}",
        pcap.display()
    );
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut running = RunningProbe::start(&options, &server);
        running.wait_for_rows(20);
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, Some(code));
        let unfinished = ended
            .rows
            .iter()
            .filter(|row| row["outcome"] == "unfinished");
        assert!(unfinished.count() > 0);
        assert_told_again(&ended.rows, &pcap);
        assert!(!frames(&pcap).is_empty());
    }
}

#[test]
#[ignore = "needs root, netns, tshark"]
fn stdout_may_be_read_whole_or_left_early() {
    enter_namespace();
    let shell = |reader: &str| {
        let command = format!("\"$0\" demo -n 20 --pcap - -q 2>&1 | {reader}");
        Command::new("sh")
            .args(["-c", &command, env!("CARGO_BIN_EXE_probe")])
            .output()
            .unwrap()
    };
    let whole = shell("tshark -n -r -");
    assert_eq!(complaints(&whole), Vec::<String>::new());
    assert!(stdout(&whole).lines().count() > 40, "{}", stdout(&whole));
    let early = shell("head -c 100");
    assert_eq!(early.stdout.len(), 100);
    assert_eq!(stderr(&early), "");
}

#[test]
#[ignore = "needs root, netns"]
fn each_run_of_a_series_is_a_section_of_one_file_and_a_file_of_its_own() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let (pcap, out) = (folder.path().join("all.pcapng"), folder.path().join("out"));
    let output = probe()
        .args(["demo", "-n", "10", "--repeat", "3", "--quiet", "--pcap"])
        .arg(&pcap)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!out.join("run.pcapng").exists());
    let mut sections = Vec::new();
    for run in ["001", "002", "003"].map(|run| out.join(run)) {
        let rows = read_csv(&run.join("connections.csv"));
        assert_told_again(&rows, &run.join("run.pcapng"));
        sections.extend(fs::read(run.join("run.pcapng")).unwrap());
    }
    assert_told_again(&read_csv(&out.join("connections.csv")), &pcap);
    // But for the times at which they were written.
    assert_eq!(fs::read(&pcap).unwrap().len(), sections.len());
    let read = run_probe(&format!("read {}", pcap.display()));
    assert!(stdout(&read).contains("-001 and 2 other runs, and read with what its sockets did"));
}

#[test]
#[ignore = "needs root, netns, tshark"]
fn what_no_packet_follows_is_said_of_the_whole() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    let pcap = folder.path().join("run.pcapng");
    let early = "--count 5 --trigger true --trigger-at 0";
    let late = "--count 5 --trigger true --trigger-at 400ms";
    for (options, is_first) in [(early, true), (late, false)] {
        let output = run_probe(&format!(
            "--target {PUMA} {options} --quiet --pcap {}",
            pcap.display()
        ));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let frames = frames(&pcap);
        let on_first = frames[0]
            .comments
            .iter()
            .any(|said| said == "trigger: true");
        assert_eq!(on_first, is_first, "{options}");
        let on_whole = comments(&pcap).contains("after the last packet: trigger: true");
        assert_eq!(on_whole, !is_first, "{options}");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn connections_of_which_no_packet_was_seen_are_not_in_it() {
    enter_namespace();
    let _server = silent();
    let folder = tempfile::tempdir().unwrap();
    let pcap = folder.path().join("run.pcapng");
    let command = format!(
        "ulimit -n 24; exec \"$0\" --target {PUMA} -n 30 --timeout 300ms --observe socket,wire --csv - \
         --quiet --pcap {}",
        pcap.display()
    );
    let output = Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_probe")])
        .output()
        .unwrap();
    let rows = common::rows(&output.stdout);
    let (failed, others): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row["outcome"] == "local_error");
    assert!(
        !failed.is_empty() && !others.is_empty(),
        "{}",
        stderr(&output)
    );
    assert_told_again(&rows, &pcap);
    assert_eq!(read_again(&pcap).len(), others.len());
}

#[test]
#[ignore = "needs root, netns, editcap, which comes with tshark"]
fn a_file_that_tools_have_been_at_still_reads() {
    enter_namespace();
    let _server = silent();
    let options = format!("--target {PUMA} -n 5 --timeout 300ms --quiet");
    let run = record(&options, &[]);
    let folder = tempfile::tempdir().unwrap();
    let made = |tool: &str, args: &[&str], name: &str| {
        let to = folder.path().join(name);
        let from = run.pcapng();
        let from = from.to_string_lossy();
        let to_text = to.to_string_lossy();
        let ends: [&str; 2] = match tool {
            "mergecap" => [&to_text, &from],
            _ => [&from, &to_text],
        };
        common::run(tool, &[args, &ends].concat());
        read_again(&to)
    };
    let outcomes = |rows: &[Row]| {
        let mut all: Vec<String> = rows.iter().map(|row| row["outcome"].clone()).collect();
        all.dedup();
        all.join(" ")
    };
    assert_eq!(outcomes(&run.rows()), "hung");
    // Comments are kept, and times may be moved.
    for (tool, args) in [("editcap", &[][..]), ("editcap", &["-t", "-3600"])] {
        let rows = made(tool, args, "kept.pcapng");
        assert_eq!(outcomes(&rows), "hung");
        for before in run.rows() {
            let row = rows.iter().find(|row| row["conn"] == before["conn"]);
            assert_eq!(row.unwrap()["end_us"], before["end_us"]);
        }
    }
    // Comments are gone, or are somebody else's: the client closed, and nobody knows why.
    for (tool, args, name) in [
        ("editcap", &["-F", "pcap"][..], "plain.pcap"),
        ("editcap", &["--discard-capture-comment"], "bare.pcapng"),
        ("mergecap", &["-w"], "merged.pcapng"),
    ] {
        let rows = made(tool, args, name);
        assert_eq!(outcomes(&rows), "client_closed", "{name}");
        assert!(
            rows.iter()
                .all(|row| row["evidence"] == "wire" && !row["run_id"].is_empty())
        );
    }
    // Each connection's own account is gone.
    let mut bytes = fs::read(run.pcapng()).unwrap();
    let mark = b"probe.socket";
    let at: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(mark))
        .collect();
    assert_eq!(at.len(), 5);
    at.iter().for_each(|&at| bytes[at] = b'?');
    let spoilt = folder.path().join("spoilt.pcapng");
    fs::write(&spoilt, bytes).unwrap();
    let rows = read_again(&spoilt);
    assert_eq!(outcomes(&rows), "client_closed");
    assert!(rows.iter().all(|row| row["cohort"].is_empty()));
}

#[test]
#[ignore = "needs root, netns"]
fn without_packets_there_is_no_recording_and_it_is_said() {
    enter_namespace();
    let folder = tempfile::tempdir().unwrap();
    run("chmod", &["a+rwx", &folder.path().to_string_lossy()]);
    let binary = binary_for_everybody(folder.path());
    run("chmod", &["a+rwx", &folder.path().to_string_lossy()]);
    let ran = |args: &[&str]| {
        let mut nobody = as_nobody(&binary);
        nobody
            .current_dir(folder.path())
            .args(["--target", PUMA, "-n", "3"]);
        nobody.args(args).stdin(Stdio::null()).output().unwrap()
    };
    let asked = ran(&["--pcap", "x.pcapng"]);
    assert_eq!(asked.status.code(), Some(2));
    let said = stderr(&asked);
    assert!(
        said.contains("CAP_NET_RAW") && said.contains("or leave out --pcap"),
        "{said}"
    );
    assert!(!folder.path().join("x.pcapng").exists());
    for (out, more, note) in [
        ("a", &[][..], "from the sockets alone, without run.pcapng"),
        (
            "b",
            &["--observe", "socket"],
            "without packets there is no run.pcapng",
        ),
    ] {
        let output = ran(&[&["--out", out], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains(note), "{}", stderr(&output));
        let out = folder.path().join(out);
        assert!(out.join("connections.csv").exists() && !out.join("run.pcapng").exists());
        let notes = run_json(&out)["notes"].to_string();
        assert!(notes.contains(note), "{notes}");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_full_disk_costs_the_recording_alone() {
    enter_namespace();
    let output = run_probe(&format!("--target {PUMA} -n 20 --pcap /dev/full --csv -"));
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("cannot write /dev/full: no space left on device"),
        "{said}"
    );
    assert_eq!(common::rows(&output.stdout).len(), 20);
}
