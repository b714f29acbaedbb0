//! The second opinion: tcpdump records the same packets while the probe runs, and tshark tells each
//! connection's segments from that file. Nothing of the probe is used but its notation.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use probe::sequence::Sequence;
use probe::wire::{Direction, Flags};

use super::run;

/// The payload of the last datagram: once tcpdump shows it, it has shown all that went before.
const MARKER: &[u8] = b"probe-tests: nothing that is compared comes behind this";
/// UDP's discard service; nobody listens there.
const MARKER_PORT: u16 = 9;
/// A capture that has not shown the marker by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// tcpdump at work.
pub(crate) struct Capture {
    tcpdump: Child,
    stderr: BufReader<ChildStderr>,
    recorded: Receiver<Vec<u8>>,
}

/// A connection as the capture shows it.
#[derive(Debug)]
pub(crate) struct CapturedFlow {
    /// Who sent the SYN.
    pub(crate) client: SocketAddr,
    /// Its segments, in the order of their stamps.
    pub(crate) segments: Vec<CapturedSegment>,
}

/// One segment as the capture shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CapturedSegment {
    /// Its stamp, in nanoseconds since the Unix epoch.
    pub(crate) at: i64,
    /// Who sent it.
    pub(crate) direction: Direction,
    /// Its flags.
    pub(crate) flags: Flags,
    /// Payload bytes.
    pub(crate) len: u32,
    /// Sequence number, as sent.
    pub(crate) seq: u32,
}

/// One line of tshark's.
struct Frame {
    at: i64,
    src: SocketAddr,
    dst: SocketAddr,
    flags: Flags,
    len: u32,
    seq: u32,
}

impl CapturedFlow {
    /// In the probe's notation.
    pub(crate) fn sequence(&self) -> Sequence {
        let mut sequence = Sequence::default();
        for segment in &self.segments {
            sequence.push(segment.direction, segment.flags, segment.len);
        }
        sequence
    }

    /// The stamp of its SYN.
    pub(crate) fn syn_at(&self) -> i64 {
        self.segments[0].at
    }

    /// The sequence number that one side began with.
    pub(crate) fn isn(&self, direction: Direction) -> Option<u32> {
        let first = self.segments.iter().find(|s| s.direction == direction);
        first.map(|segment| segment.seq)
    }
}

