//! Records of other people's connections: each flow of a capture is one as soon as nothing more is to
//! be expected of it. Which end of a flow is the server is found out here; what happened is left to
//! [`outcome`](crate::outcome).

mod finished;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use self::finished::Finished;
use super::account::{RunAccount, to_socket};
use super::{Caveats, Record, Steps, Vantages, join};
use foldhash::fast::RandomState;

use crate::cause::{self, Proof};
use crate::flow::{Flow, Protocol};
use crate::kernel::Sides;
use crate::outcome::{Attempt, Outcome, Watch, decide, wire_facts};
use crate::time::Stamp;
use crate::wire::{Ends, IcmpError, Packet, Segment};

/// How long after the last segment of a flow that is over another may still come.
const SETTLE: Duration = Duration::from_secs(1);
/// The same in a run's own capture, which says of each flow which segment is its last: time alone is
/// only to tell where that was lost. Longer than any SYN waits for its repetition.
const SETTLE_OF_RUN: Duration = Duration::from_secs(60);
/// How often flows are looked through for those that are over.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Which end of a flow is the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerSide {
    /// The one with this port.
    Port(u16),
    /// This one.
    Address(SocketAddr),
    /// The one that a SYN went to, or that others sent SYNs to.
    FromSyns,
}

/// A capture being read: segments in, records out.
#[derive(Debug)]
pub struct Reading {
    side: ServerSide,
    /// Whose capture it is, where it is a run's own.
    run: Option<RunAccount>,
    keep_steps: bool,
    protocol: Protocol,
    open: HashMap<Key, Ended, RandomState>,
    /// Where SYNs went to, and how many connections.
    servers: BTreeMap<SocketAddr, u64>,
    ready: VecDeque<Ended>,
    /// Flows whose records were made: those that begin take their places.
    spare: Vec<Ended>,
    conns: u64,
    /// Segments of flows whose server is not known.
    unplaced: u64,
    finished: Finished,
    /// Segments of flows that had ended.
    late: u64,
    /// Where the last SYN went that did not go to a server that was asked for.
    elsewhere: Option<SocketAddr>,
    /// Times of the first and the last segment.
    span: Option<(Stamp, Stamp)>,
    looked: Stamp,
}

/// Where a segment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The connection's number, in the order in which they began; nothing where the connection was
    /// over long before.
    pub conn: Option<u64>,
    /// Its ends.
    pub ends: Ends,
}

/// A flow of which nothing more is expected.
#[derive(Debug)]
pub struct Ended {
    conn: u64,
    /// Whether its 4-tuple was used again.
    superseded: bool,
    flow: Box<Flow>,
    /// When its last segment came, once it is over: known without looking into the flow itself,
    /// which is far away in memory by the time the question comes up.
    over: Option<Stamp>,
    /// What its socket did and the server's kernel showed, where that is known.
    told: Option<Box<(Attempt, Sides)>>,
    /// Whether its run asked nothing.
    asked_nothing: bool,
}

/// By what a flow is found: its ends as plain numbers, which are hashed and compared in a few steps.
/// That is done for each segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    addresses: [u128; 2],
    /// The ports, and which of the addresses are IPv6: an IPv4 address that such a one embeds is
    /// another end.
    rest: u64,
}

