//! From bytes to segments: one IP packet in, one [`Packet`] out, lengths as they were on the wire.
//! What the segments of a connection mean together is left to [`flow`](crate::flow).

mod checksum;
mod digest;
mod icmp;
mod ip;
mod tcp;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use pnet_packet::ip::IpNextHeaderProtocols;

use crate::time::Stamp;

pub use checksum::checksums_are_right;
pub use digest::{Digest, Likeness};
pub use icmp::IcmpError;
pub use tcp::{Options, Segment};

/// What one captured packet turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A TCP segment.
    Segment(Segment<'a>),
    /// An ICMP or ICMPv6 error that quotes a TCP segment.
    IcmpError(IcmpError),
    /// A fragment other than a whole packet: counted, never guessed at.
    Fragment,
    /// Any other well-formed packet.
    Other,
}

impl Packet<'_> {
    /// The same, to be kept for longer than the bytes it was read from.
    pub fn into_owned(self) -> Packet<'static> {
        match self {
            Packet::Segment(segment) => Packet::Segment(segment.into_owned()),
            Packet::IcmpError(error) => Packet::IcmpError(error),
            Packet::Fragment => Packet::Fragment,
            Packet::Other => Packet::Other,
        }
    }
}

/// Why bytes could not be read as a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The captured bytes end inside a header.
    #[error("the captured bytes end inside the {0} header")]
    Short(&'static str),
    /// The IP version is neither 4 nor 6.
    #[error("IP version {0}, expected 4 or 6")]
    Version(u8),
    /// A length field contradicts the header it stands in.
    #[error("the {0} header has an impossible length field")]
    Length(&'static str),
}

/// Reads one packet that begins at its IP header. `frame_len` is its length on the wire, used where
/// the header leaves its own at 0 (BIG TCP, segmentation offload). Checksums are not verified:
/// loopback and veth leave them to hardware that is not there.
pub fn parse(at: Stamp, bytes: &[u8], frame_len: usize) -> Result<Packet<'_>, ParseError> {
    let ip = ip::locate(bytes, frame_len)?;
    if ip.fragment {
        return Ok(Packet::Fragment);
    }
    if ip.protocol == IpNextHeaderProtocols::Tcp.0 {
        let segment = tcp::parse(at, ip.src, ip.dst, ip.ip_id, ip.bytes, ip.len)?;
        Ok(Packet::Segment(segment))
    } else if ip.protocol == IpNextHeaderProtocols::Icmp.0 {
        Ok(icmp::parse_v4(at, &ip).map_or(Packet::Other, Packet::IcmpError))
    } else if ip.protocol == IpNextHeaderProtocols::Icmpv6.0 {
        Ok(icmp::parse_v6(at, &ip).map_or(Packet::Other, Packet::IcmpError))
    } else {
        Ok(Packet::Other)
    }
}

/// Who sent a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Client to server, `>`.
    ToServer,
    /// Server to client, `<`.
    ToClient,
}

impl Direction {
    /// The arrow that stands for it in the sequence notation.
    pub fn arrow(self) -> char {
        match self {
            Direction::ToServer => '>',
            Direction::ToClient => '<',
        }
    }
}

/// A connection's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The end that sent the SYN.
    pub client: SocketAddr,
    /// The end that listened.
    pub server: SocketAddr,
}

/// By addresses and ports alone, in few steps: each segment of a capture is looked up by its ends.
impl Hash for Ends {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for end in [&self.client, &self.server] {
            match end.ip() {
                IpAddr::V4(ip) => {
                    state.write_u64(u64::from(ip.to_bits()) << 16 | u64::from(end.port()));
                }
                IpAddr::V6(ip) => {
                    state.write_u128(ip.to_bits());
                    state.write_u16(end.port());
                }
            }
        }
    }
}

/// TCP's flag byte (RFC 9293 3.1, with RFC 3168's ECE and CWR), printed as tcpdump does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push buffered data to the application.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgment field counts.
    pub const ACK: Flags = Flags(0x10);

    /// tcpdump's letter for each bit, in the order of the bits, in which tcpdump prints them.
    const LETTERS: [(u8, char); 8] = [
        (0x01, 'F'),
        (0x02, 'S'),
        (0x04, 'R'),
        (0x08, 'P'),
        (0x10, '.'),
        (0x20, 'U'),
        (0x40, 'E'),
        (0x80, 'W'),
    ];

    /// The flag that tcpdump prints as `letter`.
    pub fn from_letter(letter: char) -> Option<Flags> {
        Self::LETTERS
            .iter()
            .find(|&&(_, l)| l == letter)
            .map(|&(bit, _)| Flags(bit))
    }

    /// Writes them as they print themselves.
    pub(crate) fn write_to(self, out: &mut impl fmt::Write) -> fmt::Result {
        if self.0 == 0 {
            return out.write_str("none");
        }
        let mut rest = self.0;
        while rest != 0 {
            let (_, letter) = Self::LETTERS[rest.trailing_zeros() as usize];
            out.write_char(letter)?;
            // Takes the lowest bit away.
            rest &= rest - 1;
        }
        Ok(())
    }

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// SYN set.
    pub const fn syn(self) -> bool {
        self.has(Self::SYN)
    }

    /// ACK set.
    pub const fn ack(self) -> bool {
        self.has(Self::ACK)
    }

    /// FIN set.
    pub const fn fin(self) -> bool {
        self.has(Self::FIN)
    }

    /// RST set.
    pub const fn rst(self) -> bool {
        self.has(Self::RST)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

#[cfg(test)]
mod tests;
