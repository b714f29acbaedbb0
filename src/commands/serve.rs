//! `probe serve`: the embedded server alone.

use std::process::ExitCode;

use anyhow::Result;

use super::tell;
use crate::cli::ServeArgs;
use crate::plan;
use crate::prefork::{self, Ended};
use crate::time::Clock;

/// Serves until it is told to stop.
pub(super) fn run(args: ServeArgs) -> Result<ExitCode> {
    let (config, notes) = plan::serve::server(args)?;
    for line in &notes {
        tell(line);
    }
    let ended = prefork::serve(&config, Clock::start(), &mut tell)?;
    Ok(match ended {
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Interrupted => ExitCode::from(130),
    })
}
