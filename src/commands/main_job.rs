//! The main job: start the server if asked to, watch, connect, trigger, stop, report; as often as
//! asked for, and for any number of servers. What a plan asks for is left to the rooms below.

mod course;
mod measure;
mod name;
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

use crate::cli::RunArgs;
use crate::plan::{Case, Plan};

pub(super) use self::report::{CaseMeasured, Measured};
pub(super) use self::series::{Series, Unmeasurable};

/// Carries it out for one server.
pub(super) fn run(args: RunArgs, words: &[OsString]) -> Result<ExitCode> {
    let plan = Plan::check(args)?;
    let case = plan.case.clone();
    run_series(plan, &[case], words)?.report(Measured::table)
}

/// Measures each of `cases` as often as the plan says, whatever its own server and load are. The command line
/// `words` goes into each run.json. What was measured before something went wrong is kept; an error
/// says that nothing was.
pub(super) fn run_series(plan: Plan, cases: &[Case], words: &[OsString]) -> Result<Measured> {
    let series = Series::open(plan, words)?;
    series.measure(cases, Unmeasurable::EndsTheSeries, |_| Ok(()))
}
