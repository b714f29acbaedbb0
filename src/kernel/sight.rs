//! One thing that the server's kernel showed, as events.csv lists it.

use super::Task;
use crate::time::Stamp;

/// A thing seen, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// When: the kernel's stamp, or the answer to the question.
    pub at: Stamp,
    /// From where: `trace` or `diag`.
    pub vantage: &'static str,
    /// What.
    pub event: &'static str,
    /// The process that did it, or holds it.
    pub pid: Option<i32>,
    /// More about it.
    pub detail: Option<String>,
}

impl Sight {
    /// Seen by a tracepoint. What the kernel did in a softirq has no process.
    pub(super) fn traced(
        at: Stamp,
        task: Task,
        event: &'static str,
        detail: Option<String>,
    ) -> Sight {
        let thread = (!task.softirq).then(|| {
            let comm = task.comm.map(|comm| format!(" comm={comm}"));
            format!("tid={}{}", task.tid, comm.unwrap_or_default())
        });
        let words: Vec<String> = detail.into_iter().chain(thread).collect();
        Sight {
            at,
            vantage: "trace",
            event,
            pid: task.pid.filter(|_| !task.softirq),
            detail: (!words.is_empty()).then(|| words.join(" ")),
        }
    }

    /// Seen by sock_diag.
    pub(super) fn polled(
        at: Stamp,
        event: &'static str,
        pid: Option<i32>,
        detail: Option<String>,
    ) -> Sight {
        Sight {
            at,
            vantage: "diag",
            event,
            pid,
            detail,
        }
    }
}
