//! What two accounts of a connection amount to: the same, different and explained, or different.

use std::collections::BTreeSet;

use super::Side;
use super::align::Difference;
use super::pairs::Offset;
use super::ranges::MissingBytes;
use crate::outcome::Outcome;
use crate::wire::Direction;

/// Everything that was found.
#[derive(Debug)]
pub struct Comparison {
    /// How far the capture's clock is ahead.
    pub offset: Offset,
    /// A pair of accounts for each connection that either tells of.
    pub pairs: Vec<Pair>,
    /// How far apart the times of matched segments are, once the clocks are put together, in
    /// nanoseconds and in order.
    pub apart_ns: Vec<u64>,
}

/// What became of one connection.
#[derive(Debug)]
pub struct Pair {
    /// Its position among the run's accounts.
    pub run: Option<usize>,
    /// Its position among the capture's.
    pub capture: Option<usize>,
    /// Where the two differ; what comes first stands first.
    pub findings: Vec<Finding>,
    /// What the capture says happened, given what the run knows of its own deadline.
    pub capture_outcome: Option<Outcome>,
    /// What of the two was compared besides outcomes and times.
    pub compared: Compared,
    /// Segments that both have.
    pub matched: u64,
    /// Of those, the ones that crossed others too closely to be put in order.
    pub crossed: u64,
    /// Of those, the ones that one side did not capture whole.
    pub in_part: u64,
    /// How far apart the times of a matched segment are at most, in nanoseconds.
    pub apart_ns: Option<u64>,
}

/// How much of two accounts could be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compared {
    /// No packets: one side tells of none.
    #[default]
    Nothing,
    /// Flags and lengths in order.
    Sequence,
    /// The bytes that passed, and the order of SYN, FIN and RST.
    Bytes,
    /// Each segment.
    Segments,
}

impl Compared {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Compared::Nothing => "nothing",
            Compared::Sequence => "sequence",
            Compared::Bytes => "bytes",
            Compared::Segments => "segments",
        }
    }
}

/// One way in which the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How.
    pub what: What,
    /// What explains it, if anything does.
    pub reason: Option<Reason>,
}

/// How two accounts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Only this side tells of the connection.
    Only(Side),
    /// A segment.
    Segment(Difference),
    /// Bytes, as seen on two interfaces.
    Bytes(MissingBytes),
    /// The same bytes of this direction have another content, as seen on two interfaces.
    Content(Direction),
    /// SYN, FIN and RST are others, or came in another order, as seen on two interfaces.
    Marks,
    /// What happened.
    Outcome,
}

/// What explains a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// That side began later.
    Before(Side),
    /// That side ended earlier.
    After(Side),
    /// That side proves to have missed just this: it was acknowledged there.
    Hole(Side),
    /// That side's packets were cut where framing depended on them.
    Snapped(Side),
    /// The run watches a connection for a moment only once it is over.
    Settled,
    /// The connection failed before a packet left.
    NoPackets,
    /// Somebody else's: the run lists all of its own.
    OtherTraffic,
}

/// What it amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing differs.
    Same,
    /// All that differs is explained.
    Explained,
    /// Something differs and nothing explains it.
    Differs,
}

impl Reason {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Before(Side::Run) => "run_start",
            Reason::Before(Side::Capture) => "capture_start",
            Reason::After(Side::Run) => "run_end",
            Reason::After(Side::Capture) => "capture_end",
            Reason::Hole(Side::Run) => "run_hole",
            Reason::Hole(Side::Capture) => "capture_hole",
            Reason::Snapped(Side::Run) => "run_snapped",
            Reason::Snapped(Side::Capture) => "capture_snapped",
            Reason::Settled => "settled",
            Reason::NoPackets => "no_packets",
            Reason::OtherTraffic => "other_traffic",
        }
    }
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Same => "same",
            Verdict::Explained => "explained",
            Verdict::Differs => "differs",
        }
    }
}

impl Comparison {
    /// Whether no connection is told of by both.
    pub fn is_void(&self) -> bool {
        let both = |pair: &Pair| pair.run.is_some() && pair.capture.is_some();
        !self.pairs.iter().any(both)
    }

    /// Whether anything differs and is not explained.
    pub fn differs(&self) -> bool {
        let mut pairs = self.pairs.iter();
        pairs.any(|pair| pair.verdict() == Verdict::Differs)
    }
}

impl Pair {
    /// What the findings amount to.
    pub fn verdict(&self) -> Verdict {
        if self.findings.is_empty() {
            Verdict::Same
        } else if self.findings.iter().all(|found| found.reason.is_some()) {
            Verdict::Explained
        } else {
            Verdict::Differs
        }
    }

    /// What explains findings of it, each once.
    pub fn reasons(&self) -> BTreeSet<Reason> {
        self.findings
            .iter()
            .filter_map(|found| found.reason)
            .collect()
    }

    /// The first difference that nothing explains, else the first.
    pub fn first(&self) -> Option<&Finding> {
        let mut unexplained = self.findings.iter().filter(|found| found.reason.is_none());
        unexplained.next().or(self.findings.first())
    }
}
