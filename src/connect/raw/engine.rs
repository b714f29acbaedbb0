//! Many client connections to one server, segment by segment: what is sent and when, and what each
//! arriving segment means (RFC 9293). Sans-IO: time and segments are handed in, what to send is asked
//! for; sockets, clocks and the payload's bytes are left to whoever drives it.
//!
//! After each batch of [`handle_segment`](Engine::handle_segment) come the events
//! ([`poll_event`](Engine::poll_event)), then what there is to send
//! ([`poll_transmit`](Engine::poll_transmit)): all of a batch is acknowledged at once, in data or in a
//! FIN where there is any.

mod connection;
mod estimate;
mod number;
mod packet;
mod places;
mod reassembly;
mod receive;
mod send;
mod timers;

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::time::Stamp;
use crate::wire::{IcmpError, Segment};

pub use connection::{State, Status};
pub use packet::{SackBlocks, SendOptions, Transmit};

use connection::Connection;
use places::Places;
use timers::Timers;

/// What all connections of an engine have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whom they are made to.
    pub server: SocketAddr,
    /// The largest payload we take in a segment, in bytes, options not counted (RFC 9293 3.7.1): the
    /// path's MTU less 40 over IPv4 and less 60 over IPv6. We send none larger either.
    pub mss: u16,
    /// The receive window that is always offered, in bytes: what arrives is taken at once. The SYN
    /// offers what 16 bits hold of it, in whole segments, as Linux does: 64240 for an MTU of 1500.
    pub receive_buffer: u32,
    /// The shift of the window field in all our segments but the SYN (RFC 7323 2), at most 14.
    pub window_scale: u8,
    /// What initial sequence numbers and timestamps are derived from (RFC 6528): no other host may be
    /// able to guess it, and who connects from the same ports later should have the same.
    pub seed: u64,
}

/// Names a connection for as long as there is anything left of it, and no other one afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Id {
    slot: u32,
    generation: u32,
}

impl Id {
    /// Which of all open connections it is: a small number, used again by a later connection once this
    /// one is [`Event::Gone`].
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// How far a connection's handshake goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Handshake {
    /// All three segments.
    #[default]
    Full,
    /// The server's SYN-ACK is taken and never acknowledged: to the server it stays half-open, until
    /// [`Close::Rst`].
    HalfOpen,
}

/// How we end a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// As Linux does on close(2): a FIN behind all that was written, and nothing is read any more. Data
    /// that still arrives draws a RST (`tcp_rcv_state_process`; RFC 9293 3.6.1). Before the handshake
    /// is done nothing is sent, as by the kernel; a half-open one gets its RST.
    Fin,
    /// At once: a RST at the next number to be sent, with ACK (`tcp_send_active_reset`). To a server
    /// whose SYN-ACK was not acknowledged it goes without ACK, at the number that the SYN-ACK expects
    /// (RFC 9293 3.10.7.1); before any SYN-ACK nothing is sent.
    Rst,
    /// Without a segment, and without an answer to those that still come.
    Forget,
}

/// What happened to a connection. An [`Event::Gone`] is the last one of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The SYN-ACK came: the handshake is done as far as it was to go.
    Connected,
    /// The server's FIN came, and all of its data before it.
    PeerClosed,
    /// A valid RST came: in answer to the SYN with exactly our number, later at exactly the number
    /// expected (RFC 5961 3.2).
    Reset {
        /// The connection's state until then: [`State::SynSent`] is a refusal.
        from: State,
    },
    /// An ICMP error ended the attempt to connect.
    Unreachable(IcmpError),
    /// We sent the same thing again so often, without an answer, that we gave up.
    TimedOut,
    /// Nothing is left of it. Once this was handed out, its [`Id`] stands for nothing.
    Gone,
}

/// Payload of a server's, in order, each byte once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk<'a> {
    /// Where it begins in what the server sends: bytes before it.
    pub offset: u64,
    /// Its bytes, as far as they were captured.
    pub bytes: &'a [u8],
    /// Bytes that followed them on the wire and were not captured.
    pub unseen: u32,
}

