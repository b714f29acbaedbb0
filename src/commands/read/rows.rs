//! A thread of its own that makes records of flows that have ended, counts and writes them, while the
//! capture is read on.

use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use crate::commands::outputs::{WriteFailed, Writers};
use crate::record::Ended;
use crate::report::Context;
use crate::summary::{Pool, Summary};

/// Flows that are handed on together.
const BATCH: usize = 256;
/// Such batches under way at most: a reader that is ahead by more waits, so that memory stays small.
const QUEUE: usize = 16;

/// The thread at work.
pub(super) struct Rows {
    batch: Vec<Ended>,
    sender: SyncSender<Job>,
    /// What was written comes back: its memory is used again, and freed where it was allocated.
    given_back: Receiver<Vec<Ended>>,
    spent: Vec<Ended>,
    thread: JoinHandle<Written>,
}

/// What it is told.
enum Job {
    /// Flows that have ended.
    Ended(Vec<Ended>),
    /// What is said of those that follow.
    Context(Context),
}

/// What it has done.
pub(super) struct Written {
    /// All runs whose rows they are; of anybody's capture one.
    pub(super) pool: Pool,
    /// The one under way.
    run: Summary,
    pub(super) writers: Writers,
    /// Outputs that could not be written.
    pub(super) failed: Vec<WriteFailed>,
}

impl Rows {
    /// Starts it. With `live` rows are handed to the kernel whenever there is time.
    pub(super) fn start(writers: Writers, context: Context, live: bool) -> io::Result<Rows> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (give_back, given_back) = channel();
        let written = Written {
            pool: Pool::default(),
            run: Summary::default(),
            writers,
            failed: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("probe-rows".to_owned())
            .spawn(move || written.run(&receiver, &give_back, context, live))?;
        Ok(Rows {
            batch: Vec::with_capacity(BATCH),
            sender,
            given_back,
            spent: Vec::new(),
            thread,
        })
    }

    /// Takes a flow. Returns false where nobody is left to read what is written.
    pub(super) fn take(&mut self, ended: Ended) -> bool {
        self.batch.push(ended);
        self.batch.len() < BATCH || self.hand_on()
    }

    /// A flow whose record was written, if there is one.
    pub(super) fn spent(&mut self) -> Option<Ended> {
        if self.spent.is_empty() {
            self.spent = self.given_back.try_recv().ok()?;
        }
        self.spent.pop()
    }

    /// Hands on what was taken so far. Returns false where nobody is left to read what is written.
    pub(super) fn hand_on(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let full = mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.sender.send(Job::Ended(full)).is_ok()
    }

    /// Flows that are taken from here on belong to another run. Returns false where nobody is left to
    /// read what is written.
    pub(super) fn begin_run(&mut self, context: Context) -> bool {
        self.hand_on() && self.sender.send(Job::Context(context)).is_ok()
    }

    /// Waits until everything is written.
    pub(super) fn finish(mut self) -> Written {
        self.hand_on();
        drop(self.sender);
        match self.thread.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Written {
    fn run(
        mut self,
        jobs: &Receiver<Job>,
        give_back: &Sender<Vec<Ended>>,
        mut context: Context,
        live: bool,
    ) -> Written {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Ended(mut batch) => {
                    self.write(&mut batch, &context);
                    // Towards the end nobody wants them any more.
                    let _ = give_back.send(batch);
                }
                Job::Context(of_run) => {
                    self.end_run(&context);
                    context = of_run;
                }
            }
            if live {
                let failed = self.writers.flush();
                self.failed.extend(failed);
            }
            if self.writers.is_empty() && !self.failed.is_empty() {
                break;
            }
        }
        self.end_run(&context);
        let failed = self.writers.flush();
        self.failed.extend(failed);
        self
    }

    fn end_run(&mut self, context: &Context) {
        let run = mem::take(&mut self.run);
        if run.connections > 0 {
            self.pool.add(&run, context.signal, true);
        }
    }

    fn write(&mut self, batch: &mut [Ended], context: &Context) {
        for ended in batch {
            let record = ended.record();
            self.run.add(&record);
            let failed = self.writers.write(&record, context);
            self.failed.extend(failed);
        }
    }
}
