//! The notebooks: executed from a clean kernel, their main figures are what the test counts itself,
//! and what does not fit together shows in them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests start processes, read and damage what they wrote, and end at the first surprise"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::process::ruby;
use common::tshark::Capture;
use common::{Row, enter_namespace, read_csv, run, run_probe, run_probe_with, stderr};
use serde_json::{Value, json};

/// A server whose responses are whole, cut by FIN, whole by FIN, cut by RST and no HTTP, in turn.
const CUTTER: &str = r#"
    responses = [
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
      "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
      "HTTP/1.1 200 OK\r\n\r\nok",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
      "not HTTP\r\n\r\n",
    ]
    server = TCPServer.new("127.0.0.1", 9292)
    responses.cycle.with_index do |response, i|
      client = server.accept
      client.readpartial(4096)
      client.write(response)
      client.setsockopt(:SOCKET, :LINGER, [1, 0].pack("ii")) if i % responses.size == 3
      client.close
    end
"#;

/// The run that the notebook reads when it is told nothing.
const KEPT: &str = "captures/puma-5.6.5-sleepy";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A run's folder and a capture of the same packets.
struct Recordings {
    folder: tempfile::TempDir,
}

impl Recordings {
    fn new() -> Recordings {
        let folder = tempfile::tempdir().unwrap();
        Recordings { folder }
    }

    /// Those of `probe demo`, in this thread's namespace.
    fn demo(options: &str) -> Recordings {
        Recordings::make(|out| run_probe(&format!("demo {options} {out}")))
    }

    /// Those of a probe that is given the folder to write to.
    fn make(run_probe: impl FnOnce(&str) -> Output) -> Recordings {
        let made = Recordings::new();
        let capture = Capture::start("lo");
        let output = run_probe(&format!("--out {}", made.run().display()));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let packets = capture.end([127, 0, 0, 1].into());
        fs::write(made.capture(), packets).unwrap();
        made
    }

    /// A copy of those that the repository keeps.
    fn kept() -> Recordings {
        let copy = Recordings::new();
        fs::create_dir(copy.run()).unwrap();
        for entry in fs::read_dir(repository(KEPT)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.run().join(entry.file_name())).unwrap();
        }
        fs::rename(copy.run().join("puma-5.6.5-sleepy.pcap"), copy.capture()).unwrap();
        copy
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn capture(&self) -> PathBuf {
        self.folder.path().join("packets.pcap")
    }

    fn rows(&self) -> Vec<Row> {
        read_csv(&self.run().join("connections.csv"))
    }

    /// Rewrites one of the run's CSVs line by line; lines that become nothing go.
    fn rewrite(&self, csv: &str, change: impl Fn(&str) -> Option<String>) {
        let path = self.run().join(csv);
        let before = fs::read_to_string(&path).unwrap();
        let after: String = before
            .lines()
            .filter_map(|line| change(line).map(|line| line + "\n"))
            .collect();
        fs::write(path, after).unwrap();
    }

    /// The numbers of the frames that tshark's filter lets through.
    fn frames(&self, filter: &str) -> Vec<String> {
        let capture = self.capture().to_string_lossy().into_owned();
        let args = ["-n", "-r", &capture, "-Y", filter, "-T", "fields"];
        let numbers = run("tshark", &[&args[..], &["-e", "frame.number"]].concat());
        numbers.lines().map(str::to_owned).collect()
    }

    fn remove_frames(&self, frames: &[String]) {
        let whole = self.folder.path().join("whole.pcap");
        fs::rename(self.capture(), &whole).unwrap();
        let (whole, capture) = (whole.to_string_lossy(), self.capture());
        let mut args = vec!["-F", "nsecpcap", &whole];
        let capture = capture.to_string_lossy();
        args.push(&capture);
        args.extend(frames.iter().map(String::as_str));
        run("editcap", &args);
    }
}

