//! The thread that empties the buffers: every processor's in turn, its records read and looked up at
//! once, then held until nothing earlier can come and handed on in order.

use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::events::{Context, Decoder, Event, Seen};
use super::instance::Instance;
use super::join::{Join, Record};
use super::page::{Layout, Missed};
use super::threads::Threads;
use super::{TraceBatch, TraceStats, TraceTap};
use crate::kernel::{Lost, TcpState, TracedWhat};
use crate::observe::order::Order;
use crate::time::{Clock, Stamp};

/// How long buffers are left to fill. Short-lived threads are looked up once a round.
const ROUND: Duration = Duration::from_millis(5);
/// How much later than its stamp a record may be in its buffer. It is stamped when its place is
/// reserved and readable once whatever interrupted the writer has ended: softirqs take up to 2 ms at
/// a time (MAX_SOFTIRQ_TIME), and a hypervisor may take the processor away in the middle.
const SLACK: Duration = Duration::from_millis(40);

/// Reads what a tap records.
pub(super) struct Reader {
    instances: Vec<Instance>,
    clock: Clock,
    opened: Stamp,
    layout: Layout,
    intake: Intake,
    /// One for each pipe of each instance, in their order.
    sources: Vec<Source>,
    page: Vec<u8>,
}

/// Where one processor's records stand.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    /// The last record's stamp.
    last: Stamp,
    /// How many records its pages said were lost.
    lost: u64,
    /// Whether pages said that some were lost and not how many, or could not be read.
    uncounted: bool,
}

/// What becomes of records.
struct Intake {
    decoder: Decoder,
    threads: Threads,
    order: Order<Record>,
    join: Join,
    lost: Vec<Lost>,
    stats: TraceStats,
}

impl Reader {
    pub(super) fn new(tap: TraceTap) -> Reader {
        let pipes = tap.instances.iter().map(|instance| instance.pipes().len());
        Reader {
            sources: vec![Source::default(); pipes.sum()],
            page: vec![0; tap.layout.page_bytes()],
            instances: tap.instances,
            clock: tap.clock,
            opened: tap.opened,
            layout: tap.layout,
            intake: Intake {
                decoder: tap.decoder,
                threads: tap.threads,
                order: Order::new(),
                join: Join::new(tap.waiting),
                lost: Vec::new(),
                stats: TraceStats::default(),
            },
        }
    }

    /// Reads until the other end of `stop` is gone or nobody listens.
    pub(super) fn run(
        mut self,
        stop: &Receiver<()>,
        mut sink: impl FnMut(TraceBatch) -> bool,
    ) -> TraceStats {
        let mut watermark = self.opened;
        loop {
            // Read before the buffers are: what is stamped before this and has had its time is there.
            let now = self.clock.now();
            self.drain(now, watermark);
            watermark = watermark.max(now - SLACK);
            if !sink(self.intake.batch(watermark, watermark)) {
                break;
            }
            if stop.recv_timeout(ROUND) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        self.finish(watermark, sink)
    }

    /// Reads all that is in the buffers. What is stamped before `watermark` was read before.
    fn drain(&mut self, now: Stamp, watermark: Stamp) {
        let mut page = mem::take(&mut self.page);
        let pipes = self.instances.iter().flat_map(Instance::pipes);
        for (pipe, source) in pipes.zip(&mut self.sources) {
            loop {
                match pipe.read(&mut page) {
                    Ok(true) => {
                        self.intake.take_page(
                            &self.layout,
                            &page,
                            source,
                            &self.clock,
                            (watermark, now),
                        );
                    }
                    Ok(false) => break,
                    Err(_) => {
                        source.uncounted = true;
                        self.intake.lose(source, watermark, now);
                        break;
                    }
                }
            }
        }
        self.page = page;
        self.intake.stats.rounds += 1;
    }

    fn finish(mut self, watermark: Stamp, mut sink: impl FnMut(TraceBatch) -> bool) -> TraceStats {
        for instance in &self.instances {
            // Where that fails recording ends when the instance goes.
            let _ = instance.write("tracing_on", "0");
        }
        let now = self.clock.now();
        self.drain(now, watermark);
        self.count_lost(now);
        sink(self.intake.batch(Stamp(i64::MAX), now));
        let span = self.clock.now().since(self.opened);
        let mut stats = self.intake.stats;
        stats.open_ms = u64::try_from(span / 1_000_000).unwrap_or(0);
        stats.late = self.intake.order.late();
        stats
    }

    /// Holds what the kernel counted as lost against what the pages said: what they did not say may
    /// have been lost at any time.
    fn count_lost(&mut self, now: Stamp) {
        let (from, to) = (self.opened, now);
        let pipes = self
            .instances
            .iter()
            .flat_map(|instance| instance.pipes().iter().map(move |pipe| (instance, pipe)));
        for ((instance, pipe), source) in pipes.zip(&self.sources) {
            match instance.lost(pipe.cpu) {
                Ok(lost) => {
                    self.intake.stats.lost += lost.max(source.lost);
                    if lost > source.lost && !source.uncounted {
                        self.intake.lost.push(Lost { from, to });
                    }
                }
                Err(_) => self.intake.lost.push(Lost { from, to }),
            }
        }
    }
}

impl Intake {
    /// Takes a page of one processor's that was read at `span.1`; what is stamped before `span.0` was
    /// read before.
    fn take_page(
        &mut self,
        layout: &Layout,
        bytes: &[u8],
        source: &mut Source,
        clock: &Clock,
        (watermark, now): (Stamp, Stamp),
    ) {
        self.stats.pages += 1;
        let Some(page) = layout.page(bytes) else {
            self.unreadable(source, watermark, now);
            return;
        };
        let mut missed = page.missed;
        for record in page {
            let Ok(record) = record else {
                self.unreadable(source, watermark, now);
                return;
            };
            let at = clock.of_monotonic(record.at);
            self.note_missed(
                mem::replace(&mut missed, Missed::Nothing),
                source,
                watermark,
                at,
            );
            source.last = at;
            self.stats.records += 1;
            if let Some(event) = self.decoder.read(record.bytes) {
                self.take_event(at, event, now);
            }
        }
        self.note_missed(missed, source, watermark, now);
    }

