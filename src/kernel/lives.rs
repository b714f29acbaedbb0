//! What is known by connection, where one 4-tuple may have been several connections, one after the
//! other.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;

use crate::time::Stamp;

/// When a connection lived, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its SYN, or the connect call.
    pub opened: Stamp,
    /// When its client let go of it: by then it is no other connection.
    pub closed: Stamp,
    /// What decided its outcome.
    pub end: Stamp,
}

/// Connections of one server by their client's end.
#[derive(Clone, Debug)]
pub(super) struct Lives<T> {
    by_client: HashMap<SocketAddr, Vec<Entry<T>>, RandomState>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    /// By then it had begun.
    began: Stamp,
    /// It was still there then, or later.
    last: Stamp,
    known: T,
}

impl<T> Default for Lives<T> {
    fn default() -> Lives<T> {
        Lives {
            by_client: HashMap::default(),
        }
    }
}

impl<T: Default> Lives<T> {
    /// A new connection from `client`.
    pub(super) fn begin(&mut self, client: SocketAddr, at: Stamp) -> &mut T {
        self.begin_within(client, at, at)
    }

    /// A new connection from `client`, seen at some moment between these.
    pub(super) fn begin_within(&mut self, client: SocketAddr, from: Stamp, to: Stamp) -> &mut T {
        let entries = self.by_client.entry(bare(client)).or_default();
        entries.push(Entry {
            began: to,
            last: from,
            known: T::default(),
        });
        let newest = entries.len() - 1;
        &mut entries[newest].known
    }

    /// The latest connection from `client` for which `is` holds, of which something was seen at `at`.
    pub(super) fn find(
        &mut self,
        client: SocketAddr,
        at: Stamp,
        is: impl Fn(&T) -> bool,
    ) -> Option<&mut T> {
        let entries = self.by_client.get_mut(&bare(client))?;
        let entry = entries.iter_mut().rev().find(|entry| is(&entry.known))?;
        entry.last = entry.last.max(at);
        Some(&mut entry.known)
    }

    /// Gives away the connection from `client` that lived then: the latest of those for which `is`
    /// holds that had begun before its client let go of it and was still seen once it was opened.
    pub(super) fn take(
        &mut self,
        client: SocketAddr,
        life: Life,
        is: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let client = bare(client);
        let entries = self.by_client.get_mut(&client)?;
        let lived = |entry: &Entry<T>| entry.began <= life.closed && entry.last >= life.opened;
        let found = entries
            .iter()
            .rposition(|entry| lived(entry) && is(&entry.known));
        let taken = found.map(|at| entries.remove(at).known);
        if entries.is_empty() {
            self.by_client.remove(&client);
        }
        taken
    }

    /// Lets go of what was last seen before `at`.
    pub(super) fn forget(&mut self, at: Stamp) {
        self.by_client.retain(|_, entries| {
            entries.retain(|entry| entry.last >= at);
            !entries.is_empty()
        });
    }
}

/// Addresses as packets carry them: without a link-local address's scope.
pub(super) fn bare(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "127.0.0.1:40000";

    fn life(opened: i64, closed: i64) -> Life {
        Life {
            opened: Stamp(opened),
            closed: Stamp(closed),
            end: Stamp(closed),
        }
    }

    #[test]
    fn one_that_was_seen_at_an_unknown_moment_is_nobodys_whose_life_that_may_miss() {
        let client = CLIENT.parse().unwrap();
        let mut lives = Lives::default();
        *lives.begin_within(client, Stamp(10), Stamp(20)) = "one";
        let take = |opened, closed| lives.clone().take(client, life(opened, closed), |_| true);
        assert_eq!(take(10, 20), Some("one"));
        // Perhaps of whoever was there before this one opened, or came after it closed.
        assert_eq!(take(11, 30), None);
        assert_eq!(take(5, 19), None);
    }

    #[test]
    fn each_connection_of_a_4_tuple_is_found_by_its_time() {
        let client = CLIENT.parse().unwrap();
        let mut lives = Lives::default();
        *lives.begin(client, Stamp(10)) = "first";
        *lives.begin(client, Stamp(30)) = "second";
        assert_eq!(
            lives.clone().take(client, life(9, 20), |_| true),
            Some("first")
        );
        assert_eq!(
            lives.clone().take(client, life(29, 40), |_| true),
            Some("second")
        );
        // Ended before it was opened.
        assert_eq!(lives.clone().take(client, life(12, 20), |_| true), None);
        lives.find(client, Stamp(35), |_| true);
        lives.forget(Stamp(33));
        assert_eq!(lives.clone().take(client, life(29, 40), |_| false), None);
        assert_eq!(lives.take(client, life(29, 40), |_| true), Some("second"));
        assert!(lives.by_client.is_empty());
    }
}
