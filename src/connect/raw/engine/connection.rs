//! One connection: its state, and what its owner asks of it. What it sends is decided in
//! [`send`](super::send), what arrives in [`receive`](super::receive).

use std::net::SocketAddr;
use std::time::Duration;

use super::estimate::Estimate;
use super::number::{self, beginning, low, micros};
use super::places::Place;
use super::reassembly::Reassembly;
use super::send::abort;
use super::timers::Due;
use super::{Close, Config, Desk, Event, Handshake, Id};
use crate::time::Stamp;

/// Where a connection stands (RFC 9293 3.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum State {
    /// There is none.
    #[default]
    Closed,
    /// The SYN waits for its answer.
    SynSent,
    /// The SYN-ACK came and is not to be acknowledged. Not one of RFC 9293's.
    HalfOpen,
    /// A SYN crossed ours; our SYN-ACK waits for its acknowledgment (RFC 9293 3.5, figure 7).
    SynReceived,
    /// Both ways open.
    Established,
    /// We closed; our FIN is not acknowledged.
    FinWait1,
    /// We closed, which is acknowledged; the server has not.
    FinWait2,
    /// Both closed, the server before it had our FIN; ours is not acknowledged.
    Closing,
    /// The server closed, we have not.
    CloseWait,
    /// The server closed, then we; our FIN is not acknowledged.
    LastAck,
    /// All is done. The server's FIN is acknowledged again should it come again.
    TimeWait,
}

impl State {
    /// Whether the server's data are still awaited (RFC 9293 3.10.7.4, seventh).
    pub(super) fn receives(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }
}

/// How a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Bytes of what was written that were sent at least once.
    pub sent: u64,
    /// Bytes of what was written that the server acknowledged.
    pub acked: u64,
    /// The server's bytes that were handed on.
    pub received: u64,
    /// Segments that were sent again, SYNs and FINs included.
    pub retransmits: u32,
    /// Whether anything that was sent, a SYN or FIN included, is not acknowledged.
    pub in_flight: bool,
}

/// Things that are so or are not so with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Marks(u16);

impl Marks {
    /// The SYN-ACK is not to be acknowledged.
    pub(super) const HALF_OPEN: Marks = Marks(1);
    /// Both ends send timestamps.
    pub(super) const TIMESTAMPS: Marks = Marks(1 << 1);
    /// The server takes selective acknowledgments.
    pub(super) const SACK: Marks = Marks(1 << 2);
    /// It stands among the engine's ready ones.
    pub(super) const READY: Marks = Marks(1 << 3);
    /// A SYN, or the SYN-ACK of a simultaneous open, is due.
    pub(super) const SYN_DUE: Marks = Marks(1 << 4);
    /// The handshake's last segment is due; it goes alone, as the kernel's does.
    pub(super) const HANDSHAKE_DUE: Marks = Marks(1 << 5);
    /// The first segment that is not acknowledged is to be sent again.
    pub(super) const AGAIN_DUE: Marks = Marks(1 << 6);
    /// The server's closed window is to be asked after.
    pub(super) const PROBE_DUE: Marks = Marks(1 << 7);
    /// A FIN follows what was written.
    pub(super) const FIN: Marks = Marks(1 << 8);
    /// Nothing is read any more.
    pub(super) const DEAF: Marks = Marks(1 << 9);
    /// The timer that runs is for a closed window.
    pub(super) const PERSIST: Marks = Marks(1 << 10);
    /// Lost segments are being made up for (RFC 6582).
    pub(super) const RECOVERY: Marks = Marks(1 << 11);
    /// A round trip is being measured.
    pub(super) const TIMED: Marks = Marks(1 << 12);
    /// The SYN was sent more than once.
    pub(super) const SYN_AGAIN: Marks = Marks(1 << 13);
    /// A segment that does not fit was answered: `held_at` says when.
    pub(super) const CHALLENGED: Marks = Marks(1 << 14);
    /// Both ends scale their windows (RFC 7323 2.2).
    pub(super) const SCALED: Marks = Marks(1 << 15);
}

/// No time at all.
pub(super) const NEVER: Stamp = Stamp(i64::MAX);

/// Congestion control's beginning (RFC 6928 2).
const INITIAL_SEGMENTS: u32 = 10;
/// Where a SYN says nothing (RFC 9293 3.7.1).
const DEFAULT_MSS_V4: u16 = 536;
const DEFAULT_MSS_V6: u16 = 1220;

