//! The embedded server behind `probe serve` and `probe demo`: a prefork web server in miniature. A
//! master and its workers are real processes that share one listening socket, so what a client sees
//! when they stop is what the kernel does to any such server. Options are checked in
//! [`plan`](crate::plan); what becomes of connections is for the probe to say.

mod client;
mod listener;
mod log;
mod master;
mod once;
mod phase;
mod pidfile;
mod policy;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;

pub(crate) use listener::BindError;
pub(crate) use master::{Ended, may_serve, serve};
pub(crate) use pidfile::PidFileError;
pub(crate) use policy::{FirstRequest, Policy};

/// A server to be run.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where it listens; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Worker processes.
    pub(crate) workers: usize,
    /// Requests that a worker serves at a time, as so many threads would.
    pub(crate) threads: usize,
    /// What listen() is told: the accept queue holds one more.
    pub(crate) backlog: i32,
    /// From the end of a request to its response.
    pub(crate) service_time: Duration,
    /// What it does on TERM.
    pub(crate) policy: Policy,
    /// What the first request does to it.
    pub(crate) first_request: FirstRequest,
    /// Where the master's pid is written.
    pub(crate) pidfile: Option<PathBuf>,
    /// TCP_DEFER_ACCEPT: connections that have sent nothing stay in SYN-RECV.
    pub(crate) deferred_accept: bool,
    /// The process without which it is not to live.
    pub(crate) tied_to: Option<Pid>,
}

/// Why it cannot serve, with a remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its pid cannot be written.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// It cannot hold clients off as its policy would.
    #[error(
        "cannot filter what the listening socket takes: {reason}; --policy filter-drain needs \
         {remedy}, or give another policy"
    )]
    Filter { reason: String, remedy: String },
    /// It cannot have processes or signals.
    #[error("cannot {call}: {reason}; give fewer --workers, or raise the limit with `ulimit`")]
    System { call: &'static str, reason: String },
}
