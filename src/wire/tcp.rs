//! One TCP header and what follows it. Options are walked here because a hostile length in one must
//! never cost more than the options behind it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::{Direction, Ends, Flags, ParseError};
use crate::time::Stamp;

/// The header without its options (RFC 9293 3.1).
const FIXED: usize = 20;

/// One TCP segment as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// When the vantage saw it, by the kernel's stamp.
    pub at: Stamp,
    /// Who sent it.
    pub src: SocketAddr,
    /// To whom.
    pub dst: SocketAddr,
    /// Sequence number of its first byte.
    pub seq: u32,
    /// Acknowledgment number; meaningless without ACK.
    pub ack: u32,
    /// Its flags.
    pub flags: Flags,
    /// The window field, unscaled.
    pub window: u16,
    /// IPv4's identification field.
    pub ip_id: Option<u16>,
    /// TCP options.
    pub options: Options,
    /// Payload bytes on the wire, by the IP header.
    pub len: u32,
    /// Those payload bytes that were captured, from the first on; fewer than `len` when cut. Lent by
    /// the packet they were read from: most are looked at once and never again.
    pub payload: Cow<'a, [u8]>,
}

/// The TCP options that say something about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Bytes of the option area, padding included.
    pub bytes: u8,
    /// Timestamps (RFC 7323): value and echo.
    pub timestamps: Option<(u32, u32)>,
    /// The window scale's shift (RFC 7323), at most 14.
    pub window_scale: Option<u8>,
    /// The largest payload that the sender of a SYN takes in a segment (RFC 9293 3.7.1).
    pub mss: Option<u16>,
    /// Whether selective acknowledgments may be sent to it (RFC 2018 2).
    pub sack_permitted: bool,
}

impl Segment<'_> {
    /// The same with a payload of its own.
    pub fn into_owned(self) -> Segment<'static> {
        Segment {
            payload: Cow::Owned(self.payload.into_owned()),
            ..self
        }
    }

    /// Which way it goes between `ends`, if it belongs to them.
    pub fn direction(&self, ends: &Ends) -> Option<Direction> {
        if self.src == ends.client && self.dst == ends.server {
            Some(Direction::ToServer)
        } else if self.src == ends.server && self.dst == ends.client {
            Some(Direction::ToClient)
        } else {
            None
        }
    }

    /// Payload bytes that the capture's snap length cut off.
    pub fn cut(&self) -> u32 {
        self.len
            - u32::try_from(self.payload.len())
                .unwrap_or(self.len)
                .min(self.len)
    }

    /// The sequence space it takes up: payload, and one each for SYN and FIN (RFC 9293 3.4).
    pub fn space(&self) -> u32 {
        self.len
            .wrapping_add(u32::from(self.flags.syn()))
            .wrapping_add(u32::from(self.flags.fin()))
    }
}

/// Reads the TCP header at the start of `bytes`; `len` counts the bytes of header and payload that
/// were on the wire.
pub(super) fn parse(
    at: Stamp,
    src: IpAddr,
    dst: IpAddr,
    ip_id: Option<u16>,
    bytes: &[u8],
    len: usize,
) -> Result<Segment<'_>, ParseError> {
    let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or(ParseError::Short("TCP"))?;
    let u16_at = |at| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let u32_at = |at| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
    let header = usize::from(fixed[12] >> 4) * 4;
    if header < FIXED || header > len {
        return Err(ParseError::Length("TCP"));
    }
    let options = bytes.get(FIXED..header.min(bytes.len()));
    let payload_len = len - header;
    let payload = bytes.get(header..).unwrap_or_default();
    let payload = &payload[..payload.len().min(payload_len)];
    Ok(Segment {
        at,
        src: SocketAddr::new(src, u16_at(0)),
        dst: SocketAddr::new(dst, u16_at(2)),
        seq: u32_at(4),
        ack: u32_at(8),
        flags: Flags(fixed[13]),
        window: u16_at(14),
        ip_id,
        options: read_options(options.unwrap_or_default(), header - FIXED),
        len: u32::try_from(payload_len).unwrap_or(u32::MAX),
        payload: Cow::Borrowed(payload),
    })
}

/// Walks the option area (RFC 9293 3.1); what a broken length hides is left out.
fn read_options(mut rest: &[u8], area: usize) -> Options {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const MSS: u8 = 2;
    const WINDOW_SCALE: u8 = 3;
    const SACK_PERMITTED: u8 = 4;
    const TIMESTAMPS: u8 = 8;
    let mut options = Options {
        bytes: u8::try_from(area).unwrap_or(u8::MAX),
        ..Options::default()
    };
    // Nearly every segment after the SYN has timestamps alone, laid out as RFC 7323 A advises.
    if let &[NOP, NOP, TIMESTAMPS, 10, a, b, c, d, e, f, g, h] = rest {
        let value = u32::from_be_bytes([a, b, c, d]);
        let echo = u32::from_be_bytes([e, f, g, h]);
        options.timestamps = Some((value, echo));
        return options;
    }
    while let [kind, tail @ ..] = rest {
        if *kind == END {
            break;
        }
        if *kind == NOP {
            rest = tail;
            continue;
        }
        let Some(len) = tail.first().map(|&l| usize::from(l)) else {
            break;
        };
        let Some(option) = rest.get(..len).filter(|o| o.len() >= 2) else {
            break;
        };
        match (*kind, &option[2..]) {
            // RFC 7323 2.3: a shift above 14 must be used as 14.
            (WINDOW_SCALE, [shift]) => options.window_scale = Some((*shift).min(14)),
            (MSS, &[high, low]) => options.mss = Some(u16::from_be_bytes([high, low])),
            (SACK_PERMITTED, []) => options.sack_permitted = true,
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                let value = u32::from_be_bytes([a, b, c, d]);
                let echo = u32::from_be_bytes([e, f, g, h]);
                options.timestamps = Some((value, echo));
            }
            _ => {}
        }
        rest = &rest[len..];
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_behind_padding_are_read() {
        let area = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 3, 3, 20, 0];
        let options = read_options(&area, area.len());
        assert_eq!(options.timestamps, Some((7, 9)));
        assert_eq!(options.window_scale, Some(14));
        assert_eq!(options.bytes, 16);
    }

    #[test]
    fn timestamps_alone_are_read_however_they_are_laid_out() {
        for area in [
            [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9],
            [8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 1],
        ] {
            assert_eq!(read_options(&area, 12).timestamps, Some((7, 9)));
        }
    }

    #[test]
    fn an_option_that_runs_past_the_area_ends_the_walk() {
        assert_eq!(read_options(&[8, 200, 0, 0], 4).timestamps, None);
        assert_eq!(read_options(&[8, 0, 3, 3, 7], 5).window_scale, None);
        assert_eq!(
            read_options(&[8], 1),
            Options {
                bytes: 1,
                ..Options::default()
            }
        );
    }
}
