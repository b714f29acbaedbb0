//! Who may open a link, and what is left when the privilege is given up.

use std::io::ErrorKind;
use std::thread;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::*;
use crate::sys::capability::give_up;
use crate::sys::ring;

const NOBODY: u32 = 65534;

/// Does something in a thread of its own, which then need not be who this one is.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work);
        thread.unwrap().join().unwrap()
    })
}

/// Does something as nobody with CAP_NET_RAW, as setcap gives it.
pub(super) fn as_ordinary_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    apart(|| {
        become_ordinary(CapabilitySet::NET_RAW);
        work()
    })
}

fn become_ordinary(capabilities: CapabilitySet) {
    set_keep_capabilities(true).unwrap();
    set_thread_groups(&[]).unwrap();
    let gid = Gid::from_raw(NOBODY);
    set_thread_res_gid(gid, gid, gid).unwrap();
    let uid = Uid::from_raw(NOBODY);
    set_thread_res_uid(uid, uid, uid).unwrap();
    let sets = CapabilitySets {
        effective: capabilities,
        permitted: capabilities,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).unwrap();
}

#[test]
#[ignore = "needs root, netns"]
fn nobody_opens_a_link_without_the_privilege() {
    enter_namespace();
    let target: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let route = route_to(target).unwrap();
    let error = apart(|| {
        become_ordinary(CapabilitySet::NET_ADMIN);
        Link::open(target, route).err().unwrap()
    });
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

/// An exchange over a link that was open before `give_up`, with a guard that is taken after it.
fn exchange_after(give_up: impl FnOnce()) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let mut link = open(server);
    let mut guards = Guards::new(server);
    give_up();
    let error = ring::may_open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let again = Link::open(server, route_to(server).unwrap()).err().unwrap();
    assert_eq!(again.kind(), ErrorKind::PermissionDenied);
    let client = SocketAddr::new(server.ip(), guards.take().unwrap());
    let seen = Conversation::open(&mut link, client, server).ask(&listener);
    assert_eq!(seen, WHOLE);
}

#[test]
#[ignore = "needs root, netns"]
fn an_open_link_and_new_guards_outlast_the_privilege() {
    enter_namespace();
    apart(|| exchange_after(|| give_up(CapabilitySet::NET_RAW).unwrap()));
    as_ordinary_user(|| exchange_after(|| give_up(CapabilitySet::NET_RAW).unwrap()));
}
