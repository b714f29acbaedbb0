//! Joins what a socket said with the flow that the wire showed, by 4-tuple and time, and decides
//! when nothing more is to be expected of either.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Caveats, Record, RecordTimes, Steps, Vantages};
use crate::cause::{self, Proof};
use crate::flow::{Flow, FlowTable, Protocol};
use crate::kernel::{DiagSide, Life, Tables};
use crate::outcome::{Attempt, Maker, Outcome, SocketEnd, Watch, decide, socket_facts, wire_facts};
use crate::time::Stamp;
use crate::wire::{Ends, IcmpError, Segment};

/// When a connection lived.
fn life(attempt: &Attempt, record: &Record) -> Life {
    Life {
        opened: attempt.opened,
        closed: attempt.ended,
        end: record.times.end.unwrap_or(attempt.ended),
    }
}

/// How long after a flow's last segment another may still be on its way, at least: a RST that crossed
/// data, the reply to a late request.
pub(crate) const SETTLE: Duration = Duration::from_millis(10);
/// How long a flow that its server leaves open is watched after our socket was closed.
const LINGER: Duration = Duration::from_millis(300);
/// How often other people's flows are let go of.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// How far packet stamps and our clock readings around connect() may lie apart.
const TOLERANCE: Duration = Duration::from_millis(1);

/// Attempts that ended and flows that were seen, until both sides of each are known.
#[derive(Debug)]
pub struct Join {
    flows: Option<FlowTable>,
    kernel: Tables,
    keep_steps: bool,
    keep_attempts: bool,
    asks_nothing: bool,
    ended: VecDeque<Attempt>,
    /// Everything that the wire showed before this was handed in.
    watermark: Stamp,
    /// Every attempt that had ended before this was handed in.
    told: Stamp,
    /// No attempt lasts longer; none where some wait for a trigger.
    lifetime: Option<Duration>,
    forgotten: Stamp,
    kernel_forgotten: Stamp,
    /// Connections were taken though nobody listened where the server is looked for.
    answered_elsewhere: bool,
    finished: bool,
}

impl Join {
    /// A join without packets: every attempt is complete when it ends. None is silent for longer than
    /// `lifetime`, if that can be said. With `keep_steps` each record lists what was seen step by step.
    pub fn of_sockets(lifetime: Option<Duration>, keep_steps: bool) -> Join {
        Join {
            flows: None,
            kernel: Tables::default(),
            keep_steps,
            keep_attempts: false,
            asks_nothing: false,
            ended: VecDeque::new(),
            watermark: Stamp(i64::MIN),
            told: Stamp(i64::MIN),
            lifetime,
            forgotten: Stamp(i64::MIN),
            kernel_forgotten: Stamp(i64::MIN),
            answered_elsewhere: false,
            finished: false,
        }
    }

    /// A join with the packets between us and `server`.
    pub fn with_wire(
        server: SocketAddr,
        protocol: Protocol,
        lifetime: Option<Duration>,
        keep_steps: bool,
    ) -> Join {
        // Packets know nothing of a link-local address's scope.
        let server = SocketAddr::new(server.ip(), server.port());
        Join {
            flows: Some(FlowTable::new(server, protocol, keep_steps)),
            ..Join::of_sockets(lifetime, keep_steps)
        }
    }

    /// Each record lists what its socket did and which flow was its, and no segments unless those
    /// are asked for too.
    pub fn keeping_attempts(self) -> Join {
        Join {
            keep_attempts: true,
            ..self
        }
    }

    /// Connections are made to ask nothing.
    pub fn asking_nothing(self) -> Join {
        Join {
            asks_nothing: true,
            ..self
        }
    }

    /// With what the server's kernel tells, as far as `tables` are there.
    pub fn with_kernel(self, tables: Tables) -> Join {
        Join {
            kernel: tables,
            ..self
        }
    }

    /// Whether connections were taken though nobody listened where the server is looked for: they are
    /// passed on to somewhere else (DNAT).
    pub fn was_answered_elsewhere(&self) -> bool {
        self.answered_elsewhere
    }

    /// What the server's kernel tells.
    pub fn kernel(&mut self) -> &mut Tables {
        &mut self.kernel
    }

    /// Takes a segment; returns the number of the flow that it belongs to.
    pub fn segment(&mut self, segment: &Segment) -> Option<u64> {
        let flow = self.flows.as_mut()?.push(segment)?;
        Some(flow.number())
    }

    /// Takes an ICMP error; returns the number of the flow that it is about.
    pub fn icmp(&mut self, error: &IcmpError) -> Option<u64> {
        let flow = self.flows.as_mut()?.push_icmp(error)?;
        Some(flow.number())
    }

