//! The pages of a trace buffer as `trace_pipe_raw` hands them out (kernel/trace/ring_buffer.c): when
//! each record was written, its bytes, and whether records before it were lost. What records hold is
//! left to [`events`](super::events).

use super::format::{self, Field};

/// The commit field's upper bits (RB_MISSED_EVENTS, RB_MISSED_STORED): records were lost before this
/// page's, and their number stands behind its last.
const MISSED: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;
/// The rest is the length of the page's records. Wider than any page, narrower than the flags.
const LENGTH: u64 = (1 << 27) - 1;

/// Values of a record's type_len that are no length (`events/header_event`).
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
/// type_len has 5 bits, time_delta the other 27.
const TYPE_BITS: u32 = 5;
const DELTA_BITS: u32 = 27;
/// An absolute stamp has 59 bits; the upper 5 are those of the page's (rb_fix_abs_ts).
const ABSOLUTE_BITS: u32 = 59;

/// Where things stand in a page (`events/header_page`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    stamp: Field,
    commit: Field,
    data: Field,
}

/// A page.
#[derive(Clone, Debug)]
pub(super) struct Page<'a> {
    /// What was lost before it.
    pub(super) missed: Missed,
    stamp: u64,
    data: &'a [u8],
}

/// How many records are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// None.
    Nothing,
    /// So many.
    Counted(u64),
    /// Some: there was no room for their number.
    Some,
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// When it was written: nanoseconds of the instance's clock.
    pub(super) at: u64,
    /// The event, its common fields first.
    pub(super) bytes: &'a [u8],
}

/// A page that contradicts itself from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Layout {
    /// Reads `header_page`.
    pub(super) fn parse(text: &str) -> Option<Layout> {
        let fields: Vec<_> = text.lines().filter_map(format::field).collect();
        let find = |name: &str| {
            let mut found = fields.iter().filter(|(known, _)| **known == *name);
            found.next().map(|&(_, field)| field)
        };
        Some(Layout {
            stamp: find("timestamp")?,
            commit: find("commit")?,
            data: find("data")?,
        })
    }

    /// A page's bytes.
    pub(super) fn page_bytes(&self) -> usize {
        self.data.offset.saturating_add(self.data.size)
    }

    /// Reads a page's head.
    pub(super) fn page<'a>(&self, bytes: &'a [u8]) -> Option<Page<'a>> {
        let stamp = self.stamp.unsigned(bytes)?;
        let commit = self.commit.unsigned(bytes)?;
        let records = Field {
            offset: self.data.offset,
            size: usize::try_from(commit & LENGTH).ok()?,
        };
        let count = Field {
            offset: records.offset.checked_add(records.size)?,
            size: self.commit.size,
        };
        let missed = match (commit & MISSED != 0, commit & MISSED_STORED != 0) {
            (false, _) => Missed::Nothing,
            (true, false) => Missed::Some,
            (true, true) => count.unsigned(bytes).map_or(Missed::Some, Missed::Counted),
        };
        Some(Page {
            missed,
            stamp,
            data: records.bytes(bytes)?,
        })
    }
}

impl<'a> Page<'a> {
    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(
            self.data.get(at..at.checked_add(4)?)?.try_into().ok()?,
        ))
    }

    /// Takes the next record's head off; how many bytes it has and whether they are an event.
    fn step(&mut self) -> Option<Option<Record<'a>>> {
        let head = self.word(0)?;
        let (kind, delta) = if cfg!(target_endian = "big") {
            (head >> DELTA_BITS, head & ((1 << DELTA_BITS) - 1))
        } else {
            (head & ((1 << TYPE_BITS) - 1), head >> TYPE_BITS)
        };
        let delta = u64::from(delta);
        let (skip, length, is_event) = match kind {
            PADDING if delta == 0 => {
                self.data = &[];
                return Some(None);
            }
            // A record that was discarded after another had been written behind it.
            PADDING => (4, self.word(4)? as usize, false),
            TIME_EXTEND => {
                let upper = u64::from(self.word(4)?) << DELTA_BITS;
                self.stamp = self.stamp.wrapping_add(upper);
                (8, 0, false)
            }
            TIME_STAMP => {
                let lower = (u64::from(self.word(4)?) << DELTA_BITS) + delta;
                self.stamp = absolute(lower, self.stamp);
                self.data = self.data.get(8..)?;
                return Some(None);
            }
            // The length, which counts its own word, stands in a word of its own.
            0 => (8, (self.word(4)? as usize).checked_sub(4)?, true),
            words => (4, words as usize * 4, true),
        };
        self.stamp = self.stamp.wrapping_add(delta);
        let end = length.checked_add(skip)?;
        let bytes = self.data.get(skip..end)?;
        // Records are padded to whole words.
        let next = end.checked_next_multiple_of(4)?.min(self.data.len());
        self.data = &self.data[next..];
        let at = self.stamp;
        Some(is_event.then_some(Record { at, bytes }))
    }
}

