//! One direction's bytes: put in order by sequence number across retransmission, reordering and
//! wrap-around, and checked against what the other side acknowledges.

use std::collections::BTreeMap;

use crate::time::Stamp;
use crate::wire::Segment;

/// Out-of-order payload kept for one direction; what goes beyond it counts as not captured.
const MAX_PENDING: usize = 1 << 20;
/// Out-of-order pieces kept for one direction, whose bookkeeping then takes about as much: more than
/// the segments of any window but the largest. Of a piece beyond them nothing is known.
const MAX_PIECES: usize = 1 << 14;

/// What one side sent. Offsets count payload bytes from 0, as 64-bit numbers that never wrap.
#[derive(Clone, Debug, Default)]
pub(super) struct Half {
    isn: Option<u32>,
    /// Sequence number of offset 0.
    base: Option<u32>,
    /// All bytes below were handed on.
    next: u64,
    /// The highest offset sent, holes below it included.
    sent: u64,
    /// The highest offset the peer acknowledged; the FIN counts one.
    acked: u64,
    /// The offset at which the FIN stands.
    fin: Option<u64>,
    /// How far segments of this side's own reach, the FIN counting one.
    shown: u64,
    /// How far this side is known to have sent, by whatever tells: its own numbers, or what the peer
    /// acknowledged. The FIN counts one.
    told: u64,
    pending: BTreeMap<u64, Chunk>,
    pending_bytes: usize,
    /// Everything below was acknowledged, seen or not.
    missed_to: u64,
    /// Bytes handed on as unseen, because the peer had acknowledged them.
    missed: u64,
    /// When its latest segment was seen.
    last: Option<Stamp>,
    retransmits: u32,
    syns_again: u32,
    window: u32,
    window_shift: u8,
}

/// Payload in order, borrowed from its segment: captured bytes, then bytes that were on the wire and
/// not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fresh<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) unseen: u64,
}

/// The same, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) bytes: Box<[u8]>,
    pub(super) unseen: u64,
}

/// How far one side was seen: whether its SYN was, and then its bytes, a FIN counting one.
pub(super) type SeenTo = (bool, u64);

impl Half {
    /// A SYN of this side: its number is the initial sequence number.
    pub(super) fn synchronize(&mut self, seq: u32, window_scale: Option<u8>) {
        if self.isn.is_none() {
            self.isn = Some(seq);
            self.base.get_or_insert(seq.wrapping_add(1));
        }
        self.window_shift = window_scale.unwrap_or(0);
    }

    pub(super) fn isn(&self) -> Option<u32> {
        self.isn
    }

    pub(super) fn count_syn_again(&mut self) {
        self.syns_again += 1;
    }

    pub(super) fn syns_again(&self) -> u32 {
        self.syns_again
    }

    pub(super) fn retransmits(&self) -> u32 {
        self.retransmits
    }

    /// The receive window this side offers. Unscaled in a SYN (RFC 7323 2.2).
    pub(super) fn window(&mut self, field: u16, syn: bool) {
        let shift = if syn { 0 } else { self.window_shift };
        self.window = u32::from(field) << shift;
    }

