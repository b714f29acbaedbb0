//! Zeek's `history` and `conn_state`, letter for letter as its TCP session adapter and
//! `base/protocols/conn` build them, so that rows join with conn.log.

use std::{fmt, mem};

use crate::wire::{Direction, Segment};

/// Zeek's view of one connection: originator and responder, and the letters so far.
#[derive(Clone, Debug, Default)]
pub struct Zeek {
    orig: Endpoint,
    resp: Endpoint,
    history: String,
}

/// Zeek's `conn_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnState {
    /// A SYN and no reply.
    S0,
    /// Established, not ended.
    S1,
    /// Established, closed by the originator only.
    S2,
    /// Established, closed by the responder only.
    S3,
    /// Established and closed by both.
    Sf,
    /// Rejected.
    Rej,
    /// The originator reset it.
    Rsto,
    /// The responder reset it.
    Rstr,
    /// The originator reset it, no SYN-ACK seen.
    Rstos0,
    /// The responder reset it, no SYN seen.
    Rstrh,
    /// SYN and FIN of the originator, no SYN-ACK.
    Sh,
    /// SYN-ACK and FIN of the responder, no SYN.
    Shr,
    /// None of these: seen from the middle on.
    Oth,
}

impl fmt::Display for ConnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl ConnState {
    /// The word that conn.log has for it.
    pub fn word(self) -> &'static str {
        match self {
            ConnState::S0 => "S0",
            ConnState::S1 => "S1",
            ConnState::S2 => "S2",
            ConnState::S3 => "S3",
            ConnState::Sf => "SF",
            ConnState::Rej => "REJ",
            ConnState::Rsto => "RSTO",
            ConnState::Rstr => "RSTR",
            ConnState::Rstos0 => "RSTOS0",
            ConnState::Rstrh => "RSTRH",
            ConnState::Sh => "SH",
            ConnState::Shr => "SHR",
            ConnState::Oth => "OTH",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Inactive,
    SynSent,
    SynAckSent,
    Partial,
    Established,
    Closed,
    Reset,
}

#[derive(Clone, Debug, Default)]
struct Endpoint {
    state: State,
    previous: State,
    /// Letters that are recorded once.
    once: u8,
    /// Sequence numbers of the last SYN, FIN and RST: another one repeats the letter.
    syn: Option<u32>,
    fin: Option<u32>,
    rst: Option<u32>,
    /// One past the highest sequence number sent.
    last: Option<u32>,
    rewritten: Scaled,
    zero_windows: Scaled,
    gaps: Scaled,
    window_shift: u8,
    bytes: bool,
}

/// A letter that Zeek repeats at the 1st, 10th, 100th, ... occurrence.
#[derive(Clone, Copy, Debug, Default)]
struct Scaled(u32);

impl Scaled {
    fn is_due(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        let magnitude = 10_u32.pow(self.0.ilog10());
        self.0 == magnitude
    }
}

const ACK_SEEN: u8 = 0x01;
const DATA_SEEN: u8 = 0x02;
const INCONSISTENT_SEEN: u8 = 0x04;
const MULTI_FLAG_SEEN: u8 = 0x08;

impl Zeek {
    /// Nothing seen yet; letters go to `history`, which is empty.
    pub(super) fn new(history: String) -> Zeek {
        Zeek {
            history,
            ..Zeek::default()
        }
    }

    pub(super) fn take_history(&mut self) -> String {
        mem::take(&mut self.history)
    }

    /// The letters, upper case for the originator (the client).
    pub fn history(&self) -> &str {
        &self.history
    }

    /// Takes the next segment.
    pub(super) fn push(&mut self, direction: Direction, segment: &Segment) {
        let (own, peer) = match direction {
            Direction::ToServer => (&mut self.orig, &mut self.resp),
            Direction::ToClient => (&mut self.resp, &mut self.orig),
        };
        let before = self.history.len();
        own.letters(segment, &mut self.history);
        if own.is_zero_window(segment, peer) && own.zero_windows.is_due() {
            self.history.push('W');
        }
        if segment.flags.syn() {
            own.window_shift = segment.options.window_scale.unwrap_or(0);
        }
        if own.advance(segment) && own.rewritten.is_due() {
            self.history.push('T');
        }
        own.bytes |= segment.len > 0 && !segment.flags.rst();
        own.step(peer, direction, segment);
        if direction == Direction::ToClient {
            self.history[before..].make_ascii_lowercase();
        }
    }

    /// Bytes that `direction`'s sender sent and nobody saw.
    pub(super) fn gap(&mut self, direction: Direction) {
        let (endpoint, letter) = match direction {
            Direction::ToServer => (&mut self.orig, 'G'),
            Direction::ToClient => (&mut self.resp, 'g'),
        };
        if endpoint.gaps.is_due() {
            self.history.push(letter);
        }
    }

