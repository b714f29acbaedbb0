//! Source addresses and ports: each pair serves one connection at a time, its port guarded in the
//! kernel for as long as the engine lasts. Pairs are used again as late as can be.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::link::guards::Guards;

/// Ports held before the first connection: 35 ms of them.
const HELD_AT_ONCE: usize = 1_024;

/// All that connections may come from.
pub(super) struct Addresses {
    guards: Guards,
    /// Ports held before a pair is used again.
    ports: usize,
    /// Every port serves once with each of them.
    sources: Vec<IpAddr>,
    fresh: VecDeque<SocketAddr>,
    used: VecDeque<SocketAddr>,
}

impl Addresses {
    /// Pairs of `sources` and `ports` ports, of which the first are held at once: later each would delay
    /// a connection. More are held only while all of their pairs are in use: a connection keeps its pair
    /// after its end where the server leaves its side open.
    pub(super) fn new(guards: Guards, sources: Vec<IpAddr>, ports: usize) -> Addresses {
        let mut addresses = Addresses {
            guards,
            ports: ports.max(1),
            sources,
            fresh: VecDeque::new(),
            used: VecDeque::new(),
        };
        // Where one is not to be had, whoever needs it is told.
        while addresses.guards.len() < addresses.ports.min(HELD_AT_ONCE)
            && addresses.hold_one().is_ok()
        {}
        addresses
    }

    fn hold_one(&mut self) -> io::Result<()> {
        let port = self.guards.take()?;
        let pair = |&source| SocketAddr::new(source, port);
        self.fresh.extend(self.sources.iter().map(pair));
        Ok(())
    }

    /// A pair that no connection has. The error is that of the guard that could not be had: EMFILE, or
    /// EADDRINUSE where all ports are.
    pub(super) fn take(&mut self) -> io::Result<SocketAddr> {
        if self.fresh.is_empty() && (self.guards.len() < self.ports || self.used.is_empty()) {
            match self.hold_one() {
                Ok(()) => {}
                Err(error) if self.used.is_empty() => return Err(error),
                // From here on with those that there are.
                Err(_) => self.ports = self.guards.len(),
            }
        }
        let pair = self.fresh.pop_front().or_else(|| self.used.pop_front());
        pair.ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
    }

    /// Whether nobody else sends from this port.
    pub(super) fn hold(&self, port: u16) -> bool {
        self.guards.hold(port)
    }

    /// Nothing is left of the connection that had it.
    pub(super) fn give_back(&mut self, pair: SocketAddr) {
        self.used.push_back(pair);
    }
}
