//! One connection: what happened, why, on what evidence, and when. One row of connections.csv.

pub mod account;
mod capture;
mod join;

use std::net::SocketAddr;

use crate::cause::{self, Cause, Evidence, Known, Proof, RetrySafe};
use crate::event::Event;
use crate::flow::{ConnState, Flow, RstKind, Seen};
use crate::kernel::{Act, ResetBy, Sides};
use crate::outcome::{Attempt, Cohort, Errno, Failure, Maker, Outcome};
use crate::sequence::Sequence;
use crate::time::Stamp;
use crate::wire::Direction;

pub use capture::{Ended, Placed, Reading, ServerSide};
pub use join::Join;
pub(crate) use join::SETTLE;

/// One connection, as all vantages together tell it. What was not seen is `None`.
#[derive(Clone, Debug)]
pub struct Record {
    /// The connection's number, from 1.
    pub conn: u64,
    /// When its request was sent, relative to the trigger.
    pub cohort: Option<Cohort>,
    /// The client's end.
    pub src: Option<SocketAddr>,
    /// The server's end.
    pub dst: SocketAddr,
    /// Whose TCP made it; none in captures.
    pub maker: Option<Maker>,
    /// What happened.
    pub outcome: Outcome,
    /// What the socket alone would have said, where that differs.
    pub socket_outcome: Option<Outcome>,
    /// The server's part.
    pub cause: Option<Cause>,
    /// What fits where the cause is unknown.
    pub candidates: Vec<Cause>,
    /// Which vantages saw it.
    pub evidence: Vantages,
    /// What to keep in mind when reading it.
    pub caveats: Caveats,
    /// Whether the request may be sent again.
    pub retry_safe: Option<RetrySafe>,
    /// Its segments.
    pub sequence: Option<Sequence>,
    /// Zeek's connection state.
    pub conn_state: Option<ConnState>,
    /// Zeek's history.
    pub history: Option<Box<str>>,
    /// How the server's RST came about.
    pub rst_kind: Option<RstKind>,
    /// What curl would have exited with.
    pub curl_exit: Option<u8>,
    /// The call that failed, and how.
    pub failure: Option<Failure>,
    /// Whether it was made to ask nothing.
    pub asked_nothing: bool,
    /// The last final HTTP status.
    pub http_status: Option<u16>,
    /// Requests sent.
    pub requests: Option<u32>,
    /// Complete responses.
    pub responses: Option<u32>,
    /// Payload bytes of the client, each counted once.
    pub request_bytes: Option<u64>,
    /// Whether the server's kernel acknowledged every one of them.
    pub request_acked: Option<bool>,
    /// Payload bytes of the server, headers included, each counted once.
    pub response_bytes: Option<u64>,
    /// SYNs sent again.
    pub syn_retransmits: Option<u32>,
    /// Segments with data or FIN that the client sent again.
    pub retransmits: Option<u32>,
    /// The server's process that had it: who read from it, else who closed it, else who accepted it,
    /// else who was found to hold it.
    pub server_pid: Option<i32>,
    /// How the server's RST came about, as its kernel tells.
    pub reset_by: Option<ResetBy>,
    /// Why its kernel sent it, in that kernel's words.
    pub reset_reason: Option<Box<str>>,
    /// The process whose close() it was.
    pub reset_pid: Option<i32>,
    /// Sequence numbers of both sides that are known to have been used and were never seen: bytes,
    /// and one for a FIN. Only captures count them.
    pub missing: Option<u64>,
    /// When each thing happened.
    pub times: RecordTimes,
    /// What each vantage saw step by step, where events or packets are asked for.
    pub steps: Option<Box<Steps>>,
}

/// A connection step by step.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The socket's side of it, where it was ours.
    pub attempt: Option<Attempt>,
    /// The wire's; empty where nobody lists it.
    pub seen: Vec<Seen>,
    /// The number of the wire's flow, where the packets of a run are numbered.
    pub flow: Option<u64>,
    /// What the server's kernel showed.
    pub sides: Sides,
    /// The same one by one; empty where nobody lists it.
    pub events: Vec<Event>,
}

/// When each thing happened to a connection, on the run clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordTimes {
    /// The SYN, or the connect call where no packets were seen.
    pub opened: Stamp,
    /// How much later than by the timetable the connection was opened, in nanoseconds.
    pub late_ns: Option<i64>,
    /// The SYN-ACK, or when the socket was seen connected.
    pub syn_ack: Option<Stamp>,
    /// The first byte of the request.
    pub request: Option<Stamp>,
    /// The acknowledgment of its last byte.
    pub request_acked: Option<Stamp>,
    /// When a process had taken it from the accept queue.
    pub accepted: Option<Stamp>,
    /// When a process first read from it.
    pub read: Option<Stamp>,
    /// The first byte of the response.
    pub first_byte: Option<Stamp>,
    /// What decided the outcome.
    pub end: Option<Stamp>,
}

