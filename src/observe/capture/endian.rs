//! Numbers in the byte order of whoever wrote the file.

/// A file's, or a section's, byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first, the order of the network.
    Big,
}

impl Endian {
    /// The number at `at`; `None` where `bytes` end before.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let field = array(bytes, at)?;
        Some(match self {
            Endian::Little => u16::from_le_bytes(field),
            Endian::Big => u16::from_be_bytes(field),
        })
    }

    /// As [`u16`](Self::u16).
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let field = array(bytes, at)?;
        Some(match self {
            Endian::Little => u32::from_le_bytes(field),
            Endian::Big => u32::from_be_bytes(field),
        })
    }

    /// As [`u16`](Self::u16).
    pub(super) fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let field = array(bytes, at)?;
        Some(match self {
            Endian::Little => u64::from_le_bytes(field),
            Endian::Big => u64::from_be_bytes(field),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
