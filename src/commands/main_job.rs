//! The main job: start the server if asked to, watch, connect, trigger, stop, report.

mod measure;
mod notes;
mod one;
mod remarks;
mod report;
mod run_json;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};

use self::notes::Notes;
use self::one::{Setup, start_server, wire_refused};
use self::report::Report;
use super::interrupt::Interrupt;
use super::outputs;
use crate::cli::RunArgs;
use crate::observe::packet::PacketTap;
use crate::plan::{Plan, WireWish};
use crate::target::trigger::Shells;
use crate::time::Clock;

/// Carries a run out.
pub(super) fn run(args: RunArgs, words: &[OsString]) -> Result<ExitCode> {
    let clock = Clock::start();
    let mut plan = Plan::check(args)?;
    let interrupt = Interrupt::catch().context("cannot catch SIGINT and SIGTERM")?;
    let mut notes = Notes::new(plan.outputs.quiet);
    notes.tell_all(&mut plan.notes);
    if plan.wire == WireWish::Required {
        PacketTap::may_open().map_err(|error| anyhow!("{}", wire_refused(&error, plan.wire)))?;
    }
    let mut opened = outputs::open(&plan.outputs, plan.command.is_some())?;
    let log = opened.log.take();
    let shells = Shells::default();
    let started = start_server(&plan, log, shells.clone(), clock, &interrupt, &mut notes);
    let (mut server, target) = match (started, interrupt.exit_code()) {
        (Ok(started), _) => started,
        (Err(error), code) => {
            // Nothing was measured: a folder with empty files would only be in the way.
            opened.discard();
            return match code {
                Some(code) => {
                    notes.tell("interrupted before the first connection".to_owned());
                    Ok(ExitCode::from(code))
                }
                None => Err(error),
            };
        }
    };
    let setup = Setup {
        run_id: run_id(clock),
        target,
        clock,
        shells,
        writers: std::mem::take(&mut opened.writers),
    };
    let (run_id, target) = (setup.run_id.clone(), setup.target.clone());
    let mut run = match setup.prepare(&mut plan, server.as_ref(), &mut notes) {
        Ok(run) => run,
        Err(error) => {
            opened.discard();
            return Err(error);
        }
    };
    let measured = run.measure(&interrupt, !plan.outputs.quiet);
    let ended = run.end(server.as_mut(), &interrupt);
    let code = Report {
        run_id: &run_id,
        words,
        target: &target,
        clock,
        max_lost: plan.max_lost,
        interrupt: &interrupt,
        server: server.as_ref(),
        ended: &ended,
    }
    .write(opened, notes);
    measured.map(|()| code)
}

/// A name for the run that sorts by time and differs between runs at one moment.
fn run_id(clock: Clock) -> String {
    let time = jiff::Timestamp::from_nanosecond(clock.started().0.into()).unwrap_or_default();
    format!("{}-{}", time.strftime("%Y%m%dT%H%M%S"), std::process::id())
}
