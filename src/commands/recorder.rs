//! A thread of its own that joins what sockets and wire say, counts each record as it is complete,
//! and hands it to the [`writer`](super::writer).

use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::outputs::Writers;
use super::spool::Spool;
use super::writer::{Job, Writer, Written};
use crate::event::Event;
use crate::kernel::{Course, Poll, Queue, Tables};
use crate::observe::packet::{Batch, Caught, Raw};
use crate::observe::trace::TraceBatch;
use crate::outcome::Attempt;
use crate::record::Join;
use crate::report::Context;
use crate::summary::Summary;
use crate::time::{Clock, Stamp};
use crate::wire::Packet;

/// Messages under way at most; a sender that is ahead by more waits. Nothing but computing holds
/// the recorder up.
const QUEUE: usize = 256;
/// How long the wire is waited for at the end. It reports every few milliseconds even when silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the recorder is told.
pub(super) enum Message {
    /// What the wire showed.
    Wire(Batch),
    /// What tracepoints saw.
    Trace(TraceBatch),
    /// What sock_diag answered.
    Diag(Poll),
    /// Attempts that ended, and that all that had ended before this were told.
    Ended(Vec<Attempt>, Stamp),
    /// No attempt will follow.
    Done,
}

/// What was recorded.
pub(super) struct Recorded {
    /// In numbers.
    pub(super) summary: Summary,
    /// What the server did, where tracepoints showed it.
    pub(super) course: Option<Course>,
    /// How long its queue was, where sock_diag told.
    pub(super) queue: Option<Queue>,
    /// Whether the server that answered is not the one that its kernel was asked about.
    pub(super) answered_elsewhere: bool,
    /// What was written.
    pub(super) written: Written,
}

/// The running recorder.
pub(super) struct Recorder {
    sender: SyncSender<Message>,
    writer: Writer,
    thread: JoinHandle<(Summary, Join)>,
}

impl Recorder {
    /// Starts recording. With `await_signal` rows are held until the first trigger is pulled.
    pub(super) fn start(
        join: Join,
        writers: Writers,
        spool: Option<Spool>,
        context: Context,
        await_signal: bool,
        clock: Clock,
    ) -> std::io::Result<Recorder> {
        let (sender, receiver) = sync_channel(QUEUE);
        let writer = Writer::start(writers, spool, context, await_signal, clock)?;
        let work = Work {
            join,
            writer: writer.sender(),
            summary: Summary::default(),
            clock,
            done: None,
        };
        let thread = thread::Builder::new()
            .name("probe-recorder".to_owned())
            .spawn(move || work.run(&receiver))?;
        Ok(Recorder {
            sender,
            writer,
            thread,
        })
    }

    /// For another thread that has something to tell.
    pub(super) fn sender(&self) -> SyncSender<Message> {
        self.sender.clone()
    }

    /// Takes attempts that ended: with them all that had ended before `to`.
    pub(super) fn ended(&self, attempts: Vec<Attempt>, to: Stamp) {
        self.tell(Message::Ended(attempts, to));
    }

    /// The first trigger is being pulled: the instant before.
    pub(super) fn signal(&self, at: Stamp) {
        self.writer.tell(Job::Signal(at));
    }

    /// The server's main process exited.
    pub(super) fn target_dead(&self, at: Stamp) {
        self.writer.tell(Job::TargetDead(at));
    }

    /// Something was done to the server, or seen of it.
    pub(super) fn event(&self, event: Event) {
        self.writer.tell(Job::Events(vec![event]));
    }

    fn tell(&self, message: Message) {
        // It only stops listening when it has panicked, which finish() then shows.
        let _ = self.sender.send(message);
    }

    /// Whether no output is left to write to, and the run had better end.
    pub(super) fn has_failed(&self) -> bool {
        self.writer.has_failed()
    }

    /// Waits until everything is written.
    pub(super) fn finish(self) -> Recorded {
        self.tell(Message::Done);
        drop(self.sender);
        let (summary, mut join) = match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let Tables { trace, diag } = std::mem::take(join.kernel());
        Recorded {
            summary,
            course: trace.map(|table| table.course().clone()),
            queue: diag.map(|table| table.queue().clone()),
            answered_elsewhere: join.was_answered_elsewhere(),
            written: self.writer.finish(),
        }
    }
}

struct Work {
    join: Join,
    writer: Sender<Job>,
    summary: Summary,
    clock: Clock,
    done: Option<Stamp>,
}

impl Work {
    fn run(mut self, messages: &Receiver<Message>) -> (Summary, Join) {
        while let Ok(message) = messages.recv() {
            self.take(message);
            self.hand_on();
            let given_up = self
                .done
                .is_some_and(|done| self.clock.now() > done + PATIENCE);
            if self.done.is_some() && (self.join.waiting() == 0 || given_up) {
                break;
            }
        }
        self.join.finish();
        self.hand_on();
        (self.summary, self.join)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Wire(batch) => {
                let packets = self.packets(batch.packets);
                if !packets.is_empty() {
                    // As with records: they come before those that they belong to.
                    let _ = self.writer.send(Job::Packets(packets));
                }
                self.join.advance(batch.watermark);
            }
            Message::Trace(batch) => self.trace(batch),
            Message::Diag(poll) => self.diag(&poll),
            Message::Ended(attempts, to) => {
                for attempt in attempts {
                    self.join.attempt(attempt);
                }
                self.join.advance_attempts(to);
            }
            Message::Done => self.done = Some(self.clock.now()),
        }
    }

    fn trace(&mut self, batch: TraceBatch) {
        let Some(table) = &mut self.join.kernel().trace else {
            return;
        };
        batch.lost.into_iter().for_each(|lost| table.lose(lost));
        let events = batch.events.iter();
        let events: Vec<Event> = events.filter_map(|event| table.push(event)).collect();
        table.advance(batch.watermark);
        self.join.advance_kernel(batch.watermark);
        self.events(events);
    }

    fn diag(&mut self, poll: &Poll) {
        if let Some(table) = &mut self.join.kernel().diag {
            let events = table.push(poll).into_iter().collect();
            self.join.advance_kernel(poll.asked);
            self.events(events);
        }
    }

    fn events(&self, events: Vec<Event>) {
        if !events.is_empty() {
            // As with records.
            let _ = self.writer.send(Job::Events(events));
        }
    }

    /// Takes packets, and gives back those that are kept, with the numbers of their flows.
    fn packets(&mut self, packets: Vec<Caught>) -> Vec<(u64, Raw)> {
        let mut kept = Vec::new();
        for Caught { packet, raw } in packets {
            let flow = match &packet {
                Packet::Segment(segment) => self.join.segment(segment),
                Packet::IcmpError(error) => self.join.icmp(error),
                Packet::Fragment | Packet::Other => None,
            };
            kept.extend(flow.zip(raw));
        }
        kept
    }

    /// Hands on what is complete.
    fn hand_on(&mut self) {
        let mut records = Vec::new();
        while let Some(record) = self.join.next_record() {
            self.summary.add(&record);
            records.push(record);
        }
        if !records.is_empty() {
            // The writer only stops listening when it has panicked, which its end then shows.
            let _ = self.writer.send(Job::Records(records));
        }
    }
}
