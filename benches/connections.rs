//! How fast the probe makes and records connections, beside a bare epoll loop that records nothing:
//! alone, and with `tcpdump -w /dev/null` running next to it; and what the server's kernel costs when
//! it is asked too. Needs root, nginx and tcpdump.
//!
//!     cargo bench --bench connections [-- ROUNDS [CONNECTIONS]]
//!
//! The contenders take turns, in a network namespace of their own; what is printed are medians and
//! ratios to the bare loop of the same run. With all vantages the probe must keep [`ALL_VANTAGES`] of
//! its rate with packets alone.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark starts processes, connects, reads the clock and divides"
)]

mod common;

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    CONCURRENCY, Nginx, TARGET, bare_loop, enter_namespace, median, rate, rounds_and_connections,
    terminate,
};
use nix::sys::signal::Signal;

/// What the kernel of a server that is looked into may cost the measurement: less would change what
/// is measured.
const ALL_VANTAGES: f64 = 0.75;

fn main() -> io::Result<()> {
    let (rounds, connections) = rounds_and_connections();
    enter_namespace()?;
    let folder = tempfile::tempdir()?;
    let nginx = Nginx::start(folder.path())?;
    bare_loop(connections / 10)?;

    let mut bare = Vec::new();
    let mut with_tcpdump = Vec::new();
    let mut probe = Vec::new();
    let mut with_all = Vec::new();
    let mut all_to_packets = Vec::new();
    let mut with_pcap = Vec::new();
    let mut sockets = Vec::new();
    let mut walls = Vec::new();
    let mut pcap_walls = Vec::new();
    for round in 1..=rounds {
        bare.push(rate(connections, bare_loop(connections)?));
        let tcpdump = Tcpdump::start()?;
        with_tcpdump.push(rate(connections, bare_loop(connections)?));
        tcpdump.stop()?;
        let run = run_probe(connections, "socket,wire", None, folder.path())?;
        assert!(run.complete, "{}", run.table);
        probe.push(rate(connections, run.span));
        walls.push(run.wall.as_secs_f64());
        let run = run_probe(connections, ALL, None, folder.path())?;
        assert!(run.complete, "{}", run.table);
        with_all.push(rate(connections, run.span));
        let run = run_probe(
            connections,
            "socket,wire",
            Some("run.pcapng"),
            folder.path(),
        )?;
        assert!(run.complete, "{}", run.table);
        with_pcap.push(rate(connections, run.span));
        pcap_walls.push(run.wall.as_secs_f64());
        let run = run_probe(connections, "socket", None, folder.path())?;
        sockets.push(rate(connections, run.span));
        let last = |rates: &[f64]| rates.last().copied().unwrap_or(0.0);
        all_to_packets.push(last(&with_all) / last(&probe));
        eprintln!(
            "round {round}: bare {:.0}/s, with tcpdump {:.0}/s, probe {:.0}/s, all vantages {:.0}/s, \
             with --pcap {:.0}/s, without wire {:.0}/s",
            last(&bare),
            last(&with_tcpdump),
            last(&probe),
            last(&with_all),
            last(&with_pcap),
            last(&sockets),
        );
    }
    let base = median(&mut bare);
    println!("{connections} connections, {CONCURRENCY} at a time, {rounds} rounds, medians");
    println!("bare loop                    {base:>8.0}/s  1.000");
    for (name, rates) in [
        ("bare loop beside tcpdump", &mut with_tcpdump),
        ("probe, all rows to CSV", &mut probe),
        ("with all vantages", &mut with_all),
        ("the same with --pcap", &mut with_pcap),
        ("probe --observe socket", &mut sockets),
    ] {
        let rate = median(rates);
        println!("{name:<28} {rate:>8.0}/s  {:.3}", rate / base);
    }
    let kept = median(&mut all_to_packets);
    println!("all vantages to packets alone, round by round  {kept:.3}");
    println!("probe, exec to exit          {:>8.2} s", median(&mut walls));
    println!(
        "with --pcap, exec to exit    {:>8.2} s",
        median(&mut pcap_walls)
    );

    let fifty = |observe: &str| -> io::Result<f64> {
        let mut walls = Vec::new();
        for _ in 0..rounds {
            walls.push(run_probe_with(&["-n", "50", "--observe", observe])?.as_secs_f64() * 1e3);
        }
        Ok(median(&mut walls))
    };
    println!(
        "50 connections, exec to exit: {:.1} ms from the sockets alone",
        fifty("socket")?
    );
    println!(
        "50 connections, exec to exit: {:.1} ms with packets",
        fifty("socket,wire")?
    );
    println!(
        "50 connections, exec to exit: {:.1} ms with all vantages",
        fifty(ALL)?
    );
    nginx.stop()?;
    assert!(kept >= ALL_VANTAGES, "all vantages keep {kept:.3}");
    Ok(())
}

