//! Connections and listeners that pass from hand to hand, or are closed so closely one after the other
//! that what resets a connection looks like what resets a queue.

use std::sync::Arc;
use std::thread;

use crate::fate_server::{Bell, Connection, Holder, Listener, Notebook, Reader, Server};
use crate::run::{Alone, accept_all, idle, let_the_probe_look};

#[test]
#[ignore = "needs root, netns, tracefs"]
fn an_unread_request_whose_owner_is_killed() {
    let alone = Alone::enter();
    alone.meets("owner killed, unread", "", |host| {
        serve_each(host, |connection, notes| {
            connection.wait_for_request();
            let owner = connection.hand_to_process();
            notes.other(&owner);
            owner
        })
    });
}

/// A worker forks with a connection open: its own close() ends nothing.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn an_unread_request_that_a_forked_child_holds() {
    let alone = Alone::enter();
    alone.meets("forked, unread, child killed", "", |host| {
        serve_each(host, |connection, notes| {
            connection.wait_for_request();
            let child = connection.share_with_process();
            notes.other(&child);
            child
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_read_while_a_forked_child_holds_its_connection() {
    let alone = Alone::enter();
    alone.meets("forked, read, child killed", "", |host| {
        serve_each(host, |mut connection, notes| {
            let child = connection.share_with_process();
            connection.read_request();
            notes.other(&child);
            child
        })
    });
}

/// Accepts all, leaves each to a process, lets the probe look, and kills the processes.
fn serve_each(
    host: &str,
    leave: impl Fn(Connection, &Notebook) -> Holder + Send + 'static,
) -> Server {
    Listener::on(host).serve(move |listener| {
        let notes = listener.notes();
        let accepted = accept_all(&listener).into_iter();
        let owners: Vec<Holder> = accepted.map(|c| leave(c, &notes)).collect();
        let_the_probe_look();
        owners.into_iter().for_each(Holder::kill);
        listener
    })
}

/// Accepted here, read there (SCM_RIGHTS).
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_read_by_a_process_that_was_passed_its_connection() {
    let alone = Alone::enter();
    alone.meets("passed on, read there", "", |host| {
        let reader = Reader::start();
        Listener::on(host).serve(move |listener| {
            listener.notes().other(reader.process());
            let accepted = accept_all(&listener);
            accepted.iter().for_each(Connection::wait_for_request);
            let_the_probe_look();
            accepted.into_iter().for_each(|c| reader.pass(c));
            (listener, reader)
        })
    });
}

/// A thread that lives for one request, as in servers that start one for each.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn a_request_read_by_another_thread_than_accepted_it() {
    let alone = Alone::enter();
    alone.meets("read by another thread", "", |host| {
        Listener::on(host).serve(|listener| {
            let read = |mut connection: Connection| {
                let reading = move || {
                    connection.read_request();
                    connection
                };
                let thread = thread::Builder::new().name("reads".to_owned());
                let thread = thread.spawn(reading).expect("a thread");
                thread.join().expect("a request")
            };
            let read: Vec<Connection> = accept_all(&listener).into_iter().map(read).collect();
            let_the_probe_look();
            read.into_iter().for_each(Connection::reset);
            listener
        })
    });
}

/// The thread that closed the listener, and so reset its queue, resets connections of its own at once.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn connections_closed_with_linger_0_right_after_their_listener() {
    let alone = Alone::enter();
    let bell = Arc::new(Bell::new());
    alone.meets("queued idle, beside linger 0", &idle(&bell), |host| {
        serve_two(host, &bell, |listener, accepted| {
            listener.close_at_once();
            drop(accepted);
        })
    });
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn connections_closed_with_linger_0_right_after_their_listener_was_shut_down() {
    let alone = Alone::enter();
    let bell = Arc::new(Bell::new());
    alone.meets("queued idle, beside linger 0", &idle(&bell), |host| {
        serve_two(host, &bell, |listener, accepted| {
            listener.shut_down();
            drop(accepted);
        })
    });
}

/// Accepts two of the idle connections, and has `end` end them and the listener.
fn serve_two(
    host: &str,
    bell: &Arc<Bell>,
    end: impl FnOnce(Listener, [Connection; 2]) + Send + 'static,
) -> Server {
    let bell = Arc::clone(bell);
    Listener::on(host).serve(move |listener| {
        bell.wait();
        let accepted = accept_two(&listener, "idle, linger 0");
        let_the_probe_look();
        end(listener, accepted);
    })
}

/// Two connections that close() will reset, whose fate is not that of the others.
fn accept_two(listener: &Listener, fate: &'static str) -> [Connection; 2] {
    let notes = listener.notes();
    [(); 2].map(|()| {
        let connection = listener.accept();
        connection.linger_0();
        notes.single_out(&connection, fate);
        connection
    })
}

/// The kernel closes an ending process's files by their numbers.
#[test]
#[ignore = "needs root, netns, tracefs"]
fn connections_closed_with_linger_0_by_the_end_of_the_process_that_had_their_listener() {
    let alone = Alone::enter();
    let bell = Arc::new(Bell::new());
    alone.meets("the same, owner killed", &idle(&bell), |host| {
        let bell = Arc::clone(&bell);
        Listener::on(host).serve(move |listener| {
            bell.wait();
            let notes = listener.notes();
            let accepted = accept_two(&listener, "idle, owner killed, linger 0");
            let owner = Holder::of_listener_before(listener, accepted);
            notes.other(&owner);
            let_the_probe_look();
            owner.kill();
        })
    });
}
