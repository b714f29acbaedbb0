//! `probe compare`: what a run tells of its connections, held against a capture of them.
#![expect(
    clippy::disallowed_types,
    reason = "what is compared is opened here, and where rows go"
)]

mod capture;
mod run;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};

use self::capture::{Expected, Taken};
use super::ending::{Failures, print_table};
use super::tell;
use crate::cli::CompareArgs;
use crate::flow::Protocol;
use crate::outcome::Watch;
use crate::plan::compare::ComparePlan;
use crate::reconcile::{self, Comparison, Source};
use crate::record::ServerSide;
use crate::report::comparison;
use crate::sys::reason;

/// Compares, and says what differs.
pub(super) fn run(args: CompareArgs) -> Result<ExitCode> {
    let plan = ComparePlan::check(args)?;
    if plan.capture.is_none() && io::stdin().is_terminal() {
        return Err(anyhow!(
            "stdin is a terminal; pipe a capture into it, or give a file"
        ));
    }
    let csv = plan.csv.as_deref().map(create).transpose()?;
    let first = run::read(&plan.run, plan.side, plan.strictness)?;
    let second = read_capture(&plan, &first)?;
    let compared = reconcile::compare(&first.told, &second.told, plan.strictness);
    let mut failures = Failures::default();
    if let Some((name, file)) = csv
        && let Err(error) = write_rows(file, &compared, &first, &second)
    {
        failures.add("", &name, &error);
    }
    if !plan.quiet {
        let names = [name_of(Some(&plan.run)), name_of(plan.capture.as_deref())];
        let mut text = comparison::render(&compared, &first.told, &second.told, &names);
        for note in first.notes.iter().chain(&second.notes) {
            text.push_str(note);
            text.push('\n');
        }
        let stdout_taken = plan.csv.as_deref() == Some(Path::new("-"));
        print_table(&text, stdout_taken, &mut failures);
    }
    let broken = [&first, &second]
        .into_iter()
        .filter_map(|taken| taken.error.as_ref());
    let broken: Vec<&String> = broken.collect();
    broken.iter().for_each(|error| tell(error));
    if compared.is_void() {
        tell(&void(&second));
    }
    failures.tell();
    let failed = !broken.is_empty() || compared.is_void() || !failures.is_empty();
    Ok(ExitCode::from(if failed {
        2
    } else {
        u8::from(compared.differs())
    }))
}

/// Why nothing was compared, and what to do.
fn void(capture: &Taken) -> String {
    let told = &capture.told;
    if !told.accounts.is_empty() {
        return "nothing was compared, as the two have no connection in common; give a capture of \
                that very run"
            .to_owned();
    }
    match told.span {
        None => "nothing was compared: the capture holds no packets; let tcpdump run until a second \
                 after the run, as it hands them on that late"
            .to_owned(),
        Some(_) => "nothing was compared: the capture holds no TCP segment that could be read and is \
                    the server's; see to tcpdump's filter and its snap length (-s 96 at least), and \
                    to --port"
            .to_owned(),
    }
}

/// Reads the capture; whom the run talked to is the server, unless that was said.
fn read_capture(plan: &ComparePlan, first: &Taken) -> Result<Taken> {
    let run = &first.told;
    let is_run = matches!(run.source, Source::Run { .. });
    let expected = Expected {
        side: plan.side.unwrap_or(ServerSide::FromSyns),
        servers: run.accounts.iter().map(|account| account.server).collect(),
        watch: if is_run {
            Watch::Live {
                deadline: None,
                abandoned: None,
                left: None,
            }
        } else {
            Watch::Capture
        },
        protocol: first.protocol.unwrap_or(Protocol::Http),
        strictness: plan.strictness,
    };
    let name = name_of(plan.capture.as_deref());
    let input: Box<dyn Read> = match &plan.capture {
        Some(file) => Box::new(open(file)?),
        None => Box::new(io::stdin()),
    };
    capture::read(input, &name, &expected)
}

fn name_of(file: Option<&Path>) -> String {
    file.map_or_else(|| "stdin".to_owned(), |file| file.display().to_string())
}

fn open(file: &Path) -> Result<File> {
    if file.is_dir() {
        bail!(
            "{} is a folder; the run comes first, and its capture is a file",
            file.display()
        );
    }
    File::open(file).map_err(|error| {
        anyhow!(
            "cannot read {}: {}; give a file that exists and may be read",
            file.display(),
            reason(&error)
        )
    })
}

/// Opens what rows are written to, before anything is read. What stands there is kept until then.
fn create(path: &Path) -> Result<(String, File)> {
    let name = path.display().to_string();
    let opened = if path == Path::new("-") {
        io::stdout().as_fd().try_clone_to_owned().map(File::from)
    } else {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).open(path)
    };
    match opened {
        Ok(file) => Ok((name, file)),
        Err(error) => Err(anyhow!(
            "cannot write {name}: {}; give a path whose folder exists and may be written to",
            reason(&error)
        )),
    }
}

/// Writes the rows in the place of what stood there.
fn write_rows(file: File, compared: &Comparison, first: &Taken, second: &Taken) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    comparison::csv::write(BufWriter::new(file), compared, &first.told, &second.told)
}
