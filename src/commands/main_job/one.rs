//! One run: its server is started, everything is opened before the first SYN, and all of it ends.
//! What the runs of a series have in common is handed in; what a run says is left to its report.

use anyhow::{Context as _, Error, Result};

use super::measure::{Ended, Parts, Run};
use super::notes::Notes;
use super::server::{StartedServer, Starting};
use super::vantages::{Missing, Taps, Watched};
use crate::commands::interrupt::Interrupt;
use crate::commands::outputs::{LogFile, OpenOutputs, RunFiles};
use crate::commands::recorder::Recorder;
use crate::commands::spool::Spool;
use crate::connect::request::Template;
use crate::connect::socket::SocketEngine;
use crate::event::Vantage;
use crate::flow::Protocol;
use crate::observe::route::route_to;
use crate::plan::{Plan, ServerCommand, Target, Wish};
use crate::record::Join;
use crate::report::Context;
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
        let taps = Taps::open(&Watched {
            target: target.address,
            route: &route,
            master: master.as_ref().map(Process::pid),
            wishes: plan.observe,
            clock,
        })?;
        notes.tell_all(&mut without(&taps, plan.observe.wire, files));
        let spool = match taps.has_wire() {
            true => spool(files, opened)?,
            false => None,
        };
        let keep_packets = spool.is_some();
        let wants_steps = opened.writers.wants_steps();
        let join = self.join(target, taps.has_wire(), wants_steps);
        let mut join = join.with_kernel(taps.tables(target.address, wants_steps));
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
        let vantages = taps.read(&recorder, keep_packets, clock)?;
        let triggers = Triggers::new(
            plan.triggers.clone(),
            master,
            plan.signal_tree,
            self.shells.clone(),
            clock,
        );
        Ok(Run::new(Parts {
            clock,
            engine: Box::new(engine),
            triggers,
            exits,
            recorder,
            vantages,
            count: plan.load.count,
        }))
    }

    fn engine(
        &self,
        target: &Target,
        template: Template,
        this_host: bool,
        notes: &mut Notes,
    ) -> Result<SocketEngine> {
        let mut found = Vec::new();
        let (load, content) = (self.plan.load.clone(), self.plan.request.content());
        let job = load.fit(target, this_host, template, content, &mut found)?;
        notes.tell_all(&mut found);
        SocketEngine::new(job, self.clock).context("cannot make an epoll instance")
    }

    fn join(&self, target: &Target, wire: bool, keep_steps: bool) -> Join {
        let load = &self.plan.load;
        let lifetime = (load.idle == 0).then_some(load.timeout);
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
