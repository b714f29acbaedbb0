//! Capture files as tests take them apart and put them together: classic pcap, little-endian, Ethernet,
//! as tcpdump writes it. Nothing of the probe's readers is used.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes before the first record, and before each one's packet.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Ethernet's header.
const LINK: usize = 14;

/// A capture, record by record.
#[derive(Clone)]
pub(crate) struct Pcap {
    header: Vec<u8>,
    /// In the order of the file.
    pub(crate) records: Vec<Record>,
}

/// A record: its header and its frame.
#[derive(Clone)]
pub(crate) struct Record(Vec<u8>);

/// A capture that the repository keeps.
pub(crate) fn kept(name: &str) -> PathBuf {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    captures.join(name).join(format!("{name}.pcap"))
}

impl Pcap {
    /// Reads one whole.
    pub(crate) fn read(path: &Path) -> Pcap {
        let bytes = fs::read(path).expect("a capture");
        let (header, mut rest) = bytes.split_at(FILE_HEADER);
        assert_eq!(
            header[20..24],
            1_u32.to_le_bytes(),
            "little-endian, Ethernet"
        );
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (record, behind) = rest.split_at(RECORD_HEADER + word(rest, 8) as usize);
            records.push(Record(record.to_vec()));
            rest = behind;
        }
        Pcap {
            header: header.to_vec(),
            records,
        }
    }

    /// Writes it.
    pub(crate) fn write(&self, path: &Path) {
        let mut bytes = self.header.clone();
        self.records
            .iter()
            .for_each(|record| bytes.extend(&record.0));
        fs::write(path, bytes).expect("a capture is written");
    }

    /// When a record's packet was captured, in nanoseconds since the epoch.
    pub(crate) fn stamp(&self, at: usize) -> u64 {
        let to_nanos = match word(&self.header, 0) {
            0xa1b2_c3d4 => 1_000,
            magic => {
                assert_eq!(magic, 0xa1b2_3c4d, "classic pcap");
                1
            }
        };
        let record = &self.records[at].0;
        u64::from(word(record, 0)) * 1_000_000_000 + u64::from(word(record, 4)) * to_nanos
    }

    /// Puts the packet of `from` where that of `to` is, and the other way round; their times stay.
    pub(crate) fn swap_packets(&mut self, from: usize, to: usize) {
        self.records.swap(from, to);
        let stamps = [from, to].map(|at| self.records[at].0[..8].to_vec());
        self.records[from].0[..8].copy_from_slice(&stamps[1]);
        self.records[to].0[..8].copy_from_slice(&stamps[0]);
    }
}

impl Record {
    /// The captured bytes from the IP header on.
    pub(crate) fn ip(&self) -> &[u8] {
        &self.0[RECORD_HEADER + LINK..]
    }

    pub(crate) fn ip_mut(&mut self) -> &mut [u8] {
        &mut self.0[RECORD_HEADER + LINK..]
    }

    /// How many there were on the wire.
    pub(crate) fn ip_len(&self) -> usize {
        word(&self.0, 12) as usize - LINK
    }

    /// From the TCP header on, behind an IPv4 header without options.
    pub(crate) fn tcp(&self) -> &[u8] {
        &self.ip()[20..]
    }

    /// The two ports, the lower one first.
    pub(crate) fn ports(&self) -> [u16; 2] {
        let tcp = self.tcp();
        let mut ports = [0, 2].map(|i| u16::from_be_bytes([tcp[i], tcp[i + 1]]));
        ports.sort_unstable();
        ports
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