impl Capture {
    /// Starts to record what crosses `interface`; when this returns, it does.
    pub(crate) fn start(interface: &str) -> Capture {
        // Immediate mode, so that the marker shows at once and not when a block is full. It gives
        // each packet a frame of the snap length: the ring must be large and the snap length small,
        // or a burst overruns it.
        let mut tcpdump = Command::new("tcpdump")
            .args(["-i", interface, "-w", "-", "-U", "--immediate-mode"])
            .args(["-B", "32768", "-s", "512", "-Z", "root", "-n"])
            .arg("--time-stamp-precision=nano")
            .arg(format!("tcp or icmp or icmp6 or udp port {MARKER_PORT}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump starts");
        let stdout = tcpdump.stdout.take().expect("its stdout is ours");
        let mut stderr = BufReader::new(tcpdump.stderr.take().expect("its stderr is ours"));
        wait_for_line(&mut stderr, "listening on");
        let pid = Pid::from_raw(tcpdump.id().cast_signed());
        let recorded = read_to_marker(stdout, pid);
        Capture {
            tcpdump,
            stderr,
            recorded,
        }
    }

    /// Ends the recording once it has seen everything up to now, and tells the connections to
    /// `server`, which is where the marker goes, so that it takes the same way.
    pub(crate) fn finish(self, server: SocketAddr) -> Vec<CapturedFlow> {
        flows(frames(&self.end(server.ip())), server)
    }

    /// The same, and hands over the file as tcpdump wrote it. The marker, sent to `host`, is its last
    /// packet.
    pub(crate) fn end(mut self, host: IpAddr) -> Vec<u8> {
        let unspecified: IpAddr = if host.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = UdpSocket::bind((unspecified, 0)).expect("a UDP socket");
        socket
            .send_to(MARKER, (host, MARKER_PORT))
            .expect("the marker is sent");
        let bytes = self
            .recorded
            .recv_timeout(PATIENCE)
            .expect("tcpdump shows the marker");
        let mut said = String::new();
        self.stderr
            .read_to_string(&mut said)
            .expect("tcpdump's last words");
        // Without this a difference could be tcpdump's.
        assert!(
            said.contains("\n0 packets dropped by kernel"),
            "tcpdump itself lost packets: {said}"
        );
        bytes
    }
}

/// The connections to `server` in a capture that somebody took.
pub(crate) fn read(capture: &[u8], server: SocketAddr) -> Vec<CapturedFlow> {
    flows(frames(capture), server)
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

fn wait_for_line(stderr: &mut BufReader<ChildStderr>, wanted: &str) {
    let mut said = String::new();
    while !said.contains(wanted) {
        let read = stderr.read_line(&mut said).expect("tcpdump's stderr");
        assert!(read > 0, "tcpdump did not start: {said}");
    }
}

/// Reads what tcpdump writes; at the marker stops it, and hands over the whole capture.
fn read_to_marker(mut stdout: ChildStdout, tcpdump: Pid) -> Receiver<Vec<u8>> {
    let (give, take) = channel();
    let work = move || {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        let mut marked = false;
        while let Ok(n @ 1..) = stdout.read(&mut chunk) {
            // The marker may lie across the edge of two chunks.
            let from = bytes.len().saturating_sub(MARKER.len());
            bytes.extend_from_slice(&chunk[..n]);
            if !marked && bytes[from..].windows(MARKER.len()).any(|w| w == MARKER) {
                marked = true;
                kill(tcpdump, Signal::SIGINT).expect("tcpdump is there");
            }
        }
        if marked {
            // Where the test has failed meanwhile, nobody wants it.
            let _ = give.send(bytes);
        }
    };
    thread::Builder::new()
        .name("tcpdump".to_owned())
        .spawn(work)
        .expect("a thread");
    take
}

/// What tshark reads in a capture, in the order of the stamps. In the file two packets may stand
/// the other way round: two processors hand them over side by side.
fn frames(capture: &[u8]) -> Vec<Frame> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("packets.pcap");
    fs::write(&file, capture).expect("the capture is kept");
    let fields = [
        "frame.time_epoch",
        "ip.src",
        "ipv6.src",
        "ip.dst",
        "ipv6.dst",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.flags",
        "tcp.len",
        "tcp.seq_raw",
    ];
    let file = file.to_string_lossy();
    // ICMP errors quote a TCP header; they are no segments.
    let mut args = vec!["-n", "-r", &file, "-Y", "tcp && !icmp && !icmpv6"];
    args.extend(["-T", "fields"]);
    args.extend(fields.iter().flat_map(|field| ["-e", field]));
    let mut frames: Vec<Frame> = run("tshark", &args).lines().map(Frame::read).collect();
    frames.sort_by_key(|frame| frame.at);
    frames
}

impl Frame {
    fn read(line: &str) -> Frame {
        let cells: Vec<&str> = line.split('\t').collect();
        let [at, src4, src6, dst4, dst6, sport, dport, flags, len, seq] = cells[..] else {
            panic!("tshark printed `{line}`");
        };
        let end = |v4: &str, v6: &str, port: &str| {
            let ip: IpAddr = format!("{v4}{v6}").parse().expect("an address");
            SocketAddr::new(ip, port.parse().expect("a port"))
        };
        let flags = u16::from_str_radix(flags.trim_start_matches("0x"), 16).expect("flags");
        Frame {
            at: nanoseconds(at),
            src: end(src4, src6, sport),
            dst: end(dst4, dst6, dport),
            flags: Flags(flags.to_be_bytes()[1]),
            len: len.parse().expect("a length"),
            seq: seq.parse().expect("a sequence number"),
        }
    }
}

/// `1700000000.123456789` in nanoseconds.
fn nanoseconds(epoch: &str) -> i64 {
    let (seconds, fraction) = epoch.split_once('.').expect("a fraction");
    assert_eq!(fraction.len(), 9, "nanoseconds: {epoch}");
    format!("{seconds}{fraction}").parse().expect("a time")
}

/// Puts frames together to connections. A SYN with a new sequence number begins one, so that a port
/// may be used again.
fn flows(frames: Vec<Frame>, server: SocketAddr) -> Vec<CapturedFlow> {
    let mut flows: Vec<CapturedFlow> = Vec::new();
    let mut newest: HashMap<SocketAddr, usize> = HashMap::new();
    for frame in frames {
        let (direction, client) = if frame.dst == server {
            (Direction::ToServer, frame.src)
        } else if frame.src == server {
            (Direction::ToClient, frame.dst)
        } else {
            continue;
        };
        let known = newest.get(&client).copied();
        let is_known = |i: usize| flows[i].isn(Direction::ToServer) == Some(frame.seq);
        let begins = frame.flags.syn() && !frame.flags.ack() && !known.is_some_and(is_known);
        let i = match known {
            Some(i) if !begins => i,
            _ => {
                assert!(begins, "the capture began inside the flow of {client}");
                let segments = Vec::new();
                flows.push(CapturedFlow { client, segments });
                newest.insert(client, flows.len() - 1);
                flows.len() - 1
            }
        };
        flows[i].segments.push(CapturedSegment {
            at: frame.at,
            direction,
            flags: frame.flags,
            len: frame.len,
            seq: frame.seq,
        });
    }
    flows
}
