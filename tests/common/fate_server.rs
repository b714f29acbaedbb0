//! A server that carries out a fate on purpose: it queues, accepts, reads, answers, closes and
//! resets exactly as told, each step only once the kernel says that the one before has happened.
#![expect(
    clippy::disallowed_types,
    reason = "a test server listens, holds sockets in processes and waits for commands"
)]

use std::any::Any;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::Mode;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use socket2::{Domain, Socket, Type};

use super::kernel::{PATIENCE, Port, State};
use super::process::ruby;

/// Connections that a test makes to its server, unless it says otherwise.
pub(crate) const CONNECTIONS: usize = 5;

/// Room in the accept queue where a test does not care.
const ROOMY: i32 = 64;

/// Both families' loopback: v4 and v6 meet the same fates.
pub(crate) const LOOPBACKS: [&str; 2] = ["127.0.0.1", "::1"];

/// A complete response that needs no FIN to be one.
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Options of a run in which [`CONNECTIONS`] idle connections send their requests only once the
/// server has done what it means to do with them: the first steady connection must have been
/// answered before the second may start, and that start is what they wait for.
pub(crate) const GATED: &str =
    "--count 7 --idle 5 --concurrency 1 --trigger : --trigger-at 2 --idle-delay 0ms";

/// Room in a small accept queue: more than the half-open connections of a test, because a SYN is
/// dropped as well where that many handshakes are under way.
pub(crate) const BACKLOG: i32 = 7;
/// What fills it: the kernel calls a queue full when it holds more than its backlog.
pub(crate) const FILL: usize = 8;

/// What a server notes of what it did, for its test to hold rows against.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Processes beside the test's own that had a part in it.
    pub(crate) others: Vec<u32>,
    /// Clients whose fate was another than that of the rest.
    pub(crate) singled_out: Vec<(SocketAddr, &'static str)>,
}

/// Notes that several threads write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notebook(Arc<Mutex<Notes>>);

impl Notebook {
    fn open(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().expect("no fate has failed")
    }

    /// Notes another process.
    pub(crate) fn other(&self, process: &Holder) {
        self.open().others.push(process.pid());
    }

    /// Notes that a client met `fate`.
    pub(crate) fn single_out(&self, connection: &Connection, fate: &'static str) {
        self.open().singled_out.push((connection.client(), fate));
    }
}

/// A server under way.
pub(crate) struct Server {
    address: SocketAddr,
    notes: Notebook,
    /// Where it serves until told: a copy of its listener, by which it is.
    until_told: Option<Socket>,
    thread: Option<JoinHandle<Box<dyn Any + Send>>>,
}

impl Server {
    /// Where it listens, or did.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has anything to do.
    pub(crate) fn is_at_work(&self) -> bool {
        self.thread.is_some()
    }

    /// Waits until it has done its part, closes what it still holds, and says what it noted.
    pub(crate) fn finish(self) -> Notes {
        if let Some(listener) = self.until_told {
            // A blocked accept() returns.
            listener.shutdown(Shutdown::Both).expect("shutdown()");
        }
        if let Some(Err(panic)) = self.thread.map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        self.notes.open().clone()
    }
}

/// A listening socket.
pub(crate) struct Listener {
    socket: Socket,
    notes: Notebook,
}

impl Listener {
    /// Listens on a port of `host`, an address, that nothing used before.
    pub(crate) fn on(host: &str) -> Listener {
        Listener::with_backlog(host, ROOMY)
    }

    /// The same with an accept queue that holds `backlog` + 1 connections.
    pub(crate) fn with_backlog(host: &str, backlog: i32) -> Listener {
        let host: IpAddr = host.parse().expect("an address");
        Listener::at(SocketAddr::new(host, next_port()), backlog)
    }

    /// The same on a port of the caller's choice.
    pub(crate) fn at(address: SocketAddr, backlog: i32) -> Listener {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("socket()");
        socket.bind(&address.into()).expect("bind()");
        // So that a fate that never comes fails its test instead of hanging it. Accepted sockets
        // inherit it.
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("SO_RCVTIMEO");
        socket.listen(backlog).expect("listen()");
        Listener {
            socket,
            notes: Notebook::default(),
        }
    }

