//! What the kernel says of the sockets on a port, and the waiting for it to say something: the only
//! way in which tests here pass time.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "tests read /proc, and bound their waiting by a clock"
)]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than this nothing here takes; a test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `holds`.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::yield_now();
    }
}

/// States of a socket as /proc/net/tcp has them (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Established,
    SynSent,
    SynRecv,
    FinWait2,
    CloseWait,
    Listen,
    Other,
}

impl State {
    fn from_hex(code: &str) -> State {
        match code {
            "01" => State::Established,
            "02" => State::SynSent,
            "03" => State::SynRecv,
            "05" => State::FinWait2,
            "08" => State::CloseWait,
            "0A" => State::Listen,
            _ => State::Other,
        }
    }
}

/// A server's port, and what the kernel holds there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port(pub(crate) u16);

/// Whose sockets are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// One socket.
struct Entry {
    state: State,
    unacked: u64,
    unread: u64,
    inode: u64,
}

impl Port {
    /// Waits until `n` of the server's sockets are in that state, accept()ed or not.
    pub(crate) fn wait_for(self, state: State, n: usize) {
        wait_until(&format!("{n} sockets on {self:?} are {state:?}"), || {
            let entries = self.entries(Side::Server);
            entries.iter().filter(|e| e.state == state).count() == n
        });
    }

    /// Waits until `n` of the clients' sockets are in that state.
    pub(crate) fn wait_for_clients(self, state: State, n: usize) {
        wait_until(&format!("{n} sockets to {self:?} are {state:?}"), || {
            let entries = self.entries(Side::Client);
            entries.iter().filter(|e| e.state == state).count() == n
        });
    }

    /// Waits until `n` connections have a request in their receive queue that nobody has read.
    pub(crate) fn wait_for_requests(self, n: usize) {
        wait_until(&format!("{n} requests wait on {self:?}"), || {
            let entries = self.entries(Side::Server);
            let waiting = |e: &&Entry| e.state == State::Established && e.unread > 0;
            entries.iter().filter(waiting).count() == n
        });
    }

    /// Waits until `n` connections are in the accept queue: they are nobody's yet.
    pub(crate) fn wait_for_queued(self, n: usize) {
        wait_until(&format!("{n} connections are queued on {self:?}"), || {
            let entries = self.entries(Side::Server);
            let queued = |e: &&Entry| e.state == State::Established && e.inode == 0;
            entries.iter().filter(queued).count() == n
        });
    }

    /// What listen() was granted: the Send-Q of the LISTEN socket, which sock_diag alone tells.
    pub(crate) fn backlog(self) -> u64 {
        let port = format!("sport = :{}", self.0);
        let shown = super::run(
            "ss",
            &["--no-header", "--listening", "--tcp", "--numeric", &port],
        );
        let words: Vec<&str> = shown.split_whitespace().collect();
        let &["LISTEN", _, backlog, ..] = words.as_slice() else {
            panic!("nobody listens on {self:?}: {shown}");
        };
        backlog.parse().expect("a number")
    }

    /// Waits until the clients' kernels have acknowledged all that the server sent.
    pub(crate) fn wait_until_acked(self) {
        wait_until(&format!("all from {self:?} is acknowledged"), || {
            let entries = self.entries(Side::Server);
            entries.iter().all(|e| e.unacked == 0)
        });
    }

    fn entries(self, side: Side) -> Vec<Entry> {
        // Not /proc/net, which is the main thread's namespace.
        let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
            .map(|path| fs::read_to_string(path).expect("the table is readable"));
        let lines = tables.iter().flat_map(|table| table.lines().skip(1));
        lines.filter_map(|line| self.entry(side, line)).collect()
    }

    /// `sl local remote state tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...`, the
    /// first of them in hex.
    fn entry(self, side: Side, line: &str) -> Option<Entry> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[_, local, remote, state, queues, _, _, _, _, inode, ..] = words.as_slice() else {
            return None;
        };
        let end = match side {
            Side::Server => local,
            Side::Client => remote,
        };
        let (_, port) = end.rsplit_once(':')?;
        if u16::from_str_radix(port, 16) != Ok(self.0) {
            return None;
        }
        let (unacked, unread) = queues.split_once(':')?;
        Some(Entry {
            state: State::from_hex(state),
            unacked: u64::from_str_radix(unacked, 16).ok()?,
            unread: u64::from_str_radix(unread, 16).ok()?,
            inode: inode.parse().ok()?,
        })
    }
}

/// A counter of this thread's namespace, `TcpExt` in /proc/net/netstat.
pub(crate) fn tcp_counter(name: &str) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/netstat").expect("netstat is readable");
    let mut lines = table.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next(), lines.next());
    let at = names.and_then(|names| names.split_whitespace().position(|n| n == name));
    at.and_then(|at| values?.split_whitespace().nth(at)?.parse().ok())
        .expect("a counter of that name")
}