    /// Zeek's `conn_state` as it stands.
    pub fn conn_state(&self) -> ConnState {
        use State::{Closed, Established, Inactive, Partial, Reset, SynAckSent, SynSent};
        let orig_unseen = matches!(self.orig.state, Inactive | Partial);
        let resp_unseen = matches!(self.resp.state, Inactive | Partial);
        let no_bytes = !self.orig.bytes && !self.resp.bytes;
        match (self.orig.state, self.resp.state) {
            (SynSent | SynAckSent, Reset) => ConnState::Rej,
            (Reset, Reset) if no_bytes => ConnState::Rej,
            (_, Reset) if orig_unseen => ConnState::Rstrh,
            (_, Reset) => ConnState::Rstr,
            (Reset, _) if resp_unseen => ConnState::Rstos0,
            (Reset, _) => ConnState::Rsto,
            (Closed, Closed) => ConnState::Sf,
            (Closed, _) if resp_unseen => ConnState::Sh,
            (Closed, _) => ConnState::S2,
            (_, Closed) if orig_unseen => ConnState::Shr,
            (_, Closed) => ConnState::S3,
            (SynSent, Inactive) => ConnState::S0,
            (Established, Established) => ConnState::S1,
            _ => ConnState::Oth,
        }
    }
}

impl Endpoint {
    /// Appends the letters of `update_history`, in upper case.
    fn letters(&mut self, segment: &Segment, history: &mut String) {
        let flags = segment.flags;
        let (syn, fin, rst) = (flags.syn(), flags.fin(), flags.rst());
        match u8::from(syn) + u8::from(fin) + u8::from(rst) {
            0 if segment.len > 0 => self.once(DATA_SEEN, 'D', history),
            0 if flags.ack() => self.once(ACK_SEEN, 'A', history),
            0 => {}
            1 if syn => {
                let letter = if flags.ack() { 'H' } else { 'S' };
                repeat(&mut self.syn, segment.seq, letter, history);
            }
            // A FIN's number stands behind the data in its segment.
            1 if fin => repeat(
                &mut self.fin,
                segment.seq.wrapping_add(segment.len),
                'F',
                history,
            ),
            1 => repeat(&mut self.rst, segment.seq, 'R', history),
            _ if fin && rst => self.once(INCONSISTENT_SEEN, 'I', history),
            _ => self.once(MULTI_FLAG_SEEN, 'Q', history),
        }
    }

    fn once(&mut self, bit: u8, letter: char, history: &mut String) {
        if self.once & bit == 0 {
            self.once |= bit;
            history.push(letter);
        }
    }

    /// A zero window is of interest unless it comes with or after a RST, or after the peer's FIN.
    fn is_zero_window(&self, segment: &Segment, peer: &Endpoint) -> bool {
        segment.window == 0
            && !segment.flags.rst()
            && peer.state != State::Closed
            && self.state != State::Reset
    }

    /// Moves the highest number sent; true where data did not move it: a retransmission.
    fn advance(&mut self, segment: &Segment) -> bool {
        // Beyond this Zeek distrusts the number of a SYN or RST.
        const TOO_FAR: i32 = 1_048_576;
        let flags = segment.flags;
        let space = if flags.rst() {
            segment.space() - segment.len
        } else {
            segment.space()
        };
        let end = segment.seq.wrapping_add(space);
        let Some(last) = self.last else {
            self.last = Some(end);
            return false;
        };
        let delta = end.wrapping_sub(last).cast_signed();
        let distrusted = (flags.syn() || flags.rst()) && !(-TOO_FAR..=TOO_FAR).contains(&delta);
        if distrusted || self.state == State::Reset {
            return false;
        }
        if delta > 0 {
            self.last = Some(end);
        }
        delta <= 0 && segment.len > 0
    }

    fn set(&mut self, state: State) {
        self.previous = self.state;
        self.state = state;
    }

    /// `UpdateStateMachine`: one arm for each state the sender was in.
    fn step(&mut self, peer: &mut Endpoint, direction: Direction, segment: &Segment) {
        match self.state {
            State::Inactive => self.step_inactive(peer, direction, segment),
            State::SynSent | State::SynAckSent => {
                if segment.flags.rst() {
                    self.set(State::Reset);
                } else if segment.flags.fin() {
                    self.set(State::Closed);
                }
            }
            State::Established | State::Partial => self.step_established(peer, segment),
            // A RST after both sides' FINs changes nothing.
            State::Closed => {
                if segment.flags.rst() && peer.state != State::Closed {
                    self.set(State::Reset);
                }
            }
            State::Reset => {}
        }
    }

    fn step_inactive(&mut self, peer: &mut Endpoint, direction: Direction, segment: &Segment) {
        let flags = segment.flags;
        if flags.syn() {
            match direction {
                Direction::ToServer if flags.ack() => self.set(State::SynAckSent),
                Direction::ToServer => self.set(State::SynSent),
                Direction::ToClient => {
                    if peer.state == State::SynSent {
                        peer.set(State::Established);
                    }
                    self.set(State::Established);
                }
            }
        }
        if flags.fin() {
            self.set(State::Closed);
        }
        if flags.rst() {
            self.set(State::Reset);
        }
        if self.state == State::Inactive {
            // Some stacks acknowledge a SYN before they answer it: no partial connection.
            let early_ack = direction == Direction::ToClient
                && segment.len == 0
                && peer.state == State::SynSent;
            if flags.ack() && peer.state == State::Established {
                self.set(State::Established);
            } else if !early_ack {
                self.set(State::Partial);
            }
        }
    }

    fn step_established(&mut self, peer: &mut Endpoint, segment: &Segment) {
        let flags = segment.flags;
        if flags.syn()
            && !flags.ack()
            && self.state == State::Partial
            && peer.state == State::Inactive
        {
            self.set(State::SynSent);
        }
        if flags.fin() && !flags.rst() {
            self.set(State::Closed);
            // The peer's FIN and then RST, answered by a FIN, was a normal end after all.
            if peer.state == State::Reset && peer.previous == State::Closed {
                peer.set(State::Closed);
            }
        }
        if flags.rst() {
            self.set(State::Reset);
        }
    }
}

/// SYN, FIN and RST: the letter repeats when the number differs from the last one's.
fn repeat(last: &mut Option<u32>, seq: u32, letter: char, history: &mut String) {
    if last.replace(seq) != Some(seq) {
        history.push(letter);
    }
}
