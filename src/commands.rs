//! One file a subcommand: each wires the rooms together. Nothing else knows them all.

mod compare;
mod demo;
mod ending;
mod interrupt;
mod main_job;
mod matrix;
mod outputs;
mod progress;
mod read;
mod recorder;
mod serve;
mod spool;
mod writer;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::{self, Request};

/// Runs probe with the words of a command line, its own name first. Everything it has to say goes
/// to stdout and stderr; the exit code is the contract's: 0 measured, 1 a gate failed, 2 wrong usage
/// or it could not measure, 130 and 143 interrupted.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let result = match cli::parse(&words) {
        Ok(Request::Printed) => Ok(ExitCode::SUCCESS),
        Ok(Request::Nothing(help)) => {
            say(&mut io::stderr(), &help);
            return ExitCode::from(2);
        }
        Ok(Request::Run(args)) => main_job::run(*args, &words),
        Ok(Request::Demo(args)) => demo::run(*args, &words),
        Ok(Request::Read(args)) => read::run(*args, &words),
        Ok(Request::Compare(args)) => compare::run(*args),
        Ok(Request::Matrix(args)) => matrix::run(*args, &words),
        Ok(Request::Serve(args)) => serve::run(*args),
        Err(slip) => Err(slip.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// The command line as text, a word each.
fn command_line(words: &[OsString]) -> Vec<String> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    words.iter().map(text).collect()
}

/// Says a line on stderr.
fn tell(line: &str) {
    say(&mut io::stderr(), &format!("probe: {line}\n"));
}

/// Prints to a stream whose reader may have gone away, which is not our affair.
fn say(stream: &mut impl Write, text: &str) {
    let _ = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
}
