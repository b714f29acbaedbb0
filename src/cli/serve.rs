//! The options of `probe serve`, and those of them that `probe demo` has too.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser};

use super::values;
use crate::prefork::{FirstRequest, Policy};

/// Run a small prefork server that stops in the way you choose
///
/// A master and its workers share one listening socket, as in Puma, Unicorn or Gunicorn, and answer
/// every request alike. TERM stops it by its policy, INT at once; USR1 has each worker print what it
/// has accepted, read and answered. Each event is a line on stdout: Unix time in nanoseconds, pid,
/// event.
#[derive(Debug, Parser)]
#[command(
    name = "serve",
    after_help = "\
Example:
  probe serve --policy hang --pidfile server.pid
  probe --target 127.0.0.1:9292 --pidfile server.pid --signal TERM

Exit status: 0 stopped by TERM; 2 wrong usage, or it could not serve; 130 on SIGINT.",
    override_usage = "probe serve [OPTIONS]",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9292",
        help_heading = "Server"
    )]
    pub(crate) listen: String,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// Write the master's pid to this file
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Print help
    #[arg(short = 'h', long, action = ArgAction::Help, help_heading = "Server")]
    help: Option<bool>,

    /// End when this process, our parent, does.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..), hide = true)]
    pub(crate) tied_to: Option<i32>,
}

/// What the embedded server is like.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// What the server does on TERM [default: close]
    #[arg(
        long,
        value_enum,
        value_name = "POLICY",
        ignore_case = true,
        help_heading = "Server"
    )]
    pub(crate) policy: Option<Policy>,

    /// Worker processes
    #[arg(
        long,
        value_name = "N",
        value_parser = values::workers,
        default_value = "2",
        help_heading = "Server"
    )]
    pub(crate) workers: usize,

    /// Requests that a worker serves at a time
    #[arg(
        long,
        value_name = "N",
        value_parser = values::workers,
        default_value = "1",
        help_heading = "Server"
    )]
    pub(crate) threads: usize,

    /// What listen() is told: the accept queue holds one more
    #[arg(
        long,
        value_name = "N",
        value_parser = values::backlog,
        default_value = "1024",
        help_heading = "Server"
    )]
    pub(crate) backlog: i32,

    /// From the end of a request to its response
    #[arg(long, value_name = "DUR", value_parser = values::duration, default_value = "20ms", help_heading = "Server")]
    pub(crate) service_time: Duration,

    /// What the first request does to the server
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        default_value_t = FirstRequest::None,
        help_heading = "Server"
    )]
    pub(crate) first_request: FirstRequest,

    /// Set TCP_DEFER_ACCEPT: the kernel keeps clients that have sent nothing out of the queue
    #[arg(long, help_heading = "Server")]
    pub(crate) deferred_accept: bool,
}

impl ServerArgs {
    /// What the server does on TERM.
    pub(crate) fn policy(&self) -> Policy {
        self.policy.unwrap_or(Policy::Close)
    }

    /// The same options as words of a command line, but for another policy.
    pub(crate) fn words(&self, policy: Policy) -> Vec<OsString> {
        let service_time = format!("{}ns", self.service_time.as_nanos());
        let mut words = Vec::new();
        for (option, value) in [
            ("--policy", policy.word().to_owned()),
            ("--workers", self.workers.to_string()),
            ("--threads", self.threads.to_string()),
            ("--backlog", self.backlog.to_string()),
            ("--service-time", service_time),
            ("--first-request", self.first_request.word().to_owned()),
        ] {
            words.extend([option.into(), value.into()]);
        }
        if self.deferred_accept {
            words.push("--deferred-accept".into());
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_being_written_out() {
        let typed = "serve --policy hang --workers 3 --threads 4 --backlog 5 --service-time 1.5ms \
                     --first-request kill-self --deferred-accept";
        let read = |words: Vec<OsString>| ServeArgs::try_parse_from(words).unwrap().server;
        let server = read(typed.split_whitespace().map(OsString::from).collect());
        let mut words = vec![OsString::from("serve")];
        words.extend(server.words(Policy::Drain));
        let again = read(words);
        assert_eq!(again.policy, Some(Policy::Drain));
        let policy = server.policy;
        assert_eq!(
            format!("{:?}", ServerArgs { policy, ..again }),
            format!("{server:?}")
        );
    }
}
