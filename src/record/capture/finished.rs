//! Connections that ended a short while ago, remembered so that a late segment of theirs begins none
//! of its own: a retransmission, a RST, an acknowledgment in TIME-WAIT, a keep-alive probe.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::flow::Flow;
use crate::time::Stamp;
use crate::wire::{Direction, Ends, Segment};

/// Linux holds TIME-WAIT for so long (TCP_TIMEWAIT_LEN), and a 4-tuple is as long not used again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// So many fit a table of 131,072 places, 3 MiB; where more end within a minute, the time is shorter.
const MAX: usize = 114_688;
/// How far a late segment may stand before the end of its side's bytes: more than any send buffer that
/// is retransmitted from.
const BEFORE: i32 = -(4 << 20);
/// And how far behind it. A SYN-ACK out of TIME-WAIT begins 65,537 numbers further on
/// (`tcp_timewait_state_process`).
const BEHIND: i32 = 65_535;

/// Two generations of them; the older one is dropped as a whole.
#[derive(Debug, Default)]
pub(super) struct Finished {
    hasher: RandomState,
    recent: Ended,
    older: Ended,
    since: Option<Stamp>,
}

/// By the hash of its ends, where the bytes of client and server ended. Of two that share one hash of
/// 64 bits the earlier is forgotten.
type Ended = HashMap<u64, [Option<u32>; 2], RandomState>;

impl Finished {
    /// Remembers a connection that is over.
    pub(super) fn remember(&mut self, flow: &Flow, now: Stamp) {
        let since = *self.since.get_or_insert(now);
        if self.recent.len() == MAX || now >= since + REMEMBERED {
            std::mem::swap(&mut self.recent, &mut self.older);
            self.recent.clear();
            self.since = Some(now);
        }
        let ends = self.hasher.hash_one(flow.ends());
        self.recent.insert(ends, flow.ended_at());
    }

    /// Whether a segment belongs to a connection that is over. A SYN begins a new one, and so does what
    /// stands elsewhere among the sequence numbers: the SYN of that one was missed.
    pub(super) fn holds(&self, ends: &Ends, segment: &Segment) -> bool {
        if segment.flags.syn() || self.recent.is_empty() {
            return false;
        }
        let hash = self.hasher.hash_one(ends);
        let found = self.recent.get(&hash).or_else(|| self.older.get(&hash));
        let Some([client, server]) = found else {
            return false;
        };
        let end = match segment.direction(ends) {
            Some(Direction::ToServer) => client,
            Some(Direction::ToClient) => server,
            None => return false,
        };
        end.is_some_and(|end| {
            let away = segment.seq.wrapping_sub(end).cast_signed();
            (BEFORE..=BEHIND).contains(&away)
        })
    }
}
