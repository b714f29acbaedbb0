//! The server's part in an outcome, as far as the evidence goes. Packets and sockets prove little of
//! it, the server's kernel most: where more than one cause fits, this says `unknown` and lists them.
//! It never guesses.

mod proof;

use crate::flow::RstKind;
use crate::outcome::Outcome;

pub use proof::{Known, Proof};

/// What the server did, or did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// No socket listened.
    NotListening,
    /// The accept queue was full.
    QueueFull,
    /// The client was connected, the server was not: the request was never acknowledged.
    HandshakeLimbo,
    /// In the accept queue until the end.
    NeverAccepted,
    /// A process owned the socket and read nothing.
    AcceptedUnread,
    /// A process read from it and sent nothing.
    ReadUnanswered,
    /// Response bytes, then the end.
    AnsweredPartly,
    /// More than one of these fits.
    Unknown,
}

impl Cause {
    /// The word for it in columns.
    pub fn word(self) -> &'static str {
        match self {
            Cause::NotListening => "not_listening",
            Cause::QueueFull => "queue_full",
            Cause::HandshakeLimbo => "handshake_limbo",
            Cause::NeverAccepted => "never_accepted",
            Cause::AcceptedUnread => "accepted_unread",
            Cause::ReadUnanswered => "read_unanswered",
            Cause::AnsweredPartly => "answered_partly",
            Cause::Unknown => "unknown",
        }
    }
}

/// What the vantages say that bears on the cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// How the server's RST came about.
    pub rst_kind: Option<RstKind>,
    /// Whether the server's kernel acknowledged any byte of the request.
    pub request_taken: Option<bool>,
    /// Whether the client sent anything twice: a reply may then answer the repetition.
    pub retransmitted: bool,
    /// Whether response bytes came: to an earlier request, or once the client had given up.
    pub answered: bool,
    /// Bytes of the request that left the client, as far as it knows.
    pub sent: u64,
    /// Whether the client closed having meant to ask nothing.
    pub left: bool,
    /// Whether it did so without ever acknowledging the SYN-ACK: no process could take it.
    pub half_open: bool,
    /// What the server's kernel proves.
    pub proof: Proof,
}

/// A cause with those that fit where it is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is proven.
    pub cause: Cause,
    /// What fits; empty where the cause is proven, and where nothing does.
    pub candidates: Vec<Cause>,
}

impl Finding {
    fn proven(cause: Cause) -> Finding {
        Finding {
            cause,
            candidates: Vec::new(),
        }
    }

    fn one_of(candidates: Vec<Cause>) -> Finding {
        Finding {
            cause: Cause::Unknown,
            candidates,
        }
    }
}

/// Whether sending the request again could do its work twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetrySafe {
    /// It is proven that no process read the request, and none can any more.
    Yes,
    /// A process read from the connection.
    No,
    /// Neither is proven.
    Unknown,
}

impl RetrySafe {
    /// The word for it in columns.
    pub fn word(self) -> &'static str {
        match self {
            RetrySafe::Yes => "yes",
            RetrySafe::No => "no",
            RetrySafe::Unknown => "unknown",
        }
    }
}

const ACCEPTED: &[Cause] = &[Cause::AcceptedUnread, Cause::ReadUnanswered];
const AFTER_ACCEPT_QUEUE: &[Cause] = &[
    Cause::NeverAccepted,
    Cause::AcceptedUnread,
    Cause::ReadUnanswered,
];
const ANY_AFTER_HANDSHAKE: &[Cause] = &[
    Cause::QueueFull,
    Cause::NeverAccepted,
    Cause::AcceptedUnread,
    Cause::ReadUnanswered,
];
const ANY_WHILE_SILENT: &[Cause] = &[
    Cause::HandshakeLimbo,
    Cause::NeverAccepted,
    Cause::AcceptedUnread,
    Cause::ReadUnanswered,
];

/// The cause of `outcome` on that evidence; none for outcomes that have no server's part.
pub fn find(outcome: Outcome, evidence: &Evidence) -> Option<Finding> {
    let proof = &evidence.proof;
    let finding = match outcome {
        Outcome::Served | Outcome::LocalError | Outcome::Unreachable | Outcome::Unfinished => {
            return None;
        }
        Outcome::ClientClosed if evidence.half_open => return None,
        Outcome::Malformed | Outcome::Truncated | Outcome::ResetMidway | Outcome::Stalled => {
            Finding::proven(Cause::AnsweredPartly)
        }
        Outcome::Refused => match proof.listened {
            Some(false) => Finding::proven(Cause::NotListening),
            // A bare RST or ICMP error may come from a firewall too; and where somebody listened, not
            // for everybody (a listener bound to a device).
            Some(true) | None => Finding::one_of(vec![Cause::NotListening]),
        },
        Outcome::Unanswered => match (proof.listened, proof.overflowed) {
            (_, Some(true)) => Finding::proven(Cause::QueueFull),
            // The SYN, or its answer, was lost on the way.
            (Some(true), Some(false)) => Finding::one_of(Vec::new()),
            (_, Some(false) | None) => Finding::one_of(vec![Cause::QueueFull]),
        },
        Outcome::ResetOnConnect
        | Outcome::ClosedEmpty
        | Outcome::ResetEmpty
        | Outcome::Hung
        | Outcome::ClientClosed => match how_far(outcome, evidence) {
            Some(cause) => Finding::proven(cause),
            None => Finding::one_of(candidates(outcome, evidence)),
        },
    };
    Some(finding)
}