impl<'a> Iterator for Page<'a> {
    type Item = Result<Record<'a>, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.data.is_empty() {
            match self.step() {
                Some(Some(record)) => return Some(Ok(record)),
                Some(None) => {}
                None => {
                    self.data = &[];
                    return Some(Err(Unreadable));
                }
            }
        }
        None
    }
}

/// An absolute stamp in full: its upper bits are those of a stamp just before.
fn absolute(lower: u64, before: u64) -> u64 {
    let lower = lower & ((1 << ABSOLUTE_BITS) - 1);
    let upper = before >> ABSOLUTE_BITS << ABSOLUTE_BITS;
    let full = upper | lower;
    if upper != 0 && full < before {
        return full.wrapping_add(1 << ABSOLUTE_BITS);
    }
    full
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
        \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
        \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
        \tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n";

    fn layout() -> Layout {
        Layout::parse(HEADER).unwrap()
    }

    fn head(kind: u32, delta: u32) -> u32 {
        if cfg!(target_endian = "big") {
            kind << DELTA_BITS | delta
        } else {
            delta << TYPE_BITS | kind
        }
    }

    fn page(flags: u64, words: &[u32]) -> Vec<u8> {
        let mut bytes = 1_000_u64.to_ne_bytes().to_vec();
        let length = words.len() as u64 * 4;
        bytes.extend((length | flags).to_ne_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(77_u64.to_ne_bytes());
        bytes.resize(4096, 0);
        bytes
    }

    fn stamps(words: &[u32]) -> Vec<Result<(u64, usize), Unreadable>> {
        let bytes = page(0, words);
        let page = layout().page(&bytes).unwrap();
        page.map(|record| record.map(|record| (record.at, record.bytes.len())))
            .collect()
    }

    #[test]
    fn each_record_is_so_much_later_than_the_one_before() {
        let words = [head(2, 0), 1, 2, head(1, 30), 3, head(1, 5), 4];
        assert_eq!(
            stamps(&words),
            [Ok((1_000, 8)), Ok((1_030, 4)), Ok((1_035, 4))]
        );
    }

    #[test]
    fn a_long_record_says_its_length_in_a_word_of_its_own() {
        let words = [head(0, 7), 12, 1, 2, head(1, 1), 3];
        assert_eq!(stamps(&words), [Ok((1_007, 8)), Ok((1_008, 4))]);
    }

    #[test]
    fn long_silences_are_told_by_an_extension_or_an_absolute_stamp() {
        let extended = [head(TIME_EXTEND, 5), 2, head(1, 1), 9];
        assert_eq!(stamps(&extended), [Ok((1_000 + 5 + (2 << 27) + 1, 4))]);
        let absolute = [head(TIME_STAMP, 5), 3, head(1, 1), 9];
        assert_eq!(stamps(&absolute), [Ok((5 + (3 << 27) + 1, 4))]);
    }

    #[test]
    fn an_absolute_stamp_keeps_the_upper_bits() {
        let before = 3 << ABSOLUTE_BITS | 900;
        assert_eq!(absolute(950, before), 3 << ABSOLUTE_BITS | 950);
        assert_eq!(absolute(10, before), 4 << ABSOLUTE_BITS | 10);
        assert_eq!(absolute(10, 900), 10);
    }

    #[test]
    fn discarded_records_are_passed_over_and_padding_ends_a_page() {
        let words = [head(PADDING, 4), 4, head(1, 1), 3, head(PADDING, 0), 8, 8];
        assert_eq!(stamps(&words), [Ok((1_005, 4))]);
    }

    #[test]
    fn what_was_lost_before_a_page_is_told() {
        let missed = |flags| {
            let bytes = page(flags, &[head(1, 0), 1]);
            layout().page(&bytes).unwrap().missed
        };
        assert_eq!(missed(0), Missed::Nothing);
        assert_eq!(missed(MISSED), Missed::Some);
        assert_eq!(missed(MISSED | MISSED_STORED), Missed::Counted(77));
    }

    #[test]
    fn a_record_that_leaves_its_page_is_unreadable() {
        assert_eq!(stamps(&[head(3, 0), 1]), [Err(Unreadable)]);
        assert_eq!(stamps(&[head(0, 0), 3, 1]), [Err(Unreadable)]);
        assert_eq!(stamps(&[head(TIME_EXTEND, 0)]), [Err(Unreadable)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(page) = layout().page(&bytes) {
                prop_assert!(page.count() <= bytes.len());
            }
        }

        #[test]
        fn any_records_are_read_to_their_end(words in proptest::collection::vec(0_u32..256, 0..100)) {
            let bytes = page(0, &words);
            prop_assert!(layout().page(&bytes).unwrap().count() <= words.len());
        }
    }
}
