//! What sock_diag answered, and what such answers add up to.

mod queue;
mod table;

use std::net::SocketAddr;

use super::TcpState;
use crate::time::Stamp;

pub use queue::{Length, Queue};
pub use table::DiagTable;

/// One round of questions, each answered before the next is asked, in this order: counters,
/// listeners, connections. So the counters are older than what the connections show: what moved them
/// since an earlier poll had happened before the connections were asked for, but what ended in between
/// moves them only in the next. That an end at a known time moved no counter is told by a poll asked
/// after it; the kernel counts some resets just after it sends them (linger 0, tcp_close()).
#[derive(Clone, Debug, Default)]
pub struct Poll {
    /// When the first was asked: everything answered is as of then or later.
    pub asked: Stamp,
    /// When the last was answered.
    pub answered: Stamp,
    /// The name space's counters, where they were asked for.
    pub counters: Option<Counters>,
    /// The sockets that listen on the target's port, where they were asked for.
    pub listeners: Option<Vec<Listening>>,
    /// The connections to the target's port, where they were asked for: whatever is not in here had
    /// no socket at that moment.
    pub connections: Option<Vec<Polled>>,
}

/// A LISTEN socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where it listens.
    pub local: SocketAddr,
    /// Its inode.
    pub inode: u64,
    /// It lets in only who comes by one interface (SO_BINDTODEVICE).
    pub bound: bool,
    /// Connections in its accept queue (Recv-Q).
    pub queued: u32,
    /// How many more than which it refuses (Send-Q): it holds one more than this.
    pub limit: u32,
}

/// A connection, or a handshake under way, at the server's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// The client's end.
    pub client: SocketAddr,
    /// The kernel's number for the socket, of no other before or after it. The socket of a handshake
    /// that is done keeps its request's (inet_csk_clone_lock()).
    pub cookie: u64,
    /// The state.
    pub state: TcpState,
    /// Who holds it.
    pub owner: Owner,
    /// Bytes received that nobody has read; a FIN that nobody has read counts as one.
    pub unread: u32,
}

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody (inode 0): it is in the accept queue or its handshake is not done. In TIME-WAIT and
    /// once orphaned it is nobody's again.
    Nobody,
    /// A file somewhere: a process accepted it.
    File {
        /// Its inode.
        inode: u64,
        /// The process that holds it, where that could be found out.
        pid: Option<i32>,
    },
}

/// Counters of the server's name space (/proc/PID/net/netstat, TcpExt); those that this kernel lacks
/// are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// ListenOverflows: the accept queue was full.
    pub listen_overflows: Option<u64>,
    /// ListenDrops: SYNs and last ACKs dropped for any reason, overflows included.
    pub listen_drops: Option<u64>,
    /// TCPAbortOnClose: closed with data unread.
    pub abort_on_close: Option<u64>,
    /// TCPAbortOnData: closed with linger 0, or data arrived after close.
    pub abort_on_data: Option<u64>,
    /// TCPReqQFullDrop: the SYN queue was full, and no cookies were sent.
    pub syn_queue_drops: Option<u64>,
}