    fn note_missed(&mut self, missed: Missed, source: &mut Source, watermark: Stamp, to: Stamp) {
        match missed {
            Missed::Nothing => return,
            Missed::Counted(count) => source.lost += count,
            Missed::Some => source.uncounted = true,
        }
        self.lose(source, watermark, to);
    }

    fn unreadable(&mut self, source: &mut Source, watermark: Stamp, now: Stamp) {
        self.stats.unreadable += 1;
        source.uncounted = true;
        self.lose(source, watermark, now);
    }

    fn lose(&mut self, source: &Source, watermark: Stamp, to: Stamp) {
        let from = source.last.max(watermark);
        self.lost.push(Lost { from, to });
    }

    /// Asks at once what will soon not be there to be asked, and holds the event.
    fn take_event(&mut self, at: Stamp, event: Event, now: Stamp) {
        let Event { tid, context, seen } = event;
        let threads = &mut self.threads;
        if context != Context::Interrupt {
            threads.meet(tid, now);
        }
        let mut listener = None;
        match &seen {
            Seen::AcceptEntered { fd } => listener = threads.listener(tid, *fd, now),
            Seen::AcceptLeft { result } => {
                if let Ok(fd) = i32::try_from(*result) {
                    threads.given_out(fd);
                }
            }
            Seen::Birth { tid: new, thread } => threads.born(*new, tid, *thread, at),
            Seen::Exit { comm, .. } => threads.ended(tid, *comm, at),
            Seen::Socket(TracedWhat::State {
                from: Some(TcpState::Listen),
                to: Some(TcpState::Close),
                ..
            }) => threads.listener_closed(),
            Seen::Socket(_)
            | Seen::ShutDown
            | Seen::SignalSent { .. }
            | Seen::SignalDelivered { .. }
            | Seen::GroupExit => {}
        }
        let record = Record {
            at,
            tid,
            context,
            seen,
            listener,
        };
        if let Some(to) = self.order.push(at, record) {
            // What lies in between may have been judged without it.
            self.lost.push(Lost { from: at, to });
        }
    }

    /// Hands on what is stamped before `to`.
    fn batch(&mut self, to: Stamp, watermark: Stamp) -> TraceBatch {
        let mut events = Vec::new();
        for record in self.order.release(to) {
            // Now in order: its maker's own birth was told before.
            if let Seen::Birth { tid, thread } = record.seen {
                self.threads.belongs(tid, record.tid, thread);
            }
            let task = self.threads.task(record.tid, record.context);
            let pid_of = |tid| self.threads.pid(tid);
            events.extend(self.join.take(record, task, pid_of));
        }
        self.stats.events += events.len() as u64;
        TraceBatch {
            events,
            lost: mem::take(&mut self.lost),
            watermark,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake() -> Intake {
        Intake {
            decoder: Decoder::new(9292),
            threads: Threads::new(false),
            order: Order::new(),
            join: Join::default(),
            lost: Vec::new(),
            stats: TraceStats::default(),
        }
    }

    #[test]
    fn what_comes_late_is_told_and_is_a_loss_up_to_the_watermark_it_missed() {
        let mut intake = intake();
        let shut_down = |intake: &mut Intake, at| {
            let event = Event {
                tid: 7,
                context: Context::Thread { bh_off: false },
                seen: Seen::ShutDown,
            };
            intake.take_event(Stamp(at), event, Stamp(200));
        };
        let told = |batch: TraceBatch| {
            let stamps: Vec<_> = batch.events.iter().map(|event| event.at).collect();
            (stamps, batch.lost)
        };
        for at in [90, 100] {
            shut_down(&mut intake, at);
        }
        let batch = intake.batch(Stamp(100), Stamp(100));
        assert_eq!(told(batch), (vec![Stamp(90)], vec![]));

        for at in [60, 110] {
            shut_down(&mut intake, at);
        }
        let batch = intake.batch(Stamp(120), Stamp(120));
        let lost = Lost {
            from: Stamp(60),
            to: Stamp(100),
        };
        assert_eq!(
            told(batch),
            ([60, 100, 110].map(Stamp).to_vec(), vec![lost])
        );
        assert_eq!(intake.order.late(), 1);
        let batch = intake.batch(Stamp(130), Stamp(130));
        assert_eq!(told(batch), (vec![], vec![]));
    }
}
