//! A checked run. Names are resolved, files read, pids taken hold of and contradictions refused
//! here; nothing behind this validates again.
#![expect(
    clippy::disallowed_types,
    reason = "request and pid files are read here"
)]

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::cli::{Format, Header, Observe, RunArgs, SignalArg, WhenArg, url_authority};
use crate::connect::request::{Generated, Template};
use crate::connect::schedule::Arrivals;
use crate::connect::socket::{ExpectedContent, Job};
use crate::flow::Protocol;
use crate::http::RequestReader;
use crate::sys::{host, reason};
use crate::target::listener;
use crate::target::process::Process;
use crate::target::trigger::{Action, Trigger, When};

/// Arrivals per second where something is triggered and nothing else is said.
const DEFAULT_RATE: f64 = 250.0;
/// Connections where nothing is said.
const DEFAULT_COUNT: u64 = 50;
/// Above this many open, or opened per second, a target that is not this host needs --allow-load.
const LOAD_CEILING: u64 = 1_000;
/// A request from a file is held whole, once.
const MAX_REQUEST: u64 = 64 << 20;
/// A pid file holds a number; some servers write a few lines.
const MAX_PID_FILE: u64 = 64 << 10;
/// Descriptors that the probe needs besides its connections.
const OWN_FILES: u64 = 64;

/// Everything a run needs to know.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where to connect to; with a command it may be found out later.
    pub(crate) target: Option<Target>,
    /// What is sent.
    pub(crate) request: RequestSpec,
    /// How connections are made.
    pub(crate) load: Load,
    /// What is done to the server.
    pub(crate) triggers: Vec<Trigger>,
    /// Whom signals go to, where it is not the command.
    pub(crate) master: Option<Process>,
    /// Signal the whole tree.
    pub(crate) signal_tree: bool,
    /// The server's start command.
    pub(crate) command: Option<ServerCommand>,
    /// Whether packets are wanted.
    pub(crate) wire: WireWish,
    /// Where results go.
    pub(crate) outputs: Outputs,
    /// The most that may be lost before the run fails.
    pub(crate) max_lost: Option<u64>,
    /// What the user should know before it begins.
    pub(crate) notes: Vec<String>,
}

/// A resolved target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As typed: it goes into the Host header.
    pub(crate) name: String,
    /// The address used.
    pub(crate) address: SocketAddr,
}

/// What is sent on each connection.
#[derive(Clone, Debug)]
pub(crate) enum RequestSpec {
    /// A request of our own making.
    Generated {
        method: String,
        path: String,
        headers: Vec<(String, String)>,
    },
    /// An HTTP request from a file.
    File(Vec<u8>),
    /// Bytes that are no HTTP, and how many are expected back.
    Payload(Vec<u8>, Option<u64>),
}

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

/// The server to start.
#[derive(Clone, Debug)]
pub(crate) struct ServerCommand {
    pub(crate) words: Vec<OsString>,
    pub(crate) start_timeout: Duration,
    pub(crate) stop_timeout: Duration,
}

/// Whether packets are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireWish {
    /// Where it may be.
    IfAllowed,
    /// Or the run fails.
    Required,
    /// Not at all.
    Off,
}

/// Where results go.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    pub(crate) csv: Option<PathBuf>,
    pub(crate) events: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) format: Format,
    pub(crate) quiet: bool,
}

/// Why the run cannot be made as asked, with a remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PlanError(String);

fn refuse<T>(sentence: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError(sentence.into()))
}

impl Plan {
    /// Checks what was typed.
    pub(crate) fn check(args: RunArgs) -> Result<Plan, PlanError> {
        let mut notes = Vec::new();
        let target = match &args.target {
            Some(text) => Some(resolve(text, args.ipv4, args.ipv6, &mut notes)?),
            None if args.command.is_empty() => {
                return refuse(
                    "nothing to connect to; give --target HOST:PORT, or the server's start \
                     command behind `--`",
                );
            }
            None => None,
        };
        let count = count(&args)?;
        if args.idle > count {
            return refuse(format!(
                "--idle {} is more than the {count} connections there are; give a larger --count",
                args.idle
            ));
        }
        let triggers = triggers(&args, count - args.idle)?;
        if args.idle > 0 && triggers.is_empty() {
            return refuse(
                "--idle connections wait for a trigger and there is none; add --signal or --trigger",
            );
        }
        let master = master(&args, &triggers)?;
        let outputs = outputs(&args)?;
        let load = Load {
            count,
            idle: args.idle,
            idle_delay: args.idle_delay,
            arrivals: arrivals(&args, !triggers.is_empty()),
            timeout: args.timeout,
            allow_load: args.allow_load,
        };
        let command = (!args.command.is_empty()).then(|| ServerCommand {
            words: args.command.clone(),
            start_timeout: args.start_timeout,
            stop_timeout: args.stop_timeout,
        });
        Ok(Plan {
            target,
            request: request(&args)?,
            load,
            triggers,
            master,
            signal_tree: args.signal_tree,
            command,
            wire: match args.observe {
                Observe::Auto => WireWish::IfAllowed,
                Observe::Only { wire: true } => WireWish::Required,
                Observe::Only { wire: false } => WireWish::Off,
            },
            outputs,
            max_lost: args.max_lost.or(args.fail_on_loss.then_some(0)),
            notes,
        })
    }
}

