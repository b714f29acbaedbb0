//! A checked reading of a capture: which end is the server, when it was signalled, where results go.

use std::path::PathBuf;

use super::{Outputs, PlanError, outputs, refuse};
use crate::cli::{ReadArgs, SideArgs};
use crate::record::ServerSide;
use crate::time::Stamp;

/// Everything that reading needs to know.
#[derive(Debug)]
pub(crate) struct ReadPlan {
    /// The capture; nothing where it is stdin.
    pub(crate) file: Option<PathBuf>,
    /// Which end is the server.
    pub(crate) side: ServerSide,
    /// When it was signalled.
    pub(crate) signal: Option<Stamp>,
    /// Where results go.
    pub(crate) outputs: Outputs,
    /// The most that may be lost before it is a failure.
    pub(crate) max_lost: Option<u64>,
}

impl ReadPlan {
    /// Checks what was typed.
    pub(crate) fn check(args: ReadArgs) -> Result<ReadPlan, PlanError> {
        let outputs = outputs(&args.output, None, &[&args.capture])?;
        Ok(ReadPlan {
            side: side(&args.side)?,
            signal: args.signal_at.as_deref().map(signal_at).transpose()?,
            outputs,
            max_lost: args.output.max_lost(),
            file: Some(args.capture).filter(|file| file.as_os_str() != "-"),
        })
    }
}

pub(super) fn side(args: &SideArgs) -> Result<ServerSide, PlanError> {
    match (args.port, args.server.as_deref()) {
        (Some(0), _) => refuse("port 0 is no server's; give the port it listened on"),
        (Some(port), _) => Ok(ServerSide::Port(port)),
        (None, Some(text)) => match text.parse() {
            Ok(address) => Ok(ServerSide::Address(address)),
            Err(_) => refuse(format!(
                "--server `{text}` is no address; give ADDR:PORT as the capture has it, as in \
                 10.0.0.5:80 or [::1]:9292"
            )),
        },
        (None, None) => Ok(ServerSide::FromSyns),
    }
}

/// Nanoseconds from decimal seconds, exactly.
fn signal_at(text: &str) -> Result<Stamp, PlanError> {
    let wrong = || {
        PlanError(format!(
            "--signal-at `{text}` is no time; give Unix seconds, as in 1763861787.25 (`date \
             +%s.%N` prints the present)"
        ))
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let seconds: i64 = seconds.parse().map_err(|_| wrong())?;
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    let ns = seconds
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(nanos))
        .ok_or_else(wrong)?;
    Ok(Stamp(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_to_the_nanosecond() {
        let read = |text| signal_at(text).ok().map(|stamp| stamp.0);
        assert_eq!(read("1763861787.25"), Some(1_763_861_787_250_000_000));
        assert_eq!(read("0.000000001"), Some(1));
        assert_eq!(read("5"), Some(5_000_000_000));
        for wrong in ["", "soon", "-1", "1e9", "1.0000000001", "99999999999"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
