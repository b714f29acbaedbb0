//! Against sockets of our own: what the kernel says of them must be what was done to them.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests listen, connect and start processes, and bound their waiting by a clock"
)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::getpid;
use rustix::net::connect_unspec;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use socket2::{Domain, Socket, Type};

mod elsewhere;

use super::*;
use crate::kernel::{Owner, Polled, TcpState};
use crate::observe::route::route_to;
use crate::sys::process::tie_to_us;
use crate::sys::socket::defer_accept;

/// Longer than this nothing here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const NOBODY: u32 = 65534;

fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("needs root: unshare(CLONE_NEWNET)");
    run("ip link set lo up");
    fs::write("/proc/sys/net/ipv4/tcp_syncookies", "0").unwrap();
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status();
    assert!(status.unwrap().success(), "{command}");
}

/// A listener that nobody accepts from but the test.
struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    fn on(address: &str, backlog: i32) -> Listener {
        Listener::with(address, backlog, |_| {})
    }

    fn with(address: &str, backlog: i32, set: impl FnOnce(&Socket)) -> Listener {
        let address: SocketAddr = address.parse().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        set(&socket);
        socket.bind(&address.into()).unwrap();
        socket.listen(backlog).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Listener { socket, address }
    }

    fn accept(&self) -> Socket {
        self.socket.accept().unwrap().0
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, PATIENCE).unwrap()
}

/// One that need not come about.
fn begin_connect(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    // In progress.
    let _ = socket.connect(&address.into());
    socket
}

/// A process that holds these and does nothing, until it is dropped.
struct Holder(Child);

impl Holder {
    fn of(listener: &Socket, accepted: Option<&Socket>) -> Holder {
        let copy = |socket: &Socket| OwnedFd::from(socket.try_clone().unwrap());
        let mut sleep = Command::new("sleep");
        tie_to_us(&mut sleep);
        sleep.arg("infinity").stdin(copy(listener));
        if let Some(accepted) = accepted {
            sleep.stdout(Stdio::from(copy(accepted)));
        }
        Holder(sleep.spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn open(target: SocketAddr) -> DiagTap {
    DiagTap::open(target, None, Clock::start()).unwrap()
}

impl DiagTap {
    /// Asks until it shows what is waited for.
    fn wait_for(&mut self, what: &str, shows: impl Fn(&Poll) -> bool) -> Poll {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let poll = self.poller.everything().unwrap();
            if shows(&poll) {
                return poll;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain: {what}: {poll:?}"
            );
            thread::yield_now();
        }
    }

    fn wait_for_one(&mut self, what: &str, shows: impl Fn(&Polled) -> bool) -> Polled {
        let poll = self.wait_for(
            what,
            |poll| matches!(connections(poll), [one] if shows(one)),
        );
        connections(&poll)[0]
    }
}

fn connections(poll: &Poll) -> &[Polled] {
    poll.connections.as_deref().unwrap()
}

fn queues(poll: &Poll) -> Vec<(u32, u32)> {
    let listeners = poll.listeners.as_deref().unwrap();
    listeners
        .iter()
        .map(|one| (one.queued, one.limit))
        .collect()
}

fn inodes(poll: &Poll) -> Vec<u64> {
    let listeners = poll.listeners.as_deref().unwrap();
    listeners.iter().map(|one| one.inode).collect()
}

fn moved(from: &Poll, to: &Poll) -> Moved {
    Moved::between(&from.counters.unwrap(), &to.counters.unwrap())
}

/// What an ordinary user gets: this thread stays who it is.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let as_other = || {
        become_nobody();
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, as_other);
        thread.unwrap().join().unwrap()
    })
}

fn become_nobody() {
    set_thread_groups(&[]).unwrap();
    let gid = Gid::from_raw(NOBODY);
    set_thread_res_gid(gid, gid, gid).unwrap();
    let uid = Uid::from_raw(NOBODY);
    set_thread_res_uid(uid, uid, uid).unwrap();
}

