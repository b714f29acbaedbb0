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
    /// Ports held rather than use one again.
    ports: usize,
    /// Ports held at most, where every other one is taken.
    most_ports: usize,
    /// Every port serves once with each of them.
    sources: Vec<IpAddr>,
    /// Others, for when that is not enough.
    spare: VecDeque<IpAddr>,
    /// How many of them it took.
    added: usize,
    fresh: VecDeque<SocketAddr>,
    used: VecDeque<SocketAddr>,
}

/// How many ports are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// Rather than use one again.
    pub(super) wanted: usize,
    /// At most.
    pub(super) most: usize,
}

impl Addresses {
    /// Pairs of `sources` and so many ports, of which the first are held at once: later each would
    /// delay a connection. Where all of them are taken, by connections that have ended and rest, there
    /// are more ports, and then `spare` addresses.
    pub(super) fn new(
        guards: Guards,
        sources: Vec<IpAddr>,
        spare: VecDeque<IpAddr>,
        ports: Ports,
    ) -> Addresses {
        let mut addresses = Addresses {
            guards,
            ports: ports.wanted.max(1),
            most_ports: ports.most.max(1),
            sources,
            spare,
            added: 0,
            fresh: VecDeque::new(),
            used: VecDeque::new(),
        };
        // Where one is not to be had, whoever needs it is told.
        while addresses.guards.len() < addresses.ports.min(HELD_AT_ONCE)
            && addresses.hold_one().is_ok()
        {}
        addresses
    }

    /// Holds another port. Errors: EMFILE, which leaves files to those that are no guards, and
    /// EADDRINUSE.
    fn hold_one(&mut self) -> io::Result<()> {
        if self.guards.len() >= self.most_ports {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let port = self.guards.take()?;
        let pair = |&source| SocketAddr::new(source, port);
        self.fresh.extend(self.sources.iter().map(pair));
        Ok(())
    }

    /// Takes to another source address; false where there is none, or no port to use with it.
    fn add_source(&mut self) -> bool {
        if self.guards.len() == 0 {
            return false;
        }
        let Some(source) = self.spare.pop_front() else {
            return false;
        };
        self.added += 1;
        self.sources.push(source);
        let pair = |port| SocketAddr::new(source, port);
        self.fresh.extend(self.guards.ports().map(pair));
        true
    }

    /// How many source addresses there are, where more than planned were needed.
    pub(super) fn grown_to(&self) -> Option<usize> {
        (self.added > 0).then_some(self.sources.len())
    }

    /// A pair that no connection has. The error is that of the guard that could not be had: EMFILE or
    /// EADDRINUSE.
    pub(super) fn take(&mut self) -> io::Result<SocketAddr> {
        if self.fresh.is_empty() && self.guards.len() < self.ports && self.hold_one().is_err() {
            // From here on with those that there are.
            self.ports = self.guards.len();
        }
        if self.fresh.is_empty()
            && self.used.is_empty()
            && let Err(error) = self.hold_one()
            && !self.add_source()
        {
            return Err(error);
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
