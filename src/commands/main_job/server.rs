//! The server of a run: started where a command is given, and waited for until it can be probed. How
//! it is stopped is left to [`measure`](super::measure).

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::notes::Notes;
use crate::commands::interrupt::Interrupt;
use crate::commands::outputs::LogFile;
use crate::plan::{ServerCommand, Target};
use crate::target::child::{Server, Stop};
use crate::target::trigger::Shells;
use crate::time::Clock;

/// The server that the probe started.
pub(super) struct StartedServer {
    pub(super) server: Server,
    pub(super) stop_timeout: Duration,
    pub(super) stops_on: Vec<Signal>,
    pub(super) at_rest: bool,
    pub(super) stop: Option<Stop>,
}

/// What a server is started with.
pub(super) struct Starting<'a> {
    pub(super) command: &'a ServerCommand,
    /// Where it is to listen, where that is said.
    pub(super) target: Option<&'a Target>,
    pub(super) interrupt: &'a Interrupt,
    pub(super) shells: Shells,
    pub(super) clock: Clock,
}

impl Starting<'_> {
    /// Starts it, and finds out where to connect to.
    pub(super) fn start(
        self,
        log: Option<LogFile>,
        notes: &mut Notes,
    ) -> Result<(StartedServer, Target)> {
        let Starting {
            command,
            target,
            interrupt,
            ..
        } = self;
        if let Some(target) = target {
            Server::check_free(target.address)?;
        }
        let mut server = Server::start(&command.invocation, log, self.shells, self.clock)?;
        interrupt.take_along(server.pid());
        let wanted = target.map(|target| target.address);
        let came = || interrupt.came();
        let (address, at_rest) = server.wait_until_ready(wanted, command.start_timeout, &came)?;
        if !at_rest {
            notes
                .tell("the server listens and is still busy; it is probed all the same".to_owned());
        }
        let target = target.cloned().unwrap_or_else(|| Target {
            name: address.to_string(),
            address,
        });
        let started = StartedServer {
            server,
            stop_timeout: command.stop_timeout,
            stops_on: command.stops_on.clone(),
            at_rest,
            stop: None,
        };
        Ok((started, target))
    }
}
