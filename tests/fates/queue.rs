//! Connections that the kernel took and no process ever accept()ed, and SYNs that nobody wanted.

use std::sync::Arc;

use crate::common::enter_namespace;
use crate::fate::{Fate, HUNG, REFUSED, RESET_UNANSWERED, Vantage, probe_rows};
use crate::fate_server::{Bell, CONNECTIONS, LOOPBACKS, Listener};
use crate::kernel::State;

#[test]
#[ignore = "needs root, netns"]
fn a_syn_is_refused_where_nobody_listens() {
    enter_namespace();
    REFUSED.is_met("", |host| Listener::on(host).stop());
}

#[test]
#[ignore = "needs root, netns"]
fn a_queued_request_is_reset_empty_when_the_listener_closes() {
    enter_namespace();
    RESET_UNANSWERED.is_met("", |host| {
        Listener::on(host).serve(|listener| {
            listener.port().wait_for_requests(CONNECTIONS);
            listener.close();
        })
    });
}

#[test]
#[ignore = "needs root, netns"]
fn a_queued_request_is_reset_empty_when_the_listeners_process_is_killed() {
    enter_namespace();
    RESET_UNANSWERED.is_met("", |host| {
        Listener::on(host).serve(|listener| {
            let port = listener.port();
            let owner = listener.hand_to_process();
            port.wait_for_requests(CONNECTIONS);
            owner.kill();
        })
    });
}

/// Requests are counted again after the first owner is gone: they were not reset with it.
#[test]
#[ignore = "needs root, netns"]
fn a_queued_request_outlives_the_listeners_first_owner_and_is_reset_with_the_last() {
    enter_namespace();
    RESET_UNANSWERED.is_met("", |host| {
        Listener::on(host).serve(|listener| {
            let port = listener.port();
            let other_owner = listener.share_with_process();
            port.wait_for_requests(CONNECTIONS);
            drop(listener);
            port.wait_for_requests(CONNECTIONS);
            other_owner.kill();
        })
    });
}

#[test]
#[ignore = "needs root, netns"]
fn a_queued_request_hangs_while_a_process_that_never_accepts_shares_the_listener() {
    enter_namespace();
    HUNG.is_met("--timeout 300ms", |host| {
        Listener::on(host).serve(|listener| listener.hand_to_process())
    });
}

/// shutdown() needs no last reference: another process still shares the listener, and neither the
/// queue nor the next SYN is helped by that.
#[test]
#[ignore = "needs root, netns"]
fn shutting_a_shared_listener_down_resets_its_queue_and_refuses_what_comes_next() {
    enter_namespace();
    for host in LOOPBACKS {
        for vantage in Vantage::ALL {
            let server = Listener::on(host).serve(|listener| {
                let other_owner = listener.share_with_process();
                listener.port().wait_for_requests(CONNECTIONS);
                listener.shut_down();
                (listener, other_owner)
            });
            let options = "--count 10 --concurrency 5";
            let rows = probe_rows(server.address(), vantage, options);
            server.finish();
            let (queued, later) = rows
                .into_iter()
                .partition::<Vec<_>, _>(|row| row["outcome"] == "reset_empty");
            assert_eq!((queued.len(), later.len()), (5, 5));
            RESET_UNANSWERED.is_told_by(&queued, vantage);
            REFUSED.is_told_by(&later, vantage);
        }
    }
}

/// What the client had seen by its deadline stands, whatever is reset afterwards. Nor is the request
/// safe to send again: until the listener closed it could still have been accept()ed and read.
#[test]
#[ignore = "needs root, netns"]
fn a_queued_request_stays_hung_when_it_is_reset_after_the_client_gave_up() {
    enter_namespace();
    let hung = Fate {
        // The FIN's acknowledgment may be delayed: then the RST carries it.
        sequence: ">S <S. >. >P. <. >F. ...",
        wire: "conn_state=RSTR history=ShADaFr rst_kind=active",
        ..HUNG
    };
    hung.is_met("--timeout 300ms", |host| {
        Listener::on(host).serve(|listener| {
            listener.port().wait_for(State::CloseWait, CONNECTIONS);
            listener.close();
        })
    });
}

/// A reset before any byte of the request left the client.
const RESET_BEFORE_REQUEST: Fate = Fate {
    says: "outcome=reset_on_connect lost=true errno=ECONNRESET curl_exit=56 heroku_code=H13 \
           requests=0 request_bytes=0 request_acked= response_bytes=0 cause=unknown retry_safe=yes",
    sequence: ">S <S. >. <R.",
    wire: "conn_state=RSTR history=ShAr rst_kind=active \
           cause_candidates=never_accepted+accepted_unread",
    socket: "cause_candidates=queue_full+never_accepted+accepted_unread",
};

#[test]
#[ignore = "needs root, netns"]
fn a_queued_connection_that_has_sent_nothing_is_reset_on_connect_when_the_listener_closes() {
    enter_namespace();
    let bell = Arc::new(Bell::new());
    let options = format!(
        "--idle 5 --idle-delay 1h --trigger-at 0 --trigger {}",
        bell.command()
    );
    RESET_BEFORE_REQUEST.is_met(&options, |host| {
        let bell = Arc::clone(&bell);
        Listener::on(host).serve(move |listener| {
            bell.wait();
            listener.close();
        })
    });
}
