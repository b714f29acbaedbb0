//! What `probe demo` says below the usual table: in a few sentences what was done and what came of it,
//! and what to try next. Numbers are those that were measured; of causes it says no more than the
//! records do. The table of several policies is [`policies`](super::policies)' part.

use std::fmt::Write as _;

use nix::sys::signal::Signal;

use super::words::plural;
use crate::outcome::Outcome;
use crate::prefork::{FirstRequest, Policy};
use crate::summary::Summary;

/// Columns of text; a terminal has at least so many.
const WIDTH: usize = 80;

/// What came of a policy.
pub(crate) struct Shown<'a> {
    /// The policy.
    pub(crate) policy: Policy,
    /// Whether the server had to be killed in any of them.
    pub(crate) was_killed: bool,
    /// All of them together.
    pub(crate) summary: &'a Summary,
}

/// What the server was asked to do, as far as there are words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The only signal it got.
    pub(crate) signal: Option<Signal>,
    /// What its first request did.
    pub(crate) first_request: FirstRequest,
    /// How far its clients went.
    pub(crate) clients: Clients,
}

/// How far clients go with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// They send a request.
    Ask,
    /// They connect, and ask nothing.
    Connect,
    /// They do not even do that: they end what is half-open.
    Knock,
}

/// What was done and what it shows, in a few sentences.
pub(crate) fn sentences(shown: &Shown<'_>, asked: Asked) -> String {
    let mut text = String::new();
    let clients = asked.clients;
    let (own, stops) = match clients {
        Clients::Ask => first_request(asked.first_request),
        // There never was one.
        Clients::Connect | Clients::Knock => first_request(FirstRequest::None),
    };
    text.push_str(own);
    match asked.signal {
        Some(Signal::SIGTERM) => {
            let _ = write!(text, "SIGTERM: {} ", stop(shown, clients));
        }
        Some(Signal::SIGINT) => {
            let _ = write!(text, "SIGINT: {} ", on_term(Policy::Quick, clients));
        }
        Some(_) => {}
        None if stops => {
            let _ = write!(text, "On that {} ", stop(shown, clients));
        }
        None => {}
    }
    let summary = shown.summary;
    text.push_str(&losses(summary, clients));
    let stopped = asked.signal == Some(Signal::SIGTERM) || (asked.signal.is_none() && stops);
    if stopped && shown.leaves_silent_clients() && summary.count(Outcome::ClosedEmpty) > 0 {
        text.push_str(
            " A worker that stops closes clients that it has accepted and that have sent nothing yet.",
        );
    }
    for (outcome, what) in BESIDES {
        let n = summary.count(outcome);
        if n > 0 {
            let _ = write!(text, " {n} {what}.");
        }
    }
    wrap(&text)
}

impl Shown<'_> {
    fn leaves_silent_clients(&self) -> bool {
        match self.policy {
            Policy::LeaveOpen | Policy::Hang | Policy::Close => !self.was_killed,
            Policy::Drain | Policy::FilterDrain | Policy::Quick => false,
        }
    }
}

/// What became of connections that the server's kernel did not take, or that nothing is known of.
const BESIDES: [(Outcome, &str); 5] = [
    (
        Outcome::Refused,
        "met a closed port, which is no loss: a load balancer sends such a client elsewhere",
    ),
    (
        Outcome::Unanswered,
        "got no reply to their SYN before their deadline",
    ),
    (Outcome::Unreachable, "could not reach the server"),
    (Outcome::LocalError, "could not be made by the probe itself"),
    (
        Outcome::Unfinished,
        "had not ended when watching did: whether they were lost is not known",
    ),
];

/// What the first request did, and whether that asked the server to stop.
fn first_request(what: FirstRequest) -> (&'static str, bool) {
    match what {
        FirstRequest::None => ("", false),
        FirstRequest::KillSelf => (
            "The first request ended its worker by SIGKILL, and the master started another. ",
            false,
        ),
        FirstRequest::TermMaster => ("The first request sent SIGTERM to the master. ", true),
        FirstRequest::TermAll => (
            "The first request sent SIGTERM to the master and to every worker. ",
            true,
        ),
    }
}

