//! `probe read`: a capture that somebody took, classified by the same rules as a live run.

mod input;
mod rows;
mod runs;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::mem;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use self::input::{Input, Pipe, Waited};
use self::rows::{Rows, Written};
use self::runs::{Runs, Section};
use super::ending::{Failures, gate_failure, print_table};
use super::interrupt::Interrupt;
use super::outputs::{self, OpenOutputs, WriteFailed};
use super::{command_line, tell};
use crate::cli::ReadArgs;
use crate::observe::capture::{CaptureReader, Content, Copies, Frame, Held, Point, Sorter};
use crate::outcome::Outcome;
use crate::plan::read::ReadPlan;
use crate::record::Reading;
use crate::report::Context;
use crate::report::read::{CaptureReport, ReadReport};
use crate::report::run::{SCHEMA, SummaryReport};
use crate::report::table::{self, Setting, plural};
use crate::time::Stamp;
use crate::wire::{self, Packet};

/// Reads a capture and says what happened to each connection.
pub(super) fn run(args: ReadArgs, words: &[OsString]) -> Result<ExitCode> {
    let plan = ReadPlan::check(args)?;
    let file = plan.file.as_deref();
    let name = file.map_or_else(|| "stdin".to_owned(), |file| file.display().to_string());
    let interrupt = Interrupt::catch().context("cannot catch SIGINT and SIGTERM")?;
    let input = Input::open(file, !plan.outputs.quiet, &interrupt)?;
    let pipe = input.pipe();
    let reader = match CaptureReader::open(input) {
        Ok(reader) => reader,
        Err(error) => match interrupt.exit_code() {
            Some(code) => return Ok(ExitCode::from(code)),
            None => return Err(anyhow!("{name}: {error}")),
        },
    };
    let mut opened = outputs::open(&plan.outputs)?;
    let context = Context {
        run_id: run_id(file),
        signal: plan.signal,
        ..Context::default()
    };
    let mut work = Work {
        runs: Runs::new(context.clone()),
        reading: Reading::new(plan.side, opened.writers.wants_steps()),
        rows: Rows::start(mem::take(&mut opened.writers), context, pipe.is_some())
            .context("cannot start a thread")?,
        pipe,
        interrupt,
        newest: None,
        sorter: Sorter::default(),
        copies: Copies::default(),
        capture: CaptureReport::default(),
    };
    work.read(reader)?;
    let finished = work.finish(opened, words);
    let code = finished.report(&name, &plan);
    // The process ends with this: flows by the ten thousand need not be freed one by one before.
    mem::forget(finished.reading);
    Ok(ExitCode::from(code))
}

