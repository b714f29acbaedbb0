//! Clients of every kind: what they are answered, and that none of them keeps others from being
//! served.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use procfs::process::Process;

use crate::common::enter_namespace;
use crate::common::prefork::{Client, REQUEST, Serving};

/// Serves at once, so that a test waits for nothing else.
const AT_ONCE: &str = "--service-time 0ms";

fn get(server: &Serving) {
    Client::asking(server.address(), REQUEST).gets(200);
}

#[test]
#[ignore = "needs root, netns"]
fn what_is_no_request_is_told_so_and_the_service_goes_on() {
    enter_namespace();
    let mut server = Serving::start(AT_ONCE);
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(65 * 1024));
    let refused: [(&[u8], u16); 4] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"hello?\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (long.as_bytes(), 431),
    ];
    for (n, (bytes, status)) in refused.into_iter().enumerate() {
        let client = Client::asking(server.address(), bytes);
        let address = client.address();
        client.gets(status);
        server.wait_for("rejected", n + 1);
        let event = server.log().about("rejected", address).expect("its event");
        assert_eq!(event.number("status"), u64::from(status));
        get(&server);
    }
    let ended = server.interrupt();
    assert_eq!(ended.log.count("answered"), refused.len());
}

#[test]
#[ignore = "needs root, netns"]
fn requests_of_every_shape_are_answered_once() {
    enter_namespace();
    let server = Serving::start(AT_ONCE);
    let with_length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = [
        format!("{with_length}hello"),
        format!("{chunked}5\r\nhello\r\n0\r\n\r\n"),
        "PUT /x HTTP/1.0\r\nContent-Length: 0\r\n\r\n".to_owned(),
        // The answer ends the connection, so that there is none to a second request.
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    for request in &whole {
        Client::asking(server.address(), request.as_bytes()).gets(200);
    }
    // Byte by byte, each in a segment of its own as far as the kernel lets it.
    for request in &whole[..2] {
        let mut client = Client::connect(server.address());
        for byte in request.as_bytes() {
            client.send(&[*byte]);
        }
        client.gets(200);
    }
    let head = Client::asking(server.address(), b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = head.answer().expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(!answer.contains("Content-Length: 0\r\n"), "{answer}");
    let ended = server.interrupt();
    assert_eq!(ended.log.count("answered"), 7);
    assert_eq!(ended.log.count("read"), 7);
}

#[test]
#[ignore = "needs root, netns"]
fn a_body_that_is_still_to_come_is_awaited() {
    enter_namespace();
    let mut server = Serving::start(AT_ONCE);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel";
    let mut slow = Client::asking(server.address(), head);
    server.wait_for("accepted", 1);
    // Others are served meanwhile, by whichever worker.
    for _ in 0..5 {
        get(&server);
    }
    server.wait_for("answered", 5);
    assert!(server.log().about("read", slow.address()).is_none());
    slow.send(b"lo");
    slow.gets(200);
    server.interrupt();
}

#[test]
#[ignore = "needs root, netns"]
fn clients_that_leave_are_let_go() {
    enter_namespace();
    let mut server = Serving::start(AT_ONCE);
    for (n, sent) in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\n"]
        .into_iter()
        .enumerate()
    {
        let client = Client::asking(server.address(), sent);
        let address = client.address();
        drop(client);
        server.wait_for("closed", n + 1);
        let closed = server.log().about("closed", address).expect("its event");
        assert_eq!(closed.number("bytes"), sent.len() as u64);
        get(&server);
    }
    let ended = server.interrupt();
    assert_eq!(ended.log.count("answered"), 3);
}

#[test]
#[ignore = "needs root, netns"]
fn silent_clients_are_sent_away_after_ten_seconds() {
    enter_namespace();
    let mut server = Serving::start(AT_ONCE);
    let idle = Client::connect(server.address());
    let partial = Client::asking(server.address(), b"GET / HTTP/1.1\r\nHos");
    server.wait_for("accepted", 2);
    let (idle_address, partial_address) = (idle.address(), partial.address());
    get(&server);
    assert_eq!(idle.answer().expect("an end without an answer"), "");
    partial.gets(408);
    server.wait_for("closed", 2);
    let log = server.log();
    for (client, event) in [(idle_address, "closed"), (partial_address, "rejected")] {
        let at = |name| log.about(name, client).expect("its event").at;
        let patience = at(event) - at("accepted");
        assert!(patience >= 10_000_000_000, "{event} after {patience} ns");
    }
    get(&server);
    server.interrupt();
}

#[test]
#[ignore = "needs root, netns"]
fn fifteen_hundred_idle_connections_keep_nobody_out_once_they_leave() {
    const CLIENTS: usize = 1_500;
    enter_namespace();
    allow_open_files(2 * CLIENTS as u64);
    let mut server = Serving::start(AT_ONCE);
    let idle: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::connect(server.address()))
        .collect();
    // Each of two workers holds so many; the others stay queued.
    server.wait_for("accepted", 2 * 512);
    server.port().wait_for_queued(CLIENTS - 2 * 512);
    let before = processor_time(&server.workers());
    server.signal(nix::sys::signal::Signal::SIGUSR1);
    server.wait_for("counters", 2);
    assert_eq!(server.log().count("accepted"), 2 * 512);
    // A worker that looked at its queue again and again would use up what time there is; these are
    // hundredths of a second, and nothing was to be done.
    assert!(processor_time(&server.workers()) - before < 50);
    drop(idle);
    server.wait_for("closed", CLIENTS);
    get(&server);
    assert_eq!(server.interrupt().log.count("answered"), 1);
}

#[test]
#[ignore = "needs root, netns"]
fn out_of_descriptors_it_waits_and_then_serves_on() {
    enter_namespace();
    let mut server = Serving::by_shell("ulimit -n 32; exec \"$@\"", AT_ONCE);
    let idle: Vec<Client> = (0..100)
        .map(|_| Client::connect(server.address()))
        .collect();
    server.wait_for("accept_failed", 10);
    drop(idle);
    server.wait_for("closed", 100);
    get(&server);
    let ended = server.interrupt();
    assert_eq!(ended.log.count("answered"), 1);
    // Each worker tries again no sooner than after a tenth of a second.
    for worker in ended.log.of("booted") {
        let failed = ended.log.of("accept_failed").into_iter();
        let times: Vec<i64> = failed
            .filter(|event| event.pid == worker.pid)
            .map(|event| event.at)
            .collect();
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= 100_000_000, "{times:?}");
        }
    }
}

