//! What several stops of one server had in common: when each of them came to its turning points,
//! counted from its own signal.

use super::Summary;
use crate::time::Stamp;

/// When a server that was signalled came to its turning points; none where that was not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// The instant before the signal.
    pub signal: Option<Stamp>,
    /// The last accept() of any process.
    pub last_accept: Option<Stamp>,
    /// The last close of the listener.
    pub listener_closed: Option<Stamp>,
    /// The end of its main process, unless it was killed.
    pub gone: Option<Stamp>,
}

/// Several stops.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    /// The last accept().
    pub last_accept: Times,
    /// The last close of the listener.
    pub listener_closed: Times,
    /// The first refusal.
    pub refused: Times,
    /// The end of the server's main process.
    pub gone: Times,
    /// Runs in which a connection was served that was opened after another had been refused.
    pub interleaved: usize,
}

/// Spans from the signal, in nanoseconds, one of each run in which it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Vec<i64>);

impl Stops {
    /// Adds a run.
    pub fn add(&mut self, run: &Summary, turns: &Turns) {
        self.interleaved += usize::from(run.is_interleaved());
        let Some(signal) = turns.signal else {
            return;
        };
        for (times, at) in [
            (&mut self.last_accept, turns.last_accept),
            (&mut self.listener_closed, turns.listener_closed),
            (&mut self.refused, run.first_refusal()),
            (&mut self.gone, turns.gone),
        ] {
            times.0.extend(at.map(|at| at.since(signal)));
        }
    }
}

impl Times {
    /// The earliest.
    pub fn least(&self) -> Option<i64> {
        self.0.iter().copied().min()
    }

    /// The one in the middle; of an even number the earlier of the two.
    pub fn median(&self) -> Option<i64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }

    /// The latest.
    pub fn most(&self) -> Option<i64> {
        self.0.iter().copied().max()
    }

    /// In how many runs it was seen.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run whose first refusal was then.
    fn refusing(at: i64) -> Summary {
        let mut run = Summary::default();
        run.refusals.answered(Stamp(0));
        run.refusals.refused(Stamp(1), Stamp(at));
        run
    }

    #[test]
    fn turns_count_from_their_own_signal() {
        let mut stops = Stops::default();
        for (signal, refused, gone) in [(100, 150, 300), (1_000, 1_070, 1_010)] {
            let run = refusing(refused);
            let turns = Turns {
                signal: Some(Stamp(signal)),
                gone: Some(Stamp(gone)),
                ..Turns::default()
            };
            stops.add(&run, &turns);
        }
        let seen = |times: &Times| (times.least(), times.median(), times.most(), times.count());
        assert_eq!(seen(&stops.refused), (Some(50), Some(50), Some(70), 2));
        assert_eq!(seen(&stops.gone), (Some(10), Some(10), Some(200), 2));
        assert_eq!(seen(&stops.last_accept), (None, None, None, 0));
    }

    #[test]
    fn without_a_signal_nothing_counts_from_it() {
        let mut stops = Stops::default();
        stops.add(&refusing(5), &Turns::default());
        assert_eq!(stops.refused.count(), 0);
    }
}
