//! A thread of its own that reads packets and follows their connections, while the file is read on and
//! the rows of those that have ended are written. How far one may be ahead of the other is bounded.

use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::rows::{Rows, Written};
use super::runs::Section;
use crate::observe::capture::{Copies, Point, Sorted};
use crate::record::Reading;
use crate::time::Stamp;
use crate::wire::{self, Packet};

/// Frames that are handed on together: some 100 KiB where headers were captured. With fewer of them
/// the threads wake each other more often.
const BATCH: usize = 1_024;
/// What frames handed on together may hold at most, where they are large.
const BATCH_BYTES: usize = 256 << 10;
/// Such batches under way at most.
const QUEUE: usize = 4;

/// The thread at work.
pub(super) struct Flows {
    batch: Batch,
    sender: SyncSender<Job>,
    /// Batches that were dealt with come back, for the memory that they take.
    given_back: Receiver<Batch>,
    thread: JoinHandle<Followed>,
}

/// What it is told.
enum Job {
    /// Frames, in order.
    Frames(Batch),
    /// Another run's section begins, or somebody's behind one.
    Section(Section),
    /// So late it is on the clock that waits for a pipe, and nothing came.
    Wait(Stamp),
}

/// Frames that are handed on together.
#[derive(Default)]
struct Batch {
    frames: Vec<Batched>,
    /// The bytes of one behind those of the other.
    bytes: Vec<u8>,
}

struct Batched {
    at: Stamp,
    point: Option<Point>,
    captured: usize,
    len: usize,
    /// What the run that recorded it says of its connection, whose last packet it is.
    account: Option<Box<str>>,
}

/// What it has done.
pub(super) struct Followed {
    pub(super) reading: Reading,
    pub(super) written: Written,
    /// Copies of packets, as they crossed another interface.
    pub(super) duplicates: u64,
    pub(super) fragments: u64,
    pub(super) malformed: u64,
}

impl Flows {
    /// Starts it.
    pub(super) fn start(reading: Reading, rows: Rows) -> io::Result<Flows> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (give_back, given_back) = channel();
        let work = Work {
            reading,
            rows,
            copies: Copies::default(),
            newest: None,
            duplicates: 0,
            fragments: 0,
            malformed: 0,
        };
        let thread = thread::Builder::new()
            .name("probe-flows".to_owned())
            .spawn(move || work.run(&receiver, &give_back))?;
        Ok(Flows {
            batch: Batch::default(),
            sender,
            given_back,
            thread,
        })
    }

    /// Takes the next frame, and what is said of its connection where that ends with it. Returns false
    /// where nobody is left to read what is written.
    pub(super) fn take(&mut self, frame: Sorted<'_>, account: Option<&str>) -> bool {
        self.batch.frames.push(Batched {
            at: frame.at,
            point: frame.point,
            captured: frame.bytes.len(),
            len: frame.len,
            account: account.map(Box::from),
        });
        self.batch.bytes.extend_from_slice(frame.bytes);
        let is_full = self.batch.frames.len() >= BATCH || self.batch.bytes.len() >= BATCH_BYTES;
        !is_full || self.hand_on()
    }

    /// Frames that are taken from here on belong to another section.
    pub(super) fn begin_section(&mut self, section: Section) -> bool {
        self.hand_on() && self.sender.send(Job::Section(section)).is_ok()
    }

    /// Nothing came until `now`: rows of what has ended meanwhile are written.
    pub(super) fn wait(&mut self, now: Stamp) -> bool {
        self.hand_on() && self.sender.send(Job::Wait(now)).is_ok()
    }

    fn hand_on(&mut self) -> bool {
        if self.batch.frames.is_empty() {
            return true;
        }
        let next = self.given_back.try_recv().unwrap_or_default();
        let full = mem::replace(&mut self.batch, next);
        self.sender.send(Job::Frames(full)).is_ok()
    }

    /// Waits until everything is written.
    pub(super) fn finish(mut self) -> Followed {
        self.hand_on();
        drop(self.sender);
        match self.thread.join() {
            Ok(followed) => followed,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// What the thread works with.
struct Work {
    reading: Reading,
    rows: Rows,
    copies: Copies,
    /// The time of the newest packet, and when it was read.
    newest: Option<(Stamp, Stamp)>,
    duplicates: u64,
    fragments: u64,
    malformed: u64,
}

impl Work {
    fn run(mut self, jobs: &Receiver<Job>, give_back: &Sender<Batch>) -> Followed {
        while let Ok(job) = jobs.recv() {
            let is_read = match job {
                Job::Frames(mut batch) => {
                    let is_read = self.frames(&batch);
                    batch.frames.clear();
                    batch.bytes.clear();
                    // What one very large frame took is not kept.
                    batch.bytes.shrink_to(2 * BATCH_BYTES);
                    // Towards the end nobody wants it any more.
                    let _ = give_back.send(batch);
                    is_read
                }
                Job::Section(section) => self.begin_section(section),
                Job::Wait(now) => self.wait(now),
            };
            if !is_read {
                break;
            }
        }
        self.reading.finish();
        self.hand_on();
        Followed {
            reading: self.reading,
            written: self.rows.finish(),
            duplicates: self.duplicates,
            fragments: self.fragments,
            malformed: self.malformed,
        }
    }

    /// As everything here that hands on: returns false where nobody is left to read what is written.
    fn frames(&mut self, batch: &Batch) -> bool {
        let mut rest = &*batch.bytes;
        for frame in &batch.frames {
            let (bytes, behind) = rest.split_at(frame.captured);
            rest = behind;
            match wire::parse(frame.at, bytes, frame.len) {
                Ok(packet) => {
                    self.packet(&packet, frame.point);
                    if let Some(account) = &frame.account {
                        self.reading.account(&packet, account);
                    }
                }
                Err(_) => self.malformed += 1,
            }
        }
        self.hand_on()
    }

    fn packet(&mut self, packet: &Packet, point: Option<Point>) {
        match packet {
            Packet::Segment(segment) => {
                if point.is_some_and(|point| self.copies.is_copy(segment, point)) {
                    self.duplicates += 1;
                } else {
                    self.reading.segment(segment);
                }
            }
            Packet::IcmpError(error) => self.reading.icmp(error),
            Packet::Fragment => self.fragments += 1,
            Packet::Other => {}
        }
    }

    fn begin_section(&mut self, Section { run, context }: Section) -> bool {
        self.reading.begin_section(run);
        // What has ended before belongs to the section before.
        self.hand_on() && self.rows.begin_run(context)
    }

    /// Connections end by time alone, too.
    fn wait(&mut self, now: Stamp) -> bool {
        self.newest = self.reading.span().map(|(_, last)| match self.newest {
            Some((newest, read)) if newest == last => (newest, read),
            Some(_) | None => (last, now),
        });
        if let Some((newest, read)) = self.newest {
            let since = u64::try_from(now.since(read)).unwrap_or(0);
            self.reading.pass(newest + Duration::from_nanos(since));
        }
        self.hand_on() && self.rows.hand_on()
    }

    /// Hands on what has ended.
    fn hand_on(&mut self) -> bool {
        while let Some(ended) = self.reading.next_ended() {
            if !self.rows.take(ended) {
                return false;
            }
            while let Some(spent) = self.rows.spent() {
                self.reading.reuse(spent);
            }
        }
        true
    }
}