#[test]
#[ignore = "needs root, netns"]
fn out_of_descriptors_a_busy_worker_does_not_spin() {
    enter_namespace();
    // It can accept nothing for want of descriptors, and may accept nothing while its thread is busy.
    let options = "--workers 1 --service-time 2s";
    let mut server = Serving::by_shell("ulimit -n 32; exec \"$@\"", options);
    let mut idle: Vec<Client> = (0..100)
        .map(|_| Client::connect(server.address()))
        .collect();
    server.wait_for("accept_failed", 1);
    let before = processor_time(&server.workers());
    let accepted = server.log().first("accepted").subject();
    let mut clients = idle.iter_mut();
    let busy = clients.find(|client| client.address() == accepted);
    busy.expect("one of ours").send(REQUEST);
    server.wait_for("answered", 1);
    // Spinning it would use up to 200 hundredths of a second.
    let used = processor_time(&server.workers()) - before;
    assert!(used < 50, "{used} hundredths of a second");
    server.interrupt();
}

/// Processor time that processes have used, in the kernel's ticks of a hundredth of a second.
fn processor_time(processes: &[Pid]) -> u64 {
    let each = processes.iter().map(|pid| {
        let stat = Process::new(pid.as_raw()).and_then(|process| process.stat());
        let stat = stat.expect("a live process");
        stat.utime + stat.stime
    });
    each.sum()
}

/// Raises the test's own limit where it is lower.
fn allow_open_files(n: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit()");
    if soft < n {
        setrlimit(Resource::RLIMIT_NOFILE, n.min(hard), hard).expect("setrlimit()");
    }
}
