//! What one side's own segments prove to be missing from it: bytes, a SYN or a FIN that their
//! receiver acknowledged and that side never saw.

use super::Noted;
use crate::sequence::Step;
use crate::wire::Direction;

/// Whether `seen` proves that it lacks `missing`: its receiver acknowledged all of it, and no segment
/// that was seen holds all of it.
pub(super) fn proves(seen: &[Noted], missing: &Noted) -> bool {
    let space = missing.space();
    let relative = |number: u32| i64::from(number.wrapping_sub(missing.seq).cast_signed());
    let end = i64::from(space);
    let acknowledged = seen
        .iter()
        .any(|noted| answers(noted, missing.direction) && relative(noted.ack) >= end);
    if space == 0 || !acknowledged {
        return false;
    }
    let ranges = seen
        .iter()
        .filter(|noted| noted.direction == missing.direction && noted.space() > 0)
        .map(|noted| {
            (
                relative(noted.seq),
                relative(noted.seq) + i64::from(noted.space()),
            )
        });
    unseen(ranges.collect(), 0, end) > 0
}

/// Whether it carries an acknowledgment of what goes in `direction`. That of a RST need not be one
/// (RFC 9293 3.5.2).
fn answers(noted: &Noted, direction: Direction) -> bool {
    noted.direction != direction && noted.flags.ack() && !noted.flags.rst()
}

/// How much of `from..to` none of the ranges covers.
fn unseen(mut ranges: Vec<(i64, i64)>, from: i64, to: i64) -> i64 {
    ranges.sort_unstable();
    let (mut reach, mut missing) = (from, 0);
    for (start, end) in ranges {
        if start >= to {
            break;
        }
        missing += (start - reach).max(0);
        reach = reach.max(end);
    }
    missing + (to - reach).max(0)
}

/// How much is proven to be missing in each direction, where it is not known which bytes a segment
/// held: what can be set against segments that are known by their lengths alone.
#[derive(Debug)]
pub(super) struct Budget {
    to_server: i64,
    to_client: i64,
}

impl Budget {
    /// All that `seen` proves to be missing from it.
    pub(super) fn of(seen: &[Noted]) -> Budget {
        Budget {
            to_server: missing(seen, Direction::ToServer),
            to_client: missing(seen, Direction::ToClient),
        }
    }

    /// Takes away what such a segment held, if so much is missing.
    pub(super) fn take(&mut self, step: Step) -> bool {
        let left = match step.direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        let flags = step.flags;
        let space = i64::from(step.len) + i64::from(flags.syn()) + i64::from(flags.fin());
        let enough = space > 0 && *left >= space;
        if enough {
            *left -= space;
        }
        enough
    }
}

/// How much of what goes in `direction` was acknowledged and not seen. A SYN that was not seen
/// counts: whoever acknowledges anything has got one.
fn missing(seen: &[Noted], direction: Direction) -> i64 {
    let acks = || seen.iter().filter(|noted| answers(noted, direction));
    let sent = || seen.iter().filter(|noted| noted.direction == direction);
    let Some(first_ack) = acks().next() else {
        return 0;
    };
    let syn = sent().find(|noted| noted.flags.syn());
    // The number behind the SYN is the first that its receiver acknowledges.
    let base = syn.map_or(first_ack.ack.wrapping_sub(1), |syn| syn.seq);
    let relative = |number: u32| i64::from(number.wrapping_sub(base).cast_signed());
    let to = acks().map(|noted| relative(noted.ack)).max().unwrap_or(0);
    let ranges = sent().map(|noted| {
        let start = relative(noted.seq);
        (start, start + i64::from(noted.space()))
    });
    unseen(ranges.collect(), 0, to)
}
