//! The server's part in each outcome, in words: what it did to how many, and which of its processes.

use crate::cause::Cause;
use crate::kernel::ResetBy;
use crate::outcome::Outcome;
use crate::summary::{Part, Share, Summary};

/// Processes named for one part.
const NAMED: usize = 4;

/// A line for each part that the server played, under the outcome it led to: the commonest first.
pub(super) fn lines(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in Outcome::ALL {
        let Some(counted) = summary.outcomes.get(&outcome) else {
            continue;
        };
        for (part, share) in counted.parts.ranked() {
            lines.push(format!(
                "{}: {}",
                outcome.word(),
                sentence(outcome, part, share)
            ));
        }
    }
    lines
}

/// As in `never accepted x6: queue reset when 4245 closed the listener`.
fn sentence(outcome: Outcome, part: &Part, share: &Share) -> String {
    let what = match part.cause {
        Cause::Unknown => match part.candidates.as_slice() {
            [] => "unknown, and nothing that is known fits".to_owned(),
            fits => {
                let fits: Vec<&str> = fits.iter().map(|&cause| words(cause)).collect();
                format!("unknown, fits {}", fits.join(" / "))
            }
        },
        cause => words(cause).to_owned(),
    };
    let how = how(outcome, part, &who(share));
    let how = how.map_or_else(String::new, |how| format!(": {how}"));
    format!("{what} x{}{how}", share.count)
}

/// What the server did in that, by whom.
fn how(outcome: Outcome, part: &Part, who: &str) -> Option<String> {
    let reason = part.reset_reason.as_deref().unwrap_or("no reason given");
    let was_reset = matches!(
        outcome,
        Outcome::ResetOnConnect | Outcome::ResetEmpty | Outcome::ResetMidway
    );
    match part.reset_by.filter(|_| was_reset) {
        Some(ResetBy::Listener) => {
            return Some(format!("queue reset when {who} closed the listener"));
        }
        Some(ResetBy::Process) => return Some(format!("reset when {who} closed it ({reason})")),
        Some(ResetBy::Kernel) => return Some(format!("reset by the kernel ({reason})")),
        None => {}
    }
    match (part.cause, outcome) {
        (Cause::NeverAccepted, Outcome::Hung) => Some("in the queue to the end".to_owned()),
        (Cause::NeverAccepted, _) => Some("in the queue when last seen".to_owned()),
        (Cause::AcceptedUnread, Outcome::ClosedEmpty) => Some(format!("closed by {who}")),
        (Cause::AcceptedUnread, _) => Some(format!("held by {who}")),
        (Cause::ReadUnanswered, _) => Some(format!("read by {who}")),
        (Cause::AnsweredPartly, _) if who != SOMEBODY => Some(format!("by {who}")),
        (
            Cause::NotListening
            | Cause::QueueFull
            | Cause::HandshakeLimbo
            | Cause::AnsweredPartly
            | Cause::Unknown,
            _,
        ) => None,
    }
}

const SOMEBODY: &str = "a process";

fn who(share: &Share) -> String {
    let pids: Vec<String> = share.pids.keys().take(NAMED).map(i32::to_string).collect();
    match share.pids.len() {
        0 => SOMEBODY.to_owned(),
        n if n > NAMED => format!("{} and {} others", pids.join(", "), n - NAMED),
        _ => pids.join(", "),
    }
}

/// A cause as people say it.
fn words(cause: Cause) -> &'static str {
    match cause {
        Cause::NotListening => "nobody listened",
        Cause::QueueFull => "queue full",
        Cause::HandshakeLimbo => "handshake not done at the server",
        Cause::NeverAccepted => "never accepted",
        Cause::AcceptedUnread => "accepted, unread",
        Cause::ReadUnanswered => "read, unanswered",
        Cause::AnsweredPartly => "half answered",
        Cause::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    fn record(outcome: Outcome, cause: Cause) -> Record {
        Record {
            cause: Some(cause),
            ..Record::new(1, "127.0.0.1:80".parse().unwrap(), outcome)
        }
    }

    fn said(records: &[Record]) -> Vec<String> {
        let mut summary = Summary::default();
        records.iter().for_each(|record| summary.add(record));
        lines(&summary)
    }

    #[test]
    fn a_part_says_what_was_done_to_how_many_and_by_whom() {
        let queued = Record {
            reset_by: Some(ResetBy::Listener),
            reset_reason: Some("TCP_STATE".into()),
            reset_pid: Some(4245),
            ..record(Outcome::ResetEmpty, Cause::NeverAccepted)
        };
        let unread = Record {
            reset_by: Some(ResetBy::Process),
            reset_reason: Some("TCP_ABORT_ON_CLOSE".into()),
            reset_pid: Some(4246),
            ..record(Outcome::ResetEmpty, Cause::AcceptedUnread)
        };
        let read = Record {
            server_pid: Some(4246),
            ..record(Outcome::ClosedEmpty, Cause::ReadUnanswered)
        };
        let hung = record(Outcome::Hung, Cause::NeverAccepted);
        assert_eq!(
            said(&[unread, queued.clone(), queued, read, hung]),
            [
                "closed_empty: read, unanswered x1: read by 4246",
                "reset_empty: never accepted x2: queue reset when 4245 closed the listener",
                "reset_empty: accepted, unread x1: reset when 4246 closed it (TCP_ABORT_ON_CLOSE)",
                "hung: never accepted x1: in the queue to the end",
            ]
        );
    }

    #[test]
    fn what_is_unknown_lists_what_fits() {
        let unknown = |candidates: &[Cause]| Record {
            candidates: candidates.to_vec(),
            ..record(Outcome::ResetEmpty, Cause::Unknown)
        };
        assert_eq!(
            said(&[
                unknown(&[Cause::NeverAccepted, Cause::AcceptedUnread]),
                unknown(&[])
            ]),
            [
                "reset_empty: unknown, and nothing that is known fits x1",
                "reset_empty: unknown, fits never accepted / accepted, unread x1",
            ]
        );
    }

    #[test]
    fn many_processes_are_counted() {
        let records: Vec<Record> = (1..=7)
            .map(|pid| Record {
                server_pid: Some(pid),
                ..record(Outcome::Truncated, Cause::AnsweredPartly)
            })
            .collect();
        assert_eq!(
            said(&records),
            ["truncated: half answered x7: by 1, 2, 3, 4 and 3 others"]
        );
    }
}
