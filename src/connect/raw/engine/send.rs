//! What a connection sends next, and what it does when an answer is waited for in vain.

use std::time::Duration;

use super::connection::{Connection, Marks, NEVER, State};
use super::number::{self, low, millis};
use super::packet::{SackBlocks, SendOptions, Transmit};
use super::{Config, Desk, Event};
use crate::time::Stamp;
use crate::wire::{Flags, Segment};

/// SYNs are sent again after a second each, this often, before the wait doubles: Linux's
/// `tcp_syn_linear_timeouts`.
const SYN_LINEAR: u8 = 4;
/// And so often in all: Linux's `tcp_syn_retries`, beyond the linear ones (`tcp_write_timeout`). The
/// last one goes after 67 s, and 131 s after the first the attempt has failed.
const SYN_RETRIES: u8 = SYN_LINEAR + 6;
/// A SYN-ACK is sent again so often: Linux's `tcp_synack_retries`.
const SYN_ACK_RETRIES: u8 = 5;
/// Anything else: Linux's `tcp_retries2`.
const RETRIES: u8 = 15;
/// Anything else once we closed: Linux's `tcp_orphan_retries`.
const ORPHAN_RETRIES: u8 = 8;
/// The first wait for a SYN's answer (RFC 6298 2.1).
const SYN_WAIT: Duration = Duration::from_secs(1);

impl Connection {
    /// The next segment that is due. None once all is sent that may be.
    pub(super) fn transmit(&mut self, desk: &mut Desk<'_>) -> Option<Transmit> {
        let transmit = match self.state {
            State::Closed | State::HalfOpen => None,
            State::SynSent => self
                .unmark(Marks::SYN_DUE)
                .then(|| self.synchronize(desk, Flags::SYN)),
            State::SynReceived => self
                .unmark(Marks::SYN_DUE)
                .then(|| self.synchronize(desk, Flags::SYN.with(Flags::ACK))),
            _ => self.transmit_synchronized(desk),
        };
        if transmit.is_none() {
            self.unmark(Marks::READY);
        }
        transmit
    }

    fn transmit_synchronized(&mut self, desk: &mut Desk<'_>) -> Option<Transmit> {
        if self.unmark(Marks::HANDSHAKE_DUE) {
            return Some(self.acknowledge(desk, self.next));
        }
        // What was sent goes again though the window has closed over it since, and nothing beyond.
        let window_end = self.unacked + u64::from(self.window);
        if self.unmark(Marks::AGAIN_DUE)
            && self.unacked < self.most
            && let Some(transmit) = self.send_from(desk, self.unacked, self.most.max(window_end))
        {
            return Some(transmit);
        }
        if self.unmark(Marks::PROBE_DUE) {
            return Some(self.probe(desk));
        }
        let limit = u64::from(self.window.min(self.congestion));
        if let Some(transmit) = self.send_from(desk, self.next, self.unacked + limit) {
            return Some(transmit);
        }
        self.wait_for_window(desk);
        (self.acks > 0).then(|| self.acknowledge(desk, self.next))
    }

    /// The segment at `from`, no further than `limit`. A FIN goes whatever the window: it is its own
    /// probe.
    fn send_from(&mut self, desk: &mut Desk<'_>, from: u64, limit: u64) -> Option<Transmit> {
        let options = self.options(desk);
        let most = usize::from(self.mss).saturating_sub(options.size()).max(1) as u64;
        let left = self.written.saturating_sub(from);
        let wanted = left.min(most);
        let len = wanted.min(limit.saturating_sub(from));
        let fin = self.has(Marks::FIN) && from + len == self.written;
        if len == 0 && !(fin && left == 0 && from == self.written) {
            return None;
        }
        // No silly windows: less than a whole segment goes only when it is much of the window (RFC
        // 9293 3.8.6.2.1), or nothing better will come of waiting.
        let again = from < self.most;
        let first_again = again && from == self.unacked;
        let silly = len < wanted && len < u64::from(self.most_window / 2);
        if silly && !first_again && !self.has(Marks::PERSIST) {
            return None;
        }
        let end = from + len;
        let behind = end + u64::from(fin);
        let mut flags = Flags::ACK;
        if fin {
            flags = flags.with(Flags::FIN);
        }
        if len > 0 && end == self.written {
            flags = flags.with(Flags::PSH);
        }
        if again {
            self.retransmits = self.retransmits.saturating_add(1);
            // What was sent twice measures nothing (Karn; RFC 6298 3).
            self.unmark(Marks::TIMED);
        } else {
            self.measure(desk.now, behind);
        }
        self.next = self.next.max(behind);
        self.most = self.most.max(behind);
        if self.due == NEVER || self.unmark(Marks::PERSIST) {
            self.arm(desk, self.timeout());
        }
        let mut transmit = self.acknowledge(desk, from);
        transmit.flags = flags;
        transmit.payload = from..end;
        self.acks = 0;
        Some(transmit)
    }

