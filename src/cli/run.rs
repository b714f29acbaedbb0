//! The options of the main job.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, ValueEnum};

use super::EngineArgs;
use super::values::{self, Header, Observe, SignalArg, WhenArg};

/// Say what happened to each connection while a prefork server was stopped
///
/// probe opens connections to a server while it is signalled, records each connection's exact
/// packets, and says for every one what happened, why, on what evidence, and whether it was safe to
/// retry.
#[derive(Debug, Parser)]
#[command(
    name = "probe",
    version,
    override_usage = "probe --target HOST:PORT [OPTIONS]\n       probe [OPTIONS] -- COMMAND [ARGS]...",
    after_help = "\
WHEN is a duration after the first SYN (200ms) or a count of steady connections started (25).

Examples:
  probe --target 127.0.0.1:9292 --pidfile puma.pid --signal TERM@25 --csv connections.csv
  probe -n 100 --out run1 -- puma -C config/puma.rb

Exit status: 0 measured; 1 a gate failed; 2 wrong usage, or it could not measure; 130 and 143 on
SIGINT and SIGTERM, with everything seen so far written out (a second one stops at once).",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct RunArgs {
    /// Server to connect to: an IPv4 address, IPv6 in brackets, or a name, with its port
    #[arg(long, value_name = "HOST:PORT", help_heading = "Target")]
    pub(crate) target: Option<String>,

    /// Use IPv4 addresses of a name only
    #[arg(
        short = '4',
        long = "ipv4",
        conflicts_with = "ipv6",
        help_heading = "Target"
    )]
    pub(crate) ipv4: bool,

    /// Use IPv6 addresses of a name only
    #[arg(short = '6', long = "ipv6", help_heading = "Target")]
    pub(crate) ipv6: bool,

    #[command(flatten)]
    pub(crate) job: JobArgs,

    /// Process to signal
    #[arg(
        long,
        value_name = "PID",
        value_parser = values::pid,
        conflicts_with = "pidfile",
        help_heading = "Trigger"
    )]
    pub(crate) pid: Option<i32>,

    /// File that holds the pid of the process to signal
    #[arg(long, value_name = "FILE", help_heading = "Trigger")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Output")]
    version: Option<bool>,

    /// The server's start command, behind `--`.
    #[arg(skip)]
    pub(crate) command: Vec<OsString>,
}

impl RunArgs {
    /// What `probe -- COMMAND` with these options amounts to.
    pub(crate) fn with_command(job: JobArgs, command: Vec<OsString>) -> RunArgs {
        RunArgs {
            target: None,
            ipv4: false,
            ipv6: false,
            job,
            pid: None,
            pidfile: None,
            version: None,
            command,
        }
    }
}

/// What is measured and how, whatever the server.
#[derive(Clone, Debug, Args)]
pub(crate) struct JobArgs {
    /// Connections to make [default: 50]
    #[arg(short = 'n', long, value_name = "N", value_parser = values::positive, help_heading = "Connections")]
    pub(crate) count: Option<u64>,

    /// Open so many per second, evenly spaced [default: 250 when anything is triggered, else all at once]
    #[arg(long, value_name = "R", value_parser = values::rate, conflicts_with = "concurrency", help_heading = "Connections")]
    pub(crate) rate: Option<f64>,

