//! Connections that a process accept()ed and never answered.

use crate::common::enter_namespace;
use crate::fate::{Fate, HUNG, RESET_UNANSWERED};
use crate::fate_server::{CONNECTIONS, Connection, GATED, Listener, OK};
use crate::kernel::State;

/// The server's kernel took the request, and its process ended the connection without a word.
const CLOSED_EMPTY: Fate = Fate {
    says: "outcome=closed_empty lost=true errno= curl_exit=52 heroku_code=H13 request_acked=true \
           response_bytes=0 cause=unknown cause_candidates=accepted_unread+read_unanswered \
           retry_safe=unknown",
    sequence: ">S <S. >. >P. <. <F. ...",
    wire: "conn_state=SF rst_kind=",
    socket: "",
};

#[test]
#[ignore = "needs root, netns"]
fn an_accepted_request_is_reset_empty_when_it_is_closed_unread() {
    enter_namespace();
    RESET_UNANSWERED.is_met("", |host| {
        Listener::on(host).serve_each(|connection| connection.wait_for_request())
    });
}

#[test]
#[ignore = "needs root, netns"]
fn an_accepted_request_is_reset_empty_when_its_process_is_killed_before_it_reads() {
    enter_namespace();
    RESET_UNANSWERED.is_met("", |host| {
        Listener::on(host).serve_each(|connection| {
            connection.wait_for_request();
            connection.hand_to_process().kill();
        })
    });
}

#[test]
#[ignore = "needs root, netns"]
fn a_request_that_was_read_is_reset_empty_when_it_is_closed_with_linger_0() {
    enter_namespace();
    RESET_UNANSWERED.is_met("", |host| {
        Listener::on(host).serve_each(|mut connection| {
            connection.read_request();
            connection.reset();
        })
    });
}

#[test]
#[ignore = "needs root, netns"]
fn a_request_that_was_read_is_closed_empty_when_it_is_closed() {
    enter_namespace();
    CLOSED_EMPTY.is_met("", |host| {
        Listener::on(host).serve_each(|mut connection| connection.read_request())
    });
}

#[test]
#[ignore = "needs root, netns"]
fn a_request_that_was_read_is_closed_empty_when_its_process_is_killed() {
    enter_namespace();
    CLOSED_EMPTY.is_met("", |host| {
        Listener::on(host).serve_each(|mut connection| {
            connection.read_request();
            connection.hand_to_process().kill();
        })
    });
}

/// FIN over unread data: why a FIN proves that a process took the connection and not that it read.
#[test]
#[ignore = "needs root, netns"]
fn an_unread_request_is_closed_empty_when_the_server_shuts_down_its_side() {
    enter_namespace();
    CLOSED_EMPTY.is_met("", |host| {
        Listener::on(host).serve_each(|connection| {
            connection.wait_for_request();
            connection.finish_sending();
            connection
        })
    });
}

/// The request meets a socket that is gone. What the client had been told first was the FIN.
#[test]
#[ignore = "needs root, netns"]
fn an_idle_connection_that_the_server_closed_is_closed_empty_when_its_request_is_reset() {
    enter_namespace();
    let closed_while_idle = Fate {
        says: "outcome=closed_empty lost=true errno= curl_exit=52 heroku_code=H13 \
               request_acked=false response_bytes=0 cause=unknown \
               cause_candidates=accepted_unread+read_unanswered retry_safe=unknown",
        sequence: ">S <S. >. <F. >. >P. <R",
        wire: "conn_state=RSTR history=ShAfDr rst_kind=passive",
        socket: "",
    };
    closed_while_idle.is_met(GATED, |host| {
        Listener::on(host).serve(|listener| {
            let idle: Vec<Connection> = (0..CONNECTIONS).map(|_| listener.accept()).collect();
            drop(idle);
            listener.port().wait_for(State::FinWait2, CONNECTIONS);
            listener.accept().answer(OK)
        })
    });
}

#[test]
#[ignore = "needs root, netns"]
fn a_request_that_is_never_answered_hangs() {
    enter_namespace();
    HUNG.is_met("--timeout 300ms", |host| {
        Listener::on(host).serve_each(|mut connection| {
            connection.read_request();
            connection
        })
    });
}
