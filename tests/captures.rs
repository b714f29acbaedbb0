//! The captures of real servers that the repository keeps: what `probe read` says of each connection
//! is what its curl reported, what tshark shows, and what it said before.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read the captures, and end at the first surprise"
)]

mod common;

#[path = "captures/broken.rs"]
mod broken;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use probe::outcome::Outcome;

use common::{Row, probe, rows, run, stderr, stdout, tshark};

/// Where the servers of all of them listened.
const SERVER: &str = "127.0.0.1:9292";

/// A capture, and what lies beside it.
struct Kept {
    folder: PathBuf,
    file: PathBuf,
}

impl Kept {
    /// All that are whole.
    fn all() -> Vec<Kept> {
        let mut kept: Vec<Kept> = fs::read_dir(captures())
            .unwrap()
            .filter_map(|entry| {
                let folder = entry.unwrap().path();
                let name = folder.file_name()?.to_string_lossy().into_owned();
                let file = ["pcap", "pcapng"]
                    .map(|extension| folder.join(format!("{name}.{extension}")))
                    .into_iter()
                    .find(|file| file.exists())?;
                Some(Kept { folder, file })
            })
            .collect();
        kept.sort_by(|a, b| a.file.cmp(&b.file));
        assert!(kept.len() >= 8, "{}", kept.len());
        kept
    }

    /// Those whose clients were curls.
    fn with_curls() -> Vec<Kept> {
        let mut kept = Kept::all();
        kept.retain(|kept| kept.folder.join("curl.csv").exists());
        assert!(kept.len() >= 8, "{}", kept.len());
        kept
    }

    fn name(&self) -> String {
        let name = self.folder.file_name().unwrap();
        name.to_string_lossy().into_owned()
    }

    fn beside(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// What reading it gave before. A run's own connections.csv is the run's.
    fn rows_before(&self) -> String {
        let is_run = self.folder.join("run.json").exists();
        let name = if is_run {
            "read.csv"
        } else {
            "connections.csv"
        };
        self.beside(name).expect("its rows")
    }

    /// What `probe read` makes of it.
    fn read(&self) -> Output {
        let mut command = probe();
        command.arg("read").arg(&self.file);
        command.args(["--port", "9292", "--quiet", "--csv", "-"]);
        if let Some(signal) = self.beside("signal") {
            command.args(["--signal-at", signal.trim()]);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        output
    }

    fn rows(&self) -> Vec<Row> {
        rows(&self.read().stdout)
    }
}

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")
}

/// How often each thing occurs.
fn counts(things: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}

#[test]
fn every_capture_gives_the_rows_that_it_gave_before() {
    for kept in Kept::all() {
        assert_eq!(stdout(&kept.read()), kept.rows_before(), "{}", kept.name());
    }
}

#[test]
fn every_flow_has_the_outcome_that_its_curl_reported() {
    for kept in Kept::with_curls() {
        let curls = rows(kept.beside("curl.csv").expect("its curls").as_bytes());
        let flows = kept.rows();
        // curl prints port 0 where it was refused.
        let curl = |row: &Row| match row["curl_exit"].as_str() {
            "7" => "0 7".to_owned(),
            code => format!("{} {code}", row["local_port"]),
        };
        let ours = |row: &Row| match row["curl_exit"].as_str() {
            "7" => "0 7".to_owned(),
            code => format!("{} {code}", row["src_port"]),
        };
        assert_eq!(
            counts(flows.iter().map(ours)),
            counts(curls.iter().map(curl)),
            "{}",
            kept.name()
        );
    }
}

/// Captures of which tshark's list tells something else: it puts fragments together, and of a
/// connection without a SYN nobody says which end is the server.
const NOT_AS_TSHARK: &[&str] = &["fragments", "unfinished"];

#[test]
#[ignore = "needs tshark"]
fn every_flow_has_the_sequence_that_tshark_shows() {
    for kept in Kept::all() {
        let name = kept.name();
        if NOT_AS_TSHARK.contains(&name.as_str()) {
            continue;
        }
        let read = kept.rows();
        let servers: BTreeSet<SocketAddr> = read.iter().map(server).collect();
        for at in servers {
            let flows = tshark::read(&fs::read(&kept.file).unwrap(), at);
            let key = |port: &str, sequence: &str| format!("{port} {sequence}");
            let theirs = flows.iter().map(|flow| {
                let port = flow.client.port().to_string();
                key(&port, &flow.sequence().to_string())
            });
            let ours = read.iter().filter(|row| server(row) == at);
            let ours = ours.map(|row| key(&row["src_port"], &row["sequence"]));
            assert_eq!(counts(ours), counts(theirs), "{name}");
        }
    }
}

fn server(row: &Row) -> SocketAddr {
    let port = row["dst_port"].parse().unwrap();
    SocketAddr::new(row["dst_addr"].parse().unwrap(), port)
}

#[test]
fn the_index_names_every_capture() {
    let index = fs::read_to_string(captures().join("README.md")).unwrap();
    let named = index.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut named: Vec<&str> = named.filter_map(|line| line.split('`').next()).collect();
    named.sort_unstable();
    let kept: Vec<String> = Kept::all().iter().map(Kept::name).collect();
    assert_eq!(named, kept);
}

/// Every outcome that a capture can show is shown by one; the others need a deadline, or are the
/// probe's own trouble.
#[test]
fn every_outcome_of_a_capture_is_in_one() {
    let live_only = [
        Outcome::Unanswered,
        Outcome::Hung,
        Outcome::Stalled,
        Outcome::LocalError,
    ];
    let mut wanted: Vec<&str> = Outcome::ALL
        .into_iter()
        .filter(|outcome| !live_only.contains(outcome))
        .map(Outcome::word)
        .collect();
    wanted.sort_unstable();
    let kept = Kept::all();
    let rows = kept.iter().flat_map(Kept::rows);
    let shown = counts(rows.map(|row| row["outcome"].clone()));
    assert_eq!(shown.into_keys().collect::<Vec<_>>(), wanted);
}

#[test]
fn without_a_port_the_server_is_found() {
    for kept in Kept::with_curls() {
        let output = probe().arg("read").arg(&kept.file).output().unwrap();
        let said = stdout(&output);
        assert!(said.contains(&format!(" to {SERVER} in ")), "{said}");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
#[ignore = "needs editcap, which comes with tshark"]
fn a_capture_gives_the_same_rows_as_pcapng() {
    let folder = tempfile::tempdir().unwrap();
    for kept in Kept::all() {
        let name = kept.name();
        let converted = folder.path().join(format!("{name}.pcapng"));
        let (from, to) = (kept.file.to_string_lossy(), converted.to_string_lossy());
        run("editcap", &["-F", "pcapng", &from, &to]);
        let pcapng = Kept {
            folder: kept.folder.clone(),
            file: converted,
        };
        assert_eq!(stdout(&pcapng.read()), stdout(&kept.read()), "{name}");
    }
}

#[test]
fn a_capture_that_is_cut_off_gives_what_comes_before() {
    let kept = &Kept::with_curls()[0];
    let bytes = fs::read(&kept.file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.pcap");
    let whole = kept.rows();
    // In the middle of a packet: none is as short as this.
    fs::write(&cut, &bytes[..bytes.len() - 20]).unwrap();
    let mut command = probe();
    command
        .arg("read")
        .arg(&cut)
        .args(["--csv", "-", "--quiet"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    let named = format!(
        "{} is cut off in the middle of a packet, at byte ",
        cut.display()
    );
    assert!(said.starts_with(&format!("probe: {named}")), "{said}");
    assert_eq!(rows(&output.stdout).len(), whole.len());
}