    /// Everything on the wire before `to` was handed in.
    pub fn advance(&mut self, to: Stamp) {
        self.watermark = self.watermark.max(to);
        if let Some(flows) = &mut self.flows
            && self.forgotten < to - FORGET_EVERY
        {
            let over = unclaimed(&self.ended, self.told, to) - (LINGER + FORGET_EVERY);
            let open = self.lifetime.map(|lifetime| over - lifetime);
            flows.forget(over, open);
            self.forgotten = to;
        }
    }

    /// What the server's kernel told by `to` was handed in.
    pub fn advance_kernel(&mut self, to: Stamp) {
        if let Some(lifetime) = self.lifetime
            && self.kernel_forgotten < to - FORGET_EVERY
        {
            let last = unclaimed(&self.ended, self.told, to);
            self.kernel
                .forget(last - (LINGER + FORGET_EVERY + lifetime));
            self.kernel_forgotten = to;
        }
    }

    /// Takes an attempt that ended.
    pub fn attempt(&mut self, attempt: Attempt) {
        self.ended.push_back(attempt);
    }

    /// Every attempt that had ended before `to` was handed in. What the other vantages show meanwhile
    /// is kept for those that were not: a probe that is stopped for a while may learn of their packets
    /// first.
    pub fn advance_attempts(&mut self, to: Stamp) {
        self.told = self.told.max(to);
    }

    /// Nothing more will come: what is left is complete as it is.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// How many attempts wait for their flow.
    pub fn waiting(&self) -> usize {
        self.ended.len()
    }

    /// The next complete record, in the order in which the attempts ended.
    pub fn next_record(&mut self) -> Option<Record> {
        if !self.finished && !self.is_complete(self.ended.front()?) {
            return None;
        }
        let attempt = self.ended.pop_front()?;
        let mut flow = self.flows.as_mut().and_then(|flows| {
            let (from, to) = span(&attempt);
            flows.take(attempt.local?, from, to)
        });
        let seen = flow.as_mut().map(Flow::take_kept).unwrap_or_default();
        let mut record = record(&attempt, flow.as_ref(), self.flows.is_some());
        if self.asks_nothing {
            record.ask_nothing();
        }
        let (mut sides, events) = attempt.local.map_or_else(Default::default, |client| {
            let server = attempt.peer;
            self.kernel
                .take(Ends { client, server }, life(&attempt, &record))
        });
        if let Some(diag) = &mut sides.diag {
            self.answered_elsewhere |= diag.listening == Some(false) && record.was_answered();
            if self.answered_elsewhere {
                // Who listens here says nothing of the server.
                *diag = DiagSide::default();
            }
        }
        record.find_cause(cause_evidence(&record, &attempt, flow.as_ref()), &sides);
        if self.keep_steps || self.keep_attempts {
            record.steps = Some(Box::new(Steps {
                attempt: Some(attempt),
                seen,
                flow: flow.as_ref().map(Flow::number),
                sides,
                events,
            }));
        }
        Some(record)
    }

    fn is_complete(&self, attempt: &Attempt) -> bool {
        if attempt.local.is_some() && !self.kernel.know(attempt.ended) {
            return false;
        }
        let (Some(flows), Some(local)) = (&self.flows, attempt.local) else {
            return true;
        };
        if self.watermark >= attempt.ended + LINGER {
            return true;
        }
        let (from, to) = span(attempt);
        flows.find(local, from, to).is_some_and(|flow| {
            flow.is_over() && self.watermark >= flow.last().max(attempt.ended) + settle(flow)
        })
    }
}

/// Whatever was silent for long before this belongs to nobody who may still ask for it, as seen from
/// `to`: neither to an attempt that waits, nor to one that is still to be handed in.
fn unclaimed(waiting: &VecDeque<Attempt>, told: Stamp, to: Stamp) -> Stamp {
    let opened = waiting.iter().map(|attempt| attempt.opened);
    opened.fold(told.min(to), Stamp::min)
}

/// When the flow of an attempt may have begun. Its SYN may leave long after connect(), behind a
/// neighbour's discovery or a queue; its 4-tuple is ours until the socket is closed.
fn span(attempt: &Attempt) -> (Stamp, Stamp) {
    (attempt.opened - TOLERANCE, attempt.ended + TOLERANCE)
}

/// How long after a flow's last segment another may still come: what was under way, and the reply
/// to it. A client that resets may be sent more than that.
fn settle(flow: &Flow) -> Duration {
    let times = flow.times();
    if times.client_rst.is_some() && times.server_rst.is_none() {
        return LINGER;
    }
    let round_trip = times
        .syn_ack
        .zip(times.syn)
        .map_or(0, |(ack, syn)| ack.since(syn));
    let two_trips = Duration::from_nanos(u64::try_from(round_trip).unwrap_or(0) * 2);
    two_trips.clamp(SETTLE, LINGER)
}

