//! The vantage against this kernel: each test in a network name space of its own, with the server's
//! part played by threads and processes that the test starts.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "live tests serve, connect and start processes"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, mem, slice};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::gettid;
use socket2::SockRef;

mod instances;

use super::*;
use crate::kernel::{Task, TcpState, TracedWhat};
use crate::sys::process::pid;
use crate::wire::Ends;

/// Longer than any of this takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// One of these tests at a time: a child that another starts has all of our files until it execs, and
/// may so be the last to close a listener.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // One that failed has left nothing half done.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("needs root: unshare(CLONE_NEWNET)");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("ip").success());
}

/// A running vantage and what it has told so far.
struct Watch {
    vantage: TraceVantage,
    batches: Receiver<TraceBatch>,
    folders: Vec<String>,
    opened: Stamp,
    events: Vec<Traced>,
    lost: Vec<Lost>,
    watermark: Stamp,
}

impl Watch {
    fn start(port: u16, tree: &[Pid]) -> Watch {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let tap = TraceTap::open(target, tree, Clock::start()).expect("needs root, tracefs");
        assert_eq!(tap.lacks(), &[] as &[String]);
        assert!(tap.able().reads && tap.able().closings);
        let folders = folders(&tap);
        let opened = tap.opened();
        let (sender, batches) = mpsc::channel();
        let vantage = tap.read(move |batch| sender.send(batch).is_ok()).unwrap();
        Watch {
            vantage,
            batches,
            folders,
            opened,
            events: Vec::new(),
            lost: Vec::new(),
            watermark: Stamp(i64::MIN),
        }
    }

    fn take(&mut self, batch: TraceBatch) {
        let stamps = batch.events.iter().map(|event| event.at);
        assert!(stamps.is_sorted());
        assert!(batch.events.iter().all(|event| event.at >= self.watermark));
        self.watermark = batch.watermark;
        self.events.extend(batch.events);
        self.lost.extend(batch.lost);
    }

    /// Waits until an event like this was told.
    fn wait_for(&mut self, what: &str, is_it: impl Fn(&Traced) -> bool) {
        while !self.events.iter().any(&is_it) {
            let batch = self.batches.recv_timeout(DEADLINE);
            let batch = batch.unwrap_or_else(|_| panic!("{what}: {:#?}", self.events));
            self.take(batch);
        }
    }

    /// What was told, from the beginning to now.
    fn stop(mut self) -> (Vec<Traced>, TraceStats) {
        let vantage = mem::replace(&mut self.vantage, TraceVantage { running: None });
        let stats = vantage.stop();
        while let Ok(batch) = self.batches.try_recv() {
            self.take(batch);
        }
        assert_eq!(self.lost, []);
        assert_eq!((stats.lost, stats.late, stats.unreadable), (0, 0, 0));
        assert_eq!(stats.events, self.events.len() as u64);
        for folder in &self.folders {
            assert!(!Path::new(folder).exists(), "{folder}");
        }
        (self.events, stats)
    }
}

fn folders(tap: &TraceTap) -> Vec<String> {
    let instances = tap.instances.iter();
    instances.map(|one| one.path().to_owned()).collect()
}

/// What a connection's events were, in order: word, and the thread where it was not in an interrupt.
fn story(events: &[Traced], of: Ends) -> Vec<(String, Option<i32>)> {
    let told = events.iter().filter_map(|event| {
        let (ends, word) = match &event.what {
            TracedWhat::State { ends, from, to, .. } => (ends, format!("{from:?}>{to:?}")),
            TracedWhat::Read { ends, .. } => (ends, "read".to_owned()),
            TracedWhat::ResetSent { ends, reason, .. } => {
                let reason = reason.as_deref().expect("a kernel with reasons");
                (ends, format!("reset {reason}"))
            }
            TracedWhat::ResetReceived { ends, .. } => (ends, "got reset".to_owned()),
            TracedWhat::Retransmitted { ends } => (ends, "again".to_owned()),
            _ => return None,
        };
        let word = word.replace("Some(", "").replace(')', "");
        let tid = (!event.task.softirq).then_some(event.task.tid);
        (*ends == of).then_some((word, tid))
    });
    told.collect()
}

