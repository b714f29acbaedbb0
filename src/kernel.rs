//! What the server's kernel tells of a connection: events of its tracepoints and answers of its
//! sock_diag, as values, and what they add up to for each connection. Where they come from is left to
//! the vantages, what they prove to [`cause`](crate::cause).

mod diag;
mod history;
mod lives;
mod side;
mod tables;
mod trace;

pub use diag::{Counters, DiagTable, Length, Listening, Owner, Poll, Polled, Queue};
pub use lives::Life;
pub use side::{Act, DiagSide, Reset, ResetBy, Sides, TraceSide, Unread};
pub use tables::Tables;
pub use trace::{Able, Accepted, Comm, Course, Lost, Task, TraceTable, Traced, TracedWhat};

/// A TCP socket's state; numbers as in include/net/tcp_states.h, which are part of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpState {
    /// Handshake done.
    Established,
    /// The SYN was sent.
    SynSent,
    /// A child socket whose handshake is being completed.
    SynRecv,
    /// We closed first.
    FinWait1,
    /// We closed first, and that was acknowledged.
    FinWait2,
    /// Both sides closed; the 4-tuple rests.
    TimeWait,
    /// No connection.
    Close,
    /// The peer closed, we did not.
    CloseWait,
    /// The peer closed, then we did.
    LastAck,
    /// It listens.
    Listen,
    /// Both closed at once.
    Closing,
    /// A handshake under way, of which the kernel holds no socket yet.
    NewSynRecv,
}

impl TcpState {
    /// In the order of the kernel's numbers, from 1.
    const ALL: [TcpState; 12] = [
        TcpState::Established,
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::TimeWait,
        TcpState::Close,
        TcpState::CloseWait,
        TcpState::LastAck,
        TcpState::Listen,
        TcpState::Closing,
        TcpState::NewSynRecv,
    ];

    /// The state with that number; none for 0 and for what later kernels add.
    pub fn from_number(number: u8) -> Option<TcpState> {
        let at = usize::from(number).checked_sub(1)?;
        TcpState::ALL.get(at).copied()
    }
}