/// What one costs: kept small, as a million may be open. Offsets count bytes written, 64 bits wide,
/// the FIN as one behind them.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// The first byte that is not acknowledged.
    pub(super) unacked: u64,
    /// The next byte to send.
    pub(super) next: u64,
    /// The byte behind the last one ever sent.
    pub(super) most: u64,
    /// Bytes written.
    pub(super) written: u64,
    /// Bytes handed on.
    pub(super) received: u64,
    /// When it has something to do.
    pub(super) due: Stamp,
    /// The earliest entry that the timers have of it.
    pub(super) armed: Stamp,
    /// What hardly any one needs: payload out of order.
    pub(super) kept: Option<Box<Reassembly>>,
    pub(super) estimate: Estimate,
    /// Sequence number of the SYN.
    pub(super) first: u32,
    /// Sequence number expected next.
    pub(super) expected: u32,
    /// The acknowledgment number sent last (RFC 7323 4.3).
    pub(super) acked_to: u32,
    /// The server's window, in bytes, and the segment that told it (RFC 9293 3.10.7.4).
    pub(super) window: u32,
    pub(super) most_window: u32,
    pub(super) window_seq: u32,
    pub(super) window_ack: u32,
    /// Congestion window and threshold, in bytes (RFC 5681 2).
    pub(super) congestion: u32,
    pub(super) threshold: u32,
    /// The end of what was in flight when a loss was found, modulo 2^32.
    pub(super) recover: u32,
    /// Until where a round trip is measured, modulo 2^32, and since when, in microseconds.
    pub(super) timed_to: u32,
    pub(super) timed_at: u32,
    pub(super) timestamp_offset: u32,
    /// The server's last timestamp, and when it came, in milliseconds.
    pub(super) recent: u32,
    pub(super) recent_at: u32,
    /// When an acknowledgment to a segment that does not fit was last sent, in milliseconds.
    pub(super) held_at: u32,
    pub(super) retransmits: u32,
    generation: u32,
    place: Place,
    pub(super) marks: Marks,
    pub(super) ip_id: u16,
    /// The largest payload the server takes, and the path; options count.
    pub(super) mss: u16,
    pub(super) state: State,
    pub(super) window_shift: u8,
    /// Vain waits in a row, and by how many the timeout is doubled.
    pub(super) waits: u8,
    pub(super) backoff: u8,
    /// Acknowledgments in a row that say nothing new (RFC 5681 2).
    pub(super) repeats: u8,
    /// Acknowledgments that are due.
    pub(super) acks: u8,
}