/// Rows of the same file have the same name each time.
fn run_id(file: Option<&Path>) -> String {
    let stem = file.and_then(Path::file_stem);
    stem.map_or_else(
        || "stdin".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

/// A reading under way.
struct Work {
    runs: Runs,
    reading: Reading,
    rows: Rows,
    pipe: Option<Rc<Pipe>>,
    interrupt: Interrupt,
    /// The time of the newest packet, and when it was read.
    newest: Option<(Stamp, Stamp)>,
    sorter: Sorter,
    copies: Copies,
    capture: CaptureReport,
}

impl Work {
    /// Reads until the end, until somebody interrupts, or until nobody is left who reads what is
    /// written.
    fn read(&mut self, mut reader: CaptureReader<Input>) -> Result<()> {
        while self.hand_on() {
            if reader.is_drained()
                && let Some(pipe) = self.pipe.clone()
                && !self.wait_for(&pipe)?
            {
                break;
            }
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    if let Some(section) = self.runs.section(frame.run) {
                        self.begin_section(section);
                    }
                    self.frame(&frame);
                }
                Ok(None) => break,
                Err(error) => {
                    self.capture.error = Some(error.to_string());
                    break;
                }
            }
        }
        self.take_all();
        self.capture.unordered = self.sorter.late();
        self.capture.drops = reader.drops();
        // Where it was left in the middle of a packet, that is our doing.
        self.capture.cut_off_at_byte = reader.cut_off().filter(|_| !self.interrupt.came());
        Ok(())
    }

    /// Waits for a live capture's next packet; meanwhile connections end. Returns false where none is
    /// to be waited for.
    fn wait_for(&mut self, pipe: &Pipe) -> Result<bool> {
        loop {
            let waited = pipe.wait().context("cannot wait for stdin")?;
            if waited != Waited::Quiet {
                return Ok(waited == Waited::Ready);
            }
            self.take_all();
            self.newest = self.reading.span().map(|(_, last)| match self.newest {
                Some((newest, read)) if newest == last => (newest, read),
                Some(_) | None => (last, pipe.now()),
            });
            if let Some((newest, read)) = self.newest {
                let since = u64::try_from(pipe.now().since(read)).unwrap_or(0);
                self.reading.pass(newest + Duration::from_nanos(since));
            }
            if !self.hand_on() || !self.rows.hand_on() {
                return Ok(false);
            }
        }
    }

    /// Hands on what has ended. Returns false where nobody is left to read what is written.
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

    /// Another run's section begins, or somebody's behind one.
    fn begin_section(&mut self, Section { run, context }: Section) {
        self.take_all();
        self.reading.begin_section(run);
        // What has ended before belongs to the section before.
        self.hand_on();
        self.rows.begin_run(context);
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let (bytes, len) = match frame.content {
            Content::Ip { bytes, len } => (bytes, len),
            Content::Duplicate => {
                self.capture.duplicates += 1;
                return;
            }
            Content::Other => {
                self.capture.other += 1;
                return;
            }
        };
        self.capture.packets += 1;
        let Some(at) = frame.at else {
            self.capture.untimed += 1;
            return;
        };
        if let Some(run) = frame.run {
            // What a run wrote stands in order.
            self.take_all();
            let packet = self.parse(at, bytes, len);
            if let Some(packet) = packet {
                self.packet(&packet, None);
                if let Some(account) = run.socket {
                    self.reading.account(&packet, account);
                }
            }
            return;
        }
        self.sorter.push(at, frame.point, bytes, len);
        while let Some(held) = self.sorter.pop() {
            self.held(held);
        }
    }

    /// What is held comes now: nothing earlier is to be expected.
    fn take_all(&mut self) {
        while let Some(held) = self.sorter.take() {
            self.held(held);
        }
    }

    fn held(&mut self, held: Held) {
        if let Some(packet) = self.parse(held.at, &held.bytes, held.len) {
            self.packet(&packet, held.point);
        }
        self.sorter.reuse(held);
    }

    fn parse<'a>(&mut self, at: Stamp, bytes: &'a [u8], len: usize) -> Option<Packet<'a>> {
        let packet = wire::parse(at, bytes, len).ok();
        self.capture.malformed += u64::from(packet.is_none());
        packet
    }

    fn packet(&mut self, packet: &Packet, point: Option<Point>) {
        match packet {
            Packet::Segment(segment) => {
                if point.is_some_and(|point| self.copies.is_copy(segment, point)) {
                    self.capture.duplicates += 1;
                } else {
                    self.reading.segment(segment);
                }
            }
            Packet::IcmpError(error) => self.reading.icmp(error),
            Packet::Fragment => self.capture.fragments += 1,
            Packet::Other => {}
        }
    }

    /// Waits until everything is written.
    fn finish(mut self, opened: OpenOutputs, words: &[OsString]) -> Finished {
        self.reading.finish();
        self.hand_on();
        self.capture.unplaced = self.reading.unplaced();
        self.capture.late = self.reading.late();
        if let Some((first, last)) = self.reading.span() {
            self.capture.first_unix_ns = Some(first.0);
            self.capture.last_unix_ns = Some(last.0);
        }
        let written = self.rows.finish();
        self.capture.missing_bytes = written.summary.missing;
        let mut finished = Finished {
            reading: self.reading,
            written,
            capture: self.capture,
            interrupt: self.interrupt,
            opened,
            context: self.runs.whole(),
            recorded_by: self.runs.recorded_by(),
        };
        if let Err(failed) = finished.write_run_json(words) {
            finished.written.failed.push(failed);
        }
        finished
    }
}

/// A capture that was read.
struct Finished {
    reading: Reading,
    written: Written,
    capture: CaptureReport,
    interrupt: Interrupt,
    opened: OpenOutputs,
    context: Context,
    /// Whose own capture it is, in words.
    recorded_by: Option<String>,
}