    /// Has the kernel keep connections that have sent nothing in SYN-RECV (TCP_DEFER_ACCEPT).
    pub(crate) fn deferred(self) -> Listener {
        const SECONDS: usize = 30;
        setsockopt(&self.socket, DeferAccept, &SECONDS).expect("TCP_DEFER_ACCEPT");
        self
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.socket.local_addr().expect("getsockname()");
        address.as_socket().expect("an address")
    }

    /// Where its server notes what it does.
    pub(crate) fn notes(&self) -> Notebook {
        self.notes.clone()
    }

    /// Its port.
    pub(crate) fn port(&self) -> Port {
        Port(self.address().port())
    }

    /// Takes one connection out of the accept queue.
    pub(crate) fn accept(&self) -> Connection {
        let (socket, _) = self
            .socket
            .accept()
            .expect("a connection in the accept queue");
        Connection {
            stream: socket.into(),
            port: self.port(),
        }
    }

    /// shutdown(): ends the listening at once, whoever else has the socket.
    pub(crate) fn shut_down(&self) {
        self.socket.shutdown(Shutdown::Both).expect("shutdown()");
    }

    /// Lets a process of its own share the socket.
    pub(crate) fn share_with_process(&self) -> Holder {
        let copy = self.socket.try_clone().expect("dup()");
        Holder::of(copy.into())
    }

    /// Makes a process of its own the only owner.
    pub(crate) fn hand_to_process(self) -> Holder {
        Holder::of(self.socket.into())
    }

    /// Carries out `fate` in a thread of its own; what it returns is held until the test has seen
    /// what it came for.
    pub(crate) fn serve<T: Send + 'static>(
        self,
        fate: impl FnOnce(Listener) -> T + Send + 'static,
    ) -> Server {
        let (address, notes) = (self.address(), self.notes());
        let thread = thread::Builder::new()
            .name("fate".to_owned())
            .spawn(move || Box::new(fate(self)) as Box<dyn Any + Send>)
            .expect("a thread");
        Server {
            address,
            notes,
            until_told: None,
            thread: Some(thread),
        }
    }

    /// A server that listens no more.
    pub(crate) fn stop(self) -> Server {
        let (address, notes) = (self.address(), self.notes());
        self.close();
        Server {
            address,
            notes,
            until_told: None,
            thread: None,
        }
    }

    /// close() and nothing else. Where another thread of the test's may be starting a process,
    /// [`close`](Listener::close) is meant.
    pub(crate) fn close_at_once(self) {}

    /// close(), and waits until nobody listens: a process that another test is just starting has a
    /// copy of every file of ours until it calls exec().
    pub(crate) fn close(self) {
        let port = self.port();
        drop(self);
        port.wait_for(State::Listen, 0);
    }

    /// Accepts the test's connections and carries out `fate` on one after the other.
    pub(crate) fn serve_each<T: Send + 'static>(
        self,
        fate: impl Fn(Connection) -> T + Send + 'static,
    ) -> Server {
        self.serve(move |listener| {
            let fates = (0..CONNECTIONS).map(|_| fate(listener.accept()));
            fates.collect::<Vec<T>>()
        })
    }

    /// Accepts whatever comes and carries out `fate` on it, until the test has seen what it came
    /// for.
    pub(crate) fn serve_until_told(self, fate: impl Fn(Connection) + Send + 'static) -> Server {
        let copy = self.socket.try_clone().expect("dup()");
        let server = self.serve(move |listener| {
            while let Ok((socket, _)) = listener.socket.accept() {
                fate(Connection {
                    stream: socket.into(),
                    port: listener.port(),
                });
            }
        });
        Server {
            until_told: Some(copy),
            ..server
        }
    }
}

/// An accept()ed connection. Dropping it is close().
pub(crate) struct Connection {
    stream: TcpStream,
    port: Port,
}

impl Connection {
    /// The client's end.
    pub(crate) fn client(&self) -> SocketAddr {
        self.stream.peer_addr().expect("getpeername()")
    }

