//! What happened to a connection, as its client could see it. One rule serves both vantages: each
//! reduces what it saw to [`Facts`], and the earliest thing that can decide does. The server's part
//! is left to [`cause`](crate::cause).

mod socket;
mod wire;

use crate::time::Stamp;

pub use socket::facts as socket_facts;
pub use socket::{Attempt, Call, Cohort, Errno, Failure, Maker, Response, SocketEnd, TcpInfo};
pub use wire::{Watch, facts as wire_facts};

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// One complete response.
    Served,
    /// A RST or an ICMP port-unreachable answered the SYN.
    Refused,
    /// Any other ICMP error, or no route, before a SYN-ACK.
    Unreachable,
    /// No reply to the SYN before the deadline.
    Unanswered,
    /// SYN-ACK, then RST before any byte of the request left the client.
    ResetOnConnect,
    /// Response bytes that are not HTTP.
    Malformed,
    /// FIN before any response byte.
    ClosedEmpty,
    /// RST before any response byte.
    ResetEmpty,
    /// Connected, no response byte before the deadline.
    Hung,
    /// FIN inside a response.
    Truncated,
    /// RST inside a response.
    ResetMidway,
    /// Part of a response, then silence until the deadline.
    Stalled,
    /// The client closed or reset first, without an answer: in captures, and where it was to ask
    /// nothing.
    ClientClosed,
    /// The watching began or ended inside the flow.
    Unfinished,
    /// The probe itself failed.
    LocalError,
}

impl Outcome {
    /// Every outcome, in the order in which tables list them.
    pub const ALL: [Outcome; 15] = [
        Outcome::Served,
        Outcome::Refused,
        Outcome::Unreachable,
        Outcome::Unanswered,
        Outcome::ResetOnConnect,
        Outcome::Malformed,
        Outcome::ClosedEmpty,
        Outcome::ResetEmpty,
        Outcome::Hung,
        Outcome::Truncated,
        Outcome::ResetMidway,
        Outcome::Stalled,
        Outcome::ClientClosed,
        Outcome::Unfinished,
        Outcome::LocalError,
    ];

    /// The word for it in columns and tables.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Served => "served",
            Outcome::Refused => "refused",
            Outcome::Unreachable => "unreachable",
            Outcome::Unanswered => "unanswered",
            Outcome::ResetOnConnect => "reset_on_connect",
            Outcome::Malformed => "malformed",
            Outcome::ClosedEmpty => "closed_empty",
            Outcome::ResetEmpty => "reset_empty",
            Outcome::Hung => "hung",
            Outcome::Truncated => "truncated",
            Outcome::ResetMidway => "reset_midway",
            Outcome::Stalled => "stalled",
            Outcome::ClientClosed => "client_closed",
            Outcome::Unfinished => "unfinished",
            Outcome::LocalError => "local_error",
        }
    }

    /// The outcome that a word stands for.
    pub fn from_word(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|o| o.word() == word)
    }

    /// Whether a connection that the server's kernel took got no complete response; none where that
    /// cannot be said.
    pub fn is_lost(self) -> Option<bool> {
        match self {
            Outcome::ResetOnConnect
            | Outcome::Malformed
            | Outcome::ClosedEmpty
            | Outcome::ResetEmpty
            | Outcome::Hung
            | Outcome::Truncated
            | Outcome::ResetMidway
            | Outcome::Stalled => Some(true),
            Outcome::Served | Outcome::Refused | Outcome::Unreachable | Outcome::Unanswered => {
                Some(false)
            }
            Outcome::ClientClosed | Outcome::Unfinished | Outcome::LocalError => None,
        }
    }

    /// What the table says curl calls it.
    pub fn curl(self) -> Option<u8> {
        match self {
            Outcome::Served => Some(0),
            Outcome::Malformed => Some(1),
            Outcome::Refused | Outcome::Unreachable => Some(7),
            Outcome::Truncated => Some(18),
            Outcome::Unanswered | Outcome::Hung | Outcome::Stalled | Outcome::ClientClosed => {
                Some(28)
            }
            Outcome::ClosedEmpty => Some(52),
            Outcome::ResetOnConnect | Outcome::ResetEmpty | Outcome::ResetMidway => Some(56),
            Outcome::LocalError | Outcome::Unfinished => None,
        }
    }

    /// The code of Heroku's legacy router; `target_dead` where the server was known to have exited.
    pub fn heroku(self, target_dead: bool) -> Option<&'static str> {
        match self {
            Outcome::Refused if target_dead => Some("H10"),
            Outcome::Refused => Some("H21"),
            Outcome::Unanswered => Some("H19"),
            Outcome::Hung | Outcome::Stalled => Some("H12"),
            Outcome::ClosedEmpty | Outcome::ResetEmpty | Outcome::ResetOnConnect => Some("H13"),
            Outcome::Truncated | Outcome::ResetMidway => Some("H18"),
            Outcome::Malformed => Some("H17"),
            Outcome::ClientClosed => Some("H27"),
            Outcome::Served | Outcome::Unreachable | Outcome::Unfinished | Outcome::LocalError => {
                None
            }
        }
    }
}

