//! Puts the frames of a capture in the order of their stamps. Processors and interfaces hand frames to
//! a capture side by side, so that in the file a later one may stand before an earlier one. What is
//! held is bounded; what comes later than that is handed on as it comes.

use std::collections::VecDeque;
use std::time::Duration;

use super::Point;
use crate::time::Stamp;

/// How far frames may stand from their place. Packets were seen to reach a ring 12 ms after their
/// stamp where every core was busy; several interfaces are read one after the other. Most captures
/// are in order, and few frames stay in the processor's nearest cache: as many are held until the
/// first is met that is not.
const IN_ORDER: Bounds = Bounds {
    span: Duration::from_millis(50),
    frames: 64,
};
const ONE_INTERFACE: Bounds = Bounds {
    frames: 2_048,
    ..IN_ORDER
};
const SEVERAL: Bounds = Bounds {
    span: Duration::from_secs(1),
    frames: 32_768,
};
/// Of all that is held: headers, or some thousand full frames.
const MAX_BYTES: usize = 8 << 20;
/// A buffer that is larger is not kept for the next frame.
const KEPT_BUFFER: usize = 2_048;

struct Bounds {
    span: Duration,
    frames: usize,
}

/// Frames held back until nothing earlier can come any more.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    held: VecDeque<Held>,
    bytes: usize,
    newest: Option<Stamp>,
    released: Option<Stamp>,
    /// Whether frames of several interfaces were seen.
    several: bool,
    /// Whether any stood behind a later one.
    mixed: bool,
    late: u64,
    spare: Vec<Vec<u8>>,
}

/// A frame that is held, from its IP header on.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its time.
    pub(crate) at: Stamp,
    /// Where it was seen, if there are several places.
    pub(crate) point: Option<Point>,
    /// The captured bytes.
    pub(crate) bytes: Vec<u8>,
    /// How many there were on the wire.
    pub(crate) len: usize,
}

impl Sorter {
    /// Takes a frame.
    pub(crate) fn push(&mut self, at: Stamp, point: Option<Point>, bytes: &[u8], len: usize) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        let frame = Held {
            at,
            point,
            bytes: buffer,
            len,
        };
        self.bytes += bytes.len();
        self.several |= point.is_some();
        self.late += u64::from(self.released.is_some_and(|released| at < released));
        // Nearly always it is the newest.
        if self.newest.is_none_or(|newest| newest <= at) {
            self.newest = Some(at);
            self.held.push_back(frame);
        } else {
            self.mixed = true;
            let place = self.held.partition_point(|other| other.at <= at);
            self.held.insert(place, frame);
        }
    }

    /// The earliest frame, once nothing earlier is to be expected.
    pub(crate) fn pop(&mut self) -> Option<Held> {
        let bounds = match (self.several, self.mixed) {
            (true, _) => SEVERAL,
            (false, true) => ONE_INTERFACE,
            (false, false) => IN_ORDER,
        };
        let (front, newest) = (self.held.front()?, self.newest?);
        let is_full = self.held.len() > bounds.frames || self.bytes > MAX_BYTES;
        if is_full || front.at + bounds.span < newest {
            self.take()
        } else {
            None
        }
    }

    /// The earliest frame, whatever may still come.
    pub(crate) fn take(&mut self) -> Option<Held> {
        let frame = self.held.pop_front()?;
        self.bytes -= frame.bytes.len();
        self.released = self.released.max(Some(frame.at));
        Some(frame)
    }

    /// Takes back a frame that was dealt with.
    pub(crate) fn reuse(&mut self, frame: Held) {
        let mut buffer = frame.bytes;
        if buffer.capacity() <= KEPT_BUFFER {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Frames that came after later ones had been handed on.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(sorter: &mut Sorter) -> Option<i64> {
        let frame = sorter.pop()?;
        let at = frame.at.0;
        assert_eq!(frame.bytes, at.to_le_bytes());
        sorter.reuse(frame);
        Some(at)
    }

    fn push(sorter: &mut Sorter, at: i64) {
        sorter.push(Stamp(at), None, &at.to_le_bytes(), 60);
    }

    #[test]
    fn frames_leave_in_the_order_of_their_stamps() {
        let mut sorter = Sorter::default();
        for at in [30, 10, 20, 90, 50, 10_000_000] {
            push(&mut sorter, at);
        }
        assert_eq!(pop(&mut sorter), None);
        push(&mut sorter, 51_000_000);
        let mut left = Vec::new();
        while let Some(at) = pop(&mut sorter) {
            left.push(at);
        }
        assert_eq!(left, [10, 20, 30, 50, 90]);
        assert_eq!(sorter.late(), 0);
        push(&mut sorter, 40);
        assert_eq!((pop(&mut sorter), sorter.late()), (Some(40), 1));
        let rest = std::iter::from_fn(|| sorter.take());
        assert_eq!(
            rest.map(|frame| frame.at.0).collect::<Vec<_>>(),
            [10_000_000, 51_000_000]
        );
    }

    #[test]
    fn of_two_with_one_stamp_the_first_stays_the_first() {
        let mut sorter = Sorter::default();
        for (at, len) in [(5, 1), (7, 2), (5, 3), (7, 4)] {
            sorter.push(Stamp(at), None, &[], len);
        }
        let order = std::iter::from_fn(|| sorter.take()).map(|frame| frame.len);
        assert_eq!(order.collect::<Vec<_>>(), [1, 3, 2, 4]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut sorter = Sorter::default();
        for at in 0..10_000 {
            push(&mut sorter, at);
            while pop(&mut sorter).is_some() {}
            assert!(sorter.held.len() <= IN_ORDER.frames);
        }
        push(&mut sorter, 9_990);
        for at in 10_000..15_000 {
            push(&mut sorter, at);
            while pop(&mut sorter).is_some() {}
            assert!(sorter.held.len() <= ONE_INTERFACE.frames);
        }
        assert_eq!(sorter.held.len(), ONE_INTERFACE.frames);
        let large = vec![0; 1 << 20];
        for at in 15_000..15_100 {
            sorter.push(Stamp(at), None, &large, large.len());
            while let Some(frame) = sorter.pop() {
                sorter.reuse(frame);
            }
            assert!(sorter.bytes <= MAX_BYTES);
        }
        assert!(
            sorter
                .spare
                .iter()
                .all(|buffer| buffer.capacity() <= KEPT_BUFFER)
        );
    }
}
