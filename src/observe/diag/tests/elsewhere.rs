//! Servers in other name spaces than the probe's.

use super::*;

/// A name space of another host, 10.0.0.2; this thread's is 10.0.0.1.
fn linked() -> File {
    let current = || File::open("/proc/thread-self/ns/net").unwrap();
    enter_namespace();
    let here = current();
    enter_namespace();
    let there = current();
    run("ip link add far type veth peer name near");
    run("ip addr add 10.0.0.2/24 dev far");
    run("ip link set far up");
    let path = format!("/proc/{}/fd/{}", getpid(), here.as_raw_fd());
    run(&format!("ip link set near netns {path}"));
    setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
    run("ip addr add 10.0.0.1/24 dev near");
    run("ip link set near up");
    there
}

/// A server over there that nobody over here shares a socket with.
fn serve(there: &File, backlog: i32) -> (Holder, SocketAddr) {
    let here = File::open("/proc/thread-self/ns/net").unwrap();
    setns(there, CloneFlags::CLONE_NEWNET).unwrap();
    let listener = Listener::on("0.0.0.0:0", backlog);
    let server = Holder::of(&listener.socket, None);
    setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
    let target = SocketAddr::new([10, 0, 0, 2].into(), listener.address.port());
    (server, target)
}

#[test]
#[ignore = "needs root, netns"]
fn a_server_in_another_name_space_is_asked_for_there() {
    let there = linked();
    let (server, target) = serve(&there, 0);
    let mut tap = DiagTap::open(target, Some(server.pid()), Clock::start()).unwrap();
    assert_eq!(
        (tap.lacks(), tap.name_space),
        (&[] as &[String], NameSpace::Other)
    );
    let before = tap.poller.everything().unwrap();
    let client = connect(target);
    let queued = tap.wait_for_one("queued", |one| one.state == TcpState::Established);
    assert_eq!(queued.client, client.local_addr().unwrap());
    let _late = begin_connect(target);
    // Theirs, which is counted where the queue is.
    let after = tap.wait_for("counted", |after| {
        moved(&before, after).listen_overflows == Some(1)
    });
    assert_eq!(queues(&after), [(1, 0)]);
    let vantage = tap.read(|_| true).unwrap();
    assert_eq!(vantage.stop().name_space, NameSpace::Other);
    // This thread has not moved.
    assert!(!route_to(target).unwrap().local);
}

#[test]
#[ignore = "needs root, netns"]
fn connections_that_end_elsewhere_than_the_server_are_said_to() {
    let there = linked();
    let (server, target) = serve(&there, 7);
    let pid = Some(server.pid());
    let open = |ip: [u8; 4]| {
        let target = SocketAddr::new(ip.into(), target.port());
        DiagTap::open(target, pid, Clock::start()).err()
    };
    // As behind docker-proxy, which listens here.
    let before = |ip| matches!(open(ip), Some(DiagMissing::EndsBefore { .. }));
    assert!(before([127, 0, 0, 1]) && before([10, 0, 0, 1]));
    // As behind DNAT on another host.
    assert!(matches!(
        open([10, 0, 0, 3]),
        Some(DiagMissing::NotItsAddress { .. })
    ));
}

#[test]
#[ignore = "needs root, netns"]
fn a_name_space_that_may_not_be_entered_is_named_with_what_it_needs() {
    let there = linked();
    let (server, target) = serve(&there, 7);
    let error = as_nobody(|| DiagTap::open(target, Some(server.pid()), Clock::start()));
    let expected = format!(
        "process {} is in another name space, which this user may not enter (permission denied); \
         that needs root (CAP_SYS_ADMIN)",
        server.pid()
    );
    assert_eq!(error.err().unwrap().to_string(), expected);
}

#[test]
#[ignore = "needs root, netns"]
fn a_listener_stays_in_the_name_space_it_was_made_in() {
    let there = linked();
    let here = File::open("/proc/thread-self/ns/net").unwrap();
    let listener = Listener::on("127.0.0.1:0", 7);
    setns(&there, CloneFlags::CLONE_NEWNET).unwrap();
    let server = Holder::of(&listener.socket, None);
    setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
    let tap = DiagTap::open(listener.address, Some(server.pid()), Clock::start()).unwrap();
    assert_eq!(tap.lacks(), [] as [String; 0]);
    assert_eq!(
        (queues(tap.first()), tap.name_space),
        (vec![(0, 7)], NameSpace::Own)
    );
}
