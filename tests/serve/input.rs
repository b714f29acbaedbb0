//! Addresses, pid files and limits that cannot be had: one sentence with a remedy and exit code 2,
//! or a note.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests listen, write files, and start processes"
)]

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::common::prefork::{Client, REQUEST, Serving};
use crate::common::{enter_namespace, run_probe, stderr, stdout, sysctl};

fn assert_refused(options: &str, sentence: &str) {
    let output = run_probe(&format!("serve {options}"));
    assert_eq!(stderr(&output), format!("probe: {sentence}\n"));
    assert_eq!(stdout(&output), "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
#[ignore = "needs root, netns"]
fn a_port_that_somebody_listens_on_is_refused() {
    enter_namespace();
    let _other = TcpListener::bind("127.0.0.1:9292").expect("a port");
    assert_refused(
        "",
        "somebody already listens on 127.0.0.1:9292; stop that, or give another port with --listen \
         (port 0 takes a free one)",
    );
}

#[test]
#[ignore = "needs root, netns"]
fn a_port_in_time_wait_is_taken() {
    enter_namespace();
    // The server closes first: its end lingers in TIME-WAIT.
    for _ in 0..2 {
        let server = Serving::start("--listen 127.0.0.1:9292");
        Client::asking(server.address(), REQUEST).gets(200);
        server.interrupt();
    }
}

#[test]
#[ignore = "needs root, netns"]
fn no_free_port_is_told_apart_from_one_in_use() {
    enter_namespace();
    sysctl("net/ipv4/ip_local_port_range", "40000 40003");
    let _held: Vec<TcpListener> = (40_000..40_004)
        .map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a port"))
        .collect();
    assert_refused(
        "--listen 127.0.0.1:0",
        "no port is free on 127.0.0.1; end programs that hold ports, or widen \
         net.ipv4.ip_local_port_range",
    );
}

#[test]
#[ignore = "needs root, netns"]
fn an_address_of_another_host_is_refused() {
    enter_namespace();
    assert_refused(
        "--listen 192.0.2.1:0",
        "192.0.2.1 is no address of this host; give one that `ip address` shows",
    );
}

#[test]
#[ignore = "needs root, netns"]
fn a_backlog_above_the_kernels_is_capped_with_a_note() {
    enter_namespace();
    let server = Serving::start("--backlog 1000");
    assert_eq!(server.port().backlog(), 1000);
    assert_eq!(server.interrupt().stderr, "");

    sysctl("net/core/somaxconn", "64");
    let server = Serving::start("--backlog 1000");
    assert_eq!(server.port().backlog(), 64);
    assert_eq!(
        server.interrupt().stderr,
        "probe: --backlog 1000 is capped by the kernel: net.core.somaxconn is 64, and the accept \
         queue holds one more\n"
    );
}

#[test]
#[ignore = "needs root, netns"]
fn a_pid_file_holds_the_masters_pid_for_as_long_as_it_lives() {
    enter_namespace();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("server.pid");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Serving::start(&format!("--pidfile {}", path.display()));
        let content = fs::read_to_string(&path).expect("a pid file");
        assert_eq!(content, format!("{}\n", server.master()));
        server.signal(signal);
        assert_eq!(server.end().stderr, "");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_pid_file_that_cannot_be_had_is_refused_and_left_alone() {
    enter_namespace();
    assert_refused(
        "--listen 127.0.0.1:0 --pidfile /no/such/server.pid",
        "cannot write the pid file /no/such/server.pid: no such file or directory; give a path that \
         may be written to",
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("server.pid");
    let path = path.display();
    let ours = format!("{}\n", std::process::id());
    fs::write(path.to_string(), &ours).expect("a file");
    assert_refused(
        &format!("--listen 127.0.0.1:0 --pidfile {path}"),
        &format!(
            "the pid file {path} names process {}, which is alive; stop that, or give another \
             --pidfile",
            std::process::id()
        ),
    );
    assert_eq!(
        fs::read_to_string(path.to_string()).expect("it is there"),
        ours
    );
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
#[ignore = "needs root, netns"]
fn a_stale_pid_file_is_replaced_with_a_note() {
    enter_namespace();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("server.pid");
    let mut gone = Command::new("true").spawn().expect("a process");
    gone.wait().expect("its end");
    fs::write(&path, format!("{}\n", gone.id())).expect("a file");
    let server = Serving::start(&format!("--pidfile {}", path.display()));
    let content = fs::read_to_string(&path).expect("a pid file");
    assert_eq!(content, format!("{}\n", server.master()));
    let ended = server.interrupt();
    assert_eq!(
        ended.stderr,
        format!(
            "probe: replaced the pid file of process {}, which is gone\n",
            gone.id()
        )
    );
    assert!(!path.exists());
}