    /// Waits until the request has begun to arrive, and leaves it unread: not even looked at.
    pub(crate) fn wait_for_request(&self) {
        let mut stream = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(PATIENCE).expect("short enough");
        assert_eq!(poll(&mut stream, timeout), Ok(1), "no request came");
        let unread = rustix::io::ioctl_fionread(&self.stream).expect("FIONREAD");
        assert_ne!(unread, 0, "the client closed without a request");
    }

    /// Waits for the request and looks at all of it, which consumes nothing (MSG_PEEK).
    pub(crate) fn peek_at_request(&self) {
        let seen = self.stream.peek(&mut [0; 4096]).expect("a request");
        assert_ne!(seen, 0, "the client closed without a request");
    }

    /// Reads a header block.
    pub(crate) fn read_request(&mut self) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 4096];
            let n = self.stream.read(&mut bytes).expect("a request");
            assert_ne!(n, 0, "the client closed inside its request");
            request.extend_from_slice(&bytes[..n]);
        }
    }

    /// Reads so many bytes.
    pub(crate) fn read_bytes(&mut self, n: usize) {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).expect("the payload");
    }

    /// Sends, and waits until the client's kernel has acknowledged it: what the server does next is
    /// then next on the wire too.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.send_unacked(bytes);
        self.port.wait_until_acked();
    }

    /// Sends and waits for nothing.
    pub(crate) fn send_unacked(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send()");
    }

    /// Reads a request and sends a response.
    pub(crate) fn answer(mut self, response: &[u8]) -> Connection {
        self.read_request();
        self.send(response);
        self
    }

    /// shutdown(SHUT_WR): FIN, whatever lies unread.
    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown()");
    }

    /// close() with SO_LINGER 0: RST.
    pub(crate) fn reset(self) {
        let socket = Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// connect() with AF_UNSPEC: tcp_disconnect() sends RST, and counts it nowhere.
    pub(crate) fn disconnect(self) {
        rustix::net::connect_unspec(&self.stream).expect("connect()");
    }

    /// Has close() reset it from now on (SO_LINGER 0).
    pub(crate) fn linger_0(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Makes a process of its own the only owner.
    pub(crate) fn hand_to_process(self) -> Holder {
        Holder::of(self.stream.into())
    }

    /// Lets a process of its own share it, as a fork does.
    pub(crate) fn share_with_process(&self) -> Holder {
        Holder::of(self.stream.try_clone().expect("dup()").into())
    }
}

/// Another process that reads the requests of connections that it is passed (SCM_RIGHTS), and closes
/// them unanswered.
pub(crate) struct Reader {
    way: UnixStream,
    process: Holder,
}

impl Reader {
    /// Starts it.
    pub(crate) fn start() -> Reader {
        let (way, its_end) = UnixStream::pair().expect("socketpair()");
        // It ends with the way there.
        let script = "way = UNIXSocket.for_fd(0)
                      while (conn = way.recv_io rescue nil)
                        conn.sysread(4096)
                        conn.close
                      end";
        let command = ruby(script);
        let process = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::from(OwnedFd::from(its_end)))
            .spawn()
            .expect("ruby starts");
        let process = Holder { process };
        Reader { way, process }
    }

    /// The process.
    pub(crate) fn process(&self) -> &Holder {
        &self.process
    }

    /// Passes it a connection, whose only owner it is then.
    pub(crate) fn pass(&self, connection: Connection) {
        let fds = [connection.stream.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        assert!(rights.push(SendAncillaryMessage::ScmRights(&fds)));
        let word = [IoSlice::new(b"c")];
        sendmsg(&self.way, &word, &mut rights, SendFlags::empty()).expect("sendmsg()");
    }
}

/// A process that has a socket open and does nothing with it.
pub(crate) struct Holder {
    process: Child,
}

impl Holder {
    fn of(socket: OwnedFd) -> Holder {
        // The copy that the child gets as its standard input is the only one left once the command
        // is dropped: all sockets here are close-on-exec.
        let process = Command::new("sleep")
            .arg("infinity")
            .stdin(Stdio::from(socket))
            .spawn()
            .expect("sleep starts");
        Holder { process }
    }

    /// One that has `listener` as a lower file descriptor than `connections`, of which there is room
    /// for two. A process that ends closes its files in that order.
    pub(crate) fn of_listener_before(listener: Listener, connections: [Connection; 2]) -> Holder {
        let [first, second] = connections.map(|connection| OwnedFd::from(connection.stream));
        let process = Command::new("sleep")
            .arg("infinity")
            .stdin(Stdio::from(OwnedFd::from(listener.socket)))
            .stdout(Stdio::from(first))
            .stderr(Stdio::from(second))
            .spawn()
            .expect("sleep starts");
        Holder { process }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL. Once it is reaped its files are closed.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("kill()");
        self.process.wait().expect("wait()");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both fail where kill() did it before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Connects to a server and sends nothing, `n` times: fills accept queues from outside the probe,
/// with source ports that are no ephemeral ones.
pub(crate) fn connect_and_idle(server: SocketAddr, n: usize) -> Vec<Socket> {
    let connect = || {
        let source = SocketAddr::new(server.ip(), next_port());
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None);
        let socket = socket.expect("socket()");
        socket.bind(&source.into()).expect("bind()");
        socket.connect(&server.into()).expect("connect()");
        socket
    };
    (0..n).map(|_| connect()).collect()
}

/// Drops the probe's segments that carry an ACK and nothing else, behind the eyes of its capture: the
/// server then stays in SYN-RECV until a request comes, whose segment is the next to carry an ACK.
pub(crate) fn drop_bare_acks() {
    super::nft(
        "table inet fate {
        chain input {
            type filter hook input priority 0;
            tcp sport >= 32768 tcp flags == ack drop
        }
    }",
    );
}

/// Treats SYNs as `verdict` says.
pub(crate) fn firewall(verdict: &str) {
    super::nft(&format!(
        "table inet fate {{
            chain input {{
                type filter hook input priority 0;
                tcp flags == syn {verdict}
            }}
        }}"
    ));
}

