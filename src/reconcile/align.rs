//! The segments of one connection, as two captures of one interface have them, side by side: which
//! are the same, which only one of them has, which differ in content or in their place.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Noted;
use crate::wire::{Direction, Likeness};

/// Two segments on their way in opposite directions, neither of which acknowledges the other, may be
/// stamped in either order by two captures of one host: each takes stamps of its own, up to a
/// microsecond or so apart (docs/decisions/0001). So far apart may the two be at most, taken together,
/// in the one capture and, the other way round, in the other.
pub const CROSSING: Duration = Duration::from_micros(2);

/// A place where the two differ, by positions in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In what way.
    pub kind: Kind,
    /// The segment in the run; where it has none, the place at which one is missing.
    pub run: usize,
    /// The same in the capture.
    pub capture: usize,
}

/// In what way two captures differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The run has a segment that the capture lacks.
    OnlyRun,
    /// The capture has a segment that the run lacks.
    OnlyCapture,
    /// The same segment by flags, numbers and length, with another IP or TCP header otherwise.
    Header,
    /// The same segment with other payload.
    Payload,
    /// The same segment in another place.
    Order,
}

/// Two lists of segments, aligned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Alignment {
    /// Positions of segments that are the same, in the order of the run.
    pub(super) matched: Vec<(usize, usize)>,
    /// In the order of the run.
    pub(super) differences: Vec<Difference>,
    /// Segments that crossed each other so closely that their order says nothing.
    pub(super) crossed: u64,
    /// Matched segments of which one side did not capture everything.
    pub(super) in_part: u64,
}

type Key = (Direction, u8, u32, u32, u32);

fn key(noted: &Noted) -> Key {
    (
        noted.direction,
        noted.flags.0,
        noted.seq,
        noted.ack,
        noted.len,
    )
}

/// Aligns the two.
pub(super) fn align(run: &[Noted], capture: &[Noted]) -> Alignment {
    let same = |(a, b): (&Noted, &Noted)| key(a) == key(b) && is_like(a, b);
    // Nearly always all of them.
    let prefix = run
        .iter()
        .zip(capture)
        .take_while(|&pair| same(pair))
        .count();
    let mut found = Alignment {
        matched: (0..prefix).map(|at| (at, at)).collect(),
        ..Alignment::default()
    };
    if prefix == run.len() && prefix == capture.len() {
        found.count_parts(run, capture);
        return found;
    }
    let mut rest = Rest::new(capture, prefix);
    for (at, noted) in run.iter().enumerate().skip(prefix) {
        if let Some(other) = rest.take(noted, |other| is_like(noted, other)) {
            found.matched.push((at, other));
        }
    }
    let mut left: Vec<usize> = {
        let mut matched = vec![false; run.len()];
        found.matched.iter().for_each(|&(at, _)| matched[at] = true);
        (0..run.len()).filter(|&at| !matched[at]).collect()
    };
    left.retain(|&at| match rest.take(&run[at], |_| true) {
        Some(other) => {
            let kind = match likeness(&run[at], &capture[other]) {
                Likeness::Payload => Kind::Payload,
                Likeness::Header | Likeness::Same | Likeness::SameInPart => Kind::Header,
            };
            found.differences.push(Difference {
                kind,
                run: at,
                capture: other,
            });
            found.matched.push((at, other));
            false
        }
        None => true,
    });
    found.matched.sort_unstable();
    for at in left {
        let place = found.place_in_capture(at);
        found.differences.push(Difference {
            kind: Kind::OnlyRun,
            run: at,
            capture: place,
        });
    }
    for other in rest.left() {
        let place = found.place_in_run(other);
        found.differences.push(Difference {
            kind: Kind::OnlyCapture,
            run: place,
            capture: other,
        });
    }
    found.check_order(run, capture);
    found.count_parts(run, capture);
    found.differences.sort_by_key(|d| (d.run, d.capture));
    found
}

fn is_like(run: &Noted, capture: &Noted) -> bool {
    match likeness(run, capture) {
        Likeness::Same | Likeness::SameInPart => true,
        Likeness::Header | Likeness::Payload => false,
    }
}

