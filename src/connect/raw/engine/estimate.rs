//! How long an answer takes, and how long to wait for one (RFC 6298).

use std::time::Duration;

/// Before anything was measured (RFC 6298 2.1).
const INITIAL: Duration = Duration::from_secs(1);
/// Before anything was measured, and the SYN had to be sent again (RFC 6298 5.7).
const AFTER_SYN_AGAIN: Duration = Duration::from_secs(3);
/// What is waited beyond the smoothed round trip at least: Linux's `TCP_RTO_MIN`, where RFC 6298 2.4
/// has a second.
const LEAST_MARGIN_US: u32 = 200_000;
/// Linux's `TCP_RTO_MAX`.
const MOST: Duration = Duration::from_secs(120);

/// The round trip's estimate, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Estimate {
    /// Smoothed; at least 1 once anything was measured.
    smoothed: u32,
    variation: u32,
}

impl Estimate {
    /// Takes a measurement (RFC 6298 2.2 and 2.3).
    pub(super) fn take(&mut self, sample: u32) {
        // Beyond the longest wait it says nothing more, and sums below cannot overflow.
        let sample = sample.clamp(1, 120_000_000);
        if self.smoothed == 0 {
            self.smoothed = sample;
            self.variation = sample / 2;
            return;
        }
        let error = self.smoothed.abs_diff(sample);
        self.variation = (3 * self.variation + error) / 4;
        self.smoothed = ((7 * self.smoothed + sample) / 8).max(1);
    }

    /// How long to wait, after so many vain waits in a row (RFC 6298 5.5).
    pub(super) fn timeout(self, syn_again: bool, backoff: u8) -> Duration {
        let once = if self.smoothed > 0 {
            let margin = (4 * self.variation).max(LEAST_MARGIN_US);
            Duration::from_micros(u64::from(self.smoothed + margin))
        } else if syn_again {
            AFTER_SYN_AGAIN
        } else {
            INITIAL
        };
        once.saturating_mul(1 << backoff.min(16)).min(MOST)
    }
}