#[test]
fn a_queue_is_as_long_as_it_was_filled_and_as_deep_as_it_was_made() {
    let listener = Listener::on("127.0.0.1:0", 7);
    let mut tap = open(listener.address);
    assert_eq!(tap.lacks(), [] as [String; 0]);
    assert_eq!(queues(tap.first()), [(0, 7)]);
    let clients = [connect(listener.address), connect(listener.address)];
    let poll = tap.wait_for("two queued", |poll| queues(poll) == [(2, 7)]);
    let mut seen: Vec<SocketAddr> = connections(&poll).iter().map(|one| one.client).collect();
    seen.sort();
    let mut ours = clients.map(|client| client.local_addr().unwrap());
    ours.sort();
    assert_eq!(seen, ours);
    drop(listener.accept());
    tap.wait_for("one queued", |poll| queues(poll) == [(1, 7)]);
}

#[test]
fn a_connection_is_nobodys_until_it_is_accepted_and_then_its_process() {
    let listener = Listener::on("127.0.0.1:0", 7);
    let mut tap = open(listener.address);
    let mut client = connect(listener.address);
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let queued = tap.wait_for_one("unread", |one| one.unread == 16);
    assert_eq!(queued.owner, Owner::Nobody);
    assert_eq!(queued.client, client.local_addr().unwrap());
    let mut accepted = listener.accept();
    let owned = tap.wait_for_one("owned", |one| one.owner != Owner::Nobody);
    let Owner::File { inode, pid } = owned.owner else {
        unreachable!("a file");
    };
    assert!(inode > 0);
    assert_eq!(pid, Some(getpid().as_raw()));
    assert_eq!((owned.state, owned.unread), (TcpState::Established, 16));
    accepted.read_exact(&mut [0; 16]).unwrap();
    assert_eq!(
        tap.wait_for_one("read", |one| one.unread == 0).owner,
        owned.owner
    );
    drop(client);
    // The FIN that nobody has read.
    let closed = tap.wait_for_one("closed", |one| one.state == TcpState::CloseWait);
    assert_eq!(closed.unread, 1);
}

#[test]
#[ignore = "needs root, netns"]
fn a_4_tuple_used_again_is_another_socket() {
    enter_namespace();
    let listener = Listener::on("127.0.0.1:0", 7);
    let mut tap = open(listener.address);
    let mut cookies = Vec::new();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let port: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    client.bind(&port.into()).unwrap();
    for _ in 0..2 {
        client.connect(&listener.address.into()).unwrap();
        let queued = tap.wait_for_one("queued", |one| one.owner == Owner::Nobody);
        let accepted = listener.accept();
        let owned = tap.wait_for_one("owned", |one| one.owner != Owner::Nobody);
        assert_eq!((queued.client, owned.cookie), (port, queued.cookie));
        cookies.push(owned.cookie);
        // Resets it at once, though a child that another test forks has a copy; its port stays.
        connect_unspec(&client).unwrap();
        drop(accepted);
    }
    assert_ne!(cookies[0], cookies[1]);
}

#[test]
fn of_processes_that_share_a_connection_the_one_that_accepted_it_has_it() {
    let listener = Listener::on("127.0.0.1:0", 7);
    let _client = connect(listener.address);
    let accepted = listener.accept();
    let child = Holder::of(&listener.socket, Some(&accepted));
    let owner = |poll: &Poll| match connections(poll) {
        [one] => one.owner,
        others => unreachable!("one: {others:?}"),
    };
    let held_by =
        |pid: Pid, owner| matches!(owner, Owner::File { pid: Some(p), .. } if p == pid.as_raw());
    assert!(held_by(getpid(), owner(open(listener.address).first())));
    // Of what is left the child has it.
    drop(accepted);
    let tap = DiagTap::open(listener.address, Some(child.pid()), Clock::start()).unwrap();
    assert!(held_by(child.pid(), owner(tap.first())));
}

