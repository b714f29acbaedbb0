//! A checked run. Names are resolved, files read, pids taken hold of and contradictions refused
//! here; nothing behind this validates again.
#![expect(
    clippy::disallowed_types,
    reason = "request and pid files are read here"
)]

pub(crate) mod compare;
mod engine;
mod load;
pub(crate) mod matrix;
pub(crate) mod read;
mod request;
pub(crate) mod serve;
mod target;
mod trigger;

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cli::{Format, Observe, OutputArgs, RunArgs};
use crate::sys::reason;
use crate::target::child::Invocation;
use crate::target::process::Process;
use crate::target::trigger::Trigger;

pub(crate) use engine::Engine;
pub(crate) use load::Load;
pub(crate) use request::RequestSpec;
pub(crate) use target::Target;

/// Everything a run needs to know.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The server, and what is done to it.
    pub(crate) case: Case,
    /// Whose TCP makes connections.
    pub(crate) engine: Engine,
    /// What is sent.
    pub(crate) request: RequestSpec,
    /// Whom signals go to, where it is not the command.
    pub(crate) master: Option<Process>,
    /// How many runs are made, each with the server started afresh.
    pub(crate) repeat: u64,
    /// Which vantages are wanted.
    pub(crate) observe: Wishes,
    /// Where results go.
    pub(crate) outputs: Outputs,
    /// The most that may be lost before the run fails.
    pub(crate) max_lost: Option<u64>,
    /// What the user should know before it begins.
    pub(crate) notes: Vec<String>,
}

/// A server to measure, and what is done to it: one, or one of several that a series measures.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What it is called among several, each of which has a name of its own: a part of run ids, and a
    /// folder in --out's.
    pub(crate) label: Option<String>,
    /// How it is started; nothing where it runs already.
    pub(crate) command: Option<ServerCommand>,
    /// Where to connect to; with a command it may be found out later.
    pub(crate) target: Option<Target>,
    /// How connections are made.
    pub(crate) load: Load,
    /// What is done to the server.
    pub(crate) triggers: Vec<Trigger>,
}

/// The server to start.
#[derive(Clone, Debug)]
pub(crate) struct ServerCommand {
    /// How.
    pub(crate) invocation: Invocation,
    /// How long it may take to listen.
    pub(crate) start_timeout: Duration,
    /// How long it may take to stop, after the last connection, before it is killed.
    pub(crate) stop_timeout: Duration,
    /// The signals that it stops on: where none of them was sent it is asked to stop in the end.
    pub(crate) stops_on: Vec<Signal>,
}

/// What servers stop on, at once or gracefully, where nothing else is known of them.
const STOPS_ON: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGKILL,
];

/// Which vantages are wanted besides the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Packets.
    pub(crate) wire: Wish,
    /// The server's sock_diag.
    pub(crate) diag: Wish,
    /// Tracepoints of the server's kernel.
    pub(crate) trace: Wish,
}

/// Whether a vantage is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Where it may be.
    IfAllowed,
    /// Or the run fails.
    Required {
        /// What else could be done.
        otherwise: &'static str,
    },
    /// Not at all.
    Off,
}

/// Where results go.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    pub(crate) csv: Option<PathBuf>,
    pub(crate) events: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) pcap: Option<PathBuf>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) format: Format,
    pub(crate) quiet: bool,
}

impl Outputs {
    /// Whether records go to stdout.
    pub(crate) fn take_stdout(&self) -> bool {
        let named = [&self.csv, &self.events, &self.json, &self.pcap];
        self.format != Format::Table || named.iter().any(|f| f.as_deref() == Some(Path::new("-")))
    }
}

/// Why the run cannot be made as asked, with a remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PlanError(String);

fn refuse<T>(sentence: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError(sentence.into()))
}

