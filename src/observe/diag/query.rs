//! Questions to sock_diag (sock_diag(7), net/ipv4/inet_diag.c) about the sockets of one port, and
//! their answers. Which to ask and when is left to [`poller`](super::poller).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, recv};

use crate::kernel::TcpState;
use crate::sys::timespec;

/// The kernel fills no more than this at a time (max_recvmsg_len in net/netlink/af_netlink.c).
const ROOM: usize = 32 * 1024;
/// Answers are there when the question has been sent; what takes longer will never come.
const PATIENCE: Duration = Duration::from_secs(1);
/// Any socket of that address, whichever its cookie (INET_DIAG_NOCOOKIE).
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// Sockets of which a family's table is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: SocketAddr) -> Family {
        match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }

    fn number(self) -> u8 {
        match self {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        }
    }

    fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// Which sockets are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Those that listen.
    Listeners,
    /// Connections and handshakes. TIME-WAIT is left out: there can be tens of thousands, and nobody
    /// holds them.
    Connections,
    /// Handshakes alone. The kernel takes SYN-RECV to mean those without a socket as well.
    Handshakes,
}

impl Kind {
    fn states(self) -> StateFlags {
        match self {
            Kind::Listeners => StateFlags::LISTEN,
            Kind::Handshakes => StateFlags::SYN_RECV,
            Kind::Connections => {
                StateFlags::ESTABLISHED
                    | StateFlags::SYN_RECV
                    | StateFlags::FIN_WAIT1
                    | StateFlags::FIN_WAIT2
                    | StateFlags::CLOSE_WAIT
                    | StateFlags::LAST_ACK
                    | StateFlags::CLOSING
            }
        }
    }
}

/// A socket as sock_diag describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) family: Family,
    pub(super) state: TcpState,
    /// The server's end, as the socket has it: an IPv4 client's connection to an IPv6 listener is
    /// `::ffff:a.b.c.d`.
    pub(super) local: SocketAddr,
    /// The client's end, likewise.
    pub(super) remote: SocketAddr,
    /// The kernel's number for it (idiag_cookie), of no other before or after it.
    pub(super) cookie: u64,
    /// The interface that it is bound to, or 0.
    pub(super) interface: u32,
    /// Of a listener: connections in its accept queue. Else: bytes that nobody has read.
    pub(super) receive_queue: u32,
    /// Of a listener: its backlog.
    pub(super) send_queue: u32,
    /// 0 where no process has it.
    pub(super) inode: u64,
    /// Takes no IPv4 clients (IPV6_V6ONLY).
    pub(super) v6_only: bool,
}

/// A netlink socket that stays in the name space it was opened in, whichever thread uses it.
pub(super) struct SockDiag {
    socket: Socket,
    sequence: u32,
    room: Vec<u8>,
}

