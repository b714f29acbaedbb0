//! A segment that is due, and its bytes: an IPv4 or IPv6 packet as Linux's own stack sends it.

use std::net::SocketAddr;
use std::ops::Range;

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, Ipv4Flags, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::{self, MutableTcpPacket};

use super::Id;
use crate::wire::Flags;

/// What hosts begin with (RFC 1700; net.ipv4.ip_default_ttl, net.ipv6.conf.all.hop_limit).
const TTL: u8 = 64;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
/// The largest packet is 65,535 bytes long (RFC 791 3.1).
pub(super) const MAX_MSS: u16 = u16::MAX - 40;

/// A segment to send. Its payload is the caller's: `payload` says which bytes of what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The connection it is of; none for a RST to a port whose connection is gone.
    pub id: Option<Id>,
    /// From where.
    pub client: SocketAddr,
    /// To whom.
    pub server: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number; 0 without ACK.
    pub ack: u32,
    /// Its flags.
    pub flags: Flags,
    /// The window field, scaled already.
    pub window: u16,
    /// Its TCP options.
    pub options: SendOptions,
    /// IPv4's identification. 0 in answers that no connection gives, as Linux sends them.
    pub ip_id: u16,
    /// IPv6's flow label, 20 bits.
    pub flow_label: u32,
    /// The bytes that it carries, counted from the first one written. At most 65,495.
    pub payload: Range<u64>,
}

/// TCP options, in the order in which Linux writes them (`tcp_options_write`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SendOptions {
    /// The largest payload we take (RFC 9293 3.7.1); in a SYN alone.
    pub mss: Option<u16>,
    /// Selective acknowledgments may be sent to us (RFC 2018 2); in a SYN alone.
    pub sack_permitted: bool,
    /// Timestamps (RFC 7323 3): value and echo.
    pub timestamps: Option<(u32, u32)>,
    /// The window scale (RFC 7323 2); in a SYN alone.
    pub window_scale: Option<u8>,
    /// What we have beyond the acknowledgment number (RFC 2018 3).
    pub sack: SackBlocks,
}

/// Up to three blocks, each from its first number to the one behind its last: what fits beside
/// timestamps (RFC 2018 3). The first holds what came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SackBlocks {
    blocks: [(u32, u32); SackBlocks::MOST],
    count: u8,
}

impl SackBlocks {
    /// What fits beside timestamps.
    pub(super) const MOST: usize = 3;

    /// Adds a block, where there is room.
    pub(super) fn push(&mut self, from: u32, to: u32) {
        if let Some(block) = self.blocks.get_mut(usize::from(self.count)) {
            *block = (from, to);
            self.count += 1;
        }
    }

    /// The blocks.
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.blocks[..usize::from(self.count)]
    }
}

const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

impl SendOptions {
    /// Bytes that they take in the header: a multiple of four.
    pub fn size(&self) -> usize {
        let sack = match self.sack.as_slice().len() {
            0 => 0,
            blocks => 4 + 8 * blocks,
        };
        4 * usize::from(self.mss.is_some())
            + if self.timestamps.is_some() {
                12
            } else {
                4 * usize::from(self.sack_permitted)
            }
            + 4 * usize::from(self.window_scale.is_some())
            + sack
    }

    /// Writes them into `out`, which is [`size`](SendOptions::size) long.
    fn write(&self, out: &mut [u8]) {
        let mut rest = out;
        let mut put = |bytes: &[u8]| {
            let taken = std::mem::take(&mut rest);
            let (now, behind) = taken.split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            rest = behind;
        };
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            put(&[MSS, 4, a, b]);
        }
        // Linux lets SACK-permitted stand where the padding of the timestamps would.
        let padding = match (self.sack_permitted, self.timestamps.is_some()) {
            (true, true) => Some([SACK_PERMITTED, 2]),
            (false, true) => Some([NOP, NOP]),
            (true, false) => {
                put(&[NOP, NOP, SACK_PERMITTED, 2]);
                None
            }
            (false, false) => None,
        };
        if let (Some(padding), Some((value, echo))) = (padding, self.timestamps) {
            put(&padding);
            put(&[TIMESTAMPS, 10]);
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            put(&[NOP, WINDOW_SCALE, 3, shift]);
        }
        let blocks = self.sack.as_slice();
        if !blocks.is_empty() {
            put(&[NOP, NOP, SACK, 2 + 8 * self.sack.count]);
            for (from, to) in blocks {
                put(&from.to_be_bytes());
                put(&to.to_be_bytes());
            }
        }
    }
}

