//! The files of a run, opened before the first SYN.
#![expect(clippy::disallowed_types, reason = "output files are opened here")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cli::Format;
use crate::plan::Outputs;
use crate::record::Record;
use crate::report::csv::CsvReport;
use crate::report::events::{ControlEvent, EventsReport};
use crate::report::{Context, heroku, ndjson};
use crate::sys::reason;

/// A buffered file or stdout.
type Sink = BufWriter<Box<dyn Write + Send>>;

/// server.log.
pub(super) type LogFile = File;

/// What records are written to.
#[derive(Default)]
pub(super) struct Writers {
    csv: Vec<Named<CsvReport<Sink>>>,
    json: Vec<Named<Sink>>,
    heroku: Vec<Named<Sink>>,
    events: Vec<Named<EventsReport<Sink>>>,
}

struct Named<T> {
    name: String,
    to: T,
}

/// The files of a run.
pub(super) struct OpenOutputs {
    /// Those that records go to.
    pub(super) writers: Writers,
    /// run.json.
    pub(super) run: Option<(PathBuf, File)>,
    /// server.log.
    pub(super) log: Option<LogFile>,
    /// Whether stdout is taken by records.
    pub(super) stdout_taken: bool,
    /// Files of our own making in --out's folder.
    made: Vec<PathBuf>,
}

impl OpenOutputs {
    /// Takes the files of --out's folder away again: nothing was measured.
    pub(super) fn discard(self) {
        for path in &self.made {
            // It may have been moved meanwhile; then it is in nobody's way.
            let _ = fs::remove_file(path);
        }
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

/// Opens every output.
pub(super) fn open(outputs: &Outputs, server_log: bool) -> Result<OpenOutputs> {
    let mut opened = OpenOutputs {
        writers: Writers::default(),
        run: None,
        log: None,
        stdout_taken: outputs.format != Format::Table,
        made: Vec::new(),
    };
    distinct(outputs)?;
    let writers = &mut opened.writers;
    let csv = |sink| CsvReport::new(sink).context("cannot write the header");
    let events = |sink| EventsReport::new(sink).context("cannot write the header");
    let (json, heroku) = (Ok, Ok);
    let stdout = Some(PathBuf::from("-"));
    add(&mut writers.csv, outputs.csv.as_ref(), csv)?;
    add(&mut writers.events, outputs.events.as_ref(), events)?;
    add(&mut writers.json, outputs.json.as_ref(), json)?;
    match outputs.format {
        Format::Table => {}
        Format::Csv => add(&mut writers.csv, stdout.as_ref(), csv)?,
        Format::Json => add(&mut writers.json, stdout.as_ref(), json)?,
        Format::Heroku => add(&mut writers.heroku, stdout.as_ref(), heroku)?,
    }
    let named = [&outputs.csv, &outputs.events, &outputs.json];
    opened.stdout_taken |= named.iter().any(|n| n.as_deref() == Some(Path::new("-")));
    if let Some(folder) = &outputs.folder {
        make_folder(folder)?;
        let mut file = |name| {
            let path = folder.join(name);
            opened.made.push(path.clone());
            path
        };
        add(&mut writers.csv, Some(&file("connections.csv")), csv)?;
        add(&mut writers.events, Some(&file("events.csv")), events)?;
        add(&mut writers.json, Some(&file("connections.ndjson")), json)?;
        let run = file("run.json");
        opened.run = Some((run.clone(), create(&run)?));
        if server_log {
            opened.log = Some(create(&file("server.log"))?);
        }
    }
    Ok(opened)
}

fn add<T>(
    list: &mut Vec<Named<T>>,
    path: Option<&PathBuf>,
    make: impl FnOnce(Sink) -> Result<T>,
) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let (out, name): (Box<dyn Write + Send>, String) = if path == Path::new("-") {
        (Box::new(io::stdout()), "stdout".to_owned())
    } else {
        (Box::new(create(path)?), path.display().to_string())
    };
    let to = make(BufWriter::with_capacity(64 * 1024, out))
        .with_context(|| format!("cannot write {name}"))?;
    list.push(Named { name, to });
    Ok(())
}

/// Refuses two outputs that are one file under two names.
fn distinct(outputs: &Outputs) -> Result<()> {
    let stdout = Some(PathBuf::from("-")).filter(|_| outputs.format != Format::Table);
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for path in [&outputs.csv, &outputs.events, &outputs.json, &stdout]
        .into_iter()
        .flatten()
    {
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

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        anyhow::anyhow!(
            "cannot make the folder {}: {}; give a path that may be written to",
            folder.display(),
            reason(&error)
        )
    })?;
    let mut entries = fs::read_dir(folder).map_err(|error| {
        anyhow::anyhow!("cannot look into {}: {}", folder.display(), reason(&error))
    })?;
    if entries.next().is_some() {
        bail!(
            "the folder {} is not empty; give a new one, so that runs do not mix",
            folder.display()
        );
    }
    Ok(())
}

impl Writers {
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
    pub(super) fn write_control(
        &mut self,
        event: &ControlEvent,
        run: &Context,
    ) -> Vec<WriteFailed> {
        let mut failed = Vec::new();
        each(&mut self.events, &mut failed, |to| {
            to.write_control(event, run)
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
                let Named { name, to } = list.swap_remove(i);
                // Its buffer would be written once more when it is dropped, and fail again.
                std::mem::forget(to);
                failed.push(WriteFailed { name, error });
            }
        }
    }
}
