//! One client of a worker: its request is read as it comes and thrown away, a short answer is
//! written. When it is read and answered is for the [`worker`](super::worker) to say.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::Shutdown;

use crate::http::{Asked, MAX_HEAD, RequestEvent, RequestReader};
use crate::time::Stamp;

/// A client that has not sent its whole request by then is sent away.
pub(super) const IDLE: Duration = Duration::from_secs(10);
/// How long a client that was sent away may go on sending: a close over unread bytes would reset the
/// connection before it has read why.
const LINGER: Duration = Duration::from_secs(2);
/// Read at a time.
const BUFFER: usize = 16 * 1024;

/// A connection that a worker has accepted.
pub(super) struct Client {
    socket: OwnedFd,
    /// Its address.
    pub(super) peer: SocketAddr,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Bytes read from it.
    pub(super) received: usize,
    request: RequestReader,
    to_head: bool,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its request is awaited.
    Reading { until: Stamp },
    /// Its request is there, and all threads are busy.
    Waiting,
    /// A thread is at it.
    Served { due: Stamp },
    /// It was told why it is not served, and what it still sends is thrown away.
    Lingering { until: Stamp },
}

/// What a read brought.
pub(super) enum Got {
    /// Nothing, or not enough.
    Part,
    /// The rest of a request.
    Request,
    /// What is no request that can be served.
    Refused(Status),
    /// The client's end of the connection.
    End,
    /// Its loss.
    Lost(Errno),
}

/// A response's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(u16, &'static str);

impl Status {
    pub(super) const OK: Status = Status(200, "OK");
    pub(super) const BAD_REQUEST: Status = Status(400, "Bad Request");
    pub(super) const TIMEOUT: Status = Status(408, "Request Timeout");
    pub(super) const TOO_LARGE: Status = Status(431, "Request Header Fields Too Large");

    /// Its number.
    pub(super) fn code(self) -> u16 {
        self.0
    }
}

impl Client {
    /// A client that was accepted at `now`.
    pub(super) fn new(socket: OwnedFd, peer: SocketAddr, now: Stamp) -> Client {
        Client {
            socket,
            peer,
            stage: Stage::Reading { until: now + IDLE },
            received: 0,
            request: RequestReader::default(),
            to_head: false,
        }
    }

    /// Whether bytes from it are awaited.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.stage, Stage::Reading { .. } | Stage::Lingering { .. })
    }

    /// Reads what has come of its request.
    pub(super) fn read(&mut self) -> Got {
        let mut buffer = [0; BUFFER];
        let bytes = match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) => return Got::End,
            Ok(n) => &buffer[..n],
            Err(Errno::AGAIN | Errno::INTR) => return Got::Part,
            Err(error) => return Got::Lost(error),
        };
        if matches!(self.stage, Stage::Lingering { .. }) {
            return Got::Part;
        }
        self.received += bytes.len();
        let to_head = &mut self.to_head;
        let is_http = self.request.push(bytes, &mut |event| match event {
            RequestEvent::Head(asked) => *to_head = asked == Asked::Head,
            RequestEvent::Began => {}
        });
        // A second request is not answered: the first one's response ends the connection.
        if self.request.is_complete() || self.request.requests() > 1 {
            Got::Request
        } else if is_http {
            Got::Part
        } else if self.received > MAX_HEAD {
            Got::Refused(Status::TOO_LARGE)
        } else {
            Got::Refused(Status::BAD_REQUEST)
        }
    }

    /// Writes its answer, and returns how long it was.
    pub(super) fn answer(&self, status: Status, body: &str, now: Stamp) -> io::Result<usize> {
        let response = response(
            status,
            if self.to_head { "" } else { body },
            body.len(),
            now,
        );
        // The send buffer is empty, and holds a hundred times as much.
        Ok(rustix::io::write(&self.socket, response.as_bytes())?)
    }

    /// Sends no more, and throws away what still comes for a while.
    pub(super) fn linger(&mut self, now: Stamp) {
        // It may have gone already, which the next read tells.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        self.stage = Stage::Lingering {
            until: now + LINGER,
        };
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A whole response (RFC 9112), of which the body may be left out.
fn response(status: Status, body: &str, length: usize, now: Stamp) -> String {
    let Status(code, reason) = status;
    let date = jiff::Timestamp::from_nanosecond(now.0.into()).unwrap_or_default();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
    format!(
        "HTTP/1.1 {code} {reason}\r\nDate: {date}\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Progress, ResponseReader};

    #[test]
    fn responses_are_whole_and_dated() {
        let text = response(Status::OK, "hello\n", 6, Stamp(784_111_777_000_000_000));
        assert!(text.contains("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
        let mut reader = ResponseReader::new(Asked::Other);
        assert_eq!(reader.push(text.as_bytes()), text.len());
        assert_eq!(reader.progress(), Progress::Complete);
        let mut reader = ResponseReader::new(Asked::Head);
        let head = response(Status::OK, "", 6, Stamp(0));
        assert_eq!(reader.push(head.as_bytes()), head.len());
        assert_eq!(reader.progress(), Progress::Complete);
    }
}
