//! Both directions of one 4-tuple, from one SYN on: what was sent, what was acknowledged, what the
//! bytes were, and when each thing first happened. What that amounts to is
//! [`outcome`](crate::outcome)'s to say.

mod exchange;
mod half;
mod rst;
mod table;
mod zeek;

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::sequence::Sequence;
use crate::time::Stamp;
use crate::wire::{Direction, Ends, Flags, IcmpError, Segment};

pub use exchange::{Exchanges, Protocol};
pub use rst::RstKind;
pub use table::FlowTable;
pub use zeek::{ConnState, Zeek};

use exchange::Request;
use half::{Half, SeenTo};

/// One connection as its segments tell it.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Which of its table's, in the order of their first segments.
    number: u64,
    ends: Ends,
    began: Stamp,
    last: Stamp,
    client: Half,
    server: Half,
    exchanges: Exchanges,
    sequence: Sequence,
    zeek: Zeek,
    times: Times,
    rst_kind: Option<RstKind>,
    client_reset: Option<Reset>,
    server_reset: Option<Reset>,
    flaws: Flaws,
    timestamps: bool,
    kept: Option<Vec<Seen>>,
}

/// A RST that ended the connection, for all that was seen so far. What its numbers tell is believed
/// once nothing more can come.
#[derive(Clone, Copy, Debug)]
struct Reset {
    at: Stamp,
    seq: u32,
    ack: Option<u32>,
    /// It answers the SYN.
    connecting: bool,
    /// It answers nothing that was seen.
    unprovoked: bool,
    /// How much of client and server had been seen by then.
    client: SeenTo,
    server: SeenTo,
}

/// What one flow has allocated and another can use.
#[derive(Default)]
struct Memory {
    sequence: Sequence,
    history: String,
    unanswered: VecDeque<Request>,
}

/// Steps, letters and requests that most flows stay within: the memory that a longer one took is not
/// kept for those after it.
const PASSED_ON: usize = 64;

/// One segment or ICMP error of a flow, kept for the list of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was seen.
    pub at: Stamp,
    /// Who sent it; an ICMP error goes to the client.
    pub direction: Direction,
    /// What it was.
    pub what: SeenWhat,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenWhat {
    /// A TCP segment.
    Segment {
        /// Its flags.
        flags: Flags,
        /// Its sequence number, relative to its sender's initial one.
        rel_seq: u32,
        /// Its acknowledgment, relative to the other side's initial number; none without ACK.
        rel_ack: Option<u32>,
        /// Payload bytes.
        len: u32,
    },
    /// An ICMP error about one of the client's segments.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
}

/// When each thing that can decide an outcome was first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The first SYN.
    pub syn: Option<Stamp>,
    /// The server's SYN-ACK.
    pub syn_ack: Option<Stamp>,
    /// The same or, where that was never seen, what shows that it must have been.
    pub connected: Option<Stamp>,
    /// Everything the client sent so far had been ACKed (the last such moment).
    pub request_acked: Option<Stamp>,
    /// The server's FIN, once all bytes before it were seen.
    pub server_fin: Option<Stamp>,
    /// The server's RST.
    pub server_rst: Option<Stamp>,
    /// The client's FIN.
    pub client_fin: Option<Stamp>,
    /// The client's RST.
    pub client_rst: Option<Stamp>,
    /// An ICMP error that ends a connection attempt.
    pub icmp: Option<Stamp>,
    /// Whether that ICMP error is the kind that reads as a refusal.
    pub icmp_refusal: bool,
}

/// What the vantage could not see of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// The first segment seen was no SYN.
    pub began_inside: bool,
    /// Something must have been that was never seen: bytes, a FIN, a SYN or a SYN-ACK that were
    /// acknowledged, or the segment that a RST answers.
    pub hole: bool,
    /// The SYN-ACK among it, and who knows what of the server's else.
    pub syn_ack_missed: bool,
    /// The RST ended the connection in reply to a segment of the client's that was never seen.
    pub provocation_missed: bool,
    /// Payload was cut where framing depended on it.
    pub snapped: bool,
}

impl Flow {
    /// A flow that begins with `first`, which one of `ends` sent. With `keep`, its segments are
    /// listed one by one too.
    pub fn new(ends: Ends, protocol: Protocol, keep: bool, first: &Segment) -> Flow {
        let mut flow = Flow::before(ends, protocol, keep, first, Memory::default());
        flow.push(first);
        flow
    }