/// Executes the notebook from a clean kernel and returns its main figures. The kernel is spoken to
/// over ports that are chosen before it binds them: in a namespace of the test's own nobody else
/// can take them meanwhile.
fn figures(recordings: Option<&Recordings>) -> Value {
    let jupyter = repository("target/analysis-venv/bin/jupyter");
    assert!(
        jupyter.exists(),
        "analysis/environment makes what is needed"
    );
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(jupyter);
    command
        .args(["nbconvert", "--execute", "--to", "notebook"])
        .arg("--output-dir")
        .arg(folder.path())
        .arg(repository("analysis/around_the_signal.ipynb"))
        // What this user has set up for notebooks of his own stays out of it.
        .env("IPYTHONDIR", folder.path().join("ipython"))
        .env("JUPYTER_CONFIG_DIR", folder.path().join("jupyter"))
        .env_remove("RUN")
        .env_remove("CAPTURE");
    if let Some(recordings) = recordings {
        command.env("RUN", recordings.run());
        command.env("CAPTURE", recordings.capture());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let executed = notebook(&folder.path().join("around_the_signal.ipynb"));
    let last = executed["cells"].as_array().unwrap().last().unwrap();
    serde_json::from_str(&text(&last["outputs"][0]["text"])).unwrap()
}

fn notebook(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Text as notebooks store it: whole, or as a list of lines.
fn text(stored: &Value) -> String {
    match stored {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().unwrap().to_owned(),
    }
}

fn outcomes(rows: &[Row]) -> BTreeMap<&str, usize> {
    let mut outcomes = BTreeMap::new();
    for row in rows {
        *outcomes.entry(row["outcome"].as_str()).or_default() += 1;
    }
    outcomes
}

fn lost(rows: &[Row]) -> Vec<&Row> {
    rows.iter().filter(|row| row["lost"] == "true").collect()
}

/// From the first lost connection to the last, in microseconds since the signal.
fn loss_window(rows: &[Row]) -> [f64; 2] {
    let times = lost(rows)
        .into_iter()
        .map(|row| row["since_signal_us"].parse::<f64>().unwrap());
    let none = [f64::INFINITY, f64::NEG_INFINITY];
    times.fold(none, |[first, last], at| [first.min(at), last.max(at)])
}

/// Asserts that both recordings tell the same, and that the figures are those of the run's files.
fn assert_agrees(figures: &Value, run: &Path) {
    let rows = read_csv(&run.join("connections.csv"));
    let events = read_csv(&run.join("events.csv"));
    let segments = events.iter().filter(|event| event["event"] == "segment");
    let lost = lost(&rows).len();
    assert_eq!(figures["connections"], rows.len());
    assert_eq!(figures["outcomes"], json!(outcomes(&rows)));
    assert_eq!(figures["joined"], rows.len());
    for nothing in [
        "only_in_run",
        "only_in_capture",
        "different",
        "without_packets",
        "disagree",
    ] {
        assert_eq!(figures[nothing], json!([]), "{nothing}: {figures}");
    }
    let crossed = figures["other_order"].as_array().unwrap().len();
    assert_eq!(figures["same"], rows.len() - crossed);
    let both = json!({ "in_both": segments.count(), "only_in": {} });
    assert_eq!(figures["segments"], both);
    assert_eq!(figures["lost"], json!({ "run": lost, "capture": lost }));
    let window = loss_window(&rows);
    // A stamp of tcpdump's may be late by as long as the machine was busy.
    for (side, tolerance) in [("run", 0.001), ("capture", 50_000.0)] {
        for (i, edge) in window.iter().enumerate() {
            let shown = figures["loss_window_us"][side][i].as_f64().unwrap();
            assert!((shown - edge).abs() <= tolerance, "{side}: {figures}");
        }
    }
    // Two readings of one clock. The worst may be late, the median not.
    let median = figures["stamps_apart_ns"]["median"].as_f64().unwrap();
    assert!(median <= 10_000.0, "{median} ns");
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, analysis/environment"]
fn the_notebook_agrees_with_a_run_and_a_capture_that_are_new_to_it() {
    enter_namespace();
    let recordings = Recordings::demo("--policy close");
    let rows = recordings.rows();
    for outcome in ["served", "reset_empty", "refused"] {
        assert!(outcomes(&rows).contains_key(outcome), "{rows:?}");
    }
    let figures = figures(Some(&recordings));
    assert_eq!(figures["longer_in_capture"], json!([]));
    assert_agrees(&figures, &recordings.run());
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, analysis/environment"]
fn the_notebook_lets_a_capture_go_on_when_the_client_has_gone() {
    enter_namespace();
    let recordings = Recordings::demo("--policy hang --count 20");
    let figures = figures(Some(&recordings));
    // The server is killed a second after the last of them, and its kernel resets them.
    let rows = recordings.rows();
    let hung = rows.iter().filter(|row| row["outcome"] == "hung");
    let mut hung: Vec<u64> = hung.map(|row| row["conn"].parse().unwrap()).collect();
    hung.sort_unstable();
    assert!(!hung.is_empty(), "{rows:?}");
    assert_eq!(figures["longer_in_capture"], json!(hung));
    assert_eq!(
        figures["segments"]["only_in"],
        json!({ "capture": hung.len() })
    );
    assert_eq!(figures["different"], json!([]));
    assert_eq!(figures["disagree"], json!([]));
}

#[test]
#[ignore = "needs root, netns, tcpdump, tshark, ruby, analysis/environment"]
fn the_notebook_tells_whole_responses_from_cut_ones() {
    enter_namespace();
    let options = "--count 20 --concurrency 1 --signal none";
    let recordings =
        Recordings::make(|out| run_probe_with(&format!("{options} {out}"), &ruby(CUTTER)));
    let rows = recordings.rows();
    let wanted = [
        ("malformed", 4),
        ("reset_midway", 4),
        ("served", 8),
        ("truncated", 4),
    ];
    assert_eq!(outcomes(&rows), BTreeMap::from(wanted));
    let figures = figures(Some(&recordings));
    assert_eq!(figures["disagree"], json!([]));
    assert_eq!(figures["lost"], json!({ "run": 12, "capture": 12 }));
}

#[test]
#[ignore = "needs root, netns, tshark, analysis/environment"]
fn the_notebook_that_is_told_nothing_reads_the_kept_run() {
    enter_namespace();
    assert_agrees(&figures(None), &repository(KEPT));
}

#[test]
#[ignore = "needs root, netns, tshark and editcap, analysis/environment"]
fn the_notebook_names_every_connection_that_does_not_fit_and_no_other() {
    enter_namespace();
    let recordings = Recordings::kept();
    let rows = recordings.rows();
    let conn = |row: &Row| row["conn"].parse::<u64>().unwrap();
    let nth = |n, outcome: &str| {
        let mut with = rows.iter().filter(|row| row["outcome"] == outcome);
        with.nth(n).unwrap()
    };
    let (no_request, no_row) = (nth(0, "reset_empty"), nth(1, "reset_empty"));
    let (other_flags, no_packets) = (nth(0, "served"), nth(0, "refused"));
    let is_of = |line: &str, row: &Row| line.split(',').nth(1) == Some(&row["conn"]);

    let of = |row: &Row| format!("tcp.port == {}", row["src_port"]);
    let request = format!("{} && tcp.dstport == 9292 && tcp.len > 0", of(no_request));
    let request = recordings.frames(&request);
    assert_eq!(request.len(), 1);
    let packets = recordings.frames(&of(no_packets));
    recordings.remove_frames(&[request, packets].concat());
    recordings.rewrite("events.csv", |line| {
        Some(if is_of(line, other_flags) {
            line.replace(",segment,>,P.,", ",segment,>,.,")
        } else {
            line.to_owned()
        })
    });
    recordings.rewrite("connections.csv", |line| {
        (!is_of(line, no_row)).then(|| line.to_owned())
    });

    let figures = figures(Some(&recordings));
    let mut different = [conn(no_request), conn(other_flags)];
    different.sort_unstable();
    assert_eq!(figures["connections"], rows.len() - 1);
    assert_eq!(figures["joined"], rows.len() - 2);
    assert_eq!(figures["different"], json!(different));
    assert_eq!(figures["other_order"], json!([]));
    assert_eq!(figures["same"], rows.len() - 4);
    // Without its request the reset seems to have come before it.
    assert_eq!(figures["disagree"], json!([conn(no_request)]));
    assert_eq!(figures["only_in_run"], json!([conn(no_packets)]));
    assert_eq!(figures["only_in_capture"].as_array().unwrap().len(), 1);
    let alone = json!({ "run": 2, "capture": 1 });
    assert_eq!(figures["segments"]["only_in"], alone, "{figures}");
}

#[test]
fn notebooks_are_stored_without_what_they_showed() {
    let notebooks: Vec<PathBuf> = fs::read_dir(repository("analysis"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "ipynb"))
        .collect();
    assert!(!notebooks.is_empty());
    for path in notebooks {
        let stored = notebook(&path);
        for cell in stored["cells"].as_array().unwrap() {
            if cell["cell_type"] == "code" {
                let place = format!("{}, cell {}", path.display(), cell["id"]);
                assert_eq!(cell["outputs"], json!([]), "{place}: clear the outputs");
                assert!(cell["execution_count"].is_null(), "{place}");
            }
        }
    }
}
