//! The main job: start the server if asked to, watch, connect, trigger, stop, report; as often as
//! asked for, and for any number of servers. What a plan asks for is left to the rooms below.

mod case;
mod course;
mod measure;
mod notes;
mod one;
mod packets;
mod remarks;
mod report;
mod run_json;
mod series;
mod server;
mod tally;
mod vantages;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use self::series::Series;
use crate::cli::RunArgs;
use crate::plan::Plan;

pub(super) use self::case::Case;
pub(super) use self::report::Measured;

/// Carries it out for one server.
pub(super) fn run(args: RunArgs, words: &[OsString]) -> Result<ExitCode> {
    let plan = Plan::check(args)?;
    let case = Case {
        label: None,
        command: plan.command.clone(),
    };
    run_series(plan, &[case], words)?.report(Measured::table)
}

/// Measures each of `cases` as often as the plan says, whatever its own command is. The command line
/// `words` goes into each run.json. What was measured before something went wrong is kept; an error
/// says that nothing was.
pub(super) fn run_series(plan: Plan, cases: &[Case], words: &[OsString]) -> Result<Measured> {
    Series::open(plan, words)?.measure(cases)
}
