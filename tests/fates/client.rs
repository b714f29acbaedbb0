//! Ends that are the probe's own: it ran out of files, or somebody stopped it.
#![expect(clippy::disallowed_types, reason = "tests start and signal the probe")]

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{self, enter_namespace, sysctl};
use crate::fate::{Fate, REFUSED, Vantage, probe, probe_rows};
use crate::fate_server::{CONNECTIONS, LOOPBACKS, Listener, OK};

/// The probe's own trouble, of which the server knows nothing.
const LOCAL_ERROR: Fate = Fate {
    says: "outcome=local_error lost= errno=EMFILE curl_exit= heroku_code= src_port= requests=0 \
           request_acked= cause= retry_safe= sequence= conn_state=",
    sequence: "",
    // No packet of it ever left.
    wire: "evidence=socket",
    socket: "",
};

#[test]
#[ignore = "needs root, netns"]
fn connections_without_a_file_descriptor_are_local_errors_and_the_others_are_served() {
    enter_namespace();
    for vantage in Vantage::SOCKETS {
        let server = Listener::on("127.0.0.1").serve_until_told(|c| drop(c.answer(OK)));
        let probe = probe(server.address(), vantage, "--count 30");
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 20; exec \"$0\" \"$@\""])
            .arg(probe.get_program())
            .args(probe.get_args())
            .output()
            .unwrap();
        server.finish();
        let rows = common::rows(&output.stdout);
        assert_eq!(rows.len(), 30);
        let (failed, others) = rows
            .into_iter()
            .partition::<Vec<_>, _>(|row| row["outcome"] == "local_error");
        assert!(!failed.is_empty());
        assert!(!others.is_empty());
        LOCAL_ERROR.is_told_by(&failed, vantage);
        assert!(others.iter().all(|row| row["outcome"] == "served"));
    }
}

/// Towards an ephemeral port on which nobody listens the kernel may choose that port as the source
/// too, and the socket is connected to itself: it would read its own request for an answer. Another
/// loopback address of the probe's asks in earnest; IPv6 has but one.
#[test]
#[ignore = "needs root, netns"]
fn a_connection_to_itself_is_none_of_the_servers() {
    enter_namespace();
    sysctl("net/ipv4/ip_local_port_range", "9292 9292");
    let no_port = Fate {
        says: "outcome=local_error lost= errno=EADDRNOTAVAIL curl_exit= src_port= sequence=",
        ..LOCAL_ERROR
    };
    let refused = Fate {
        socket: "src_addr=127.0.0.2",
        wire: "src_addr=127.0.0.2 conn_state=REJ rst_kind=passive",
        ..REFUSED
    };
    // The raw engine holds its ports on all addresses at once, and leaves the target's own alone.
    let no_port_held = Fate {
        says: "outcome=local_error lost= errno=EADDRINUSE curl_exit= src_port= sequence=",
        wire: "evidence=",
        ..LOCAL_ERROR
    };
    for (target, by_sockets) in [("127.0.0.1:9292", refused), ("[::1]:9292", no_port)] {
        for vantage in Vantage::ALL {
            let rows = probe_rows(target.parse().unwrap(), vantage, "--concurrency 1");
            assert_eq!(rows.len(), CONNECTIONS);
            let fate = match vantage {
                Vantage::Raw => no_port_held,
                Vantage::Wire | Vantage::Socket => by_sockets,
            };
            fate.is_told_by(&rows, vantage);
        }
    }
}

/// What was seen so far is written: a row for each connection that was open.
#[test]
#[ignore = "needs root, netns"]
fn connections_under_way_are_unfinished_when_the_probe_is_interrupted() {
    enter_namespace();
    let unfinished = Fate {
        says: "outcome=unfinished lost= errno= curl_exit= heroku_code= requests=1 responses=0 \
               request_acked=true cause= cause_candidates= retry_safe= end_us=",
        sequence: ">S <S. >. >P. <. ...",
        wire: "caveats=capture_end",
        socket: "",
    };
    let signals = [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)];
    for host in LOOPBACKS {
        for vantage in Vantage::ALL {
            for (signal, exit_code) in signals {
                let listener = Listener::on(host);
                let mut probing = probe(listener.address(), vantage, "--timeout 60s");
                probing.stdout(Stdio::piped()).stderr(Stdio::piped());
                let probing = probing.spawn().unwrap();
                listener.port().wait_for_requests(CONNECTIONS);
                let pid = Pid::from_raw(probing.id().try_into().unwrap());
                kill(pid, signal).unwrap();
                let output = probing.wait_with_output().unwrap();
                assert_eq!(output.status.code(), Some(exit_code));
                let rows = common::rows(&output.stdout);
                assert_eq!(rows.len(), CONNECTIONS);
                unfinished.is_told_by(&rows, vantage);
            }
        }
    }
}
