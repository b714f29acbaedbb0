//! A thread of its own that joins what sockets and wire say, and writes each record as soon as it is
//! complete: disks and formats never hold the schedule up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::outputs::{WriteFailed, Writers};
use crate::observe::packet::Batch;
use crate::outcome::Attempt;
use crate::record::{Join, Record};
use crate::report::Context;
use crate::report::events::ControlEvent;
use crate::summary::Summary;
use crate::time::{Clock, Stamp};
use crate::wire::Packet;

/// Messages under way at most; a sender that is ahead by more waits.
const QUEUE: usize = 256;
/// How often rows are handed to the kernel.
const FLUSH: Duration = Duration::from_millis(100);
/// How long the wire is waited for at the end. It reports every few milliseconds even when silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the recorder is told.
pub(super) enum Message {
    /// What the wire showed.
    Wire(Batch),
    /// Attempts that ended.
    Ended(Vec<Attempt>),
    /// The first trigger is being pulled: the instant before.
    Signal(Stamp),
    /// The server's main process exited.
    TargetDead(Stamp),
    /// Something done to the server or seen of it.
    Control(ControlEvent),
    /// No attempt will follow.
    Done,
}

/// What was recorded.
pub(super) struct Recorded {
    /// In numbers.
    pub(super) summary: Summary,
    /// Outputs that could not be written.
    pub(super) failed: Vec<WriteFailed>,
}

/// The running recorder.
pub(super) struct Recorder {
    sender: SyncSender<Message>,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<Recorded>,
}

impl Recorder {
    /// Starts recording. With `await_signal` rows are held until the first trigger is pulled, because
    /// each says how it lies to that moment.
    pub(super) fn start(
        join: Join,
        writers: Writers,
        run_id: String,
        await_signal: bool,
        clock: Clock,
    ) -> std::io::Result<Recorder> {
        let (sender, receiver) = sync_channel(QUEUE);
        let failed = Arc::new(AtomicBool::new(false));
        let work = Work {
            join,
            writers,
            context: Context {
                run_id,
                ..Context::default()
            },
            held: await_signal.then(Vec::new),
            controls: Vec::new(),
            summary: Summary::default(),
            failed: Vec::new(),
            failed_flag: Arc::clone(&failed),
            clock,
            flushed: clock.now(),
            done: None,
        };
        let thread = thread::Builder::new()
            .name("probe-recorder".to_owned())
            .spawn(move || work.run(&receiver))?;
        Ok(Recorder {
            sender,
            failed,
            thread,
        })
    }

    /// For another thread that has something to tell.
    pub(super) fn sender(&self) -> SyncSender<Message> {
        self.sender.clone()
    }

    /// Tells it something.
    pub(super) fn tell(&self, message: Message) {
        // It only stops listening when it has panicked, which stop() then shows.
        let _ = self.sender.send(message);
    }

    /// Whether an output could not be written, and the run had better end.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until everything is written.
    pub(super) fn finish(self) -> Recorded {
        self.tell(Message::Done);
        drop(self.sender);
        match self.thread.join() {
            Ok(recorded) => recorded,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

struct Work {
    join: Join,
    writers: Writers,
    context: Context,
    /// Records that wait for the first trigger.
    held: Option<Vec<Record>>,
    /// Events of the run, written at the end.
    controls: Vec<ControlEvent>,
    summary: Summary,
    failed: Vec<WriteFailed>,
    failed_flag: Arc<AtomicBool>,
    clock: Clock,
    flushed: Stamp,
    done: Option<Stamp>,
}

impl Work {
    fn run(mut self, receiver: &Receiver<Message>) -> Recorded {
        loop {
            match receiver.recv_timeout(FLUSH) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.write_complete();
            let now = self.clock.now();
            if now >= self.flushed + FLUSH {
                self.flush();
                self.flushed = now;
            }
            let given_up = self.done.is_some_and(|done| now > done + PATIENCE);
            if self.done.is_some() && (self.join.waiting() == 0 || given_up) {
                break;
            }
        }
        self.finish()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Wire(batch) => {
                for packet in &batch.packets {
                    match packet {
                        Packet::Segment(segment) => self.join.segment(segment),
                        Packet::IcmpError(error) => self.join.icmp(error),
                        Packet::Fragment | Packet::Other => {}
                    }
                }
                self.join.advance(batch.watermark);
            }
            Message::Ended(attempts) => {
                for attempt in attempts {
                    self.join.attempt(attempt);
                }
            }
            Message::Signal(at) => {
                self.context.signal.get_or_insert(at);
                self.release();
            }
            Message::TargetDead(at) => {
                self.context.target_dead.get_or_insert(at);
            }
            Message::Control(event) => self.controls.push(event),
            Message::Done => self.done = Some(self.clock.now()),
        }
    }

    fn write_complete(&mut self) {
        while let Some(record) = self.join.next_record() {
            self.summary.add(&record);
            match &mut self.held {
                Some(held) => held.push(record),
                None => self.write(&record),
            }
        }
    }

    /// Writes what was held: the first trigger was pulled, or none will be.
    fn release(&mut self) {
        for record in self.held.take().unwrap_or_default() {
            self.write(&record);
        }
    }

    fn write(&mut self, record: &Record) {
        let failed = self.writers.write(record, &self.context);
        self.fail(failed);
    }

    fn flush(&mut self) {
        let failed = self.writers.flush();
        self.fail(failed);
    }

    fn fail(&mut self, failed: Vec<WriteFailed>) {
        if !failed.is_empty() {
            self.failed_flag.store(true, Ordering::Relaxed);
            self.failed.extend(failed);
        }
    }

    fn finish(mut self) -> Recorded {
        self.join.finish();
        self.write_complete();
        self.release();
        for event in std::mem::take(&mut self.controls) {
            let failed = self.writers.write_control(&event, &self.context);
            self.fail(failed);
        }
        self.flush();
        Recorded {
            summary: self.summary,
            failed: self.failed,
        }
    }
}
