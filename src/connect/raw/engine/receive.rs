//! What an arriving segment does to a connection: RFC 9293 3.10.7 in its order, with RFC 7323's check of
//! timestamps, RFC 5961's answers to what an attacker may have sent, and RFC 5681's reaction to loss.

use std::time::Duration;

use super::connection::{Connection, FIN_WAIT, Marks, State};
use super::number::{distance, is_before, low, micros, millis};
use super::send::reply_to_stray;
use super::{Chunk, Desk, Event, Id};
use crate::wire::{IcmpError, Segment};

/// A SYN that met what was left of an earlier connection goes again after this long: two ticks of a
/// kernel with 250 a second, Linux's `TCP_TIMEOUT_MIN`.
const SYN_AGAIN_SOON: Duration = Duration::from_millis(8);

/// Whom payload goes to.
type Deliver<'a> = &'a mut dyn FnMut(Id, Chunk<'_>);

/// Answers to segments without data that do not fit are this far apart, in milliseconds, so that two
/// ends that disagree do not answer each other for ever: Linux's `tcp_invalid_ratelimit`.
const HOLD_MS: u32 = 500;
/// A timestamp older than this says nothing about a later one: 24 days (RFC 7323 5.5).
const RECENT_MS: u32 = 24 * 24 * 3_600_000;
/// This many acknowledgments that say nothing new tell of a loss (RFC 5681 3.2).
const REPEATS: u8 = 3;
/// Segments out of order are acknowledged one by one, so that the sender counts them, but no more in a
/// row than tell it of a loss.
const MAX_ACKS: u8 = REPEATS + 1;

impl Connection {
    pub(super) fn receive(
        &mut self,
        desk: &mut Desk<'_>,
        segment: &Segment<'_>,
        deliver: Deliver<'_>,
    ) {
        match self.state {
            State::Closed => {}
            State::SynSent => self.receive_in_syn_sent(desk, segment),
            State::HalfOpen => {
                // Nothing but its end concerns one that answers nothing.
                if segment.flags.rst() && segment.seq == self.expected {
                    self.end(desk, Event::Reset { from: self.state });
                }
            }
            _ => self.receive_synchronized(desk, segment, deliver),
        }
    }

    /// RFC 9293 3.10.7.3.
    fn receive_in_syn_sent(&mut self, desk: &mut Desk<'_>, segment: &Segment<'_>) {
        let flags = segment.flags;
        let fits = segment.ack == self.seq(0);
        match (flags.ack(), flags.rst(), flags.syn()) {
            // Of an earlier connection, or a guess. A RST draws none.
            (true, _, _) if !fits => {
                desk.loose.extend(reply_to_stray(segment));
                // What the server had left of an earlier one is gone with that RST, and our SYN with
                // the answer. It goes again at once, but only once (tcp_rcv_synsent_state_process).
                if !flags.rst() && self.waits == 0 && self.due > desk.now + SYN_AGAIN_SOON {
                    self.arm(desk, SYN_AGAIN_SOON);
                }
            }
            (true, true, _) => self.end(desk, Event::Reset { from: self.state }),
            // Without an acknowledgment it proves nothing.
            (false, true, _) => {}
            (true, false, true) => {
                self.take_syn(desk, segment);
                self.set_window(segment, 0);
                if self.unmark(Marks::HALF_OPEN) {
                    self.state = State::HalfOpen;
                } else {
                    self.establish(desk);
                    self.mark(Marks::HANDSHAKE_DUE);
                    self.acks = 1;
                    self.ready(desk);
                }
                desk.say(Event::Connected);
            }
            // A SYN-ACK would acknowledge it.
            (false, false, true) if self.has(Marks::HALF_OPEN) => {}
            // Both ends opened at once: figure 7 of RFC 9293 3.5.
            (false, false, true) => {
                self.take_syn(desk, segment);
                self.state = State::SynReceived;
                self.waits = 0;
                self.mark(Marks::SYN_DUE);
                self.ready(desk);
            }
            (_, false, false) => {}
        }
    }

    /// What a SYN says. Data in it are left to come again: we asked for none (RFC 7413).
    fn take_syn(&mut self, desk: &mut Desk<'_>, segment: &Segment<'_>) {
        self.expected = segment.seq.wrapping_add(1);
        self.acked_to = self.expected;
        self.learn(desk.config, &segment.options, desk.now);
        if segment.flags.ack() {
            self.take_sample(desk, segment, 0);
        }
        self.disarm();
        self.waits = 0;
    }

    fn establish(&mut self, desk: &mut Desk<'_>) {
        self.state = if self.has(Marks::FIN) {
            State::FinWait1
        } else {
            State::Established
        };
        self.waits = 0;
        self.disarm();
        self.ready(desk);
    }

    /// RFC 9293 3.10.7.4.
    fn receive_synchronized(
        &mut self,
        desk: &mut Desk<'_>,
        segment: &Segment<'_>,
        deliver: Deliver<'_>,
    ) {
        let flags = segment.flags;
        if self.state == State::SynReceived && self.is_crossed(segment) {
            self.take_ack(desk, segment);
            self.remember_timestamp(desk, segment);
            return self.owe(desk);
        }
        let ahead = distance(self.expected, segment.seq);
        let space = segment.space();
        let window = desk.config.receive_buffer;
        // RFC 7323 5.3, R1: of an earlier turn of the numbers. A RST stands for itself.
        if !flags.rst() && self.is_outdated(desk, segment) {
            return self.challenge(desk, segment);
        }
        // First, the sequence number. What reaches beyond the window is cut off below.
        let reaches = i64::from(ahead) + i64::from(space);
        let fits = i64::from(ahead) <= i64::from(window)
            && (if space == 0 {
                reaches >= 0
            } else {
                reaches > 0
            });
        if !fits {
            if !flags.rst() {
                self.challenge(desk, segment);
            }
            return;
        }
        // Second, RST: exactly the number expected, else a guess (RFC 5961 3.2).
        if flags.rst() {
            return match (ahead, self.state) {
                (0, State::TimeWait) => self.state = State::Closed,
                (0, from) => self.end(desk, Event::Reset { from }),
                _ => self.challenge(desk, segment),
            };
        }
        // Fourth, SYN: whoever sent it is asked, never believed (RFC 5961 4.2).
        if flags.syn() {
            return self.challenge(desk, segment);
        }
        // Fifth, ACK.
        if !flags.ack() || !self.take_ack(desk, segment) {
            return;
        }
        self.remember_timestamp(desk, segment);
        // Seventh, data; eighth, FIN.
        let has_news = segment.len > 0 || flags.fin();
        if !has_news || self.state == State::Closed {
            return;
        }
        if self.state.receives() {
            self.take_data(desk, segment, ahead, deliver);
        } else {
            self.owe(desk);
        }
    }

    /// Whether that is the SYN-ACK of a server that opened when we did (RFC 9293 3.5, figure 7): its SYN
    /// is known, and by its number alone it would not fit.
    fn is_crossed(&self, segment: &Segment<'_>) -> bool {
        segment.flags.syn()
            && segment.flags.ack()
            && !segment.flags.rst()
            && segment.seq.wrapping_add(1) == self.expected
            && segment.ack == self.seq(0)
    }

    fn is_outdated(&self, desk: &Desk<'_>, segment: &Segment<'_>) -> bool {
        self.has(Marks::TIMESTAMPS)
            && segment.options.timestamps.is_some_and(|(value, _)| {
                is_before(value, self.recent)
                    && millis(desk.now).wrapping_sub(self.recent_at) < RECENT_MS
            })
    }

    /// RFC 7323 4.3: from a segment that covers what was acknowledged last.
    fn remember_timestamp(&mut self, desk: &Desk<'_>, segment: &Segment<'_>) {
        if let Some((value, _)) = segment.options.timestamps
            && self.has(Marks::TIMESTAMPS)
            && !is_before(value, self.recent)
            && !is_before(self.acked_to, segment.seq)
        {
            self.recent = value;
            self.recent_at = millis(desk.now);
        }
    }

    /// Owes an acknowledgment.
    fn owe(&mut self, desk: &mut Desk<'_>) {
        self.acks = self.acks.max(1);
        self.ready(desk);
    }

    /// Answers a segment that does not fit with where we are; not too often, unless it has data or a FIN
    /// (`tcp_oow_rate_limited`).
    fn challenge(&mut self, desk: &mut Desk<'_>, segment: &Segment<'_>) {
        let now = millis(desk.now);
        if segment.space() == 0 || segment.flags.syn() || segment.flags.rst() {
            if self.has(Marks::CHALLENGED) && now.wrapping_sub(self.held_at) < HOLD_MS {
                return;
            }
            self.mark(Marks::CHALLENGED);
            self.held_at = now;
        }
        self.owe(desk);
    }

    /// What a segment acknowledges; false where it is to be dropped.
    fn take_ack(&mut self, desk: &mut Desk<'_>, segment: &Segment<'_>) -> bool {
        if self.state == State::SynReceived {
            if segment.ack != self.seq(0) {
                desk.loose.extend(reply_to_stray(segment));
                return false;
            }
            let shift = if segment.flags.syn() {
                0
            } else {
                self.window_shift
            };
            self.set_window(segment, shift);
            self.take_sample(desk, segment, 0);
            self.establish(desk);
            desk.say(Event::Connected);
            return true;
        }
        let ahead = distance(self.seq(self.unacked), segment.ack);
        let in_flight = self.most - self.unacked;
        // RFC 5961 5.2: neither of what was never sent nor of what was acknowledged long ago.
        let new = u64::try_from(ahead).unwrap_or(0);
        if new > in_flight || i64::from(ahead) < -i64::from(self.most_window) {
            self.challenge(desk, segment);
            return false;
        }
        if ahead > 0 {
            self.advance(desk, segment, new);
        } else if ahead == 0 {
            self.count_repeat(desk, segment);
        }
        if ahead >= 0 {
            self.update_window(desk, segment);
        }
        true
    }

    fn advance(&mut self, desk: &mut Desk<'_>, segment: &Segment<'_>, new: u64) {
        self.unacked += new;
        self.next = self.next.max(self.unacked);
        self.waits = 0;
        self.backoff = 0;
        self.unmark(Marks::AGAIN_DUE);
        self.take_sample(desk, segment, self.unacked);
        self.adapt(desk, new);
        if self.unacked < self.most {
            self.unmark(Marks::PERSIST);
            self.arm(desk, self.timeout());
        } else {
            self.disarm();
        }
        if self.has(Marks::FIN) && self.unacked > self.written {
            self.take_ack_of_fin(desk);
        }
        self.ready(desk);
    }

    fn take_ack_of_fin(&mut self, desk: &mut Desk<'_>) {
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                if self.has(Marks::DEAF) {
                    self.arm(desk, FIN_WAIT);
                }
            }
            State::Closing => self.enter_time_wait(desk),
            State::LastAck => self.state = State::Closed,
            _ => {}
        }
    }

    /// A round trip measured, by our own clock where nothing was sent twice, else by the timestamp that
    /// comes back (RFC 7323 4.1).
    fn take_sample(&mut self, desk: &Desk<'_>, segment: &Segment<'_>, acked: u64) {
        if self.has(Marks::TIMED) {
            if !is_before(low(acked), self.timed_to) {
                self.unmark(Marks::TIMED);
                let span = micros(desk.now).wrapping_sub(self.timed_at);
                self.estimate.take(span);
            }
        } else if let Some((_, echo)) = segment.options.timestamps
            && self.has(Marks::TIMESTAMPS)
        {
            let span = self.timestamp(desk.now).wrapping_sub(echo);
            // Anything else is no answer to a segment of ours.
            if echo != 0 && span < 1 << 17 {
                self.estimate.take(span.saturating_mul(1_000));
            }
        }
    }

    /// Congestion control (RFC 5681 3.1) and recovery (RFC 6582 3.2).
    fn adapt(&mut self, desk: &mut Desk<'_>, new: u64) {
        let mss = u32::from(self.mss);
        let new = low(new);
        self.repeats = 0;
        if !is_before(low(self.unacked), self.recover) && !self.has(Marks::RECOVERY) {
            self.recover = low(self.unacked);
        }
        if self.has(Marks::RECOVERY) {
            if is_before(low(self.unacked), self.recover) {
                // The next hole shows itself.
                self.congestion = self.congestion.saturating_sub(new).saturating_add(mss);
                self.mark(Marks::AGAIN_DUE);
                self.ready(desk);
            } else {
                self.unmark(Marks::RECOVERY);
                self.congestion = self.threshold;
            }
        } else if self.congestion < self.threshold {
            self.congestion = self.congestion.saturating_add(new.min(mss));
        } else {
            let step = (mss * mss / self.congestion.max(1)).max(1);
            self.congestion = self.congestion.saturating_add(step);
        }
    }

    /// RFC 5681 2: an acknowledgment that says nothing new while something is in flight.
    fn count_repeat(&mut self, desk: &mut Desk<'_>, segment: &Segment<'_>) {
        self.waits = if self.has(Marks::PERSIST) {
            0
        } else {
            self.waits
        };
        let same_window = u32::from(segment.window) << self.window_shift == self.window;
        let plain = segment.len == 0 && !segment.flags.fin();
        if self.unacked == self.most || !plain || !same_window {
            return;
        }
        let mss = u32::from(self.mss);
        self.repeats = self.repeats.saturating_add(1);
        if self.has(Marks::RECOVERY) {
            self.congestion = self.congestion.saturating_add(mss);
            self.ready(desk);
        } else if self.repeats == REPEATS && !is_before(low(self.unacked), self.recover) {
            let flight = low(self.most - self.unacked);
            self.threshold = (flight / 2).max(2 * mss);
            self.congestion = self.threshold.saturating_add(u32::from(REPEATS) * mss);
            self.recover = low(self.most);
            self.mark(Marks::RECOVERY);
            self.mark(Marks::AGAIN_DUE);
            self.ready(desk);
        }
    }

    fn update_window(&mut self, desk: &mut Desk<'_>, segment: &Segment<'_>) {
        let newer = is_before(self.window_seq, segment.seq)
            || self.window_seq == segment.seq && !is_before(segment.ack, self.window_ack);
        if newer {
            self.set_window(segment, self.window_shift);
            self.ready(desk);
        }
    }

    fn set_window(&mut self, segment: &Segment<'_>, shift: u8) {
        self.window = u32::from(segment.window) << shift;
        self.most_window = self.most_window.max(self.window);
        self.window_seq = segment.seq;
        self.window_ack = segment.ack;
        if self.window > 0 && self.unacked == self.most && self.has(Marks::PERSIST) {
            self.disarm();
            self.backoff = 0;
        }
    }

    fn take_data(
        &mut self,
        desk: &mut Desk<'_>,
        segment: &Segment<'_>,
        ahead: i32,
        deliver: Deliver<'_>,
    ) {
        let reaches = i64::from(ahead) + i64::from(segment.len);
        if self.has(Marks::DEAF) && segment.len > 0 && reaches > 0 {
            // Nobody reads it: the server is told (tcp_rcv_state_process, TCPAbortOnData).
            desk.loose.extend(reply_to_stray(segment));
            self.state = State::Closed;
            return;
        }
        // What is known already is cut off, and so is what reaches beyond the window.
        let edge = self.received + u64::from(desk.config.receive_buffer);
        let known = ahead.min(0).unsigned_abs().min(segment.len);
        let start = self.received + u64::from(ahead.max(0).unsigned_abs());
        let fin_at = start + u64::from(segment.len - known);
        let fin = segment.flags.fin() && fin_at <= edge;
        let end = fin_at.min(edge);
        let captured = segment.payload.get(known as usize..).unwrap_or_default();
        let whole = Chunk {
            offset: start,
            bytes: captured,
            unseen: segment.cut().min(segment.len - known),
        };
        if start == self.received {
            self.owe(desk);
            if end > start {
                deliver(desk.id, whole.within(start, end));
                self.go_on_to(end);
                self.take_kept(desk, deliver);
            }
            let kept = self.kept.as_ref();
            if fin && fin_at == self.received || kept.is_some_and(|k| k.is_fin_at(self.received)) {
                self.take_fin(desk);
            }
        } else {
            let kept = self.kept.get_or_insert_default();
            if end > start {
                kept.keep(whole.within(start, end));
            }
            if fin {
                kept.keep_fin(fin_at);
            }
            self.acks = (self.acks + 1).min(MAX_ACKS);
            self.ready(desk);
        }
    }

    fn take_kept(&mut self, desk: &Desk<'_>, deliver: Deliver<'_>) {
        let Some(mut kept) = self.kept.take() else {
            return;
        };
        let id = desk.id;
        let to = kept.take(self.received, |chunk| deliver(id, chunk));
        self.go_on_to(to);
        if !kept.is_empty() {
            self.kept = Some(kept);
        }
    }

    fn go_on_to(&mut self, end: u64) {
        self.expected = self.expected.wrapping_add(low(end - self.received));
        self.received = end;
    }

    /// RFC 9293 3.10.7.4, eighth.
    fn take_fin(&mut self, desk: &mut Desk<'_>) {
        self.expected = self.expected.wrapping_add(1);
        self.kept = None;
        self.owe(desk);
        desk.say(Event::PeerClosed);
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.enter_time_wait(desk),
            _ => {}
        }
    }

    /// A segment of ours was longer than the path takes: all that is in flight goes again in shorter
    /// ones (RFC 1191 6.5, `tcp_v4_mtu_reduced`). Only of what is in flight is that believed (RFC 5927
    /// 7.2), and nothing below what Linux believes (`ip_rt_min_pmtu`; RFC 8200 5).
    fn receive_mtu(&mut self, desk: &mut Desk<'_>, seq: u32, mtu: u32) {
        let (least, headers) = if desk.client.is_ipv4() {
            (552, 40)
        } else {
            (1_280, 60)
        };
        let mss = u16::try_from(mtu.max(least) - headers).unwrap_or(u16::MAX);
        let ahead = u64::try_from(distance(self.seq(self.unacked), seq));
        let in_flight = ahead.is_ok_and(|ahead| ahead < self.most - self.unacked);
        if !in_flight || mss >= self.mss {
            return;
        }
        self.mss = mss;
        self.next = self.unacked;
        self.recover = low(self.most);
        self.unmark(Marks::RECOVERY);
        self.repeats = 0;
        self.mark(Marks::AGAIN_DUE);
        self.ready(desk);
    }

    pub(super) fn receive_icmp(&mut self, desk: &mut Desk<'_>, error: &IcmpError) {
        let connecting = matches!(self.state, State::SynSent | State::SynReceived);
        if connecting && error.seq == self.first && error.ends_connecting() {
            self.end(desk, Event::Unreachable(*error));
        } else if let Some(mtu) = error.mtu {
            self.receive_mtu(desk, error.seq, mtu);
        }
    }
}
