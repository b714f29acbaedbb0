//! The options of `probe matrix`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use super::values::{self, Observe, WhenArg};

/// Set real servers side by side: what each loses when it is stopped, reloaded or loses a worker
///
/// Each folder in SCENARIOS describes a server in its scenario.toml: how it is started and which
/// signals are worth asking about. Each is started, probed while it is signalled, and stopped, one
/// after the other; a row says what came of it.
#[derive(Debug, Parser)]
#[command(
    name = "matrix",
    override_usage = "probe matrix SCENARIOS [OPTIONS]",
    after_help = "\
WHEN is a duration after the first SYN (200ms) or a count of connections started (100).

Examples:
  probe matrix scenarios/ --list
  probe matrix scenarios/ --only puma --only unicorn
  probe matrix scenarios/ --repeat 10 --out matrix1

Exit status: 0 measured, whatever is not installed; 2 wrong usage, or a server that could not be
measured; 130 and 143 on SIGINT and SIGTERM, with every row so far (a second one stops at once).",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct MatrixArgs {
    /// A folder of folders, each with a scenario.toml
    #[arg(value_name = "SCENARIOS")]
    pub(crate) folder: PathBuf,

    /// Measure rows whose name contains this alone; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "Rows")]
    pub(crate) only: Vec<String>,

    /// Say which rows there are and what is installed, and measure nothing
    #[arg(long, help_heading = "Rows")]
    pub(crate) list: bool,

    /// Connections in each run
    #[arg(short = 'n', long, value_name = "N", value_parser = values::positive, default_value = "200", help_heading = "Connections")]
    pub(crate) count: u64,

    /// Open so many per second, evenly spaced
    #[arg(long, value_name = "R", value_parser = values::rate, default_value = "250", help_heading = "Connections")]
    pub(crate) rate: f64,

    /// When the signal goes out [default: at half the count]
    #[arg(long, value_name = "WHEN", help_heading = "Connections")]
    pub(crate) at: Option<WhenArg>,

    /// Runs of each row, each with the server started afresh
    #[arg(long, value_name = "N", value_parser = values::positive, default_value = "1", help_heading = "Connections")]
    pub(crate) repeat: u64,

    /// Deadline of one connection, from its SYN
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration, default_value = "5s", help_heading = "Connections")]
    pub(crate) timeout: Duration,

    /// Port of the first row; every further row has the next one that is free
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), default_value = "9300", help_heading = "Servers")]
    pub(crate) port: u16,

    /// How long a server may take to listen
    #[arg(long, value_name = "DUR", value_parser = values::positive_duration, default_value = "30s", help_heading = "Servers")]
    pub(crate) start_timeout: Duration,

    /// How long it may take to stop, after the last connection, before it is killed
    #[arg(long, value_name = "DUR", value_parser = values::duration, default_value = "5s", help_heading = "Servers")]
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

    /// Write a folder for each run, all their connections, matrix.csv and matrix.md into this folder
    #[arg(short = 'o', long, value_name = "DIR", help_heading = "Output")]
    pub(crate) out: Option<PathBuf>,

    /// What stdout shows
    #[arg(long, value_enum, default_value_t = MatrixFormat::Table, help_heading = "Output")]
    pub(crate) format: MatrixFormat,

    /// Print no table, no progress and no notes
    #[arg(short = 'q', long, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Print help
    #[arg(short = 'h', long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,
}

/// What stdout shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixFormat {
    /// A row for each server and signal, for a terminal
    Table,
    /// The same as numbers, as in matrix.csv
    Csv,
    /// The same for a page, as in matrix.md
    Markdown,
}
