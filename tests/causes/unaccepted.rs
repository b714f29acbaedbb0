//! Connections that no process ever accept()ed.

use std::sync::Arc;

use crate::common::kernel::{State, tcp_counter};
use crate::common::{run, sysctl};
use crate::fate_server::{
    BACKLOG, Bell, CONNECTIONS, FILL, GATED, Listener, OK, connect_and_idle, drop_bare_acks,
    fill_the_queue_during_handshakes, firewall,
};
use crate::run::{Alone, idle, let_the_probe_look};

#[test]
#[ignore = "needs root, netns, tracefs"]
fn nobody_listens() {
    let alone = Alone::enter();
    alone.meets("nobody listens", "", |host| Listener::on(host).stop());
}

/// The same packets; but somebody listens, and no kernel says that it refused.
#[test]
#[ignore = "needs root, netns, nft, tracefs"]
fn a_firewall_that_rejects_is_not_taken_for_a_port_without_a_listener() {
    let alone = Alone::enter();
    firewall("reject with tcp reset");
    alone.meets("a firewall rejects", "", |host| {
        Listener::on(host).serve(|listener| listener)
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_full_queue_leaves_syns_unanswered() {
    let alone = Alone::enter();
    for abort_on_overflow in ["0", "1"] {
        sysctl("net/ipv4/tcp_abort_on_overflow", abort_on_overflow);
        alone.meets("queue full at SYN", "--timeout 1200ms", |host| {
            let listener = Listener::with_backlog(host, BACKLOG);
            let filling = connect_and_idle(listener.address(), FILL);
            listener.serve(|listener| (listener, filling))
        });
    }
}

#[test]
#[ignore = "needs root, netns, nft, tracefs"]
fn a_queue_that_fills_during_handshakes_leaves_them_in_limbo() {
    let alone = Alone::enter();
    drop_bare_acks();
    let options = format!("{GATED} --timeout 900ms");
    alone.meets("queue full in handshake", &options, |host| {
        fill_the_queue_during_handshakes(host)
    });
    assert!(tcp_counter("ListenOverflows") > 0);
}

#[test]
#[ignore = "needs root, netns, nft, tracefs"]
fn a_queue_that_fills_during_handshakes_and_aborts_on_overflow_resets() {
    let alone = Alone::enter();
    sysctl("net/ipv4/tcp_abort_on_overflow", "1");
    drop_bare_acks();
    let options = format!("{GATED} --timeout 900ms");
    alone.meets("overflow aborts", &options, |host| {
        fill_the_queue_during_handshakes(host)
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_deferred_accept_whose_listener_closes() {
    let alone = Alone::enter();
    alone.meets("deferred, listener closes", GATED, |host| {
        Listener::on(host).deferred().serve(|listener| {
            listener.port().wait_for(State::SynRecv, CONNECTIONS);
            let gate = listener.accept();
            let_the_probe_look();
            listener.close();
            gate.answer(OK)
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_queued_request_whose_listener_closes() {
    let alone = Alone::enter();
    alone.meets("queued, listener closes", "", |host| {
        Listener::on(host).serve(|listener| {
            listener.port().wait_for_requests(CONNECTIONS);
            let_the_probe_look();
            listener.close();
        })
    });
}

/// Another process still shares the listener: it helps nobody.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_queued_request_whose_listener_is_shut_down() {
    let alone = Alone::enter();
    alone.meets("queued, listener shut down", "", |host| {
        Listener::on(host).serve(|listener| {
            let other_owner = listener.share_with_process();
            listener.port().wait_for_requests(CONNECTIONS);
            let_the_probe_look();
            listener.shut_down();
            (listener, other_owner)
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_queued_request_whose_listeners_owner_is_killed() {
    let alone = Alone::enter();
    alone.meets("queued, owner killed", "", |host| {
        Listener::on(host).serve(|listener| {
            let (port, notes) = (listener.port(), listener.notes());
            let owner = listener.hand_to_process();
            notes.other(&owner);
            port.wait_for_requests(CONNECTIONS);
            let_the_probe_look();
            owner.kill();
        })
    });
}

/// It is the last owner's end that resets, not the first's.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_queued_request_whose_listener_a_forked_child_holds() {
    let alone = Alone::enter();
    alone.meets("queued, owner killed", "", |host| {
        Listener::on(host).serve(|listener| {
            let (port, notes) = (listener.port(), listener.notes());
            let child = listener.share_with_process();
            notes.other(&child);
            port.wait_for_requests(CONNECTIONS);
            drop(listener);
            let_the_probe_look();
            port.wait_for_requests(CONNECTIONS);
            child.kill();
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_queued_connection_that_has_sent_nothing() {
    let alone = Alone::enter();
    let bell = Arc::new(Bell::new());
    alone.meets("queued idle, listener closes", &idle(&bell), |host| {
        let bell = Arc::clone(&bell);
        Listener::on(host).serve(move |listener| {
            bell.wait();
            let_the_probe_look();
            listener.close();
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_queued_request_whose_client_gives_up() {
    let alone = Alone::enter();
    alone.meets("queued, client gives up", "--timeout 300ms", |host| {
        Listener::on(host).serve(|listener| {
            listener.port().wait_for(State::CloseWait, CONNECTIONS);
            listener.close();
        })
    });
}

/// Nothing that happens before its client gives up tells whether it will be carried out.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_queued_request_that_is_read_when_its_client_has_given_up() {
    let alone = Alone::enter();
    alone.meets("queued, read too late", "--timeout 300ms", |host| {
        Listener::on(host).serve(|listener| {
            listener.port().wait_for(State::CloseWait, CONNECTIONS);
            let accepted = (0..CONNECTIONS).map(|_| {
                let mut connection = listener.accept();
                connection.read_request();
                connection
            });
            (accepted.collect::<Vec<_>>(), listener)
        })
    });
}

/// SOCK_DESTROY takes what nobody had accepted. The listener stays, and accept() still returns it.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_queued_request_that_is_destroyed_from_outside() {
    let alone = Alone::enter();
    alone.meets("queued, destroyed", "", |host| {
        Listener::on(host).serve(|listener| {
            listener.port().wait_for_requests(CONNECTIONS);
            let_the_probe_look();
            let filter = format!("( sport = :{} )", listener.address().port());
            run("ss", &["-K", "state", "established", &filter]);
            listener
        })
    });
}
