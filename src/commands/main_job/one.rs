//! One run: its server is started, everything is opened before the first SYN, and all of it ends.
//! What the runs of a series have in common is handed in; what a run says is left to its report.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow};

use super::measure::{Ended, Parts, Run};
use super::notes::Notes;
use super::server::{StartedServer, Starting};
use super::vantages::{Missing, Taps, Watched, wire_refused};
use crate::commands::interrupt::Interrupt;
use crate::commands::outputs::{LogFile, OpenOutputs, RunFiles};
use crate::commands::recorder::{Message, Recorder};
use crate::commands::spool::Spool;
use crate::connect::raw::manner::{Does, Manner};
use crate::connect::raw::{RawEngine, Way};
use crate::connect::request::Template;
use crate::connect::socket::SocketEngine;
use crate::connect::{self, Job};
use crate::event::Vantage;
use crate::flow::Protocol;
use crate::observe::route::{Route, route_to};
use crate::plan::{Case, Engine, Plan, Target, Wish};
use crate::record::Join;
use crate::report::Context;
use crate::sys::capability::{self, CapabilitySet};
use crate::target::process::Process;
use crate::target::trigger::{Shells, Triggers};
use crate::target::watch::ExitWatch;
use crate::time::Clock;

/// A run of which nothing has been done.
pub(super) struct OneRun<'a> {
    pub(super) run_id: String,
    pub(super) plan: &'a Plan,
    pub(super) case: &'a Case,
    pub(super) interrupt: &'a Interrupt,
    pub(super) shells: Shells,
    pub(super) clock: Clock,
    /// Whether no other run follows it.
    pub(super) last: bool,
}