/// How far a connection is proven to have come at the server, which took it and answered nothing.
fn how_far(outcome: Outcome, evidence: &Evidence) -> Option<Cause> {
    let proof = &evidence.proof;
    let was_reset = matches!(outcome, Outcome::ResetOnConnect | Outcome::ResetEmpty);
    let refused_late = was_reset && evidence.rst_kind == Some(RstKind::Passive);
    match (proof.accepted, proof.read) {
        (_, Some(true)) => Some(Cause::ReadUnanswered),
        (Some(true), Some(false)) => Some(Cause::AcceptedUnread),
        // A RST to the last ACK of a handshake, by a listener whose queue had filled meanwhile
        // (tcp_abort_on_overflow). Had the listener been gone, its requests would be reset so too.
        (Some(false) | None, _)
            if refused_late
                && !proof.had_socket
                && proof.overflowed == Some(true)
                && proof.listens == Some(true) =>
        {
            Some(Cause::QueueFull)
        }
        // A RST ends what waited behind TCP_DEFER_ACCEPT; limbo goes on.
        (Some(false), _)
            if !was_reset && proof.half_open && evidence.request_taken == Some(false) =>
        {
            Some(Cause::HandshakeLimbo)
        }
        (Some(false), _) => Some(Cause::NeverAccepted),
        (Some(true) | None, _) => None,
    }
}

/// What fits where nothing is proven.
fn candidates(outcome: Outcome, evidence: &Evidence) -> Vec<Cause> {
    let all = match outcome {
        // Nothing had been sent that could have been read.
        Outcome::ResetOnConnect => match evidence.rst_kind {
            Some(RstKind::Active) => &[Cause::NeverAccepted, Cause::AcceptedUnread][..],
            Some(RstKind::Passive) | None => &[
                Cause::QueueFull,
                Cause::NeverAccepted,
                Cause::AcceptedUnread,
            ],
        },
        // A queued connection gets RST, never FIN; but shutdown() sends FIN over unread data.
        Outcome::ClosedEmpty => ACCEPTED,
        // Whoever answers had accepted it: an earlier request, or after the client had gone.
        _ if evidence.answered => ACCEPTED,
        Outcome::ResetEmpty => match evidence.rst_kind {
            // The same packet for the queue, an unread close and SO_LINGER 0.
            Some(RstKind::Active) => AFTER_ACCEPT_QUEUE,
            // TCP_DEFER_ACCEPT and overflow with tcp_abort_on_overflow answer the request so. A
            // repeated request may also have met a socket that was gone by then.
            Some(RstKind::Passive) if !evidence.retransmitted => {
                &[Cause::QueueFull, Cause::NeverAccepted]
            }
            Some(RstKind::Passive) | None => ANY_AFTER_HANDSHAKE,
        },
        _ => match evidence.request_taken {
            Some(true) => AFTER_ACCEPT_QUEUE,
            // Equally path loss.
            Some(false) => &[Cause::HandshakeLimbo],
            None => ANY_WHILE_SILENT,
        },
    };
    let Proof {
        accepted,
        read,
        overflowed,
        ..
    } = evidence.proof;
    let fits = |cause: &Cause| match cause {
        Cause::ReadUnanswered => read != Some(false),
        Cause::NeverAccepted | Cause::HandshakeLimbo => accepted != Some(true),
        Cause::QueueFull => accepted != Some(true) && overflowed != Some(false),
        Cause::NotListening | Cause::AcceptedUnread | Cause::AnsweredPartly | Cause::Unknown => {
            true
        }
    };
    all.iter().copied().filter(fits).collect()
}

/// Whether the request may be sent again; none for outcomes where the question does not arise.
pub fn retry_safe(outcome: Outcome, evidence: &Evidence) -> Option<RetrySafe> {
    let proof = &evidence.proof;
    Some(match outcome {
        Outcome::Served | Outcome::LocalError | Outcome::Unreachable | Outcome::Unfinished => {
            return None;
        }
        Outcome::ClientClosed if evidence.left => return None,
        // No SYN-ACK, and the SYN carried no data; or the end came before the first byte left.
        Outcome::Refused | Outcome::Unanswered | Outcome::ResetOnConnect => RetrySafe::Yes,
        _ if proof.ever_read => RetrySafe::No,
        // Nobody had read, and with its own RST the server threw away what there was to read.
        Outcome::ResetEmpty if proof.reset && proof.read == Some(false) => RetrySafe::Yes,
        // Where the client gave up, or a FIN left the other direction open, it may still be read.
        Outcome::Malformed
        | Outcome::ClosedEmpty
        | Outcome::ResetEmpty
        | Outcome::Hung
        | Outcome::Truncated
        | Outcome::ResetMidway
        | Outcome::Stalled
        | Outcome::ClientClosed => RetrySafe::Unknown,
    })
}

#[cfg(test)]
mod tests;
