//! Which account of the run and which of the capture are of one connection: the same 4-tuple at the
//! same time, once the two clocks are put together. A 4-tuple may come back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Account, Noted};
use crate::time::Stamp;
use crate::wire::Direction;

/// Accounts of one connection begin this near to each other: a 4-tuple comes back after a SYN's
/// retransmission (1 s, RFC 6298 2.1) at the earliest, or after a reset.
const NEAR: Duration = Duration::from_millis(500);

/// Segments of a connection that are looked through for one that both saw.
const LOOKED_AT: usize = 100;

/// How far the capture's clock is ahead of the run's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// In nanoseconds; the median of all connections whose 4-tuple both saw as often.
    pub ns: i64,
    /// How many connections that were; without any the clocks are taken for one.
    pub measured_by: usize,
}

impl Offset {
    /// A time of the run, by the capture's clock.
    pub(super) fn to_capture(self, run: Stamp) -> Stamp {
        Stamp(run.0.saturating_add(self.ns))
    }

    /// A time of the capture, by the run's clock.
    pub(super) fn to_run(self, capture: Stamp) -> Stamp {
        Stamp(capture.0.saturating_sub(self.ns))
    }
}

type Tuple = (SocketAddr, SocketAddr);

/// Positions of one connection's accounts; one at least is there.
pub(super) type Positions = (Option<usize>, Option<usize>);

fn by_tuple(accounts: &[Account]) -> HashMap<Tuple, Vec<usize>> {
    let mut found: HashMap<Tuple, Vec<usize>> = HashMap::new();
    for (at, account) in accounts.iter().enumerate() {
        if let Some(client) = account.client {
            found.entry((client, account.server)).or_default().push(at);
        }
    }
    found
}

/// Measures it by 4-tuples that both saw as often.
pub(super) fn clock_offset(run: &[Account], capture: &[Account]) -> Offset {
    let others = by_tuple(capture);
    let in_order = |accounts: &[Account], mut all: Vec<usize>| {
        all.sort_unstable_by_key(|&at| accounts[at].opened);
        all
    };
    let mut apart: Vec<i64> = Vec::new();
    for (tuple, mine) in by_tuple(run) {
        let Some(theirs) = others.get(&tuple).filter(|all| all.len() == mine.len()) else {
            continue;
        };
        let both = in_order(run, mine)
            .into_iter()
            .zip(in_order(capture, theirs.clone()));
        apart.extend(both.filter_map(|(i, j)| moment(&run[i], &capture[j])));
    }
    apart.sort_unstable();
    Offset {
        ns: apart.get(apart.len() / 2).copied().unwrap_or(0),
        measured_by: apart.len(),
    }
}

/// How much later the capture saw the first thing that both saw: a segment, or the beginning of what
/// both saw from there on.
fn moment(run: &Account, capture: &Account) -> Option<i64> {
    if let (Some(mine), Some(theirs)) = (run.trace.segments(), capture.trace.segments()) {
        return mine.iter().take(LOOKED_AT).find_map(|noted| {
            let mut theirs = theirs.iter().take(LOOKED_AT);
            let other = theirs.find(|other| is_same(noted, other))?;
            Some(other.at.since(noted.at))
        });
    }
    let whole = |account: &Account| !account.caveats.capture_start;
    (whole(run) && whole(capture)).then(|| capture.opened.since(run.opened))
}

fn is_same(a: &Noted, b: &Noted) -> bool {
    let of = |noted: &Noted| {
        (
            noted.direction,
            noted.flags,
            noted.seq,
            noted.ack,
            noted.len,
        )
    };
    of(a) == of(b)
}

/// Joins them: pairs in the order of the run, then what only the capture has, in its order.
pub(super) fn join(run: &[Account], capture: &[Account], offset: Offset) -> Vec<Positions> {
    let others = by_tuple(capture);
    let mut partner: Vec<Option<usize>> = vec![None; run.len()];
    let mut taken = vec![false; capture.len()];
    for (tuple, mine) in by_tuple(run) {
        let theirs = others.get(&tuple).map_or(&[][..], Vec::as_slice);
        let mut near: Vec<(u64, usize, usize)> = mine
            .iter()
            .flat_map(|&i| theirs.iter().map(move |&j| (i, j)))
            .filter_map(|(i, j)| Some((distance(&run[i], &capture[j], offset)?, i, j)))
            .collect();
        near.sort_unstable();
        for (_, i, j) in near {
            if partner[i].is_none() && !taken[j] {
                partner[i] = Some(j);
                taken[j] = true;
            }
        }
    }
    let pairs = partner.into_iter().enumerate();
    let pairs = pairs.map(|(i, j)| (Some(i), j));
    let rest = (0..capture.len()).filter(|&j| !taken[j]);
    pairs.chain(rest.map(|j| (None, Some(j)))).collect()
}

/// How far apart the two are; nothing where they cannot be of one connection. The same initial
/// sequence number tells that they are, whatever either missed of the handshake; else they begin near
/// each other; and one that was seen from its middle on only has to overlap the other.
fn distance(run: &Account, capture: &Account, offset: Offset) -> Option<u64> {
    let (mine, theirs) = (isn(run), isn(capture));
    let opened = offset.to_run(capture.opened);
    let last = offset.to_run(capture.last);
    let apart = opened.since(run.opened).unsigned_abs();
    if mine.is_some() && mine == theirs {
        return Some(apart);
    }
    let cut = run.caveats.capture_start || capture.caveats.capture_start;
    let overlap = opened <= run.last + NEAR && run.opened <= last + NEAR;
    let near = u128::from(apart) <= NEAR.as_nanos();
    (near || cut && overlap).then_some(apart)
}

/// The client's initial sequence number.
fn isn(account: &Account) -> Option<u32> {
    let mut segments = account.trace.segments()?.iter();
    let syn = segments.find(|noted| noted.direction == Direction::ToServer && noted.flags.syn())?;
    Some(syn.seq)
}
