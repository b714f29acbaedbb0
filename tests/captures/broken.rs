//! Captures with one defect each, made out of a whole one: the files in captures/broken are these,
//! and `probe read` says of each what the index says it does.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{probe, rows, stderr};

/// Bytes of a classic pcap file's header, and of a packet's.
const FILE: usize = 24;
const PACKET: usize = 16;
/// Bytes of Ethernet's header.
const LINK: usize = 14;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")
}

/// The whole capture that all are made of: one connection, served.
struct Whole {
    header: Vec<u8>,
    /// With their headers.
    packets: Vec<Vec<u8>>,
}

impl Whole {
    fn read() -> Whole {
        let bytes = fs::read(captures().join("served/served.pcap")).unwrap();
        let (header, mut rest) = bytes.split_at(FILE);
        let mut packets = Vec::new();
        while rest.len() >= PACKET {
            let len = PACKET + number(rest, 8) as usize;
            let (packet, behind) = rest.split_at(len);
            packets.push(packet.to_vec());
            rest = behind;
        }
        // The client's port of the first connection, wherever it stands.
        let port = packets[0][PACKET + LINK + 20..][..2].to_vec();
        packets.retain(|packet| {
            let ports = &packet[PACKET + LINK + 20..][..4];
            ports[..2] == port || ports[2..] == port
        });
        Whole {
            header: header.to_vec(),
            packets,
        }
    }

    /// With something changed in the file's header.
    fn with_header(&self, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut header = self.header.clone();
        change(&mut header);
        [header, self.packets.concat()].concat()
    }

    /// With something changed in the sixth packet, the response.
    fn with_packet(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut packets = self.packets.clone();
        change(&mut packets[5]);
        [self.header.clone(), packets.concat()].concat()
    }

    /// The first bytes, so that of the last packet so many are left.
    fn cut(&self, left: usize) -> Vec<u8> {
        let last = self.packets.last().unwrap();
        let mut bytes = self.with_header(|_| {});
        bytes.truncate(bytes.len() - last.len() + left);
        bytes
    }

    /// The same as pcapng: a section, an interface, a block for each packet. `change` may change
    /// the blocks.
    fn pcapng(&self, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
        let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        section.extend([1, 0, 0, 0]);
        section.extend(u64::MAX.to_le_bytes());
        let mut blocks = vec![block(SECTION, &section), interface(1, &[(9, &[9])])];
        for packet in &self.packets {
            let stamp = u64::from(number(packet, 0)) * 1_000_000_000 + u64::from(number(packet, 4));
            let mut body = 0_u32.to_le_bytes().to_vec();
            let [low, high] = [stamp & 0xffff_ffff, stamp >> 32];
            body.extend(u32::try_from(high).unwrap().to_le_bytes());
            body.extend(u32::try_from(low).unwrap().to_le_bytes());
            body.extend(&packet[8..]);
            blocks.push(block(ENHANCED_PACKET, &body));
        }
        change(&mut blocks);
        blocks.concat()
    }

    /// As pcapng, with something changed in the response's block.
    fn with_block(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        self.pcapng(|blocks| change(&mut blocks[7]))
    }

    /// Every broken capture, by file name.
    fn broken(&self) -> Vec<(&'static str, Vec<u8>)> {
        let set = |at: usize, value: u32| {
            move |bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes())
        };
        let ip = PACKET + LINK;
        let tcp = ip + 20;
        vec![
            ("empty.pcap", Vec::new()),
            ("not-a-capture.txt", b"No capture, but a text.\n".to_vec()),
            (
                "compressed.pcap.gz",
                b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec(),
            ),
            ("cut-in-file-header.pcap", self.header[..10].to_vec()),
            ("cut-in-packet-header.pcap", self.cut(7)),
            ("cut-in-packet-body.pcap", self.cut(PACKET + 20)),
            (
                "unknown-version.pcap",
                self.with_header(|header| header[4] = 9),
            ),
            (
                "unknown-link-type.pcap",
                self.with_header(|header| header[20] = 147),
            ),
            (
                "zero-snaplen.pcap",
                self.with_header(|header| header[16..20].fill(0)),
            ),
            (
                "caplen-greater-than-snaplen.pcap",
                self.with_header(|header| header[16..20].copy_from_slice(&[60, 0, 0, 0])),
            ),
            (
                "caplen-greater-than-length.pcap",
                self.with_packet(set(12, 60)),
            ),
            ("caplen-absurd.pcap", self.with_packet(set(8, 0xffff_fff0))),
            (
                "fraction-of-two-seconds.pcap",
                self.with_packet(set(4, 2_000_000_000)),
            ),
            (
                "ip-total-length-too-large.pcap",
                self.with_packet(|packet| packet[ip + 2..ip + 4].fill(0xff)),
            ),
            (
                "ip-total-length-too-small.pcap",
                self.with_packet(|packet| packet[ip + 2..ip + 4].copy_from_slice(&[0, 30])),
            ),
            (
                "ip-version-unknown.pcap",
                self.with_packet(|packet| packet[ip] = 0x95),
            ),
            (
                "tcp-data-offset-too-small.pcap",
                self.with_packet(|packet| packet[tcp + 12] = 0x40),
            ),
            (
                "tcp-data-offset-too-large.pcap",
                self.with_packet(|packet| {
                    packet[tcp + 12] = 0xf0;
                    packet[ip + 2..ip + 4].copy_from_slice(&[0, 52]);
                }),
            ),
            (
                "section-header-missing.pcapng",
                self.pcapng(|blocks| drop(blocks.remove(0))),
            ),
            (
                "section-byte-order-unknown.pcapng",
                self.pcapng(|blocks| blocks[0][8] = 0),
            ),
            (
                "cut-in-block.pcapng",
                self.pcapng(|blocks| blocks.last_mut().unwrap().truncate(30)),
            ),
            (
                "block-length-mismatch.pcapng",
                self.with_block(|block| {
                    let tail = block.len() - 4;
                    block[tail] += 4;
                }),
            ),
            (
                "block-length-too-large.pcapng",
                self.with_block(set(4, 0x7fff_fffc)),
            ),
            ("block-length-too-small.pcapng", self.with_block(set(4, 8))),
            ("block-length-odd.pcapng", self.with_block(set(4, 61))),
            (
                "caplen-greater-than-block.pcapng",
                self.with_block(set(20, 4_000)),
            ),
            ("interface-id-unknown.pcapng", self.with_block(set(8, 7))),
            (
                "interface-link-type-unknown.pcapng",
                self.pcapng(|blocks| blocks[1] = interface(147, &[])),
            ),
            (
                "interface-option-too-long.pcapng",
                self.pcapng(|blocks| blocks[1][18] = 200),
            ),
            (
                "timestamp-resolution-absurd.pcapng",
                self.pcapng(|blocks| blocks[1] = interface(1, &[(9, &[127])])),
            ),
            (
                "no-timestamps.pcapng",
                self.pcapng(|blocks| {
                    for packet in &mut blocks[2..] {
                        let body = packet[24..packet.len() - 4].to_vec();
                        *packet = block(SIMPLE_PACKET, &body);
                    }
                }),
            ),
        ]
    }
}