/// What to try after a plain `probe demo`; `program` is how it was called, `best` the policy that
/// loses least of those that this user may have.
pub(crate) fn next_commands(program: &str, best: Policy) -> String {
    let stop = format!("demo --policy {}", best.word());
    let loses = match best {
        Policy::FilterDrain => "the stop that loses nothing",
        _ => "the stop that serves the queue first",
    };
    let mut text = "Try next:\n".to_owned();
    for (options, what) in [
        (
            "demo --all",
            "every way in which a server stops, side by side",
        ),
        (&stop, loses),
        ("demo --csv -", "a row for each connection"),
        ("-- puma -C config/puma.rb", "your own server"),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {program} {options:<28} {what}");
    }
    text
}

/// What the server did on TERM.
fn stop(shown: &Shown<'_>, clients: Clients) -> &'static str {
    match shown.policy {
        Policy::Hang => on_term(Policy::Hang, clients),
        // Its policy was not carried out to the end.
        _ if shown.was_killed => "the server began to stop, took too long, and was killed.",
        policy => on_term(policy, clients),
    }
}

/// What a server of this policy does on TERM.
fn on_term(policy: Policy, clients: Clients) -> &'static str {
    match clients {
        Clients::Ask => on_term_asked(policy),
        Clients::Connect | Clients::Knock => on_term_unasked(policy, clients == Clients::Knock),
    }
}

/// The same where nobody asks it anything; of half-open connections none is ever in its queue.
fn on_term_unasked(policy: Policy, half_open: bool) -> &'static str {
    match policy {
        Policy::LeaveOpen => {
            "the workers ended, while the master held the listening socket open until they had."
        }
        Policy::Hang => {
            "the workers ended, but the master stayed, and with it the listening socket on which nobody \
             accepts."
        }
        Policy::Close if half_open => {
            "the master closed its copy of the listening socket, and each worker its own. Until the last \
             copy is closed the kernel goes on answering SYNs."
        }
        Policy::Close => {
            "the master closed its copy of the listening socket, and each worker its own. Until the last \
             copy is closed the kernel goes on completing handshakes; whoever is still in its queue then \
             is reset."
        }
        Policy::Drain => {
            "each worker closed its copy of the listening socket once the queue was empty."
        }
        Policy::FilterDrain => {
            "a filter on the listening socket dropped new clients' SYNs, and once the queue was empty the \
             workers closed it."
        }
        Policy::Quick if half_open => {
            "every process ended at once, and the listening socket with them."
        }
        Policy::Quick => {
            "every process ended at once; the kernel closed their connections and reset those in the \
             queue."
        }
    }
}

/// The same where clients send requests.
fn on_term_asked(policy: Policy) -> &'static str {
    match policy {
        Policy::LeaveOpen => {
            "the workers finished what they had begun and ended, while the master held the listening \
             socket open until they had."
        }
        Policy::Hang => {
            "the workers finished what they had begun and ended, but the master stayed, and with it \
             the listening socket on which nobody accepts."
        }
        Policy::Close => {
            "the master closed its copy of the listening socket, and each worker its own once it had \
             finished its request. Until the last copy is closed the kernel goes on completing \
             handshakes and acknowledging requests; whoever is still in its queue then is reset."
        }
        Policy::Drain => {
            "each worker went on serving until the queue of the listening socket was empty, and then \
             closed its copy."
        }
        Policy::FilterDrain => {
            "a filter on the listening socket dropped new clients' SYNs, the workers served whoever \
             was in the queue, and only then closed it."
        }
        Policy::Quick => {
            "every process ended at once, whatever it was doing; the kernel closed their connections \
             and reset those in the queue."
        }
    }
}

