//! The main job: start the server if asked to, watch, connect, trigger, stop, report.

mod measure;
mod report;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};

use self::measure::{Parts, Run};
use self::report::Report;
use super::interrupt::Interrupt;
use super::outputs;
use super::recorder::{Message, Recorder};
use super::say;
use crate::cli::RunArgs;
use crate::connect::socket::Engine;
use crate::observe::packet::PacketTap;
use crate::observe::route::{Route, route_to};
use crate::plan::{Plan, ServerCommand, Target, WireWish};
use crate::record::Join;
use crate::report::Context;
use crate::sys::{capability, reason};
use crate::target::child::{Server, Stop};
use crate::target::process::Process;
use crate::target::trigger::{Shells, Triggers};
use crate::target::watch::ExitWatch;
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

/// Things the user should know: said on stderr as they come up, and listed again in run.json.
struct Notes {
    quiet: bool,
    lines: Vec<String>,
}

impl Notes {
    fn new(quiet: bool) -> Notes {
        Notes {
            quiet,
            lines: Vec::new(),
        }
    }

    fn tell(&mut self, line: String) {
        if !self.quiet {
            say(&mut io::stderr(), &format!("probe: {line}\n"));
        }
        self.lines.push(line);
    }

    fn tell_all(&mut self, lines: &mut Vec<String>) {
        for line in lines.drain(..) {
            self.tell(line);
        }
    }
}

/// The server that the probe started.
struct StartedServer {
    server: Server,
    command: ServerCommand,
    at_rest: bool,
    stop: Option<Stop>,
}

/// Starts the server where a command is given, and finds out where to connect to.
fn start_server(
    plan: &Plan,
    log: Option<outputs::LogFile>,
    shells: Shells,
    clock: Clock,
    interrupt: &Interrupt,
    notes: &mut Notes,
) -> Result<(Option<StartedServer>, Target)> {
    let Some(command) = &plan.command else {
        let target = plan
            .target
            .clone()
            .context("nothing to connect to; give --target")?;
        return Ok((None, target));
    };
    if let Some(target) = &plan.target {
        Server::check_free(target.address)?;
    }
    let mut server = Server::start(&command.words, log, shells, clock)?;
    interrupt.take_along(server.pid());
    let wanted = plan.target.as_ref().map(|target| target.address);
    let came = || interrupt.came();
    let (address, at_rest) = server.wait_until_ready(wanted, command.start_timeout, &came)?;
    if !at_rest {
        notes.tell("the server listens and is still busy; it is probed all the same".to_owned());
    }
    let target = plan.target.clone().unwrap_or_else(|| Target {
        name: address.to_string(),
        address,
    });
    let started = StartedServer {
        server,
        command: command.clone(),
        at_rest,
        stop: None,
    };
    Ok((Some(started), target))
}

/// What a run is prepared from, besides its plan.
struct Setup {
    run_id: String,
    target: Target,
    clock: Clock,
    shells: Shells,
    writers: outputs::Writers,
}

impl Setup {
    /// Opens everything that must be open before the first SYN.
    fn prepare(
        self,
        plan: &mut Plan,
        server: Option<&StartedServer>,
        notes: &mut Notes,
    ) -> Result<Run> {
        let clock = self.clock;
        let template = plan.request.template(&self.target.name, &self.run_id);
        let (content, protocol) = (plan.request.content(), plan.request.protocol());
        let context = Context {
            run_id: self.run_id,
            request: Some(template.clone()),
            ..Context::default()
        };
        let route = route_to(self.target.address);
        let this_host = route.as_ref().is_ok_and(|route| route.local);
        let load = plan.load.clone();
        let job = load.fit(&self.target, this_host, template, content, &mut plan.notes)?;
        notes.tell_all(&mut plan.notes);
        let engine = Engine::new(job, clock).context("cannot make an epoll instance")?;
        let master = match server {
            // A server that has died since is found out by its refusals.
            Some(started) => Process::open(started.server.pid()).ok(),
            None => plan.master.take(),
        };
        let mut exits = ExitWatch::new(clock);
        if let Some(master) = &master {
            exits
                .watch_tree(master.pid())
                .context("cannot watch the server's processes")?;
        }
        let (tap, wire_missing) = match open_tap(&self.target, route, plan.wire) {
            Ok(tap) => (Some(tap), None),
            Err(missing) if plan.wire == WireWish::Required => bail!("{missing}"),
            Err(missing) => {
                if plan.wire == WireWish::IfAllowed {
                    notes.tell(format!("{missing}; going on from the sockets alone"));
                }
                (None, Some(missing))
            }
        };
        let keep_steps = self.writers.wants_steps();
        let join = if tap.is_some() {
            let lifetime = (plan.load.idle == 0).then_some(plan.load.timeout);
            Join::with_wire(self.target.address, protocol, lifetime, keep_steps)
        } else {
            Join::of_sockets(keep_steps)
        };
        let triggered = !plan.triggers.is_empty();
        let recorder = Recorder::start(join, self.writers, context, triggered, clock)
            .context("cannot start a thread")?;
        let vantage = match tap {
            Some(tap) => {
                let to_recorder = recorder.sender();
                let sink = move |batch| to_recorder.send(Message::Wire(batch)).is_ok();
                Some(tap.read(clock, sink).context("cannot start a thread")?)
            }
            None => None,
        };
        let triggers = Triggers::new(
            plan.triggers.clone(),
            master,
            plan.signal_tree,
            self.shells,
            clock,
        );
        let count = plan.load.count;
        Ok(Run::new(Parts {
            clock,
            engine,
            triggers,
            exits,
            recorder,
            vantage,
            wire_missing,
            count,
        }))
    }
}

/// Opens the packet ring, or says why there is none.
fn open_tap(
    target: &Target,
    route: io::Result<Route>,
    wish: WireWish,
) -> std::result::Result<PacketTap, String> {
    if wish == WireWish::Off {
        return Err("not asked for".to_owned());
    }
    let refused = |error: &io::Error| wire_refused(error, wish);
    let route = route.map_err(|error| refused(&error))?;
    PacketTap::open(target.address, route).map_err(|error| refused(&error))
}

/// Why no packets can be seen, and what to do about it.
fn wire_refused(error: &io::Error, wish: WireWish) -> String {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("that needs {}", capability::how_to_get_net_raw())
        }
        _ => reason(error),
    };
    let otherwise = match wish {
        WireWish::Required => "; or leave wire out of --observe",
        WireWish::IfAllowed | WireWish::Off => "",
    };
    format!("no packets are seen: {why}{otherwise}")
}

/// A name for the run that sorts by time and differs between runs at one moment.
fn run_id(clock: Clock) -> String {
    let time = jiff::Timestamp::from_nanosecond(clock.started().0.into()).unwrap_or_default();
    format!("{}-{}", time.strftime("%Y%m%dT%H%M%S"), std::process::id())
}