impl Connection {
    pub(super) fn open(
        config: &Config,
        now: Stamp,
        place: Place,
        client: SocketAddr,
        id: Id,
        handshake: Handshake,
    ) -> Connection {
        let begin = beginning(config.seed, now, client, config.server);
        let mut connection = Connection {
            first: begin.sequence,
            timestamp_offset: begin.timestamp_offset,
            ip_id: begin.ip_id,
            due: NEVER,
            armed: NEVER,
            threshold: u32::MAX,
            generation: id.generation,
            place,
            mss: if client.is_ipv4() {
                DEFAULT_MSS_V4
            } else {
                DEFAULT_MSS_V6
            },
            state: State::SynSent,
            ..Connection::default()
        };
        connection.mark(Marks::READY);
        connection.mark(Marks::SYN_DUE);
        if handshake == Handshake::HalfOpen {
            connection.mark(Marks::HALF_OPEN);
        }
        connection
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn status(&self) -> Status {
        Status {
            state: self.state,
            sent: self.most.min(self.written),
            acked: self.unacked.min(self.written),
            received: self.received,
            retransmits: self.retransmits,
            in_flight: self.unacked < self.most
                || matches!(self.state, State::SynSent | State::SynReceived),
        }
    }

    /// Makes room for another: no [`Id`] of this one is known any more.
    pub(super) fn retire(&mut self) {
        *self = Connection {
            generation: self.generation.wrapping_add(1),
            ..Connection::default()
        };
    }

    pub(super) fn has(&self, mark: Marks) -> bool {
        self.marks.0 & mark.0 != 0
    }

    pub(super) fn mark(&mut self, mark: Marks) {
        self.marks.0 |= mark.0;
    }

    /// Takes a mark away; whether it was there.
    pub(super) fn unmark(&mut self, mark: Marks) -> bool {
        let had = self.has(mark);
        self.marks.0 &= !mark.0;
        had
    }

    /// The sequence number of an offset.
    pub(super) fn seq(&self, offset: u64) -> u32 {
        self.first.wrapping_add(1).wrapping_add(low(offset))
    }

    /// Has the engine ask what there is to send.
    pub(super) fn ready(&mut self, desk: &mut Desk<'_>) {
        if !self.has(Marks::READY) {
            self.mark(Marks::READY);
            desk.ready.push_back(desk.id);
        }
    }

    pub(super) fn write(&mut self, desk: &mut Desk<'_>, bytes: u64) {
        if !self.has(Marks::FIN) {
            self.written = self.written.saturating_add(bytes);
            self.ready(desk);
        }
    }

    pub(super) fn shutdown_write(&mut self, desk: &mut Desk<'_>) {
        if self.has(Marks::FIN) {
            return;
        }
        match self.state {
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            // Once the handshake is done (RFC 9293 3.10.4: queue until entering ESTABLISHED).
            State::SynSent | State::SynReceived => {}
            _ => return,
        }
        self.mark(Marks::FIN);
        self.ready(desk);
    }

    pub(super) fn close(&mut self, desk: &mut Desk<'_>, how: Close) {
        match (how, self.state) {
            (Close::Forget, _) | (Close::Fin | Close::Rst, State::SynSent) => {
                self.state = State::Closed;
            }
            // All is done already, and the server keeps nothing either.
            (Close::Rst, State::TimeWait) => self.state = State::Closed,
            (Close::Rst, _) | (Close::Fin, State::HalfOpen | State::SynReceived) => {
                let reset = abort(self, desk);
                desk.loose.push_back(reset);
                self.state = State::Closed;
            }
            (Close::Fin, _) => {
                self.shutdown_write(desk);
                self.mark(Marks::DEAF);
                self.kept = None;
                if self.state == State::FinWait2 {
                    self.arm(desk, FIN_WAIT);
                }
            }
        }
    }

    /// The server's FIN has come and ours is acknowledged, or is no concern any more.
    pub(super) fn enter_time_wait(&mut self, desk: &mut Desk<'_>) {
        self.state = State::TimeWait;
        self.kept = None;
        self.arm(desk, TIME_WAIT);
    }

    /// Has the connection's turn come after `span`, and not when it would have.
    pub(super) fn arm(&mut self, desk: &mut Desk<'_>, span: Duration) {
        self.due = desk.now + span;
        if self.due < self.armed {
            self.armed = self.due;
            desk.timers.push(Due {
                at: self.due,
                id: desk.id,
            });
        }
    }

    pub(super) fn disarm(&mut self) {
        self.due = NEVER;
        self.unmark(Marks::PERSIST);
    }

    /// How long an answer is waited for.
    pub(super) fn timeout(&self) -> Duration {
        self.estimate
            .timeout(self.has(Marks::SYN_AGAIN), self.backoff)
    }

    /// Whether it has something to do at a timer's entry; where it has not, the entry may go.
    pub(super) fn keeps(&mut self, due: &Due) -> bool {
        if self.generation != due.id.generation || self.armed != due.at {
            return false;
        }
        if self.due == NEVER {
            self.armed = NEVER;
        }
        self.due != NEVER
    }

    /// Begins to measure a round trip: until what ends at `offset` is acknowledged.
    pub(super) fn measure(&mut self, now: Stamp, offset: u64) {
        if !self.has(Marks::TIMED) {
            self.mark(Marks::TIMED);
            self.timed_to = low(offset);
            self.timed_at = micros(now);
        }
    }

    /// What the SYN or SYN-ACK says of the server.
    pub(super) fn learn(&mut self, config: &Config, options: &crate::wire::Options, now: Stamp) {
        self.mss = options
            .mss
            .unwrap_or(self.mss)
            .clamp(MIN_MSS, config.mss.max(MIN_MSS));
        if let Some(shift) = options.window_scale {
            self.mark(Marks::SCALED);
            self.window_shift = shift;
        }
        if let Some((value, _)) = options.timestamps {
            self.mark(Marks::TIMESTAMPS);
            self.recent = value;
            self.recent_at = number::millis(now);
        }
        if options.sack_permitted {
            self.mark(Marks::SACK);
        }
        self.congestion = INITIAL_SEGMENTS * u32::from(self.mss);
    }

    /// Ends it, and says why.
    pub(super) fn end(&mut self, desk: &mut Desk<'_>, event: Event) {
        desk.say(event);
        self.state = State::Closed;
    }
}

/// However little a SYN allows, this much payload and options are sent: Linux's `TCP_MIN_SND_MSS`.
const MIN_MSS: u16 = 48;

/// How long a FIN that comes again is answered. The server repeats it after 0.2, 0.6 and 1.4 s where
/// our acknowledgment is lost; later ones draw a RST, which ends the server's wait as well. Twice the
/// lifetime of a segment (RFC 9293 3.4.2) would serve a successor on the same ports, which our
/// timestamps do too (RFC 6191).
const TIME_WAIT: Duration = Duration::from_secs(2);

/// How long a server's FIN is waited for once nobody reads any more: Linux's `tcp_fin_timeout`.
pub(super) const FIN_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_connections_fit() {
        assert!(
            size_of::<Connection>() <= 176,
            "{}",
            size_of::<Connection>()
        );
    }
}
