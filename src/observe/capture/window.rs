//! The stretch of a stream that is being looked at: it grows to the record in hand and no further,
//! and knows where in the stream it stands. What the bytes mean is left to the formats.

use std::io::{ErrorKind, Read};

use super::CaptureError;

/// Some hundred packets a read. What is read stays in a processor's own cache until it has been
/// looked at, and leaves room there for the flows that it belongs to.
const START: usize = 64 << 10;

/// Bytes read and not yet consumed.
pub(super) struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Of the first byte of the window, in the stream.
    offset: u64,
    exhausted: bool,
}

impl<R: Read> Window<R> {
    pub(super) fn new(input: R) -> Self {
        Window {
            input,
            buffer: vec![0; START],
            start: 0,
            end: 0,
            offset: 0,
            exhausted: false,
        }
    }

    /// What has been read and not consumed.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Where the window begins in the stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads until the window holds `need` bytes; false where the stream ends before. Nothing is
    /// read that the window need not hold, so that a pipe's packets come out as they come in.
    #[inline]
    pub(super) fn fill(&mut self, need: usize) -> Result<bool, CaptureError> {
        // Of some thousand times it is asked, once there is something to read.
        if self.end - self.start >= need {
            return Ok(true);
        }
        self.read_until(need)
    }

    fn read_until(&mut self, need: usize) -> Result<bool, CaptureError> {
        while self.end - self.start < need {
            if self.exhausted {
                return Ok(false);
            }
            self.make_room(need);
            self.read()?;
        }
        Ok(true)
    }

    /// How much memory it holds.
    #[cfg(any(test, fuzzing))]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Leaves `count` bytes behind, as far as they have been read.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    /// Leaves `count` bytes behind without ever holding them all; false where the stream ends
    /// before.
    pub(super) fn skip(&mut self, count: usize) -> Result<bool, CaptureError> {
        let mut left = count;
        loop {
            let step = left.min(self.end - self.start);
            self.consume(step);
            left -= step;
            if left == 0 {
                return Ok(true);
            }
            if !self.fill(1)? {
                return Ok(false);
            }
        }
    }

    /// Makes room behind what is held. The buffer grows with what arrives, not with what a length
    /// field promises.
    fn make_room(&mut self, need: usize) {
        if self.start + need > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    fn read(&mut self) -> Result<(), CaptureError> {
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        match self.input.read(room) {
            Ok(0) => self.exhausted = true,
            Ok(count) => self.end += count.min(room.len()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => {
                let offset = self.offset + (self.end - self.start) as u64;
                return Err(CaptureError::Read { offset, source });
            }
        }
        Ok(())
    }
}