    /// Takes a segment's payload and FIN. What of the payload is in order now, and new, is handed
    /// back at once: nearly all of it is, and need not be copied. The rest is kept until its turn.
    pub(super) fn push<'a>(&mut self, segment: &'a Segment) -> Option<Fresh<'a>> {
        if segment.len == 0 && !segment.flags.fin() || self.is_probed_by(segment) {
            return None;
        }
        // Data in a SYN (TCP Fast Open) stands behind the SYN's own number.
        let seq = segment.seq.wrapping_add(u32::from(segment.flags.syn()));
        // A flow whose beginning was missed starts where it was first seen.
        let base = *self.base.get_or_insert(seq);
        let Some(start) = self.offset(seq, base) else {
            self.retransmits += 1;
            return None;
        };
        let end = start + u64::from(segment.len);
        let again = if segment.len > 0 {
            end <= self.sent
        } else {
            self.fin.is_some()
        };
        self.retransmits += u32::from(again);
        self.sent = self.sent.max(end);
        if segment.flags.fin() && self.fin.is_none() {
            self.fin = Some(end);
        }
        self.shown = self.shown.max(end + u64::from(segment.flags.fin()));
        if segment.len == 0 || end <= self.next {
            return None;
        }
        if start > self.next || !self.pending.is_empty() {
            self.keep(start, segment);
            return None;
        }
        let known = self.next - start;
        self.next = end;
        let captured = segment.payload.len() as u64;
        let cut = usize::try_from(known.min(captured)).unwrap_or(usize::MAX);
        Some(Fresh {
            bytes: &segment.payload[cut..],
            unseen: u64::from(segment.cut()) - known.saturating_sub(captured),
        })
    }

    /// Whether that is a keep-alive probe: a byte of no meaning at the last number sent, which was
    /// acknowledged already, the SYN's or the FIN's perhaps (RFC 9293 3.8.4). One without a byte looks
    /// like any acknowledgment.
    fn is_probed_by(&self, segment: &Segment) -> bool {
        let bare = segment.len == 1 && !segment.flags.syn() && !segment.flags.fin();
        let behind = self.base.and_then(|base| {
            let end = segment.seq.wrapping_add(1);
            self.offset(end, base)
        });
        bare && behind == Some(self.shown) && self.acked >= self.shown
    }

    fn keep(&mut self, start: u64, segment: &Segment) {
        let full = self.pending.len() >= MAX_PIECES;
        let room = !full && self.pending_bytes + segment.payload.len() <= MAX_PENDING;
        let bytes: Box<[u8]> = if room {
            segment.payload.as_ref().into()
        } else {
            Box::default()
        };
        let unseen = u64::from(segment.len) - bytes.len() as u64;
        let size = bytes.len();
        let chunk = Chunk { bytes, unseen };
        if size == 0 {
            // Nothing was captured of it: it makes the last piece longer.
            let last = self.pending.last_entry();
            if let Some(mut last) = last.filter(|last| last.key() + last.get().len() == start) {
                last.get_mut().unseen += unseen;
                return;
            }
        }
        if full && !self.pending.contains_key(&start) {
            return;
        }
        // Of two segments that begin alike the first wins, unless the second tells more.
        match self.pending.get(&start) {
            Some(known) if known.len() >= chunk.len() => {}
            known => {
                self.pending_bytes += size;
                self.pending_bytes -= known.map_or(0, |k| k.bytes.len());
                self.pending.insert(start, chunk);
            }
        }
    }

    /// The peer acknowledged everything before `ack`; returns how many of those bytes were never
    /// seen.
    pub(super) fn acknowledge(&mut self, ack: u32) -> u64 {
        // Without a SYN the first acknowledgment tells where the unseen beginning ended.
        let base = *self.base.get_or_insert(ack);
        let Some(offset) = self.offset(ack, base) else {
            return 0;
        };
        let end = self.fin.map_or(offset, |fin| offset.min(fin));
        // An acknowledgment of far more than was ever sent is not one of ours (RFC 9293 3.10.7.4).
        if offset > self.sent + MAX_PENDING as u64 {
            return 0;
        }
        self.acked = self.acked.max(offset);
        self.told = self.told.max(offset);
        // What was missed before is missed once.
        let seen = self.contiguous().max(self.missed_to);
        if end <= seen {
            return 0;
        }
        self.miss(end);
        end - seen
    }

    /// How far it was seen so far.
    pub(super) fn seen_to(&self) -> SeenTo {
        (self.isn.is_some(), self.shown)
    }

    /// Whether the peer's `ack` acknowledges something that was seen, and beyond `before`.
    pub(super) fn is_seen_acked(&self, ack: u32, before: SeenTo) -> bool {
        let offset = self.base.and_then(|base| self.offset(ack, base));
        offset.is_some_and(|offset| {
            let near = offset <= self.sent + MAX_PENDING as u64;
            near && (self.isn.is_some(), offset.min(self.shown)) > before
        })
    }

    /// A segment of this side's own stands at `seq`: everything before was sent.
    pub(super) fn tell(&mut self, seq: u32) {
        let offset = self.base.and_then(|base| self.offset(seq, base));
        // As with acknowledgments: what is far off is not ours.
        let near = |&offset: &u64| offset <= self.sent + MAX_PENDING as u64;
        if let Some(offset) = offset.filter(near) {
            self.told = self.told.max(offset);
        }
    }

    /// A RST says that everything before `seq` was sent, and nothing will be sent again.
    pub(super) fn tell_at_reset(&mut self, seq: u32) {
        self.tell(seq);
        let told = self.fin.map_or(self.told, |fin| self.told.min(fin));
        if told > self.contiguous() {
            self.miss(told);
        }
    }

    /// Nobody will see any more what is missing below `to`.
    fn miss(&mut self, to: u64) {
        self.missed_to = self.missed_to.max(to);
        // One number more than was seen is nearly always a FIN, which is no byte.
        if to != self.sent + 1 {
            self.sent = self.sent.max(to);
        }
    }

    /// Notes when a segment of this side's was seen.
    pub(super) fn see(&mut self, at: Stamp) {
        self.last = self.last.max(Some(at));
    }

    /// When its latest segment was seen.
    pub(super) fn last(&self) -> Option<Stamp> {
        self.last
    }

    /// How far bytes reach without a hole, delivered or not.
    fn contiguous(&self) -> u64 {
        let mut reach = self.next;
        for (&start, chunk) in &self.pending {
            if start > reach {
                break;
            }
            reach = reach.max(start + chunk.len());
        }
        reach
    }

    /// The next payload in order, bytes delivered before cut off. Where `fin_matters`, the last number
    /// of a hole that nothing was seen behind is held back: it may be a FIN's.
    pub(super) fn next_in_order(&mut self, fin_matters: bool) -> Option<Chunk> {
        while let Some((&start, _)) = self.pending.first_key_value() {
            if start > self.next {
                break;
            }
            let (_, mut chunk) = self.pending.pop_first()?;
            self.pending_bytes -= chunk.bytes.len();
            let end = start + chunk.len();
            if end <= self.next {
                continue;
            }
            chunk.drop_front(self.next - start);
            self.next = end;
            return Some(chunk);
        }
        // A hole that the peer acknowledged will not be filled any more. A single number is nearly
        // always a FIN's.
        let may_be_fin =
            self.missed_to > self.shown && (fin_matters || self.missed_to == self.sent + 1);
        let missed_to = self.missed_to - u64::from(may_be_fin);
        let to = self
            .pending
            .first_key_value()
            .map_or(missed_to, |(&start, _)| start.min(missed_to));
        if to > self.next {
            let unseen = to - self.next;
            self.next = to;
            self.missed += unseen;
            return Some(Chunk {
                bytes: Box::default(),
                unseen,
            });
        }
        None
    }

    /// The sequence number behind everything this side is known to have sent.
    pub(super) fn end(&self) -> Option<u32> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "sequence numbers are modulo 2^32"
        )]
        let len = self.told.max(self.shown) as u32;
        self.base.map(|base| base.wrapping_add(len))
    }

    /// Payload bytes sent, each counted once.
    pub(super) fn bytes(&self) -> u64 {
        self.sent
    }

    /// Whether all payload sent was acknowledged; false where none was sent.
    pub(super) fn all_acked(&self) -> bool {
        self.sent > 0 && self.acked >= self.sent
    }

    /// Whether any payload sent was acknowledged.
    pub(super) fn any_acked(&self) -> bool {
        self.sent > 0 && self.acked > 0
    }

    /// Whether the FIN came and all bytes before it.
    pub(super) fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.next >= fin)
    }

    /// Whether the FIN was acknowledged, or what can hardly have been anything else: one number more
    /// than was seen.
    pub(super) fn is_fin_acked(&self) -> bool {
        match self.fin {
            Some(fin) => self.acked > fin,
            None => self.is_end_unseen() && self.acked == self.sent + 1,
        }
    }

    /// Whether the last of what this side is known to have sent was never seen: a FIN may be in it.
    pub(super) fn is_end_unseen(&self) -> bool {
        self.told > self.shown
    }

    /// Whether anything this side is known to have sent was never seen, acknowledged or not.
    pub(super) fn has_gap(&self) -> bool {
        self.missing() > 0
    }

    /// How far bytes reach that were seen, holes below included.
    fn shown_bytes(&self) -> u64 {
        self.fin.unwrap_or(self.shown)
    }

    /// Whether bytes were seen behind others that were neither seen nor acknowledged.
    pub(super) fn has_unfilled_gap(&self) -> bool {
        !self.pending.is_empty() || self.shown_bytes() > self.next
    }

    /// How many of its numbers were never seen; a FIN counts one.
    pub(super) fn missing(&self) -> u64 {
        let mut missing = self.missed;
        let mut reach = self.next;
        for (&start, chunk) in &self.pending {
            missing += start.saturating_sub(reach);
            reach = reach.max(start + chunk.len());
        }
        missing += self.shown_bytes().saturating_sub(reach);
        missing + self.told.saturating_sub(self.shown.max(reach))
    }

    /// Whether `ack` acknowledges this side's SYN and nothing more.
    pub(super) fn is_syn_acked_by(&self, ack: u32) -> bool {
        // Data in the SYN (TCP Fast Open) may be acknowledged with it.
        self.isn
            .is_none_or(|isn| u64::from(ack.wrapping_sub(isn.wrapping_add(1))) <= self.sent)
    }

    /// Whether a RST of this side with that number lies in the window of `receiver` (RFC 9293
    /// 3.10.7.4, first check). Where the beginning was missed any is taken.
    pub(super) fn accepts_reset(&self, seq: u32, receiver: &Half) -> bool {
        let Some(base) = self.base else {
            return true;
        };
        // The receiver's next expected byte is at least what it acknowledged and at most what was
        // sent in order; a FIN takes one number.
        let Some(offset) = self.offset(seq, base) else {
            return false;
        };
        let top = self.sent.max(self.next) + u64::from(self.fin.is_some());
        (self.acked..=top.max(self.acked + u64::from(receiver.window))).contains(&offset)
    }

    /// The offset of a sequence number: the one nearest to what was handed on. None before 0.
    fn offset(&self, seq: u32, base: u32) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "sequence numbers are modulo 2^32"
        )]
        let here = base.wrapping_add(self.next as u32);
        let distance = i64::from(seq.wrapping_sub(here).cast_signed());
        self.next.checked_add_signed(distance)
    }
}

