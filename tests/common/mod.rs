//! What the live tests share: a network namespace of their own, the probe run inside it, and its
//! CSV read back. Every process started from a test's thread lives in that thread's namespace.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part"
)]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "live tests start the probe, read what it wrote, and say why they cannot go on"
)]

pub(crate) mod fate;
pub(crate) mod fate_server;
pub(crate) mod kernel;
pub(crate) mod logfmt;
pub(crate) mod namespace;
pub(crate) mod nginx;
pub(crate) mod pcap;
pub(crate) mod prefork;
pub(crate) mod process;
pub(crate) mod puma;
pub(crate) mod reads;
pub(crate) mod recorded;
pub(crate) mod slow;
pub(crate) mod tshark;
pub(crate) mod verdict;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sched::{CloneFlags, CpuSet, sched_getcpu, sched_setaffinity, unshare};
use nix::unistd::Pid;

/// Sysctls every live test runs with, whatever the host has.
const SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/tcp_abort_on_overflow", "0"),
    ("net/ipv4/tcp_ecn", "2"),
    ("net/ipv4/tcp_fastopen", "0"),
    ("net/ipv4/tcp_max_syn_backlog", "4096"),
    ("net/ipv4/tcp_syncookies", "0"),
    ("net/ipv4/tcp_timestamps", "1"),
    ("net/ipv4/ip_local_port_range", "32768 60999"),
    ("net/core/somaxconn", "4096"),
];

/// Moves this thread, and what it starts from here on, into a fresh network namespace with its
/// loopback up and its sysctls pinned. The namespace goes when the last of them ends.
pub(crate) fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("needs root: unshare(CLONE_NEWNET)");
    run("ip", &["link", "set", "lo", "up"]);
    for (name, value) in SYSCTLS {
        sysctl(name, value);
    }
}

/// Keeps this thread, and what it starts, on the processor it is on.
///
/// On loopback and veth a TCP segment still carries its sender's time of departure when it arrives,
/// and the kernel then leaves the stamp of arrival to each capture (`skb_tstamp`,
/// `tpacket_get_timestamp`): it passes one capture after the other and gets two stamps, half a
/// microsecond apart. Two segments that cross on two processors in that time stand in one order here
/// and in the other there, and neither is wrong. On one processor each segment passes all captures
/// before the next one is touched.
pub(crate) fn one_processor() {
    let mut here = CpuSet::new();
    let cpu = sched_getcpu().expect("getcpu");
    here.set(cpu).expect("a processor's number");
    sched_setaffinity(Pid::from_raw(0), &here).expect("sched_setaffinity");
}

/// Sets a sysctl of this thread's namespace.
pub(crate) fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/{name}"), value).unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Runs a tool that must succeed.
pub(crate) fn run(tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{tool}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Loads rules into nftables of this thread's namespace.
pub(crate) fn nft(rules: &str) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), rules).expect("the rules are written");
    run("nft", &["-f", &file.path().to_string_lossy()]);
}

/// The probe's command, not yet started.
pub(crate) fn probe() -> Command {
    Command::new(env!("CARGO_BIN_EXE_probe"))
}

/// Runs the probe with arguments separated by spaces.
pub(crate) fn run_probe(args: &str) -> Output {
    probe()
        .args(args.split_whitespace())
        .output()
        .expect("the probe starts")
}

/// Runs `probe OPTIONS -- COMMAND`, the options separated by spaces.
pub(crate) fn run_probe_with(options: &str, command: &[String]) -> Output {
    probe()
        .args(options.split_whitespace())
        .arg("--")
        .args(command)
        .output()
        .expect("the probe starts")
}

/// A copy of the probe in `folder` that every user may run: the binary under test may lie where they
/// may not go.
pub(crate) fn binary_for_everybody(folder: &Path) -> PathBuf {
    let binary = folder.join("probe");
    fs::copy(env!("CARGO_BIN_EXE_probe"), &binary).expect("a copy");
    run("chmod", &["-R", "a+rx", &folder.to_string_lossy()]);
    binary
}

/// The command that runs `binary` as a user without privileges.
pub(crate) fn as_nobody(binary: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(binary);
    command
}

/// The run.json in a folder that the probe filled.
pub(crate) fn run_json(folder: &Path) -> serde_json::Value {
    let text = fs::read(folder.join("run.json")).expect("run.json was written");
    serde_json::from_slice(&text).expect("it is JSON")
}

/// The probe's stderr as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The probe's stdout as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One row of a CSV, by column name.
pub(crate) type Row = HashMap<String, String>;

/// Reads a CSV that the probe wrote.
pub(crate) fn read_csv(path: &Path) -> Vec<Row> {
    let text = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    rows(&text)
}

/// Reads CSV text that the probe wrote.
pub(crate) fn rows(text: &[u8]) -> Vec<Row> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().expect("a header").clone();
    reader
        .records()
        .map(|record| {
            let record = record.expect("a row");
            let cells = header.iter().zip(record.iter());
            cells.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
        })
        .collect()
}
