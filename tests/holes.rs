//! What a hole in a capture, or a short snap length, may cost: each kept capture is read once for each
//! of its packets, without that packet, and once for each snap length. A row is then as before, or
//! says that something is missing, and no outcome is decided that the missing part would have changed.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests read the captures, and end at the first surprise"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use probe::outcome::Outcome;
use probe::record::{Reading, Record, ServerSide};
use probe::time::Stamp;
use probe::wire::{self, Packet};

use common::pcap::Pcap;

/// Where the servers of all of them listened.
const PORT: u16 = 9292;

/// A captured packet: its time, and its bytes from the IP header on.
struct Captured {
    at: Stamp,
    bytes: Vec<u8>,
    len: usize,
}

/// The packets of a capture, by connection: the client's port.
fn connections(pcap: &Path) -> BTreeMap<u16, Vec<Captured>> {
    let pcap = Pcap::read(pcap);
    let mut connections: BTreeMap<u16, Vec<Captured>> = BTreeMap::new();
    for (at, record) in pcap.records.iter().enumerate() {
        let packet = Captured {
            at: Stamp(i64::try_from(pcap.stamp(at)).unwrap()),
            bytes: record.ip().to_vec(),
            len: record.ip_len(),
        };
        if let Ok(Packet::Segment(segment)) = wire::parse(packet.at, &packet.bytes, packet.len) {
            let ports = [segment.src.port(), segment.dst.port()];
            let client = ports.into_iter().find(|&port| port != PORT).unwrap();
            connections.entry(client).or_default().push(packet);
        }
    }
    connections
}

/// The records of these packets, in the order in which their connections began.
fn read<'a>(packets: impl Iterator<Item = &'a Captured>) -> Vec<Record> {
    read_cut(packets, usize::MAX)
}

/// The same, `snap` bytes of each packet captured.
fn read_cut<'a>(packets: impl Iterator<Item = &'a Captured>, snap: usize) -> Vec<Record> {
    let mut reading = Reading::new(ServerSide::Port(PORT), false);
    for packet in packets {
        let captured = packet.bytes.get(..snap).unwrap_or(&packet.bytes);
        match wire::parse(packet.at, captured, packet.len) {
            Ok(Packet::Segment(segment)) => {
                reading.segment(&segment);
            }
            Ok(Packet::IcmpError(error)) => reading.icmp(&error),
            // No segment is left of it.
            Err(_) if captured.len() < packet.bytes.len() => {}
            other => panic!("{other:?}"),
        }
    }
    reading.finish();
    let ended = std::iter::from_fn(|| reading.next_ended());
    let mut records: Vec<Record> = ended.map(|mut ended| ended.record()).collect();
    records.sort_by_key(|record| record.conn);
    records
}

/// Other link layers, and captures that lack something already.
const LEFT_OUT: [&str; 6] = [
    "cooked",
    "fragments",
    "hole",
    "snapped",
    "snapped-headers",
    "vlan",
];

fn captures() -> Vec<PathBuf> {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let pcap = |entry: std::io::Result<fs::DirEntry>| {
        let folder = entry.unwrap().path();
        let name = folder.file_name()?.to_string_lossy().into_owned();
        if LEFT_OUT.contains(&name.as_str()) {
            return None;
        }
        Some(folder.join(format!("{name}.pcap"))).filter(|pcap| pcap.exists())
    };
    let mut captures: Vec<PathBuf> = fs::read_dir(captures).unwrap().filter_map(pcap).collect();
    captures.sort();
    captures
}

/// What is said of a record that something is missing of.
fn is_marked(record: &Record) -> bool {
    let caveats = record.caveats;
    caveats.hole || caveats.capture_start || caveats.capture_end
}

fn text(record: &Record) -> String {
    let caveats: Vec<&str> = record.caveats.words().collect();
    let sequence = record.sequence.as_ref().unwrap();
    format!(
        "{} [{}] {sequence}",
        record.outcome.word(),
        caveats.join("+")
    )
}

/// What leaves no trace: a request on a kept-alive connection that a RST without ACK answers at once,
/// which the acknowledgment before it may have drawn as well.
const NO_TRACE: (&str, usize) = ("idle-close.pcap", 9);

#[test]
fn a_missing_packet_never_decides() {
    let mut read_again = 0;
    for pcap in captures() {
        for packets in connections(&pcap).values() {
            let whole = read(packets.iter());
            for without in 0..packets.len() {
                let others = packets.iter().enumerate().filter(|&(i, _)| i != without);
                let rest = read(others.map(|(_, packet)| packet));
                for (n, record) in rest.iter().enumerate() {
                    let full = whole.get(n).expect("a connection of the whole capture");
                    let right = record.outcome == full.outcome
                        || record.outcome == Outcome::Unfinished && is_marked(record);
                    let (full, said) = (text(full), text(record));
                    let name = pcap.display();
                    let no_trace = pcap.ends_with(NO_TRACE.0) && without == NO_TRACE.1;
                    assert!(
                        right || no_trace,
                        "{name}: {full}, without packet {without} {said}"
                    );
                }
                read_again += 1;
            }
        }
    }
    assert!(read_again > 1_000, "{read_again}");
}

#[test]
fn a_short_snap_length_never_decides() {
    // IP and TCP header without options: what is shorter is no segment.
    const HEADERS: usize = 40;
    // The longest response in these captures is shorter.
    const WHOLE: usize = 260;
    let (mut kept, mut unclear) = (0, 0);
    for pcap in captures() {
        for packets in connections(&pcap).values() {
            let whole = read(packets.iter());
            for snap in HEADERS..WHOLE {
                for (full, record) in whole.iter().zip(read_cut(packets.iter(), snap)) {
                    let (name, was, said) = (pcap.display(), text(full), text(&record));
                    // Only how far a response came stands in the bytes.
                    if record.outcome == full.outcome {
                        kept += 1;
                    } else {
                        unclear += 1;
                        let blind = record.outcome == Outcome::Unfinished && record.caveats.snapped;
                        let answered = full.response_bytes > Some(0);
                        assert!(blind && answered, "{name}: {was}, by {snap} bytes {said}");
                    }
                    let status = record.http_status;
                    assert!(
                        status.is_none() || status == full.http_status,
                        "{name}: {was}"
                    );
                }
            }
        }
    }
    assert!(kept > 10_000 && unclear > 10_000, "{kept}, {unclear}");
}

#[test]
fn a_status_line_that_was_captured_is_told_though_the_rest_was_not() {
    let pcap = captures()
        .into_iter()
        .find(|pcap| pcap.ends_with("puma-7.2.1-term.pcap"));
    for packets in connections(&pcap.unwrap()).values() {
        let whole = read(packets.iter());
        // Headers of IP and of TCP with timestamps, and `HTTP/1.1 200 OK\r\nC`.
        for (full, record) in whole.iter().zip(read_cut(packets.iter(), 20 + 32 + 18)) {
            assert_eq!(record.http_status, full.http_status);
        }
    }
}
