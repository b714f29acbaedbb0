//! Segments that one capture saw more than once, because they crossed several of its interfaces: a
//! bridge and its ports, the two ends of a veth pair, a bond.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::Point;
use crate::time::Stamp;
use crate::wire::Segment;

/// How long a segment may be under way from one interface to the next: a queue may hold it there. A
/// retransmission crosses them all again, and begins where the first one began.
const APART: Duration = Duration::from_millis(100);
/// Segments remembered, a power of two; at 100,000 packets a second about half a second's. 1.5 MiB.
const PLACES: usize = 1 << 16;

/// What crossed which interface first.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    hasher: RandomState,
    /// Each where its hash says; who comes later takes the place.
    seen: Vec<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    hash: u64,
    point: Point,
    at: Stamp,
}

impl Copies {
    /// Whether this segment was seen before, at another point. At the same point it is another
    /// segment: a retransmission.
    pub(crate) fn is_copy(&mut self, segment: &Segment, point: Point) -> bool {
        if self.seen.is_empty() {
            self.seen.resize(PLACES, Seen::default());
        }
        // IPv4's identification, or else the timestamps, differ from one transmission to the next;
        // routers change neither.
        let hash = self.hasher.hash_one((
            (segment.src, segment.dst, segment.ip_id),
            (segment.seq, segment.ack, segment.flags.0, segment.len),
            (segment.window, segment.options.timestamps),
        ));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the lowest bits are what is wanted"
        )]
        let seen = &mut self.seen[hash as usize % PLACES];
        let apart = segment.at.since(seen.at).unsigned_abs();
        let near = u128::from(apart) <= APART.as_nanos();
        if seen.hash == hash && near && seen.point != point {
            return true;
        }
        *seen = Seen {
            hash,
            point,
            at: segment.at,
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::script::segments;

    const FIRST: Point = Point(1);
    const SECOND: Point = Point(2);

    #[test]
    fn what_crosses_another_interface_is_a_copy() {
        let mut copies = Copies::default();
        for segment in segments(">S <S. >. >P.[get] <. <P.[ok]") {
            assert!(!copies.is_copy(&segment, FIRST), "{segment:?}");
            assert!(copies.is_copy(&segment, SECOND), "{segment:?}");
            assert!(copies.is_copy(&segment, Point(3)), "{segment:?}");
        }
    }

    #[test]
    fn a_retransmission_is_none_and_has_copies_of_its_own() {
        let mut copies = Copies::default();
        let sent = segments(">S").remove(0);
        let again = Segment {
            at: sent.at + Duration::from_millis(20),
            ..sent.clone()
        };
        assert!(!copies.is_copy(&sent, FIRST));
        assert!(copies.is_copy(&sent, SECOND));
        assert!(!copies.is_copy(&again, FIRST));
        assert!(copies.is_copy(&again, SECOND));
    }

    #[test]
    fn another_segment_or_much_later_is_no_copy() {
        let mut copies = Copies::default();
        let sent = segments(">S <S. >. >P.[get]").remove(3);
        assert!(!copies.is_copy(&sent, FIRST));
        let other = Segment {
            ip_id: Some(8),
            ..sent.clone()
        };
        assert!(!copies.is_copy(&other, SECOND));
        let late = Segment {
            at: sent.at + APART * 2,
            ..sent
        };
        assert!(!copies.is_copy(&late, SECOND));
    }
}
