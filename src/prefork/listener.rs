//! The listening socket that master and workers share: opening it, what waits in it, and the filter
//! that holds new clients off.
#![expect(
    clippy::disallowed_types,
    reason = "the embedded server listens and accepts here"
)]

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET};
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::Process as Proc;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::observe::diag;
use crate::sys::{self, reason};

/// How long the kernel waits for a client's first byte under TCP_DEFER_ACCEPT, in seconds, before it
/// has the handshake repeated.
const DEFER_SECONDS: i32 = 30;

/// The flags in a TCP header (RFC 9293 3.1), and the two that tell a client's SYN from the rest.
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const SYN_AND_ACK: u32 = 0x12;

/// Why it cannot listen, with a remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody listens there.
    #[error(
        "somebody already listens on {0}; stop that, or give another port with --listen (port 0 \
         takes a free one)"
    )]
    InUse(SocketAddr),
    /// Every port is taken.
    #[error(
        "no port is free on {}; end programs that hold ports, or widen \
         net.ipv4.ip_local_port_range",
        .0.ip()
    )]
    NoFreePort(SocketAddr),
    /// Not an address of this host.
    #[error("{} is no address of this host; give one that `ip address` shows", .0.ip())]
    NotOurs(SocketAddr),
    /// A port that only root may take.
    #[error("port {} is not for ordinary users; give one of 1024 or more", .0.port())]
    Forbidden(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}: {reason}; give another address with --listen")]
    Other { address: SocketAddr, reason: String },
}

impl BindError {
    fn new(address: SocketAddr, error: &io::Error) -> BindError {
        match error.kind() {
            ErrorKind::AddrInUse if address.port() == 0 => BindError::NoFreePort(address),
            ErrorKind::AddrInUse => BindError::InUse(address),
            ErrorKind::AddrNotAvailable => BindError::NotOurs(address),
            ErrorKind::PermissionDenied => BindError::Forbidden(address),
            _ => BindError::Other {
                address,
                reason: reason(error),
            },
        }
    }
}

/// A copy of the listening socket. The kernel closes it when the last process has closed its own.
pub(super) struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`.
    pub(super) fn open(
        address: SocketAddr,
        backlog: i32,
        deferred: bool,
    ) -> Result<Listener, BindError> {
        Listener::listen(address, backlog, deferred)
            .map_err(|error| BindError::new(address, &error))
    }

    fn listen(address: SocketAddr, backlog: i32, deferred: bool) -> io::Result<Listener> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        // A port in TIME-WAIT may be listened on again, as every server does.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        if deferred {
            sys::socket::defer_accept(&socket, DEFER_SECONDS)?;
        }
        socket.listen(backlog)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Listener { socket, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes a connection out of the accept queue, and the address of its client; none where the
    /// queue is empty.
    pub(super) fn accept(&self) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        loop {
            match acceptfrom_with(&self.socket, flags) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    return Ok(Some((socket, as_it_says(peer.unwrap_or(self.address)))));
                }
                Err(Errno::AGAIN) => return Ok(None),
                // The client gave up while it was queued: there may be another behind it.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How many connections wait in the accept queue.
    pub(super) fn queued(&self) -> io::Result<u32> {
        sys::socket::accept_queue(&self.socket)
    }

    /// How many handshakes are under way on its port.
    pub(super) fn half_open(&self) -> usize {
        let port = self.address.port();
        // Without sock_diag there is a table to look through, which beside many connections is long.
        diag::half_open(port).unwrap_or_else(|_| half_open_in_table(port))
    }

    /// Has the kernel drop new SYNs, for every process that shares the socket: clients send them
    /// again after a second, while handshakes under way finish. Calling it again changes nothing.
    pub(super) fn hold_off_clients(&self) -> io::Result<()> {
        // The filter of a TCP socket sees a packet from the TCP header on. An ECN SYN has more flags.
        self.socket.attach_filter(&[
            line(BPF_LD | BPF_B | BPF_ABS, 0, 0, FLAGS),
            line(BPF_ALU | BPF_AND | BPF_K, 0, 0, SYN_AND_ACK),
            line(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYN),
            line(BPF_RET | BPF_K, 0, 0, 0),
            line(BPF_RET | BPF_K, 0, 0, u32::MAX),
        ])
    }

    /// Has the kernel take new SYNs again; false where nothing kept it from that.
    pub(super) fn let_clients_in(&self) -> bool {
        self.socket.detach_filter().is_ok()
    }

    /// Whether [`hold_off_clients`](Listener::hold_off_clients) will be allowed when it is needed:
    /// some kernels let nobody filter without CAP_NET_ADMIN (seen on 6.18).
    pub(super) fn may_be_filtered(&self) -> io::Result<()> {
        self.socket
            .attach_filter(&[line(BPF_RET | BPF_K, 0, 0, u32::MAX)])?;
        self.socket.detach_filter()
    }
}

/// The same as /proc/net/tcp shows it.
fn half_open_in_table(port: u16) -> usize {
    let Ok(us) = Proc::myself() else {
        return 0;
    };
    // A wildcard IPv6 listener takes IPv4 clients, whose handshakes the IPv4 table lists.
    let (v4, v6) = (us.tcp().unwrap_or_default(), us.tcp6().unwrap_or_default());
    let half_open = |entry: &&TcpNetEntry| {
        entry.state == TcpState::SynRecv && entry.local_address.port() == port
    };
    v4.iter().chain(&v6).filter(half_open).count()
}

/// A client's address as the client knows it: to an IPv6 listener an IPv4 client is `::ffff:a.b.c.d`.
fn as_it_says(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, peer.port()),
        // With its scope.
        IpAddr::V6(_) => peer,
    }
}

/// One instruction of a filter.
fn line(code: u32, jt: u8, jf: u8, k: u32) -> SockFilter {
    SockFilter::new(u16::try_from(code).unwrap_or(u16::MAX), jt, jf, k)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
