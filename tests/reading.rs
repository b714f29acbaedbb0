//! Reading captures that are not one file of one interface: pipes, several interfaces, and an end that
//! somebody makes with Ctrl-C.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests start the probe and tcpdump, and end at the first surprise"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::pcap::{Pcap, kept};
use common::{Row, enter_namespace, probe, rows, run_json, stderr, stdout};

/// What lies beside a kept capture.
fn beside(name: &str, file: &str) -> String {
    fs::read_to_string(kept(name).with_file_name(file)).unwrap()
}

#[test]
fn a_capture_is_read_from_a_pipe() {
    let name = "puma-3.12.1-repro";
    let output = probe()
        .args(["read", "-", "--port", "9292", "--quiet", "--csv", "-"])
        .stdin(fs::File::open(kept(name)).unwrap())
        .output()
        .unwrap();
    let outcomes = |rows: Vec<Row>| -> Vec<String> {
        rows.into_iter().map(|row| row["outcome"].clone()).collect()
    };
    let before = rows(beside(name, "connections.csv").as_bytes());
    assert_eq!(outcomes(rows(&output.stdout)), outcomes(before));
}

/// A captured packet: on which interface, when, and its bytes from the IP header on.
#[derive(Clone)]
struct Packet {
    interface: u32,
    at: u64,
    ip: Vec<u8>,
}

/// The packets of a kept capture.
fn packets(name: &str) -> Vec<Packet> {
    let pcap = Pcap::read(&kept(name));
    let records = pcap.records.iter().enumerate();
    let packets = records.map(|(at, record)| Packet {
        interface: 0,
        at: pcap.stamp(at),
        ip: record.ip().to_vec(),
    });
    packets.collect()
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
    for name in ["puma-3.12.1-term", "puma-7.2.1-term", "unicorn-6.0.0-quit"] {
        let packets = packets(name);
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
            command.args(["--signal-at", beside(name, "signal").trim()]);
            let output = command.arg("--out").arg(&out).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            let read = fs::read_to_string(out.join("connections.csv")).unwrap();
            assert_eq!(read, beside(name, "connections.csv"), "{name} {format}");
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
    let name = "puma-7.2.1-term";
    for (with, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut child = reading(Stdio::piped());
        // It stays open, as a live capture's does.
        let mut stdin: ChildStdin = child.stdin.take().unwrap();
        stdin.write_all(&fs::read(kept(name)).unwrap()).unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        // All of its connections are over, so that their rows come while the pipe is open.
        let all = rows(beside(name, "connections.csv").as_bytes()).len();
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

#[test]
fn a_port_that_nobody_spoke_to_is_told_with_one_that_was() {
    let output = probe()
        .args(["read", "--port", "80"])
        .arg(kept("puma-7.2.1-simple"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let table = stdout(&output);
    assert!(table.contains("a SYN went to 127.0.0.1:9292"), "{table}");
}

#[test]
fn a_recording_of_several_runs_has_the_loss_window_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let joined = folder.path().join("joined.pcapng");
    let runs = ["puma-5.6.5-sleepy", "puma-5.6.5-sleepy"];
    let recordings = runs.map(|name| fs::read(kept(name).with_file_name("run.pcapng")).unwrap());
    fs::write(&joined, recordings.concat()).unwrap();
    let losses = |capture: &Path| {
        let output = probe().arg("read").arg(capture).output().unwrap();
        let table = stdout(&output);
        let line = table.lines().find(|line| line.starts_with("lost "));
        let (_, window) = line.unwrap().split_once("loss window ").unwrap();
        window
            .trim_end_matches("from the signal")
            .trim_end_matches("from each signal")
            .to_owned()
    };
    let one = kept(runs[0]).with_file_name("run.pcapng");
    assert_eq!(losses(&joined), losses(&one));
}
