//! One round of questions after another: to sock_diag, to the counters, and to /proc for whose the
//! connections are. How often is left to [`Pace`](super::pace::Pace).

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::unistd::Pid;

use super::counters::CounterFile;
use super::owners::{ListenerOf, Owners};
use super::query::{Family, Found, Kind, SockDiag};
use crate::kernel::{Listening, Poll, Polled};
use crate::time::Clock;

/// Asks about one target.
pub(super) struct Poller {
    pub(super) target: SocketAddr,
    pub(super) clock: Clock,
    diag: SockDiag,
    pub(super) counters: CounterFile,
    pub(super) owners: Owners,
    /// An IPv6 socket has listened for IPv4 clients: their connections are IPv6 sockets, and stay so
    /// when it is closed.
    is_dual: bool,
    /// The inode of the only listener, where that can be asked for by its address.
    alone: Option<u64>,
}

impl Poller {
    /// One that knows of no owners.
    pub(super) fn new(
        target: SocketAddr,
        clock: Clock,
        diag: SockDiag,
        counters: CounterFile,
    ) -> Poller {
        Poller {
            target: SocketAddr::new(target.ip().to_canonical(), target.port()),
            clock,
            diag,
            counters,
            owners: Owners::new(None, &[], clock.now()),
            is_dual: false,
            alone: None,
        }
    }

    /// Takes the tree below `master` for the server, or without one whoever holds the listeners.
    pub(super) fn whose(&mut self, master: Option<Pid>) -> io::Result<()> {
        let listeners = self.listener_inodes()?;
        self.owners = Owners::new(master, &listeners, self.clock.now());
        Ok(())
    }

    /// Whether a process of the tree is known to hold a listener.
    pub(super) fn is_the_trees(&mut self) -> io::Result<bool> {
        let listeners = self.listener_inodes()?;
        Ok(self.owners.listener_of(&listeners) == ListenerOf::Tree)
    }

    fn listener_inodes(&mut self) -> io::Result<Vec<u64>> {
        let listeners = self.dump_listeners()?;
        Ok(listeners.iter().map(|one| one.inode).collect())
    }

    /// Asks for the listeners alone.
    pub(super) fn listeners(&mut self) -> io::Result<Poll> {
        let asked = self.clock.now();
        let listeners = self.ask_listeners()?;
        Ok(Poll {
            asked,
            answered: self.clock.now(),
            counters: None,
            listeners: Some(listeners),
            connections: None,
        })
    }

    /// Asks for everything: counters, listeners, connections, in this order.
    pub(super) fn everything(&mut self) -> io::Result<Poll> {
        let asked = self.clock.now();
        let counters = self.counters.read()?;
        let listeners = self.dump_listeners()?;
        let sockets = self.dump_connections()?;
        let answered = self.clock.now();
        Ok(Poll {
            asked,
            answered,
            counters: Some(counters),
            listeners: Some(listeners),
            connections: Some(self.polled(&sockets)),
        })
    }

    /// By its address where that is known to find the only one there is, for a tenth of the cost of
    /// looking through the table.
    fn ask_listeners(&mut self) -> io::Result<Vec<Listening>> {
        if let Some(alone) = self.alone
            && let Some(found) = self.diag.listener(self.target)?
            && found.inode == alone
        {
            return Ok(vec![listening(&found)]);
        }
        // That it is not found now may mean that there is another, beside it or instead.
        self.dump_listeners()
    }

    fn dump_listeners(&mut self) -> io::Result<Vec<Listening>> {
        let mut found = Vec::new();
        for &family in self.listening_families() {
            let sockets = self
                .diag
                .dump(family, Kind::Listeners, self.target.port())?;
            found.extend(sockets.into_iter().filter_map(|socket| {
                let fit = fit(&socket, self.target.ip())?;
                Some((fit, socket))
            }));
        }
        // As the kernel does it: who listens on that very address keeps clients from who listens on
        // all of them (inet_lookup_listener).
        let best = found.iter().map(|(fit, _)| *fit).max();
        found.retain(|(fit, _)| Some(*fit) == best);
        let sockets = found.iter().map(|(_, socket)| socket);
        self.is_dual |= self.target.is_ipv4() && sockets.clone().any(|s| s.family == Family::V6);
        // By its address one is found that listens on every interface.
        self.alone = match &found[..] {
            [(_, one)] if one.interface == 0 => Some(one.inode),
            _ => None,
        };
        Ok(sockets.map(listening).collect())
    }

    fn listening_families(&self) -> &'static [Family] {
        match self.target {
            SocketAddr::V4(_) => &[Family::V4, Family::V6],
            SocketAddr::V6(_) => &[Family::V6],
        }
    }

    fn dump_connections(&mut self) -> io::Result<Vec<Found>> {
        let port = self.target.port();
        let mut found = self
            .diag
            .dump(Family::of(self.target), Kind::Connections, port)?;
        if self.is_dual {
            found.extend(self.diag.dump(Family::V6, Kind::Connections, port)?);
        }
        // Those that came to other addresses of the same port are none of ours.
        found.retain(|socket| socket.local.ip().to_canonical() == self.target.ip());
        Ok(found)
    }

    fn polled(&mut self, sockets: &[Found]) -> Vec<Polled> {
        let inodes: Vec<u64> = sockets
            .iter()
            .map(|s| s.inode)
            .filter(|&i| i != 0)
            .collect();
        self.owners.look_up(&inodes, self.clock.now());
        let polled = sockets.iter().map(|socket| Polled {
            client: canonical(socket.remote),
            cookie: socket.cookie,
            state: socket.state,
            owner: self.owners.owner(socket.inode),
            unread: socket.receive_queue,
        });
        polled.collect()
    }
}

/// How well a listener fits a client of `target`; none where it is not let in.
fn fit(socket: &Found, target: IpAddr) -> Option<Fit> {
    let ip = socket.local.ip();
    if ip.to_canonical() == target {
        return Some(Fit::Address);
    }
    let takes = match (socket.family, target) {
        (Family::V4, IpAddr::V4(_)) | (Family::V6, IpAddr::V6(_)) => true,
        (Family::V6, IpAddr::V4(_)) => !socket.v6_only,
        (Family::V4, IpAddr::V6(_)) => false,
    };
    (takes && ip.is_unspecified()).then_some(Fit::Any)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Any,
    Address,
}

fn listening(socket: &Found) -> Listening {
    Listening {
        local: socket.local,
        inode: socket.inode,
        bound: socket.interface != 0,
        queued: socket.receive_queue,
        limit: socket.send_queue,
    }
}

/// A client's address as the packets show it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