fn losses(summary: &Summary, clients: Clients) -> String {
    match (summary.taken, clients) {
        (0, Clients::Ask) => {
            return "The server's kernel took no connection, so none was lost.".to_owned();
        }
        (0, Clients::Connect) => return "The server's kernel took no connection.".to_owned(),
        (0, Clients::Knock) => {
            return format!(
                "The server's kernel answered {} of {} {}. What is ended half-open never reaches its \
                 queue, and cannot be lost.",
                summary.half_open,
                summary.connections,
                plural(summary.connections, "SYN")
            );
        }
        (_, _) => {}
    }
    let lost: Vec<String> = Outcome::ALL
        .into_iter()
        .filter_map(|outcome| {
            let n = Some(summary.count(outcome)).filter(|&n| n > 0)?;
            let became = match clients {
                Clients::Ask => became(outcome)?.to_owned(),
                // What curl or a router would have called it depends on a request.
                Clients::Connect | Clients::Knock => without_codes(became(outcome)?),
            };
            Some(format!("{n} {} {became}", were(n)))
        })
        .collect();
    let took = format!(
        "The server's kernel took {} of {} {}",
        summary.taken,
        summary.connections,
        plural(summary.connections, "connection")
    );
    if clients != Clients::Ask {
        return match lost.as_slice() {
            [] => format!("{took}, which asked nothing, and the server ended none of them."),
            lost => format!(
                "{took}, which asked nothing; of those {}, which counts as lost.",
                lost.join(", ")
            ),
        };
    }
    if lost.is_empty() && summary.count(Outcome::Unfinished) > 0 {
        format!("{took}, and none of those is known to be lost.")
    } else if lost.is_empty() {
        format!("{took}, and none of those was lost.")
    } else {
        format!("{took}; of those {}.", lost.join(", "))
    }
}

/// What happened to lost connections, in words.
fn became(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::ResetEmpty => Some("reset before a byte of the answer came (curl 56, Heroku H13)"),
        Outcome::ResetOnConnect => Some("reset as soon as connected (Heroku H13)"),
        Outcome::ClosedEmpty => Some("closed without an answer (curl 52, Heroku H13)"),
        Outcome::Hung => Some("left waiting until their deadline (curl 28, Heroku H12)"),
        Outcome::Stalled => Some("left waiting in the middle of an answer (curl 28, Heroku H12)"),
        Outcome::Truncated => Some("cut off by a close (curl 18, Heroku H18)"),
        Outcome::ResetMidway => Some("cut off by a reset (curl 56, Heroku H18)"),
        Outcome::Malformed => Some("answered in no HTTP (Heroku H17)"),
        Outcome::Served
        | Outcome::Refused
        | Outcome::Unreachable
        | Outcome::Unanswered
        | Outcome::ClientClosed
        | Outcome::Unfinished
        | Outcome::LocalError => None,
    }
}

fn without_codes(became: &str) -> String {
    let words = became.split(" (").next().unwrap_or(became);
    words.replace("an answer", "a word")
}

fn were(n: u64) -> &'static str {
    if n == 1 { "was" } else { "were" }
}