#[test]
fn a_process_outside_of_the_tree_is_no_owner_and_its_listener_is_named() {
    let listener = Listener::on("127.0.0.1:0", 7);
    let _client = connect(listener.address);
    let _accepted = listener.accept();
    let child = Holder::of(&listener.socket, None);
    let other = Listener::on("127.0.0.1:0", 7);
    let stranger = Holder::of(&other.socket, None);
    let tap = DiagTap::open(listener.address, Some(stranger.pid()), Clock::start()).unwrap();
    let [line] = tap.lacks() else {
        unreachable!("one line: {:?}", tap.lacks());
    };
    let listens = format!(
        "process {} and those below it do not listen",
        stranger.pid()
    );
    assert!(line.starts_with(&listens), "{line}");
    assert!(line.contains(&child.pid().to_string()), "{line}");
    let [one] = connections(tap.first()) else {
        unreachable!("one");
    };
    assert!(
        matches!(one.owner, Owner::File { pid: None, .. }),
        "{one:?}"
    );
}

#[test]
fn several_who_listen_are_said_to_in_the_plural() {
    let target = "127.0.0.1:80".parse().unwrap();
    let pids = ["7".to_owned(), "8".to_owned()];
    let line = |pids| strangers(target, Pid::from_raw(5), pids);
    let start = "process 5 and those below it do not listen on 127.0.0.1:80, ";
    let end = ": give the server's first process with --pid";
    assert_eq!(line(&pids[..1]), format!("{start}process 7 does{end}"));
    assert_eq!(line(&pids), format!("{start}processes 7, 8 do{end}"));
}

#[test]
fn a_port_without_a_listener_has_none_and_says_so() {
    let listener = Listener::on("127.0.0.1:0", 7);
    let address = listener.address;
    let mut before = open(address);
    drop(listener);
    before.wait_for("nobody listens", |poll| queues(poll).is_empty());
    assert_eq!(before.poller.listeners().unwrap().listeners, Some(vec![]));
    let tap = open(address);
    assert_eq!(tap.first().listeners, Some(vec![]));
    assert_eq!(tap.lacks(), [""; 0]);
}

#[test]
fn all_listeners_that_share_a_port_are_shown() {
    let share = |socket: &Socket| socket.set_reuse_port(true).unwrap();
    let first = Listener::with("127.0.0.1:0", 3, share);
    let mut tap = open(first.address);
    assert_eq!(queues(tap.first()), [(0, 3)]);
    let second = Listener::with(&first.address.to_string(), 5, share);
    // The first was alone so far. Which of them the kernel finds by the address is up to its hash.
    let alone = tap.poller.listeners().unwrap();
    assert!(inodes(&alone).contains(&inodes(tap.first())[0]));
    let both = tap.poller.everything().unwrap();
    let mut limits: Vec<u32> = queues(&both).iter().map(|one| one.1).collect();
    limits.sort_unstable();
    assert_eq!(limits, [3, 5]);
    assert_eq!(tap.poller.listeners().unwrap().listeners, both.listeners);
    drop(first);
    tap.wait_for("one is left", |poll| queues(poll) == [(0, 5)]);
    assert_eq!(queues(&tap.poller.listeners().unwrap()), [(0, 5)]);
    drop(second);
}

#[test]
fn who_listens_on_the_address_keeps_clients_from_who_listens_on_all() {
    let share = |socket: &Socket| socket.set_reuse_port(true).unwrap();
    let all = Listener::with("0.0.0.0:0", 3, share);
    let target = SocketAddr::new([127, 0, 0, 1].into(), all.address.port());
    assert_eq!(queues(open(target).first()), [(0, 3)]);
    let one = Listener::with(&target.to_string(), 5, share);
    let tap = open(target);
    assert_eq!(queues(tap.first()), [(0, 5)]);
    let elsewhere = SocketAddr::new([127, 0, 0, 2].into(), target.port());
    let _client = connect(elsewhere);
    let other = open(elsewhere);
    assert_eq!(
        (queues(other.first()), connections(other.first()).len()),
        (vec![(1, 3)], 1)
    );
    // Its connections are none of the other's.
    assert_eq!(connections(open(target).first()), []);
    drop(one);
}

#[test]
fn another_host_is_asked_nothing() {
    let error = DiagTap::open("192.0.2.1:80".parse().unwrap(), None, Clock::start());
    let text = error.err().unwrap().to_string();
    assert!(
        text.starts_with("the server is on another host: 192.0.2.1 is no"),
        "{text}"
    );
}

