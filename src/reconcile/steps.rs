//! A sequence in the notation held against segments: all that can be done where a run tells no more
//! of its packets.

use super::Noted;
use super::align::{CROSSING, apart, may_cross};
use crate::sequence::Step;

/// Beyond so many comparisons what differs is not aligned any further.
const MAX_WORK: usize = 4_000_000;

/// What differs, by positions in the unfolded sequence and among the segments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StepAlignment {
    /// Steps that no segment stands for, and before which segment they would stand.
    pub(super) only_run: Vec<(usize, usize)>,
    /// Segments that no step stands for, and before which step they would stand.
    pub(super) only_capture: Vec<(usize, usize)>,
    /// How many stand for each other.
    pub(super) matched: u64,
    /// Segments that crossed each other so closely that their order says nothing.
    pub(super) crossed: u64,
}

fn step(noted: &Noted) -> Step {
    Step {
        direction: noted.direction,
        flags: noted.flags,
        len: noted.len,
        times: 1,
    }
}

/// Aligns the two.
pub(super) fn align(run: &[Step], segments: &[Noted]) -> StepAlignment {
    let mut found = StepAlignment::default();
    let capture: Vec<Step> = segments.iter().map(step).collect();
    let mut at = 0;
    while at < run.len() && at < capture.len() {
        if run[at] == capture[at] {
            at += 1;
        } else if swapped(run, &capture, at) && cross(segments, at) {
            found.crossed += 1;
            at += 2;
        } else {
            break;
        }
    }
    let back = run[at..].iter().rev().zip(capture[at..].iter().rev());
    let suffix = back.take_while(|(a, b)| a == b).count();
    found.matched = (at + suffix) as u64;
    let (left, right) = (
        &run[at..run.len() - suffix],
        &capture[at..capture.len() - suffix],
    );
    found.middle(left, right, at);
    found
}

/// Whether their order says nothing. Of how far apart the run saw them nothing is known.
fn cross(segments: &[Noted], at: usize) -> bool {
    may_cross(segments, at, at + 1) && apart(&segments[at], &segments[at + 1]) <= CROSSING / 2
}

fn swapped(run: &[Step], capture: &[Step], at: usize) -> bool {
    let pair = |steps: &[Step]| steps.get(at..at + 2).map(|pair| (pair[0], pair[1]));
    match (pair(run), pair(capture)) {
        (Some((a, b)), Some((c, d))) => (a, b) == (d, c),
        _ => false,
    }
}

impl StepAlignment {
    /// Aligns what is neither a common beginning nor a common end: the longest common subsequence.
    fn middle(&mut self, run: &[Step], capture: &[Step], base: usize) {
        let (n, m) = (run.len(), capture.len());
        if n.saturating_mul(m) > MAX_WORK {
            self.only_run.extend((0..n).map(|i| (base + i, base)));
            self.only_capture
                .extend((0..m).map(|j| (base + j, base + n)));
            return;
        }
        let width = m + 1;
        // How long the longest common subsequence of run[i..] and capture[j..] is.
        let mut common = vec![0_u32; (n + 1) * width];
        for i in (0..n).rev() {
            for j in (0..m).rev() {
                common[i * width + j] = if run[i] == capture[j] {
                    common[(i + 1) * width + j + 1] + 1
                } else {
                    common[(i + 1) * width + j].max(common[i * width + j + 1])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < n || j < m {
            if i < n && j < m && run[i] == capture[j] {
                self.matched += 1;
                (i, j) = (i + 1, j + 1);
            } else if j == m || i < n && common[(i + 1) * width + j] >= common[i * width + j + 1] {
                self.only_run.push((base + i, base + j));
                i += 1;
            } else {
                self.only_capture.push((base + j, base + i));
                j += 1;
            }
        }
    }
}
