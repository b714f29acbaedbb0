//! What a tracepoint saw, and what such events add up to.

mod accepts;
mod closing;
mod course;
mod listeners;
mod table;

use std::fmt;

use super::TcpState;
use crate::time::Stamp;
use crate::wire::Ends;

pub use course::{Accepted, Course};
pub use table::{Able, TraceTable};

/// The name of a thread as the kernel holds it (TASK_COMM_LEN).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Comm([u8; 16]);

impl Comm {
    /// The name in these bytes, up to the first 0; what is longer than the kernel's names is cut.
    pub fn new(name: &[u8]) -> Comm {
        let mut comm = [0; 16];
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        let len = end.min(comm.len());
        comm[..len].copy_from_slice(&name[..len]);
        Comm(comm)
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split(|&b| b == 0).next().unwrap_or_default();
        f.write_str(&String::from_utf8_lossy(name))
    }
}

/// The thread in whose context a tracepoint fired. In softirq context that is whoever happened to
/// run: it says nothing about who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The thread's id.
    pub tid: i32,
    /// Its process's id, where that could be found out.
    pub pid: Option<i32>,
    /// Its name, where that could be found out.
    pub comm: Option<Comm>,
    /// Whether the kernel was handling a softirq, and the thread had no part in it.
    pub softirq: bool,
    /// Whether the thread held softirqs off (TRACE_FLAG_BH_OFF; kernels without it never say so). What
    /// resets a listener's queue does (inet_csk_listen_stop), and so does SOCK_DESTROY, in the name of
    /// whoever asked for it (tcp_abort). A process's own close() of a connection sends its RST before it
    /// does (__tcp_close) and lets go of the socket after, but for what it gives up on in between: with
    /// TCP_LINGER2 below 0, or for want of memory.
    pub bh_off: bool,
}

/// An event of a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The kernel's stamp (CLOCK_MONOTONIC), on the run clock.
    pub at: Stamp,
    /// In whose context.
    pub task: Task,
    /// What.
    pub what: TracedWhat,
}

/// What happened. Ends are the server's view: its own port is `ends.server`'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracedWhat {
    /// A socket's state changed (sock:inet_sock_set_state). A listener's client end has port 0.
    State {
        /// Whose.
        ends: Ends,
        /// The kernel's name for the socket, unique while it lives.
        socket: u64,
        /// Its state before, where this program knows its number.
        from: Option<TcpState>,
        /// Its state now.
        to: Option<TcpState>,
    },
    /// A process read data, or peeked at it (tcp:tcp_rcv_space_adjust).
    Read {
        /// From whom.
        ends: Ends,
        /// The kernel's name for the socket.
        socket: u64,
    },
    /// A RST was sent (tcp:tcp_send_reset).
    ResetSent {
        /// Between whom; of an overflowing listener the client is unspecified.
        ends: Ends,
        /// The socket that sent it; none where the kernel had none.
        socket: Option<u64>,
        /// Its state after the RST, where it had a socket.
        state: Option<TcpState>,
        /// Why, in this kernel's words; none where it does not say.
        reason: Option<Box<str>>,
    },
    /// A RST was received (tcp:tcp_receive_reset).
    ResetReceived {
        /// Between whom.
        ends: Ends,
        /// The kernel's name for the socket.
        socket: u64,
    },
    /// A segment was sent again (tcp:tcp_retransmit_skb, and tcp:tcp_retransmit_synack).
    Retransmitted {
        /// Between whom.
        ends: Ends,
    },
    /// The kernel lets go of a socket (tcp:tcp_destroy_sock). A listener's queue has been reset by
    /// then.
    Destroyed {
        /// The kernel's name for the socket.
        socket: u64,
    },
    /// A process took a connection (syscalls:sys_exit_accept, sys_exit_accept4).
    Accepted {
        /// The inode of the listener it was taken from, where that could be found out.
        listener: Option<u64>,
        /// Its file descriptor.
        fd: i32,
        /// When the call was entered, where that was seen; of one that waited already when the
        /// vantage was opened, when that was seen.
        entered: Option<Stamp>,
    },
    /// shutdown() returned (syscalls:sys_exit_shutdown).
    ShutDown,
    /// A process of the server's got a signal (signal:signal_deliver).
    Signalled {
        /// Its name, as in `SIGTERM`.
        signal: Box<str>,
    },
    /// A process of the server's ended: its last thread (sched:sched_process_exit).
    Exited,
}

/// A span of time in which events were lost, for want of room in the kernel's buffer, or told so late
/// that what came after may have been judged without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The last event before, or the one that was late.
    pub from: Stamp,
    /// The first event after, or the stamp before which nothing was to follow.
    pub to: Stamp,
}
