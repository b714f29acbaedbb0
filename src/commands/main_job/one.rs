//! One run: its server is started, everything is opened before the first SYN, and all of it ends.
//! What the runs of a series have in common is handed in; what a run says is left to its report.

use std::io;

use anyhow::{Context as _, Error, Result, bail};

use super::measure::{Ended, Parts, Run};
use super::notes::Notes;
use super::server::{StartedServer, Starting};
use crate::commands::interrupt::Interrupt;
use crate::commands::outputs::{LogFile, OpenOutputs, RunFiles};
use crate::commands::recorder::{Message, Recorder};
use crate::commands::spool::Spool;
use crate::connect::request::Template;
use crate::connect::socket::Engine;
use crate::flow::Protocol;
use crate::observe::packet::PacketTap;
use crate::observe::route::{Route, route_to};
use crate::plan::{Plan, ServerCommand, Target, WireWish};
use crate::record::Join;
use crate::report::Context;
use crate::sys::{capability, reason};
use crate::target::process::Process;
use crate::target::trigger::{Shells, Triggers};
use crate::target::watch::ExitWatch;
use crate::time::Clock;

/// A run of which nothing has been done.
pub(super) struct OneRun<'a> {
    pub(super) run_id: String,
    pub(super) plan: &'a Plan,
    pub(super) command: Option<&'a ServerCommand>,
    pub(super) interrupt: &'a Interrupt,
    pub(super) shells: Shells,
    pub(super) clock: Clock,
}

/// A run that has ended, and its server with it.
pub(super) struct Finished {
    pub(super) run_id: String,
    pub(super) target: Target,
    /// What its connections carried.
    pub(super) protocol: Protocol,
    pub(super) clock: Clock,
    pub(super) server: Option<StartedServer>,
    pub(super) ended: Ended,
    /// Whether somebody interrupted it.
    pub(super) interrupted: bool,
    /// What kept it from being measured to its end.
    pub(super) broken: Option<Error>,
}

