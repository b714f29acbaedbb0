//! Connections that a process accept()ed, and what it did to them.

use std::sync::Arc;

use crate::common::kernel::State;
use crate::fate_server::{Bell, CONNECTIONS, Connection, GATED, Listener, OK, Server};
use crate::run::{Alone, accept_all, idle, let_the_probe_look};

/// Accepts all connections, lets the probe see that they are owned, and carries out `fate` on each.
fn serve_each<T: Send + 'static>(
    host: &str,
    fate: impl Fn(Connection) -> T + Send + 'static,
) -> Server {
    serve_between(host, |_| {}, fate)
}

/// The same, where something is done to each before the probe is let look.
fn serve_between<T: Send + 'static>(
    host: &str,
    before: impl Fn(&mut Connection) + Send + 'static,
    fate: impl Fn(Connection) -> T + Send + 'static,
) -> Server {
    Listener::on(host).serve(move |listener| {
        let mut accepted = accept_all(&listener);
        accepted.iter().for_each(Connection::wait_for_request);
        accepted.iter_mut().for_each(before);
        let_the_probe_look();
        let ended = accepted.into_iter().map(fate);
        (ended.collect::<Vec<T>>(), listener)
    })
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_closed_unread() {
    let alone = Alone::enter();
    alone.meets("closed unread", "", |host| serve_each(host, drop));
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn one_byte_read_of_a_request_that_is_closed() {
    let alone = Alone::enter();
    alone.meets("one byte read, closed", "", |host| {
        serve_between(host, |connection| connection.read_bytes(1), drop)
    });
}

/// A peek leaves every byte in the queue, and the process has seen them all the same.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_peeked_at_and_closed() {
    let alone = Alone::enter();
    alone.meets("peeked at, closed", "", |host| {
        serve_between(host, |connection| connection.peek_at_request(), drop)
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_read_and_closed_with_linger_0() {
    let alone = Alone::enter();
    alone.meets("read, linger 0", "", |host| {
        serve_between(host, Connection::read_request, Connection::reset)
    });
}

/// Reset for the same reason as a queue, and without a read: what tells it apart is its owner.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_connection_that_has_sent_nothing_closed_with_linger_0() {
    let alone = Alone::enter();
    let bell = Arc::new(Bell::new());
    alone.meets("idle, linger 0", &idle(&bell), |host| {
        let bell = Arc::clone(&bell);
        Listener::on(host).serve(move |listener| {
            let accepted = accept_all(&listener);
            bell.wait();
            let_the_probe_look();
            accepted.into_iter().for_each(Connection::reset);
            listener
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_read_and_closed() {
    let alone = Alone::enter();
    alone.meets("read, closed", "", |host| {
        serve_between(host, Connection::read_request, drop)
    });
}

/// The client sees a FIN, and its request lies where a process may still read it.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_fin_over_an_unread_request() {
    let alone = Alone::enter();
    alone.meets("FIN over unread", "", |host| {
        serve_each(host, |connection| {
            connection.finish_sending();
            connection
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_fin_over_a_request_that_is_read_afterwards() {
    let alone = Alone::enter();
    alone.meets("FIN over unread, then read", "", |host| {
        serve_each(host, |mut connection| {
            connection.finish_sending();
            connection.read_request();
            connection
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_connection_closed_before_it_is_asked() {
    let alone = Alone::enter();
    alone.meets("idle, closed, then asked", GATED, |host| {
        Listener::on(host).serve(|listener| {
            // The gate waits behind them.
            listener.port().wait_for_queued(CONNECTIONS + 1);
            let idle: Vec<Connection> = (0..CONNECTIONS).map(|_| listener.accept()).collect();
            let_the_probe_look();
            drop(idle);
            listener.port().wait_for(State::FinWait2, CONNECTIONS);
            listener.accept().answer(OK)
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_read_and_never_answered() {
    let alone = Alone::enter();
    alone.meets("read, never answered", "--timeout 2s", |host| {
        serve_between(host, Connection::read_request, |connection| connection)
    });
}

/// Its process had it all the time, and reads it when nobody waits for the answer any more.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_that_its_process_reads_when_its_client_has_given_up() {
    let alone = Alone::enter();
    alone.meets("owned, read too late", "--timeout 900ms", |host| {
        Listener::on(host).serve(|listener| {
            let mut accepted = accept_all(&listener);
            listener.port().wait_for(State::CloseWait, CONNECTIONS);
            accepted.iter_mut().for_each(Connection::read_request);
            (accepted, listener)
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn half_an_answer() {
    let alone = Alone::enter();
    alone.meets("half answered", "", |host| {
        serve_between(host, Connection::read_request, |mut connection| {
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok");
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn an_answer() {
    let alone = Alone::enter();
    alone.meets("answered", "", |host| {
        serve_between(host, Connection::read_request, |mut connection| {
            connection.send(OK);
        })
    });
}

/// Between two of sock_diag's questions, and without moving a counter: just what a queue's reset leaves,
/// but for the listener that stays.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_read_and_disconnected_at_once() {
    let alone = Alone::enter();
    alone.meets("read, disconnected", "", |host| {
        Listener::on(host).serve(|listener| {
            listener.port().wait_for_requests(CONNECTIONS);
            let_the_probe_look();
            for _ in 0..CONNECTIONS {
                let mut connection = listener.accept();
                connection.read_request();
                connection.disconnect();
            }
            listener
        })
    });
}
