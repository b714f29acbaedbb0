//! What passed between the same ends as two different interfaces show it: the bytes of each direction,
//! and the order of SYN, FIN and RST. Where segments begin and end may differ.

use super::{Noted, Side};
use crate::time::Stamp;
use crate::wire::{Direction, Flags};

/// What two interfaces show differently.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RangeDifferences {
    /// Bytes that one of the two lacks.
    pub(super) bytes: Vec<MissingBytes>,
    /// Whether SYN, FIN and RST came in another order, or not the same ones.
    pub(super) marks: bool,
}

/// Bytes, a SYN or a FIN that one side shows and the other lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingBytes {
    /// Who lacks them.
    pub lacking: Side,
    /// Who sent them.
    pub direction: Direction,
    /// From which number on, relative to the sender's SYN where that was seen by both.
    pub from: i64,
    /// Up to and without which.
    pub to: i64,
    /// When the other side saw the first segment that holds any of them.
    pub at: Stamp,
    /// Whether the side that lacks them shows that their receiver acknowledged them.
    pub acknowledged: bool,
}

/// Compares the two.
pub(super) fn compare(run: &[Noted], capture: &[Noted]) -> RangeDifferences {
    let mut found = RangeDifferences::default();
    for direction in [Direction::ToServer, Direction::ToClient] {
        let bases = bases(run, capture, direction);
        let mine = Sent::new(run, direction, bases.0);
        let theirs = Sent::new(capture, direction, bases.1);
        found
            .bytes
            .extend(mine.lacks(&theirs, Side::Run, direction));
        found
            .bytes
            .extend(theirs.lacks(&mine, Side::Capture, direction));
    }
    found.marks = marks(run) != marks(capture);
    found
}

/// The number to count from on either side: the SYN's where both saw it (a device between the two may
/// have changed it), else the first that either knows.
fn bases(run: &[Noted], capture: &[Noted], direction: Direction) -> (u32, u32) {
    let isn = |seen: &[Noted]| {
        let mut sent = seen.iter().filter(|noted| noted.direction == direction);
        sent.find(|noted| noted.flags.syn()).map(|noted| noted.seq)
    };
    let first = |seen: &[Noted]| {
        let mut sent = seen.iter().filter(|noted| noted.direction == direction);
        sent.next().map(|noted| noted.seq)
    };
    if let (Some(run), Some(capture)) = (isn(run), isn(capture)) {
        return (run, capture);
    }
    let known = isn(run).or(isn(capture)).or(first(run)).or(first(capture));
    (known.unwrap_or(0), known.unwrap_or(0))
}

/// What one side saw of a direction.
struct Sent {
    /// In order, without overlap.
    ranges: Vec<(i64, i64)>,
    /// Segment by segment, and when.
    segments: Vec<(i64, i64, Stamp)>,
    /// Up to where the receiver acknowledged it.
    acknowledged: Option<i64>,
}

impl Sent {
    fn new(seen: &[Noted], direction: Direction, base: u32) -> Sent {
        let relative = |number: u32| i64::from(number.wrapping_sub(base).cast_signed());
        let mut segments = Vec::new();
        let mut acknowledged = None;
        for noted in seen {
            if noted.direction == direction && noted.space() > 0 {
                let start = relative(noted.seq);
                segments.push((start, start + i64::from(noted.space()), noted.at));
            } else if noted.direction != direction && noted.flags.ack() && !noted.flags.rst() {
                acknowledged = acknowledged.max(Some(relative(noted.ack)));
            }
        }
        let mut ranges: Vec<(i64, i64)> = segments.iter().map(|&(a, b, _)| (a, b)).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, range| {
            let joins = next.0 <= range.1;
            if joins {
                range.1 = range.1.max(next.1);
            }
            joins
        });
        Sent {
            ranges,
            segments,
            acknowledged,
        }
    }

    /// What `other` has and this lacks.
    fn lacks(
        &self,
        other: &Sent,
        lacking: Side,
        direction: Direction,
    ) -> impl Iterator<Item = MissingBytes> {
        let missing = other.ranges.iter().flat_map(|&range| self.gaps(range));
        missing.filter_map(move |(from, to)| {
            let holds = |&&(start, end, _): &&(i64, i64, Stamp)| start < to && end > from;
            let at = other.segments.iter().filter(holds).map(|&(_, _, at)| at);
            Some(MissingBytes {
                lacking,
                direction,
                from,
                to,
                at: at.min()?,
                acknowledged: self.acknowledged.is_some_and(|acked| acked >= to),
            })
        })
    }

    /// The parts of a range that are not covered.
    fn gaps(&self, (from, to): (i64, i64)) -> Vec<(i64, i64)> {
        let mut gaps = Vec::new();
        let mut reach = from;
        for &(start, end) in &self.ranges {
            if start >= to {
                break;
            }
            if start > reach {
                gaps.push((reach, start));
            }
            reach = reach.max(end);
        }
        if reach < to {
            gaps.push((reach, to));
        }
        gaps
    }
}

/// SYN, FIN and RST in the order in which they passed, each once. What crosses on the way may pass two
/// interfaces in either order: such neighbours stand in an order of their own.
fn marks(seen: &[Noted]) -> Vec<(Direction, Flags)> {
    const MARKS: u8 = Flags::SYN.0 | Flags::FIN.0 | Flags::RST.0;
    let mut marks: Vec<&Noted> = Vec::new();
    for noted in seen.iter().filter(|noted| noted.flags.0 & MARKS != 0) {
        let again = |before: &&Noted| {
            (before.direction, before.flags.0 & MARKS, before.seq)
                == (noted.direction, noted.flags.0 & MARKS, noted.seq)
        };
        if !marks.iter().any(again) {
            marks.push(noted);
        }
    }
    // An insertion sort: few of them, and only neighbours may change places.
    for at in 1..marks.len() {
        let mut place = at;
        while place > 0 && crossed(marks[place - 1], marks[place]) {
            marks.swap(place - 1, place);
            place -= 1;
        }
    }
    let mark = |noted: &&Noted| (noted.direction, Flags(noted.flags.0 & MARKS));
    marks.iter().map(mark).collect()
}

/// Whether two marks were on their way at one time, the server's first here.
fn crossed(server: &Noted, client: &Noted) -> bool {
    server.direction == Direction::ToClient
        && client.direction == Direction::ToServer
        && !client.acknowledges(server)
}