impl OneRun<'_> {
    /// Makes it. `master` is whom signals go to where there is no command. The writers are taken, and
    /// lie in what was recorded; an error says why the run never began.
    pub(super) fn make(
        self,
        files: &mut RunFiles,
        master: Option<Process>,
        opened: &mut OpenOutputs,
        notes: &mut Notes,
        show_progress: bool,
    ) -> Result<Finished> {
        let (mut server, target) = self.start(files.log.take(), notes)?;
        let master = match &server {
            // A server that has died since is found out by its refusals.
            Some(started) => Process::open(started.server.pid()).ok(),
            None => master,
        };
        let mut run = self.prepare(&target, master, files, opened, notes)?;
        let broken = run.measure(self.interrupt, show_progress).err();
        if self.interrupt.came() && server.is_some() {
            notes.tell("stopping the server; another interrupt ends everything at once".to_owned());
        }
        let ended = run.end(server.as_mut(), self.interrupt);
        Ok(Finished {
            interrupted: self.interrupt.came(),
            run_id: self.run_id,
            target,
            protocol: self.plan.request.protocol(),
            clock: self.clock,
            server,
            ended,
            broken,
        })
    }

    /// Starts the server where a command is given, and finds out where to connect to.
    fn start(
        &self,
        log: Option<LogFile>,
        notes: &mut Notes,
    ) -> Result<(Option<StartedServer>, Target)> {
        let target = self.plan.target.as_ref();
        let Some(command) = self.command else {
            let target = target.context("nothing to connect to; give --target")?;
            return Ok((None, target.clone()));
        };
        let starting = Starting {
            command,
            target,
            interrupt: self.interrupt,
            shells: self.shells.clone(),
            clock: self.clock,
        };
        let (server, target) = starting.start(log, notes)?;
        Ok((Some(server), target))
    }

    /// Opens everything that must be open before the first SYN.
    fn prepare(
        &self,
        target: &Target,
        master: Option<Process>,
        files: &mut RunFiles,
        opened: &mut OpenOutputs,
        notes: &mut Notes,
    ) -> Result<Run> {
        let (plan, clock) = (self.plan, self.clock);
        let route = route_to(target.address);
        let template = plan.request.template(&target.name, &self.run_id);
        let this_host = route.as_ref().is_ok_and(|route| route.local);
        let engine = self.engine(target, template.clone(), this_host, notes)?;
        let mut exits = ExitWatch::new(clock);
        if let Some(master) = &master {
            exits
                .watch_tree(master.pid())
                .context("cannot watch the server's processes")?;
        }
        let (tap, wire_missing) = match open_tap(target, route, plan.wire) {
            Ok(tap) => (Some(tap), None),
            Err(missing) => {
                notes.tell_all(&mut without_packets(plan.wire, &missing, files)?);
                (None, Some(missing))
            }
        };
        let spool = match &tap {
            Some(_) => spool(files, opened)?,
            None => None,
        };
        let keep_packets = spool.is_some();
        let wants_steps = opened.writers.wants_steps();
        let mut join = self.join(target, tap.is_some(), wants_steps);
        if keep_packets {
            join = join.keeping_attempts();
        }
        let triggered = !plan.triggers.is_empty();
        let writers = std::mem::take(&mut opened.writers);
        let context = Context {
            run_id: self.run_id.clone(),
            request: Some(template),
            ..Context::default()
        };
        let recorder = Recorder::start(join, writers, spool, context, triggered, clock)
            .context("cannot start a thread")?;
        let interface = tap.as_ref().map(PacketTap::interface_name);
        let vantage = match tap {
            Some(tap) => {
                let to_recorder = recorder.sender();
                let sink = move |batch| to_recorder.send(Message::Wire(batch)).is_ok();
                let read = tap.read(clock, keep_packets, sink);
                Some(read.context("cannot start a thread")?)
            }
            None => None,
        };
        let triggers = Triggers::new(
            plan.triggers.clone(),
            master,
            plan.signal_tree,
            self.shells.clone(),
            clock,
        );
        Ok(Run::new(Parts {
            clock,
            engine,
            triggers,
            exits,
            recorder,
            vantage,
            interface,
            wire_missing,
            count: plan.load.count,
        }))
    }

    fn engine(
        &self,
        target: &Target,
        template: Template,
        this_host: bool,
        notes: &mut Notes,
    ) -> Result<Engine> {
        let mut found = Vec::new();
        let (load, content) = (self.plan.load.clone(), self.plan.request.content());
        let job = load.fit(target, this_host, template, content, &mut found)?;
        notes.tell_all(&mut found);
        Engine::new(job, self.clock).context("cannot make an epoll instance")
    }

    fn join(&self, target: &Target, wire: bool, keep_steps: bool) -> Join {
        if !wire {
            return Join::of_sockets(keep_steps);
        }
        let load = &self.plan.load;
        let lifetime = (load.idle == 0).then_some(load.timeout);
        let protocol = self.plan.request.protocol();
        Join::with_wire(target.address, protocol, lifetime, keep_steps)
    }
}

/// What the user should know of a run without packets; an error where they were required.
fn without_packets(wish: WireWish, missing: &str, files: &RunFiles) -> Result<Vec<String>> {
    let no_file = files.have_folder();
    Ok(match wish {
        WireWish::Required { .. } => bail!("{missing}"),
        WireWish::IfAllowed => {
            let but = if no_file { ", without run.pcapng" } else { "" };
            vec![format!("{missing}; going on from the sockets alone{but}")]
        }
        WireWish::Off if no_file => vec!["without packets there is no run.pcapng".to_owned()],
        WireWish::Off => Vec::new(),
    })
}

/// Opens what packets go to in the end, and what holds them until then; nothing where they are not
/// wanted.
fn spool(files: &mut RunFiles, opened: &OpenOutputs) -> Result<Option<Spool>> {
    files.open_pcap()?;
    let named = [&files.pcap, &opened.pcap];
    if named.iter().all(|file| file.is_none()) {
        return Ok(None);
    }
    let mut folders = named.into_iter().flatten().map(|file| file.folder());
    let spool = Spool::open(folders.find_map(|folder| folder));
    let spool =
        spool.context("packets cannot be held until the run ends; make room, or set TMPDIR")?;
    Ok(Some(spool))
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
        WireWish::Required { otherwise } => format!("; or {otherwise}"),
        WireWish::IfAllowed | WireWish::Off => String::new(),
    };
    format!("no packets are seen: {why}{otherwise}")
}
