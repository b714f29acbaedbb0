//! Other listeners, other users, other readers: deferred accept, IPv6, no privilege, a pipe that is
//! closed.
#![expect(
    clippy::disallowed_types,
    reason = "tests start the server and read what it wrote"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::kernel::State;
use crate::common::prefork::{Client, Log, REQUEST, Serving, measure, serve_command};
use crate::common::process::Held;
use crate::common::{as_nobody, binary_for_everybody, enter_namespace, stderr};

#[test]
#[ignore = "needs root, netns"]
fn under_deferred_accept_a_silent_client_is_not_even_queued() {
    enter_namespace();
    let mut server = Serving::start("--deferred-accept");
    let mut silent = Client::connect(server.address());
    server.port().wait_for(State::SynRecv, 1);
    server.port().wait_for(State::Established, 0);
    // Whoever asks is served past it.
    Client::asking(server.address(), REQUEST).gets(200);
    server.wait_for("answered", 1);
    assert!(server.log().about("accepted", silent.address()).is_none());
    // Its first byte brings it in.
    silent.send(REQUEST);
    silent.gets(200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().code, Some(0));
}

#[test]
#[ignore = "needs root, netns"]
fn under_deferred_accept_a_late_request_meets_no_socket() {
    enter_namespace();
    let options = "--count 15 --idle 5 --rate 250 --signal TERM@5 --idle-delay 500ms";
    let measured = measure(options, "--deferred-accept --service-time 1ms");
    measured.agrees();
    let rows = measured.rows.iter();
    let idle: Vec<_> = rows.filter(|row| row["cohort"] == "idle").collect();
    assert_eq!(idle.len(), 5);
    for row in idle {
        assert_eq!(row["outcome"], "reset_empty", "{row:?}");
        // Half-open on the server, they went with its listener without a word.
        assert_eq!(row["rst_kind"], "passive", "{row:?}");
        assert!(row["sequence"].starts_with(">S <S. >. >P."), "{row:?}");
        assert!(row["sequence"].ends_with(" <R"), "{row:?}");
        assert_eq!(row["request_acked"], "false", "{row:?}");
    }
    assert!(measured.count("served") > 0, "{:?}", measured.run);
}

#[test]
#[ignore = "needs root, netns"]
fn it_listens_on_ipv6() {
    enter_namespace();
    let options = "--count 50 --rate 250 --signal TERM@25";
    let measured = measure(options, "--listen [::1]:0 --policy drain");
    measured.agrees();
    assert!(measured.count("served") > 25, "{:?}", measured.run);
    assert!(measured.rows.iter().all(|row| row["dst_addr"] == "::1"));
    let listening = measured.log.first("listening");
    assert!(listening.subject::<SocketAddr>().is_ipv6());
}

#[test]
#[ignore = "needs root, netns"]
fn an_ipv4_client_of_an_ipv6_listener_is_logged_as_it_knows_itself() {
    enter_namespace();
    let mut server = Serving::start("--listen [::]:0");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().port()));
    let client = Client::asking(address, REQUEST);
    let itself = client.address();
    client.gets(200);
    server.wait_for("answered", 1);
    for event in ["accepted", "read", "answered"] {
        assert!(
            server.log().about(event, itself).is_some(),
            "{:?}",
            server.log()
        );
    }
    server.interrupt();
}

#[test]
#[ignore = "needs root, netns"]
fn an_ordinary_user_can_run_it() {
    enter_namespace();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = binary_for_everybody(folder.path());
    let command = |listen: &str, policy: &str| {
        let mut command = as_nobody(&binary);
        command.args(["serve", "--listen", listen, "--policy", policy]);
        command
    };
    let server = Serving::of(command("127.0.0.1:0", "drain"));
    Client::asking(server.address(), REQUEST).gets(200);
    server.signal(Signal::SIGTERM);
    let ended = server.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.log.count("reaped"), 2);

    let output = command("127.0.0.1:80", "drain").output();
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "probe: port 80 is not for ordinary users; give one of 1024 or more\n"
    );
}

