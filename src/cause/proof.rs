//! What the server's kernel proves of a connection, out of what it showed. Each is a yes, a no, or
//! nothing: what was not seen to happen did not happen only where it would have been seen.

use crate::flow::RstKind;
use crate::kernel::{DiagSide, ResetBy, TraceSide};
use crate::time::Stamp;

/// What is proven, as of the connection's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Whether a socket listened when the last SYN was answered, or given up.
    pub listened: Option<bool>,
    /// Whether the accept queue was full and overflowed between SYN and end.
    pub overflowed: Option<bool>,
    /// Whether a socket still listened at the end.
    pub listens: Option<bool>,
    /// Whether it had a socket of its own at the server at any time.
    pub had_socket: bool,
    /// Whether its handshake was not done at the server: SYN-RECV.
    pub half_open: bool,
    /// Whether a process had taken it.
    pub accepted: Option<bool>,
    /// Whether a process had read from it.
    pub read: Option<bool>,
    /// Whether a process read from it at any time, after its client had gone too.
    pub ever_read: bool,
    /// Whether the RST was sent by the server's own kernel, and nobody can read from it any more.
    pub reset: bool,
}

/// What the client's side knows of a connection that bears on what the server's shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What decided the outcome.
    pub end: Stamp,
    /// A server's RST ended it.
    pub ended_by_rst: bool,
    /// Of what kind that was, where packets were seen.
    pub rst_kind: Option<RstKind>,
    /// A server's FIN ended it.
    pub ended_by_fin: bool,
    /// Bytes of the request that left the client, as far as it knows.
    pub sent: u64,
    /// When the server's kernel had acknowledged all of them.
    pub acked: Option<Stamp>,
}

impl Proof {
    /// What both vantages prove together.
    pub fn of(trace: Option<&TraceSide>, diag: Option<&DiagSide>, known: &Known) -> Proof {
        // After the server's RST nobody does anything with it; what is stamped later was before.
        let over = known.ended_by_rst;
        let by_end = |at: Stamp| over || at <= known.end;
        let read_at = trace.and_then(|trace| trace.read).map(|read| read.at);
        let emptied = diag.is_some_and(|diag| was_read(diag, known));
        let emptied_by_end =
            emptied && diag.is_some_and(|d| d.unread.is_some_and(|u| by_end(u.answered)));
        let read = read_at.is_some_and(by_end) || emptied_by_end;
        let accepted = read
            || known.ended_by_fin
            || trace.is_some_and(|trace| shows_owner(trace, by_end))
            || diag.is_some_and(|diag| diag.owned.is_some_and(|owned| by_end(owned.at)));
        let waiting = trace.is_some_and(|trace| shows_queue(trace, known.end))
            || diag.is_some_and(|diag| waited(diag, known));
        let accepted = match (accepted, waiting) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let unread = accepted == Some(false)
            || known.sent == 0
            || trace.is_some_and(|trace| trace.whole && !read_at.is_some_and(by_end));
        Proof {
            listened: listened(trace, diag),
            listens: diag.and_then(|diag| diag.listening_at_end),
            overflowed: diag.and_then(overflowed),
            had_socket: trace.is_some_and(|trace| trace.established.is_some())
                || diag.is_some_and(|diag| diag.queued.is_some() || diag.owned.is_some()),
            half_open: diag.is_some_and(|diag| diag.half_open.is_some() && diag.queued.is_none()),
            accepted,
            read: match (read, unread) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            },
            ever_read: read_at.is_some() || emptied,
            reset: known.ended_by_rst && reset_by_server(trace, diag, known),
        }
    }
}

/// Whether tracepoints show that a process had taken it by the end.
fn shows_owner(trace: &TraceSide, by_end: impl Fn(Stamp) -> bool) -> bool {
    let acts = [trace.accepted, trace.closed].into_iter().flatten();
    let reset = trace.reset.iter();
    let aborted = reset.filter(|reset| reset.by == ResetBy::Process);
    acts.map(|act| act.at)
        .chain(aborted.map(|reset| reset.at))
        .any(by_end)
}

