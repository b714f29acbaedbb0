//! RSTs that leave this host from the engine's ports: the engine's own, and those that this host's TCP,
//! or its firewall, sends into connections which are not its.

use std::collections::HashMap;
use std::net::SocketAddr;

/// What tells a RST from another: where it is from, and its sequence number.
type Mark = (SocketAddr, u32);

/// RSTs that were sent and that were seen to leave.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// Ours that were not seen yet, and how many of each. Those stay that the ring had no room for.
    unseen: HashMap<Mark, u32>,
    sent: u64,
    foreign: u64,
}

impl Resets {
    /// One of ours is about to leave.
    pub(super) fn send(&mut self, client: SocketAddr, seq: u32) {
        self.sent += 1;
        *self.unseen.entry((client, seq)).or_default() += 1;
    }

    /// One of ours did not leave after all.
    pub(super) fn refuse(&mut self, client: SocketAddr, seq: u32) {
        self.take((client, seq));
    }

    /// One was seen to leave; says whether it was somebody else's.
    pub(super) fn see(&mut self, client: SocketAddr, seq: u32) -> bool {
        let foreign = !self.take((client, seq));
        self.foreign += u64::from(foreign);
        foreign
    }

    /// Ours.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Others that were seen.
    pub(super) fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Takes one of ours off; false where there is none.
    fn take(&mut self, mark: Mark) -> bool {
        let Some(count) = self.unseen.get_mut(&mark) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.unseen.remove(&mark);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 40000))
    }

    #[test]
    fn a_reset_that_we_did_not_send_is_foreign_even_if_it_looks_like_ours() {
        let mut resets = Resets::default();
        resets.send(client(), 7);
        assert!(!resets.see(client(), 7));
        assert!(resets.see(client(), 7));
        assert!(resets.see(client(), 8));
        assert_eq!((resets.sent(), resets.foreign()), (1, 2));
    }

    #[test]
    fn what_was_refused_is_never_seen() {
        let mut resets = Resets::default();
        resets.send(client(), 7);
        resets.refuse(client(), 7);
        assert!(resets.see(client(), 7));
        assert!(resets.unseen.is_empty());
    }
}