    /// With --rate: for so long, instead of --count
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration, conflicts_with = "count", requires = "rate", help_heading = "Connections")]
    pub(crate) duration: Option<Duration>,

    /// Keep at most so many open at a time
    #[arg(short = 'c', long, value_name = "N", value_parser = values::positive, help_heading = "Connections")]
    pub(crate) concurrency: Option<u64>,

    /// Deadline of one connection: from its SYN, or from what it sends after the trigger (--idle,
    /// --split-request)
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration, default_value = "5s", help_heading = "Connections")]
    pub(crate) timeout: Duration,

    /// So many of the count connect first and send their request after the trigger
    #[arg(
        long,
        value_name = "N",
        value_parser = values::whole,
        default_value = "0",
        help_heading = "Connections"
    )]
    pub(crate) idle: u64,

    /// How long after the trigger they do
    #[arg(long, value_name = "DUR", value_parser = values::duration, default_value = "10ms", help_heading = "Connections")]
    pub(crate) idle_delay: Duration,

    /// Allow over 1,000 open, or opened per second, to a target that is not this host
    #[arg(long, help_heading = "Connections")]
    pub(crate) allow_load: bool,

    /// With -- COMMAND: make so many runs, each with the server started afresh, and pool them
    #[arg(
        long,
        value_name = "N",
        value_parser = values::positive,
        default_value = "1",
        help_heading = "Connections"
    )]
    pub(crate) repeat: u64,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Path to request; {conn} is the connection's number
    #[arg(long, value_name = "PATH", value_parser = values::path, default_value = "/", help_heading = "Request")]
    pub(crate) path: String,

    /// Header to send; may be repeated; {conn} is the connection's number
    #[arg(
        short = 'H',
        long,
        value_name = "NAME: VALUE",
        help_heading = "Request"
    )]
    pub(crate) header: Vec<Header>,

    /// Method to use
    #[arg(short = 'X', long, value_name = "METHOD", value_parser = values::method, default_value = "GET", help_heading = "Request")]
    pub(crate) method: String,

    /// Send this file as the HTTP request, byte for byte
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "header", "method", "payload"], help_heading = "Request")]
    pub(crate) request: Option<PathBuf>,

    /// Send this file, which is no HTTP; any answer counts once the server ends
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "header", "method"], help_heading = "Request")]
    pub(crate) payload: Option<PathBuf>,

    /// With --payload: answered once so many bytes arrived
    #[arg(long, value_name = "N", value_parser = values::positive, requires = "payload", help_heading = "Request")]
    pub(crate) expect_bytes: Option<u64>,

    /// Signal to send; may be repeated; `none` sends none [default: TERM at half the count with -- COMMAND]
    #[arg(long, value_name = "SIG[@WHEN]", help_heading = "Trigger")]
    pub(crate) signal: Vec<SignalArg>,

    /// Command to run by sh instead of or beside a signal
    #[arg(long, value_name = "CMD", help_heading = "Trigger")]
    pub(crate) trigger: Option<String>,

    /// When to run it [default: at half the count]
    #[arg(
        long,
        value_name = "WHEN",
        requires = "trigger",
        help_heading = "Trigger"
    )]
    pub(crate) trigger_at: Option<WhenArg>,

    /// Signal the process and all its descendants, as Heroku does
    #[arg(long, help_heading = "Trigger")]
    pub(crate) signal_tree: bool,

    /// With -- COMMAND: how long it may take to listen
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration, default_value = "30s", help_heading = "Trigger")]
    pub(crate) start_timeout: Duration,

    /// With -- COMMAND: how long it may take to stop, after the last connection, before it is killed
    #[arg(long, value_name = "DUR", value_parser = values::duration, default_value = "10s", help_heading = "Trigger")]
    pub(crate) stop_timeout: Duration,

    /// Vantages: socket, wire (packets), diag and trace (the server's kernel: sock_diag, tracepoints),
    /// several with commas, or auto for all that you may
    #[arg(
        long,
        value_name = "LIST",
        default_value = "auto",
        help_heading = "Output"
    )]
    pub(crate) observe: Observe,

    /// Write the packets of all connections as pcapng, when the run ends; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) pcap: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Where results go, and what makes them a failure.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write a row for each connection; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) csv: Option<PathBuf>,

    /// Write a row for each event; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) events: Option<PathBuf>,

    /// Write an object for each connection, one a line; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    /// Write all of these and run.json into this folder; of a run its packets and the server's log as well
    #[arg(short = 'o', long, value_name = "DIR", help_heading = "Output")]
    pub(crate) out: Option<PathBuf>,

    /// What stdout shows
    #[arg(long, value_enum, default_value_t = Format::Table, help_heading = "Output")]
    pub(crate) format: Format,

    /// Exit 1 when more than N were lost, when none was served, or when any has no certain end
    #[arg(
        long,
        value_name = "N",
        value_parser = values::whole,
        conflicts_with = "fail_on_loss",
        help_heading = "Output"
    )]
    max_lost: Option<u64>,

    /// The same with N = 0
    #[arg(long, help_heading = "Output")]
    fail_on_loss: bool,

    /// Print no table, no progress and no notes
    #[arg(short = 'q', long, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Print help
    #[arg(short = 'h', long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,
}

impl OutputArgs {
    /// The most that may be lost, if anything limits that.
    pub(crate) fn max_lost(&self) -> Option<u64> {
        self.max_lost.or(self.fail_on_loss.then_some(0))
    }
}

/// What stdout shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Outcomes counted, losses, what could not be seen
    Table,
    /// A row for each connection
    Csv,
    /// An object for each connection, one a line
    Json,
    /// A line for each connection, as Heroku's router logs it
    Heroku,
}