impl Chunk {
    fn len(&self) -> u64 {
        self.bytes.len() as u64 + self.unseen
    }

    fn drop_front(&mut self, n: u64) {
        let seen = n.min(self.bytes.len() as u64);
        let cut = usize::try_from(seen).unwrap_or(usize::MAX);
        if cut > 0 {
            self.bytes = self.bytes[cut..].into();
        }
        self.unseen -= n - seen;
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::segments;
    use super::*;

    /// A half of which the first byte was not seen, and then, of that many segments, 1,000 bytes each
    /// at `step` from one to the next, their payload not captured.
    fn behind_a_gap(count: u32, step: u32) -> Half {
        let mut half = Half::default();
        half.synchronize(0, None);
        let mut segment = segments(">P.[get]").remove(0);
        segment.payload.to_mut().clear();
        segment.len = 1_000;
        for n in 0..count {
            segment.seq = 2 + n * step;
            half.push(&segment);
        }
        half
    }

    #[test]
    fn what_waits_behind_a_gap_is_bounded_though_nothing_was_captured_of_it() {
        let half = behind_a_gap(1_000_000, 1_000);
        assert_eq!(half.pending.len(), 1);
        assert_eq!((half.bytes(), half.missing()), (1_000_000_001, 1));
        let half = behind_a_gap(100_000, 1_001);
        assert_eq!(half.pending.len(), MAX_PIECES);
        // What there was no room for counts as missing.
        let gaps = 100_000 + 1_000 * (100_000 - MAX_PIECES as u64);
        assert_eq!(half.missing(), gaps);
    }

    #[test]
    fn a_longer_piece_hides_none_that_was_captured() {
        let mut half = behind_a_gap(1, 0);
        let mut get = segments(">P.[get]").remove(0);
        get.seq = 1_002;
        half.push(&get);
        // The same again, nothing of it captured.
        let mut again = get.clone();
        again.payload.to_mut().clear();
        half.push(&again);
        get.seq = 1;
        get.payload.to_mut().truncate(1);
        get.len = 1;
        assert!(half.push(&get).is_none());
        let pieces: Vec<Chunk> = std::iter::from_fn(|| half.next_in_order(false)).collect();
        let told: Vec<_> = pieces.iter().map(|p| (p.bytes.len(), p.unseen)).collect();
        assert_eq!(told, [(1, 0), (0, 1_000), (27, 0)]);
    }
}