/// Every vantage that there is.
const ALL: &str = "socket,wire,diag,trace";

struct ProbeRun {
    /// From the first SYN to the end of the last connection, by its own CSV.
    span: Duration,
    wall: Duration,
    complete: bool,
    table: String,
}

fn run_probe(
    connections: usize,
    observe: &str,
    pcap: Option<&str>,
    folder: &Path,
) -> io::Result<ProbeRun> {
    let csv = folder.join("connections.csv");
    let pcap = pcap.map(|name| folder.join(name));
    let pcap = pcap.iter().flat_map(|path| ["--pcap".into(), path.into()]);
    let pcap: Vec<std::ffi::OsString> = pcap.collect();
    let began = Instant::now();
    let output = probe(&[
        "-n",
        &connections.to_string(),
        "-c",
        &CONCURRENCY.to_string(),
        "--observe",
        observe,
        "--csv",
        &csv.to_string_lossy(),
    ])
    .args(pcap)
    .output()?;
    let wall = began.elapsed();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let wired = observe == "socket" || table.contains(", 0 dropped by the kernel");
    let served = table.contains(&format!("lost 0 of the {connections} "));
    Ok(ProbeRun {
        span: span(&csv)?,
        wall,
        complete: output.status.success() && wired && served && (observe != ALL || all_read(&csv)?),
        table,
    })
}

fn span(csv: &Path) -> io::Result<Duration> {
    let mut reader = csv::Reader::from_path(csv)?;
    let header = reader.headers()?.clone();
    let column = |name| header.iter().position(|h| h == name).unwrap_or(0);
    let (opened, end) = (column("opened_unix_ns"), column("end_us"));
    let (mut first, mut last) = (f64::INFINITY, 0_f64);
    let mut base = None;
    for row in reader.records() {
        let row = row?;
        let opened: i64 = row[opened].parse().unwrap_or(0);
        // Relative to the first row, so that a double is exact enough.
        let opened = (opened - *base.get_or_insert(opened)) as f64 / 1e9;
        first = first.min(opened);
        last = last.max(opened + row[end].parse::<f64>().unwrap_or(0.0) / 1e6);
    }
    Ok(Duration::from_secs_f64(last - first))
}

/// Whether every connection was seen to be read by a process: no event was lost.
fn all_read(csv: &Path) -> io::Result<bool> {
    let mut reader = csv::Reader::from_path(csv)?;
    let read = reader.headers()?.iter().position(|h| h == "read_us");
    let read = read.ok_or_else(|| io::Error::other("no read_us"))?;
    let mut rows = reader.records();
    rows.try_fold(true, |all, row| Ok(all && !row?[read].is_empty()))
}

fn run_probe_with(args: &[&str]) -> io::Result<Duration> {
    let began = Instant::now();
    let output = probe(args).output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(began.elapsed())
}

fn probe(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
    command.args(["--target", TARGET]).args(args);
    command
}

struct Tcpdump(Child);

impl Tcpdump {
    fn start() -> io::Result<Tcpdump> {
        let mut child = Command::new("tcpdump")
            .args(["-i", "lo", "-w", "/dev/null", "tcp", "port", "8088"])
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stderr = child.stderr.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(stderr).read_line(&mut line)?;
        assert!(line.contains("listening on"), "{line}");
        Ok(Tcpdump(child))
    }

    fn stop(mut self) -> io::Result<()> {
        terminate(&self.0, Signal::SIGINT);
        self.0.wait().map(drop)
    }
}