    /// A closed window is asked after, should nothing else come (RFC 9293 3.8.6.1).
    fn wait_for_window(&mut self, desk: &mut Desk<'_>) {
        let idle = self.unacked == self.next && self.due == NEVER;
        if idle && self.written > self.next {
            self.arm(desk, self.timeout());
            self.mark(Marks::PERSIST);
        }
    }

    /// What fits of the data if anything does; else a segment that the server must answer, as Linux's
    /// is (`tcp_xmit_probe_skb`): no data, at a number that it has.
    fn probe(&mut self, desk: &mut Desk<'_>) -> Transmit {
        self.mark(Marks::PERSIST);
        let sent = self.send_from(desk, self.next, self.unacked + u64::from(self.window));
        sent.unwrap_or_else(|| {
            let mut transmit = self.acknowledge(desk, self.unacked);
            transmit.seq = transmit.seq.wrapping_sub(1);
            transmit
        })
    }

    /// An acknowledgment, at an offset of ours.
    fn acknowledge(&mut self, desk: &Desk<'_>, from: u64) -> Transmit {
        self.acks = self.acks.saturating_sub(1);
        self.acked_to = self.expected;
        let options = self.options(desk);
        // A FIN is no byte of what was written.
        let at = from.min(self.written);
        Transmit {
            seq: self.seq(from),
            ack: self.expected,
            flags: Flags::ACK,
            window: self.offered(desk.config),
            options,
            payload: at..at,
            ..self.frame(desk)
        }
    }

    fn synchronize(&mut self, desk: &mut Desk<'_>, flags: Flags) -> Transmit {
        let both = flags.ack();
        if self.waits == 0 {
            self.measure(desk.now, 0);
        } else {
            self.retransmits = self.retransmits.saturating_add(1);
            self.mark(Marks::SYN_AGAIN);
            self.unmark(Marks::TIMED);
        }
        // Five waits of a second each, then twice as long each time.
        let doubled = u32::from(self.waits.saturating_sub(SYN_LINEAR));
        self.arm(desk, SYN_WAIT * (1 << doubled.min(16)));
        let value = self.timestamp(desk.now);
        let echo = if both { self.recent } else { 0 };
        let stamps = !both || self.has(Marks::TIMESTAMPS);
        self.acks = 0;
        Transmit {
            seq: self.first,
            ack: if both { self.expected } else { 0 },
            flags,
            window: offered_in_syn(desk.config),
            options: SendOptions {
                mss: Some(desk.config.mss),
                sack_permitted: !both || self.has(Marks::SACK),
                timestamps: stamps.then_some((value, echo)),
                window_scale: (!both || self.has(Marks::SCALED))
                    .then_some(desk.config.window_scale),
                ..SendOptions::default()
            },
            ..self.frame(desk)
        }
    }

    /// What every segment has of its connection. Each has the next identification.
    fn frame(&mut self, desk: &Desk<'_>) -> Transmit {
        let ip_id = self.ip_id;
        self.ip_id = ip_id.wrapping_add(1);
        Transmit {
            id: Some(desk.id),
            client: desk.client,
            server: desk.config.server,
            seq: 0,
            ack: 0,
            flags: Flags::default(),
            window: 0,
            options: SendOptions::default(),
            ip_id,
            flow_label: number::flow_label(self.timestamp_offset, self.place().port()),
            payload: 0..0,
        }
    }

    /// The window field behind the handshake: rounded up, as Linux does (`__tcp_select_window`).
    fn offered(&self, config: &Config) -> u16 {
        let shift = if self.has(Marks::SCALED) {
            config.window_scale
        } else {
            0
        };
        u16::try_from(config.receive_buffer.div_ceil(1 << shift)).unwrap_or(u16::MAX)
    }

