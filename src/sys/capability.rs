//! Capabilities, how to get the ones that are missing and how to give them up. CAP_NET_RAW opens
//! packet and raw sockets: the wire vantage and the raw engine need it and nothing else does.
//! CAP_NET_ADMIN filters what a listening socket takes, on kernels that ask for it: the server that
//! stops behind a filter needs it, and with it the raw engine's guards hold off every TTL.

use std::io;

pub(crate) use rustix::thread::CapabilitySet;
use rustix::thread::{capabilities, set_capabilities};

/// What to tell somebody who may not open packet sockets.
pub(crate) fn how_to_get_net_raw() -> String {
    how_to_get("CAP_NET_RAW", "cap_net_raw")
}

/// What to tell somebody who may not filter a listening socket.
pub(crate) fn how_to_get_net_admin() -> String {
    how_to_get("CAP_NET_ADMIN", "cap_net_raw,cap_net_admin")
}

/// Setting capabilities takes away those that are not named.
fn how_to_get(name: &str, all: &str) -> String {
    let binary = std::env::current_exe()
        .map_or_else(|_| "probe".to_owned(), |path| path.display().to_string());
    format!("{name} (sudo setcap {all}+ep {binary})")
}

/// Gives up a capability for good: what it opened stays open, and nothing more is opened by it. It
/// leaves every set: what is no longer permitted and inheritable is no longer ambient (capset(2)).
///
/// Of this thread and those that it starts from then on; others that run keep theirs. A program that
/// root executes has it again (capabilities(7), "Capabilities and execution of programs by root").
pub(crate) fn give_up(capability: CapabilitySet) -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective.remove(capability);
    sets.permitted.remove(capability);
    sets.inheritable.remove(capability);
    Ok(set_capabilities(None, sets)?)
}
