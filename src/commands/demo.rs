//! `probe demo`: the main job against the embedded server, which runs as a process of its own.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use nix::unistd::getpid;

use super::main_job::{self, Measured};
use crate::cli::{DemoArgs, JobArgs, RunArgs, ServerArgs, SignalArg};
use crate::connect::raw::manner::Does;
use crate::plan::{self, Case, Engine, Plan};
use crate::prefork::{self, FirstRequest, Policy};
use crate::report::demo::{self, Asked, Clients, Shown};
use crate::report::policies;
use crate::target::trigger::{Action, Trigger};

/// Runs the server and the main job against it, once or for every policy.
pub(super) fn run(args: DemoArgs, words: &[OsString]) -> Result<ExitCode> {
    let DemoArgs { all, server, job } = args;
    let program = env::current_exe().context("cannot find the program that runs")?;
    let is_plain = !all && server.policy.is_none();
    let mut left_out = Vec::new();
    let policies = if all {
        possible(&mut left_out)
    } else {
        prefork::may_serve(server.policy())?;
        vec![server.policy()]
    };
    let job = with_default_signal(job, &server);
    let starts = |policy| start(&program, &server, policy);
    let mut plan = Plan::check(RunArgs::with_command(job, starts(server.policy())))?;
    plan.notes.extend(plan::serve::notes(&server));
    plan.notes.extend(left_out);
    let cases: Vec<Case> = policies
        .iter()
        .map(|&policy| {
            let mut case = plan.case.clone();
            case.label = all.then(|| policy.word().to_owned());
            if let Some(command) = &mut case.command {
                command.invocation.words = starts(policy);
            }
            case
        })
        .collect();
    let setting = Setting {
        policies,
        all,
        is_plain,
        program: words.first().map_or_else(
            || "probe".to_owned(),
            |word| word.to_string_lossy().into_owned(),
        ),
        on_stdout: !plan.outputs.take_stdout(),
        asked: Asked {
            signal: only_signal(&plan.case.triggers),
            first_request: server.first_request,
            clients: clients(plan.engine),
        },
    };
    main_job::run_series(plan, &cases, words)?.report(|measured| setting.tell(measured))
}

/// The policies that this user may have a server for; the others are `left_out` with the reason.
fn possible(left_out: &mut Vec<String>) -> Vec<Policy> {
    let may = |policy: &Policy| match prefork::may_serve(*policy) {
        Ok(()) => true,
        Err(error) => {
            left_out.push(format!("{} is left out: {error}", policy.word()));
            false
        }
    };
    Policy::ALL.into_iter().filter(may).collect()
}

/// The command that starts the server.
fn start(program: &Path, server: &ServerArgs, policy: Policy) -> Vec<OsString> {
    let words = ["serve", "--listen", "127.0.0.1:0", "--tied-to"].map(OsString::from);
    let mut command = vec![program.as_os_str().to_owned()];
    command.extend(words);
    command.push(getpid().to_string().into());
    command.extend(server.words(policy));
    command
}

/// A first request that stops the server takes the place of the default signal.
fn with_default_signal(mut job: JobArgs, server: &ServerArgs) -> JobArgs {
    if server.first_request != FirstRequest::None && job.signal.is_empty() {
        job.signal.push(SignalArg::None);
    }
    job
}

/// The signal that the server gets, where it gets one and nothing else is done to it.
fn only_signal(triggers: &[Trigger]) -> Option<Signal> {
    match triggers {
        [
            Trigger {
                action: Action::Signal(signal, _),
                ..
            },
        ] => Some(*signal),
        _ => None,
    }
}

/// How far clients go with the server.
fn clients(engine: Engine) -> Clients {
    let Engine::Raw(manner) = engine else {
        return Clients::Ask;
    };
    match manner.does {
        Does::Ask | Does::Split { .. } => Clients::Ask,
        Does::Handshake => Clients::Connect,
        Does::Syn => Clients::Knock,
    }
}

/// What the text at the end depends on.
struct Setting {
    policies: Vec<Policy>,
    all: bool,
    /// No policy was asked for.
    is_plain: bool,
    /// Whether a person reads it.
    on_stdout: bool,
    asked: Asked,
    /// How we were called.
    program: String,
}

impl Setting {
    fn tell(&self, measured: &Measured) -> String {
        let cases = self.policies.iter().copied().zip(measured.cases());
        let mut pools = cases.map(|(policy, case)| (policy, &case.pool));
        if self.all {
            // A series that ended early has nothing to say of the others.
            let made: Vec<_> = pools.filter(|(_, pool)| pool.runs() > 0).collect();
            return policies::render(&made, &measured.remarks());
        }
        let mut text = measured.table();
        let Some((policy, pool)) = pools.next().filter(|_| self.on_stdout) else {
            return text;
        };
        let shown = Shown {
            policy,
            was_killed: measured.killed() > 0,
            summary: &pool.summary,
        };
        text.push('\n');
        let signal = self.asked.signal;
        let asked = Asked {
            // Of a signal that was not sent, as after an interrupt, there is nothing to tell.
            signal: signal.filter(|_| measured.was_triggered_as_planned()),
            ..self.asked
        };
        text.push_str(&demo::sentences(&shown, asked));
        if self.is_plain {
            text.push('\n');
            let best = match prefork::may_serve(Policy::FilterDrain) {
                Ok(()) => Policy::FilterDrain,
                Err(_) => Policy::Drain,
            };
            text.push_str(&demo::next_commands(&self.program, best));
        }
        text
    }
}
