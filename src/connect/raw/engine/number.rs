//! Sequence numbers, timestamps and what is derived from a connection's ends: arithmetic modulo 2^32,
//! and the initial numbers of RFC 6528.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use crate::time::Stamp;

/// RFC 7323 2.3: windows are never shifted by more.
pub(super) const MAX_SHIFT: u8 = 14;

/// The low half.
#[expect(
    clippy::cast_possible_truncation,
    reason = "numbers are counted modulo 2^32"
)]
pub(super) const fn low(n: u64) -> u32 {
    n as u32
}

/// How far `to` is ahead of `from`, negative where it is behind (RFC 9293 3.4).
pub(super) const fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

/// Whether `a` comes before `b`.
pub(super) const fn is_before(a: u32, b: u32) -> bool {
    distance(a, b) > 0
}

/// What a connection begins with; by its ends and the secret alone, but for the initial sequence
/// number, so that a port used again goes on where it stopped and a server in TIME-WAIT takes its SYN
/// (RFC 6191).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The SYN's sequence number.
    pub(super) sequence: u32,
    /// What is added to the milliseconds of the run clock for a timestamp.
    pub(super) timestamp_offset: u32,
    /// IPv4's identification of the SYN; each segment adds one.
    pub(super) ip_id: u16,
}

/// Draws it (RFC 6528 3, with SipHash).
pub(super) fn beginning(
    seed: u64,
    now: Stamp,
    client: SocketAddr,
    server: SocketAddr,
) -> Beginning {
    /// Of the clock that initial sequence numbers follow. RFC 9293 3.4.1 asks for about four
    /// microseconds; Linux counts every 64 ns (`seq_scale`), so that a short connection's successor is
    /// ahead of all that it sent.
    const TICK_SHIFT: u32 = 6;
    let mut hasher = DefaultHasher::new();
    (seed, client, server).hash(&mut hasher);
    let drawn = hasher.finish();
    let ticks = low(now.0.cast_unsigned() >> TICK_SHIFT);
    Beginning {
        sequence: low(drawn).wrapping_add(ticks),
        timestamp_offset: low(drawn >> 32),
        ip_id: id_from(low(drawn.rotate_left(24)) ^ ticks),
    }
}

/// Sixteen bits of a number.
pub(super) const fn id_from(n: u32) -> u16 {
    let [a, b, _, _] = n.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// The label of a connection's IPv6 packets (RFC 6437 3), as Linux makes one out of a socket's hash.
pub(super) const fn flow_label(timestamp_offset: u32, port: u16) -> u32 {
    const BITS: u32 = 0x000f_ffff;
    (timestamp_offset.rotate_left(7) ^ (port as u32)).wrapping_mul(0x9e37_79b1) >> 12 & BITS
}

/// The run clock in milliseconds, modulo 2^32: what timestamps count (RFC 7323 5.4).
pub(super) const fn millis(now: Stamp) -> u32 {
    low(now.0.cast_unsigned() / 1_000_000)
}

/// The run clock in microseconds, modulo 2^32.
pub(super) const fn micros(now: Stamp) -> u32 {
    low(now.0.cast_unsigned() / 1_000)
}