impl RequestSpec {
    /// The template of it for `host`.
    pub(crate) fn template(&self, host: &str, run_id: &str) -> Template {
        match self {
            RequestSpec::Generated {
                method,
                path,
                headers,
            } => Template::generated(&Generated {
                method,
                path,
                host,
                headers,
                run_id,
            }),
            RequestSpec::File(bytes) | RequestSpec::Payload(bytes, _) => {
                Template::verbatim(bytes.clone())
            }
        }
    }

    /// What the socket is to expect back.
    pub(crate) fn content(&self) -> ExpectedContent {
        match self {
            RequestSpec::Generated { method, .. } => ExpectedContent::Http {
                to_head: method == "HEAD",
            },
            RequestSpec::File(bytes) => ExpectedContent::Http {
                to_head: bytes.starts_with(b"HEAD "),
            },
            &RequestSpec::Payload(_, expect) => ExpectedContent::Bytes { expect },
        }
    }

    /// What the wire is to expect.
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            RequestSpec::Generated { .. } | RequestSpec::File(_) => Protocol::Http,
            &RequestSpec::Payload(_, expect) => Protocol::Opaque { expect },
        }
    }
}

impl Load {
    /// Fits the load to `target`, which is `this_host` or not: refuses too much for another, and says
    /// how many source addresses it takes and what of it cannot be had.
    pub(crate) fn fit(
        mut self,
        target: &Target,
        this_host: bool,
        request: Template,
        content: ExpectedContent,
        notes: &mut Vec<String>,
    ) -> Result<Job, PlanError> {
        if !self.allow_load && !this_host {
            self.hold_to_ceiling(target)?;
        }
        let open = self.most_open();
        let wanted = open.saturating_add(OWN_FILES);
        let files = host::raise_open_files(wanted).unwrap_or(wanted);
        if files < wanted {
            notes.push(format!(
                "only {files} files may be open and {open} connections may need to be; those beyond \
                 are local_error rows (raise it with `ulimit -Hn`, or give a smaller --concurrency)"
            ));
        }
        let loopback_v4 = matches!(target.address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let ports = host::ephemeral_ports().unwrap_or(u64::MAX);
        // The last tenth of a port range is slow to find.
        let easy = (ports / 10 * 9).max(1);
        let mut sources = 1;
        if open > easy && loopback_v4 {
            sources = u8::try_from(open.div_ceil(easy))
                .unwrap_or(u8::MAX)
                .min(250);
        } else if open > ports {
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
        })
    }

