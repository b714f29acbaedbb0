//! What the server's kernel showed of a connection, in the account of its socket.

use std::fmt;

use super::{Pairs, pair};
use crate::kernel::{Act, DiagSide, Reset, ResetBy, Sides, TraceSide, Unread};
use crate::time::Stamp;

/// Adds what was shown; times are nanoseconds from `last`.
pub(super) fn write(text: &mut String, sides: &Sides, last: Stamp) -> fmt::Result {
    if let Some(trace) = &sides.trace {
        write_trace(text, trace, last)?;
    }
    if let Some(diag) = &sides.diag {
        write_diag(text, diag, last)?;
    }
    Ok(())
}

fn write_trace(text: &mut String, trace: &TraceSide, last: Stamp) -> fmt::Result {
    let TraceSide {
        whole,
        established,
        accepted,
        read,
        closed,
        reset,
    } = trace;
    pair(text, "trace", Some(if *whole { "whole" } else { "part" }))?;
    pair(
        text,
        "trace.established",
        established.map(|at| at.since(last)),
    )?;
    act(text, "trace.accepted", *accepted, last)?;
    act(text, "trace.read", *read, last)?;
    act(text, "trace.closed", *closed, last)?;
    if let Some(Reset {
        at,
        by,
        pid,
        reason,
    }) = reset
    {
        act(text, "trace.reset", Some(Act { at: *at, pid: *pid }), last)?;
        pair(text, "trace.reset_by", Some(by_word(*by)))?;
        pair(text, "trace.reset_reason", reason.as_deref())?;
    }
    Ok(())
}

fn write_diag(text: &mut String, diag: &DiagSide, last: Stamp) -> fmt::Result {
    let since = |at: Option<Stamp>| at.map(|at| at.since(last));
    let DiagSide {
        listening,
        listening_at_end,
        listener_closed,
        overflowed,
        full,
        half_open,
        queued,
        owned,
        unread,
        aborts,
        outlived,
    } = diag;
    pair(text, "diag", Some("asked"))?;
    pair(text, "diag.listening", *listening)?;
    pair(text, "diag.listening_at_end", *listening_at_end)?;
    pair(text, "diag.listener_closed", *listener_closed)?;
    pair(text, "diag.overflowed", *overflowed)?;
    pair(text, "diag.full", *full)?;
    pair(text, "diag.half_open", since(*half_open))?;
    pair(text, "diag.queued", since(*queued))?;
    act(text, "diag.owned", *owned, last)?;
    if let Some(unread) = unread {
        pair(text, "diag.unread", Some(unread.bytes))?;
        pair(text, "diag.unread_asked", since(Some(unread.asked)))?;
        pair(text, "diag.unread_answered", since(Some(unread.answered)))?;
    }
    pair(text, "diag.aborts", *aborts)?;
    pair(text, "diag.outlived", *outlived)
}

fn act(text: &mut String, key: &str, act: Option<Act>, last: Stamp) -> fmt::Result {
    let Some(act) = act else {
        return Ok(());
    };
    pair(text, key, Some(act.at.since(last)))?;
    pair(text, &format!("{key}_pid"), act.pid)
}

/// Reads what [`write()`] wrote. What is not there was not shown.
pub(super) fn read(pairs: &Pairs<'_>, last: Stamp) -> Sides {
    let at = |key: &str| {
        let since: Option<i64> = pairs.number(key);
        since.map(|ns| Stamp(last.0.saturating_add(ns)))
    };
    let act = |key: &str| {
        Some(Act {
            at: at(key)?,
            pid: pairs.number(&format!("{key}_pid")),
        })
    };
    let reset = || {
        let Act { at, pid } = act("trace.reset")?;
        Some(Reset {
            at,
            pid,
            by: to_by(pairs.word("trace.reset_by")?)?,
            reason: pairs.word("trace.reset_reason").map(Box::from),
        })
    };
    let unread = || {
        Some(Unread {
            asked: at("diag.unread_asked")?,
            answered: at("diag.unread_answered")?,
            bytes: pairs.number("diag.unread")?,
        })
    };
    Sides {
        trace: pairs.word("trace").map(|word| TraceSide {
            whole: word == "whole",
            established: at("trace.established"),
            accepted: act("trace.accepted"),
            read: act("trace.read"),
            closed: act("trace.closed"),
            reset: reset(),
        }),
        diag: pairs.word("diag").map(|_| DiagSide {
            listening: pairs.number("diag.listening"),
            listening_at_end: pairs.number("diag.listening_at_end"),
            listener_closed: pairs.number("diag.listener_closed"),
            overflowed: pairs.number("diag.overflowed"),
            full: pairs.number("diag.full"),
            half_open: at("diag.half_open"),
            queued: at("diag.queued"),
            owned: act("diag.owned"),
            unread: unread(),
            aborts: pairs.number("diag.aborts"),
            outlived: pairs.number("diag.outlived"),
        }),
    }
}

fn by_word(by: ResetBy) -> &'static str {
    match by {
        ResetBy::Listener => "listener",
        ResetBy::Process => "process",
        ResetBy::Kernel => "kernel",
    }
}

fn to_by(word: &str) -> Option<ResetBy> {
    [ResetBy::Listener, ResetBy::Process, ResetBy::Kernel]
        .into_iter()
        .find(|&by| by_word(by) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Stamp = Stamp(1_763_861_791_000_000_000);

    fn assert_kept(sides: &Sides) {
        let mut text = String::new();
        write(&mut text, sides, LAST).unwrap();
        assert_eq!(&read(&Pairs::of(&text), LAST), sides, "{text}");
    }

    fn act(at: i64, pid: Option<i32>) -> Option<Act> {
        let at = Stamp(LAST.0 + at);
        Some(Act { at, pid })
    }

    #[test]
    fn sides_are_read_as_they_were_written() {
        assert_kept(&Sides::default());
        let bare = Sides {
            trace: Some(TraceSide::default()),
            diag: Some(DiagSide::default()),
        };
        assert_kept(&bare);
        for by in [ResetBy::Listener, ResetBy::Process, ResetBy::Kernel] {
            let trace = TraceSide {
                whole: true,
                established: Some(LAST),
                accepted: act(-5, Some(1)),
                read: act(-4, None),
                closed: act(3, Some(3)),
                reset: Some(Reset {
                    at: Stamp(LAST.0 + 9),
                    by,
                    pid: Some(4),
                    reason: Some("TCP_STATE".into()),
                }),
            };
            assert_kept(&Sides {
                trace: Some(trace),
                diag: None,
            });
        }
        let diag = DiagSide {
            listening: Some(true),
            listening_at_end: Some(false),
            listener_closed: Some(true),
            overflowed: Some(false),
            full: Some(true),
            half_open: Some(Stamp(LAST.0 - 1)),
            queued: Some(Stamp(LAST.0 + 1)),
            owned: act(7, Some(70)),
            unread: Some(Unread {
                asked: Stamp(LAST.0 + 2),
                answered: Stamp(LAST.0 + 3),
                bytes: 83,
            }),
            aborts: Some(true),
            outlived: Some(false),
        };
        assert_kept(&Sides {
            trace: None,
            diag: Some(diag),
        });
    }
}
