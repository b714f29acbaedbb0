//! One thing seen, at one time, from one vantage: what the probe did itself, and what the server's
//! kernel showed. What sockets and packets show of a connection lies in its attempt and its flow.

use crate::time::Stamp;

/// From where something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// Our own system calls.
    Socket,
    /// Packets.
    Wire,
    /// The server's sock_diag.
    Diag,
    /// Tracepoints of the server's kernel.
    Trace,
    /// What the probe did itself: signals, commands, exits of the server's processes.
    Control,
}

impl Vantage {
    /// The word for it in columns.
    pub fn word(self) -> &'static str {
        match self {
            Vantage::Socket => "socket",
            Vantage::Wire => "wire",
            Vantage::Diag => "diag",
            Vantage::Trace => "trace",
            Vantage::Control => "control",
        }
    }
}

/// A thing seen, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When: by the kernel's stamp, by the answer to a question, or when it was done.
    pub at: Stamp,
    /// From where.
    pub vantage: Vantage,
    /// What, in a word: docs/columns.md lists them.
    pub event: &'static str,
    /// The process that did it, that it was done to, or that holds the connection.
    pub pid: Option<i32>,
    /// More about it.
    pub detail: Option<String>,
}
