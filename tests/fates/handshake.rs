//! Connections whose ends disagree on whether there is one: full accept queues, handshakes that the
//! server put off, and a reset that connect() itself reports.

use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::common::{self, enter_namespace, nft, run, sysctl};
use crate::fate::{Fate, Vantage, probe};
use crate::fate_server::{
    BACKLOG, CONNECTIONS, FILL, GATED, LOOPBACKS, Listener, OK, connect_and_idle, drop_bare_acks,
    fill_the_queue_during_handshakes,
};
use crate::kernel::{State, tcp_counter};

#[test]
#[ignore = "needs root, netns"]
fn a_syn_is_unanswered_while_the_accept_queue_is_full() {
    enter_namespace();
    let unanswered = Fate {
        says: "outcome=unanswered lost=false errno= curl_exit=28 heroku_code=H19 request_acked= \
               response_bytes=0 cause=unknown cause_candidates=queue_full retry_safe=yes",
        sequence: ">S",
        // The kernel sends its first SYN again after a second.
        wire: "conn_state=S0 history=S rst_kind= syn_retransmits=1",
        socket: "",
    };
    // It makes no difference: tcp_abort_on_overflow acts on the last ACK of a handshake alone.
    for abort_on_overflow in ["0", "1"] {
        sysctl("net/ipv4/tcp_abort_on_overflow", abort_on_overflow);
        unanswered.is_met("--timeout 1200ms", |host| {
            let listener = Listener::with_backlog(host, BACKLOG);
            let filling = connect_and_idle(listener.address(), FILL);
            listener.serve(|listener| (listener, filling))
        });
    }
}

/// The client is connected, the server is not: its queue filled between SYN-ACK and ACK.
#[test]
#[ignore = "needs root, netns, nft"]
fn a_request_hangs_unacknowledged_when_the_accept_queue_fills_during_its_handshake() {
    enter_namespace();
    drop_bare_acks();
    let limbo = Fate {
        says: "outcome=hung lost=true errno= curl_exit=28 heroku_code=H12 request_acked=false \
               response_bytes=0 cause=unknown cause_candidates=handshake_limbo retry_safe=unknown",
        sequence: ">S <S. >. >P. ...",
        wire: "rst_kind=",
        socket: "",
    };
    limbo.is_met(&format!("{GATED} --timeout 900ms"), |host| {
        fill_the_queue_during_handshakes(host)
    });
    assert!(tcp_counter("ListenOverflows") > 0);
}

#[test]
#[ignore = "needs root, netns, nft"]
fn a_request_is_reset_empty_when_the_accept_queue_fills_and_aborts_on_overflow() {
    enter_namespace();
    sysctl("net/ipv4/tcp_abort_on_overflow", "1");
    drop_bare_acks();
    RESET_BY_REPLY.is_met(&format!("{GATED} --timeout 900ms"), |host| {
        fill_the_queue_during_handshakes(host)
    });
    assert!(tcp_counter("ListenOverflows") > 0);
}

/// One packet sequence, two causes: this and the one above.
#[test]
#[ignore = "needs root, netns"]
fn a_deferred_accept_is_reset_empty_when_its_request_finds_the_listener_closed() {
    enter_namespace();
    RESET_BY_REPLY.is_met(GATED, |host| {
        Listener::on(host).deferred().serve(|listener| {
            listener.port().wait_for(State::SynRecv, CONNECTIONS);
            let gate = listener.accept();
            listener.close();
            gate.answer(OK)
        })
    });
    assert!(tcp_counter("TCPDeferAcceptDrop") > 0);
}

/// The request was answered by a RST that no socket of the server's sent.
const RESET_BY_REPLY: Fate = Fate {
    says: "outcome=reset_empty lost=true errno=ECONNRESET curl_exit=56 heroku_code=H13 \
           request_acked=false response_bytes=0 cause=unknown retry_safe=unknown",
    sequence: ">S <S. >. >P. <R",
    wire: "conn_state=RSTR history=ShADr rst_kind=passive \
           cause_candidates=queue_full+never_accepted",
    socket: "cause_candidates=queue_full+never_accepted+accepted_unread+read_unanswered",
};

/// The kernel completes a handshake without its process, and the reset comes before that looks. Only
/// the packets show that the server had said yes, and curl calls it a failure to connect.
#[test]
#[ignore = "needs root, netns, nft"]
fn a_reset_that_connect_itself_reports_is_reset_on_connect() {
    enter_namespace();
    let reset_in_connect = Fate {
        says: "outcome=reset_on_connect lost=true errno=ECONNRESET curl_exit=7 heroku_code=H13 \
               requests=0 request_acked= response_bytes=0 cause=unknown retry_safe=yes",
        sequence: ">S <S. >. <R.",
        wire: "conn_state=RSTR rst_kind=active cause_candidates=never_accepted+accepted_unread",
        socket: "cause_candidates=queue_full+never_accepted+accepted_unread",
    };
    for host in LOOPBACKS {
        // The probe's own TCP stops with its process.
        for vantage in Vantage::SOCKETS {
            let listener = Listener::on(host);
            let port = listener.port();
            nft(DROP_SYNS);
            let mut probing = probe(listener.address(), vantage, "");
            probing.stdout(Stdio::piped()).stderr(Stdio::piped());
            let probing = probing.spawn().unwrap();
            port.wait_for_clients(State::SynSent, CONNECTIONS);
            stop(&probing);
            run("nft", &["flush", "ruleset"]);
            port.wait_for(State::Established, CONNECTIONS);
            listener.close();
            port.wait_for(State::Established, 0);
            kill(pid(&probing), Signal::SIGCONT).unwrap();
            let output = probing.wait_with_output().unwrap();
            let rows = common::rows(&output.stdout);
            assert_eq!(rows.len(), CONNECTIONS);
            reset_in_connect.is_told_by(&rows, vantage);
            // The table counts them among what the server's kernel took, packets or not.
            let table = common::stderr(&output);
            assert!(table.contains("lost 5 of the 5 that"), "{table}");
        }
    }
}

const DROP_SYNS: &str = "table inet fate {
    chain input {
        type filter hook input priority 0;
        tcp flags == syn drop
    }
}";

/// SIGSTOP, and waits until the process has stopped.
fn stop(process: &Child) {
    kill(pid(process), Signal::SIGSTOP).expect("kill()");
    waitpid(pid(process), Some(WaitPidFlag::WUNTRACED)).expect("waitpid()");
}

fn pid(process: &Child) -> Pid {
    Pid::from_raw(process.id().try_into().expect("a pid"))
}