    fn options(&self, desk: &Desk<'_>) -> SendOptions {
        let mut options = SendOptions::default();
        if self.has(Marks::TIMESTAMPS) {
            options.timestamps = Some((self.timestamp(desk.now), self.recent));
        }
        if let Some(kept) = &self.kept
            && self.has(Marks::SACK)
        {
            options.sack = kept.blocks(self.received, self.expected);
        }
        options
    }

    pub(super) fn timestamp(&self, now: Stamp) -> u32 {
        millis(now).wrapping_add(self.timestamp_offset)
    }

    /// The timers' entry of `at` came up.
    pub(super) fn expire(&mut self, desk: &mut Desk<'_>, at: Stamp) {
        if at != self.armed {
            return;
        }
        self.armed = NEVER;
        if self.due == NEVER {
            return;
        }
        if self.due > desk.now {
            // It was put off in the meantime.
            let span = self.due.since(desk.now);
            self.arm(desk, Duration::from_nanos(span.unsigned_abs()));
            return;
        }
        self.due = NEVER;
        match self.state {
            State::TimeWait => self.state = State::Closed,
            State::FinWait2 if self.has(Marks::DEAF) => self.state = State::Closed,
            _ => self.wait_again(desk),
        }
    }

    fn wait_again(&mut self, desk: &mut Desk<'_>) {
        let limit = match self.state {
            State::SynSent => SYN_RETRIES,
            State::SynReceived => SYN_ACK_RETRIES,
            _ if self.has(Marks::DEAF) => ORPHAN_RETRIES,
            _ => RETRIES,
        };
        if self.waits >= limit {
            self.end(desk, Event::TimedOut);
            return;
        }
        self.waits += 1;
        self.ready(desk);
        if matches!(self.state, State::SynSent | State::SynReceived) {
            self.mark(Marks::SYN_DUE);
            return;
        }
        self.backoff = self.backoff.saturating_add(1);
        if self.unmark(Marks::PERSIST) {
            self.mark(Marks::PROBE_DUE);
            self.arm(desk, self.timeout());
            self.mark(Marks::PERSIST);
            return;
        }
        // RFC 5681 3.1: half of what was in flight, and from one segment on. All that was sent goes
        // again, as far as that is not acknowledged meanwhile.
        let flight = low(self.most - self.unacked);
        if self.waits == 1 {
            self.threshold = (flight / 2).max(2 * u32::from(self.mss));
        }
        self.congestion = u32::from(self.mss);
        self.recover = low(self.most);
        self.unmark(Marks::RECOVERY);
        self.repeats = 0;
        self.next = self.unacked;
        self.mark(Marks::AGAIN_DUE);
    }
}

/// The window field of a SYN, which is not scaled (RFC 7323 2.2): whole segments, as
/// `tcp_select_initial_window` has it.
fn offered_in_syn(config: &Config) -> u16 {
    let most = u16::try_from(config.receive_buffer).unwrap_or(u16::MAX);
    match most / config.mss.max(1) {
        0 => most,
        segments => segments * config.mss,
    }
}

/// The RST with which a connection ends at once.
pub(super) fn abort(connection: &mut Connection, desk: &Desk<'_>) -> Transmit {
    if connection.state == State::HalfOpen {
        return Transmit {
            seq: connection.seq(0),
            flags: Flags::RST,
            ip_id: 0,
            ..connection.frame(desk)
        };
    }
    let mut transmit = connection.acknowledge(desk, connection.most);
    transmit.flags = Flags::RST.with(Flags::ACK);
    transmit.options.sack = SackBlocks::default();
    transmit
}

/// The RST that answers a segment which no connection takes, none if that is a RST itself (RFC 9293
/// 3.10.7.1, `tcp_v4_send_reset`).
pub(super) fn reply_to_stray(segment: &Segment<'_>) -> Option<Transmit> {
    if segment.flags.rst() {
        return None;
    }
    let (seq, ack, flags) = if segment.flags.ack() {
        (segment.ack, 0, Flags::RST)
    } else {
        let ack = segment.seq.wrapping_add(segment.space());
        (0, ack, Flags::RST.with(Flags::ACK))
    };
    Some(Transmit {
        id: None,
        client: segment.dst,
        server: segment.src,
        seq,
        ack,
        flags,
        window: 0,
        options: SendOptions::default(),
        ip_id: 0,
        flow_label: 0,
        payload: 0..0,
    })
}