impl Record {
    /// A record of which nothing is known but its outcome.
    pub fn new(conn: u64, dst: SocketAddr, outcome: Outcome) -> Record {
        Record {
            conn,
            cohort: None,
            src: None,
            dst,
            maker: None,
            outcome,
            socket_outcome: None,
            cause: None,
            candidates: Vec::new(),
            evidence: Vantages::default(),
            caveats: Caveats::default(),
            retry_safe: cause::retry_safe(outcome, &Evidence::default()),
            sequence: None,
            conn_state: None,
            history: None,
            rst_kind: None,
            curl_exit: None,
            failure: None,
            asked_nothing: false,
            http_status: None,
            requests: None,
            responses: None,
            request_bytes: None,
            request_acked: None,
            response_bytes: None,
            syn_retransmits: None,
            retransmits: None,
            server_pid: None,
            reset_by: None,
            reset_reason: None,
            reset_pid: None,
            missing: None,
            times: RecordTimes::default(),
            steps: None,
        }
    }

    /// Adds what the wire saw, which is nearer to the truth than a socket's account of it and
    /// replaces that. Of a request of `request_len` bytes the end may not have left yet.
    fn add_wire(&mut self, flow: &Flow, request_len: Option<u64>) {
        let exchange = *flow.exchanges().times();
        self.sequence = Some(flow.sequence().clone());
        self.conn_state = Some(flow.zeek().conn_state());
        self.history = Some(flow.zeek().history().into());
        self.rst_kind = flow.rst_kind();
        self.requests = Some(flow.exchanges().requests());
        self.request_bytes = Some(flow.request_bytes());
        let all_sent = request_len.is_none_or(|len| flow.request_bytes() >= len);
        self.request_acked = flow.request_acked().map(|acked| acked && all_sent);
        self.syn_retransmits = Some(flow.syn_retransmits());
        self.retransmits = Some(flow.retransmits());
        self.response_bytes = Some(flow.response_bytes());
        // Where its capture was cut a socket may still have read the whole response.
        if !flow.exchanges().is_blind() {
            self.responses = Some(flow.exchanges().responses());
            self.http_status = flow.exchanges().status();
        }
        let times = &mut self.times;
        times.opened = flow.times().syn.unwrap_or(times.opened);
        times.syn_ack = flow.times().syn_ack.or(times.syn_ack);
        times.request = exchange.request.or(times.request);
        times.request_acked = flow.times().request_acked.filter(|_| all_sent);
        times.first_byte = exchange.first_byte.or(times.first_byte);
    }

    /// Finds the cause, with what the server's kernel showed of it.
    fn find_cause(&mut self, mut evidence: Evidence, sides: &Sides) {
        self.add_sides(sides);
        let (trace, diag) = (sides.trace.as_ref(), sides.diag.as_ref());
        evidence.proof = Proof::of(trace, diag, &self.known(evidence.sent));
        if let Some(finding) = cause::find(self.outcome, &evidence) {
            self.cause = Some(finding.cause);
            self.candidates = finding.candidates;
        }
        self.retry_safe = cause::retry_safe(self.outcome, &evidence);
        let of_the_listener = matches!(
            self.cause,
            Some(Cause::NotListening | Cause::QueueFull | Cause::Unknown)
        );
        let asked =
            diag.is_some_and(|diag| diag.found() || (of_the_listener && diag.listening.is_some()));
        self.evidence.diag = asked;
        self.evidence.trace = trace.is_some();
    }

    /// What the client's side knows that bears on what the server's shows.
    fn known(&self, sent: u64) -> Known {
        let reset = matches!(
            self.outcome,
            Outcome::ResetOnConnect | Outcome::ResetEmpty | Outcome::ResetMidway
        );
        Known {
            end: self.times.end.unwrap_or(Stamp(i64::MAX)),
            ended_by_rst: reset,
            rst_kind: self.rst_kind,
            ended_by_fin: self.outcome == Outcome::ClosedEmpty,
            sent,
            acked: self.times.request_acked,
        }
    }

