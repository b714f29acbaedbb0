//! Connections acted out after a script, eight bytes a packet, and recorded as a pcap file: nearly
//! every script is segments that have to do with each other, which bytes at random hardly ever are.

use super::file::{Frames, OwnContent};
use super::{fingerprint, rows};

/// Says what the next packet is.
type Line = [u8; 8];

/// What may be sent; a line picks one, or takes bytes out of the lines behind it.
const TEXTS: &[&[u8]] = &[
    b"",
    b"",
    b"",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HT",
    b"TP/1.1\r\n\r\n",
    b"hello",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 20",
    b"0 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"SSH-2.0-OpenSSH_9.2\r\n",
];

/// How far apart two packets are: from nothing to longer than a flow is waited for.
pub(super) const GAPS_NS: [i64; 8] = [
    0,
    1,
    1_000,
    1_000_000,
    250_000_000,
    1_000_000_000,
    3_000_000_000,
    -500_000,
];

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// The bit of a line's last byte by which no segment is sent, but an error about it.
const ICMP: u8 = 0x80;

/// Connections at a time.
const CLIENTS: usize = 4;

/// Takes a script.
pub fn script(data: &[u8]) {
    let capture = Recorder::record(data);
    let read = Frames::read(&capture.pcap[..]);
    assert_eq!(read.frames.len(), capture.packets);
    for frame in &read.frames {
        assert!(matches!(frame.content, OwnContent::Ip { .. }));
    }
    rows::check(&read.frames, fingerprint(data));
}

struct Recorder {
    pcap: Vec<u8>,
    packets: usize,
    now: i64,
    /// The next sequence number of each connection's server and client.
    next: [[u32; 2]; CLIENTS],
}

impl Recorder {
    fn record(data: &[u8]) -> Recorder {
        let mut recorder = Recorder {
            pcap: Vec::new(),
            packets: 0,
            now: 1_700_000_000_000_000_000,
            next: [[0; 2]; CLIENTS],
        };
        // Nanoseconds, version 2.4, raw IP.
        for field in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 101] {
            recorder.pcap.extend(field.to_le_bytes());
        }
        let mut rest = data;
        while let Some((line, behind)) = rest.split_first_chunk() {
            let taken = recorder.act(line, behind);
            rest = &behind[taken..];
        }
        recorder
    }

    /// Sends a packet; returns how many bytes of what follows the line were its payload.
    fn act(&mut self, line: &Line, behind: &[u8]) -> usize {
        let &[who, flags, seq, ack, text, cut, gap, extra] = line;
        self.now += GAPS_NS[usize::from(gap) % GAPS_NS.len()];
        let client = usize::from(who >> 1) % CLIENTS;
        let from_client = usize::from(who & 1);
        let six = who & 0x08 != 0;
        let (payload, taken) = match TEXTS.get(usize::from(text)) {
            Some(text) => (*text, 0),
            None => {
                let taken = usize::from(text).min(behind.len());
                (&behind[..taken], taken)
            }
        };
        let next = &mut self.next[client];
        if flags & SYN != 0 && extra & 0x40 != 0 {
            // Near the end of the number space, so that it wraps.
            next[from_client] = u32::MAX - u32::from(extra);
        }
        let own = next[from_client].wrapping_add(offset(seq));
        let peer = next[1 - from_client].wrapping_add(offset(ack));
        if flags & RST == 0 && seq == 0 && extra & ICMP == 0 {
            let space = u32::try_from(payload.len()).unwrap_or_default()
                + u32::from(flags & SYN != 0)
                + u32::from(flags & FIN != 0);
            next[from_client] = own.wrapping_add(space);
        }
        let client_port = 40_000 + u16::try_from(client).unwrap_or_default();
        let ports = match from_client {
            1 => [client_port, 9292],
            _ => [9292, client_port],
        };
        let tcp = tcp(ports, [own, peer], flags, extra, payload);
        if extra & ICMP != 0 {
            self.icmp(six, from_client == 1, &tcp, seq, ack);
        } else {
            let packet = ip(six, from_client == 1, if six { 6 } else { 0x0106 }, &tcp);
            self.write(&packet, usize::from(cut));
        }
        taken
    }

    /// An error about the segment, from the side it was sent to.
    fn icmp(&mut self, six: bool, from_client: bool, tcp: &[u8], kind: u8, code: u8) {
        let mut icmp = vec![kind % 16, code % 16, 0, 0, 0, 0, 0, 0];
        icmp.extend(ip(six, from_client, 6, tcp));
        let protocol = if six { 58 } else { 1 };
        let packet = ip(six, !from_client, protocol, &icmp);
        self.write(&packet, 0);
    }

    /// A packet whose last bytes are not captured.
    fn write(&mut self, packet: &[u8], cut: usize) {
        let len = u32::try_from(packet.len()).unwrap_or_default();
        let captured = &packet[..packet.len().saturating_sub(cut).max(1)];
        let captured_len = u32::try_from(captured.len()).unwrap_or_default();
        let seconds = u32::try_from(self.now / 1_000_000_000).unwrap_or_default();
        let nanos = u32::try_from(self.now % 1_000_000_000).unwrap_or_default();
        for field in [seconds, nanos, captured_len, len] {
            self.pcap.extend(field.to_le_bytes());
        }
        self.pcap.extend(captured);
        self.packets += 1;
    }
}

/// A TCP segment; bits of `extra` choose its options and window.
fn tcp(ports: [u16; 2], numbers: [u32; 2], flags: u8, extra: u8, payload: &[u8]) -> Vec<u8> {
    let options: &[u8] = match extra & 0x03 {
        0 => &[],
        1 => &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        2 => &[1, 3, 3, 7],
        _ => &[2, 4, 5, 180],
    };
    let window: u16 = if extra & 0x04 != 0 { 0 } else { 512 };
    let mut segment = Vec::new();
    segment.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    segment.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    let words = u8::try_from(5 + options.len() / 4).unwrap_or_default();
    segment.extend([words << 4, flags]);
    segment.extend(window.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// Mostly nothing; else a little, to either side, or much.
pub(super) fn offset(byte: u8) -> u32 {
    match byte.cast_signed() {
        i8::MIN => 0x7fff_ffff,
        i8::MAX => 0x0010_0001,
        small => i32::from(small).cast_unsigned(),
    }
}

/// An IP header in front of `inner`; bits of `protocol` above the eighth are IPv4's identification.
fn ip(six: bool, from_client: bool, protocol: u16, inner: &[u8]) -> Vec<u8> {
    let [id, protocol] = protocol.to_be_bytes();
    let len = u16::try_from(inner.len()).unwrap_or_default();
    let hosts = if from_client { [1, 2] } else { [2, 1] };
    let mut packet = Vec::new();
    if six {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(len.to_be_bytes());
        packet.extend([protocol, 64]);
        for host in hosts {
            packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
    } else {
        packet.extend([0x45, 0]);
        packet.extend((len + 20).to_be_bytes());
        packet.extend([id, id, 0x40, 0, 64, protocol, 0, 0]);
        for host in hosts {
            packet.extend([10, 0, 0, host]);
        }
    }
    packet.extend(inner);
    packet
}
