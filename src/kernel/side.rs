//! What the server's kernel showed of one connection.

use crate::time::Stamp;

/// All of it, by vantage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// What tracepoints saw; none where they saw nothing of it.
    pub trace: Option<TraceSide>,
    /// What sock_diag answered; none where it was not asked.
    pub diag: Option<DiagSide>,
}

/// What tracepoints saw of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceSide {
    /// Whether what was not seen did not happen: reads are seen by this kernel's tracepoints, and no
    /// event was lost while the connection lived.
    pub whole: bool,
    /// When its handshake was done at the server, which then had a socket for it.
    pub established: Option<Stamp>,
    /// When accept() had returned it, and to which process.
    pub accepted: Option<Act>,
    /// When a process first read from it, or peeked, and which.
    pub read: Option<Act>,
    /// When a process first closed it or shut it down, and which: it had been accepted.
    pub closed: Option<Act>,
    /// The first RST that the server sent.
    pub reset: Option<Reset>,
}

/// Something that a process did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// When.
    pub at: Stamp,
    /// Which process, where that is known.
    pub pid: Option<i32>,
}

/// A RST that the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// When.
    pub at: Stamp,
    /// How it came about.
    pub by: ResetBy,
    /// The process that closed the connection, or the listener it waited at; none where the kernel
    /// sent it by itself.
    pub pid: Option<i32>,
    /// Why, in the kernel's words.
    pub reason: Option<Box<str>>,
}

/// How a server's RST came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResetBy {
    /// A process closed the last copy of the listener, and the kernel reset its queue.
    Listener,
    /// A process closed the connection.
    Process,
    /// The kernel sent it by itself: in reply to a segment, by a timer.
    Kernel,
}

/// What sock_diag answered about a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiagSide {
    /// Whether a socket listened when the connection was opened; none where those that did let in
    /// only who comes by one interface.
    pub listening: Option<bool>,
    /// Whether one listened when it ended, likewise.
    pub listening_at_end: Option<bool>,
    /// Whether a listener (by inode) that was there when the connection was last found in the accept
    /// queue is missing from the first answer to a question after its end. What was opened and closed
    /// again between two questions goes unseen.
    pub listener_closed: Option<bool>,
    /// Whether the listener's queue overflowed between its opening and its end (ListenOverflows).
    pub overflowed: Option<bool>,
    /// Whether any listener was found to hold more than its limit in an answer from the last before
    /// its opening to the first after its end. A full queue between two questions goes unseen.
    pub full: Option<bool>,
    /// The last question to which it was a handshake under way (SYN-RECV).
    pub half_open: Option<Stamp>,
    /// The last question to which it was in the accept queue.
    pub queued: Option<Stamp>,
    /// The first answer that showed a process to hold it.
    pub owned: Option<Act>,
    /// The last question to which a process held it open, and what that had not read by then.
    pub unread: Option<Unread>,
    /// Whether a process closed some connection with data unread, or with linger 0, between the last
    /// question to which this one was in the accept queue and its end (TCPAbortOnClose,
    /// TCPAbortOnData). Of all connections in that name space.
    pub aborts: Option<bool>,
    /// Whether the first question after its end still found it.
    pub outlived: Option<bool>,
}

/// Bytes that wait in a connection's receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// When that was asked for.
    pub asked: Stamp,
    /// When it was answered.
    pub answered: Stamp,
    /// How many.
    pub bytes: u32,
}

impl DiagSide {
    /// Whether any answer held the connection itself.
    pub fn found(&self) -> bool {
        self.half_open.is_some() || self.queued.is_some() || self.owned.is_some()
    }
}
