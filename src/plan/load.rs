//! How many connections, how fast, and what this host and the target's owner allow of that.

use std::net::IpAddr;
use std::time::Duration;

use super::{Engine, PlanError, Target, refuse};
use crate::cli::JobArgs;
use crate::connect::raw::manner::CloseBy;
use crate::connect::request::Template;
use crate::connect::schedule::Arrivals;
use crate::connect::{Content, Job, LOOPBACK_SOURCES};
use crate::sys::host;

/// Arrivals per second where something is triggered and nothing else is said.
const DEFAULT_RATE: f64 = 250.0;
/// Connections where nothing is said.
const DEFAULT_COUNT: u64 = 50;
/// Above this many open, or opened per second, a target that is not this host needs --allow-load.
const LOAD_CEILING: u64 = 1_000;
/// Source ports that the raw engine holds rather than use one again soon: a file and 10 KiB of the
/// kernel's memory each, and 34 microseconds before the first SYN.
const HELD_PORTS: u64 = 1_024;
/// Descriptors that the probe needs besides its connections.
const OWN_FILES: u64 = 64;

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) count: u64,
    pub(crate) idle: u64,
    pub(crate) idle_delay: Duration,
    pub(crate) arrivals: Arrivals,
    pub(crate) timeout: Duration,
    pub(crate) allow_load: bool,
}

