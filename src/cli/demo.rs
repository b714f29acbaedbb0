//! The options of `probe demo`: those of the main job and those of the embedded server.

use clap::{Command, CommandFactory as _, Parser};

use super::run::JobArgs;
use super::serve::ServerArgs;

/// See it happen: probe a small server of our own while it is stopped
///
/// Starts `probe serve` on a free port, opens connections to it, sends it TERM half-way, and says
/// what happened to each connection.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    override_usage = "probe demo [OPTIONS]",
    after_help = "\
WHEN is a duration after the first SYN (200ms) or a count of steady connections started (25).

Examples:
  probe demo
  probe demo --all
  probe demo --policy drain --repeat 20
  probe demo --signal-tree --format heroku

Exit status: 0 measured; 1 a gate failed; 2 wrong usage, or it could not measure; 130 and 143 on
SIGINT and SIGTERM, with everything seen so far written out (a second one stops at once).",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct DemoArgs {
    /// Run every policy, and print one table
    #[arg(long, conflicts_with = "policy", help_heading = "Server")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    #[command(flatten)]
    pub(crate) job: JobArgs,
}

/// The clap command: defaults that keep a demonstration short, and no word of a command of the
/// user's.
pub(super) fn command() -> Command {
    DemoArgs::command()
        .mut_arg("timeout", |arg| arg.default_value("2s"))
        .mut_arg("stop_timeout", |arg| {
            arg.default_value("1s")
                .help("How long the server may take to stop, after the last connection, before it is killed")
        })
        .mut_arg("repeat", |arg| {
            arg.help("So many fresh runs, each with a server of its own, pooled")
        })
        .mut_arg("start_timeout", |arg| {
            arg.help("How long the server may take to listen")
        })
        .mut_arg("signal", |arg| {
            arg.help(
                "Signal to send; may be repeated; `none` sends none [default: TERM at half the \
                 count, none with --first-request]",
            )
        })
}