impl Plan {
    /// Checks what was typed.
    pub(crate) fn check(args: RunArgs) -> Result<Plan, PlanError> {
        let mut notes = Vec::new();
        let target = match &args.target {
            Some(text) => Some(target::resolve(text, args.ipv4, args.ipv6, &mut notes)?),
            None if args.command.is_empty() => {
                return refuse(
                    "nothing to connect to; give --target HOST:PORT, or the server's start \
                     command behind `--`",
                );
            }
            None => None,
        };
        if args.job.repeat > 1 && args.command.is_empty() {
            return refuse(
                "--repeat needs a server that can be started afresh; give its start command behind \
                 `--`",
            );
        }
        let count = load::count(&args.job)?;
        if args.job.idle > count {
            return refuse(format!(
                "--idle {} is more than the {count} connections there are; give a larger --count",
                args.job.idle
            ));
        }
        let triggers = trigger::triggers(&args, count - args.job.idle)?;
        if args.job.idle > 0 && triggers.is_empty() {
            return refuse(
                "--idle connections wait for a trigger and there is none; add --signal or --trigger",
            );
        }
        let master = trigger::master(&args, &triggers)?;
        if let Some(master) = master.as_ref().filter(|_| triggers.is_empty()) {
            notes.push(format!(
                "nothing is sent to process {} without --signal; its exit is noted",
                master.pid()
            ));
        }
        if args.job.output.format == Format::Heroku && args.job.payload.is_some() {
            return refuse(
                "--format heroku tells of HTTP requests and --payload sends none; give another \
                 --format, or the request with --request",
            );
        }
        let sent = [&args.job.request, &args.job.payload];
        let sent: Vec<&Path> = sent.into_iter().filter_map(Option::as_deref).collect();
        let outputs = outputs(&args.job.output, args.job.pcap.as_ref(), &sent)?;
        let request = request::request(&args.job)?;
        let host = target.as_ref().map_or("", |target| &target.name);
        let engine = engine::engine(&args.job, &request, host, !triggers.is_empty())?;
        let mut observe = wishes(args.job.observe, outputs.pcap.is_some())?;
        if engine != Engine::Socket {
            observe.wire = Wish::Required {
                otherwise: "leave out --engine raw",
            };
        }
        let load = Load {
            count,
            idle: args.job.idle,
            idle_delay: args.job.idle_delay,
            arrivals: load::arrivals(&args.job, !triggers.is_empty()),
            timeout: args.job.timeout,
            allow_load: args.job.allow_load,
        };
        let command = (!args.command.is_empty()).then(|| ServerCommand {
            invocation: Invocation {
                words: args.command.clone(),
                ..Invocation::default()
            },
            start_timeout: args.job.start_timeout,
            stop_timeout: args.job.stop_timeout,
            stops_on: STOPS_ON.to_vec(),
        });
        Ok(Plan {
            case: Case {
                label: None,
                command,
                target,
                load,
                triggers,
            },
            engine,
            request,
            master,
            repeat: args.job.repeat,
            observe,
            outputs,
            max_lost: args.job.output.max_lost(),
            notes,
        })
    }
}

/// Which vantages are wanted: packets in any case where they are to be written.
fn wishes(observe: Observe, to_write: bool) -> Result<Wishes, PlanError> {
    let Observe::Only { wire, diag, trace } = observe else {
        return Ok(Wishes {
            wire: match to_write {
                true => Wish::Required {
                    otherwise: "leave out --pcap",
                },
                false => Wish::IfAllowed,
            },
            diag: Wish::IfAllowed,
            trace: Wish::IfAllowed,
        });
    };
    if to_write && !wire {
        return refuse(
            "--pcap writes packets and --observe leaves them out; add wire to it, or leave out \
             --pcap",
        );
    }
    let required = |asked: bool, otherwise| match asked {
        true => Wish::Required { otherwise },
        false => Wish::Off,
    };
    let without_wire = match to_write {
        true => "leave out --pcap, and wire in --observe",
        false => "leave wire out of --observe",
    };
    Ok(Wishes {
        wire: required(wire, without_wire),
        diag: required(diag, "leave diag out of --observe"),
        trace: required(trace, "leave trace out of --observe"),
    })
}

/// Where results go; nothing of it may be one of the files that are `read`.
fn outputs(
    args: &OutputArgs,
    pcap: Option<&PathBuf>,
    read: &[&Path],
) -> Result<Outputs, PlanError> {
    let files = [&args.csv, &args.events, &args.json].map(Option::as_ref);
    let files: Vec<&PathBuf> = files.into_iter().chain([pcap]).flatten().collect();
    files.iter().try_for_each(|file| spare(file, read))?;
    let on_stdout = files.iter().filter(|f| f.as_os_str() == "-").count();
    if on_stdout + usize::from(args.format != Format::Table) > 1 {
        return refuse("stdout can show one output only; give the others a file");
    }
    let twice = |(n, file): (usize, &&PathBuf)| files[..n].contains(file);
    if files.iter().enumerate().any(twice) {
        return refuse("two outputs would write the same file; give each its own");
    }
    Ok(Outputs {
        csv: args.csv.clone(),
        events: args.events.clone(),
        json: args.json.clone(),
        pcap: pcap.cloned(),
        folder: args.out.clone(),
        format: args.format,
        quiet: args.quiet,
    })
}

/// Refuses an output that would overwrite what is read, under whatever name.
fn spare(output: &Path, read: &[&Path]) -> Result<(), PlanError> {
    let identity = |path: &Path| {
        let meta = path.metadata().ok().filter(Metadata::is_file)?;
        Some((meta.dev(), meta.ino()))
    };
    let overwritten = identity(output).is_some_and(|output| {
        let mut read = read.iter().filter_map(|path| identity(path));
        read.any(|read| read == output)
    });
    if overwritten {
        return refuse(format!(
            "{} is read, and writing to it would destroy it; give the output another path",
            output.display()
        ));
    }
    Ok(())
}

/// Reads a file whole, if it is no larger than `limit`: a device has no end.
fn read(file: &Path, option: &str, limit: u64) -> Result<Vec<u8>, PlanError> {
    let mut bytes = Vec::new();
    let name = file.display();
    File::open(file)
        .and_then(|opened| opened.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            PlanError(format!(
                "cannot read {option} {name}: {}; give a file that exists and may be read",
                reason(&error)
            ))
        })?;
    if bytes.len() as u64 > limit {
        return refuse(format!(
            "{option} {name} is larger than {limit} bytes; give a smaller file"
        ));
    }
    Ok(bytes)
}