impl SockDiag {
    /// Opens one in the name space of this thread.
    pub(super) fn open() -> io::Result<SockDiag> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        Ok(SockDiag {
            socket,
            sequence: 0,
            room: vec![0; ROOM],
        })
    }

    /// The sockets of a family whose local port is `port`: the kernel passes over all others. An
    /// answer that is not whole (`NLM_F_DUMP_INTR`, or a part of it cannot be read) is an error.
    pub(super) fn dump(&mut self, family: Family, kind: Kind, port: u16) -> io::Result<Vec<Found>> {
        let local = SocketAddr::new(family.unspecified(), port);
        let mut found = Vec::new();
        self.ask(family, kind, local, NLM_F_DUMP, &mut found)?;
        Ok(found)
    }

    /// The socket that a client of `local` is let in by, found as the kernel finds it for a SYN; none
    /// where nobody listens there. Of several that share the port it is one.
    pub(super) fn listener(&mut self, local: SocketAddr) -> io::Result<Option<Found>> {
        let mut found = Vec::new();
        match self.ask(Family::of(local), Kind::Listeners, local, 0, &mut found) {
            Ok(()) => Ok(found.pop()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ask(
        &mut self,
        family: Family,
        kind: Kind,
        local: SocketAddr,
        flags: u16,
        found: &mut Vec<Found>,
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(family, kind, local, flags, self.sequence);
        self.socket.send(&question, 0)?;
        let mut answer = Answer {
            sequence: self.sequence,
            dumped: flags & NLM_F_DUMP != 0,
            broken: None,
            found,
        };
        loop {
            let len = self.receive()?;
            if let Some(end) = answer.take(&self.room[..len]) {
                return end;
            }
        }
    }

    /// The next datagram's length. One that did not fit would be cut, and found out by its messages'
    /// lengths.
    fn receive(&mut self) -> io::Result<usize> {
        loop {
            match recv(&self.socket, self.room.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((len, _)) => return Ok(len),
                Err(rustix::io::Errno::AGAIN) => self.wait()?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(PATIENCE))) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The bytes that ask for sockets of `local`'s port; without `NLM_F_DUMP` for the one that a client
/// of `local` would get.
fn question(family: Family, kind: Kind, local: SocketAddr, flags: u16, sequence: u32) -> Vec<u8> {
    let request = InetRequest {
        family: family.number(),
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: kind.states(),
        socket_id: SocketId {
            source_port: local.port(),
            destination_port: 0,
            source_address: local.ip(),
            destination_address: family.unspecified(),
            interface_id: 0,
            cookie: ANY_COOKIE,
        },
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let payload = NetlinkPayload::from(SockDiagMessage::InetRequest(request));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// An answer under way.
struct Answer<'a> {
    /// Its question's number: what a question before it left behind is passed over.
    sequence: u32,
    dumped: bool,
    /// Why it is not whole. It is read to its end all the same, or the next question would be refused
    /// while this one is under way.
    broken: Option<io::Error>,
    found: &'a mut Vec<Found>,
}

impl Answer<'_> {
    /// Takes a datagram; says how the answer ended, where it did.
    fn take(&mut self, mut bytes: &[u8]) -> Option<io::Result<()>> {
        while !bytes.is_empty() {
            let (message, rest) = match split(bytes) {
                Some(parts) => parts,
                None => return Some(Err(io::ErrorKind::InvalidData.into())),
            };
            bytes = rest;
            match NetlinkMessage::<SockDiagMessage>::deserialize(message) {
                Ok(message) if message.header.sequence_number == self.sequence => {
                    if let Some(end) = self.message(message) {
                        return Some(end);
                    }
                }
                Ok(_) => {}
                Err(error) => self.broken(io::ErrorKind::InvalidData, &error.to_string()),
            }
        }
        None
    }

    fn message(&mut self, message: NetlinkMessage<SockDiagMessage>) -> Option<io::Result<()>> {
        if message.header.flags & NLM_F_DUMP_INTR != 0 {
            self.broken(
                io::ErrorKind::Interrupted,
                "the table changed under the dump",
            );
        }
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                self.found.extend(found(&socket));
                (!self.dumped).then(|| self.end())
            }
            NetlinkPayload::Done(done) if done.code == 0 => Some(self.end()),
            NetlinkPayload::Done(done) => Some(Err(io::Error::from_raw_os_error(-done.code))),
            NetlinkPayload::Error(error) => Some(Err(error.to_io())),
            _ => None,
        }
    }

    fn broken(&mut self, kind: io::ErrorKind, why: &str) {
        self.broken.get_or_insert(io::Error::new(kind, why));
    }

    fn end(&mut self) -> io::Result<()> {
        self.broken.take().map_or(Ok(()), Err)
    }
}

/// The first message and what is behind it: each is padded to four bytes (netlink(7)).
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let len = usize::try_from(len).ok()?;
    let message = bytes.get(..len).filter(|message| message.len() >= 16)?;
    let rest = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((message, rest))
}

fn found(socket: &InetResponse) -> Option<Found> {
    let header = &socket.header;
    let id = &header.socket_id;
    let family = match header.family {
        AF_INET => Family::V4,
        AF_INET6 => Family::V6,
        _ => return None,
    };
    Some(Found {
        family,
        state: TcpState::from_number(header.state)?,
        local: SocketAddr::new(id.source_address, id.source_port),
        remote: SocketAddr::new(id.destination_address, id.destination_port),
        cookie: u64::from_ne_bytes(id.cookie),
        interface: id.interface_id,
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        inode: header.inode.into(),
        v6_only: socket.nlas.contains(&Nla::SkV6Only(true)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 9292;

    /// A message of a type, with flags and a sequence number, around `payload`.
    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(16 + payload.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// struct inet_diag_msg of an IPv4 socket, and an attribute that no crate knows.
    fn socket(state: u8, client: u16, queues: [u32; 2], inode: u32) -> Vec<u8> {
        let mut bytes = vec![AF_INET, state, 0, 0];
        bytes.extend(PORT.to_be_bytes());
        bytes.extend(client.to_be_bytes());
        for ip in [[127, 0, 0, 1], [10, 1, 2, 3]] {
            bytes.extend(ip);
            bytes.extend([0; 12]);
        }
        bytes.extend([0; 4]);
        bytes.extend(u64::from(client).to_ne_bytes());
        bytes.extend([0; 4]);
        for number in [queues[0], queues[1], 1000, inode] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend([5, 0, 99, 0, 7, 0, 0, 0]);
        bytes
    }

    /// What becomes of question number 7, in datagrams.
    fn answer(dumped: bool, datagrams: &[Vec<u8>]) -> (Option<io::Result<()>>, Vec<Found>) {
        let mut found = Vec::new();
        let mut answer = Answer {
            sequence: 7,
            dumped,
            broken: None,
            found: &mut found,
        };
        let end = datagrams.iter().find_map(|bytes| answer.take(bytes));
        (end, found)
    }

    const SOCKET: u16 = 20;
    const DONE: u16 = 3;
    const ERROR: u16 = 2;
    const MULTI: u16 = 2;

    #[test]
    fn a_dump_asks_for_one_port_and_leaves_time_wait_out() {
        let local = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
        let bytes = question(Family::V4, Kind::Connections, local, NLM_F_DUMP, 7);
        // struct nlmsghdr and struct inet_diag_req_v2.
        assert_eq!(bytes.len(), 16 + 56);
        assert_eq!(bytes[4..6], SOCKET.to_ne_bytes());
        assert_eq!(bytes[6..8], (1u16 | 0x300).to_ne_bytes());
        assert_eq!(bytes[8..12], 7u32.to_ne_bytes());
        assert_eq!(bytes[16..18], [AF_INET, IPPROTO_TCP]);
        let states: Vec<u32> = (1..32)
            .filter(|n| u32::from_ne_bytes(bytes[20..24].try_into().unwrap()) & (1 << n) != 0)
            .collect();
        assert_eq!(states, [1, 3, 4, 5, 8, 9, 11]);
        assert_eq!(bytes[24..28], [0x24, 0x4c, 0, 0]);
        assert_eq!(bytes[64..72], ANY_COOKIE);
    }

    #[test]
    fn a_dump_comes_in_parts_and_ends_with_done() {
        let parts = [
            [
                message(SOCKET, MULTI, 7, &socket(1, 50_000, [83, 0], 4711)),
                message(SOCKET, MULTI, 7, &socket(3, 50_001, [0, 0], 0)),
            ]
            .concat(),
            message(DONE, MULTI, 7, &[0; 4]),
        ];
        let (end, found) = answer(true, &parts);
        assert!(end.unwrap().is_ok());
        let [first, second] = found[..] else {
            unreachable!("two: {found:?}");
        };
        assert_eq!(first.state, TcpState::Established);
        assert_eq!(first.local.to_string(), "127.0.0.1:9292");
        assert_eq!(first.remote.to_string(), "10.1.2.3:50000");
        assert_eq!((first.receive_queue, first.inode), (83, 4711));
        assert_eq!((first.interface, first.cookie), (0, 50_000));
        assert_eq!((second.state, second.inode), (TcpState::SynRecv, 0));
        // It has not ended before its end came.
        let (end, _) = answer(true, &parts[..1]);
        assert!(end.is_none());
    }

    #[test]
    fn what_was_left_of_an_earlier_question_is_passed_over() {
        let parts = [
            message(SOCKET, MULTI, 6, &socket(1, 50_000, [0, 0], 1)),
            message(DONE, MULTI, 6, &[0; 4]),
            message(DONE, MULTI, 7, &[0; 4]),
        ];
        assert!(answer(true, &parts[..2]).0.is_none());
        let (end, found) = answer(true, &parts);
        assert!(end.unwrap().is_ok() && found.is_empty());
    }

    #[test]
    fn an_interrupted_dump_is_read_to_its_end_and_not_believed() {
        let parts = [
            message(SOCKET, MULTI, 7, &socket(1, 50_000, [0, 0], 1)),
            message(
                SOCKET,
                MULTI | NLM_F_DUMP_INTR,
                7,
                &socket(1, 50_001, [0, 0], 2),
            ),
            message(DONE, MULTI, 7, &[0; 4]),
        ];
        assert!(answer(true, &parts[..2]).0.is_none());
        let error = answer(true, &parts).0.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn a_refusal_is_the_kernels_own_error() {
        let refused = message(ERROR, 0, 7, &(-libc::EPERM).to_ne_bytes());
        let error = answer(true, &[refused]).0.unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let failed = message(DONE, MULTI, 7, &(-libc::ENOENT).to_ne_bytes());
        let error = answer(true, &[failed]).0.unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn one_socket_is_an_answer_where_one_was_asked_for() {
        let listener = message(SOCKET, 0, 7, &socket(10, 0, [3, 2], 4711));
        let (end, found) = answer(false, &[listener]);
        assert!(end.unwrap().is_ok());
        assert_eq!(found[0].state, TcpState::Listen);
        assert_eq!((found[0].receive_queue, found[0].send_queue), (3, 2));
    }

    #[test]
    fn bytes_that_are_no_message_end_the_answer() {
        for cut in [
            vec![1, 2, 3],
            vec![200, 0, 0, 0, 1],
            vec![0; 64],
            message(DONE, 0, 7, &[0; 4])[..10].to_vec(),
        ] {
            let error = answer(true, &[cut]).0.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