#[test]
fn a_process_that_has_ended_is_gone() {
    let listener = Listener::on("127.0.0.1:0", 7);
    let holder = Holder::of(&listener.socket, None);
    let pid = holder.pid();
    drop(holder);
    let error = DiagTap::open(listener.address, Some(pid), Clock::start());
    assert!(matches!(error.err(), Some(DiagMissing::Gone(gone)) if gone == pid));
}

#[test]
fn the_vantage_polls_until_it_is_stopped_and_once_more() {
    let listener = Listener::on("127.0.0.1:0", 7);
    let (tell, polls) = channel();
    let sink = move |poll| tell.send(poll).is_ok();
    let vantage = open(listener.address).read(sink).unwrap();
    let client = connect(listener.address);
    let seen = |wanted: &[(u32, u32)]| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let poll: Poll = polls.recv_timeout(left).unwrap();
            if queues(&poll) == wanted {
                return;
            }
        }
    };
    seen(&[(1, 7)]);
    drop(listener.accept());
    seen(&[(0, 7)]);
    drop(client);
    drop(listener);
    seen(&[]);
    let stats = vantage.stop();
    let last = polls.iter().last().unwrap();
    assert_eq!(last.listeners, Some(vec![]));
    assert!(last.counters.is_some() && last.connections.is_some());
    assert!(stats.connection_polls.times > 0 && stats.listener_polls.times > 0);
    assert_eq!((stats.failed, stats.name_space), (0, NameSpace::Own));
}

#[test]
fn the_vantage_ends_when_nobody_listens_to_it() {
    let listener = Listener::on("127.0.0.1:0", 7);
    let vantage = open(listener.address).read(|_| false).unwrap();
    let stats = vantage.thread.join().unwrap();
    assert_eq!(stats.connection_polls.times + stats.listener_polls.times, 1);
}

#[test]
fn what_sock_diag_refuses_is_said_with_a_remedy() {
    let say = |errno| {
        let error = io::Error::from_raw_os_error(errno);
        DiagMissing::refused("sock_diag", &error).to_string()
    };
    assert_eq!(
        say(libc::ENOENT),
        "sock_diag: no such file or directory; load the kernel's modules for it (modprobe tcp_diag), \
         or use a kernel that has them"
    );
    assert_eq!(
        say(libc::EPERM),
        "sock_diag: operation not permitted; something keeps this process from asking (seccomp, a \
         security module): run the probe outside of it"
    );
}

#[test]
#[ignore = "needs root, netns"]
fn clients_of_either_family_are_shown_as_they_see_themselves() {
    enter_namespace();
    for (listens, clients) in [
        ("127.0.0.1:0", &["127.0.0.1"][..]),
        ("[::1]:0", &["::1"]),
        ("[::]:0", &["127.0.0.1", "::1"]),
    ] {
        let listener = Listener::on(listens, 7);
        for client in clients {
            let target = SocketAddr::new(client.parse().unwrap(), listener.address.port());
            let mut tap = open(target);
            assert_eq!(queues(tap.first()), [(0, 7)], "{target}");
            assert_eq!(
                queues(&tap.poller.listeners().unwrap()),
                [(0, 7)],
                "{target}"
            );
            let stream = connect(target);
            let queued = tap.wait_for_one("queued", |one| one.owner == Owner::Nobody);
            assert_eq!(queued.client, stream.local_addr().unwrap(), "{listens}");
            let _accepted = listener.accept();
            let owned = |one: &Polled| matches!(one.owner, Owner::File { pid: Some(_), .. });
            tap.wait_for_one("owned", owned);
            drop(stream);
        }
    }
}

#[test]
#[ignore = "needs root, netns"]
fn an_ipv4_clients_connection_stays_in_sight_when_its_ipv6_listener_is_gone() {
    enter_namespace();
    let listener = Listener::on("[::]:0", 7);
    let mut tap = open(SocketAddr::new(
        [127, 0, 0, 1].into(),
        listener.address.port(),
    ));
    let _client = connect(tap.poller.target);
    let _accepted = listener.accept();
    drop(listener);
    let poll = tap.wait_for("nobody listens", |poll| queues(poll).is_empty());
    assert_eq!(connections(&poll).len(), 1);
}

