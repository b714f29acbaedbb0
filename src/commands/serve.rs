//! `probe serve`: the embedded server alone.

use std::io;
use std::process::ExitCode;

use anyhow::Result;

use super::say;
use crate::cli::ServeArgs;
use crate::plan;
use crate::prefork::{self, Ended};
use crate::time::Clock;

/// Serves until it is told to stop.
pub(super) fn run(args: ServeArgs) -> Result<ExitCode> {
    let mut note = |line: &str| say(&mut io::stderr(), &format!("probe: {line}\n"));
    let (config, notes) = plan::serve::server(args)?;
    for line in &notes {
        note(line);
    }
    let ended = prefork::serve(&config, Clock::start(), &mut note)?;
    Ok(match ended {
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Interrupted => ExitCode::from(130),
    })
}
