//! What a connection does besides asking and being answered: things that no socket can be told to do.

use std::time::Duration;

/// How the raw engine behaves on each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// What it does once the server has answered its SYN.
    pub(crate) does: Does,
    /// How it ends its side.
    pub(crate) close: CloseBy,
}

/// What a connection does once the server has answered its SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It sends its request and reads the response.
    Ask,
    /// It acknowledges, sends nothing, and stays until its deadline.
    Handshake,
    /// It never acknowledges, and resets the half-open connection.
    Syn,
    /// It sends the request's first bytes, and the others after the trigger.
    Split {
        /// Bytes sent at once, at least one.
        first: u64,
        /// How long after the trigger the others follow.
        delay: Duration,
    },
}

impl Does {
    /// Whether it asks for anything.
    pub(crate) fn asks(self) -> bool {
        matches!(self, Does::Ask | Does::Split { .. })
    }
}

/// How a connection ends its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseBy {
    /// As close() does.
    Fin,
    /// Without ceremony, as SO_LINGER 0 has close() do.
    Rst,
    /// Not at all, as a program that has forgotten its connection: what comes is acknowledged, and what
    /// is left is reset when the run ends.
    Nothing,
}