/// Connections to one server.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    connections: Vec<Connection>,
    free: Vec<u32>,
    places: Places,
    timers: Timers,
    /// Connections that may have something to send.
    ready: VecDeque<Id>,
    /// Segments that no connection waits for any more.
    loose: VecDeque<Transmit>,
    events: VecDeque<(Id, Event)>,
    open: usize,
}

/// What a connection's own steps need of the engine.
struct Desk<'a> {
    config: &'a Config,
    now: Stamp,
    id: Id,
    client: SocketAddr,
    timers: &'a mut Timers,
    ready: &'a mut VecDeque<Id>,
    loose: &'a mut VecDeque<Transmit>,
    events: &'a mut VecDeque<(Id, Event)>,
}

impl Desk<'_> {
    fn say(&mut self, event: Event) {
        self.events.push_back((self.id, event));
    }
}

impl Engine {
    /// An engine without connections.
    pub fn new(config: Config) -> Engine {
        let config = Config {
            mss: config.mss.min(packet::MAX_MSS),
            window_scale: config.window_scale.min(number::MAX_SHIFT),
            ..config
        };
        Engine {
            config,
            connections: Vec::new(),
            free: Vec::new(),
            places: Places::default(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            loose: VecDeque::new(),
            events: VecDeque::new(),
            open: 0,
        }
    }

    /// Begins a connection from `client`: its SYN is due. None where `client` still has one, or is not
    /// of the server's address family.
    pub fn open(&mut self, now: Stamp, client: SocketAddr, handshake: Handshake) -> Option<Id> {
        if client.is_ipv4() != self.config.server.is_ipv4() {
            return None;
        }
        let place = self.places.of(client);
        if self.places.slot(place).is_some() {
            return None;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.connections.len()).ok()?;
                self.connections.push(Connection::default());
                slot
            }
        };
        let connection = &mut self.connections[slot as usize];
        let id = Id {
            slot,
            generation: connection.generation(),
        };
        *connection = Connection::open(&self.config, now, place, client, id, handshake);
        self.places.take(place, slot);
        self.open += 1;
        self.ready.push_back(id);
        Some(id)
    }

    /// So many more bytes of what we send were written: they go out as soon as the handshake, the
    /// server's window and congestion control (RFC 5681) let them, PSH on the last of them. Nothing
    /// where we have closed.
    pub fn write(&mut self, now: Stamp, id: Id, bytes: u64) {
        self.with(now, id, |connection, desk| connection.write(desk, bytes));
    }

    /// A FIN behind all that was written, and we go on receiving: shutdown(2) with SHUT_WR.
    pub fn shutdown_write(&mut self, now: Stamp, id: Id) {
        self.with(now, id, Connection::shutdown_write);
    }

    /// Ends a connection. [`Event::Gone`] follows: at once, or when the server has acknowledged and sent
    /// its own FIN, or when we gave up waiting for that.
    pub fn close(&mut self, now: Stamp, id: Id, how: Close) {
        self.with(now, id, |connection, desk| connection.close(desk, how));
        if how == Close::Forget
            && let Some(place) = self.get(id).map(Connection::place)
        {
            self.places.forget(place);
        }
    }

    /// Takes a segment of the server's; what of its payload, and of what was kept from earlier ones, is
    /// in order now goes to `deliver`. Returns whose it was. A segment to a port whose connection is
    /// gone draws a RST (RFC 9293 3.10.7.1), unless that connection was forgotten; one to a port that
    /// never had any draws nothing. Checksums are not looked at: see
    /// [`checksums_are_right`](crate::wire::checksums_are_right).
    pub fn handle_segment(
        &mut self,
        now: Stamp,
        segment: &Segment<'_>,
        deliver: &mut dyn FnMut(Id, Chunk<'_>),
    ) -> Option<Id> {
        if segment.src != self.config.server {
            return None;
        }
        let place = self.places.find(segment.dst)?;
        let Some(slot) = self.places.slot(place) else {
            if self.places.was_ours(place) {
                self.loose.extend(send::reply_to_stray(segment));
            }
            return None;
        };
        let id = Id {
            slot,
            generation: self.connections[slot as usize].generation(),
        };
        self.with(now, id, |connection, desk| {
            connection.receive(desk, segment, deliver);
        });
        Some(id)
    }

    /// Takes an ICMP error that quotes a segment of ours; returns whose. It ends an attempt to connect
    /// as `tcp_v4_err` and `tcp_v6_err` do, and later only how long segments are, where one was too long for the
    /// path (RFC 5927 5.2).
    pub fn handle_icmp(&mut self, now: Stamp, error: &IcmpError) -> Option<Id> {
        if error.dst != self.config.server {
            return None;
        }
        let place = self.places.find(error.src)?;
        let slot = self.places.slot(place)?;
        let id = Id {
            slot,
            generation: self.connections[slot as usize].generation(),
        };
        self.with(now, id, |connection, desk| {
            connection.receive_icmp(desk, error);
        });
        Some(id)
    }

    /// Does what is due by `now`: ask for events and for what to send afterwards.
    pub fn handle_timeout(&mut self, now: Stamp) {
        while let Some(due) = self.timers.pop(now) {
            let id = due.id;
            self.with(now, id, |connection, desk| connection.expire(desk, due.at));
        }
        let connections = &mut self.connections;
        self.timers.tidy(|due| {
            let connection = connections.get_mut(due.id.slot());
            connection.is_some_and(|connection| connection.keeps(due))
        });
    }

    /// The next segment to send, if there is any now. Ask until there is none.
    pub fn poll_transmit(&mut self, now: Stamp) -> Option<Transmit> {
        if let Some(transmit) = self.loose.pop_front() {
            return Some(transmit);
        }
        while let Some(&id) = self.ready.front() {
            let mut transmit = None;
            self.with(now, id, |connection, desk| {
                transmit = connection.transmit(desk);
            });
            if transmit.is_some() {
                return transmit;
            }
            self.ready.pop_front();
        }
        None
    }

    /// When [`handle_timeout`](Engine::handle_timeout) is to be called: never later than something is
    /// due, sometimes with nothing due any more.
    pub fn poll_timeout(&self) -> Option<Stamp> {
        self.timers.next()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<(Id, Event)> {
        let (id, event) = self.events.pop_front()?;
        if event == Event::Gone
            && let Some(connection) = self.connections.get_mut(id.slot())
        {
            connection.retire();
            self.free.push(id.slot);
        }
        Some((id, event))
    }

    /// The connection that `client` has.
    pub fn find(&mut self, client: SocketAddr) -> Option<Id> {
        let place = self.places.find(client)?;
        let slot = self.places.slot(place)?;
        let generation = self.connections[slot as usize].generation();
        Some(Id { slot, generation })
    }

    /// How a connection stands; none where it is gone.
    pub fn status(&self, id: Id) -> Option<Status> {
        self.get(id).map(Connection::status)
    }

    /// How many connections have their place: TIME-WAIT counts, gone ones do not.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    fn get(&self, id: Id) -> Option<&Connection> {
        let connection = self.connections.get(id.slot())?;
        (connection.generation() == id.generation).then_some(connection)
    }

    /// Takes a step of a connection, if there still is one.
    fn with(&mut self, now: Stamp, id: Id, step: impl FnOnce(&mut Connection, &mut Desk<'_>)) {
        let Some(connection) = self.connections.get_mut(id.slot()) else {
            return;
        };
        if connection.generation() != id.generation || connection.state() == State::Closed {
            return;
        }
        let place = connection.place();
        let mut desk = Desk {
            config: &self.config,
            now,
            id,
            client: self.places.address(place),
            timers: &mut self.timers,
            ready: &mut self.ready,
            loose: &mut self.loose,
            events: &mut self.events,
        };
        step(connection, &mut desk);
        if connection.state() == State::Closed {
            self.events.push_back((id, Event::Gone));
            self.places.leave(place);
            self.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
