//! Several runs in numbers: their records together, and how much one run differs from another.

use super::Summary;
use crate::outcome::Outcome;
use crate::time::Stamp;

/// Several runs, pooled.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// All their records. Its loss window reaches over the runs; that of a run is in
    /// [`loss_window`](Pool::loss_window).
    pub summary: Summary,
    /// How many each whole run lost, in the order of the runs.
    pub lost: Vec<u64>,
    /// Runs that were cut short: what they lost says nothing of what they would have.
    pub cut_short: usize,
    /// Runs in which nothing was served.
    pub unserved: usize,
    /// When the first and the last lost connection were opened, in nanoseconds from the signal of
    /// their own run: the earliest and the latest of all runs.
    pub loss_window: Option<(i64, i64)>,
}

/// How many were lost in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// In the run that lost least.
    pub least: u64,
    /// In the run in the middle; between two middle ones, half of both.
    pub median: f64,
    /// In the run that lost most.
    pub most: u64,
}

impl Pool {
    /// Adds a run that was signalled at `signal`, and was made to its end if it is `whole`.
    pub fn add(&mut self, run: &Summary, signal: Option<Stamp>, whole: bool) {
        self.summary.merge(run);
        if whole {
            self.lost.push(run.lost);
        } else {
            self.cut_short += 1;
        }
        // Where nothing was asked, nothing but that can be had.
        let good = run.count(Outcome::Served) + run.count(Outcome::ClientClosed);
        self.unserved += usize::from(good == 0);
        if let (Some((first, last)), Some(signal)) = (run.loss_window, signal) {
            let (first, last) = (first.since(signal), last.since(signal));
            let (earliest, latest) = self.loss_window.unwrap_or((first, last));
            self.loss_window = Some((earliest.min(first), latest.max(last)));
        }
    }

    /// How many runs there were.
    pub fn runs(&self) -> usize {
        self.lost.len() + self.cut_short
    }

