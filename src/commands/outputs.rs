//! The files of a series of runs, mostly of one, and those of each run. All are opened before the
//! first SYN of what they are to hold.
#![expect(clippy::disallowed_types, reason = "output files are opened here")]

mod folder;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use self::folder::{Made, make_folder};
use crate::cli::Format;
use crate::event::Event;
use crate::plan::Outputs;
use crate::record::Record;
use crate::report::csv::CsvReport;
use crate::report::events::EventsReport;
use crate::report::{Context, heroku, ndjson};
use crate::sys::reason;

pub(super) use self::folder::RunFiles;

/// A buffered file or stdout.
type Sink = BufWriter<Box<dyn Write + Send>>;

/// server.log.
pub(super) type LogFile = File;

/// A file of a whole series, and where it lies.
pub(super) type SeriesFile = (PathBuf, File);

/// What records are written to.
#[derive(Default)]
pub(super) struct Writers {
    csv: Vec<Named<CsvReport<Sink>>>,
    json: Vec<Named<Sink>>,
    heroku: Vec<Named<Sink>>,
    events: Vec<Named<EventsReport<Sink>>>,
}

/// What packets are written to, a section for each run.
pub(super) struct PacketFile {
    name: String,
    to: Sink,
    /// Where it lies, if it is a file.
    folder: Option<PathBuf>,
}

struct Named<T> {
    name: String,
    to: T,
    /// Whether it lasts for one run of a series only.
    of_run: bool,
}

/// The outputs of a series.
pub(super) struct OpenOutputs {
    /// Those that records go to.
    pub(super) writers: Writers,
    /// What packets of all runs are written to.
    pub(super) pcap: Option<PacketFile>,
    /// Whether stdout is taken by records.
    pub(super) stdout_taken: bool,
    /// --out's.
    folder: Option<PathBuf>,
    made: Made,
}

impl OpenOutputs {
    /// Creates another file in --out's folder, if there is one.
    pub(super) fn create(&mut self, name: &str) -> Result<Option<SeriesFile>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let path = self.made.file(folder, name);
        let file = create(&path)?;
        Ok(Some((path, file)))
    }

    /// Takes the files of --out's folder away again: nothing was measured.
    pub(super) fn discard(self) {
        self.made.discard();
    }
}

/// An output could not be written.
#[derive(Debug)]
pub(super) struct WriteFailed {
    /// Which.
    pub(super) name: String,
    /// How.
    pub(super) error: io::Error,
}

/// Opens every output that records of all runs go to.
pub(super) fn open(outputs: &Outputs) -> Result<OpenOutputs> {
    let mut opened = OpenOutputs {
        writers: Writers::default(),
        pcap: None,
        stdout_taken: outputs.take_stdout(),
        folder: outputs.folder.clone(),
        made: Made::default(),
    };
    distinct(outputs)?;
    let writers = &mut opened.writers;
    let stdout = Some(PathBuf::from("-"));
    add(&mut writers.csv, outputs.csv.as_ref(), csv)?;
    add(&mut writers.events, outputs.events.as_ref(), events)?;
    add(&mut writers.json, outputs.json.as_ref(), lines)?;
    match outputs.format {
        Format::Table => {}
        Format::Csv => add(&mut writers.csv, stdout.as_ref(), csv)?,
        Format::Json => add(&mut writers.json, stdout.as_ref(), lines)?,
        Format::Heroku => add(&mut writers.heroku, stdout.as_ref(), lines)?,
    }
    opened.pcap = outputs.pcap.as_deref().map(PacketFile::open).transpose()?;
    if let Some(folder) = &outputs.folder {
        make_folder(folder)?;
        opened.writers.add_folder(folder, &mut opened.made)?;
    }
    Ok(opened)
}

fn csv(sink: Sink) -> Result<CsvReport<Sink>> {
    CsvReport::new(sink).context("cannot write the header")
}

fn events(sink: Sink) -> Result<EventsReport<Sink>> {
    EventsReport::new(sink).context("cannot write the header")
}

/// Lines have no header.
fn lines(sink: Sink) -> Result<Sink> {
    Ok(sink)
}

fn add<T>(
    list: &mut Vec<Named<T>>,
    path: Option<&PathBuf>,
    make: impl FnOnce(Sink) -> Result<T>,
) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let (sink, name) = sink(path)?;
    let to = make(sink).with_context(|| format!("cannot write {name}"))?;
    list.push(Named {
        name,
        to,
        of_run: false,
    });
    Ok(())
}

/// Opens an output; also how it is called.
fn sink(path: &Path) -> Result<(Sink, String)> {
    let (out, name): (Box<dyn Write + Send>, String) = if path == Path::new("-") {
        (Box::new(io::stdout()), "stdout".to_owned())
    } else {
        (Box::new(create(path)?), path.display().to_string())
    };
    Ok((BufWriter::with_capacity(64 * 1024, out), name))
}

