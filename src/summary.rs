//! What the records of a run, or of several, amount to: counts, losses, the window in which they
//! fell. Held in constant memory however many records there were.

mod interval;
mod parts;
mod pool;
mod refusals;
mod stops;

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use crate::cause::Cause;
use crate::outcome::{Errno, Outcome};
use crate::record::Record;
use crate::sequence::Sequence;
use crate::time::Stamp;

pub use interval::Interval;
pub use parts::{Part, Parts, Share};
pub use pool::{Pool, Spread};
pub use refusals::Refusals;
pub use stops::{Stops, Times, Turns};

/// Different sequences counted for one outcome; further ones are counted together.
const MAX_SEQUENCES: usize = 1_000;

/// A run in numbers.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// All records.
    pub connections: u64,
    /// Those that the server's kernel took: a SYN-ACK was seen, and the client did not end it half-open.
    pub taken: u64,
    /// Those taken that got no complete response.
    pub lost: u64,
    /// Those that it answered and whose client ended them half-open: they never reached its queue.
    pub half_open: u64,
    /// Those that were made to ask nothing.
    pub asked_nothing: u64,
    /// By outcome.
    pub outcomes: BTreeMap<Outcome, OutcomeSummary>,
    /// Where socket and wire told different outcomes: (wire, socket) and how often.
    pub differing: BTreeMap<(Outcome, Outcome), u64>,
    /// Records with a hole in what the wire showed.
    pub holes: u64,
    /// Sequence numbers that were never seen, of all records.
    pub missing: u64,
    /// Records that packets were seen of.
    pub on_the_wire: u64,
    /// Records that the server's kernel told of.
    pub at_the_server: u64,
    /// When connections were refused, and when the server first answered one.
    pub refusals: Refusals,
    /// When the last connection that was served was opened.
    pub last_served: Option<Stamp>,
    /// Those lost whose cause is unknown, or was told without tracepoints.
    pub unproven: u64,
    /// Opening times of the first and the last lost connection.
    pub loss_window: Option<(Stamp, Stamp)>,
    /// What kept connections from being made on this host, and how many each.
    pub local_errors: BTreeMap<Option<Errno>, u64>,
    /// The largest lateness of any connection, in nanoseconds.
    pub latest_ns: i64,
}

/// The records of one outcome.
#[derive(Clone, Debug, Default)]
pub struct OutcomeSummary {
    /// How many.
    pub count: u64,
    /// curl's exit codes for them, and how often each.
    pub curl: BTreeMap<u8, u64>,
    /// The server's part in them.
    pub parts: Parts,
    sequences: HashMap<Sequence, u64, RandomState>,
    other_sequences: u64,
}

impl Summary {
    /// Counts a record.
    pub fn add(&mut self, record: &Record) {
        self.connections += 1;
        self.taken += u64::from(record.was_taken());
        self.half_open += u64::from(record.is_half_open());
        self.asked_nothing += u64::from(record.asked_nothing);
        let entry = self.outcomes.entry(record.outcome).or_default();
        entry.count += 1;
        if let Some(code) = record.curl_exit {
            *entry.curl.entry(code).or_default() += 1;
        }
        entry.parts.add(record);
        if let Some(sequence) = &record.sequence {
            entry.add_sequence(sequence, 1);
        }
        if let Some(socket) = record.socket_outcome {
            *self.differing.entry((record.outcome, socket)).or_default() += 1;
        }
        let opened = record.times.opened;
        if record.outcome == Outcome::Refused {
            let refused = record.times.end.unwrap_or(opened);
            self.refusals.refused(opened, refused);
        } else if record.was_answered() {
            self.refusals.answered(opened);
        }
        if record.outcome == Outcome::Served {
            self.last_served = self.last_served.max(Some(record.times.opened));
        }
        if record.outcome == Outcome::LocalError {
            *self.local_errors.entry(record.errno()).or_default() += 1;
        }
        self.holes += u64::from(record.caveats.hole);
        self.missing += record.missing.unwrap_or(0);
        self.on_the_wire += u64::from(record.evidence.wire);
        self.at_the_server += u64::from(record.evidence.diag || record.evidence.trace);
        self.latest_ns = self.latest_ns.max(record.times.late_ns.unwrap_or(0));
        if record.outcome.is_lost() == Some(true) {
            self.lost += 1;
            let known = record.cause.is_some_and(|cause| cause != Cause::Unknown);
            self.unproven += u64::from(!(known && record.evidence.trace));
            self.widen_loss_window(opened, opened);
        }
    }

