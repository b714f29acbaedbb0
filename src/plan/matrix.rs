//! A checked matrix: which rows the scenarios of a folder make, what is installed of them, and how each
//! is started and loaded. A file that cannot be read is a row that says so.
#![expect(
    clippy::disallowed_methods,
    reason = "scenario files are read here, and the folders made that servers write to"
)]

mod scenario;

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::getpid;
use tempfile::TempDir;

use self::scenario::{Ask, Mode, Package, Scenario};
use super::{
    Case, Engine, Load, Outputs, Plan, PlanError, RequestSpec, ServerCommand, Target, refuse,
    wishes,
};
use crate::cli::{Format, MatrixArgs, MatrixFormat};
use crate::connect::schedule::Arrivals;
use crate::sys::reason;
use crate::target::child::Invocation;
use crate::target::trigger::{Action, Trigger, When, Whom};
use crate::target::{installed, listener};

pub(crate) use self::scenario::What;

/// What describes a scenario in its folder.
const FILE: &str = "scenario.toml";
/// Where packages that are not Debian's lie, in the folder of scenarios.
const PACKAGES: &str = ".packages";

/// Everything that a matrix needs to know.
pub(crate) struct MatrixPlan {
    /// What the runs of all rows have in common.
    pub(crate) plan: Plan,
    /// The rows, in the order of their scenarios' names.
    pub(crate) rows: Vec<Row>,
    /// Measure nothing.
    pub(crate) list: bool,
    /// What stdout shows.
    pub(crate) format: MatrixFormat,
    /// What the servers may write to; it goes with this.
    pub(crate) scratch: TempDir,
}

/// A server and what is done to it.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is called: no two rows have one name.
    pub(crate) name: String,
    /// The scenario's folder.
    pub(crate) scenario: String,
    /// What tables call the server.
    pub(crate) server: String,
    /// Which version is installed.
    pub(crate) version: Option<String>,
    /// What brings it, in words; empty where nothing has to.
    pub(crate) package: String,
    /// Its configuration.
    pub(crate) mode: String,
    /// The signal's name without SIG.
    pub(crate) signal: Option<&'static str>,
    /// Who gets it.
    pub(crate) whom: Whom,
    /// What it asks for.
    pub(crate) what: What,
    /// How it is measured, or why it cannot be.
    pub(crate) state: State,
}

/// Whether a row is measured.
#[derive(Debug)]
pub(crate) enum State {
    /// It is.
    Ready(Box<Case>),
    /// What it needs is not installed.
    NotInstalled,
    /// Its file or its installation is at fault.
    Broken(String),
}

impl MatrixPlan {
    /// Checks what was typed, and looks for what is installed.
    pub(crate) fn check(args: MatrixArgs) -> Result<MatrixPlan, PlanError> {
        let when = args.at.map(|at| at.0);
        if let Some(When::Started(n)) = when
            && n > args.count
        {
            return refuse(format!(
                "--at waits for {n} connections and only {} are made; give a larger --count, or an \
                 earlier --at",
                args.count
            ));
        }
        let scratch = tempfile::tempdir().map_err(|error| {
            PlanError(format!(
                "cannot make a temporary folder: {}; make room, or set TMPDIR",
                reason(&error)
            ))
        })?;
        let mut making = Making {
            args: &args,
            when,
            root: absolute(&args.folder)?,
            scratch: scratch.path(),
            port: args.port,
            rows: Vec::new(),
        };
        open_to_all(scratch.path())?;
        for scenario in scenarios(&args.folder)? {
            making.add_scenario(&scenario)?;
        }
        let rows = making.rows;
        if rows.is_empty() {
            let only: Vec<&str> = args.only.iter().map(String::as_str).collect();
            return refuse(format!(
                "no row's name contains {}; see their names with --list",
                only.join(" or ")
            ));
        }
        Ok(MatrixPlan {
            plan: common(&args)?,
            rows,
            list: args.list,
            format: args.format,
            scratch,
        })
    }
}

/// What all rows share; the case is each row's own.
fn common(args: &MatrixArgs) -> Result<Plan, PlanError> {
    Ok(Plan {
        case: Case {
            label: None,
            command: None,
            target: None,
            load: load(args, None, None),
            triggers: Vec::new(),
        },
        engine: Engine::Socket,
        request: RequestSpec::Generated {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: Vec::new(),
        },
        master: None,
        repeat: args.repeat,
        observe: wishes(args.observe, false)?,
        outputs: Outputs {
            csv: None,
            events: None,
            json: None,
            pcap: None,
            folder: args.out.clone(),
            format: Format::Table,
            quiet: args.quiet,
        },
        max_lost: None,
        notes: Vec::new(),
    })
}

fn load(args: &MatrixArgs, count: Option<u64>, concurrency: Option<u64>) -> Load {
    Load {
        count: count.unwrap_or(args.count),
        idle: 0,
        idle_delay: Duration::ZERO,
        arrivals: match concurrency {
            Some(limit) => Arrivals::Closed { limit, pace: None },
            None => Arrivals::Spaced(Duration::from_secs_f64(1.0 / args.rate)),
        },
        timeout: args.timeout,
        allow_load: false,
    }
}