impl Finished {
    fn write_run_json(&mut self, words: &[OsString]) -> Result<(), WriteFailed> {
        let fail = |error: io::Error| WriteFailed {
            name: "run.json".to_owned(),
            error,
        };
        let files = self.opened.open_run(None, false);
        let files = files.map_err(|error| fail(io::Error::other(error.to_string())))?;
        let Some((_, file)) = &files.run else {
            return Ok(());
        };
        let report = ReadReport {
            schema: SCHEMA,
            run_id: self.context.run_id.clone(),
            probe_version: env!("CARGO_PKG_VERSION"),
            command: command_line(words),
            servers: self.servers(),
            interrupted: self.interrupt.came(),
            capture: self.capture.clone(),
            summary: SummaryReport::new(&self.written.summary, self.context.signal),
        };
        serde_json::to_writer_pretty(file, &report).map_err(|error| fail(error.into()))
    }

    fn servers(&self) -> BTreeMap<String, u64> {
        let servers = self.reading.servers().iter();
        servers.map(|(at, &n)| (at.to_string(), n)).collect()
    }

    fn setting(&self) -> Setting {
        let span = self.reading.span();
        Setting {
            target: self.target(),
            took_ns: span.map_or(0, |(first, last)| last.since(first)),
            triggers: Vec::new(),
            signal: self.context.signal,
            notes: self.notes(),
        }
    }

    /// Which ends were taken for servers.
    fn target(&self) -> String {
        let servers = self.reading.servers();
        match servers.iter().max_by_key(|&(_, n)| n) {
            None => "no server".to_owned(),
            Some((only, _)) if servers.len() == 1 => only.to_string(),
            Some((most, n)) => format!("{} servers, {n} of them to {most},", servers.len()),
        }
    }

    fn notes(&self) -> Vec<String> {
        let capture = &self.capture;
        let mut notes = vec![format!(
            "{} IP {} in the capture",
            capture.packets,
            plural(capture.packets, "packet")
        )];
        notes.extend(self.recorded_by.clone());
        for (n, what) in [
            (capture.duplicates, "seen a second time by the same capture"),
            (
                capture.unordered,
                "that stood too far from their place, taken where they stood",
            ),
            (capture.fragments, "that are fragments, not put together"),
            (capture.malformed, "that cannot be read"),
            (capture.untimed, "without a time, left out"),
            (
                capture.unplaced,
                "of connections whose beginning is missing; --port says which end is the server",
            ),
            (
                capture.drops.unwrap_or(0),
                "that the capture itself says it dropped",
            ),
        ] {
            if n > 0 {
                notes.push(format!("{n} {} {what}", plural(n, "packet")));
            }
        }
        let missing = capture.missing_bytes;
        if missing > 0 {
            let bytes = plural(missing, "byte");
            notes.push(format!(
                "{missing} {bytes} of these connections must have been and {} not in the capture",
                if missing == 1 { "is" } else { "are" }
            ));
        }
        if self.interrupt.came() {
            notes.push("interrupted: this is what was read until then".to_owned());
        }
        if let Some(offset) = capture.cut_off_at_byte {
            notes.push(format!(
                "the file is cut off in the middle of a packet, at byte {offset}: everything before \
                 it was read"
            ));
        }
        notes
    }

    /// Prints the table and what went wrong, and says how to exit.
    fn report(&self, name: &str, plan: &ReadPlan) -> u8 {
        let mut failures = Failures::default();
        for failed in &self.written.failed {
            failures.add("", &failed.name, &failed.error);
        }
        if !plan.outputs.quiet {
            let text = table::render(&self.written.summary, &self.setting());
            print_table(&text, self.opened.stdout_taken, &mut failures);
        }
        if let Some(offset) = self.capture.cut_off_at_byte {
            tell(&format!(
                "{name} is cut off in the middle of a packet, at byte {offset}"
            ));
        }
        if let Some(error) = &self.capture.error {
            tell(&format!("{name}: {error}; everything before it was read"));
        }
        failures.tell();
        if self.capture.error.is_some() || !failures.is_empty() {
            return 2;
        }
        if let Some(code) = self.interrupt.exit_code() {
            return code;
        }
        let summary = &self.written.summary;
        let unserved = (summary.count(Outcome::Served) == 0).then(String::new);
        let why = |max_lost| gate_failure(summary, max_lost, unserved);
        let Some(why) = plan.max_lost.and_then(why) else {
            return 0;
        };
        tell(&format!("gate failed: {why}"));
        1
    }
}