    fn hold_to_ceiling(&mut self, target: &Target) -> Result<(), PlanError> {
        let open = self.most_open();
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

fn count(args: &RunArgs) -> Result<u64, PlanError> {
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

fn arrivals(args: &RunArgs, triggered: bool) -> Arrivals {
    let spaced = |rate: f64| Arrivals::Spaced(Duration::from_secs_f64(1.0 / rate));
    match (args.rate, args.concurrency) {
        (Some(rate), _) => spaced(rate),
        (None, Some(limit)) => Arrivals::Closed { limit, pace: None },
        (None, None) if triggered => spaced(DEFAULT_RATE),
        (None, None) => Arrivals::AtOnce,
    }
}

fn triggers(args: &RunArgs, steady: u64) -> Result<Vec<Trigger>, PlanError> {
    let half = WhenArg(When::Started(steady.div_ceil(2)));
    let mut triggers = Vec::new();
    let mut wanted = args.signal.clone();
    // With a command of ours the default is to stop it; a trigger takes the signal's place.
    if wanted.is_empty() && !args.command.is_empty() && args.trigger.is_none() {
        wanted.push(SignalArg::Send(Signal::SIGTERM, None));
    }
    if wanted.len() > 1 && wanted.contains(&SignalArg::None) {
        return refuse("--signal none and another --signal exclude each other; leave one out");
    }
    for signal in wanted {
        if let SignalArg::Send(signal, when) = signal {
            let WhenArg(when) = when.unwrap_or(half);
            let action = Action::Signal(signal);
            triggers.push(Trigger { action, when });
        }
    }
    if let Some(command) = &args.trigger {
        if command.trim().is_empty() {
            return refuse("--trigger has no command; give one that sh can run");
        }
        let WhenArg(when) = args.trigger_at.unwrap_or(half);
        let action = Action::Command(command.clone());
        triggers.push(Trigger { action, when });
    }
    for trigger in &triggers {
        if let When::Started(n) = trigger.when
            && n > steady
        {
            return refuse(format!(
                "a trigger waits for {n} connections and only {steady} are started; give a \
                 larger --count, or an earlier @{steady}"
            ));
        }
    }
    Ok(triggers)
}

/// Takes hold of the process to signal.
fn master(args: &RunArgs, triggers: &[Trigger]) -> Result<Option<Process>, PlanError> {
    let signals = triggers
        .iter()
        .any(|t| matches!(t.action, Action::Signal(_)));
    let pid = match (&args.pid, &args.pidfile) {
        (Some(_), _) | (_, Some(_)) if !args.command.is_empty() => {
            return refuse(
                "with `-- COMMAND` the command itself is signalled; leave out --pid or --pidfile",
            );
        }
        (Some(pid), _) => *pid,
        (None, Some(file)) => pid_from_file(file)?,
        (None, None) if signals && args.command.is_empty() => {
            return refuse("--signal has nobody to go to; add --pid, --pidfile or `-- COMMAND`");
        }
        (None, None) if args.signal_tree && args.command.is_empty() => {
            return refuse("--signal-tree has no process to begin at; add --pid or --pidfile");
        }
        (None, None) => return Ok(None),
    };
    if pid <= 1 {
        return refuse(format!(
            "{pid} is no process of a server's; give the pid of its main process"
        ));
    }
    let origin = args
        .pidfile
        .as_ref()
        .map_or_else(String::new, |file| format!(" (from {})", file.display()));
    let gone = || {
        PlanError(format!(
            "there is no process {pid}{origin}; start the server, or give the pid it has now"
        ))
    };
    let process = Process::open(Pid::from_raw(pid)).map_err(|_| gone())?;
    if !process.is_alive() {
        return Err(gone());
    }
    match process.may_signal() {
        Ok(()) => Ok(Some(process)),
        Err(Errno::EPERM) if signals => refuse(format!(
            "process {pid}{origin} is not ours to signal; run probe as its user or as root"
        )),
        Err(Errno::ESRCH) => Err(gone()),
        Err(_) => Ok(Some(process)),
    }
}

fn pid_from_file(file: &Path) -> Result<i32, PlanError> {
    let text = read(file, "--pidfile", MAX_PID_FILE)?;
    let text = String::from_utf8_lossy(&text);
    let word = text.trim();
    if word.is_empty() {
        return refuse(format!(
            "the pid file {} is empty; wait until the server has written it",
            file.display()
        ));
    }
    word.parse().map_err(|_| {
        let start: String = word.chars().take(20).collect();
        PlanError(format!(
            "the pid file {} holds `{start}`, which is no pid; give the file the server writes",
            file.display()
        ))
    })
}

fn request(args: &RunArgs) -> Result<RequestSpec, PlanError> {
    let filled = |file: &Path, option: &str| {
        let bytes = read(file, option, MAX_REQUEST)?;
        if bytes.is_empty() {
            return refuse(format!(
                "{option} {} is empty; put the bytes to send in it",
                file.display()
            ));
        }
        Ok(bytes)
    };
    if let Some(file) = &args.request {
        let bytes = filled(file, "--request")?;
        only_request(&bytes, file)?;
        return Ok(RequestSpec::File(bytes));
    }
    if let Some(file) = &args.payload {
        return Ok(RequestSpec::Payload(
            filled(file, "--payload")?,
            args.expect_bytes,
        ));
    }
    let pair = |header: &Header| (header.name.clone(), header.value.clone());
    Ok(RequestSpec::Generated {
        method: args.method.clone(),
        path: args.path.clone(),
        headers: args.header.iter().map(pair).collect(),
    })
}

/// Refuses what is no HTTP request, and more than one: a connection carries one.
fn only_request(bytes: &[u8], file: &Path) -> Result<(), PlanError> {
    let mut reader = RequestReader::default();
    let is_http = reader.push(bytes, &mut |_| {});
    let name = file.display();
    match reader.requests() {
        1 if is_http => Ok(()),
        0 | 1 => refuse(format!(
            "--request {name} is no HTTP/1 request; mend it, or send it with --payload"
        )),
        n => refuse(format!(
            "--request {name} holds {n} requests and a connection carries one; leave one in it"
        )),
    }
}

fn outputs(args: &RunArgs) -> Result<Outputs, PlanError> {
    let files = [&args.csv, &args.events, &args.json];
    let on_stdout = files
        .iter()
        .filter(|f| f.as_deref() == Some(Path::new("-")))
        .count();
    if on_stdout + usize::from(args.format != Format::Table) > 1 {
        return refuse("stdout can show one output only; give the others a file");
    }
    let same = |a: &Option<PathBuf>, b: &Option<PathBuf>| a.is_some() && a == b;
    if same(&args.csv, &args.events)
        || same(&args.csv, &args.json)
        || same(&args.events, &args.json)
    {
        return refuse("two outputs would write the same file; give each its own");
    }
    Ok(Outputs {
        csv: args.csv.clone(),
        events: args.events.clone(),
        json: args.json.clone(),
        folder: args.out.clone(),
        format: args.format,
        quiet: args.quiet,
    })
}

/// Reads a file whole, if it is no larger than `limit`: a device has no end.
fn read(file: &Path, option: &str, limit: u64) -> Result<Vec<u8>, PlanError> {
    let mut bytes = Vec::new();
    let name = file.display();
    File::open(file)
        .and_then(|opened| opened.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            PlanError(format!(
                "cannot read {option} {name}: {}; give a file that exists and may be read",
                reason(&error)
            ))
        })?;
    if bytes.len() as u64 > limit {
        return refuse(format!(
            "{option} {name} is larger than {limit} bytes; give a smaller file"
        ));
    }
    Ok(bytes)
}

/// Resolves a target; the first address is used, the others are named.
fn resolve(text: &str, v4: bool, v6: bool, notes: &mut Vec<String>) -> Result<Target, PlanError> {
    if let Some(authority) = url_authority(text) {
        return refuse(format!(
            "a target has no scheme or path; give --target {authority}, and the path with --path"
        ));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return refuse(format!("`{text}` has no port; give --target {text}:PORT"));
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return refuse(format!(
            "`{text}` is no target; write an IPv6 address in brackets, as in [::1]:9292"
        ));
    }
    match port.parse::<u16>() {
        Ok(0) => {
            return refuse("port 0 cannot be connected to; give the port the server listens on");
        }
        Ok(_) if !host.is_empty() => {}
        Ok(_) | Err(_) => {
            return refuse(format!(
                "`{text}` is no target; give HOST:PORT with a port up to 65535"
            ));
        }
    }
    let addresses = text.to_socket_addrs().map_err(|_| {
        PlanError(format!(
            "the name `{host}` does not resolve; give a name that does, or an address"
        ))
    })?;
    let mut addresses: Vec<SocketAddr> = addresses
        .filter(|a| (!v4 || a.is_ipv4()) && (!v6 || a.is_ipv6()))
        .collect();
    for address in &mut addresses {
        // What the kernel makes of them: an IPv4 address in IPv6's clothes, and the wildcard.
        address.set_ip(address.ip().to_canonical());
        address.set_ip(listener::reachable(*address).ip());
    }
    addresses.dedup();
    let Some((&address, others)) = addresses.split_first() else {
        let family = if v4 { "IPv4" } else { "IPv6" };
        return refuse(format!(
            "`{host}` has no {family} address; leave out -4 or -6"
        ));
    };
    if !others.is_empty() {
        let others: Vec<String> = others.iter().map(|a| a.ip().to_string()).collect();
        notes.push(format!(
            "using {} for {host}; it is also {}",
            address.ip(),
            others.join(", ")
        ));
    }
    if address.ip().is_multicast() || matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast()) {
        return refuse(format!(
            "{} is no single host; give a unicast address",
            address.ip()
        ));
    }
    Ok(Target {
        name: text.to_owned(),
        address,
    })
}