    /// Begins another flow, as [`Flow::new`] does, in the memory that this one took.
    pub fn begin_anew(&mut self, ends: Ends, protocol: Protocol, keep: bool, first: &Segment) {
        let memory = self.take_memory();
        *self = Flow::before(ends, protocol, keep, first, memory);
        self.push(first);
    }

    fn before(ends: Ends, protocol: Protocol, keep: bool, first: &Segment, memory: Memory) -> Flow {
        // RST goes before SYN (RFC 9293 3.10.7): a segment with both begins nothing. Nor does a SYN of
        // the server's, which is the client of another connection then.
        let flags = first.flags;
        let is_syn = flags.syn() && !flags.ack() && !flags.rst();
        let began_inside = !is_syn || first.direction(&ends) != Some(Direction::ToServer);
        Flow {
            number: 0,
            ends,
            began: first.at,
            last: first.at,
            client: Half::default(),
            server: Half::default(),
            exchanges: Exchanges::new(protocol, !began_inside, memory.unanswered),
            sequence: memory.sequence,
            zeek: Zeek::new(memory.history),
            times: Times::default(),
            rst_kind: None,
            client_reset: None,
            server_reset: None,
            flaws: Flaws {
                began_inside,
                // A SYN-ACK answers a SYN.
                hole: first.flags.syn() && first.flags.ack(),
                ..Flaws::default()
            },
            timestamps: false,
            kept: keep.then(Vec::new),
        }
    }

    fn take_memory(&mut self) -> Memory {
        let mut memory = Memory {
            sequence: mem::take(&mut self.sequence),
            history: self.zeek.take_history(),
            unanswered: self.exchanges.take_unanswered(),
        };
        memory.sequence.clear(PASSED_ON);
        memory.history.clear();
        memory.history.shrink_to(PASSED_ON);
        memory.unanswered.clear();
        memory.unanswered.shrink_to(PASSED_ON);
        memory
    }

    /// Takes the next segment. Returns false, and takes nothing, where it belongs to another flow:
    /// other ends, or a SYN that begins a new connection on the same ones.
    pub fn push(&mut self, segment: &Segment) -> bool {
        let Some(direction) = segment.direction(&self.ends) else {
            return false;
        };
        if self.is_begun_anew_by(direction, segment) {
            return false;
        }
        self.last = self.last.max(segment.at);
        self.sequence.push(direction, segment.flags, segment.len);
        self.zeek.push(direction, segment);
        if segment.flags.rst() {
            self.push_rst(direction, segment);
        } else {
            self.push_sync(direction, segment);
            self.miss_syn_ack(direction, segment);
            self.outlive(direction, segment);
            self.push_ack(direction, segment);
            self.push_data(direction, segment);
        }
        match direction {
            Direction::ToServer => self.client.see(segment.at),
            Direction::ToClient => self.server.see(segment.at),
        }
        if self.kept.is_some() {
            self.keep_segment(direction, segment);
        }
        true
    }

    fn keep_segment(&mut self, direction: Direction, segment: &Segment) {
        let (own, peer) = match direction {
            Direction::ToServer => (&self.client, &self.server),
            Direction::ToClient => (&self.server, &self.client),
        };
        let flags = segment.flags;
        let what = SeenWhat::Segment {
            flags,
            rel_seq: segment.seq.wrapping_sub(own.isn().unwrap_or(segment.seq)),
            rel_ack: flags
                .ack()
                .then(|| segment.ack.wrapping_sub(peer.isn().unwrap_or(segment.ack))),
            len: segment.len,
        };
        let at = segment.at;
        self.kept.get_or_insert_default().push(Seen {
            at,
            direction,
            what,
        });
    }

    /// Takes an ICMP error that quotes a segment of the client's.
    pub fn push_icmp(&mut self, error: &IcmpError) {
        // Only while connecting does an ICMP error end anything (RFC 5461 4.1; tcp_v4_err).
        if error.ends_connecting() && self.times.connected.is_none() && self.times.icmp.is_none() {
            self.times.icmp = Some(error.at);
            self.times.icmp_refusal = error.is_refusal();
        }
        self.last = self.last.max(error.at);
        if let Some(kept) = &mut self.kept {
            kept.push(Seen {
                at: error.at,
                direction: Direction::ToClient,
                what: SeenWhat::Icmp {
                    kind: error.kind,
                    code: error.code,
                },
            });
        }
    }