    /// Adds what the server's kernel showed.
    fn add_sides(&mut self, sides: &Sides) {
        let owned = sides.diag.as_ref().and_then(|diag| diag.owned);
        if let Some(trace) = &sides.trace {
            // Accepts are counted. Found in a process before its turn, it was taken by somebody whose
            // accept() nobody sees.
            let in_turn = |accepted: &Act| owned.is_none_or(|owned| owned.at >= accepted.at);
            let accepted = trace.accepted.filter(in_turn);
            self.times.read = trace.read.map(|read| read.at);
            self.times.accepted = accepted.map(|accepted| accepted.at);
            let acts = [trace.read, trace.closed, accepted];
            self.server_pid = acts.into_iter().flatten().find_map(|act| act.pid);
            if let Some(reset) = &trace.reset {
                self.reset_by = Some(reset.by);
                self.reset_reason.clone_from(&reset.reason);
                self.reset_pid = reset.pid;
            }
        }
        if let Some(owned) = owned {
            self.server_pid = self.server_pid.or(owned.pid);
            // Seen no earlier than the next question; whoever has read by then had it before.
            let known = self.times.accepted.or(self.times.read);
            if known.is_none_or(|known| owned.at < known) {
                self.times.accepted = self.times.accepted.or(Some(owned.at));
            }
        }
    }

    /// Whether the server's kernel said yes: a SYN-ACK was seen, or the outcome needs one. A reset that
    /// connect() itself reports does, and the socket cannot say when the SYN-ACK came.
    pub fn was_answered(&self) -> bool {
        let needs_one = self.outcome == Outcome::Served || self.outcome.is_lost() == Some(true);
        self.times.syn_ack.is_some() || needs_one
    }

    /// Whether the server's kernel took it: it said yes, and the client did not reset it half-open,
    /// which never reaches the queue.
    pub fn was_taken(&self) -> bool {
        self.was_answered() && !self.is_half_open()
    }

    /// Whether the client ended it before its handshake was done.
    pub fn is_half_open(&self) -> bool {
        let acknowledged = |sequence: &Sequence| {
            let mut steps = sequence.steps().iter();
            steps.any(|step| step.direction == Direction::ToServer && step.flags.ack())
        };
        let sequence = self.sequence.as_ref();
        self.outcome == Outcome::ClientClosed && sequence.is_some_and(|s| !acknowledged(s))
    }

    /// Its client was to ask nothing. What would have become of a request that the server's kernel said
    /// yes to is not known.
    pub(crate) fn ask_nothing(&mut self) {
        self.asked_nothing = true;
        if self.was_answered() {
            self.curl_exit = None;
        }
    }

    /// The code of Heroku's legacy router; `target_dead` where the server was known to have exited.
    pub fn heroku(&self, target_dead: bool) -> Option<&'static str> {
        let outcome = Some(self.outcome).filter(|_| !(self.asked_nothing && self.was_answered()));
        outcome?.heroku(target_dead)
    }

    /// The failed call's errno.
    pub fn errno(&self) -> Option<Errno> {
        self.failure.map(|failure| failure.errno)
    }
}

/// Where a connection was seen from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vantages {
    /// Our own system calls and TCP_INFO.
    pub socket: bool,
    /// Packets.
    pub wire: bool,
    /// The server's sock_diag.
    pub diag: bool,
    /// Tracepoints of the server's kernel.
    pub trace: bool,
}

impl Vantages {
    /// The words for them, in the order of the data's travel.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [
            (self.socket, "socket"),
            (self.wire, "wire"),
            (self.diag, "diag"),
            (self.trace, "trace"),
        ]
        .into_iter()
        .filter_map(|(on, word)| on.then_some(word))
    }
}

/// What to keep in mind when reading a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caveats {
    /// Watching began inside the flow.
    pub capture_start: bool,
    /// Watching ended inside the flow.
    pub capture_end: bool,
    /// Segments must have been that were never seen, or a whole flow was missed.
    pub hole: bool,
    /// Payload was cut where framing depended on it.
    pub snapped: bool,
    /// Socket and wire tell different outcomes.
    pub vantages_differ: bool,
}

impl Caveats {
    /// The caveats that words joined by `+` stand for.
    pub fn from_words(words: &str) -> Option<Caveats> {
        let mut caveats = Caveats::default();
        for word in words.split('+').filter(|word| !word.is_empty()) {
            *match word {
                "capture_start" => &mut caveats.capture_start,
                "capture_end" => &mut caveats.capture_end,
                "hole" => &mut caveats.hole,
                "snapped" => &mut caveats.snapped,
                "vantages_differ" => &mut caveats.vantages_differ,
                _ => return None,
            } = true;
        }
        Some(caveats)
    }

    /// The words for them.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [
            (self.capture_start, "capture_start"),
            (self.capture_end, "capture_end"),
            (self.hole, "hole"),
            (self.snapped, "snapped"),
            (self.vantages_differ, "vantages_differ"),
        ]
        .into_iter()
        .filter_map(|(on, word)| on.then_some(word))
    }
}