    /// Counts the records of another run as well; the loss window then reaches over both.
    pub fn merge(&mut self, other: &Summary) {
        self.connections += other.connections;
        self.taken += other.taken;
        self.lost += other.lost;
        self.half_open += other.half_open;
        self.asked_nothing += other.asked_nothing;
        for (&outcome, counted) in &other.outcomes {
            self.outcomes.entry(outcome).or_default().merge(counted);
        }
        for (&pair, count) in &other.differing {
            *self.differing.entry(pair).or_default() += count;
        }
        for (&errno, count) in &other.local_errors {
            *self.local_errors.entry(errno).or_default() += count;
        }
        self.holes += other.holes;
        self.missing += other.missing;
        self.on_the_wire += other.on_the_wire;
        self.at_the_server += other.at_the_server;
        self.unproven += other.unproven;
        self.latest_ns = self.latest_ns.max(other.latest_ns);
        if let Some((first, last)) = other.loss_window {
            self.widen_loss_window(first, last);
        }
    }

    fn widen_loss_window(&mut self, from: Stamp, to: Stamp) {
        let (first, last) = self.loss_window.unwrap_or((from, to));
        self.loss_window = Some((first.min(from), last.max(to)));
    }

    /// How many had each cause.
    pub fn causes(&self) -> BTreeMap<Cause, u64> {
        self.causes_of(|_| true)
    }

    /// The same of those that were lost.
    pub fn lost_causes(&self) -> BTreeMap<Cause, u64> {
        self.causes_of(|outcome| outcome.is_lost() == Some(true))
    }

    fn causes_of(&self, wanted: impl Fn(Outcome) -> bool) -> BTreeMap<Cause, u64> {
        let mut causes = BTreeMap::new();
        let wanted = self
            .outcomes
            .iter()
            .filter(|(outcome, _)| wanted(**outcome));
        for (_, counted) in wanted {
            for (part, share) in counted.parts.ranked() {
                *causes.entry(part.cause).or_default() += share.count;
            }
        }
        causes
    }

    /// When the first connection was refused that was opened after one that the server had answered.
    pub fn first_refusal(&self) -> Option<Stamp> {
        self.refusals.first()
    }

    /// Whether a connection was served that was opened after another had been refused: somebody
    /// stopped listening, and somebody listened again.
    pub fn is_interleaved(&self) -> bool {
        let (served, refused) = (self.last_served, self.first_refusal());
        served
            .zip(refused)
            .is_some_and(|(served, refused)| served > refused)
    }

    /// How many had that outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).map_or(0, |o| o.count)
    }

    /// Whether there were connections, and every one failed on this host: nothing was measured.
    pub fn is_all_local_error(&self) -> bool {
        self.connections > 0 && self.count(Outcome::LocalError) == self.connections
    }

    /// Records whose outcome socket and wire told differently.
    pub fn differing_count(&self) -> u64 {
        self.differing.values().sum()
    }
}

impl OutcomeSummary {
    fn add_sequence(&mut self, sequence: &Sequence, times: u64) {
        if let Some(count) = self.sequences.get_mut(sequence) {
            *count += times;
        } else if self.sequences.len() < MAX_SEQUENCES {
            self.sequences.insert(sequence.clone(), times);
        } else {
            self.other_sequences += times;
        }
    }

    fn merge(&mut self, other: &OutcomeSummary) {
        self.count += other.count;
        self.parts.merge(&other.parts);
        for (&code, count) in &other.curl {
            *self.curl.entry(code).or_default() += count;
        }
        for (sequence, &count) in &other.sequences {
            self.add_sequence(sequence, count);
        }
        self.other_sequences += other.other_sequences;
    }

    /// The commonest sequence and how often it occurred; of equals the first in the alphabet.
    pub fn commonest_sequence(&self) -> Option<(String, u64)> {
        let most = self.sequences.values().copied().max()?;
        self.sequences
            .iter()
            .filter(|&(_, &count)| count == most)
            .map(|(sequence, &count)| (sequence.to_string(), count))
            .min()
    }

    /// How many different sequences there were, at least.
    pub fn distinct_sequences(&self) -> usize {
        self.sequences.len() + usize::from(self.other_sequences > 0)
    }
}