    /// A SYN with another initial sequence number opens a new connection on a 4-tuple used before;
    /// with the same one it is a retransmission (RFC 9293 3.4).
    fn is_begun_anew_by(&self, direction: Direction, segment: &Segment) -> bool {
        segment.flags.syn()
            && !segment.flags.ack()
            && !segment.flags.rst()
            && direction == Direction::ToServer
            && self.client.isn() != Some(segment.seq)
            && (self.client.isn().is_some() || self.flaws.began_inside)
    }

    /// SYN and SYN-ACK fix where each side's bytes begin.
    fn push_sync(&mut self, direction: Direction, segment: &Segment) {
        if !segment.flags.syn() {
            return;
        }
        match direction {
            Direction::ToServer => {
                if self.client.isn() == Some(segment.seq) {
                    self.client.count_syn_again();
                }
                self.client
                    .synchronize(segment.seq, segment.options.window_scale);
                // What answers a SYN opened nothing, whichever side it comes from.
                if !segment.flags.ack() {
                    self.times.syn.get_or_insert(segment.at);
                }
            }
            Direction::ToClient => {
                self.server
                    .synchronize(segment.seq, segment.options.window_scale);
                if segment.flags.ack() {
                    self.times.syn_ack.get_or_insert(segment.at);
                    self.times.connected.get_or_insert(segment.at);
                    self.timestamps = segment.options.timestamps.is_some();
                }
            }
        }
    }

    /// Before a SYN-ACK no client acknowledges anything, and no server sends data or FIN. (A bare ACK
    /// of the server's may be the challenge of an older connection's socket, RFC 5961 4.)
    fn miss_syn_ack(&mut self, direction: Direction, segment: &Segment) {
        if self.times.connected.is_some() || self.flaws.began_inside || segment.flags.syn() {
            return;
        }
        let shows = match direction {
            Direction::ToServer => segment.flags.ack(),
            Direction::ToClient => segment.len > 0 || segment.flags.fin(),
        };
        if shows {
            self.times.connected = Some(segment.at);
            self.timestamps = segment.options.timestamps.is_some();
            self.flaws.hole = true;
            self.flaws.syn_ack_missed = true;
        }
    }

    /// What one side acknowledges, the other had sent: bytes acknowledged and never seen are a hole.
    fn push_ack(&mut self, direction: Direction, segment: &Segment) {
        if !segment.flags.ack() {
            return;
        }
        let was_acked = self.client.all_acked();
        let (own, peer) = match direction {
            Direction::ToServer => (&mut self.client, &mut self.server),
            Direction::ToClient => (&mut self.server, &mut self.client),
        };
        own.window(segment.window, segment.flags.syn());
        let missed = peer.acknowledge(segment.ack);
        if missed > 0 {
            self.flaws.hole = true;
            if !segment.flags.fin() {
                self.zeek.gap(opposite(direction));
            }
            // What it had sent before a RST, or the RST would be outlived.
            let reset = match direction {
                Direction::ToServer => self.server_reset,
                Direction::ToClient => self.client_reset,
            };
            let at = reset.map_or(segment.at, |reset| reset.at);
            self.deliver(opposite(direction), at);
        }
        if direction == Direction::ToClient && !was_acked && self.client.all_acked() {
            self.times.request_acked = Some(segment.at);
        }
    }

    fn push_data(&mut self, direction: Direction, segment: &Segment) {
        let half = match direction {
            Direction::ToServer => &mut self.client,
            Direction::ToClient => &mut self.server,
        };
        let was_acked = half.all_acked();
        half.tell(segment.seq);
        let fresh = half.push(segment);
        if direction == Direction::ToServer {
            if was_acked && !half.all_acked() {
                self.times.request_acked = None;
            }
            // It had ended when it sent this, whatever of its bytes is still to be seen.
            if segment.flags.fin() {
                self.times.client_fin.get_or_insert(segment.at);
            }
        }
        if let Some(fresh) = fresh {
            self.exchanges
                .bytes(direction, segment.at, fresh.bytes, fresh.unseen);
        }
        self.deliver(direction, segment.at);
    }