/// When each thing that bears on the outcome first happened, as one vantage saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The server's kernel said yes.
    pub syn_ack: Option<Stamp>,
    /// The first byte of the (last) request left.
    pub request: Option<Stamp>,
    /// The first byte of its response came.
    pub first_byte: Option<Stamp>,
    /// Bytes came that are no HTTP.
    pub malformed: Option<Stamp>,
    /// The response was complete.
    pub complete: Option<Stamp>,
    /// The server's FIN.
    pub server_fin: Option<Stamp>,
    /// The server's RST.
    pub server_rst: Option<Stamp>,
    /// An error that says refused without a RST of its own.
    pub refusal: Option<Stamp>,
    /// An error that says unreachable.
    pub unreachable: Option<Stamp>,
    /// The deadline passed.
    pub deadline: Option<Stamp>,
    /// We stopped watching: what came later has our own close for its cause.
    pub abandoned: Option<Stamp>,
    /// The client gave up without a deadline that is known.
    pub client_gone: Option<Stamp>,
    /// The probe itself failed.
    pub local_error: Option<Stamp>,
    /// Bytes that framing depends on were not seen: how far a response came is then unknown.
    pub blind: bool,
    /// The watching began inside the flow: only a response that is complete decides.
    pub began_inside: bool,
    /// What one side sent last was never seen, and may have been its end: the same.
    pub end_unseen: bool,
    /// The client sent something that was never seen, a request perhaps.
    pub request_unseen: bool,
}

/// An outcome and the moment that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happened.
    pub outcome: Outcome,
    /// When it was decided; none for `unfinished`.
    pub at: Option<Stamp>,
}

/// What can decide, in the order that breaks ties: a response that a FIN completes is complete.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Decider {
    LocalError,
    Complete,
    Malformed,
    Rst,
    Refusal,
    Unreachable,
    Fin,
    Deadline,
    Abandoned,
    ClientGone,
}

/// The earliest of what can decide does; nothing later changes it.
pub fn decide(facts: &Facts) -> Decision {
    let deciders = [
        (facts.local_error, Decider::LocalError),
        (facts.complete, Decider::Complete),
        (facts.malformed, Decider::Malformed),
        (facts.server_rst, Decider::Rst),
        (facts.refusal, Decider::Refusal),
        (facts.unreachable, Decider::Unreachable),
        (facts.server_fin, Decider::Fin),
        (facts.deadline, Decider::Deadline),
        (facts.abandoned, Decider::Abandoned),
        (facts.client_gone, Decider::ClientGone),
    ];
    let earliest = deciders
        .into_iter()
        .filter_map(|(at, decider)| Some((at?, decider)))
        .min();
    let Some((at, decider)) = earliest else {
        return Decision {
            outcome: Outcome::Unfinished,
            at: None,
        };
    };
    let by_then = |fact: Option<Stamp>| fact.is_some_and(|t| t <= at);
    let connected = by_then(facts.syn_ack);
    let asked = by_then(facts.request);
    let answered = by_then(facts.first_byte);
    // Once answered, only framing can tell a cut response from a whole one.
    let unclear = answered && facts.blind || facts.began_inside || facts.end_unseen;
    let outcome = match decider {
        Decider::LocalError => Outcome::LocalError,
        Decider::Complete => Outcome::Served,
        _ if unclear => Outcome::Unfinished,
        Decider::Malformed => Outcome::Malformed,
        Decider::Rst if !connected => Outcome::Refused,
        Decider::Rst if answered => Outcome::ResetMidway,
        Decider::Rst if asked => Outcome::ResetEmpty,
        Decider::Rst if facts.request_unseen => Outcome::Unfinished,
        Decider::Rst => Outcome::ResetOnConnect,
        Decider::Refusal => Outcome::Refused,
        Decider::Unreachable => Outcome::Unreachable,
        Decider::Fin if answered => Outcome::Truncated,
        Decider::Fin => Outcome::ClosedEmpty,
        Decider::Deadline if !connected => Outcome::Unanswered,
        Decider::Deadline if answered => Outcome::Stalled,
        Decider::Deadline => Outcome::Hung,
        Decider::Abandoned => Outcome::Unfinished,
        Decider::ClientGone => Outcome::ClientClosed,
    };
    Decision {
        outcome,
        at: (outcome != Outcome::Unfinished).then_some(at),
    }
}

#[cfg(test)]
mod tests;
