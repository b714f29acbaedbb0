//! How sure a mean over several runs is.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// A mean, and where the mean of all runs that could be made lies with a confidence of 95 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Of the runs that were made.
    pub mean: f64,
    /// Not below 0, as what is counted cannot be.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Of one number a run; Student's t, as runs are few and differ by more than chance among their
    /// connections would. None for fewer than two runs. Runs that are all alike have an interval
    /// without width: it says that no run differed, not that none ever will.
    #[expect(clippy::cast_precision_loss, reason = "connections of a run")]
    pub fn of(counts: &[u64]) -> Option<Interval> {
        if counts.len() < 2 {
            return None;
        }
        let n = counts.len() as f64;
        let mean = counts.iter().map(|&count| count as f64).sum::<f64>() / n;
        let squares = counts.iter().map(|&count| (count as f64 - mean).powi(2));
        let error = (squares.sum::<f64>() / (n - 1.0) / n).sqrt();
        let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.975);
        Some(Interval {
            mean,
            low: (mean - t * error).max(0.0),
            high: mean + t * error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_as_wide_as_the_runs_differ() {
        assert_eq!(Interval::of(&[]), None);
        assert_eq!(Interval::of(&[7]), None);
        let alike = Interval::of(&[0, 0, 0]).unwrap();
        assert_eq!((alike.mean, alike.low, alike.high), (0.0, 0.0, 0.0));
        // t of 9 degrees of freedom is 2.262; the standard error 0.9574.
        let ten = Interval::of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 0.001;
        assert!(close(ten.mean, 5.5) && close(ten.low, 3.334) && close(ten.high, 7.666));
        let wide = Interval::of(&[0, 10]).unwrap();
        assert!(wide.low == 0.0 && wide.high > 60.0);
    }
}