    /// Hands what is in order now to the reader of its direction.
    fn deliver(&mut self, direction: Direction, at: Stamp) {
        let half = match direction {
            Direction::ToServer => &mut self.client,
            Direction::ToClient => &mut self.server,
        };
        while let Some(chunk) = half.next_in_order(direction == Direction::ToClient) {
            self.exchanges
                .bytes(direction, at, &chunk.bytes, chunk.unseen);
        }
        if half.is_finished() {
            match direction {
                Direction::ToClient if self.times.server_fin.is_none() => {
                    self.times.server_fin = Some(at);
                    self.exchanges.server_finished(at);
                }
                Direction::ToServer | Direction::ToClient => {}
            }
        }
        let flaws = self.flaws;
        if self.exchanges.is_blind() && !flaws.snapped && !flaws.hole && !self.has_gap() {
            self.flaws.snapped = true;
        }
    }

    /// A RST ends the connection when its sequence number is acceptable to its receiver: while
    /// connecting it must acknowledge the SYN, later lie in the window (RFC 9293 3.5.2, 3.5.3).
    fn push_rst(&mut self, direction: Direction, segment: &Segment) {
        let connecting = self.times.connected.is_none() && !self.flaws.began_inside;
        let reset = Reset {
            at: segment.at,
            seq: segment.seq,
            ack: segment.flags.ack().then_some(segment.ack),
            connecting,
            unprovoked: !segment.flags.ack() && self.is_unprovoked(segment.at),
            client: self.client.seen_to(),
            server: self.server.seen_to(),
        };
        match direction {
            Direction::ToServer => {
                if self.client.accepts_reset(segment.seq, &self.server) {
                    self.times.client_rst.get_or_insert(segment.at);
                    // Of several the one that tells most.
                    let known = self
                        .client_reset
                        .filter(|known| segment.seq.wrapping_sub(known.seq).cast_signed() <= 0);
                    self.client_reset = known.or(Some(reset));
                }
            }
            Direction::ToClient => {
                let acceptable = if connecting {
                    segment.flags.ack() && self.client.is_syn_acked_by(segment.ack)
                } else {
                    self.server.accepts_reset(segment.seq, &self.client)
                };
                if acceptable && self.times.server_rst.is_none() {
                    self.times.server_rst = Some(segment.at);
                    self.rst_kind = rst::kind(segment, self.timestamps, connecting);
                    self.server_reset = Some(reset);
                }
            }
        }
    }

    /// What acknowledges something that was sent after a RST shows that the RST ended nothing: it stood
    /// in the window and not where it had to (RFC 5961 3.2), or somebody else had sent it. Nor did an
    /// ICMP error end an attempt that its client goes on with (RFC 1122 4.2.3.9).
    fn outlive(&mut self, direction: Direction, segment: &Segment) {
        if !segment.flags.ack() {
            return;
        }
        if direction == Direction::ToServer {
            self.times.icmp = None;
        }
        let is_outlived = |reset: &Reset| match direction {
            Direction::ToServer => self.server.is_seen_acked(segment.ack, reset.server),
            Direction::ToClient => self.client.is_seen_acked(segment.ack, reset.client),
        };
        if self.client_reset.as_ref().is_some_and(is_outlived) {
            self.client_reset = None;
            self.times.client_rst = None;
        }
        if self.server_reset.as_ref().is_some_and(is_outlived) {
            self.server_reset = None;
            self.times.server_rst = None;
            self.rst_kind = None;
        }
    }

    /// Nothing more will come of it: believes what its resets tell.
    pub fn settle(&mut self) {
        if let Some(reset) = self.client_reset.take() {
            self.client.tell_at_reset(reset.seq);
            self.deliver(Direction::ToServer, reset.at);
        }
        if let Some(reset) = self.server_reset.take() {
            self.tell_by_reset(&reset);
        }
    }

    /// A RST's numbers tell what went before it: its own what the server had sent, its acknowledgment
    /// what had reached the server (RFC 9293 3.10.7).
    fn tell_by_reset(&mut self, reset: &Reset) {
        // What answers the SYN has no number of its own.
        if !reset.connecting {
            self.server.tell_at_reset(reset.seq);
            self.deliver(Direction::ToClient, reset.at);
            if let Some(ack) = reset.ack {
                self.client.tell_at_reset(ack);
                self.deliver(Direction::ToServer, reset.at);
            } else if reset.unprovoked {
                self.flaws.hole = true;
                self.flaws.provocation_missed = true;
            }
        }
    }

