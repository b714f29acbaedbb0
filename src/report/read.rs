//! run.json of a capture that was read: what it held, and what its connections amount to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::run::SummaryReport;

/// The whole file.
#[derive(Debug, Serialize)]
pub(crate) struct ReadReport {
    pub(crate) schema: u32,
    pub(crate) run_id: String,
    pub(crate) probe_version: &'static str,
    /// The command line, a word each.
    pub(crate) command: Vec<String>,
    /// The ends that were taken for servers, and how many connections each had.
    pub(crate) servers: BTreeMap<String, u64>,
    pub(crate) interrupted: bool,
    pub(crate) capture: CaptureReport,
    pub(crate) summary: SummaryReport,
}

/// What a capture held.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CaptureReport {
    /// Times of the first and the last TCP segment.
    pub(crate) first_unix_ns: Option<i64>,
    pub(crate) last_unix_ns: Option<i64>,
    /// IP packets.
    pub(crate) packets: u64,
    /// Fragments, which are not put together.
    pub(crate) fragments: u64,
    /// Packets that cannot be read.
    pub(crate) malformed: u64,
    /// Packets that were captured without a time, and are left out.
    pub(crate) untimed: u64,
    /// Segments of connections whose server is not known.
    pub(crate) unplaced: u64,
    /// Segments of connections that had been over for a while.
    pub(crate) late: u64,
    /// Second copies of packets, as they crossed another interface.
    pub(crate) duplicates: u64,
    /// Packets that stood too far behind later ones to be put in order.
    pub(crate) unordered: u64,
    /// Frames that are no IP.
    pub(crate) other: u64,
    /// Bytes of these connections, and FINs, that must have been and are not in it.
    pub(crate) missing_bytes: u64,
    /// What the capturing side says it dropped.
    pub(crate) drops: Option<u64>,
    /// Where the file is cut off in the middle of a packet.
    pub(crate) cut_off_at_byte: Option<u64>,
    /// What ended the reading before the end.
    pub(crate) error: Option<String>,
}
