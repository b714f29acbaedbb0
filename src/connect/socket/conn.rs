//! One connection: from connect() to close(), each call's error taken in the order in which a
//! caller would meet it.
#![expect(clippy::disallowed_types, reason = "this room makes connections")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use nix::errno::Errno as Os;
use rustix::event::epoll::EventFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::connect::answer::Answer;
use crate::connect::errno::classify;
use crate::connect::request::Template;
use crate::connect::{Job, Opening};
use crate::outcome::{Attempt, Call, Cohort, Errno, Failure, Maker, SocketEnd};
use crate::sys;
use crate::time::{Clock, Stamp};

/// What all connections of an engine share: the template and the buffers.
pub(super) struct Io {
    template: Template,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// An open connection.
pub(super) struct Conn {
    stream: TcpStream,
    attempt: Attempt,
    answer: Answer,
    phase: Phase,
    /// Its request waits for the trigger.
    waits: bool,
    /// What write() has not taken yet.
    unsent: Vec<u8>,
    /// write() failed in a way that read() explains.
    write_failed: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// connect() has not been answered.
    Connecting,
    /// Connected; the request waits for the trigger.
    Idle,
    /// Connected; the request may be sent.
    Ready,
    /// The request is being or was sent.
    Asked,
}

/// An attempt that never became a connection.
pub(super) struct Failed {
    pub(super) attempt: Box<Attempt>,
}

impl Failed {
    /// Whether the source address had no port left, or none but the target's own.
    pub(super) fn is_out_of_ports(&self) -> bool {
        let address_in_use = [Os::EADDRNOTAVAIL as i32, Os::EADDRINUSE as i32];
        matches!(
            self.attempt.end,
            SocketEnd::Failed(Failure { errno: Errno::Other(code), .. })
                if address_in_use.contains(&code)
        )
    }
}

impl Io {
    pub(super) fn new(template: Template) -> Io {
        Io {
            template,
            request: Vec::new(),
            buffer: vec![0; 64 * 1024],
        }
    }
}

impl Conn {
    /// Calls connect().
    pub(super) fn open(
        job: &Job,
        opening: Opening,
        source: Option<IpAddr>,
        clock: &Clock,
    ) -> Result<Conn, Failed> {
        let target = job.target;
        let mut attempt = opening.attempt(Maker::Socket, target, clock.now());
        let fail = |mut attempt: Attempt, call, error: io::Error| {
            let errno = classify(&error);
            attempt.end = SocketEnd::Failed(Failure { call, errno });
            attempt.ended = clock.now();
            Failed {
                attempt: Box::new(attempt),
            }
        };
        let socket = match make_socket(target, source) {
            Ok(socket) => socket,
            Err(error) => return Err(fail(attempt, Call::Socket, error)),
        };
        attempt.opened = clock.now();
        let called = socket.connect(&SockAddr::from(target));
        attempt.local = local_address(&socket);
        if attempt
            .local
            .is_some_and(|local| is_same_end(local, target))
        {
            attempt.local = None;
            let error = io::Error::from_raw_os_error(Os::EADDRNOTAVAIL as i32);
            return Err(fail(attempt, Call::Socket, error));
        }
        match called {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Os::EINPROGRESS as i32) => {}
            Err(error) => return Err(fail(attempt, Call::Connect, error)),
        }
        Ok(Conn {
            stream: socket.into(),
            attempt,
            answer: Answer::new(job.content),
            phase: Phase::Connecting,
            waits: opening.cohort == Cohort::Idle,
            unsent: Vec::new(),
            write_failed: None,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn opened(&self) -> Stamp {
        self.attempt.opened
    }

    /// Whether its response is complete, or no longer of interest.
    pub(super) fn is_complete(&self) -> bool {
        self.answer.is_complete()
    }

    /// Whether connect() has not been answered.
    pub(super) fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// Whether its deadline runs from its SYN.
    pub(super) fn counts_from_syn(&self) -> bool {
        self.attempt.cohort == Cohort::Steady || self.phase == Phase::Connecting
    }

    /// The trigger was pulled: an idle connection sends its request, one that is still connecting
    /// as soon as it is connected.
    pub(super) fn release(&mut self) {
        self.waits = false;
        if self.phase == Phase::Idle {
            self.phase = Phase::Ready;
        }
    }

    /// Takes what epoll reported; says what ended the connection, if anything did.
    pub(super) fn handle(
        &mut self,
        flags: EventFlags,
        now: Stamp,
        clock: &Clock,
        io: &mut Io,
    ) -> Option<SocketEnd> {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if self.phase == Phase::Connecting {
            if broken && let Some(error) = self.pending_error() {
                return Some(failed(Call::Connect, &error));
            }
            if !flags.contains(EventFlags::OUT) {
                return None;
            }
            self.attempt.connected = Some(now);
            self.phase = if self.waits {
                Phase::Idle
            } else {
                Phase::Ready
            };
        }
        if self.phase == Phase::Idle {
            // A reset while idle: the next write() would fail with it. What came before it can still
            // be read: a server that loses patience may have said so.
            if flags.contains(EventFlags::ERR)
                && let Some(error) = self.pending_error()
            {
                self.write_failed = Some(failure(Call::Write, &error));
                return self.read(true, clock, io);
            }
            return None;
        }
        let asking = self.phase == Phase::Ready;
        if asking {
            self.begin_request(clock, io);
        }
        self.write();
        // What came while idle raised its edge then; after the request it is read at once.
        let came = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let idle = self.attempt.cohort == Cohort::Idle;
        if flags.intersects(came) || (asking && idle) || self.write_failed.is_some() {
            let ended = flags.intersects(came.difference(EventFlags::IN)) || idle;
            return self.read(ended, clock, io);
        }
        None
    }

    /// SO_ERROR, which reading consumes.
    fn pending_error(&self) -> Option<io::Error> {
        self.stream.take_error().unwrap_or_else(Some)
    }

    fn begin_request(&mut self, clock: &Clock, io: &mut Io) {
        io.request.clear();
        io.template.render(self.attempt.conn, &mut io.request);
        self.attempt.request_len = io.request.len() as u64;
        self.attempt.request = Some(clock.now());
        self.phase = Phase::Asked;
        self.unsent.clear();
        match self.stream.write(&io.request) {
            Ok(n) => {
                self.attempt.written = n as u64;
                self.unsent.extend_from_slice(&io.request[n..]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(&io.request);
            }
            Err(error) => self.write_failed = Some(failure(Call::Write, &error)),
        }
    }

    /// Sends what is left of the request. After a failure the response may still be read: the
    /// server may have answered before it had read all.
    fn write(&mut self) {
        while self.write_failed.is_none() && !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(n) => {
                    self.attempt.written += n as u64;
                    self.unsent.drain(..n);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.write_failed = Some(failure(Call::Write, &error)),
            }
        }
    }

    /// Reads what is there; `ended` where epoll said that no more will come.
    fn read(&mut self, ended: bool, clock: &Clock, io: &mut Io) -> Option<SocketEnd> {
        // The first error is the one a caller would have met; EPIPE only repeats what read() says.
        let first = self.write_failed.filter(|f| f.errno != Errno::Pipe);
        loop {
            match self.stream.read(&mut io.buffer) {
                // A failed write() consumed the error that read() would have returned.
                Ok(0) if first.is_some() => return first.map(SocketEnd::Failed),
                Ok(0) => {
                    self.answer.finish(clock.now());
                    return Some(SocketEnd::Eof);
                }
                Ok(n) => {
                    self.answer.take(&io.buffer[..n], clock.now());
                    // A short read emptied the socket; the next byte raises a new edge.
                    if n < io.buffer.len() && !ended {
                        return None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.write_failed.map(SocketEnd::Failed);
                }
                Err(error) => {
                    let failure = first.unwrap_or_else(|| failure(Call::Read, &error));
                    return Some(SocketEnd::Failed(failure));
                }
            }
        }
    }

    /// Closes the socket, TCP_INFO read last.
    pub(super) fn close(mut self, end: SocketEnd, at: Stamp) -> Attempt {
        self.attempt.response = self.answer.response();
        self.attempt.info = sys::socket::tcp_info(&self.stream).ok();
        self.attempt.end = end;
        self.attempt.ended = at;
        self.attempt
    }

    /// Gives up before anything could be seen of the connection.
    pub(super) fn fail_locally(self, error: io::Error, clock: &Clock) -> Failed {
        let end = failed(Call::Socket, &error);
        Failed {
            attempt: Box::new(self.close(end, clock.now())),
        }
    }
}

fn make_socket(target: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    if let Some(source) = source {
        sys::socket::bind_address_only(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// Whether a connection leads to itself. Towards a port of its own ephemeral range on which nobody
/// listens, the kernel may choose that very port as the source; its SYN then meets itself
/// (simultaneous open, RFC 9293 3.5), and no server was asked.
fn is_same_end(local: SocketAddr, target: SocketAddr) -> bool {
    (local.ip(), local.port()) == (target.ip(), target.port())
}

fn local_address(socket: &Socket) -> Option<SocketAddr> {
    let address = socket.local_addr().ok()?.as_socket()?;
    // Without a link-local address's scope, which its packets do not carry.
    (address.port() != 0).then(|| SocketAddr::new(address.ip(), address.port()))
}

fn failed(call: Call, error: &io::Error) -> SocketEnd {
    SocketEnd::Failed(failure(call, error))
}

fn failure(call: Call, error: &io::Error) -> Failure {
    Failure {
        call,
        errno: classify(error),
    }
}