#[test]
#[ignore = "needs root, netns"]
fn an_ipv6_only_listener_takes_no_ipv4_clients() {
    enter_namespace();
    let listener = Listener::with("[::]:0", 7, |socket| socket.set_only_v6(true).unwrap());
    let port = listener.address.port();
    let v4 = open(SocketAddr::new([127, 0, 0, 1].into(), port));
    assert_eq!(v4.first().listeners, Some(vec![]));
    let v6 = open(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
    assert_eq!(queues(v6.first()), [(0, 7)]);
}

#[test]
#[ignore = "needs root, netns"]
fn a_listener_bound_to_an_interface_is_not_overlooked() {
    enter_namespace();
    let bound = |socket: &Socket| socket.bind_device(Some(b"lo")).unwrap();
    let listener = Listener::with("127.0.0.1:0", 7, bound);
    let mut tap = open(listener.address);
    assert_eq!(queues(tap.first()), [(0, 7)]);
    let alone = tap.poller.listeners().unwrap();
    assert_eq!(queues(&alone), [(0, 7)]);
    assert!(
        [tap.first(), &alone]
            .iter()
            .all(|poll| are_bound(poll) == [true])
    );
    assert_eq!(
        are_bound(open(Listener::on("127.0.0.1:0", 7).address).first()),
        [false]
    );
}

fn are_bound(poll: &Poll) -> Vec<bool> {
    let listeners = poll.listeners.as_deref().unwrap();
    listeners.iter().map(|one| one.bound).collect()
}

#[test]
#[ignore = "needs root, netns"]
fn a_deferred_connection_is_a_handshake_until_its_first_byte() {
    enter_namespace();
    for (listens, target) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "::1"),
    ] {
        let listener = Listener::with(listens, 7, |socket| {
            defer_accept(socket, 30).unwrap();
        });
        let target = SocketAddr::new(target.parse().unwrap(), listener.address.port());
        let mut tap = open(target);
        let mut client = connect(target);
        let half = tap.wait_for_one("a handshake", |one| one.state == TcpState::SynRecv);
        assert_eq!(
            (half.owner, half.client),
            (Owner::Nobody, client.local_addr().unwrap())
        );
        assert_eq!(half_open(target.port()).unwrap(), 1);
        client.write_all(b"x").unwrap();
        let full = tap.wait_for_one("done", |one| one.state == TcpState::Established);
        assert_eq!((full.owner, full.unread), (Owner::Nobody, 1));
        assert_eq!(full.cookie, half.cookie);
        assert_eq!(half_open(target.port()).unwrap(), 0);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn an_overflowing_queue_is_counted_and_leaves_a_handshake_undone() {
    enter_namespace();
    let listener = Listener::on("127.0.0.1:0", 1);
    let mut tap = open(listener.address);
    // It holds one more than its backlog. The handshake of a third is begun while there is room.
    let _queued = connect(listener.address);
    tap.wait_for("one queued", |poll| queues(poll) == [(1, 1)]);
    let held = begin_half_open(&listener, 2);
    let poll = tap.wait_for("one half open", |poll| {
        let half = |one: &&Polled| one.state == TcpState::SynRecv;
        queues(poll) == [(2, 1)] && connections(poll).iter().filter(half).count() == 1
    });
    // Those behind it are dropped as SYNs.
    let _late = begin_connect(listener.address);
    let after = tap.wait_for("counted", |after| {
        moved(&poll, after).listen_overflows.unwrap() > 0
    });
    assert!(moved(&poll, &after).listen_drops.unwrap() > 0);
    drop(held);
}

/// Handshakes whose last ACK comes once all have begun: a firewall holds the ACKs up.
fn begin_half_open(listener: &Listener, n: usize) -> Vec<Socket> {
    let port = listener.address.port();
    let rule = format!("tcp dport {port} tcp flags & (syn|ack) == ack drop");
    run("nft add table ip hold");
    run("nft add chain ip hold input { type filter hook input priority 0 ; }");
    run(&format!("nft add rule ip hold input {rule}"));
    let sockets: Vec<Socket> = (0..n).map(|_| begin_connect(listener.address)).collect();
    let mut tap = open(listener.address);
    tap.wait_for("handshakes", |poll| {
        let half = |one: &&Polled| one.state == TcpState::SynRecv;
        connections(poll).iter().filter(half).count() == n
    });
    run("nft delete table ip hold");
    for socket in &sockets {
        // Whatever is sent carries the ACK that was lost.
        socket.send(b"x").unwrap();
    }
    sockets
}

#[test]
#[ignore = "needs root, netns"]
fn an_unread_close_is_counted_and_a_queue_reset_is_not() {
    enter_namespace();
    let listener = Listener::on("127.0.0.1:0", 7);
    let mut tap = open(listener.address);
    let mut first = connect(listener.address);
    first.write_all(b"x").unwrap();
    tap.wait_for_one("unread", |one| one.unread == 1);
    let before = tap.poller.everything().unwrap();
    drop(listener.accept());
    let closed = tap.wait_for("closed", |poll| connections(poll).is_empty());
    let closed = Moved {
        listen_overflows: None,
        ..moved(&before, &closed)
    };
    let expected = [Some(1), Some(0)];
    assert_eq!([closed.abort_on_close, closed.abort_on_data], expected);

    let mut second = connect(listener.address);
    second.write_all(b"x").unwrap();
    tap.wait_for_one("queued", |one| {
        one.unread == 1 && one.owner == Owner::Nobody
    });
    let before = tap.poller.everything().unwrap();
    drop(listener);
    assert_eq!(
        second.read(&mut [0]).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    let after = tap.poller.everything().unwrap();
    assert_eq!(moved(&before, &after), Moved::between(&zero(), &zero()));
}

fn zero() -> Counters {
    Counters {
        listen_overflows: Some(0),
        listen_drops: Some(0),
        abort_on_close: Some(0),
        abort_on_data: Some(0),
        syn_queue_drops: Some(0),
    }
}

#[test]
#[ignore = "needs root, netns"]
fn an_ordinary_user_sees_all_of_a_server_of_its_own() {
    enter_namespace();
    as_nobody(|| {
        let listener = Listener::on("127.0.0.1:0", 7);
        let _client = connect(listener.address);
        let accepted = listener.accept();
        let child = Holder::of(&listener.socket, Some(&accepted));
        let (address, pid) = (listener.address, child.pid());
        drop((listener, accepted));
        for master in [Some(pid), None] {
            let tap = DiagTap::open(address, master, Clock::start()).unwrap();
            assert_eq!(tap.lacks(), [] as [String; 0]);
            let [one] = connections(tap.first()) else {
                unreachable!("one");
            };
            let owner = Some(pid.as_raw());
            assert!(
                matches!(one.owner, Owner::File { pid, .. } if pid == owner),
                "{one:?}"
            );
        }
    });
}

#[test]
#[ignore = "needs root, netns"]
fn of_another_users_server_the_owners_alone_are_hidden() {
    enter_namespace();
    let listener = Listener::on("127.0.0.1:0", 7);
    let _clients = [connect(listener.address), connect(listener.address)];
    let accepted = listener.accept();
    let child = Holder::of(&listener.socket, Some(&accepted));
    let (address, pid) = (listener.address, child.pid());
    drop((listener, accepted));
    for (master, whose) in [
        (Some(pid), format!("process {pid}")),
        (None, format!("whoever listens on {address}")),
    ] {
        let tap = as_nobody(|| DiagTap::open(address, master, Clock::start())).unwrap();
        let expected = format!(
            "which process holds a connection cannot be seen: /proc/PID/fd of {whose} needs its own \
             user or root"
        );
        assert_eq!(tap.lacks(), [expected]);
        assert_eq!(queues(tap.first()), [(1, 7)]);
        assert!(tap.first().counters.unwrap().abort_on_close.is_some());
        let owned = |one: &&Polled| matches!(one.owner, Owner::File { pid: None, .. });
        assert_eq!(connections(tap.first()).iter().filter(owned).count(), 1);
    }
}
