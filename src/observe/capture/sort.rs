//! Puts the frames of a capture in the order of their stamps. Processors and interfaces hand frames to
//! a capture side by side, so that in the file a later one may stand before an earlier one. What is
//! held is bounded; what comes later than that is handed on as it comes.

use std::collections::VecDeque;
use std::mem;
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

/// So much of the queue is read before the rest of it is moved up: little enough for the processor's
/// nearest cache to hold it all.
const QUEUE: usize = 16 << 10;

struct Bounds {
    span: Duration,
    frames: usize,
}

/// Frames held back until nothing earlier can come any more.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    held: VecDeque<Held>,
    /// Captured bytes of all that is held.
    bytes: usize,
    /// As long as none stood behind a later one: their bytes, one after the other, from `read` on.
    queue: Vec<u8>,
    read: usize,
    newest: Option<Stamp>,
    released: Option<Stamp>,
    /// Whether frames of several interfaces were seen.
    several: bool,
    /// Whether any stood behind a later one.
    mixed: bool,
    late: u64,
    /// The buffer of the frame handed on last.
    lent: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

/// A frame that is held.
#[derive(Debug)]
struct Held {
    at: Stamp,
    point: Option<Point>,
    len: usize,
    captured: usize,
    /// Its bytes, unless they stand in the queue.
    own: Option<Vec<u8>>,
}

/// A frame in its place, from its IP header on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sorted<'a> {
    /// Its time.
    pub(crate) at: Stamp,
    /// Where it was seen, if there are several places.
    pub(crate) point: Option<Point>,
    /// The captured bytes.
    pub(crate) bytes: &'a [u8],
    /// How many there were on the wire.
    pub(crate) len: usize,
}

impl Sorter {
    /// Takes a frame.
    pub(crate) fn push(&mut self, frame: Sorted<'_>) {
        let at = frame.at;
        self.bytes += frame.bytes.len();
        self.several |= frame.point.is_some();
        self.late += u64::from(self.released.is_some_and(|released| at < released));
        let is_newest = self.newest.is_none_or(|newest| newest <= at);
        if is_newest {
            self.newest = Some(at);
        } else if !self.mixed {
            self.mixed = true;
            self.leave_queue();
        }
        let own = if self.mixed {
            Some(self.buffer(frame.bytes))
        } else {
            self.enqueue(frame.bytes);
            None
        };
        let held = Held {
            at,
            point: frame.point,
            len: frame.len,
            captured: frame.bytes.len(),
            own,
        };
        // Nearly always it is the newest.
        if is_newest {
            self.held.push_back(held);
        } else {
            let place = self.held.partition_point(|other| other.at <= at);
            self.held.insert(place, held);
        }
    }

    /// The earliest frame, once nothing earlier is to be expected.
    pub(crate) fn pop(&mut self) -> Option<Sorted<'_>> {
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
    pub(crate) fn take(&mut self) -> Option<Sorted<'_>> {
        let frame = self.held.pop_front()?;
        self.bytes -= frame.captured;
        self.released = self.released.max(Some(frame.at));
        let bytes = match frame.own {
            Some(buffer) => {
                let before = mem::replace(&mut self.lent, buffer);
                self.reuse(before);
                &self.lent
            }
            None => self.dequeue(frame.captured),
        };
        Some(Sorted {
            at: frame.at,
            point: frame.point,
            bytes,
            len: frame.len,
        })
    }

    /// Frames that came after later ones had been handed on.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    fn enqueue(&mut self, bytes: &[u8]) {
        // What was read is at least as much as what has to be moved.
        if self.read >= QUEUE && self.read * 2 >= self.queue.len() {
            self.queue.drain(..mem::take(&mut self.read));
        }
        self.queue.extend_from_slice(bytes);
    }

    fn dequeue(&mut self, count: usize) -> &[u8] {
        let start = self.read;
        self.read += count;
        &self.queue[start..self.read]
    }

    /// From here on frames change places: each has its own bytes.
    fn leave_queue(&mut self) {
        let queue = mem::take(&mut self.queue);
        let mut rest = &queue[mem::take(&mut self.read)..];
        for held in &mut self.held {
            let (bytes, behind) = rest.split_at(held.captured);
            held.own = Some(bytes.to_vec());
            rest = behind;
        }
    }

    fn buffer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        buffer
    }

    fn reuse(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BUFFER {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(sorter: &mut Sorter) -> Option<i64> {
        let frame = sorter.pop()?;
        assert_eq!(frame.bytes, frame.at.0.to_le_bytes());
        Some(frame.at.0)
    }

    fn push(sorter: &mut Sorter, at: i64) {
        push_bytes(sorter, at, &at.to_le_bytes(), 60);
    }

    fn push_bytes(sorter: &mut Sorter, at: i64, bytes: &[u8], len: usize) {
        sorter.push(Sorted {
            at: Stamp(at),
            point: None,
            bytes,
            len,
        });
    }

    fn take_all<T>(sorter: &mut Sorter, look: impl Fn(Sorted<'_>) -> T) -> Vec<T> {
        std::iter::from_fn(|| sorter.take().map(&look)).collect()
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
        let rest = take_all(&mut sorter, |frame| frame.at.0);
        assert_eq!(rest, [10_000_000, 51_000_000]);
    }

    #[test]
    fn of_two_with_one_stamp_the_first_stays_the_first() {
        let mut sorter = Sorter::default();
        for (at, len) in [(5, 1), (7, 2), (5, 3), (7, 4)] {
            push_bytes(&mut sorter, at, &[], len);
        }
        assert_eq!(take_all(&mut sorter, |frame| frame.len), [1, 3, 2, 4]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut sorter = Sorter::default();
        for at in 0..10_000 {
            push(&mut sorter, at);
            while pop(&mut sorter).is_some() {}
            assert!(sorter.held.len() <= IN_ORDER.frames);
            assert!(sorter.queue.len() <= 2 * QUEUE);
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
            push_bytes(&mut sorter, at, &large, large.len());
            while sorter.pop().is_some() {}
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