    /// A RST without ACK answers a segment, and at once (RFC 9293 3.5.2; `tcp_v4_send_reset`). Where
    /// the client's latest came far longer ago than an answer takes, there was another.
    fn is_unprovoked(&self, at: Stamp) -> bool {
        /// Above any delay but a broken path's; a client that was not answered repeats itself.
        const AT_ONCE: Duration = Duration::from_secs(1);
        let answer = self.times.syn.zip(self.times.syn_ack);
        let round_trip = answer.map_or(0, |(syn, ack)| ack.since(syn).max(0));
        let latest = self.client.last().map(|last| last + AT_ONCE);
        latest.is_some_and(|latest| at.since(latest) > round_trip)
    }

    /// Whether nothing more can belong to it but retransmissions: reset by either side, refused,
    /// or both FINs acknowledged.
    pub fn is_over(&self) -> bool {
        let times = &self.times;
        times.server_rst.is_some()
            || times.client_rst.is_some()
            || times.icmp.is_some()
            || (self.client.is_fin_acked() && self.server.is_fin_acked())
    }

    /// The sequence numbers behind everything that client and server are known to have sent; none of
    /// one that sent nothing.
    pub fn ended_at(&self) -> [Option<u32>; 2] {
        [self.client.end(), self.server.end()]
    }

    /// Its number in the table that it is from, from 0 on.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Client and server.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// When its first segment was seen.
    pub fn began(&self) -> Stamp {
        self.began
    }

    /// When its last segment was seen.
    pub fn last(&self) -> Stamp {
        self.last
    }

    /// When each thing was first seen.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Its requests and responses.
    pub fn exchanges(&self) -> &Exchanges {
        &self.exchanges
    }

    /// Its segments, in order.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Zeek's view of it.
    pub fn zeek(&self) -> &Zeek {
        &self.zeek
    }

    /// How the server's RST came about, by its fingerprint.
    pub fn rst_kind(&self) -> Option<RstKind> {
        self.rst_kind
    }

    /// What could not be seen of it.
    pub fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// Whether the last of what one side is known to have sent was never seen: whether it ended, and
    /// with what, is then unknown.
    pub fn is_end_unseen(&self) -> bool {
        self.flaws.syn_ack_missed || self.client.is_end_unseen() || self.server.is_end_unseen()
    }

    /// Whether anything was never seen that is known to have been sent, acknowledged or not. What
    /// nobody acknowledged may have been lost before it came to where it would have been seen.
    pub fn has_gap(&self) -> bool {
        self.client.has_gap() || self.server.has_gap()
    }

    /// Whether bytes were seen behind others that were neither seen nor acknowledged.
    pub fn has_unfilled_gap(&self) -> bool {
        self.client.has_unfilled_gap() || self.server.has_unfilled_gap()
    }

    /// How many of both sides' sequence numbers were never seen that are known to have been used:
    /// bytes, and one for a FIN.
    pub fn missing(&self) -> u64 {
        self.client.missing() + self.server.missing()
    }

    /// Whether an established connection was left without any end of the client's, which its kernel
    /// would not do: a FIN or a RST must have been.
    pub fn is_left_open(&self) -> bool {
        self.times.connected.is_some()
            && self.times.client_fin.is_none()
            && !self.client.is_fin_acked()
            && !self.is_over()
    }

    /// Takes out its segments, where they were kept.
    pub fn take_kept(&mut self) -> Vec<Seen> {
        self.kept.take().unwrap_or_default()
    }

    /// Payload bytes the client sent, each counted once.
    pub fn request_bytes(&self) -> u64 {
        self.client.bytes()
    }

    /// Payload bytes the server sent, each counted once.
    pub fn response_bytes(&self) -> u64 {
        self.server.bytes()
    }

    /// Whether the server's kernel acknowledged every byte the client sent; none where it sent none.
    pub fn request_acked(&self) -> Option<bool> {
        (self.client.bytes() > 0).then(|| self.client.all_acked())
    }

    /// Whether the server's kernel acknowledged any byte the client sent; none where it sent none.
    pub fn request_taken(&self) -> Option<bool> {
        (self.client.bytes() > 0).then(|| self.client.any_acked())
    }

    /// SYNs the client sent again.
    pub fn syn_retransmits(&self) -> u32 {
        self.client.syns_again()
    }

    /// Segments with data or FIN that the client sent again.
    pub fn retransmits(&self) -> u32 {
        self.client.retransmits()
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::ToServer => Direction::ToClient,
        Direction::ToClient => Direction::ToServer,
    }
}

#[cfg(test)]
pub(crate) mod script;
#[cfg(test)]
mod tests;
