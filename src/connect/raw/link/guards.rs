//! Guards: source ports held in the kernel by listening sockets that take nothing, so that no other
//! program uses them and the kernel does not answer with RST what comes for them.
#![expect(clippy::disallowed_types, reason = "guards listen")]

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::{BPF_K, BPF_RET};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::sys::socket::drop_below_ttl_255;

/// A filter's only instruction: drop the segment.
#[expect(clippy::cast_possible_truncation, reason = "0x06 in the field's width")]
const DROP: u16 = (BPF_RET | BPF_K) as u16;

/// Source ports and the sockets that hold them. Dropping it lets go of all.
pub(crate) struct Guards {
    target: SocketAddr,
    held: HashMap<u16, Socket>,
}

impl Guards {
    /// Guards for connections to `target`; none is held yet.
    pub(crate) fn new(target: SocketAddr) -> Guards {
        Guards {
            target,
            held: HashMap::new(),
        }
    }

    /// Takes a port that nobody uses, on every address of this host, and guards it until it is
    /// released. Errors: EADDRINUSE where ip_local_port_range has none left, EMFILE.
    pub(crate) fn take(&mut self) -> io::Result<u16> {
        let mut guard = Guard::open(self.target)?;
        if guard.port == self.target.port() {
            // On this host it would take the target's own place. Held until there is another, so that
            // it does not come again.
            guard = Guard::open(self.target)?;
        }
        let Guard { socket, port } = guard;
        self.held.insert(port, socket);
        Ok(port)
    }

    /// Whether a port is held.
    pub(crate) fn hold(&self, port: u16) -> bool {
        self.held.contains_key(&port)
    }

    /// All that are held.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.held.keys().copied()
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Another descriptor of a guard's.
    #[cfg(test)]
    pub(super) fn copy(&self, port: u16) -> Socket {
        self.held[&port].try_clone().unwrap()
    }
}

/// A listening socket that takes nothing.
struct Guard {
    socket: Socket,
    port: u16,
}

impl Guard {
    /// One on a port that the kernel chooses.
    fn open(target: SocketAddr) -> io::Result<Guard> {
        let dual = Socket::new(Domain::IPV6, Type::STREAM.cloexec(), None);
        let (socket, any) = match dual {
            Ok(socket) => {
                socket.set_only_v6(false)?;
                (socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
            }
            // A kernel without IPv6.
            Err(_) if target.is_ipv4() => (
                Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?,
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            ),
            Err(error) => return Err(error),
        };
        // Before it listens: nothing may come in between.
        drop_below_ttl_255(&socket, any.is_ipv6())?;
        // Without CAP_NET_ADMIN what begins with a TTL of 255 still passes, which some stacks send: it
        // arrives whole from this host and its own network, and the kernel answers it.
        let _ = socket.attach_filter(&[SockFilter::new(DROP, 0, 0, 0)]);
        socket.bind(&any.into())?;
        socket.listen(0)?;
        let address = socket.local_addr()?.as_socket();
        let port = address.ok_or(io::ErrorKind::InvalidData)?.port();
        Ok(Guard { socket, port })
    }
}
