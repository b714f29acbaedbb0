//! The facts as the client's own socket tells them: errno in the order in which a caller consumes
//! it, end of file, bytes, TCP_INFO.

use std::net::SocketAddr;

use super::Facts;
use crate::time::Stamp;

/// One connection attempt as the socket that made it saw it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The connection's number, from 1.
    pub conn: u64,
    /// Whose TCP made it.
    pub maker: Maker,
    /// When its request was sent, relative to the trigger.
    pub cohort: Cohort,
    /// The source address; none where no socket got one.
    pub local: Option<SocketAddr>,
    /// The target.
    pub peer: SocketAddr,
    /// When the timetable had it; none where there is none.
    pub due: Option<Stamp>,
    /// Just before connect() was called (or before what failed locally).
    pub opened: Stamp,
    /// When the socket was first seen connected.
    pub connected: Option<Stamp>,
    /// Just before the first byte of the request was written.
    pub request: Option<Stamp>,
    /// Bytes of the request.
    pub request_len: u64,
    /// Bytes of it that write() took.
    pub written: u64,
    /// What came back.
    pub response: Response,
    /// What ended it.
    pub end: SocketEnd,
    /// When it ended.
    pub ended: Stamp,
    /// TCP_INFO just before the socket was closed.
    pub info: Option<TcpInfo>,
}

/// Whose TCP made a connection: the column `engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Maker {
    /// The kernel's: `socket`.
    Socket,
    /// Our own: `raw`.
    Raw,
}

impl Maker {
    /// The word for it in columns.
    pub fn word(self) -> &'static str {
        match self {
            Maker::Socket => "socket",
            Maker::Raw => "raw",
        }
    }
}

/// When a connection's request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cohort {
    /// At once.
    Steady,
    /// After the trigger.
    Idle,
}

impl Cohort {
    /// The word for it in columns.
    pub fn word(self) -> &'static str {
        match self {
            Cohort::Steady => "steady",
            Cohort::Idle => "idle",
        }
    }
}

/// The response as read from the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Bytes read, headers included.
    pub bytes: u64,
    /// The final status.
    pub status: Option<u16>,
    /// Complete responses, 0 or 1.
    pub responses: u32,
    /// When its first byte was read.
    pub first_byte: Option<Stamp>,
    /// When its header block was complete.
    pub head: Option<Stamp>,
    /// When it was complete.
    pub complete: Option<Stamp>,
    /// When it was found to be no HTTP.
    pub malformed: Option<Stamp>,
}

/// What ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEnd {
    /// read() returned 0: the server's FIN.
    Eof,
    /// A call failed.
    Failed(Failure),
    /// The deadline passed.
    Deadline,
    /// The response was complete or no HTTP, and nothing more was waited for.
    Enough,
    /// Nothing was ever to be asked, and the connection had been seen for as long as was wanted.
    Left,
    /// This host's own TCP reset a connection that our own TCP had.
    Disturbed,
    /// The run was interrupted.
    Interrupted,
}

/// A failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub call: Call,
    /// How.
    pub errno: Errno,
}

/// The call that an error came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Making or binding the socket, before anything left the host.
    Socket,
    /// connect(), at once or by SO_ERROR.
    Connect,
    /// write().
    Write,
    /// read().
    Read,
}

/// What an errno says about the network, with its number for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errno {
    /// ECONNREFUSED.
    Refused,
    /// ECONNRESET.
    Reset,
    /// EPIPE: our writing side is shut, what the server did stands in what read() says.
    Pipe,
    /// ETIMEDOUT: the kernel gave up retransmitting.
    TimedOut,
    /// EHOSTUNREACH, ENETUNREACH, EACCES and what else an ICMP error becomes.
    Unreachable(i32),
    /// Anything else: the probe's own trouble.
    Other(i32),
}

/// What TCP_INFO said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes of the request that the server's kernel acknowledged; none on kernels without it.
    pub acked: Option<u64>,
    /// Segments retransmitted over the socket's life, SYNs included.
    pub total_retransmits: u32,
}

impl Attempt {
    /// How much later than by the timetable it was opened, in nanoseconds.
    pub fn late_ns(&self) -> Option<i64> {
        self.due.map(|due| self.opened.since(due).max(0))
    }

    /// Whether the server's host, or somebody in its name, answered at all.
    pub fn was_answered(&self) -> bool {
        self.connected.is_some() || matches!(self.errno(), Some(Errno::Refused | Errno::Reset))
    }

    /// Whether connect() itself failed, as curl would have seen it.
    pub fn failed_in_connect(&self) -> bool {
        matches!(
            self.end,
            SocketEnd::Failed(Failure {
                call: Call::Connect,
                ..
            })
        )
    }

    /// Whether the server's kernel acknowledged the whole request; none where none was written.
    pub fn request_acked(&self) -> Option<bool> {
        let acked = self.info?.acked?;
        (self.written > 0).then_some(acked >= self.request_len)
    }

    /// Whether the server's kernel acknowledged any byte of the request; none where none was written.
    pub fn request_taken(&self) -> Option<bool> {
        let acked = self.info?.acked?;
        (self.written > 0).then_some(acked > 0)
    }

    /// The failed call's errno.
    pub fn errno(&self) -> Option<Errno> {
        match self.end {
            SocketEnd::Failed(failure) => Some(failure.errno),
            SocketEnd::Eof
            | SocketEnd::Deadline
            | SocketEnd::Enough
            | SocketEnd::Left
            | SocketEnd::Disturbed
            | SocketEnd::Interrupted => None,
        }
    }
}

/// Reduces an attempt to what bears on its outcome.
pub fn facts(attempt: &Attempt) -> Facts {
    let response = &attempt.response;
    let mut facts = Facts {
        syn_ack: attempt.connected,
        // A write() that took nothing sent nothing.
        request: attempt.request.filter(|_| attempt.written > 0),
        first_byte: response.first_byte,
        malformed: response.malformed,
        complete: response.complete,
        ..Facts::default()
    };
    let at = Some(attempt.ended);
    match attempt.end {
        SocketEnd::Eof => facts.server_fin = at,
        SocketEnd::Deadline => facts.deadline = at,
        SocketEnd::Interrupted => facts.abandoned = at,
        SocketEnd::Enough => {}
        SocketEnd::Disturbed => facts.local_error = at,
        SocketEnd::Left => facts.client_gone = at,
        SocketEnd::Failed(Failure { call, errno }) => match (call, errno) {
            (Call::Socket, _) => facts.local_error = at,
            (Call::Connect, Errno::Refused) => facts.refusal = at,
            // A RST in SYN-SENT reads as refused; ECONNRESET means that the handshake was done
            // before the RST came (tcp_reset in net/ipv4/tcp_input.c).
            (Call::Connect, Errno::Reset) => {
                facts.syn_ack = facts.syn_ack.or(at);
                facts.server_rst = at;
            }
            (Call::Connect, Errno::Unreachable(_)) => facts.unreachable = at,
            (_, Errno::TimedOut) => facts.deadline = at,
            (Call::Connect, Errno::Pipe | Errno::Other(_)) => facts.local_error = at,
            (Call::Write | Call::Read, Errno::Reset) => facts.server_rst = at,
            // EPIPE without end of file behind it: reset after the server's FIN.
            (Call::Write | Call::Read, Errno::Pipe) => facts.server_fin = at,
            // Retransmissions ran out, and an ICMP error said why.
            (Call::Write | Call::Read, Errno::Unreachable(_) | Errno::Refused) => {
                facts.deadline = at;
            }
            (Call::Write | Call::Read, Errno::Other(_)) => facts.local_error = at,
        },
    }
    facts
}
