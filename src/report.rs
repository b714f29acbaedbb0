//! From records to bytes, one file a format. Nothing is decided here.

pub(crate) mod columns;
pub(crate) mod comparison;
pub(crate) mod course;
pub(crate) mod csv;
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod heroku;
pub(crate) mod local_error;
pub(crate) mod matrix;
pub(crate) mod ndjson;
mod parts;
pub(crate) mod pcapng;
pub(crate) mod policies;
pub(crate) mod read;
pub(crate) mod run;
pub(crate) mod table;
mod vocabulary;
pub(crate) mod words;

use nix::errno::Errno as Os;

use crate::connect::request::Template;
use crate::outcome::Errno;
use crate::record::Record;
use crate::time::Stamp;

/// What rows need to know of their run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    /// The run's name.
    pub(crate) run_id: String,
    /// What was sent on each connection.
    pub(crate) request: Option<Template>,
    /// The instant before the first trigger.
    pub(crate) signal: Option<Stamp>,
    /// When the server's main process was seen to have exited.
    pub(crate) target_dead: Option<Stamp>,
}

impl Context {
    /// The code of Heroku's router for a connection, H10 once the server was known to be dead.
    pub(crate) fn heroku_code(&self, record: &Record) -> Option<&'static str> {
        let target_dead = self
            .target_dead
            .is_some_and(|dead| dead <= record.times.opened);
        record.heroku(target_dead)
    }
}

/// An errno's symbol, `ECONNRESET`.
pub(crate) fn errno_symbol(errno: Errno) -> String {
    match os_errno(errno) {
        Ok(os) => format!("{os:?}"),
        Err(code) => format!("errno {code}"),
    }
}

/// The system's name for an errno, or its number where it has none.
fn os_errno(errno: Errno) -> Result<Os, i32> {
    Ok(match errno {
        Errno::Refused => Os::ECONNREFUSED,
        Errno::Reset => Os::ECONNRESET,
        Errno::Pipe => Os::EPIPE,
        Errno::TimedOut => Os::ETIMEDOUT,
        Errno::Unreachable(code) | Errno::Other(code) => match Os::from_raw(code) {
            Os::UnknownErrno => return Err(code),
            os => os,
        },
    })
}

/// The columns that docs/columns.md lists between two of its headings.
#[cfg(test)]
fn documented(from: &str, to: &str) -> Vec<&'static str> {
    include_str!("../docs/columns.md")
        .lines()
        .skip_while(|line| *line != from)
        .take_while(|line| *line != to)
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect()
}