/// Fills the accept queue once all idle connections have their SYN-ACK, and only then lets them send.
pub(crate) fn fill_the_queue_during_handshakes(host: &str) -> Server {
    Listener::with_backlog(host, BACKLOG).serve(|listener| {
        listener.port().wait_for(State::SynRecv, CONNECTIONS);
        let mut gate = listener.accept();
        let filling = connect_and_idle(listener.address(), FILL);
        gate.read_request();
        gate.send_unacked(OK);
        (listener, gate, filling)
    })
}

/// A port that nothing used before, so that nothing an earlier server left behind is counted, and
/// below the ephemeral ones: a client that happened to get its target's port would connect to
/// itself.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A named pipe by which the probe's `--trigger` tells a server thread to go on.
pub(crate) struct Bell {
    path: PathBuf,
    pipe: File,
    _folder: tempfile::TempDir,
}

impl Bell {
    /// A bell that has not rung.
    pub(crate) fn new() -> Bell {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bell");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("mkfifo()");
        // Opened for writing too: it has no end of file when whoever rang it goes.
        let pipe = File::options().read(true).write(true).open(&path);
        Bell {
            path,
            pipe: pipe.expect("open()"),
            _folder: folder,
        }
    }

    /// The shell command that rings it.
    pub(crate) fn command(&self) -> String {
        format!("echo>{}", self.path.display())
    }

    /// Waits until it rings.
    pub(crate) fn wait(&self) {
        let mut pipe = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(PATIENCE).expect("short enough");
        let rang = poll(&mut pipe, timeout).expect("poll()");
        assert_eq!(rang, 1, "the probe never pulled its trigger");
        (&self.pipe).read_exact(&mut [0]).expect("the ring");
    }
}

/// TCP_DEFER_ACCEPT, which no library has.
#[derive(Clone, Copy)]
struct DeferAccept;

nix::setsockopt_impl!(
    DeferAccept,
    nix::libc::IPPROTO_TCP,
    nix::libc::TCP_DEFER_ACCEPT,
    usize,
    sockopt::SetUsize
);