    /// How much the losses of whole runs differ; nothing without one.
    pub fn spread(&self) -> Option<Spread> {
        let mut lost = self.lost.clone();
        lost.sort_unstable();
        let (&least, &most) = (lost.first()?, lost.last()?);
        let (below, above) = (lost[(lost.len() - 1) / 2], lost[lost.len() / 2]);
        #[expect(clippy::cast_precision_loss, reason = "connections of a run")]
        let median = (below + above) as f64 / 2.0;
        Some(Spread {
            least,
            median,
            most,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET: &str = ">S <S. >. >P.(83) <. <R.";
    const SERVED: &str = ">S <S. >. >P.(83) <. <P.(89) >. <F. >F. <.";
    const ANOTHER: &str = ">S <S. >. >P.(83) <P.(89) >. <F. >F. <.";

    /// A run in which connections were served in so many sequences, and others reset that were opened
    /// at `lost_at`.
    fn run(served: &[&str], lost_at: &[i64]) -> Summary {
        let mut run = Summary::default();
        for sequence in served {
            add(&mut run, Outcome::Served, sequence, 0);
        }
        for _ in lost_at {
            add(&mut run, Outcome::ResetEmpty, RESET, 56);
        }
        run.lost = lost_at.len() as u64;
        let opened = || lost_at.iter().map(|&at| Stamp(at));
        run.loss_window = opened().min().zip(opened().max());
        run
    }

    fn add(run: &mut Summary, outcome: Outcome, sequence: &str, curl: u8) {
        run.connections += 1;
        run.taken += 1;
        let counted = run.outcomes.entry(outcome).or_default();
        counted.count += 1;
        *counted.curl.entry(curl).or_default() += 1;
        counted.add_sequence(&sequence.parse().unwrap(), 1);
    }

    fn pool(runs: &[(Summary, Option<Stamp>)]) -> Pool {
        let mut pool = Pool::default();
        for (run, signal) in runs {
            pool.add(run, *signal, true);
        }
        pool
    }

    fn losing(lost: &[u64]) -> Pool {
        Pool {
            lost: lost.to_vec(),
            ..Pool::default()
        }
    }

    #[test]
    fn a_pool_of_one_run_says_what_the_run_says() {
        let one = run(&[SERVED, SERVED, ANOTHER], &[40, 10, 70]);
        let pool = pool(&[(one.clone(), Some(Stamp(50)))]);
        assert_eq!(pool.summary.connections, one.connections);
        assert_eq!(pool.summary.taken, one.taken);
        assert_eq!(pool.summary.lost, one.lost);
        assert_eq!(pool.summary.loss_window, one.loss_window);
        assert_eq!(pool.loss_window, Some((-40, 20)));
        for (outcome, counted) in &one.outcomes {
            let pooled = &pool.summary.outcomes[outcome];
            assert_eq!(pooled.count, counted.count);
            assert_eq!(pooled.curl, counted.curl);
            assert_eq!(pooled.commonest_sequence(), counted.commonest_sequence());
        }
    }

    #[test]
    fn outcomes_codes_and_sequences_are_added_up() {
        let first = run(&[SERVED, ANOTHER, ANOTHER], &[1]);
        let second = run(&[SERVED, SERVED, SERVED], &[2, 3]);
        let pool = pool(&[(first, None), (second, None)]);
        let served = &pool.summary.outcomes[&Outcome::Served];
        assert_eq!(served.count, 6);
        assert_eq!(served.curl[&0], 6);
        // Not the commonest of the first run.
        assert_eq!(served.commonest_sequence(), Some((SERVED.to_owned(), 4)));
        assert_eq!(served.distinct_sequences(), 2);
        assert_eq!(pool.summary.outcomes[&Outcome::ResetEmpty].curl[&56], 3);
        assert_eq!((pool.runs(), pool.summary.connections), (2, 9));
        assert_eq!((pool.summary.lost, pool.lost), (3, vec![1, 2]));
    }

    #[test]
    fn loss_windows_count_from_each_runs_own_signal() {
        let early = (run(&[], &[1_000, 1_500]), Some(Stamp(1_200)));
        let late = (run(&[], &[9_000, 9_050]), Some(Stamp(8_900)));
        assert_eq!(pool(&[early, late]).loss_window, Some((-200, 300)));
    }

    #[test]
    fn runs_without_a_loss_or_a_signal_leave_the_loss_window_alone() {
        let lossless = (run(&[SERVED], &[]), Some(Stamp(5)));
        let unsignalled = (run(&[], &[700]), None);
        let pooled = pool(&[lossless.clone(), unsignalled.clone()]);
        assert_eq!(pooled.loss_window, None);
        let signalled = (run(&[], &[30, 60]), Some(Stamp(20)));
        let pooled = pool(&[lossless, signalled, unsignalled]);
        assert_eq!(pooled.loss_window, Some((10, 40)));
    }

    #[test]
    fn a_run_in_which_nothing_was_served_is_counted() {
        let pooled = pool(&[(run(&[SERVED], &[]), None), (run(&[], &[1]), None)]);
        assert_eq!(pooled.unserved, 1);
    }

    #[test]
    fn a_run_that_was_cut_short_counts_and_has_no_part_in_the_spread() {
        let mut pooled = pool(&[(run(&[SERVED], &[1, 2]), None)]);
        pooled.add(&run(&[SERVED], &[]), None, false);
        assert_eq!((pooled.runs(), pooled.summary.connections), (2, 4));
        assert_eq!(pooled.spread().map(|spread| spread.least), Some(2));
    }

    #[test]
    fn the_spread_is_that_of_the_runs() {
        let spread = |lost: &[u64]| {
            let spread = losing(lost).spread()?;
            Some((spread.least, spread.median, spread.most))
        };
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[4]), Some((4, 4.0, 4)));
        assert_eq!(spread(&[20, 12, 17]), Some((12, 17.0, 20)));
        assert_eq!(spread(&[20, 0, 17, 12]), Some((0, 14.5, 20)));
    }
}
