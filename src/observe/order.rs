//! Puts packets in the order of the kernel's stamps. Two processors hand packets to a capture side
//! by side, so that of two sent at nearly the same time the later one may come first.

use crate::time::Stamp;

/// Packets held back until nothing earlier can come any more.
#[derive(Debug)]
pub(super) struct Order<T> {
    held: Vec<(Stamp, T)>,
    released: Stamp,
    newest: Option<Stamp>,
    late: u64,
}

impl<T> Order<T> {
    pub(super) fn new() -> Order<T> {
        Order {
            held: Vec::new(),
            released: Stamp(i64::MIN),
            newest: None,
            late: 0,
        }
    }

    /// Takes a packet. For one that came too late it says up to when others had been given out.
    pub(super) fn push(&mut self, at: Stamp, packet: T) -> Option<Stamp> {
        let missed = (at < self.released).then_some(self.released);
        self.late += u64::from(missed.is_some());
        self.newest = self.newest.max(Some(at));
        self.held.push((at, packet));
        missed
    }

    /// Gives out, in order, what was stamped before `to`.
    pub(super) fn release(&mut self, to: Stamp) -> Vec<T> {
        self.released = self.released.max(to);
        // Nearly sorted already: a stable merge sort finds the runs.
        self.held.sort_by_key(|&(at, _)| at);
        let ready = self.held.partition_point(|&(at, _)| at < to);
        self.held.drain(..ready).map(|(_, packet)| packet).collect()
    }

    /// The latest stamp of any packet so far.
    pub(super) fn newest(&self) -> Option<Stamp> {
        self.newest
    }

    /// Packets that came after later ones had been given out.
    pub(super) fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_in_the_order_of_their_stamps() {
        let mut order = Order::new();
        for at in [3, 1, 2, 9, 5] {
            order.push(Stamp(at), at);
        }
        assert_eq!(order.release(Stamp(5)), [1, 2, 3]);
        assert_eq!(order.newest(), Some(Stamp(9)));
        assert_eq!(order.release(Stamp(10)), [5, 9]);
        assert_eq!(order.late(), 0);
    }

    #[test]
    fn a_packet_behind_what_was_given_out_is_counted() {
        let mut order = Order::new();
        assert_eq!(order.push(Stamp(7), ()), None);
        order.release(Stamp(8));
        assert_eq!(order.push(Stamp(6), ()), Some(Stamp(8)));
        assert_eq!(order.push(Stamp(8), ()), None);
        assert_eq!(order.late(), 1);
        assert_eq!(order.release(Stamp(9)).len(), 2);
    }
}