fn likeness(run: &Noted, capture: &Noted) -> Likeness {
    run.digest.likeness(&capture.digest)
}

/// The capture's segments that have no counterpart yet.
struct Rest<'a> {
    capture: &'a [Noted],
    by_key: HashMap<Key, VecDeque<usize>>,
}

impl<'a> Rest<'a> {
    fn new(capture: &'a [Noted], from: usize) -> Rest<'a> {
        let mut by_key: HashMap<Key, VecDeque<usize>> = HashMap::new();
        for (at, noted) in capture.iter().enumerate().skip(from) {
            by_key.entry(key(noted)).or_default().push_back(at);
        }
        Rest { capture, by_key }
    }

    /// The first counterpart of `noted` that will do.
    fn take(&mut self, noted: &Noted, will_do: impl Fn(&Noted) -> bool) -> Option<usize> {
        let alike = self.by_key.get_mut(&key(noted))?;
        let at = alike.iter().position(|&at| will_do(&self.capture[at]))?;
        alike.remove(at)
    }

    /// Those that are left, in order.
    fn left(self) -> Vec<usize> {
        let mut left: Vec<usize> = self.by_key.into_values().flatten().collect();
        left.sort_unstable();
        left
    }
}

impl Alignment {
    /// Where in the capture a segment of the run would stand: behind its predecessor.
    fn place_in_capture(&self, run: usize) -> usize {
        let before = self.matched.partition_point(|&(at, _)| at < run);
        before
            .checked_sub(1)
            .map_or(0, |last| self.matched[last].1 + 1)
    }

    fn place_in_run(&self, capture: usize) -> usize {
        let before = self.matched.iter().filter(|&&(_, other)| other < capture);
        before
            .max_by_key(|&&(_, other)| other)
            .map_or(0, |&(at, _)| at + 1)
    }

    fn count_parts(&mut self, run: &[Noted], capture: &[Noted]) {
        let in_part =
            |&&(i, j): &&(usize, usize)| likeness(&run[i], &capture[j]) == Likeness::SameInPart;
        self.in_part = self.matched.iter().filter(in_part).count() as u64;
    }

    /// Finds matched segments that stand in another order, and says of which pairs that means
    /// nothing.
    fn check_order(&mut self, run: &[Noted], capture: &[Noted]) {
        let mut highest: Option<usize> = None;
        for k in 0..self.matched.len() {
            let (at, other) = self.matched[k];
            if highest.is_none_or(|highest| other > highest) {
                highest = Some(other);
                continue;
            }
            // All before it in the run that stand behind it in the capture.
            let behind = |&&(_, before): &&(usize, usize)| before > other;
            let crossed = self.matched[..k].iter().filter(behind).all(|&(i, j)| {
                let in_run = apart(&run[i], &run[at]);
                let in_capture = apart(&capture[j], &capture[other]);
                may_cross(run, i, at) && in_run + in_capture <= CROSSING
            });
            if crossed {
                self.crossed += 1;
            } else {
                self.differences.push(Difference {
                    kind: Kind::Order,
                    run: at,
                    capture: other,
                });
            }
        }
    }
}

/// Whether two segments of one capture may have been on their way at once.
pub(super) fn may_cross(seen: &[Noted], a: usize, b: usize) -> bool {
    seen[a].direction != seen[b].direction && !answers(seen, a, b) && !answers(seen, b, a)
}

/// Whether a segment acknowledges another that was the first to hold what it does: of what is sent
/// again, an acknowledgment may be older.
fn answers(seen: &[Noted], at: usize, other: usize) -> bool {
    let sent = &seen[other];
    let again = seen[..other].iter().any(|earlier| {
        earlier.direction == sent.direction && earlier.seq == sent.seq && earlier.space() > 0
    });
    !again && seen[at].acknowledges(sent)
}

/// How far apart one capture saw them.
pub(super) fn apart(a: &Noted, b: &Noted) -> Duration {
    Duration::from_nanos(a.at.since(b.at).unsigned_abs())
}
