//! The options of `probe read`.

use std::path::PathBuf;

use clap::{Args, Parser};

use super::run::OutputArgs;

/// Say what happened to each connection in a capture that somebody took with tcpdump
///
/// Reads classic pcap and pcapng files as tcpdump and Wireshark write them, and says of each
/// connection what a live run would say, as far as packets tell it.
#[derive(Debug, Parser)]
#[command(
    name = "read",
    override_usage = "probe read CAPTURE [OPTIONS]",
    after_help = "\
Examples:
  probe read puma.pcap --port 9292
  probe read puma.pcapng --csv connections.csv --signal-at 1763861787.25
  tcpdump -i any -w - port 9292 | probe read -

Exit status: 0 read, also where the file is cut off in the middle of a packet; 1 a gate failed;
2 wrong usage, or it could not be read; 130 on Ctrl-C and 143 on SIGTERM, with what was read written.",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct ReadArgs {
    /// The capture; - is stdin
    #[arg(value_name = "CAPTURE")]
    pub(crate) capture: PathBuf,

    #[command(flatten)]
    pub(crate) side: SideArgs,

    /// When the server was signalled, in Unix seconds: since_signal_us counts from then
    #[arg(long, value_name = "SECONDS", help_heading = "Server")]
    pub(crate) signal_at: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which end of a capture's connections is the server.
#[derive(Debug, Args)]
pub(crate) struct SideArgs {
    /// The server's port [default: that of a run's target, else wherever SYNs go]
    #[arg(
        long,
        value_name = "PORT",
        conflicts_with = "server",
        help_heading = "Server"
    )]
    pub(crate) port: Option<u16>,

    /// The server's address and port
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Server")]
    pub(crate) server: Option<String>,
}