impl Key {
    fn of(ends: &Ends) -> Key {
        let (client, server) = (number(ends.client.ip()), number(ends.server.ip()));
        let ports = u64::from(ends.client.port()) << 16 | u64::from(ends.server.port());
        let families = u64::from(ends.client.is_ipv6()) << 1 | u64::from(ends.server.is_ipv6());
        Key {
            addresses: [client, server],
            rest: families << 32 | ports,
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Reading {
    /// Nothing read yet. With `keep_steps` each record lists its segments.
    pub fn new(side: ServerSide, keep_steps: bool) -> Reading {
        Reading {
            side,
            run: None,
            keep_steps,
            protocol: Protocol::Http,
            open: HashMap::default(),
            servers: BTreeMap::new(),
            ready: VecDeque::new(),
            spare: Vec::new(),
            conns: 0,
            unplaced: 0,
            finished: Finished::default(),
            late: 0,
            elsewhere: None,
            span: None,
            looked: Stamp(i64::MIN),
        }
    }

    /// What follows is a run's own capture, or anybody's.
    pub fn begin_section(&mut self, run: Option<RunAccount>) {
        if self.run.is_some() {
            // A run's own capture holds its connections whole.
            self.finish();
        }
        // Connections whose account was lost get numbers that no other has.
        let numbered = run.as_ref().map_or(0, |run| run.connections);
        self.conns = self.conns.max(numbered);
        self.run = run;
    }

    /// The packet taken last was the last of its connection, in a run's own capture, and `account`
    /// says what the socket did. What cannot be understood is left out.
    pub fn account(&mut self, packet: &Packet, account: &str) {
        let Some(run) = &self.run else {
            return;
        };
        let (server, asked_nothing) = (run.server, run.asked_nothing);
        let (client, at) = match packet {
            Packet::Segment(segment) if segment.dst == server => (segment.src, segment.at),
            Packet::Segment(segment) => (segment.dst, segment.at),
            Packet::IcmpError(error) => (error.src, error.at),
            Packet::Fragment | Packet::Other => return,
        };
        let ends = Ends { client, server };
        let Some(told) = to_socket(account, ends, at) else {
            return;
        };
        if let Some(open) = self.open.remove(&Key::of(&ends)) {
            self.ready.push_back(Ended {
                told: Some(Box::new(told)),
                asked_nothing,
                ..open
            });
        }
    }

    /// What connections carry whose run does not say so itself.
    pub fn carrying(self, protocol: Protocol) -> Reading {
        Reading { protocol, ..self }
    }

    /// That address is a server's: what passes to and from it is told apart without a SYN too.
    pub fn expect_server(&mut self, server: SocketAddr) {
        self.servers.entry(server).or_default();
    }

    /// Takes the next segment; returns whose it is, if that can be told.
    pub fn segment(&mut self, segment: &Segment) -> Option<Placed> {
        let (first, last) = self.span.unwrap_or((segment.at, segment.at));
        self.span = Some((first.min(segment.at), last.max(segment.at)));
        let ends = self.ends(segment)?;
        let taken = self.open.get_mut(&Key::of(&ends)).and_then(|open| {
            let taken = open.push(segment);
            taken.then_some(open.conn)
        });
        let conn = match taken {
            Some(conn) => Some(conn),
            // It is not open, or this is its next SYN.
            None if self.finished.holds(&ends, segment) => {
                self.late += 1;
                None
            }
            None => Some(self.begin(ends, segment)),
        };
        self.look(segment.at);
        Some(Placed { conn, ends })
    }

    /// Takes an ICMP error about a segment of a client's.
    pub fn icmp(&mut self, error: &IcmpError) {
        let ends = Ends {
            client: error.src,
            server: error.dst,
        };
        if let Some(open) = self.open.get_mut(&Key::of(&ends)) {
            open.push_icmp(error);
        }
    }

    /// So much of the capture's time has passed, without another segment.
    pub fn pass(&mut self, now: Stamp) {
        self.look(now);
    }

    /// The capture has come to its end: what is open stays so.
    pub fn finish(&mut self) {
        let all = self.open.drain().map(|(_, open)| open).collect();
        self.complete(all);
    }

    /// The next flow that has ended; of those that were found over together, in the order in which
    /// they did.
    pub fn next_ended(&mut self) -> Option<Ended> {
        let mut ended = self.ready.pop_front()?;
        ended.flow.settle();
        Some(ended)
    }

    /// Takes back a flow whose record was made, for the memory that it took.
    pub fn reuse(&mut self, ended: Ended) {
        self.spare.push(ended);
    }

    /// The servers, and how many connections each had.
    pub fn servers(&self) -> &BTreeMap<SocketAddr, u64> {
        &self.servers
    }

    /// Segments of which nobody knows which end was the server: no SYN was seen.
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// Segments that came when their connection had been over for a while.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// A server that SYNs went to and that is not the one asked for.
    pub fn elsewhere(&self) -> Option<SocketAddr> {
        self.elsewhere
    }

    /// Times of the first and the last segment.
    pub fn span(&self) -> Option<(Stamp, Stamp)> {
        self.span
    }

    fn ends(&mut self, segment: &Segment) -> Option<Ends> {
        let between = |client, server| Ends { client, server };
        let (src, dst) = (segment.src, segment.dst);
        let of_run = self.run.as_ref().map(|run| run.server);
        let wanted = |server: &SocketAddr| match &self.side {
            ServerSide::Port(port) => server.port() == *port,
            ServerSide::Address(address) => server == address,
            ServerSide::FromSyns => of_run.is_none_or(|of_run| *server == of_run),
        };
        match (wanted(&segment.dst), wanted(&segment.src)) {
            (true, false) => Some(between(src, dst)),
            (false, true) => Some(between(dst, src)),
            (false, false) => {
                if segment.flags.syn() && !segment.flags.ack() {
                    self.elsewhere = Some(segment.dst);
                }
                None
            }
            (true, true) => {
                let found = self.by_syn(segment, between(src, dst), between(dst, src));
                self.unplaced += u64::from(found.is_none());
                found
            }
        }
    }

    /// Which end the server is, by this SYN or an earlier one.
    fn by_syn(&self, segment: &Segment, to_dst: Ends, to_src: Ends) -> Option<Ends> {
        match (segment.flags.syn(), segment.flags.ack()) {
            (true, false) => return Some(to_dst),
            (true, true) => return Some(to_src),
            (false, _) => {}
        }
        let known = |ends: &Ends| self.open.contains_key(&Key::of(ends));
        let serves = |ends: &Ends| self.servers.contains_key(&ends.server);
        let both = [to_dst, to_src];
        let only = |test: &dyn Fn(&Ends) -> bool| match both.map(|ends| test(&ends)) {
            [true, false] => Some(to_dst),
            [false, true] => Some(to_src),
            [true, true] | [false, false] => None,
        };
        only(&known).or_else(|| only(&serves))
    }

    fn begin(&mut self, ends: Ends, first: &Segment) -> u64 {
        self.conns = self.conns.saturating_add(1);
        *self.servers.entry(ends.server).or_default() += 1;
        let protocol = self.run.as_ref().map_or(self.protocol, |run| run.protocol);
        let keep = self.keep_steps;
        let flow = match self.spare.pop() {
            Some(Ended { mut flow, .. }) => {
                flow.begin_anew(ends, protocol, keep, first);
                flow
            }
            None => Box::new(Flow::new(ends, protocol, keep, first)),
        };
        let open = Ended::new(self.conns, flow);
        // The 4-tuple is used again: whatever it was used for before has ended, seen or not.
        if let Some(mut before) = self.open.insert(Key::of(&ends), open) {
            before.superseded = true;
            self.complete(vec![before]);
        }
        self.conns
    }

    /// Every now and then makes records of the flows that are over.
    fn look(&mut self, now: Stamp) {
        if now < self.looked + LOOK_EVERY {
            return;
        }
        self.looked = now;
        let settle = match self.run {
            Some(_) => SETTLE_OF_RUN,
            None => SETTLE,
        };
        let is_over =
            |_: &Key, open: &mut Ended| open.over.is_some_and(|last| now >= last + settle);
        let over = self.open.extract_if(is_over).map(|(_, open)| open);
        let over: Vec<Ended> = over.collect();
        for open in &over {
            self.finished.remember(&open.flow, now);
        }
        self.complete(over);
    }

    fn complete(&mut self, mut flows: Vec<Ended>) {
        flows.sort_by_key(|open| (open.over.unwrap_or_else(|| open.flow.last()), open.conn));
        self.ready.extend(flows);
    }
}

impl Ended {
    /// The connection's number, in the order in which they began.
    pub fn conn(&self) -> u64 {
        self.conn
    }

    /// What its packets tell.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    fn new(conn: u64, flow: Box<Flow>) -> Ended {
        let over = flow.is_over().then(|| flow.last());
        Ended {
            conn,
            superseded: false,
            flow,
            over,
            told: None,
            asked_nothing: false,
        }
    }

    /// As [`Flow::push`].
    fn push(&mut self, segment: &Segment) -> bool {
        let taken = self.flow.push(segment);
        self.over = self.flow.is_over().then(|| self.flow.last());
        taken
    }

    fn push_icmp(&mut self, error: &IcmpError) {
        self.flow.push_icmp(error);
        self.over = self.flow.is_over().then(|| self.flow.last());
    }

    /// Makes its record. What was seen step by step goes with it.
    pub fn record(&mut self) -> Record {
        let mut record = match self.told.take() {
            Some(told) => of_run(*told, &mut self.flow),
            None => of_capture(self.conn, self.superseded, &mut self.flow),
        };
        if self.asked_nothing {
            record.ask_nothing();
        }
        record
    }
}

/// A connection of a run that recorded it, socket and wire together.
fn of_run((attempt, sides): (Attempt, Sides), flow: &mut Flow) -> Record {
    let mut record = join::record(&attempt, Some(flow), true);
    let evidence = join::cause_evidence(&record, &attempt, Some(flow));
    record.find_cause(evidence, &sides);
    let seen = flow.take_kept();
    if !seen.is_empty() {
        record.steps = Some(Box::new(Steps {
            attempt: Some(attempt),
            seen,
            flow: None,
            sides,
            events: Vec::new(),
        }));
    }
    record
}

/// Somebody's connection, which the wire alone tells of; `superseded` where its 4-tuple was used again.
fn of_capture(conn: u64, superseded: bool, flow: &mut Flow) -> Record {
    let decision = decide(&wire_facts(flow, Watch::Capture));
    let (ends, flaws) = (flow.ends(), flow.flaws());
    let end_missed = superseded && flow.is_left_open();
    let mut record = Record {
        src: Some(ends.client),
        evidence: Vantages {
            wire: true,
            ..Vantages::default()
        },
        caveats: Caveats {
            capture_start: flaws.began_inside,
            capture_end: !flow.is_over() && !end_missed,
            hole: flaws.hole || flow.has_gap() || end_missed,
            snapped: flaws.snapped,
            vantages_differ: false,
        },
        ..Record::new(conn, ends.server, decision.outcome)
    };
    record.missing = Some(flow.missing());
    record.times.opened = flow.began();
    record.times.end = decision.at;
    record.add_wire(flow, None);
    record.http_status = flow.exchanges().status();
    record.curl_exit = match record.outcome {
        // curl takes a header block that a FIN cuts for a whole response.
        Outcome::Truncated if flow.exchanges().status().is_none() => Some(0),
        outcome => outcome.curl(),
    };
    record.find_cause(evidence(&record, flow), &Sides::default());
    let seen = flow.take_kept();
    if !seen.is_empty() {
        record.steps = Some(Box::new(Steps {
            attempt: None,
            seen,
            flow: None,
            sides: Sides::default(),
            events: Vec::new(),
        }));
    }
    record
}

fn evidence(record: &Record, flow: &Flow) -> cause::Evidence {
    cause::Evidence {
        rst_kind: record.rst_kind,
        request_taken: flow.request_taken(),
        retransmitted: flow.retransmits() + flow.syn_retransmits() > 0,
        answered: flow.response_bytes() > 0,
        sent: flow.request_bytes(),
        left: false,
        half_open: false,
        proof: Proof::default(),
    }
}

#[cfg(test)]
mod tests;
