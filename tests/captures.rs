//! The captures of real servers that the repository keeps: what `probe read` says of each connection
//! is what its curl reported, what tshark shows, and what it said before.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests read the captures, make live ones, and end at the first surprise"
)]

mod common;

#[path = "captures/broken.rs"]
mod broken;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe::outcome::Outcome;

use common::{Row, enter_namespace, probe, rows, run, run_json, stderr, stdout, tshark};

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

#[test]
fn a_capture_is_read_from_a_pipe() {
    let kept = &Kept::with_curls()[0];
    let output = probe()
        .args(["read", "-", "--port", "9292", "--quiet", "--csv", "-"])
        .stdin(fs::File::open(&kept.file).unwrap())
        .output()
        .unwrap();
    let outcomes = |rows: Vec<Row>| counts(rows.into_iter().map(|row| row["outcome"].clone()));
    assert_eq!(outcomes(rows(&output.stdout)), outcomes(kept.rows()));
}

/// A captured packet: on which interface, when, and its bytes from the IP header on.
#[derive(Clone)]
struct Packet {
    interface: u32,
    at: u64,
    ip: Vec<u8>,
}

/// The packets of a kept capture: classic pcap, little-endian, Ethernet.
fn packets(kept: &Kept) -> Vec<Packet> {
    let bytes = fs::read(&kept.file).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 1));
    let mut packets = Vec::new();
    let mut next = 24;
    while next < bytes.len() {
        let end = next + 16 + word(next + 8) as usize;
        packets.push(Packet {
            interface: 0,
            at: u64::from(word(next)) * 1_000_000_000 + u64::from(word(next + 4)),
            ip: bytes[next + 16 + 14..end].to_vec(),
        });
        next = end;
    }
    packets
}

/// A pcapng file with interfaces of that link type, `header` in front of each packet.
fn pcapng(
    link: u16,
    interfaces: u32,
    packets: &[Packet],
    header: impl Fn(&Packet) -> Vec<u8>,
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let len = u32::try_from(body.len().next_multiple_of(4) + 12).unwrap();
        file.extend([kind.to_le_bytes(), len.to_le_bytes()].concat());
        file.extend_from_slice(body);
        file.resize(file.len().next_multiple_of(4), 0);
        file.extend(len.to_le_bytes());
    };
    block(
        0x0a0d_0d0a,
        b"\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
    );
    for _ in 0..interfaces {
        // Nanoseconds.
        let options = b"\x09\0\x01\0\x09\0\0\0";
        block(1, &[&link.to_le_bytes()[..], &[0; 6], options].concat());
    }
    for packet in packets {
        let frame = [header(packet), packet.ip.clone()].concat();
        let interface = packet.interface.min(interfaces - 1);
        let len = u32::try_from(frame.len()).unwrap();
        let [high, low] =
            [packet.at >> 32, packet.at & 0xffff_ffff].map(|half| u32::try_from(half).unwrap());
        let fields = [interface, high, low, len, len]
            .map(u32::to_le_bytes)
            .concat();
        block(6, &[fields, frame].concat());
    }
    file
}

/// Each packet on two interfaces, three microseconds apart, and in the file one interface's packets of
/// 20 ms behind the other's.
fn on_two_interfaces(packets: &[Packet]) -> Vec<Packet> {
    let again = packets.iter().map(|packet| Packet {
        interface: 1,
        at: packet.at + 3_000,
        ip: packet.ip.clone(),
    });
    let mut both: Vec<Packet> = packets.iter().cloned().chain(again).collect();
    both.sort_by_key(|packet| (packet.at / 20_000_000, packet.interface, packet.at));
    both
}

