//! The command line as typed. Slips get a remedy here; whether the values make sense together is
//! left to [`plan`](crate::plan).

mod compare;
mod demo;
mod engine;
mod matrix;
mod read;
mod run;
mod serve;
mod slips;
mod values;

use std::ffi::OsString;

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches};

pub(crate) use compare::CompareArgs;
pub(crate) use demo::DemoArgs;
pub(crate) use engine::{CloseArg, EngineArgs, EngineName};
pub(crate) use matrix::{MatrixArgs, MatrixFormat};
pub(crate) use read::{ReadArgs, SideArgs};
pub(crate) use run::{Format, JobArgs, OutputArgs, RunArgs};
pub(crate) use serve::{ServeArgs, ServerArgs};
pub(crate) use slips::url_authority;
pub(crate) use values::{Header, Observe, SignalArg, WhenArg};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// The main job.
    Run(Box<RunArgs>),
    /// The main job against the embedded server.
    Demo(Box<DemoArgs>),
    /// A capture that somebody took.
    Read(Box<ReadArgs>),
    /// A run held against a capture.
    Compare(Box<CompareArgs>),
    /// Real servers side by side.
    Matrix(Box<MatrixArgs>),
    /// The embedded server alone.
    Serve(Box<ServeArgs>),
    /// Help or the version was asked for, and printed.
    Printed,
    /// Nothing was asked for: help goes to stderr.
    Nothing(String),
}

/// A slip on the command line, with its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Slip(pub(crate) String);

/// Reads the command line, the program's own name first.
pub(crate) fn parse(words: &[OsString]) -> Result<Request, Slip> {
    let typed = without_help_command(words.get(1..).unwrap_or_default());
    let typed = typed.as_slice();
    let (options, command) = match typed.iter().position(|word| word == "--") {
        Some(at) => (&typed[..at], Some(&typed[at + 1..])),
        None => (typed, None),
    };
    let mut clap = clap_command();
    if typed.is_empty() {
        return Ok(Request::Nothing(clap.render_help().to_string()));
    }
    let options = &slips::with_negative_values(&clap, options)[..];
    if let Some(slip) = slips::find(&clap, options) {
        return Err(slip);
    }
    let program = words.first().cloned().unwrap_or_else(|| "probe".into());
    let matches = match clap.try_get_matches_from_mut(std::iter::once(&program).chain(options)) {
        Ok(matches) => matches,
        Err(error) => return slips::explain(error, &clap, options),
    };
    match (matches.subcommand(), command) {
        (Some((name, _)), Some(_)) => Err(Slip(format!(
            "`probe {name}` starts no command of yours; leave out `--` and what follows"
        ))),
        (Some(("demo", matches)), None) => Ok(Request::Demo(Box::new(read(matches)?))),
        (Some(("read", matches)), None) => Ok(Request::Read(Box::new(read(matches)?))),
        (Some(("compare", matches)), None) => Ok(Request::Compare(Box::new(read(matches)?))),
        (Some(("matrix", matches)), None) => Ok(Request::Matrix(Box::new(read(matches)?))),
        (Some((_, matches)), None) => Ok(Request::Serve(Box::new(read(matches)?))),
        (None, Some([])) => Err(Slip(
            "`--` is followed by no command; put the server's start command behind it".to_owned(),
        )),
        (None, command) => {
            let mut args: RunArgs = read(&matches)?;
            args.command = command.unwrap_or_default().to_vec();
            Ok(Request::Run(Box::new(args)))
        }
    }
}

/// `help`, and `help COMMAND`, as the option that asks for it.
fn without_help_command(typed: &[OsString]) -> Vec<OsString> {
    match typed {
        [help, rest @ ..] if help == "help" => {
            let mut words: Vec<OsString> = rest.first().cloned().into_iter().collect();
            words.push("--help".into());
            words
        }
        _ => typed.to_vec(),
    }
}

/// The main job's options, and the commands beside it.
fn clap_command() -> Command {
    RunArgs::command()
        .subcommand(demo::command())
        .subcommand(ServeArgs::command())
        .subcommand(ReadArgs::command())
        .subcommand(CompareArgs::command())
        .subcommand(MatrixArgs::command())
        .disable_help_subcommand(true)
        .subcommand_help_heading("Commands")
}

fn read<T: FromArgMatches>(matches: &ArgMatches) -> Result<T, Slip> {
    T::from_arg_matches(matches).map_err(|error| Slip(error.to_string()))
}
