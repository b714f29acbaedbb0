//! One run: the server it is made against, and everything that must be open before the first SYN.

use std::io;

use anyhow::{Context as _, Result, bail};

use super::measure::{Parts, Run};
use super::notes::Notes;
use crate::commands::interrupt::Interrupt;
use crate::commands::outputs;
use crate::commands::recorder::{Message, Recorder};
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

/// The server that the probe started.
pub(super) struct StartedServer {
    pub(super) server: Server,
    pub(super) command: ServerCommand,
    pub(super) at_rest: bool,
    pub(super) stop: Option<Stop>,
}

/// Starts the server where a command is given, and finds out where to connect to.
pub(super) fn start_server(
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
pub(super) struct Setup {
    pub(super) run_id: String,
    pub(super) target: Target,
    pub(super) clock: Clock,
    pub(super) shells: Shells,
    pub(super) writers: outputs::Writers,
}

impl Setup {
    /// Opens everything that must be open before the first SYN.
    pub(super) fn prepare(
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
pub(super) fn wire_refused(error: &io::Error, wish: WireWish) -> String {
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