#[test]
fn packets_that_crossed_two_interfaces_are_taken_once_and_in_order() {
    let ethernet = |_: &Packet| [&[0; 12][..], &[8, 0]].concat();
    // Protocol, two bytes of nothing, interface, Ethernet, out of the one and into the other.
    let cooked_v2 = |packet: &Packet| {
        let interface = packet.interface.to_be_bytes();
        let way = if packet.interface == 0 { 4 } else { 0 };
        [&[8, 0, 0, 0][..], &interface, &[0, 1, way, 6], &[0; 8]].concat()
    };
    let cooked_v1 = |packet: &Packet| {
        let way = if packet.interface == 0 { 4 } else { 0 };
        [&[0, way, 0, 1, 0, 6][..], &[0; 8], &[8, 0]].concat()
    };
    let folder = tempfile::tempdir().unwrap();
    for kept in Kept::all()
        .into_iter()
        .filter(|kept| kept.beside("signal").is_some())
    {
        let name = kept
            .file
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let packets = packets(&kept);
        let both = on_two_interfaces(&packets);
        let mut once = packets.clone();
        once.sort_by_key(|packet| (packet.at / 20_000_000, std::cmp::Reverse(packet.at)));
        for (format, file, copies) in [
            ("ethernet", pcapng(1, 2, &both, ethernet), packets.len()),
            ("cooked v2", pcapng(276, 1, &both, cooked_v2), packets.len()),
            ("cooked v1", pcapng(113, 1, &both, cooked_v1), packets.len()),
            ("backwards", pcapng(1, 1, &once, ethernet), 0),
        ] {
            let pcap = folder.path().join(format!("{name}.pcapng"));
            fs::write(&pcap, file).unwrap();
            let out = folder.path().join(format!("{name} {format}"));
            let mut command = probe();
            command
                .arg("read")
                .arg(&pcap)
                .args(["--port", "9292", "--quiet"]);
            command.args(["--signal-at", kept.beside("signal").unwrap().trim()]);
            let output = command.arg("--out").arg(&out).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            let read = fs::read_to_string(out.join("connections.csv")).unwrap();
            assert_eq!(
                Some(read),
                kept.beside("connections.csv"),
                "{name} {format}"
            );
            let capture = &run_json(&out)["capture"];
            assert_eq!(capture["duplicates"], copies, "{name} {format}");
            assert_eq!(capture["unordered"], 0, "{name} {format}");
        }
    }
}

/// A probe that reads a pipe.
fn reading(stdin: impl Into<Stdio>) -> Child {
    probe()
        .args(["read", "-", "--port", "9292", "--csv", "-"])
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn an_interrupt_keeps_what_was_read_of_a_pipe() {
    let kept = Kept::all();
    let kept = kept
        .iter()
        .find(|kept| kept.file.ends_with("puma-7.2.1-term.pcap"))
        .unwrap();
    for (with, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut child = reading(Stdio::piped());
        // It stays open, as a live capture's does.
        let mut stdin: ChildStdin = child.stdin.take().unwrap();
        stdin.write_all(&fs::read(&kept.file).unwrap()).unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        // All of its connections are over, so that their rows come while the pipe is open.
        let all = kept.rows().len();
        while said.lines().count() < 1 + all {
            assert!(stdout.read_line(&mut said).unwrap() > 0, "{said}");
        }
        signal(&child, with);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        stdout.read_to_string(&mut said).unwrap();
        assert_eq!(rows(said.as_bytes()).len(), all);
        let table = stderr(&output);
        assert!(
            table.contains("interrupted: this is what was read until then"),
            "{table}"
        );
        drop(stdin);
    }
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn an_interrupt_of_tcpdump_and_probe_keeps_what_tcpdump_holds() {
    enter_namespace();
    let mut tcpdump = Command::new("tcpdump")
        .args([
            "-i", "lo", "-w", "-", "-n", "-s", "512", "-Z", "root", "tcp",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tells = BufReader::new(tcpdump.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("listening on") {
        assert!(tells.read_line(&mut said).unwrap() > 0, "{said}");
    }
    let child = reading(tcpdump.stdout.take().unwrap());
    let listener = TcpListener::bind("127.0.0.1:9292").unwrap();
    for _ in 0..5 {
        let mut client = TcpStream::connect("127.0.0.1:9292").unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut [0; 18]).unwrap();
        server
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        drop(server);
        client.read_to_end(&mut Vec::new()).unwrap();
    }
    // Without output nothing else shows that it is ready.
    let catches = |status: procfs::process::Status| status.sigcgt & 1 << 1 != 0;
    let probe = procfs::process::Process::new(child.id().cast_signed()).unwrap();
    while !probe.status().is_ok_and(catches) {
        std::thread::yield_now();
    }
    // What the kernel still holds tcpdump would leave behind. It tells how far it is when asked.
    loop {
        let dev = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let lo = dev
            .lines()
            .find(|line| line.trim().starts_with("lo:"))
            .unwrap();
        let passed = lo.split_whitespace().nth(2).unwrap();
        signal(&tcpdump, Signal::SIGUSR1);
        let mut counted = String::new();
        tells.read_line(&mut counted).unwrap();
        if counted.contains(&format!("{passed} packets captured")) {
            break;
        }
    }
    // As a terminal does on Ctrl-C. tcpdump writes what it holds only now.
    signal(&child, Signal::SIGINT);
    signal(&tcpdump, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    tcpdump.wait().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let served = |row: &Row| row["outcome"] == "served" && row["caveats"].is_empty();
    assert_eq!(
        rows(&output.stdout)
            .iter()
            .filter(|row| served(row))
            .count(),
        5
    );
}