/// The folders that hold a scenario, by name.
fn scenarios(folder: &Path) -> Result<Vec<PathBuf>, PlanError> {
    let shown = folder.display();
    let entries = fs::read_dir(folder).map_err(|error| {
        PlanError(format!(
            "cannot look into {shown}: {}; give a folder of scenarios",
            reason(&error)
        ))
    })?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.join(FILE).exists()).collect();
    found.sort();
    if found.is_empty() {
        if folder.join(FILE).exists() {
            return refuse(format!(
                "{shown} is one scenario; give the folder it is in, and --only with its name"
            ));
        }
        return refuse(format!(
            "no folder in {shown} holds a {FILE}; give a folder of scenarios"
        ));
    }
    Ok(found)
}

fn absolute(path: &Path) -> Result<PathBuf, PlanError> {
    path.canonicalize().map_err(|error| {
        PlanError(format!(
            "cannot look into {}: {}; give a folder of scenarios",
            path.display(),
            reason(&error)
        ))
    })
}

/// Servers that give up root write there as somebody else's workers.
fn open_to_all(folder: &Path) -> Result<(), PlanError> {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(|error| {
        PlanError(format!(
            "cannot open {} to servers: {}; set TMPDIR to another folder",
            folder.display(),
            reason(&error)
        ))
    })
}

/// Rows in the making.
struct Making<'a> {
    args: &'a MatrixArgs,
    when: Option<When>,
    /// The folder of scenarios.
    root: PathBuf,
    scratch: &'a Path,
    /// The next one to be given.
    port: u16,
    rows: Vec<Row>,
}

/// A build of a scenario's server, and what was found of it.
struct Build<'a> {
    source: Option<(scenario::Kind, &'a [String])>,
    /// Where its programs lie, if not where everybody's do.
    path: Option<OsString>,
    found: Result<String, installed::NoVersion>,
}

