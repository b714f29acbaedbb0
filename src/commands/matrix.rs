//! `probe matrix`: the main job against every server that a folder of scenarios describes, one after
//! the other, and one table of all.
#![expect(
    clippy::disallowed_types,
    reason = "matrix.md and matrix.csv are written here"
)]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::main_job::{CaseMeasured, Measured, Series, Unmeasurable};
use super::{command_line, say, tell};
use crate::cli::{MatrixArgs, MatrixFormat};
use crate::connect::schedule::Arrivals;
use crate::plan::Case;
use crate::plan::matrix::{MatrixPlan, Row, State};
use crate::report::matrix::csv::MatrixCsv;
use crate::report::matrix::{self, Line, Runs};
use crate::sys::host;
use crate::target::trigger::When;
use crate::time::Clock;

/// Measures every row that is installed, and tells of all.
pub(super) fn run(args: MatrixArgs, words: &[OsString]) -> Result<ExitCode> {
    let MatrixPlan {
        plan,
        rows,
        list,
        format,
        scratch: _until_the_end,
    } = MatrixPlan::check(args)?;
    if list {
        return Ok(tell_of(&rows));
    }
    let cases: Vec<Case> = rows.iter().filter_map(case).cloned().collect();
    let setting = Setting {
        head: head(&rows, plan.repeat, &plan.case),
        facts: facts(&rows, words),
        format,
    };
    if cases.is_empty() {
        let lines: Vec<Line> = rows.iter().map(|row| line(row, None)).collect();
        say(&mut io::stdout(), &setting.show(&lines, &[])?);
        return Ok(ending(&rows, ExitCode::SUCCESS));
    }
    let mut series = Series::open(plan, words)?;
    let mut page = series.create("matrix.md")?;
    let mut sheet = Sheet::open(&rows, series.create("matrix.csv")?)?;
    let measured = series.measure(&cases, Unmeasurable::EndsItsCase, |case| sheet.add(case))?;
    sheet.finish()?;
    let mut failed = None;
    let code = measured.report(|measured| {
        let lines = lines(&rows, measured);
        let remarks = measured.remarks_beside_rows();
        if let Some((path, file)) = &mut page {
            let text = matrix::markdown(&lines, &setting.head, &setting.facts, &remarks);
            failed = write(file, path, &text).err();
        }
        setting.show(&lines, &remarks).unwrap_or_default()
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(ending(&rows, code)),
    }
}

/// What the tables say besides their rows.
struct Setting {
    head: String,
    facts: Vec<String>,
    format: MatrixFormat,
}

impl Setting {
    fn show(&self, lines: &[Line<'_>], remarks: &[String]) -> io::Result<String> {
        Ok(match self.format {
            MatrixFormat::Table => matrix::render(lines, &self.head, remarks),
            MatrixFormat::Markdown => matrix::markdown(lines, &self.head, &self.facts, remarks),
            MatrixFormat::Csv => {
                let mut bytes = Vec::new();
                let mut csv = MatrixCsv::new(&mut bytes)?;
                lines.iter().try_for_each(|line| csv.write(line))?;
                drop(csv);
                String::from_utf8_lossy(&bytes).into_owned()
            }
        })
    }
}

/// matrix.csv: each row as soon as it is complete, in the rows' order.
struct Sheet<'a> {
    rows: std::slice::Iter<'a, Row>,
    file: Option<(PathBuf, MatrixCsv<File>)>,
}

impl<'a> Sheet<'a> {
    fn open(rows: &'a [Row], file: Option<(PathBuf, File)>) -> Result<Sheet<'a>> {
        let open = |(path, file): (PathBuf, File)| -> Result<(PathBuf, MatrixCsv<File>)> {
            let csv = MatrixCsv::new(file).with_context(|| cannot_write(&path))?;
            Ok((path, csv))
        };
        Ok(Sheet {
            rows: rows.iter(),
            file: file.map(open).transpose()?,
        })
    }

    /// Writes the row of a case, and before it those that are not measured.
    fn add(&mut self, case: &CaseMeasured) -> Result<()> {
        for row in self.rows.by_ref() {
            let is_it = Some(&row.name) == case.label.as_ref();
            let measured = is_it.then_some(case);
            let of_another = measured.is_none() && matches!(row.state, State::Ready(_));
            if let (Some((path, csv)), false) = (&mut self.file, of_another) {
                csv.write(&line(row, measured))
                    .with_context(|| cannot_write(path))?;
            }
            if is_it {
                break;
            }
        }
        Ok(())
    }

    /// Writes what is left of those that are not measured.
    fn finish(mut self) -> Result<()> {
        for row in self.rows {
            if let (Some((path, csv)), None) = (&mut self.file, case(row)) {
                csv.write(&line(row, None))
                    .with_context(|| cannot_write(path))?;
            }
        }
        Ok(())
    }
}

fn cannot_write(path: &Path) -> String {
    format!(
        "cannot write {}; make room or give another path",
        path.display()
    )
}

fn write(file: &mut File, path: &Path, text: &str) -> Result<()> {
    file.write_all(text.as_bytes())
        .with_context(|| cannot_write(path))
}

/// The rows, with what was measured of them; those that an interrupt kept from it are left out.
fn lines<'a>(rows: &'a [Row], measured: &'a Measured) -> Vec<Line<'a>> {
    let of = |row: &Row| {
        let mut cases = measured.cases().iter();
        cases.find(|case| case.label.as_ref() == Some(&row.name))
    };
    rows.iter()
        .map(|row| line(row, of(row)))
        .filter(|line| line.runs.is_some() || line.unmade.is_some() || line.version.is_none())
        .collect()
}

fn line<'a>(row: &'a Row, measured: Option<&'a CaseMeasured>) -> Line<'a> {
    let made = measured.filter(|case| case.pool.runs() > 0);
    let interrupted = measured
        .filter(|case| case.interrupted)
        .map(|_| "interrupted");
    let unmade = measured
        .and_then(|case| case.unmade.as_deref())
        .or(interrupted);
    let is_read = !row.mode.is_empty();
    Line {
        name: &row.name,
        scenario: &row.scenario,
        server: &row.server,
        version: row.version.as_deref(),
        package: &row.package,
        mode: &row.mode,
        signal: row.signal,
        whom: row.whom.word(),
        what: if is_read { row.what.words() } else { "" },
        is_stop: row.what.is_stop(),
        runs: made.map(|case| Runs {
            pool: &case.pool,
            stops: &case.stops,
            killed: case.killed,
            left_behind: case.left_behind,
            ended_before: case.ended_before,
            unseen: &case.unseen,
        }),
        unmade: match &row.state {
            State::Broken(why) => Some(why),
            State::Ready(_) | State::NotInstalled => unmade,
        },
    }
}

fn case(row: &Row) -> Option<&Case> {
    match &row.state {
        State::Ready(case) => Some(case),
        State::NotInstalled | State::Broken(_) => None,
    }
}

/// `--list`.
fn tell_of(rows: &[Row]) -> ExitCode {
    for row in rows {
        let state = match &row.state {
            State::Ready(_) => row.what.words().to_owned(),
            State::NotInstalled => format!("not installed ({})", row.package),
            State::Broken(why) => why.clone(),
        };
        say(&mut io::stdout(), &format!("{}: {state}\n", row.name));
    }
    ending(rows, ExitCode::SUCCESS)
}

/// Says what is broken; that was not measured, whatever else was.
fn ending(rows: &[Row], code: ExitCode) -> ExitCode {
    let mut broken = Vec::new();
    for row in rows {
        if let State::Broken(why) = &row.state
            && !broken.contains(&why)
        {
            broken.push(why);
        }
    }
    broken.iter().for_each(|why| tell(why));
    if broken.is_empty() || code != ExitCode::SUCCESS {
        code
    } else {
        ExitCode::from(2)
    }
}

/// How all rows were loaded.
fn head(rows: &[Row], repeat: u64, common: &Case) -> String {
    let rate = match common.load.arrivals {
        Arrivals::Spaced(gap) => format!(", {:.0} a second", 1.0 / gap.as_secs_f64()),
        Arrivals::Closed { .. } | Arrivals::AtOnce => String::new(),
    };
    let triggers = rows.iter().filter_map(case);
    let when = triggers
        .filter(|case| case.load.count == common.load.count)
        .find_map(|case| case.triggers.first())
        .map_or_else(String::new, |trigger| match trigger.when {
            When::Started(n) => format!(", the signal once {n} were opened"),
            When::After(span) => format!(", the signal {span:?} after the first"),
        });
    let load = format!("{} connections{rate}{when}", common.load.count);
    matrix::head(rows.len(), repeat, &load)
}

/// What it was measured with.
fn facts(rows: &[Row], words: &[OsString]) -> Vec<String> {
    let began = Clock::start().started().0;
    let began = jiff::Timestamp::from_nanosecond(began.into()).unwrap_or_default();
    let mut facts = vec![
        format!("`{}`", command_line(words).join(" ")),
        format!(
            "{}, probe {}, Linux {}",
            began.strftime("%Y-%m-%d"),
            env!("CARGO_PKG_VERSION"),
            host::kernel()
        ),
    ];
    let mut builds: Vec<String> = Vec::new();
    for row in rows {
        // A program that is first on PATH need not be Debian's, whatever its version.
        let elsewhere = !row.package.is_empty() && !row.package.starts_with("debian");
        if let Some(version) = &row.version {
            let from = match elsewhere {
                true => format!(" ({})", row.package),
                false => String::new(),
            };
            let build = format!("{} {version}{from}", row.server);
            if !builds.contains(&build) {
                builds.push(build);
            }
        }
    }
    if !builds.is_empty() {
        facts.push(builds.join(", "));
    }
    facts
}