/// Whether tracepoints show that no process had taken it by `end`.
fn shows_queue(trace: &TraceSide, end: Stamp) -> bool {
    if !trace.whole {
        return false;
    }
    // Whenever that was, it had been there until then.
    let reset_in_queue = trace.reset.as_ref().is_some_and(|reset| match reset.by {
        ResetBy::Listener => true,
        // It never had a socket of its own, or lost it before its handshake was done: its listener
        // was gone (inet_csk_reqsk_queue_add), or waited for data (TCP_DEFER_ACCEPT).
        ResetBy::Kernel => trace.established.is_none(),
        ResetBy::Process => false,
    });
    let taken_later = trace.accepted.is_some_and(|accepted| accepted.at > end);
    reset_in_queue || taken_later
}

/// Whether sock_diag shows that no process had taken it by its end.
fn waited(diag: &DiagSide, known: &Known) -> bool {
    let still = |asked: Option<Stamp>| asked.is_some_and(|asked| asked >= known.end);
    if still(diag.queued) || (still(diag.half_open) && diag.queued.is_none()) {
        return true;
    }
    if diag.owned.is_some() || diag.outlived != Some(false) {
        return false;
    }
    match known.rst_kind.filter(|_| known.ended_by_rst) {
        // A process that had taken it since would have moved one of the counters with that RST.
        Some(RstKind::Active) => waited_in_queue(diag),
        // The answer to a segment for which there was no socket any more. A process that had taken it
        // since would have closed it first, with a FIN or a RST of its own.
        Some(RstKind::Passive) => diag.half_open.is_some() && diag.queued.is_none(),
        // Without packets: what has a socket is reset by that, not in reply.
        None => known.ended_by_rst && waited_in_queue(diag),
    }
}

/// Whether its last answer found it in the accept queue, its listener went with it, and no process can
/// have reset it since.
fn waited_in_queue(diag: &DiagSide) -> bool {
    diag.queued.is_some() && diag.listener_closed == Some(true) && diag.aborts == Some(false)
}

/// Whether the RST was the server's own, with which its kernel throws away what there was to read. A
/// RST that somebody else forged to both sides leaves the request in place for whoever accepts next.
fn reset_by_server(trace: Option<&TraceSide>, diag: Option<&DiagSide>, known: &Known) -> bool {
    match trace {
        Some(trace) => trace.reset.as_ref().is_some_and(|reset| match reset.by {
            ResetBy::Listener | ResetBy::Process => true,
            // What has a socket may still be accepted.
            ResetBy::Kernel => trace.established.is_none(),
        }),
        None => known.rst_kind.is_some() && diag.is_some_and(|d| d.outlived == Some(false)),
    }
}

/// Whether a socket listened; nothing where the vantages contradict each other (a RST in another name
/// space, a listener that is bound elsewhere).
fn listened(trace: Option<&TraceSide>, diag: Option<&DiagSide>) -> Option<bool> {
    let reset = trace.and_then(|trace| trace.reset.as_ref());
    let no_socket = reset.is_some_and(|reset| reset.reason.as_deref() == Some("NO_SOCKET"));
    // A SYN that is sent again is answered by whoever listens then.
    match (no_socket, diag.and_then(|diag| diag.listening_at_end)) {
        (true, Some(true)) => None,
        (true, Some(false) | None) => Some(false),
        (false, listening) => listening,
    }
}

/// Whether the listener's queue overflowed: the counter is that of a whole name space, and the queue
/// must have been found full as well.
fn overflowed(diag: &DiagSide) -> Option<bool> {
    match (diag.overflowed?, diag.full) {
        (false, _) => Some(false),
        (true, Some(true)) => Some(true),
        (true, Some(false) | None) => None,
    }
}

/// Whether sock_diag shows that a process had read: less waits than was sent and acknowledged.
fn was_read(diag: &DiagSide, known: &Known) -> bool {
    diag.unread
        .zip(known.acked)
        .is_some_and(|(unread, acked)| unread.asked > acked && u64::from(unread.bytes) < known.sent)
}

#[cfg(test)]
mod tests;