/// Whether softirqs were held off when this was done to a connection.
fn held_off(events: &[Traced], of: Ends, word: &str) -> Option<bool> {
    let mut did = events.iter().filter(|&event| {
        let told = story(slice::from_ref(event), of);
        told.first().is_some_and(|(did, _)| did == word)
    });
    Some(did.next()?.task.bh_off)
}

/// Who had the kernel let go of a connection. Its socket's name may have been another's before.
fn destruction(events: &[Traced], of: Ends) -> Task {
    let mut events = events.iter();
    let begun = events.find_map(|event| match event.what {
        TracedWhat::State { ends, socket, .. } if ends == of => Some(socket),
        _ => None,
    });
    let socket = begun.expect("a beginning");
    let destroyed = TracedWhat::Destroyed { socket };
    let end = events.find(|event| event.what == destroyed);
    end.expect("an end").task
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn connect(to: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(to).unwrap();
    client.write_all(REQUEST).unwrap();
    client
}

fn read_request(mut connection: &TcpStream) {
    connection.read_exact(&mut [0; REQUEST.len()]).unwrap();
}

fn reset_on_close(socket: &TcpStream) {
    let now = Some(Duration::ZERO);
    SockRef::from(socket).set_linger(now).unwrap();
}

/// Accepts four connections: answers the first, peeks at the second, reads the third and resets it,
/// and is reset by the fourth.
fn serve(listener: &TcpListener) -> i32 {
    let accept = || listener.accept().unwrap().0;
    let mut answered = accept();
    read_request(&answered);
    answered.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    drop(answered);
    let peeked = accept();
    peeked.peek(&mut [0; 1]).unwrap();
    drop(peeked);
    let read = accept();
    read_request(&read);
    reset_on_close(&read);
    drop(read);
    let left = accept();
    read_request(&left);
    left.peek(&mut [0; 1]).unwrap_err();
    gettid().as_raw()
}

/// What every connection begins with.
const BEGINNING: [&str; 2] = ["Listen>SynRecv", "SynRecv>Established"];

fn told(words: &[&str]) -> Vec<String> {
    let all = BEGINNING.iter().chain(words);
    all.map(|&word| word.to_owned()).collect()
}

fn words(story: &[(String, Option<i32>)]) -> Vec<String> {
    story.iter().map(|(word, _)| word.clone()).collect()
}

/// Who did this to a connection.
fn who(story: &[(String, Option<i32>)], word: &str) -> Option<i32> {
    story.iter().find(|(did, _)| did == word)?.1
}

fn what_a_server_does_is_told(bind: &str, host: &str) {
    let _alone = alone();
    enter_namespace();
    let listener = TcpListener::bind(format!("{bind}:0")).unwrap();
    let local = listener.local_addr().unwrap();
    let target: SocketAddr = format!("{host}:{}", local.port()).parse().unwrap();
    let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
    let mut watch = Watch::start(local.port(), &[Pid::this()]);

    let server = thread::Builder::new()
        .spawn(move || (serve(&listener), listener))
        .unwrap();
    let mut ends = Vec::new();
    let mut open = || {
        let client = connect(target);
        ends.push(Ends {
            client: client.local_addr().unwrap(),
            server: target,
        });
        client
    };
    for _ in 0..3 {
        // The last two are reset, one after its answer would have come.
        let _ = open().read_to_end(&mut Vec::new());
    }
    let leaving = open();
    let (tid, us) = (watch.accepted_by_others(4), gettid().as_raw());
    reset_on_close(&leaving);
    drop(leaving);
    let (server, listener) = server.join().unwrap();
    assert_eq!(server, tid);
    let mut queued = open();
    drop(listener);
    queued.read(&mut [0; 1]).unwrap_err();
    TcpStream::connect(target).unwrap_err();
    watch.wait_for("a refusal", |event| is_reset(event, "NO_SOCKET"));
    let (events, _) = watch.stop();

    let stories: Vec<_> = ends.iter().map(|&ends| story(&events, ends)).collect();
    let [answered, peeked, read, left, queued] = &stories[..] else {
        panic!("{stories:?}");
    };
    let closes = [
        "Established>FinWait1",
        "FinWait1>FinWait2",
        "FinWait2>Close",
    ];
    assert_eq!(words(answered), told(&[&["read"], &closes[..]].concat()));
    let unread = "reset TCP_ABORT_ON_CLOSE";
    assert_eq!(words(peeked), told(&["read", "Established>Close", unread]));
    let state = "reset TCP_STATE";
    assert_eq!(words(read), told(&["read", "Established>Close", state]));
    assert_eq!(
        words(left),
        told(&["read", "got reset", "Established>Close"])
    );
    assert_eq!(words(queued), told(&["Established>Close", state]));

    assert_eq!(held_off(&events, ends[1], unread), Some(false));
    assert_eq!(held_off(&events, ends[2], state), Some(false));
    assert_eq!(held_off(&events, ends[4], state), Some(true));
    let destroyed: Vec<_> = ends[1..3]
        .iter()
        .map(|&ends| destruction(&events, ends).bh_off)
        .collect();
    assert_eq!(destroyed, [true, true]);

    for story in [answered, peeked, read, left] {
        assert_eq!(who(story, "read"), Some(server));
    }
    assert_eq!(who(answered, "Established>FinWait1"), Some(server));
    assert_eq!(who(peeked, unread), Some(server));
    assert_eq!(who(read, state), Some(server));
    assert_eq!(who(queued, state), Some(us));

    let listening = Ends {
        client: SocketAddr::new(local.ip(), 0),
        server: local,
    };
    let closed: Vec<_> = events
        .iter()
        .filter(|event| is_closed_listener(event))
        .collect();
    let [closed] = closed[..] else {
        panic!("{closed:?}");
    };
    let TracedWhat::State { ends, .. } = &closed.what else {
        unreachable!("a change of state");
    };
    assert_eq!(ends.server, listening.server);
    assert_eq!(ends.client.port(), 0);
    assert_eq!(closed.task.tid, us);
    assert_eq!(closed.task.pid, Some(Pid::this().as_raw()));

    let accepts: Vec<_> = events
        .iter()
        .filter(|event| event.task.tid == server)
        .collect();
    let accepts: Vec<_> = accepts.into_iter().filter_map(accept).collect();
    assert_eq!(accepts.len(), 4);
    assert!(accepts.iter().all(|(entered, at, _)| entered <= at));
    // While the listener was open and this was read it was known for sure.
    let inode = accepts[3].2.expect("a listener");
    assert_eq!(link.to_str(), Some(&*format!("socket:[{inode}]")));
}

impl Watch {
    /// Waits until a thread of this process other than ours accepted `n` connections of this port.
    fn accepted_by_others(&mut self, n: usize) -> i32 {
        let us = gettid().as_raw();
        loop {
            let read = |event: &&Traced| {
                event.task.tid != us && matches!(event.what, TracedWhat::Read { .. })
            };
            let reads: Vec<_> = self.events.iter().filter(read).collect();
            if let [.., last] = reads[..]
                && reads.len() >= n
            {
                return last.task.tid;
            }
            let batch = self.batches.recv_timeout(DEADLINE).expect("a batch");
            self.take(batch);
        }
    }
}

fn is_reset(event: &Traced, because: &str) -> bool {
    matches!(&event.what, TracedWhat::ResetSent { reason, .. } if reason.as_deref() == Some(because))
}

fn is_closed_listener(event: &Traced) -> bool {
    let (listen, close) = (Some(TcpState::Listen), Some(TcpState::Close));
    matches!(event.what, TracedWhat::State { from, to, .. } if from == listen && to == close)
}

/// When accept() was entered and left, and where.
fn accept(event: &Traced) -> Option<(Stamp, Stamp, Option<u64>)> {
    match event.what {
        TracedWhat::Accepted {
            listener, entered, ..
        } => Some((entered?, event.at, listener)),
        _ => None,
    }
}

#[test]
#[ignore = "needs root, tracefs"]
fn what_a_server_does_is_told_over_ipv4() {
    what_a_server_does_is_told("127.0.0.1", "127.0.0.1");
}

#[test]
#[ignore = "needs root, tracefs"]
fn what_a_server_does_is_told_over_ipv6() {
    what_a_server_does_is_told("[::1]", "[::1]");
}

#[test]
#[ignore = "needs root, tracefs"]
fn what_a_dual_stack_server_does_is_told_by_the_addresses_on_the_wire() {
    what_a_server_does_is_told("[::]", "127.0.0.1");
}

/// A process that waits for a line from us before it does anything.
fn start(command: &mut Command) -> Child {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    piped.spawn().expect("it starts")
}

fn shell(script: &str) -> Child {
    start(Command::new("sh").args(["-c", script]))
}

/// The next line that it writes, read byte by byte: what follows is left for the next time.
fn read_line(child: &mut Child) -> String {
    let stdout = child.stdout.as_mut().expect("a pipe");
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stdout.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

fn exited(event: &Traced, child: &Child) -> bool {
    let child = pid(child.id()).as_raw();
    event.what == TracedWhat::Exited && event.task.pid == Some(child)
}

/// The signals that a process got, and how often it ended.
fn end_of(events: &[Traced], child: &Child) -> (Vec<Box<str>>, usize) {
    let child = pid(child.id()).as_raw();
    let of_it = events.iter().filter(|event| event.task.pid == Some(child));
    let signals = of_it.filter_map(|event| match &event.what {
        TracedWhat::Signalled { signal } => Some(signal.clone()),
        _ => None,
    });
    let is_end =
        |event: &&Traced| event.what == TracedWhat::Exited && event.task.pid == Some(child);
    (signals.collect(), events.iter().filter(is_end).count())
}

#[test]
#[ignore = "needs root, tracefs"]
fn a_signal_is_told_by_its_own_name_whether_it_is_handled_or_not() {
    let _alone = alone();
    let handling = "trap 'exit 3' TERM; echo ready; read line";
    let scripts = [
        ("read line", Signal::SIGTERM),
        (handling, Signal::SIGTERM),
        (handling, Signal::SIGKILL),
        ("read line", Signal::SIGKILL),
        ("read line", Signal::SIGQUIT),
    ];
    for (script, signal) in scripts {
        let mut child = shell(script);
        if script == handling {
            assert_eq!(read_line(&mut child), "ready\n");
        }
        let it = pid(child.id());
        let mut watch = Watch::start(9, &[it]);
        kill(it, signal).unwrap();
        watch.wait_for("an end", |event| exited(event, &child));
        child.wait().unwrap();
        let (events, _) = watch.stop();
        assert_eq!(
            end_of(&events, &child),
            (vec![signal.as_str().into()], 1),
            "{script} {signal}"
        );
    }
}

/// Set where this binary is started as a process that plays a part in a test.
const PART: &str = "PROBE_TRACE_PART";

/// This test in a process of its own.
fn this_test(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    let name = format!("observe::trace::tests::{name}");
    command
        .args(["--exact", &name, "--include-ignored", "--nocapture"])
        .env(PART, "1");
    command
}

#[test]
#[ignore = "needs root, tracefs"]
fn threads_that_end_with_their_process_got_no_signal() {
    let _alone = alone();
    if env::var_os(PART).is_some() {
        for _ in 0..3 {
            let forever = || loop {
                thread::park();
            };
            thread::Builder::new().spawn(forever).unwrap();
        }
        println!("\nready");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        process::exit(0);
    }
    for signal in [None, Some(Signal::SIGTERM)] {
        let mut child = start(&mut this_test(
            "threads_that_end_with_their_process_got_no_signal",
        ));
        while read_line(&mut child) != "ready\n" {}
        let it = pid(child.id());
        let mut watch = Watch::start(9, &[it]);
        match signal {
            Some(signal) => kill(it, signal).unwrap(),
            None => writeln!(child.stdin.as_mut().unwrap()).unwrap(),
        }
        watch.wait_for("an end", |event| exited(event, &child));
        child.wait().unwrap();
        let (events, _) = watch.stop();
        let signals = signal.iter().map(|signal| signal.as_str().into()).collect();
        assert_eq!(end_of(&events, &child), (signals, 1));
    }
}

#[test]
#[ignore = "needs root, tracefs"]
fn processes_forked_by_the_servers_are_the_servers() {
    let _alone = alone();
    let mut child = shell("read line; /bin/true; (/bin/true; exit 0) & wait");
    let mut watch = Watch::start(9, &[pid(child.id())]);
    writeln!(child.stdin.as_mut().unwrap()).unwrap();
    watch.wait_for("an end", |event| exited(event, &child));
    child.wait().unwrap();
    let (events, _) = watch.stop();
    let ends: Vec<_> = events
        .iter()
        .filter(|e| e.what == TracedWhat::Exited)
        .collect();
    // Two of /bin/true, a subshell and the shell: each its own process.
    assert_eq!(ends.len(), 4, "{ends:?}");
    assert!(ends.iter().all(|end| end.task.pid == Some(end.task.tid)));
    let names = ends.iter().map(|end| end.task.comm.unwrap().to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["true", "true", "sh", "sh"]);
}

#[test]
#[ignore = "needs root, tracefs, ss"]
fn who_destroys_anothers_socket_holds_softirqs_off() {
    let _alone = alone();
    enter_namespace();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let watch = Watch::start(target.port(), &[Pid::this()]);
    let mut client = connect(target);
    let ends = Ends {
        client: client.local_addr().unwrap(),
        server: target,
    };
    let (taken, _) = listener.accept().unwrap();
    let mut ss = Command::new("ss")
        .args(["-K", "-t", "src", &target.to_string()])
        .args(["dst", &ends.client.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(ss.wait().unwrap().success());
    client.read(&mut [0; 1]).unwrap_err();
    drop(taken);
    let (events, _) = watch.stop();
    let resets: Vec<_> = events
        .iter()
        .filter(|event| matches!(event.what, TracedWhat::ResetSent { ends: of, .. } if of == ends))
        .map(|event| (event.task.tid, event.task.softirq, event.task.bh_off))
        .collect();
    assert_eq!(resets, [(pid(ss.id()).as_raw(), false, true)]);
}

#[test]
#[ignore = "needs root, tracefs"]
fn an_accept_that_waited_before_the_vantage_was_opened_has_its_listener() {
    let _alone = alone();
    enter_namespace();
    // By accept() and by accept4().
    let calls: [fn(&TcpListener) -> OwnedFd; 2] = [
        |listener| rustix::net::accept(listener).unwrap(),
        |listener| listener.accept().unwrap().0.into(),
    ];
    for call in calls {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let fd = listener.as_raw_fd();
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        let (sender, tids) = mpsc::channel();
        let server = thread::Builder::new().spawn(move || {
            sender.send(gettid().as_raw()).unwrap();
            // Kept: the next is given another number.
            [call(&listener), call(&listener)].map(|taken| taken.as_raw_fd())
        });
        let server = server.unwrap();
        let tid = tids.recv().unwrap();
        let deadline = Instant::now() + DEADLINE;
        while threads::waits_in_accept(tid) != Some(fd) {
            assert!(Instant::now() < deadline, "it never waits");
            thread::yield_now();
        }
        let watch = Watch::start(target.port(), &[Pid::this()]);
        let opened = watch.opened;
        let clients = [connect(target), connect(target)];
        let fds = server.join().unwrap();
        drop(clients);
        let (events, _) = watch.stop();

        let accepts = events.iter().filter_map(|event| match event.what {
            TracedWhat::Accepted {
                listener,
                fd,
                entered,
            } if event.task.tid == tid => Some((listener?, fd, entered? <= opened)),
            _ => None,
        });
        let link = link.to_str().unwrap();
        let inode = link.trim_matches(|c: char| !c.is_ascii_digit());
        let inode: u64 = inode.parse().unwrap();
        assert_eq!(
            accepts.collect::<Vec<_>>(),
            [(inode, fds[0], true), (inode, fds[1], false)]
        );
    }
}

/// Connections that the load test makes, and from how many threads: over four addresses each, so that
/// ports suffice.
const LOAD: usize = 30_000;
const CLIENTS: usize = 4;

/// Has threads connect, send and read to the end, and another answer, until LOAD connections are
/// done.
fn load(listener: TcpListener) -> (i32, Duration) {
    let port = listener.local_addr().unwrap().port();
    let server = thread::Builder::new().spawn(move || {
        for _ in 0..LOAD {
            let (mut connection, _) = listener.accept().unwrap();
            read_request(&connection);
            connection.write_all(b"x").unwrap();
        }
        gettid().as_raw()
    });
    let clock = Clock::start();
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|host| {
            let to = SocketAddr::from(([127, 0, 0, u8::try_from(host).unwrap()], port));
            let work = move || {
                for _ in 0..LOAD / CLIENTS {
                    connect(to).read_to_end(&mut Vec::new()).unwrap();
                }
            };
            thread::Builder::new().spawn(work).unwrap()
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let span = clock.now().since(clock.started());
    let span = Duration::from_nanos(u64::try_from(span).unwrap());
    (server.unwrap().join().unwrap(), span)
}

#[test]
#[ignore = "needs root, tracefs"]
fn of_a_busy_server_every_connection_is_told_and_of_another_none() {
    let _alone = alone();
    enter_namespace();
    let [busy, other] = [(); 2].map(|()| TcpListener::bind("0.0.0.0:0").unwrap());
    let [port, other_port] = [&busy, &other].map(|one| one.local_addr().unwrap().port());
    let watch = Watch::start(port, &[Pid::this()]);
    let (server, span) = load(busy);
    let elsewhere = connect(SocketAddr::from(([127, 0, 0, 1], other_port)));
    read_request(&other.accept().unwrap().0);
    drop(elsewhere);
    let (events, stats) = watch.stop();

    let count =
        |is_it: &dyn Fn(&Traced) -> bool| events.iter().filter(|&event| is_it(event)).count();
    let by_server = |event: &Traced| event.task.tid == server;
    let reads = count(&|event| by_server(event) && matches!(event.what, TracedWhat::Read { .. }));
    let accepts = count(&|event| by_server(event) && accept(event).is_some());
    assert_eq!((reads, accepts), (LOAD, LOAD));
    let begun = count(&|event| {
        let to = Some(TcpState::Established);
        matches!(&event.what, TracedWhat::State { to: state, .. } if *state == to)
    });
    assert_eq!(begun, LOAD);
    let others = count(&|event| match &event.what {
        TracedWhat::State { ends, .. }
        | TracedWhat::Read { ends, .. }
        | TracedWhat::ResetSent { ends, .. }
        | TracedWhat::ResetReceived { ends, .. }
        | TracedWhat::Retransmitted { ends } => ends.server.port() != port,
        _ => false,
    });
    assert_eq!(others, 0);
    println!("{LOAD} connections in {span:?}: {stats:?}");
}
