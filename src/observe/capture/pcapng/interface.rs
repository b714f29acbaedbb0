//! An interface as its section describes it: what its stamps count, and what it dropped.

use super::super::endian::Endian;
use crate::time::Stamp;

const END_OF_OPTIONS: u16 = 0;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;
const EPB_DROPCOUNT: u16 = 4;
const ISB_IFDROP: u16 = 5;
const ISB_OSDROP: u16 = 7;

const NANOS: u64 = 1_000_000_000;

/// One interface of a section.
pub(super) struct Interface {
    /// The link type's number: an interface without packets may have any.
    pub(super) link: u32,
    /// The most that was captured of a packet.
    pub(super) snaplen: usize,
    /// As its latest statistics say.
    drops: Option<u64>,
    /// As its packets say, each of those between the one before and itself.
    drops_between: Option<u64>,
    unit: Unit,
    /// To be added to every stamp.
    offset_seconds: i64,
}

/// What a stamp counts.
#[derive(Clone, Copy)]
enum Unit {
    /// So many nanoseconds.
    Nanos(u64),
    /// One of so many parts of a nanosecond.
    PartOfNano(i128),
    /// A second, halved so many times.
    HalvedSecond(u32),
}

impl Unit {
    /// if_tsresol: a negative power of 10, or of 2 where the highest bit is set.
    fn from_resolution(resolution: u8) -> Unit {
        let power = u32::from(resolution & 0x7f);
        if resolution & 0x80 != 0 {
            return Unit::HalvedSecond(power);
        }
        match power.checked_sub(9) {
            None => Unit::Nanos(10_u64.pow(9 - power)),
            // Where the part is too small for a number, no stamp of 64 bits reaches a nanosecond.
            Some(power) => Unit::PartOfNano(10_i128.checked_pow(power).unwrap_or(i128::MAX)),
        }
    }

    fn nanos(self, ticks: u64) -> i128 {
        let ticks = i128::from(ticks);
        match self {
            Unit::Nanos(nanos) => ticks * i128::from(nanos),
            Unit::PartOfNano(part) => ticks / part,
            Unit::HalvedSecond(times) => (ticks * i128::from(NANOS)) >> times,
        }
    }
}

impl Interface {
    /// Reads an Interface Description Block's body; `None` where it is too short.
    pub(super) fn described(endian: Endian, body: &[u8]) -> Option<Interface> {
        let mut interface = Interface {
            link: u32::from(endian.u16(body, 0)?),
            snaplen: match endian.u32(body, 4)? {
                0 => usize::MAX,
                snaplen => snaplen as usize,
            },
            drops: None,
            drops_between: None,
            unit: Unit::Nanos(1_000),
            offset_seconds: 0,
        };
        for (code, value) in options(endian, body.get(8..)?) {
            match (code, value.len()) {
                (IF_TSRESOL, 1..) => interface.unit = Unit::from_resolution(value[0]),
                (IF_TSOFFSET, 8..) => {
                    let seconds = endian.u64(value, 0).unwrap_or_default();
                    interface.offset_seconds = seconds.cast_signed();
                }
                _ => {}
            }
        }
        Some(interface)
    }

    /// The time of a packet.
    pub(super) fn stamp(&self, ticks: u64) -> Stamp {
        let offset = i128::from(self.offset_seconds) * i128::from(NANOS);
        let nanos = offset + self.unit.nanos(ticks);
        let bounded = nanos.clamp(i64::MIN.into(), i64::MAX.into());
        Stamp(i64::try_from(bounded).unwrap_or_default())
    }

    /// Reads an Interface Statistics Block's body: counts since the beginning of the capture.
    pub(super) fn count(&mut self, endian: Endian, body: &[u8]) {
        let mut drops = None;
        for (code, value) in options(endian, body.get(12..).unwrap_or_default()) {
            if matches!(code, ISB_IFDROP | ISB_OSDROP) {
                drops = sum(drops, endian.u64(value, 0));
            }
        }
        self.drops = drops.or(self.drops);
    }

    /// Reads the options behind a packet; most have none.
    pub(super) fn count_between(&mut self, endian: Endian, bytes: &[u8]) {
        for (code, value) in options(endian, bytes) {
            if code == EPB_DROPCOUNT {
                self.drops_between = sum(self.drops_between, endian.u64(value, 0));
            }
        }
    }

    /// How many packets were dropped. Statistics and packets count the same ones, the statistics up
    /// to the end.
    pub(super) fn drops(&self) -> Option<u64> {
        self.drops.max(self.drops_between)
    }
}

/// What two say together, of whom each may say nothing.
pub(super) fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        _ => one.or(other),
    }
}

/// The options in `bytes`, as far as they make sense: code, length, value padded to four bytes.
pub(super) fn options(endian: Endian, mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let code = endian.u16(bytes, 0)?;
        let len = usize::from(endian.u16(bytes, 2)?);
        if code == END_OF_OPTIONS {
            return None;
        }
        let value = bytes.get(4..4 + len)?;
        bytes = bytes.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        Some((code, value))
    })
}