/// Makes the record of one connection but for its cause; `watched` where its packets could be seen.
pub(super) fn record(attempt: &Attempt, flow: Option<&Flow>, watched: bool) -> Record {
    let socket = decide(&socket_facts(attempt));
    let ended_by = |end| (attempt.end == end).then_some(attempt.ended);
    let watch = Watch::Live {
        deadline: ended_by(SocketEnd::Deadline),
        abandoned: ended_by(SocketEnd::Interrupted),
        left: ended_by(SocketEnd::Left),
    };
    let wire = flow.map(|flow| decide(&wire_facts(flow, watch)));
    // The socket wrote, and the wire never showed it.
    let missed_request = flow.is_some_and(|f| f.request_bytes() == 0) && attempt.written > 0;
    // Whose a RST was the wire does not tell.
    let disturbed = attempt.end == SocketEnd::Disturbed;
    // What the wire could not see to its end, the socket still can: it decides there.
    let decision = match wire {
        Some(_) if disturbed => socket,
        Some(wire) if wire.outcome != Outcome::Unfinished && !missed_request => wire,
        Some(_) | None => socket,
    };
    let differs = wire.is_some() && decision.outcome != socket.outcome;
    let flaws = flow.map(Flow::flaws).unwrap_or_default();
    let caveats = Caveats {
        capture_start: flaws.began_inside,
        capture_end: decision.outcome == Outcome::Unfinished && wire.is_some(),
        // Its packets passed, and the wire never showed one.
        hole: flaws.hole || missed_request || (watched && flow.is_none() && attempt.was_answered()),
        snapped: flaws.snapped,
        vantages_differ: differs,
    };
    let mut record = Record {
        cohort: Some(attempt.cohort),
        maker: Some(attempt.maker),
        src: attempt.local,
        socket_outcome: differs.then_some(socket.outcome),
        evidence: Vantages {
            // Our own TCP sees what it does on the wire.
            socket: attempt.maker == Maker::Socket,
            wire: flow.is_some(),
            ..Vantages::default()
        },
        caveats,
        failure: match attempt.end {
            SocketEnd::Failed(failure) => Some(failure),
            SocketEnd::Eof
            | SocketEnd::Deadline
            | SocketEnd::Enough
            | SocketEnd::Left
            | SocketEnd::Disturbed
            | SocketEnd::Interrupted => None,
        },
        http_status: attempt.response.status,
        requests: Some(u32::from(attempt.written > 0)),
        responses: Some(attempt.response.responses),
        request_bytes: Some(attempt.written),
        request_acked: attempt.request_acked(),
        response_bytes: Some(attempt.response.bytes),
        times: socket_times(attempt),
        ..Record::new(attempt.conn, attempt.peer, decision.outcome)
    };
    record.times.end = decision.at;
    if let Some(flow) = flow {
        record.add_wire(flow, Some(attempt.request_len));
    }
    record.curl_exit = curl_exit(&record, attempt);
    record
}

fn socket_times(attempt: &Attempt) -> RecordTimes {
    RecordTimes {
        opened: attempt.opened,
        late_ns: attempt.late_ns(),
        syn_ack: attempt.connected,
        request: attempt.request.filter(|_| attempt.written > 0),
        request_acked: None,
        accepted: None,
        read: None,
        first_byte: attempt.response.first_byte,
        end: None,
    }
}

/// What curl would have exited with: by the outcome, but 7 where connect() itself failed, and 0 for
/// a header block cut by FIN, which curl takes for a whole response.
fn curl_exit(record: &Record, attempt: &Attempt) -> Option<u8> {
    let head_complete = attempt.response.head.is_some();
    match record.outcome {
        Outcome::ResetOnConnect if attempt.failed_in_connect() => Some(7),
        Outcome::Truncated if !head_complete => Some(0),
        outcome => outcome.curl(),
    }
}

pub(super) fn cause_evidence(
    record: &Record,
    attempt: &Attempt,
    flow: Option<&Flow>,
) -> cause::Evidence {
    let by_socket = attempt.info.map(|info| info.total_retransmits > 0);
    let by_wire = record
        .retransmits
        .zip(record.syn_retransmits)
        .map(|(data, syn)| data + syn > 0);
    cause::Evidence {
        rst_kind: record.rst_kind,
        request_taken: match flow {
            Some(flow) => flow.request_taken(),
            None => attempt.request_taken(),
        },
        retransmitted: by_wire.or(by_socket).unwrap_or(true),
        answered: record.response_bytes.is_some_and(|n| n > 0),
        // The wire may have missed it.
        sent: attempt.written.max(record.request_bytes.unwrap_or(0)),
        left: attempt.end == SocketEnd::Left,
        half_open: attempt.end == SocketEnd::Left && attempt.connected.is_none(),
        proof: Proof::default(),
    }
}

#[cfg(test)]
mod tests;
