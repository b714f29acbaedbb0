//! `probe read`: a capture that somebody took, classified by the same rules as a live run.

mod flows;
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

use anyhow::{Context as _, Result, anyhow};

use self::flows::{Flows, Followed};
use self::input::{Input, Pipe, Waited};
use self::rows::Rows;
use self::runs::Runs;
use super::ending::{Failures, gate_failure, print_table};
use super::interrupt::Interrupt;
use super::outputs::{self, OpenOutputs, WriteFailed};
use super::{command_line, tell};
use crate::cli::ReadArgs;
use crate::observe::capture::{CaptureReader, Content, Frame, Sorted, Sorter};
use crate::outcome::Outcome;
use crate::plan::read::ReadPlan;
use crate::record::Reading;
use crate::report::Context;
use crate::report::course::CourseReport;
use crate::report::read::{CaptureReport, ReadReport};
use crate::report::run::{SCHEMA, SummaryReport};
use crate::report::table::{self, PoolSetting, Setting};
use crate::report::words::plural;
use crate::summary::Pool;

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
    let runs = Runs::new(context.clone());
    let reading = Reading::new(plan.side, opened.writers.wants_steps());
    let flows = Rows::start(mem::take(&mut opened.writers), context, pipe.is_some())
        .and_then(|rows| Flows::start(reading, rows))
        .context("cannot start a thread")?;
    let mut work = Work {
        runs,
        flows,
        pipe,
        interrupt,
        sorter: Sorter::default(),
        capture: CaptureReport::default(),
    };
    work.read(reader)?;
    let finished = work.finish(opened, words);
    let code = finished.report(&name, &plan);
    // The process ends with this: flows by the ten thousand need not be freed one by one before.
    mem::forget(finished.followed.reading);
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

/// A reading under way: from the file to frames in order. What comes of them is left to [`Flows`].
struct Work {
    runs: Runs,
    flows: Flows,
    pipe: Option<Rc<Pipe>>,
    interrupt: Interrupt,
    sorter: Sorter,
    capture: CaptureReport,
}

impl Work {
    /// Reads until the end, until somebody interrupts, or until nobody is left who reads what is
    /// written.
    fn read(&mut self, mut reader: CaptureReader<Input>) -> Result<()> {
        loop {
            if reader.is_drained()
                && let Some(pipe) = self.pipe.clone()
                && !self.wait_for(&pipe)?
            {
                break;
            }
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    if !self.frame(&frame) {
                        break;
                    }
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
            if !self.take_all() || !self.flows.wait(pipe.now()) {
                return Ok(false);
            }
        }
    }

    /// Returns false where nobody is left to read what is written.
    fn frame(&mut self, frame: &Frame<'_>) -> bool {
        if let Some(section) = self.runs.section(frame.run)
            && !(self.take_all() && self.flows.begin_section(section))
        {
            return false;
        }
        let (bytes, len) = match frame.content {
            Content::Ip { bytes, len } => (bytes, len),
            Content::Duplicate => {
                self.capture.duplicates += 1;
                return true;
            }
            Content::Other => {
                self.capture.other += 1;
                return true;
            }
        };
        self.capture.packets += 1;
        let Some(at) = frame.at else {
            self.capture.untimed += 1;
            return true;
        };
        let mut sorted = Sorted {
            at,
            point: frame.point,
            bytes,
            len,
        };
        if let Some(run) = frame.run {
            // What a run wrote stands in order.
            sorted.point = None;
            return self.take_all() && self.flows.take(sorted, run.socket);
        }
        self.sorter.push(sorted);
        while let Some(sorted) = self.sorter.pop() {
            if !self.flows.take(sorted, None) {
                return false;
            }
        }
        true
    }

    /// What is held comes now: nothing earlier is to be expected. Returns false where nobody is left to
    /// read what is written.
    fn take_all(&mut self) -> bool {
        while let Some(sorted) = self.sorter.take() {
            if !self.flows.take(sorted, None) {
                return false;
            }
        }
        true
    }