/// Breaks lines between words.
fn wrap(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Asked = Asked {
        signal: Some(Signal::SIGTERM),
        first_request: FirstRequest::None,
        clients: Clients::Ask,
    };

    fn summary(outcomes: &[(Outcome, u64)]) -> Summary {
        let mut summary = Summary::default();
        for &(outcome, count) in outcomes {
            summary.connections += count;
            summary.outcomes.entry(outcome).or_default().count = count;
            let lost = outcome.is_lost() == Some(true);
            summary.lost += if lost { count } else { 0 };
            let taken = lost || outcome == Outcome::Served;
            summary.taken += if taken { count } else { 0 };
        }
        summary
    }

    fn shown(summary: &Summary) -> Shown<'_> {
        Shown {
            policy: Policy::Close,
            was_killed: false,
            summary,
        }
    }

    #[test]
    fn the_sentences_tell_the_numbers_measured() {
        let summary = summary(&[
            (Outcome::Served, 10),
            (Outcome::Refused, 1),
            (Outcome::ResetEmpty, 17),
            (Outcome::ClosedEmpty, 1),
        ]);
        insta::assert_snapshot!(sentences(&shown(&summary), TERM), @r"
        SIGTERM: the master closed its copy of the listening socket, and each worker its
        own once it had finished its request. Until the last copy is closed the kernel
        goes on completing handshakes and acknowledging requests; whoever is still in
        its queue then is reset. The server's kernel took 28 of 29 connections; of those
        1 was closed without an answer (curl 52, Heroku H13), 17 were reset before a
        byte of the answer came (curl 56, Heroku H13). A worker that stops closes
        clients that it has accepted and that have sent nothing yet. 1 met a closed
        port, which is no loss: a load balancer sends such a client elsewhere.
        ");
    }

    #[test]
    fn nothing_is_said_of_a_signal_that_was_not_sent() {
        let summary = summary(&[(Outcome::Served, 2)]);
        let told = |signal, first_request| {
            let asked = Asked {
                signal,
                first_request,
                clients: Clients::Ask,
            };
            sentences(&shown(&summary), asked).replace('\n', " ")
        };
        let nothing_lost =
            "The server's kernel took 2 of 2 connections, and none of those was lost. ";
        assert_eq!(told(None, FirstRequest::None), nothing_lost);
        assert_eq!(
            told(Some(Signal::SIGUSR1), FirstRequest::None),
            nothing_lost
        );
        let quick = told(Some(Signal::SIGINT), FirstRequest::None);
        assert!(quick.starts_with("SIGINT: every process ended at once"));
        let own = told(None, FirstRequest::TermAll);
        assert!(own.contains("every worker. On that the master closed"));
    }

    #[test]
    fn a_server_that_was_killed_is_not_said_to_have_stopped() {
        let summary = summary(&[(Outcome::Served, 2)]);
        let killed = Shown {
            was_killed: true,
            ..shown(&summary)
        };
        let told = sentences(&killed, TERM);
        assert!(told.starts_with("SIGTERM: the server began to stop, took too long, and was"));
    }

    #[test]
    fn lines_are_no_wider_than_a_terminal() {
        for clients in [Clients::Ask, Clients::Connect, Clients::Knock] {
            for policy in Policy::ALL {
                let text = wrap(on_term(policy, clients));
                assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
            }
        }
    }

    #[test]
    fn who_asks_nothing_is_told_of_no_requests_and_who_is_never_taken_of_no_loss() {
        let told = |summary: &Summary, clients| {
            let asked = Asked { clients, ..TERM };
            sentences(&shown(summary), asked).replace('\n', " ")
        };
        let mut knocked = summary(&[(Outcome::ClientClosed, 43), (Outcome::Refused, 7)]);
        knocked.half_open = 43;
        assert_eq!(
            told(&knocked, Clients::Knock),
            "SIGTERM: the master closed its copy of the listening socket, and each worker its own. Until \
             the last copy is closed the kernel goes on answering SYNs. The server's kernel answered 43 \
             of 50 SYNs. What is ended half-open never reaches its queue, and cannot be lost. 7 met a \
             closed port, which is no loss: a load balancer sends such a client elsewhere. "
        );
        let mut connected = summary(&[(Outcome::ResetOnConnect, 3), (Outcome::ClosedEmpty, 1)]);
        connected.connections += 2;
        connected.taken += 2;
        let told = told(&connected, Clients::Connect);
        assert!(
            told.contains(
                "took 6 of 6 connections, which asked nothing; of those 3 were reset as soon as \
                 connected, 1 was closed without a word, which counts as lost."
            ),
            "{told}"
        );
        assert!(
            !told.contains("curl") && !told.contains("request"),
            "{told}"
        );
    }
}
