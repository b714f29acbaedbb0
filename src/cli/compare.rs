//! The options of `probe compare`.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

use super::read::SideArgs;

/// Hold a run against an independent capture of it
///
/// Joins the connections of both by their ends and time, and says which agree, which only one of the
/// two has, and where the others differ first. Only what a side itself shows explains a difference:
/// when it began and ended, and bytes that it proves to have missed.
#[derive(Debug, Parser)]
#[command(
    name = "compare",
    override_usage = "probe compare RUN CAPTURE [OPTIONS]",
    after_help = "\
Examples:
  probe compare run1 tcpdump.pcap
  probe compare connections.csv tcpdump.pcap --csv differences.csv
  probe compare client.pcap server.pcap --port 9292 --across-interfaces

Exit status: 0 nothing differs beyond what is explained; 1 something does; 2 wrong usage, or one of
the two could not be read.",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct CompareArgs {
    /// The folder of a run, its connections.csv, or a capture
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,

    /// The capture that it is held against; - is stdin
    #[arg(value_name = "CAPTURE")]
    pub(crate) capture: PathBuf,

    #[command(flatten)]
    pub(crate) side: SideArgs,

    /// The two were taken on different interfaces: compare bytes, and the order of SYN, FIN and RST
    #[arg(long, help_heading = "Comparison")]
    pub(crate) across_interfaces: bool,

    /// A row for each connection; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) csv: Option<PathBuf>,

    /// Print no report
    #[arg(short = 'q', long, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Print help
    #[arg(short = 'h', long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,
}
