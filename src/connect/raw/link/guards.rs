//! Guards: source ports held in the kernel by listening sockets that take nothing, so that no other
//! program uses them and the kernel answers nothing that comes for them (FACTS: it would send RST).
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
    unfiltered: bool,
}

impl Guards {
    /// Guards for connections to `target`; none is held yet.
    pub(crate) fn new(target: SocketAddr) -> Guards {
        Guards {
            target,
            held: HashMap::new(),
            unfiltered: false,
        }
    }

    /// Takes a port that nobody uses, on every address of this host, and guards it until it is
    /// released. Errors: EADDRINUSE where ip_local_port_range has none left, EMFILE.
    pub(crate) fn take(&mut self) -> io::Result<u16> {
        loop {
            let (socket, filtered) = guard(self.target)?;
            let address = socket.local_addr()?.as_socket();
            let port = address.ok_or(io::ErrorKind::InvalidData)?.port();
            let again = port == self.target.port();
            self.held.insert(port, socket);
            if !again {
                self.unfiltered |= !filtered;
                return Ok(port);
            }
        }
    }

    /// Lets go of a port. Where a peer still has state for it, what that sends is then answered with
    /// RST by the kernel.
    pub(crate) fn release(&mut self, port: u16) {
        self.held.remove(&port);
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether they hold off whatever comes. Without CAP_NET_ADMIN segments with a TTL or hop limit
    /// of 255 pass, which the kernel then answers: some stacks begin with it, and it arrives whole
    /// from this host and its own network.
    pub(crate) fn are_tight(&self) -> bool {
        !self.unfiltered
    }
}

/// A listening socket on a port that the kernel chooses, and whether it has a filter.
fn guard(target: SocketAddr) -> io::Result<(Socket, bool)> {
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
    // Before it is bound: nothing may come in between.
    drop_below_ttl_255(&socket, any.is_ipv6())?;
    let filtered = socket
        .attach_filter(&[SockFilter::new(DROP, 0, 0, 0)])
        .is_ok();
    socket.bind(&any.into())?;
    socket.listen(0)?;
    Ok((socket, filtered))
}
