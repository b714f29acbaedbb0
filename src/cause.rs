//! The server's part in an outcome, as far as the evidence goes. Packets and sockets prove little of
//! it: where more than one cause fits, this says `unknown` and lists them. It never guesses.

use crate::flow::RstKind;
use crate::outcome::Outcome;

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
}

/// A cause with those that fit where it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is proven.
    pub cause: Cause,
    /// What fits; empty where the cause is proven.
    pub candidates: &'static [Cause],
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
    let candidates: &'static [Cause] = match outcome {
        Outcome::Served | Outcome::LocalError | Outcome::Unreachable | Outcome::Unfinished => {
            return None;
        }
        Outcome::Malformed | Outcome::Truncated | Outcome::ResetMidway | Outcome::Stalled => {
            return Some(Finding {
                cause: Cause::AnsweredPartly,
                candidates: &[],
            });
        }
        // A bare RST or ICMP error may come from a firewall too.
        Outcome::Refused => &[Cause::NotListening],
        // Or the SYN, or its answer, was lost on the way.
        Outcome::Unanswered => &[Cause::QueueFull],
        // Nothing had been sent that could have been read.
        Outcome::ResetOnConnect => match evidence.rst_kind {
            Some(RstKind::Active) => &[Cause::NeverAccepted, Cause::AcceptedUnread],
            Some(RstKind::Passive) | None => &[
                Cause::QueueFull,
                Cause::NeverAccepted,
                Cause::AcceptedUnread,
            ],
        },
        // A queued connection gets RST, never FIN; but shutdown() sends FIN over unread data.
        Outcome::ClosedEmpty => &[Cause::AcceptedUnread, Cause::ReadUnanswered],
        // Whoever answers had accepted it: an earlier request, or after the client had gone.
        Outcome::ResetEmpty | Outcome::Hung | Outcome::ClientClosed if evidence.answered => {
            &[Cause::AcceptedUnread, Cause::ReadUnanswered]
        }
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
        Outcome::Hung | Outcome::ClientClosed => match evidence.request_taken {
            Some(true) => AFTER_ACCEPT_QUEUE,
            // Equally path loss.
            Some(false) => &[Cause::HandshakeLimbo],
            None => ANY_WHILE_SILENT,
        },
    };
    Some(Finding {
        cause: Cause::Unknown,
        candidates,
    })
}

/// Whether the request may be sent again; none for outcomes where the question does not arise.
pub fn retry_safe(outcome: Outcome) -> Option<RetrySafe> {
    match outcome {
        Outcome::Served | Outcome::LocalError | Outcome::Unreachable | Outcome::Unfinished => None,
        // No SYN-ACK, and the SYN carried no data; or the end came before the first byte left.
        Outcome::Refused | Outcome::Unanswered | Outcome::ResetOnConnect => Some(RetrySafe::Yes),
        Outcome::Malformed
        | Outcome::ClosedEmpty
        | Outcome::ResetEmpty
        | Outcome::Hung
        | Outcome::Truncated
        | Outcome::ResetMidway
        | Outcome::Stalled
        | Outcome::ClientClosed => Some(RetrySafe::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(outcome: Outcome, evidence: Evidence) -> Vec<&'static str> {
        let finding = find(outcome, &evidence).unwrap();
        assert_eq!(
            finding.cause == Cause::Unknown,
            !finding.candidates.is_empty()
        );
        finding.candidates.iter().map(|c| c.word()).collect()
    }

    fn reset_by(kind: RstKind) -> Evidence {
        Evidence {
            rst_kind: Some(kind),
            request_taken: Some(true),
            ..Evidence::default()
        }
    }

    #[test]
    fn packets_cannot_tell_queue_reset_unread_close_and_linger_0_apart() {
        assert_eq!(
            candidates(Outcome::ResetEmpty, reset_by(RstKind::Active)),
            ["never_accepted", "accepted_unread", "read_unanswered"]
        );
    }

    #[test]
    fn a_passive_reset_of_the_request_is_deferred_accept_or_overflow() {
        assert_eq!(
            candidates(Outcome::ResetEmpty, reset_by(RstKind::Passive)),
            ["queue_full", "never_accepted"]
        );
        let again = Evidence {
            retransmitted: true,
            ..reset_by(RstKind::Passive)
        };
        assert_eq!(candidates(Outcome::ResetEmpty, again).len(), 4);
    }

    #[test]
    fn a_fin_proves_accept_and_not_read() {
        assert_eq!(
            candidates(Outcome::ClosedEmpty, Evidence::default()),
            ["accepted_unread", "read_unanswered"]
        );
    }

    #[test]
    fn an_acknowledged_request_rules_out_limbo() {
        let acked = |request_taken| Evidence {
            request_taken,
            ..Evidence::default()
        };
        assert_eq!(
            candidates(Outcome::Hung, acked(Some(true))),
            ["never_accepted", "accepted_unread", "read_unanswered"]
        );
        assert_eq!(
            candidates(Outcome::Hung, acked(Some(false))),
            ["handshake_limbo"]
        );
        assert_eq!(candidates(Outcome::Hung, acked(None)).len(), 4);
        let late = Evidence {
            answered: true,
            ..acked(Some(true))
        };
        assert_eq!(
            candidates(Outcome::Hung, late),
            ["accepted_unread", "read_unanswered"]
        );
    }

    #[test]
    fn a_connection_that_was_answered_before_had_been_accepted() {
        for kind in [RstKind::Active, RstKind::Passive] {
            let answered = Evidence {
                answered: true,
                ..reset_by(kind)
            };
            assert_eq!(
                candidates(Outcome::ResetEmpty, answered),
                ["accepted_unread", "read_unanswered"]
            );
        }
    }

    #[test]
    fn response_bytes_prove_a_partial_answer() {
        for outcome in [Outcome::Truncated, Outcome::ResetMidway, Outcome::Stalled] {
            let finding = find(outcome, &Evidence::default()).unwrap();
            assert_eq!(finding.cause, Cause::AnsweredPartly);
            assert_eq!(retry_safe(outcome), Some(RetrySafe::Unknown));
        }
    }

    #[test]
    fn only_what_never_left_is_safe_to_send_again() {
        let safe = |outcome: &Outcome| retry_safe(*outcome) == Some(RetrySafe::Yes);
        let safe: Vec<_> = Outcome::ALL.into_iter().filter(safe).collect();
        assert_eq!(
            safe,
            [
                Outcome::Refused,
                Outcome::Unanswered,
                Outcome::ResetOnConnect
            ]
        );
    }

    #[test]
    fn outcomes_without_a_servers_part_have_no_cause() {
        for outcome in [Outcome::Served, Outcome::LocalError, Outcome::Unreachable] {
            assert_eq!(find(outcome, &Evidence::default()), None);
            assert_eq!(retry_safe(outcome), None);
        }
    }
}