impl Making<'_> {
    fn add_scenario(&mut self, folder: &Path) -> Result<(), PlanError> {
        let name = folder.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let file = folder.join(FILE);
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("{}; give a file that may be read", reason(&error)));
        match text.and_then(|text| Scenario::parse(&text)) {
            Ok(scenario) => self.add_rows(&name, &scenario),
            Err(why) => {
                if self.is_wanted(&name) {
                    let why = format!("{}: {why}", file.display());
                    self.rows.push(broken(&name, why));
                }
                Ok(())
            }
        }
    }

    fn add_rows(&mut self, name: &str, scenario: &Scenario) -> Result<(), PlanError> {
        let mut packages: Vec<Option<&Package>> = scenario.packages.iter().map(Some).collect();
        if packages.is_empty() {
            packages.push(None);
        }
        for package in packages {
            let kind = package.and_then(|package| Some(package.source()?.0));
            let asked: Vec<(&Mode, &Ask)> = scenario
                .modes
                .iter()
                .filter(|mode| mode.is_for(kind))
                .flat_map(|mode| scenario.signals.iter().map(move |ask| (mode, ask)))
                .filter(|(mode, ask)| ask.is_for(&mode.name, kind))
                .collect();
            let build = self.look_for(&self.root.join(name), package);
            for (mode, ask) in asked {
                self.add_row(name, scenario, &build, mode, ask)?;
            }
        }
        Ok(())
    }

    /// Finds out which version of a build is installed.
    fn look_for<'p>(&self, folder: &Path, package: Option<&'p Package>) -> Build<'p> {
        let Some(package) = package else {
            return Build {
                source: None,
                path: None,
                found: Ok(env!("CARGO_PKG_VERSION").to_owned()),
            };
        };
        let source = package.source();
        let programs = source.and_then(|(kind, names)| {
            let below = self.root.join(PACKAGES).join(names.first()?);
            match kind {
                scenario::Kind::Debian => None,
                scenario::Kind::Pypi => Some(below.join("bin")),
                scenario::Kind::Npm => Some(below.join("node_modules/.bin")),
            }
        });
        // The same program may be Debian's as well.
        let is_there = programs.as_ref().is_none_or(|programs| programs.is_dir());
        let path = programs.map(|programs| {
            let mut path = programs.into_os_string();
            if let Some(others) = env::var_os("PATH") {
                path.push(":");
                path.push(others);
            }
            path
        });
        let found = if is_there {
            installed::version(&Invocation {
                words: package.version.iter().map(OsString::from).collect(),
                folder: Some(folder.to_owned()),
                env: path_of(path.as_ref()),
            })
        } else {
            Err(installed::NoVersion::NotInstalled)
        };
        Build {
            source,
            path,
            found,
        }
    }

    fn add_row(
        &mut self,
        name: &str,
        scenario: &Scenario,
        build: &Build<'_>,
        mode: &Mode,
        ask: &Ask,
    ) -> Result<(), PlanError> {
        let version = build.found.as_ref().ok();
        let shown = version.filter(|_| build.source.is_some());
        let mut row_name = row_name(name, shown, mode, ask);
        if self.rows.iter().any(|row| row.name == row_name) {
            // One version from two places, or one signal for two purposes.
            let place = build.source.map_or("again", |(kind, _)| kind.word());
            row_name = format!("{row_name}-{place}");
        }
        if !self.is_wanted(&row_name) {
            return Ok(());
        }
        let state = match &build.found {
            Ok(_) => State::Ready(Box::new(self.case(name, &row_name, build, mode, ask)?)),
            Err(installed::NoVersion::NotInstalled) => State::NotInstalled,
            Err(error @ installed::NoVersion::Untold { .. }) => State::Broken(error.to_string()),
        };
        self.rows.push(Row {
            name: row_name,
            scenario: name.to_owned(),
            server: scenario.server.clone(),
            version: version.cloned(),
            package: build.source.map_or_else(String::new, |(kind, names)| {
                format!("{} {}", kind.word(), names.join(" "))
            }),
            mode: mode.name.clone(),
            signal: ask
                .send
                .map(|signal| signal.as_str().trim_start_matches("SIG")),
            whom: ask.to,
            what: ask.what,
            state,
        });
        Ok(())
    }

    fn case(
        &mut self,
        name: &str,
        row_name: &str,
        build: &Build<'_>,
        mode: &Mode,
        ask: &Ask,
    ) -> Result<Case, PlanError> {
        let folder = self.root.join(name);
        let scratch = self.scratch.join(row_name);
        fs::create_dir_all(&scratch).map_err(|error| {
            PlanError(format!(
                "cannot make the folder {}: {}; make room, or set TMPDIR",
                scratch.display(),
                reason(&error)
            ))
        })?;
        open_to_all(&scratch)?;
        let port = match mode.port {
            Some(port) => port,
            None => self.next_port()?,
        };
        let program = env::current_exe().unwrap_or_else(|_| "probe".into());
        let filled = |text: &String| -> OsString {
            text.replace("{port}", &port.to_string())
                .replace("{folder}", &folder.to_string_lossy())
                .replace("{scratch}", &scratch.to_string_lossy())
                .replace("{probe}", &program.to_string_lossy())
                .into()
        };
        let mut env = path_of(build.path.as_ref());
        env.extend(
            mode.env
                .iter()
                .map(|(key, value)| (key.into(), filled(value))),
        );
        let load = load(self.args, mode.count, mode.concurrency);
        let triggers = ask.send.map(|signal| Trigger {
            action: Action::Signal(signal, ask.to),
            when: self.when(&load),
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Case {
            label: Some(row_name.to_owned()),
            command: Some(ServerCommand {
                invocation: Invocation {
                    words: mode.start.iter().map(filled).collect(),
                    folder: Some(folder.clone()),
                    env,
                },
                start_timeout: self.args.start_timeout,
                stop_timeout: self.args.stop_timeout,
                stops_on: ask
                    .send
                    .into_iter()
                    .filter(|_| ask.what.is_stop())
                    .collect(),
            }),
            target: Some(Target {
                name: address.to_string(),
                address,
            }),
            load,
            triggers: triggers.into_iter().collect(),
        })
    }

    /// When the signal goes out, of what a row's own load allows.
    fn when(&self, load: &Load) -> When {
        match self.when {
            Some(When::Started(n)) if n > load.count => When::Started(load.count.div_ceil(2)),
            Some(when) => when,
            None => When::Started(load.count.div_ceil(2)),
        }
    }

    /// A port on which nobody listens now.
    fn next_port(&mut self) -> Result<u16, PlanError> {
        loop {
            let port = self.port;
            let Some(next) = port.checked_add(1) else {
                return refuse("there are not enough ports for every row; give a smaller --port");
            };
            self.port = next;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if !listener::is_listened_to(getpid(), address) {
                return Ok(port);
            }
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        let only = &self.args.only;
        only.is_empty() || only.iter().any(|only| name.contains(only))
    }
}

/// As in `puma-5.6.5-cluster-TERM`, or with `tree-TERM`.
fn row_name(scenario: &str, version: Option<&String>, mode: &Mode, ask: &Ask) -> String {
    let mut parts = vec![scenario];
    parts.extend(version.map(String::as_str));
    parts.push(&mode.name);
    if ask.to != Whom::Master {
        parts.push(ask.to.word());
    }
    if let Some(signal) = ask.send {
        parts.push(signal.as_str().trim_start_matches("SIG"));
    }
    parts.join("-")
}

/// A row of a file that cannot be used.
fn broken(name: &str, why: String) -> Row {
    Row {
        name: name.to_owned(),
        scenario: name.to_owned(),
        server: name.to_owned(),
        version: None,
        package: String::new(),
        mode: String::new(),
        signal: None,
        whom: Whom::Master,
        what: What::Nothing,
        state: State::Broken(why),
    }
}

fn path_of(path: Option<&OsString>) -> Vec<(OsString, OsString)> {
    path.map(|path| ("PATH".into(), path.clone()))
        .into_iter()
        .collect()
}