fn index() -> PathBuf {
    captures().join("broken/README.md")
}

/// Whether what is kept is to be made again, as `captures/make` has it.
fn keeping() -> bool {
    std::env::var_os("PROBE_KEEP_CAPTURES").is_some()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]))
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let len = u32::try_from(padded + 12).unwrap().to_le_bytes();
    let mut block = [&kind.to_le_bytes(), &len, body].concat();
    block.resize(8 + padded, 0);
    block.extend(len);
    block
}

fn interface(link: u16, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = [link.to_le_bytes(), [0, 0]].concat();
    body.extend(262_144_u32.to_le_bytes());
    for (code, value) in options {
        body.extend(code.to_le_bytes());
        body.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    block(INTERFACE, &body)
}

/// A line of the index: what reading a file gives.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    name: String,
    exit: String,
    outcomes: String,
    says: String,
}

impl Told {
    /// What the index says.
    fn all() -> Vec<Told> {
        let index = fs::read_to_string(index()).unwrap();
        let lines = index.lines().filter(|line| line.starts_with("| `"));
        lines
            .map(|line| {
                let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
                let [name, exit, outcomes, says] = cells.try_into().expect("four cells");
                let plain = |cell: &str| cell.trim().replace(['`', '\\'], "");
                Told {
                    name: plain(name),
                    exit: plain(exit),
                    outcomes: plain(outcomes),
                    says: plain(says),
                }
            })
            .collect()
    }

    /// Its line in the index.
    fn line(&self) -> String {
        let says = self.says.replace('|', "\\|");
        format!(
            "| `{}` | {} | {} | {says} |\n",
            self.name, self.exit, self.outcomes
        )
    }

    /// What happens.
    fn of(name: &str) -> Told {
        let output = probe()
            .current_dir(captures().join("broken"))
            .args(["read", name, "--port", "9292", "--quiet", "--csv", "-"])
            .output()
            .unwrap();
        let rows = if output.stdout.is_empty() {
            Vec::new()
        } else {
            rows(&output.stdout)
        };
        let outcomes: Vec<String> = rows
            .iter()
            .map(|row| match row["caveats"].as_str() {
                "" => row["outcome"].clone(),
                caveats => format!("{} ({caveats})", row["outcome"]),
            })
            .collect();
        let said = stderr(&output).trim().replace('`', "");
        Told {
            name: name.to_owned(),
            exit: output.status.code().unwrap().to_string(),
            outcomes: outcomes.join(", "),
            says: said.strip_prefix("probe: ").unwrap_or(&said).to_owned(),
        }
    }
}

#[test]
fn broken_captures_are_broken_as_they_are_called() {
    let folder = captures().join("broken");
    let made = Whole::read().broken();
    if keeping() {
        for (name, bytes) in &made {
            fs::write(folder.join(name), bytes).unwrap();
        }
        let before = fs::read_to_string(index()).unwrap();
        let text = before.lines().filter(|line| !line.starts_with("| `"));
        let text: String = text.map(|line| format!("{line}\n")).collect();
        let lines: String = made.iter().map(|(name, _)| Told::of(name).line()).collect();
        fs::write(index(), text + &lines).unwrap();
    }
    let told = Told::all();
    assert_eq!(told.len(), made.len());
    for ((name, bytes), told) in made.iter().zip(told) {
        let kept = fs::read(folder.join(name)).unwrap();
        assert!(kept == *bytes, "{name} is another file");
        assert_eq!(Told::of(name), told);
    }
}
