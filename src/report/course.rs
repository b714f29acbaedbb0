//! The time line: what the server did around its signal, and how long its queue was at each moment.

use serde::Serialize;

use super::words::{plural, signed_millis};
use crate::time::Stamp;

/// A moment in a run's course.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Moment {
    /// When.
    #[serde(rename = "at_unix_ns", serialize_with = "nanoseconds")]
    pub(crate) at: Stamp,
    /// What: `signal_sent`, `signal_delivered`, `last_accept`, `listener_closed`, `listening`,
    /// `queue_reset`, `refused`, `exiting` (its files are closed after that), `exit`, `kill`.
    pub(crate) event: &'static str,
    /// Which of the server's processes.
    pub(crate) pid: Option<i32>,
    /// The signal; how many a process had accepted.
    pub(crate) detail: Option<String>,
    /// How many connections were in the accept queue when last looked at; none where nobody looked or
    /// listened.
    pub(crate) queued: Option<u32>,
}

/// What the server did, in the order in which it happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CourseReport {
    /// The signal's moment: the instant before it was sent.
    #[serde(skip)]
    pub(crate) signal: Option<Stamp>,
    /// What happened.
    pub(crate) moments: Vec<Moment>,
    /// Connections that the kernel took, where tracepoints counted them: other clients' included.
    pub(crate) taken: Option<u64>,
    /// Those of them that it took after the last accept().
    pub(crate) taken_after_last_accept: Option<u64>,
    /// The longest that the accept queue was.
    pub(crate) longest_queue: Option<u32>,
    /// How many connections the accept queue holds: one more than its limit.
    pub(crate) queue_capacity: Option<u64>,
}

fn nanoseconds<S: serde::Serializer>(at: &Stamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(at.0)
}

/// Lines of a table; neighbours that say the same of several processes share one.
const MOST_LINES: usize = 30;

impl CourseReport {
    /// Lines for the table; nothing where there was no signal, or nobody saw what it led to.
    pub(super) fn lines(&self) -> Vec<String> {
        let Some(signal) = self.signal.filter(|_| self.says_something()) else {
            return Vec::new();
        };
        let mut lines = vec!["around the signal, and the queue as last found:".to_owned()];
        let width = |n: usize| MOST_LINES.min(n);
        for moment in &self.moments[..width(self.moments.len())] {
            let since = signed_millis(moment.at.since(signal));
            let queued = match moment.queued {
                Some(queued) => format!(" ({queued} queued)"),
                None => String::new(),
            };
            lines.push(format!("{since:>12}  {}{queued}", moment.sentence()));
        }
        if let Some(more) = self.moments.len().checked_sub(MOST_LINES + 1) {
            let more = more as u64 + 1;
            let moments = plural(more, "moment");
            lines.push(format!("{more} more {moments}: see run.json in --out"));
        }
        if let Some(after) = self.taken_after_last_accept {
            let them = plural(after, "connection");
            lines.push(format!(
                "after the last accept() the server's kernel took {after} more {them}"
            ));
        }
        if let (Some(longest), Some(capacity)) = (self.longest_queue, self.queue_capacity) {
            lines.push(format!(
                "the accept queue was found to hold up to {longest}, and has room for {capacity}"
            ));
        }
        lines
    }

    /// Whether anything is known besides what the probe did itself.
    fn says_something(&self) -> bool {
        let seen = self.taken.is_some() || self.longest_queue.is_some();
        seen && !self.moments.is_empty()
    }
}

impl Moment {
    fn sentence(&self) -> String {
        let who = self
            .pid
            .map_or_else(|| "a process".to_owned(), |pid| pid.to_string());
        let detail = self.detail.as_deref().unwrap_or_default();
        match self.event {
            "signal_sent" => format!("{detail} sent to {who}"),
            "signal_delivered" => format!("{detail} delivered to {who}"),
            "last_accept" => format!("{who} accepted its last connection, {detail} in all"),
            "listener_closed" => match self.pid {
                Some(_) => format!("{who} closed the listener, the last copy of it"),
                None => "nobody listens any more".to_owned(),
            },
            "listening" => format!("{who} began to listen"),
            "queue_reset" => "the first connection was reset in the queue".to_owned(),
            "refused" => "the first connection was refused".to_owned(),
            "exiting" => format!("{who} began to exit"),
            "exit" => format!("{who} ended"),
            "kill" => format!("{who} and its group were killed"),
            other => format!("{other} {who} {detail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(at: i64, event: &'static str, pid: i32, detail: &str) -> Moment {
        Moment {
            at: Stamp(at * 100_000),
            event,
            pid: Some(pid),
            detail: Some(detail.to_owned()),
            queued: Some(3),
        }
    }

    fn course() -> CourseReport {
        CourseReport {
            signal: Some(Stamp(1_000_000)),
            moments: vec![
                moment(10, "signal_sent", 70, "SIGTERM"),
                moment(11, "signal_delivered", 70, "SIGTERM"),
                Moment {
                    queued: None,
                    ..moment(214, "last_accept", 71, "12")
                },
                moment(215, "listener_closed", 71, ""),
            ],
            taken: Some(20),
            taken_after_last_accept: Some(1),
            longest_queue: Some(5),
            queue_capacity: Some(129),
        }
    }

    #[test]
    fn moments_count_from_the_signal() {
        assert_eq!(
            course().lines(),
            [
                "around the signal, and the queue as last found:",
                "     +0.0 ms  SIGTERM sent to 70 (3 queued)",
                "     +0.1 ms  SIGTERM delivered to 70 (3 queued)",
                "    +20.4 ms  71 accepted its last connection, 12 in all",
                "    +20.5 ms  71 closed the listener, the last copy of it (3 queued)",
                "after the last accept() the server's kernel took 1 more connection",
                "the accept queue was found to hold up to 5, and has room for 129",
            ]
        );
    }

    #[test]
    fn without_a_signal_or_a_vantage_there_is_no_time_line() {
        let quiet = CourseReport {
            signal: None,
            ..course()
        };
        assert_eq!(quiet.lines(), Vec::<String>::new());
        let blind = CourseReport {
            taken: None,
            longest_queue: None,
            ..course()
        };
        assert_eq!(blind.lines(), Vec::<String>::new());
    }
}