impl Load {
    /// Fits the load to `target`, which is `this_host` or not: refuses too much for another, and says
    /// how many source addresses it takes and what of it cannot be had.
    pub(crate) fn fit(
        mut self,
        target: &Target,
        this_host: bool,
        engine: Engine,
        request: Template,
        content: Content,
        notes: &mut Vec<String>,
    ) -> Result<Job, PlanError> {
        let open = match engine {
            // What has ended stays open.
            Engine::Raw(manner) if manner.close == CloseBy::Nothing => self.count,
            Engine::Raw(_) | Engine::Socket => self.most_open(),
        };
        if !self.allow_load && !this_host {
            self.hold_to_ceiling(target, open)?;
        }
        let loopback_v4 = matches!(target.address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let ports = host::ephemeral_ports().unwrap_or(u64::MAX);
        // The last tenth of a port range is slow to find.
        let easy = (ports / 10 * 9).max(1);
        let spread = |each: u64| match open.div_ceil(each) {
            _ if !loopback_v4 => 1,
            n => u8::try_from(n).map_or(LOOPBACK_SOURCES, |n| n.clamp(1, LOOPBACK_SOURCES)),
        };
        // A server may tell its clients apart by address: there are several only where one has too few
        // ports, and then as many as make ports cheap.
        let mut sources = match engine {
            Engine::Raw(_) if open > easy => spread(easy.min(HELD_PORTS)),
            Engine::Raw(_) | Engine::Socket => spread(easy),
        };
        // Of our own TCP each port takes a file, however many addresses use it.
        let needed = |sources: u8| match engine {
            Engine::Socket => open,
            Engine::Raw(_) => open.div_ceil(sources.into()),
        };
        let liked = |sources: u8| match engine {
            Engine::Socket => open,
            Engine::Raw(_) => needed(sources).max(self.count.min(HELD_PORTS)),
        };
        // More are held where connections that have ended rest for a while on those that there are.
        let most = match engine {
            Engine::Socket => open,
            Engine::Raw(_) => liked(sources).max(self.count.min(easy)),
        };
        let wanted = most.saturating_add(OWN_FILES);
        let files = host::raise_open_files(wanted).unwrap_or(wanted);
        let room = files.saturating_sub(OWN_FILES).max(1);
        if engine != Engine::Socket {
            sources = sources.max(spread(room));
        }
        let (needed, held) = (needed(sources), liked(sources).min(room));
        if needed > room {
            notes.push(few_files(engine, files, open));
        }
        if sources > 1 {
            notes.push(format!(
                "{open} connections may be open, too many for the ports or files of one source address: \
                 they come from 127.0.0.1 to 127.0.0.{sources}, which matters where the server lets in \
                 by address (give a smaller --concurrency)"
            ));
        }
        if sources == 1 && open > ports {
            notes.push(format!(
                "{open} connections may be open and there are {ports} source ports; those beyond \
                 are local_error rows (widen net.ipv4.ip_local_port_range)"
            ));
        }
        Ok(Job {
            target: target.address,
            count: self.count,
            idle: self.idle,
            idle_delay: self.idle_delay,
            arrivals: self.arrivals,
            timeout: self.timeout,
            request,
            content,
            sources,
            ports: usize::try_from(held).unwrap_or(usize::MAX),
            most_ports: usize::try_from(room.min(most)).unwrap_or(usize::MAX),
        })
    }

    fn hold_to_ceiling(&mut self, target: &Target, open: u64) -> Result<(), PlanError> {
        if open > LOAD_CEILING {
            return refuse(format!(
                "{open} connections may be open at once and {} is not this host; give a smaller \
                 --concurrency or --count, or --allow-load if its owner agrees",
                target.address
            ));
        }
        let gap = Duration::from_nanos(1_000_000_000 / LOAD_CEILING);
        match &mut self.arrivals {
            Arrivals::Spaced(spacing) if *spacing < gap => refuse(format!(
                "over {LOAD_CEILING} connections per second and {} is not this host; give a \
                 smaller --rate, or --allow-load if its owner agrees",
                target.address
            )),
            Arrivals::Closed { pace, .. } => {
                *pace = Some(gap);
                Ok(())
            }
            Arrivals::Spaced(_) | Arrivals::AtOnce => Ok(()),
        }
    }

    /// The most connections that can be open at a time.
    fn most_open(&self) -> u64 {
        match self.arrivals {
            Arrivals::AtOnce => self.count,
            Arrivals::Closed { limit, .. } => (limit + self.idle).min(self.count),
            Arrivals::Spaced(gap) => {
                let per_timeout = self.timeout.as_nanos() / gap.as_nanos().max(1) + 2;
                let open = u64::try_from(per_timeout).unwrap_or(u64::MAX);
                open.saturating_add(self.idle).min(self.count)
            }
        }
    }
}

/// What fewer files than wanted mean.
fn few_files(engine: Engine, files: u64, open: u64) -> String {
    match engine {
        Engine::Socket => format!(
            "{open} connections may be open at a time and only {files} files may be; those beyond are \
             local_error rows (raise it with `ulimit -Hn`, or give a smaller --concurrency)"
        ),
        // How long that is, is the server's part too.
        Engine::Raw(_) => format!(
            "only {files} files may be open, and each source port takes one until its connection is gone \
             for good: should they run out, those beyond are local_error rows (raise it with \
             `ulimit -Hn`, or give a smaller --concurrency)"
        ),
    }
}

pub(super) fn count(args: &JobArgs) -> Result<u64, PlanError> {
    let (Some(rate), Some(span)) = (args.rate, args.duration) else {
        return Ok(args.count.unwrap_or(DEFAULT_COUNT));
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is checked"
    )]
    let count = (rate * span.as_secs_f64()).round() as u64;
    if count == 0 {
        return refuse("--rate and --duration together make no connection; give more of either");
    }
    Ok(count)
}

pub(super) fn arrivals(args: &JobArgs, triggered: bool) -> Arrivals {
    let spaced = |rate: f64| Arrivals::Spaced(Duration::from_secs_f64(1.0 / rate));
    match (args.rate, args.concurrency) {
        (Some(rate), _) => spaced(rate),
        (None, Some(limit)) => Arrivals::Closed { limit, pace: None },
        (None, None) if triggered => spaced(DEFAULT_RATE),
        (None, None) => Arrivals::AtOnce,
    }
}
