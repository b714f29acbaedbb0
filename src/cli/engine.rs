//! Options that choose whose TCP makes connections, and what only probe's own can do.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values;

/// Whose TCP makes connections, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Whose TCP makes connections
    #[arg(
        long,
        value_enum,
        default_value_t = EngineName::Socket,
        help_heading = "Engine"
    )]
    pub(crate) engine: EngineName,

    /// With --engine raw: connect, send nothing, stay until the timeout: does the server's queue take it?
    #[arg(
        long,
        conflicts_with_all = ["syn_only", "split_request", "path", "header", "method", "request", "payload", "expect_bytes", "idle"],
        help_heading = "Engine"
    )]
    pub(crate) handshake_only: bool,

    /// With --engine raw: reset the half-open connection once the SYN is answered: is anybody listening?
    #[arg(
        long,
        conflicts_with_all = ["close", "split_request", "path", "header", "method", "request", "payload", "expect_bytes", "idle"],
        help_heading = "Engine"
    )]
    pub(crate) syn_only: bool,

    /// With --engine raw: send so many bytes of the request at once, the others DUR after the trigger: is
    /// a request that is half read waited for?
    #[arg(
        long,
        value_name = "BYTES@DUR",
        conflicts_with = "idle",
        help_heading = "Engine"
    )]
    pub(crate) split_request: Option<SplitArg>,

    /// With --engine raw: how the client ends its side: what does the server make of a client that
    /// resets, or never closes? [default: fin]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Engine")]
    pub(crate) close: Option<CloseArg>,
}

/// Whose TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// The kernel's
    Socket,
    /// probe's own, segment by segment; needs CAP_NET_RAW
    Raw,
}

/// How the client ends its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CloseArg {
    /// With FIN, as close() does
    Fin,
    /// With RST
    Rst,
    /// Not at all; what is left is reset when the run ends
    None,
}

/// How much of a request is sent at once, and how long after the trigger the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SplitArg {
    /// Bytes sent at once.
    pub(crate) first: u64,
    /// From the trigger to the others.
    pub(crate) delay: Duration,
}

impl FromStr for SplitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<SplitArg, String> {
        let remedy = || {
            format!(
                "`{text}` does not say how much is sent when; give BYTES@DUR, as in 20@10ms for 20 \
                 bytes at once and the others 10 ms after the trigger"
            )
        };
        let (first, delay) = text.split_once('@').ok_or_else(remedy)?;
        values::not_negative(first, "1 byte")?;
        let first = first.parse().map_err(|_| remedy())?;
        if first == 0 {
            return Err(
                "0 bytes at once is an idle connection; give --idle, or 1 byte or more".to_owned(),
            );
        }
        let delay = values::duration(delay)?;
        Ok(SplitArg { first, delay })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_names_bytes_and_a_delay() {
        let delay = Duration::from_millis(10);
        assert_eq!("20@10ms".parse(), Ok(SplitArg { first: 20, delay }));
        for wrong in ["20", "@10ms", "x@10ms", "20@10", "0@10ms", "-1@1s", ""] {
            assert!(wrong.parse::<SplitArg>().is_err(), "{wrong}");
        }
    }
}
