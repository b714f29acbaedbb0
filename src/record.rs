//! One connection: what happened, why, on what evidence, and when. One row of connections.csv.

mod join;

use std::net::SocketAddr;

use crate::cause::{Cause, RetrySafe};
use crate::flow::{ConnState, RstKind, Seen};
use crate::outcome::{Attempt, Cohort, Errno, Failure, Outcome};
use crate::sequence::Sequence;
use crate::time::Stamp;

pub use join::Join;

/// One connection, as all vantages together tell it. What was not seen is `None`.
#[derive(Clone, Debug)]
pub struct Record {
    /// The connection's number, from 1.
    pub conn: u64,
    /// When its request was sent, relative to the trigger.
    pub cohort: Cohort,
    /// The client's end.
    pub src: Option<SocketAddr>,
    /// The server's end.
    pub dst: SocketAddr,
    /// What happened.
    pub outcome: Outcome,
    /// What the socket alone would have said, where that differs.
    pub socket_outcome: Option<Outcome>,
    /// The server's part.
    pub cause: Option<Cause>,
    /// What fits where the cause is unknown.
    pub candidates: &'static [Cause],
    /// Which vantages saw it.
    pub evidence: Vantages,
    /// What to keep in mind when reading it.
    pub caveats: Caveats,
    /// Whether the request may be sent again.
    pub retry_safe: Option<RetrySafe>,
    /// Its segments.
    pub sequence: Option<Sequence>,
    /// Zeek's connection state.
    pub conn_state: Option<ConnState>,
    /// Zeek's history.
    pub history: Option<Box<str>>,
    /// How the server's RST came about.
    pub rst_kind: Option<RstKind>,
    /// What curl would have exited with.
    pub curl_exit: Option<u8>,
    /// The call that failed, and how.
    pub failure: Option<Failure>,
    /// The last final HTTP status.
    pub http_status: Option<u16>,
    /// Requests sent.
    pub requests: Option<u32>,
    /// Complete responses.
    pub responses: Option<u32>,
    /// Payload bytes of the client, each counted once.
    pub request_bytes: Option<u64>,
    /// Whether the server's kernel acknowledged every one of them.
    pub request_acked: Option<bool>,
    /// Payload bytes of the server, headers included, each counted once.
    pub response_bytes: Option<u64>,
    /// SYNs sent again.
    pub syn_retransmits: Option<u32>,
    /// Segments with data or FIN that the client sent again.
    pub retransmits: Option<u32>,
    /// When each thing happened.
    pub times: RecordTimes,
    /// What each vantage saw step by step, where events are asked for.
    pub steps: Option<Box<Steps>>,
}

/// A connection step by step.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The socket's side of it.
    pub attempt: Attempt,
    /// The wire's.
    pub seen: Vec<Seen>,
}

/// When each thing happened to a connection, on the run clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordTimes {
    /// The SYN, or the connect call where no packets were seen.
    pub opened: Stamp,
    /// How much later than by the timetable the connection was opened, in nanoseconds.
    pub late_ns: Option<i64>,
    /// The SYN-ACK, or when the socket was seen connected.
    pub syn_ack: Option<Stamp>,
    /// The first byte of the request.
    pub request: Option<Stamp>,
    /// The acknowledgment of its last byte.
    pub request_acked: Option<Stamp>,
    /// The first byte of the response.
    pub first_byte: Option<Stamp>,
    /// What decided the outcome.
    pub end: Option<Stamp>,
}

impl Record {
    /// Whether the server's kernel took it: a SYN-ACK was seen, or the outcome needs one. A reset that
    /// connect() itself reports does, and the socket cannot say when the SYN-ACK came.
    pub fn was_taken(&self) -> bool {
        self.times.syn_ack.is_some() || self.outcome.is_lost() == Some(true)
    }

    /// The failed call's errno.
    pub fn errno(&self) -> Option<Errno> {
        self.failure.map(|failure| failure.errno)
    }
}

/// Where a connection was seen from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vantages {
    /// Our own system calls and TCP_INFO.
    pub socket: bool,
    /// Packets.
    pub wire: bool,
}

impl Vantages {
    /// The words for them, in the order of the data's travel.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [(self.socket, "socket"), (self.wire, "wire")]
            .into_iter()
            .filter_map(|(on, word)| on.then_some(word))
    }
}

/// What to keep in mind when reading a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caveats {
    /// Watching began inside the flow.
    pub capture_start: bool,
    /// Watching ended inside the flow.
    pub capture_end: bool,
    /// Bytes were acknowledged that were never seen, or a whole flow was missed.
    pub hole: bool,
    /// Payload was cut where framing depended on it.
    pub snapped: bool,
    /// Socket and wire tell different outcomes.
    pub vantages_differ: bool,
}

impl Caveats {
    /// The words for them.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [
            (self.capture_start, "capture_start"),
            (self.capture_end, "capture_end"),
            (self.hole, "hole"),
            (self.snapped, "snapped"),
            (self.vantages_differ, "vantages_differ"),
        ]
        .into_iter()
        .filter_map(|(on, word)| on.then_some(word))
    }
}