#[test]
#[ignore = "needs root, netns"]
fn a_filter_that_this_user_may_not_set_is_refused_at_the_start() {
    enter_namespace();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = binary_for_everybody(folder.path());
    let mut server = as_nobody(&binary)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(["--policy", "filter-drain"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = String::new();
    let stdout = server.stdout.as_mut().expect("its stdout is ours");
    BufReader::new(stdout)
        .read_line(&mut first)
        .expect("its stdout");
    if !first.is_empty() {
        // This kernel asks for no privilege.
        kill(Log::parse(&first).master(), Signal::SIGTERM).expect("it is there");
    }
    let output = server.wait_with_output().expect("its end");
    if first.is_empty() {
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            stderr(&output),
            format!(
                "probe: cannot filter what the listening socket takes: operation not permitted; \
                 --policy filter-drain needs CAP_NET_ADMIN (sudo setcap cap_net_raw,cap_net_admin+ep {}), or \
                 give another policy\n",
                binary.display()
            )
        );
    } else {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_nonblocking_log_that_is_full_loses_no_line() {
    enter_namespace();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a nonblocking pipe");
    let words = serve_command("--workers 1 --service-time 0ms");
    let mut server = Command::new(&words[0])
        .args(&words[1..])
        .stdout(writer.try_clone().expect("a descriptor"))
        .spawn()
        .expect("it starts");
    let mut reader = BufReader::new(reader);
    let mut text = String::new();
    reader.read_line(&mut text).expect("its log");
    let log = Log::parse(&text);
    let address = log.first("listening").subject();
    let clients: Vec<Client> = (0..100).map(|_| Client::asking(address, REQUEST)).collect();
    let has_room = || {
        let mut fds = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).expect("a pipe") > 0
    };
    while has_room() {
        thread::yield_now();
    }
    drop(writer);
    let rest = thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            reader.read_to_string(&mut text).expect("its log");
            text
        })
        .expect("a thread");
    clients.into_iter().for_each(|client| client.gets(200));
    kill(log.master(), Signal::SIGTERM).expect("it is there");
    let log = Log::parse(&rest.join().expect("the log"));
    assert_eq!(log.count("answered"), 100);
    assert_eq!(log.last("exit").pid, log.master());
    assert_eq!(server.wait().expect("its end").code(), Some(0));
}

#[test]
#[ignore = "needs root, netns"]
fn a_log_that_cannot_be_written_is_said_once_a_process_and_clients_are_served() {
    enter_namespace();
    let mut server = Command::new("sh")
        .args(["-c", "exec \"$@\" >/dev/full", "sh"])
        .args(serve_command("--listen 127.0.0.1:9292 --workers 1"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut stderr = BufReader::new(server.stderr.take().expect("its stderr is ours"));
    let mut said = String::new();
    for _ in ["master", "worker"] {
        stderr.read_line(&mut said).expect("its stderr");
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9292));
    Client::asking(address, REQUEST).gets(200);
    let master = Pid::from_raw(server.id().cast_signed());
    kill(master, Signal::SIGTERM).expect("it is there");
    stderr.read_to_string(&mut said).expect("its stderr");
    assert_eq!(server.wait().expect("its end").code(), Some(0));
    assert_eq!(said.lines().count(), 2, "{said}");
    let why = "cannot write its log: no space left on device";
    assert!(said.lines().all(|line| line.contains(why)), "{said}");
}

#[test]
#[ignore = "needs root, netns"]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    enter_namespace();
    let mut shell = Command::new("sh")
        .args(["-c", "\"$@\" | head -n 3", "sh"])
        .args(serve_command(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut stdout = BufReader::new(shell.stdout.take().expect("its stdout is ours"));
    let mut shown = String::new();
    while shown.lines().count() < 3 {
        let read = stdout.read_line(&mut shown).expect("its stdout");
        assert!(read > 0, "it ended: {shown}");
    }
    let log = Log::parse(&shown);
    let pids = log.0.iter().map(|event| event.pid);
    let server: Vec<Held> = pids.map(Held::open).collect();
    assert_eq!(server.len(), 3);
    // The next line is one too many.
    let _client = Client::connect(log.first("listening").subject());
    server.iter().for_each(Held::wait);
    stdout.read_to_string(&mut shown).expect("its stdout");
    assert_eq!(shown.lines().count(), 3);
    let mut said = String::new();
    let mut pipe = shell.stderr.take().expect("its stderr is ours");
    pipe.read_to_string(&mut said).expect("its stderr");
    assert_eq!(said, "");
    shell.wait().expect("sh is ours");
}
