//! A thread of its own that writes records and holds packets: a slow disk, or a reader that takes its
//! time, holds up neither the schedule nor the ring. What waits is finished records, and packets that
//! are kept.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::outputs::{WriteFailed, Writers};
use super::spool::Spool;
use crate::event::{Event, Vantage};
use crate::observe::packet::Raw;
use crate::record::Record;
use crate::report::Context;
use crate::time::{Clock, Stamp};

/// How often rows are handed to the kernel.
const FLUSH: Duration = Duration::from_millis(100);

/// What the writer is told.
pub(super) enum Job {
    /// Records, in order.
    Records(Vec<Record>),
    /// Packets, in order, and the numbers of their flows.
    Packets(Vec<(u64, Raw)>),
    /// The first trigger is being pulled: the instant before.
    Signal(Stamp),
    /// The server's main process exited.
    TargetDead(Stamp),
    /// Things done to the server or seen of it.
    Events(Vec<Event>),
}

/// The running writer.
pub(super) struct Writer {
    jobs: Sender<Job>,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

/// What was written.
pub(super) struct Written {
    /// What is left to write to: another run may go on there.
    pub(super) writers: Writers,
    /// Outputs that could not be written.
    pub(super) failed: Vec<WriteFailed>,
    /// The packets, which are only written out now, where they are wanted and could be held.
    pub(super) spool: Option<Spool>,
    /// What was done to the server and seen of it, in the order of its time.
    pub(super) events: Vec<Event>,
    /// What the rows were told of their run.
    pub(super) context: Context,
}

impl Writer {
    /// Starts writing what belongs to the run of `context`. With `await_signal` rows are held until
    /// the first trigger is pulled, because each says how it lies to that moment.
    pub(super) fn start(
        writers: Writers,
        spool: Option<Spool>,
        context: Context,
        await_signal: bool,
        clock: Clock,
    ) -> std::io::Result<Writer> {
        let (jobs, receiver) = channel();
        let failed = Arc::new(AtomicBool::new(false));
        let work = Work {
            writers,
            spool,
            context,
            held: await_signal.then(Vec::new),
            events: Vec::new(),
            failed: Vec::new(),
            failed_flag: Arc::clone(&failed),
            clock,
        };
        let thread = thread::Builder::new()
            .name("probe-writer".to_owned())
            .spawn(move || work.run(&receiver))?;
        Ok(Writer {
            jobs,
            failed,
            thread,
        })
    }

    /// Tells it something.
    pub(super) fn tell(&self, job: Job) {
        // It only stops listening when it has panicked, which finish() then shows.
        let _ = self.jobs.send(job);
    }

    /// For another thread that has something to tell.
    pub(super) fn sender(&self) -> Sender<Job> {
        self.jobs.clone()
    }

    /// Whether no output is left to write to.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until everything is written.
    pub(super) fn finish(self) -> Written {
        drop(self.jobs);
        match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

struct Work {
    writers: Writers,
    spool: Option<Spool>,
    context: Context,
    /// Records that wait for the first trigger.
    held: Option<Vec<Vec<Record>>>,
    /// Of the run, written at the end.
    events: Vec<Event>,
    failed: Vec<WriteFailed>,
    failed_flag: Arc<AtomicBool>,
    clock: Clock,
}

impl Work {
    fn run(mut self, jobs: &Receiver<Job>) -> Written {
        let mut flushed = self.clock.now();
        loop {
            match jobs.recv_timeout(FLUSH) {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = self.clock.now();
            if now >= flushed + FLUSH {
                self.flush();
                flushed = now;
            }
        }
        self.release();
        let mut events = std::mem::take(&mut self.events);
        events.sort_by_key(|event| event.at);
        for event in &events {
            let failed = self.writers.write_event(event, &self.context);
            self.fail(failed);
        }
        self.flush();
        Written {
            writers: self.writers,
            failed: self.failed,
            spool: self.spool,
            events,
            context: self.context,
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Records(mut records) => {
                self.spool_connections(&mut records);
                match &mut self.held {
                    Some(held) => held.push(records),
                    None => self.write(&records),
                }
            }
            Job::Packets(packets) => self.spool(|spool| {
                let mut packets = packets.iter();
                packets.try_for_each(|(flow, packet)| spool.packet(*flow, packet))
            }),
            Job::Signal(at) => {
                self.context.signal.get_or_insert(at);
                self.release();
            }
            Job::TargetDead(at) => {
                self.context.target_dead.get_or_insert(at);
            }
            Job::Events(mut events) => {
                if !self.writers.wants_steps() {
                    // What the probe did goes into the packets' file too.
                    events.retain(|event| event.vantage == Vantage::Control);
                }
                self.events.extend(events);
            }
        }
    }

    fn spool_connections(&mut self, records: &mut [Record]) {
        self.spool(|spool| {
            let mut records = records.iter();
            records.try_for_each(|record| spool.connection(record))
        });
        if !self.writers.wants_steps() {
            // Nobody else asks for them, and they may be held for long.
            records.iter_mut().for_each(|record| record.steps = None);
        }
    }

    /// Does something to the spool, and gives it up where that fails.
    fn spool(&mut self, act: impl FnOnce(&mut Spool) -> io::Result<()>) {
        if let Some(Err(error)) = self.spool.as_mut().map(act) {
            self.spool = None;
            let name = "the packets to a temporary file".to_owned();
            self.fail(vec![WriteFailed { name, error }]);
        }
    }

    /// Writes what was held: the first trigger was pulled, or none will be.
    fn release(&mut self) {
        for records in self.held.take().unwrap_or_default() {
            self.write(&records);
        }
    }

    fn write(&mut self, records: &[Record]) {
        for record in records {
            let failed = self.writers.write(record, &self.context);
            self.fail(failed);
        }
    }

    fn flush(&mut self) {
        let failed = self.writers.flush();
        self.fail(failed);
    }

    fn fail(&mut self, failed: Vec<WriteFailed>) {
        if !failed.is_empty() {
            self.failed.extend(failed);
            if self.writers.is_empty() && self.spool.is_none() {
                self.failed_flag.store(true, Ordering::Relaxed);
            }
        }
    }
}
