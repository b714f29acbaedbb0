//! Packets on their way out: in one run of memory until a batch of them goes to the kernel.
#![expect(clippy::disallowed_types, reason = "packets leave by a raw socket")]

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use socket2::{SockAddr, Socket};

use crate::sys::batch;

/// Room for a batch of segments of an Ethernet's MTU, more where they are longer.
const ROOM: usize = batch::AT_ONCE * 1500;

/// A packet that the kernel refused to send.
#[derive(Debug)]
pub(crate) struct Refused {
    /// As it was queued.
    pub(crate) packet: Box<[u8]>,
    /// Why, by its errno.
    pub(crate) error: io::Error,
}

/// What is to be sent, in order.
pub(super) struct Outbox {
    socket: Socket,
    to: SockAddr,
    bytes: Vec<u8>,
    /// The packets' lengths; the first begins at `sent`.
    lengths: VecDeque<usize>,
    /// Bytes at the start of `bytes` that are done with.
    sent: usize,
    refused: Vec<Refused>,
}

impl Outbox {
    pub(super) fn new(socket: Socket, target: SocketAddr) -> Outbox {
        let mut to = target;
        // Of a raw socket the port is a protocol, and 0 is the socket's own (rawv6_sendmsg).
        to.set_port(0);
        Outbox {
            socket,
            to: to.into(),
            bytes: Vec::with_capacity(ROOM),
            lengths: VecDeque::with_capacity(batch::AT_ONCE),
            sent: 0,
            refused: Vec::new(),
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Takes a packet, and sends every time a batch is full.
    pub(super) fn push(&mut self, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
        self.lengths.push_back(packet.len());
        if self.lengths.len().is_multiple_of(batch::AT_ONCE) {
            self.flush();
        }
    }

    /// Sends until nothing is left or the socket's buffer is full.
    pub(super) fn flush(&mut self) {
        while !self.is_empty() {
            match batch::send(&self.socket, &self.to, self.packets()) {
                Ok(sent) => self.forget(sent),
                Err(error) if is_full(&error) => break,
                Err(error) => {
                    let packet = self.packets().next().unwrap_or_default().into();
                    self.refused.push(Refused { packet, error });
                    self.forget(1);
                }
            }
        }
        self.bytes.drain(..self.sent);
        self.sent = 0;
    }

    pub(super) fn take_refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[self.sent..];
        self.lengths.iter().map(move |&len| {
            let (packet, behind) = rest.split_at(len);
            rest = behind;
            packet
        })
    }

    fn forget(&mut self, packets: usize) {
        self.sent += self.lengths.drain(..packets).sum::<usize>();
    }
}

/// Nothing is wrong with the packet: there is no room for it now. A queue of the interface's that is
/// full drops it instead and says nothing (raw_sendmsg without IP_RECVERR), but the socket's buffer
/// of net.core.wmem_default, some 270 packets, is less than such a queue holds.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR)
    )
}