/// A run that has ended, and its server with it.
pub(super) struct Finished {
    pub(super) run_id: String,
    pub(super) target: Target,
    /// Whose TCP made its connections.
    pub(super) engine: Engine,
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
        let (mut run, mut engine) = self.prepare(&target, master, files, opened, notes)?;
        let broken = run
            .measure(engine.as_mut(), self.interrupt, show_progress)
            .err();
        if let Some(last) = engine.moved_to() {
            notes.tell(format!(
                "connections came from 127.0.0.1 to 127.0.0.{last}, as one source address had too few \
                 free ports, which matters where the server lets in by address (give a smaller \
                 --concurrency or --rate)"
            ));
        }
        if self.interrupt.came() && server.is_some() {
            notes.tell("stopping the server; another interrupt ends everything at once".to_owned());
        }
        let ended = run.end(engine, server.as_mut(), self.interrupt);
        Ok(Finished {
            interrupted: self.interrupt.came(),
            run_id: self.run_id,
            target,
            engine: self.plan.engine,
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
        let target = self.case.target.as_ref();
        let Some(command) = &self.case.command else {
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
    ) -> Result<(Run, Box<dyn connect::Engine>)> {
        let (plan, clock) = (self.plan, self.clock);
        let route = route_to(target.address);
        let template = plan.request.template(&target.name, &self.run_id);
        let this_host = route.as_ref().is_ok_and(|route| route.local);
        let job = self.job(target, template.clone(), this_host, notes)?;
        let way = self.way(target.address, &route)?;
        let mut exits = ExitWatch::new(clock);
        if let Some(master) = &master {
            exits
                .watch_tree(master.pid())
                .context("cannot watch the server's processes")?;
        }
        let taps = Taps::open(&Watched {
            target: target.address,
            route: &route,
            master: master.as_ref().map(Process::pid),
            wishes: plan.observe,
            own_wire: way.is_some(),
            clock,
        })?;
        if self.last {
            // Nothing is opened any more; where it cannot be dropped it was never there.
            let _ = capability::give_up(CapabilitySet::NET_RAW);
        }
        notes.tell_all(&mut without(&taps, plan.observe.wire, files));
        let spool = match taps.has_wire() {
            true => spool(files, opened)?,
            false => None,
        };
        let keep_packets = spool.is_some();
        let wants_steps = opened.writers.wants_steps();
        let join = self.join(target, taps.has_wire(), wants_steps);
        let mut join = join.with_kernel(taps.tables(target.address, wants_steps));
        if !plan.engine.asks() {
            join = join.asking_nothing();
        }
        if keep_packets {
            join = join.keeping_attempts();
        }
        let triggered = !self.case.triggers.is_empty();
        let writers = std::mem::take(&mut opened.writers);
        let context = Context {
            run_id: self.run_id.clone(),
            request: Some(template),
            ..Context::default()
        };
        let recorder = Recorder::start(join, writers, spool, context, triggered, clock)
            .context("cannot start a thread")?;
        let vantages = taps.read(&recorder, keep_packets, clock)?;
        let triggers = Triggers::new(
            self.case.triggers.clone(),
            master,
            self.shells.clone(),
            clock,
        );
        let engine = self.engine(job, way, &recorder, keep_packets)?;
        let run = Run::new(Parts {
            clock,
            triggers,
            exits,
            recorder,
            vantages,
            count: self.case.load.count,
        });
        Ok((run, engine))
    }

    /// What holds back a part of every request until the trigger, and for how long after it.
    fn split(&self) -> Option<Duration> {
        match self.plan.engine {
            Engine::Raw(Manner {
                does: Does::Split { delay, .. },
                ..
            }) => Some(delay),
            Engine::Raw(_) | Engine::Socket => None,
        }
    }

    fn job(
        &self,
        target: &Target,
        template: Template,
        this_host: bool,
        notes: &mut Notes,
    ) -> Result<Job> {
        let mut found = Vec::new();
        let (load, content) = (self.case.load.clone(), self.plan.request.content());
        let engine = self.plan.engine;
        let job = load.fit(target, this_host, engine, template, content, &mut found)?;
        notes.tell_all(&mut found);
        Ok(job)
    }

    /// What our own TCP needs to reach the server, where it is wanted.
    fn way(&self, target: SocketAddr, route: &io::Result<Route>) -> Result<Option<Way>> {
        let Engine::Raw(_) = self.plan.engine else {
            return Ok(None);
        };
        let refused =
            |error: &io::Error| anyhow!("{}", wire_refused(error, self.plan.observe.wire));
        let route = route.as_ref().map_err(refused)?;
        let way = Way::open(target, *route).map_err(|error| refused(&error))?;
        Ok(Some(way))
    }

    fn engine(
        &self,
        mut job: Job,
        way: Option<Way>,
        recorder: &Recorder,
        keep_packets: bool,
    ) -> Result<Box<dyn connect::Engine>> {
        let (Engine::Raw(manner), Some(way)) = (self.plan.engine, way) else {
            let engine = SocketEngine::new(job, self.clock);
            let engine = engine.context("cannot make an epoll instance")?;
            return Ok(Box::new(engine));
        };
        if let Some(delay) = self.split() {
            job.idle_delay = delay;
        }
        let sender = recorder.sender();
        let sink = Box::new(move |batch| sender.send(Message::Wire(batch)).is_ok());
        let engine = RawEngine::new(job, manner, way, self.clock, keep_packets, sink);
        Ok(Box::new(engine))
    }

    fn join(&self, target: &Target, wire: bool, keep_steps: bool) -> Join {
        let load = &self.case.load;
        // Who waits for the trigger may be silent for as long as that takes.
        let waits = load.idle > 0 || self.split().is_some();
        let lifetime = (!waits).then_some(load.timeout);
        if !wire {
            return Join::of_sockets(lifetime, keep_steps);
        }
        let protocol = self.plan.request.protocol();
        Join::with_wire(target.address, protocol, lifetime, keep_steps)
    }
}

/// What the user should know of a run that is not watched from everywhere.
fn without(taps: &Taps, wire: Wish, files: &RunFiles) -> Vec<String> {
    let no_file = files.have_folder();
    let mut lines = Vec::new();
    for missing in taps.missing().iter().filter(|missing| missing.wanted) {
        let Missing { vantage, why, .. } = missing;
        lines.push(match vantage {
            Vantage::Wire => {
                let but = if no_file { ", without run.pcapng" } else { "" };
                format!("{why}; going on from the sockets alone{but}")
            }
            _ => format!("going on without {}: {why}", vantage.word()),
        });
    }
    if wire == Wish::Off && no_file {
        lines.push("without packets there is no run.pcapng".to_owned());
    }
    lines.extend(taps.lacks());
    lines
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
