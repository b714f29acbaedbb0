//! What passed between the same ends as two different interfaces show it: the bytes of each direction,
//! and the order of SYN, FIN and RST. Where segments begin and end may differ; sequence numbers may
//! not.

use super::{Noted, Side};
use crate::time::Stamp;
use crate::wire::{Direction, Flags};

/// What two interfaces show differently.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RangeDifferences {
    /// Bytes that one of the two lacks.
    pub(super) bytes: Vec<MissingBytes>,
    /// Directions in which the same bytes are not of the same content.
    pub(super) content: Vec<Direction>,
    /// Directions in which content could not be compared.
    pub(super) unseen: Vec<Direction>,
    /// SYN, FIN and RST that one of the two lacks: which, and when the other saw it.
    pub(super) marks: Vec<MissingMark>,
    /// Whether those that both have stand in another order.
    pub(super) order: bool,
}

/// Bytes, a SYN or a FIN that one side shows and the other lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingBytes {
    /// Who lacks them.
    pub lacking: Side,
    /// Who sent them.
    pub direction: Direction,
    /// From which number on, relative to the first that either side shows.
    pub from: i64,
    /// Up to and without which.
    pub to: i64,
    /// When the other side saw the first segment that holds any of them.
    pub at: Stamp,
    /// Whether the side that lacks them shows that their receiver acknowledged them.
    pub acknowledged: bool,
}

/// A SYN, FIN or RST that one side shows and the other lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MissingMark {
    /// Who lacks it.
    pub(super) lacking: Side,
    /// When the other side saw it.
    pub(super) at: Stamp,
    /// Whether it takes a sequence number, so that its being missed is among the bytes.
    pub(super) counts: bool,
}

/// Compares the two.
pub(super) fn compare(run: &[Noted], capture: &[Noted]) -> RangeDifferences {
    let mut found = RangeDifferences::default();
    for direction in [Direction::ToServer, Direction::ToClient] {
        let base = base(run, direction).or(base(capture, direction));
        let base = base.unwrap_or(0);
        let mine = Sent::new(run, direction, base);
        let theirs = Sent::new(capture, direction, base);
        found
            .bytes
            .extend(mine.lacks(&theirs, Side::Run, direction));
        found
            .bytes
            .extend(theirs.lacks(&mine, Side::Capture, direction));
        if mine.ranges == theirs.ranges {
            match mine.content.zip(theirs.content) {
                Some((mine, theirs)) if mine != theirs => found.content.push(direction),
                Some(_) => {}
                None => found.unseen.push(direction),
            }
        }
    }
    let (mine, theirs) = (marks(run), marks(capture));
    found.marks.extend(lacking(&mine, &theirs, Side::Run));
    found.marks.extend(lacking(&theirs, &mine, Side::Capture));
    let common = |marks: &[&Noted], others: &[&Noted]| {
        let held = |noted: &&&Noted| others.iter().any(|other| is_same_mark(noted, other));
        let held: Vec<(Direction, u8)> = marks
            .iter()
            .filter(held)
            .map(|noted| (noted.direction, mark(noted)))
            .collect();
        held
    };
    found.order = common(&mine, &theirs) != common(&theirs, &mine);
    found
}

/// The number to count from: the first that is known.
fn base(seen: &[Noted], direction: Direction) -> Option<u32> {
    let mut sent = seen.iter().filter(|noted| noted.direction == direction);
    sent.next().map(|noted| noted.seq)
}

/// What one side saw of a direction.
struct Sent {
    /// In order, without overlap.
    ranges: Vec<(i64, i64)>,
    /// Segment by segment, and when.
    segments: Vec<(i64, i64, Stamp)>,
    /// Up to where the receiver acknowledged it.
    acknowledged: Option<i64>,
    /// The content of all of it; nothing where some was not captured, or came again cut up in another
    /// way.
    content: Option<u64>,
}

impl Sent {
    fn new(seen: &[Noted], direction: Direction, base: u32) -> Sent {
        let relative = |number: u32| i64::from(number.wrapping_sub(base).cast_signed());
        let mut segments = Vec::new();
        let mut pieces: Vec<(i64, i64, Option<u64>)> = Vec::new();
        let mut acknowledged = None;
        for noted in seen {
            if noted.direction == direction && noted.space() > 0 {
                let start = relative(noted.seq);
                let end = start + i64::from(noted.space());
                segments.push((start, end, noted.at));
                if noted.len > 0 {
                    pieces.push((start, start + i64::from(noted.len), noted.content));
                }
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
            content: content(pieces),
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

/// A sum over payload bytes and the sequence numbers at which they stand.
pub(super) fn content_of(seq: u32, payload: &[u8]) -> u64 {
    let mut at = seq;
    let mut sum = 0_u64;
    for &byte in payload {
        // SplitMix64's finalizer: each byte and place a number of its own.
        let mut mixed = (u64::from(at) << 8 | u64::from(byte)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        sum = sum.wrapping_add(mixed ^ mixed >> 31);
        at = at.wrapping_add(1);
    }
    sum
}

/// The content of pieces that stand side by side; what came twice in the same piece counts once.
fn content(mut pieces: Vec<(i64, i64, Option<u64>)>) -> Option<u64> {
    pieces.sort_unstable_by_key(|&(start, end, _)| (start, end));
    pieces.dedup_by_key(|&mut (start, end, _)| (start, end));
    let side_by_side = pieces.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    let mut sums = pieces.into_iter().map(|(_, _, content)| content);
    let sum = sums.try_fold(0_u64, |sum, content| Some(sum.wrapping_add(content?)));
    sum.filter(|_| side_by_side)
}

/// SYN, FIN and RST in the order in which they passed, each once. What crosses on the way may pass two
/// interfaces in either order: such neighbours stand in an order of their own.
fn marks(seen: &[Noted]) -> Vec<&Noted> {
    let mut marks: Vec<&Noted> = Vec::new();
    for noted in seen.iter().filter(|noted| mark(noted) != 0) {
        if !marks.iter().any(|before| is_same_mark(before, noted)) {
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
    marks
}

fn mark(noted: &Noted) -> u8 {
    noted.flags.0 & (Flags::SYN.0 | Flags::FIN.0 | Flags::RST.0)
}

/// By where they stand: the segment that carries a FIN may begin elsewhere.
fn is_same_mark(a: &Noted, b: &Noted) -> bool {
    let place = |noted: &Noted| noted.seq.wrapping_add(noted.space());
    (a.direction, mark(a), place(a)) == (b.direction, mark(b), place(b))
}

/// Those of `others` that are not among `marks`, which `side` shows.
fn lacking(marks: &[&Noted], others: &[&Noted], side: Side) -> Vec<MissingMark> {
    let lacked = |noted: &&&Noted| !marks.iter().any(|mark| is_same_mark(mark, noted));
    let missing = others.iter().filter(lacked).map(|noted| MissingMark {
        lacking: side,
        at: noted.at,
        counts: !noted.flags.rst(),
    });
    missing.collect()
}

/// Whether two marks were on their way at one time, the server's first here.
fn crossed(server: &Noted, client: &Noted) -> bool {
    server.direction == Direction::ToClient
        && client.direction == Direction::ToServer
        && !client.acknowledges(server)
}
