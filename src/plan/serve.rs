//! A checked server of our own: where it listens is resolved, and what the kernel will not grant in
//! full is said.

use std::net::SocketAddr;

use nix::unistd::Pid;

use super::target::{self, host_and_port};
use super::{PlanError, refuse};
use crate::cli::{ServeArgs, ServerArgs, url_authority};
use crate::prefork::Config;
use crate::sys::host;

/// The server that `probe serve` is to be, and what the user should know before it runs.
pub(crate) fn server(args: ServeArgs) -> Result<(Config, Vec<String>), PlanError> {
    let listen = address(&args.listen)?;
    let notes = notes(&args.server);
    let server = args.server;
    let config = Config {
        listen,
        workers: server.workers,
        threads: server.threads,
        backlog: server.backlog,
        service_time: server.service_time,
        policy: server.policy(),
        first_request: server.first_request,
        pidfile: args.pidfile,
        deferred_accept: server.deferred_accept,
        tied_to: args.tied_to.map(Pid::from_raw),
    };
    Ok((config, notes))
}

/// What the kernel will not do as asked.
pub(crate) fn notes(args: &ServerArgs) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(longest) = host::longest_backlog().filter(|&longest| longest < args.backlog) {
        notes.push(format!(
            "--backlog {} is capped by the kernel: net.core.somaxconn is {longest}, and the accept \
             queue holds one more",
            args.backlog
        ));
    }
    notes
}

fn address(text: &str) -> Result<SocketAddr, PlanError> {
    if let Some(authority) = url_authority(text) {
        return refuse(format!(
            "--listen takes no scheme or path; give --listen {authority}"
        ));
    }
    let (host, _) = host_and_port(text, "--listen")?;
    let found = target::addresses(text, "--listen")?;
    found.first().copied().ok_or_else(|| {
        PlanError(format!(
            "the name `{host}` does not resolve; give --listen an address of this host"
        ))
    })
}
