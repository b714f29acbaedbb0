//! The same connections as two vantages tell them: which accounts belong together, where the segments
//! of each pair first differ, and what explains it. Where the accounts come from is left to whoever
//! compares; what an outcome is, to [`outcome`](crate::outcome).

mod align;
mod holes;
mod judge;
mod pairs;
mod ranges;
mod steps;
mod verdict;

use std::net::SocketAddr;

use crate::outcome::{Facts, Outcome};
use crate::record::Caveats;
use crate::sequence::Sequence;
use crate::time::Stamp;
use crate::wire::{Digest, Direction, Flags, Segment};

pub use align::{CROSSING, Difference, Kind};
pub use pairs::Offset;
pub use ranges::MissingBytes;
pub use verdict::{Compared, Comparison, Finding, Pair, Reason, Verdict, What};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The run, or the first of two captures.
    Run,
    /// The capture that it is held against.
    Capture,
}

impl Side {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Side::Run => "run",
            Side::Capture => "capture",
        }
    }

    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Run => Side::Capture,
            Side::Capture => Side::Run,
        }
    }
}

/// All connections of one side.
#[derive(Debug, Default)]
pub struct Told {
    /// One account a connection.
    pub accounts: Vec<Account>,
    /// When the first and the last packet were seen; for a run without packets, when its first
    /// connection was opened and its last one ended.
    pub span: Option<(Stamp, Stamp)>,
    /// What it is, and what follows from that.
    pub source: Source,
    /// What its connections carried is not known, so that packets do not tell when one was answered.
    pub unjudged: bool,
}

/// What a side was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// A capture: it shows whoever passed.
    #[default]
    Capture,
    /// A run: it knows its own connections only, and what its sockets did.
    Run {
        /// Whether none of its connections is missing from its list.
        complete: bool,
    },
}

/// One connection as one side tells it. Times are by that side's clock.
#[derive(Debug)]
pub struct Account {
    /// Its run, where several are told of together.
    pub run_id: Option<Box<str>>,
    /// Its number there.
    pub conn: u64,
    /// The client's end.
    pub client: Option<SocketAddr>,
    /// The server's end.
    pub server: SocketAddr,
    /// The SYN, or whatever was seen first.
    pub opened: Stamp,
    /// The last that is known of it.
    pub last: Stamp,
    /// What happened.
    pub outcome: Outcome,
    /// When that was decided.
    pub decided: Option<Stamp>,
    /// What it rests on, where it was decided from packets alone.
    pub facts: Option<Facts>,
    /// What could not be seen of it.
    pub caveats: Caveats,
    /// Its packets.
    pub trace: Trace,
}

/// What is known of a connection's packets.
#[derive(Debug)]
pub enum Trace {
    /// Nothing: no packets were seen, or not by this vantage.
    Nothing,
    /// Their order, and the times of a few.
    Sequence {
        /// In the notation.
        sequence: Sequence,
        /// When its first SYN, SYN-ACK, request byte and response byte were seen.
        marks: [Option<Stamp>; 4],
    },
    /// Each of them.
    Segments(Vec<Noted>),
}

/// A segment as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// When it was seen.
    pub at: Stamp,
    /// Who sent it.
    pub direction: Direction,
    /// Its flags.
    pub flags: Flags,
    /// Its sequence number, absolute.
    pub seq: u32,
    /// Its acknowledgment number, absolute; meaningless without ACK.
    pub ack: u32,
    /// Payload bytes on the wire.
    pub len: u32,
    /// Everything else about it.
    pub digest: Digest,
    /// Its payload, as a sum over bytes and their places, so that those of neighbours add up to that of
    /// both; nothing where it was not captured whole, or was not asked for.
    pub content: Option<u64>,
}

impl Noted {
    /// What is compared of a segment.
    pub fn new(direction: Direction, segment: &Segment, digest: Digest) -> Noted {
        Noted {
            at: segment.at,
            direction,
            flags: segment.flags,
            seq: segment.seq,
            ack: segment.ack,
            len: segment.len,
            digest,
            content: None,
        }
    }

    /// The same with its content, for what may be cut up in another way elsewhere.
    pub fn with_content(self, segment: &Segment) -> Noted {
        let whole = segment.cut() == 0;
        Noted {
            content: whole.then(|| ranges::content_of(segment.seq, &segment.payload)),
            ..self
        }
    }

    /// The sequence space it takes up: payload, and one each for SYN and FIN (RFC 9293 3.4).
    pub(crate) fn space(&self) -> u32 {
        self.len
            .wrapping_add(u32::from(self.flags.syn()))
            .wrapping_add(u32::from(self.flags.fin()))
    }

    /// Whether `self` acknowledges what `other` sent, so that it was sent after it.
    pub(crate) fn acknowledges(&self, other: &Noted) -> bool {
        let end = other.seq.wrapping_add(other.space());
        self.direction != other.direction
            && self.flags.ack()
            && other.space() > 0
            && self.ack.wrapping_sub(end).cast_signed() >= 0
    }
}

impl Trace {
    /// Each segment, where they are known one by one.
    pub fn segments(&self) -> Option<&[Noted]> {
        match self {
            Trace::Segments(segments) => Some(segments),
            Trace::Nothing | Trace::Sequence { .. } => None,
        }
    }

    /// Their order.
    pub fn sequence(&self) -> Option<Sequence> {
        match self {
            Trace::Nothing => None,
            Trace::Sequence { sequence, .. } => Some(sequence.clone()),
            Trace::Segments(segments) => {
                let mut sequence = Sequence::default();
                for noted in segments {
                    sequence.push(noted.direction, noted.flags, noted.len);
                }
                Some(sequence)
            }
        }
    }
}

/// How strictly segments are held against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Segment by segment: both were seen on the same interface.
    #[default]
    SameInterface,
    /// The bytes that passed, and the order of SYN, FIN and RST: on its way between two interfaces a
    /// segment may be cut up or put together (TSO, GRO).
    AcrossInterfaces,
}

/// Holds what the capture tells against what the run tells.
pub fn compare(run: &Told, capture: &Told, strictness: Strictness) -> Comparison {
    let offset = pairs::clock_offset(&run.accounts, &capture.accounts);
    let pairs = pairs::join(&run.accounts, &capture.accounts, offset);
    judge::judge(run, capture, &pairs, offset, strictness)
}

#[cfg(test)]
mod tests;