    /// Waits until everything is written.
    fn finish(self, opened: OpenOutputs, words: &[OsString]) -> Finished {
        let followed = self.flows.finish();
        let mut capture = self.capture;
        capture.duplicates += followed.duplicates;
        capture.fragments = followed.fragments;
        capture.malformed = followed.malformed;
        capture.unplaced = followed.reading.unplaced();
        capture.late = followed.reading.late();
        if let Some((first, last)) = followed.reading.span() {
            capture.first_unix_ns = Some(first.0);
            capture.last_unix_ns = Some(last.0);
        }
        capture.missing_bytes = followed.written.pool.summary.missing;
        let mut finished = Finished {
            followed,
            capture,
            interrupt: self.interrupt,
            opened,
            context: self.runs.whole(),
            recorded_by: self.runs.recorded_by(),
        };
        if let Err(failed) = finished.write_run_json(words) {
            finished.followed.written.failed.push(failed);
        }
        finished
    }
}

/// A capture that was read.
struct Finished {
    followed: Followed,
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
            summary: SummaryReport::new(&self.followed.written.pool.summary, self.context.signal),
        };
        serde_json::to_writer_pretty(file, &report).map_err(|error| fail(error.into()))
    }

    fn servers(&self) -> BTreeMap<String, u64> {
        let servers = self.followed.reading.servers().iter();
        servers.map(|(at, &n)| (at.to_string(), n)).collect()
    }

    fn setting(&self) -> Setting {
        let span = self.followed.reading.span();
        Setting {
            target: self.target(),
            took_ns: span.map_or(0, |(first, last)| last.since(first)),
            triggers: Vec::new(),
            signal: self.context.signal,
            course: CourseReport::default(),
            notes: self.notes(),
        }
    }

    fn pool_setting(&self, pool: &Pool) -> PoolSetting {
        PoolSetting {
            target: self.target(),
            runs: format!("{} runs", pool.runs()),
            triggers: Vec::new(),
            notes: self.notes(),
        }
    }

    /// Which ends were taken for servers.
    fn target(&self) -> String {
        let servers = self.followed.reading.servers();
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
        notes.extend(self.nothing_read());
        for (n, what) in [
            (capture.duplicates, "seen a second time by the same capture"),
            (
                capture.unordered,
                "that stood too far from their place, taken where they stood",
            ),
            (capture.fragments, "that are fragments, not put together"),
            (
                capture.malformed,
                "that cannot be read, or were cut inside their headers (tcpdump -s 96 holds those)",
            ),
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

    /// Why there is no connection, and what to do.
    fn nothing_read(&self) -> Option<String> {
        let reading = &self.followed.reading;
        if !reading.servers().is_empty() {
            return None;
        }
        if self.capture.packets == 0 {
            return Some(
                "let tcpdump run until a second after what it is to show: it hands packets on that late"
                    .to_owned(),
            );
        }
        let elsewhere = reading.elsewhere()?;
        Some(format!(
            "none of them is that server's: a SYN went to {elsewhere} (--port and --server say whose \
             connections are read)"
        ))
    }

    /// Prints the table and what went wrong, and says how to exit.
    fn report(&self, name: &str, plan: &ReadPlan) -> u8 {
        let mut failures = Failures::default();
        for failed in &self.followed.written.failed {
            failures.add("", &failed.name, &failed.error);
        }
        if !plan.outputs.quiet {
            let pool = &self.followed.written.pool;
            let text = if pool.runs() > 1 {
                table::render_pools(&[(None, pool)], &self.pool_setting(pool))
            } else {
                table::render(&pool.summary, &self.setting())
            };
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
        let summary = &self.followed.written.pool.summary;
        let unserved = (summary.count(Outcome::Served) == 0).then(String::new);
        let why = |max_lost| gate_failure(summary, max_lost, unserved);
        let Some(why) = plan.max_lost.and_then(why) else {
            return 0;
        };
        tell(&format!("gate failed: {why}"));
        1
    }
}