impl Transmit {
    /// Bytes of payload.
    pub fn payload_len(&self) -> usize {
        usize::try_from(self.payload.end - self.payload.start).unwrap_or(usize::MAX)
    }

    /// Bytes of the packet, from its IP header on.
    pub fn packet_len(&self) -> usize {
        let ip = if self.client.is_ipv4() {
            V4_HEADER
        } else {
            V6_HEADER
        };
        ip + TCP_HEADER + self.options.size() + self.payload_len()
    }

    /// Writes the packet, checksums filled in, to the start of `out`, and returns its length:
    /// [`packet_len`](Transmit::packet_len). `payload` holds the bytes of [`payload`](Transmit::payload)
    /// and no others. None where `out` is shorter than the packet, or `payload` of another length.
    pub fn write(&self, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        if payload.len() != self.payload_len() {
            return None;
        }
        let packet = out.get_mut(..self.packet_len())?;
        let len = packet.len();
        match (self.client, self.server) {
            (SocketAddr::V4(client), SocketAddr::V4(server)) => {
                packet[..V4_HEADER].fill(0);
                let mut ip = MutableIpv4Packet::new(packet)?;
                ip.set_version(4);
                ip.set_header_length(5);
                ip.set_total_length(u16::try_from(len).ok()?);
                ip.set_identification(self.ip_id);
                ip.set_flags(Ipv4Flags::DontFragment);
                ip.set_ttl(TTL);
                ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
                ip.set_source(*client.ip());
                ip.set_destination(*server.ip());
                let checksum = ipv4::checksum(&ip.to_immutable());
                ip.set_checksum(checksum);
                let mut tcp = self.write_tcp(payload, packet.get_mut(V4_HEADER..)?)?;
                let checksum = tcp::ipv4_checksum(&tcp.to_immutable(), client.ip(), server.ip());
                tcp.set_checksum(checksum);
            }
            (SocketAddr::V6(client), SocketAddr::V6(server)) => {
                packet[..V6_HEADER].fill(0);
                let mut ip = MutableIpv6Packet::new(packet)?;
                ip.set_version(6);
                ip.set_flow_label(self.flow_label);
                ip.set_payload_length(u16::try_from(len - V6_HEADER).ok()?);
                ip.set_next_header(IpNextHeaderProtocols::Tcp);
                ip.set_hop_limit(TTL);
                ip.set_source(*client.ip());
                ip.set_destination(*server.ip());
                let mut tcp = self.write_tcp(payload, packet.get_mut(V6_HEADER..)?)?;
                let checksum = tcp::ipv6_checksum(&tcp.to_immutable(), client.ip(), server.ip());
                tcp.set_checksum(checksum);
            }
            _ => return None,
        }
        Some(len)
    }

    fn write_tcp<'a>(&self, payload: &[u8], out: &'a mut [u8]) -> Option<MutableTcpPacket<'a>> {
        let header = TCP_HEADER + self.options.size();
        out[..TCP_HEADER].fill(0);
        self.options.write(out.get_mut(TCP_HEADER..header)?);
        out.get_mut(header..)?.copy_from_slice(payload);
        let mut tcp = MutableTcpPacket::new(out)?;
        tcp.set_source(self.client.port());
        tcp.set_destination(self.server.port());
        tcp.set_sequence(self.seq);
        tcp.set_acknowledgement(self.ack);
        tcp.set_data_offset(u8::try_from(header / 4).ok()?);
        tcp.set_flags(self.flags.0);
        tcp.set_window(self.window);
        Some(tcp)
    }
}