/// Refuses two outputs that are one file under two names.
fn distinct(outputs: &Outputs) -> Result<()> {
    let stdout = Some(PathBuf::from("-")).filter(|_| outputs.format != Format::Table);
    let mut seen: Vec<(u64, u64)> = Vec::new();
    let named = [&outputs.csv, &outputs.events, &outputs.json, &outputs.pcap];
    for path in named.into_iter().chain([&stdout]).flatten() {
        let real = if path == Path::new("-") {
            Path::new("/proc/self/fd/1")
        } else {
            path
        };
        // Created, not emptied: what it is must be known first.
        let opened = OpenOptions::new().append(true).create(true).open(real);
        let Ok(meta) = opened.and_then(|file| file.metadata()) else {
            continue;
        };
        let identity = (meta.dev(), meta.ino());
        if seen.contains(&identity) {
            bail!(
                "two outputs would write the same file {}; give each its own",
                path.display()
            );
        }
        // Any number of outputs may be thrown away.
        if path != Path::new("/dev/null") {
            seen.push(identity);
        }
    }
    Ok(())
}

fn create(path: &Path) -> Result<File> {
    File::create(path).map_err(|error| {
        anyhow::anyhow!(
            "cannot write {}: {}; give a path whose folder exists and may be written to",
            path.display(),
            reason(&error)
        )
    })
}

impl Writers {
    /// Adds those of a run that begins.
    fn begin_run(&mut self, of_run: Writers) {
        self.csv.extend(of_run.csv.into_iter().map(Named::of_run));
        self.json.extend(of_run.json.into_iter().map(Named::of_run));
        self.events
            .extend(of_run.events.into_iter().map(Named::of_run));
    }

    /// Closes those of a run that has ended.
    pub(super) fn end_run(&mut self) {
        self.csv.retain(|named| !named.of_run);
        self.json.retain(|named| !named.of_run);
        self.events.retain(|named| !named.of_run);
    }

    /// Whether there is nothing to write to.
    pub(super) fn is_empty(&self) -> bool {
        let lines = self.json.is_empty() && self.heroku.is_empty();
        self.csv.is_empty() && lines && self.events.is_empty()
    }

    /// Whether anybody wants to know each step.
    pub(super) fn wants_steps(&self) -> bool {
        !self.events.is_empty()
    }

    /// Writes a record everywhere. An output that fails is given up; the others go on.
    pub(super) fn write(&mut self, record: &Record, run: &Context) -> Vec<WriteFailed> {
        let mut failed = Vec::new();
        each(&mut self.csv, &mut failed, |to| to.write(record, run));
        each(&mut self.json, &mut failed, |to| {
            ndjson::write(to, record, run)
        });
        each(&mut self.heroku, &mut failed, |to| {
            heroku::write(to, record, run)
        });
        each(&mut self.events, &mut failed, |to| to.write(record, run));
        failed
    }

    /// Writes an event of the run.
    pub(super) fn write_event(&mut self, event: &Event, run: &Context) -> Vec<WriteFailed> {
        let mut failed = Vec::new();
        each(&mut self.events, &mut failed, |to| {
            to.write_event(event, run)
        });
        failed
    }

    /// Hands everything to the kernel.
    pub(super) fn flush(&mut self) -> Vec<WriteFailed> {
        let mut failed = Vec::new();
        each(&mut self.csv, &mut failed, CsvReport::flush);
        each(&mut self.json, &mut failed, Write::flush);
        each(&mut self.heroku, &mut failed, Write::flush);
        each(&mut self.events, &mut failed, EventsReport::flush);
        failed
    }
}

impl PacketFile {
    fn open(path: &Path) -> Result<PacketFile> {
        let (to, name) = sink(path)?;
        let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
        let beside = path.parent().filter(|_| is_file && path != Path::new("-"));
        let folder = beside.map(|folder| Path::new(".").join(folder));
        Ok(PacketFile { name, to, folder })
    }

    /// Where there is room for what is to be written to it.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Writes a section.
    pub(super) fn write(
        mut self,
        section: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<PacketFile, WriteFailed> {
        match section(&mut self.to).and_then(|()| self.to.flush()) {
            Ok(()) => Ok(self),
            Err(error) => {
                let PacketFile { name, to, .. } = self;
                // As with the others: nothing of it is written once more.
                std::mem::forget(to);
                Err(WriteFailed { name, error })
            }
        }
    }
}

impl<T> Named<T> {
    fn of_run(self) -> Named<T> {
        let of_run = true;
        Named { of_run, ..self }
    }
}

/// Does something to every writer, and takes those out that fail.
fn each<T>(
    list: &mut Vec<Named<T>>,
    failed: &mut Vec<WriteFailed>,
    mut act: impl FnMut(&mut T) -> io::Result<()>,
) {
    let mut i = 0;
    while let Some(named) = list.get_mut(i) {
        match act(&mut named.to) {
            Ok(()) => i += 1,
            Err(error) => {
                let Named { name, to, .. } = list.swap_remove(i);
                // Its buffer would be written once more when it is dropped, and fail again.
                std::mem::forget(to);
                failed.push(WriteFailed { name, error });
            }
        }
    }
}
