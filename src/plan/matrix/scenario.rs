//! scenario.toml: a real server under test as its folder describes it. Read from a text and checked;
//! what is installed of it, and which rows it makes, is left to [`matrix`](super).

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::cli::SignalArg;
use crate::target::trigger::Whom;

/// A server, in all the forms in which it is measured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// What tables call it.
    pub(super) server: String,
    /// Its builds; one that needs no installing where none is named.
    #[serde(default, rename = "package")]
    pub(super) packages: Vec<Package>,
    /// Its configurations.
    #[serde(rename = "mode")]
    pub(super) modes: Vec<Mode>,
    /// What is done to each.
    #[serde(rename = "signal")]
    pub(super) signals: Vec<Ask>,
}

/// A build of a server: what brings it, and how it says which version it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Package {
    debian: Option<Vec<String>>,
    pypi: Option<Vec<String>>,
    npm: Option<Vec<String>>,
    /// The command that prints its version.
    pub(super) version: Vec<String>,
}

/// Where a build comes from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Debian's packages.
    Debian,
    /// The Python Package Index.
    Pypi,
    /// npm's registry.
    Npm,
}

/// A configuration of a server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mode {
    /// Part of its rows' names.
    pub(super) name: String,
    /// The command that starts it, in the foreground.
    pub(super) start: Vec<String>,
    /// What its environment has besides the probe's.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Where it listens, if that cannot be said in `start`.
    pub(super) port: Option<u16>,
    /// So many connections, whatever the command line says.
    pub(super) count: Option<u64>,
    /// So many at a time, instead of at a rate.
    pub(super) concurrency: Option<u64>,
    packages: Option<Vec<Kind>>,
}

/// What is done to a server, and what that is to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// The signal; none is sent where it is `none`.
    #[serde(deserialize_with = "signal")]
    pub(super) send: Option<Signal>,
    /// Who gets it.
    #[serde(default = "master", deserialize_with = "whom")]
    pub(super) to: Whom,
    /// What it asks for.
    pub(super) what: What,
    modes: Option<Vec<String>>,
    packages: Option<Vec<Kind>>,
}

/// What a signal asks a server for, by its own documentation.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum What {
    /// To finish what it is at, and end.
    #[serde(rename = "graceful stop")]
    GracefulStop,
    /// To end at once.
    #[serde(rename = "quick stop")]
    QuickStop,
    /// To go on with fresh workers.
    #[serde(rename = "reload")]
    Reload,
    /// Nothing: one worker is gone, and the server goes on.
    #[serde(rename = "worker killed")]
    WorkerKilled,
    /// Nothing: requests alone do it.
    #[serde(rename = "nothing")]
    Nothing,
}

impl What {
    /// The words for it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            What::GracefulStop => "graceful stop",
            What::QuickStop => "quick stop",
            What::Reload => "reload",
            What::WorkerKilled => "worker killed",
            What::Nothing => "nothing",
        }
    }

    /// Whether the server ends on it.
    pub(crate) fn is_stop(self) -> bool {
        match self {
            What::GracefulStop | What::QuickStop => true,
            What::Reload | What::WorkerKilled | What::Nothing => false,
        }
    }
}

impl Kind {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Debian => "debian",
            Kind::Pypi => "pypi",
            Kind::Npm => "npm",
        }
    }
}

impl Package {
    /// What kind it is, and the packages that bring it, the main one first.
    pub(super) fn source(&self) -> Option<(Kind, &[String])> {
        let named = [
            (Kind::Debian, &self.debian),
            (Kind::Pypi, &self.pypi),
            (Kind::Npm, &self.npm),
        ];
        let mut named = named
            .into_iter()
            .filter_map(|(kind, names)| Some((kind, names.as_deref()?)));
        let only = named.next()?;
        named.next().is_none().then_some(only)
    }

    fn check(&self) -> Result<(), String> {
        let names = self.source().map(|(_, names)| names);
        if names.is_none_or(<[String]>::is_empty) {
            return Err(
                "a [[package]] comes from one place; give debian, pypi or npm, with its packages"
                    .to_owned(),
            );
        }
        if self.version.is_empty() {
            return Err(
                "a [[package]] has no command in `version`; give one that prints its version"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl Mode {
    /// Whether a build is run in it.
    pub(super) fn is_for(&self, kind: Option<Kind>) -> bool {
        admits(self.packages.as_deref(), kind)
    }

    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!(
                "`{name}` names no mode; give letters, digits and -"
            ));
        }
        if self.start.is_empty() {
            return Err(format!(
                "mode `{name}` has no command in `start`; give the one that starts the server"
            ));
        }
        let says_port = self.start.iter().chain(self.env.values());
        let says_port = says_port.filter(|word| word.contains("{port}")).count() > 0;
        if says_port == self.port.is_some() {
            return Err(format!(
                "mode `{name}` must say where it listens once; put {{port}} into `start` or `env`, \
                 or give `port`"
            ));
        }
        for (key, value) in [("count", self.count), ("concurrency", self.concurrency)] {
            if value == Some(0) {
                return Err(format!(
                    "mode `{name}` has {key} = 0, which would measure nothing; give 1 or more"
                ));
            }
        }
        Ok(())
    }
}

impl Ask {
    /// Whether it is done to a build in a mode.
    pub(super) fn is_for(&self, mode: &str, kind: Option<Kind>) -> bool {
        let modes = self.modes.as_deref();
        modes.is_none_or(|modes| modes.iter().any(|name| name == mode))
            && admits(self.packages.as_deref(), kind)
    }

    fn check(&self, modes: &[Mode]) -> Result<(), String> {
        let named = self.modes.iter().flatten();
        let known = |name: &&String| modes.iter().any(|mode| mode.name == **name);
        if let Some(name) = named.clone().find(|name| !known(name)) {
            return Err(format!(
                "a [[signal]] is for mode `{name}`, which there is not; give one of the file's"
            ));
        }
        if (self.send.is_none()) != (self.what == What::Nothing) {
            return Err(
                "a [[signal]] asks for nothing just where none is sent; give send = \"none\" and \
                 what = \"nothing\" together"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl Scenario {
    /// Reads a file's text; an error says in one sentence what is wrong, and on which line where that
    /// is known.
    pub(super) fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or_else(String::new, |span| {
                let before = text.get(..span.start).unwrap_or_default();
                format!("line {}: ", before.matches('\n').count() + 1)
            });
            // TOML's own messages may have several lines; ours have their remedy.
            let message = error.message().replace('\n', ", ");
            let remedy = match message.contains("; give ") {
                true => "",
                false => "; mend that (scenarios/README.md lists what there is)",
            };
            format!("{line}{message}{remedy}")
        })?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        self.packages.iter().try_for_each(Package::check)?;
        self.modes.iter().try_for_each(Mode::check)?;
        self.signals
            .iter()
            .try_for_each(|ask| ask.check(&self.modes))?;
        let names = self.modes.iter().map(|mode| &mode.name);
        let twice = names.clone().enumerate().find(|(at, name)| {
            let before = names.clone().take(*at);
            before.filter(|other| other == name).count() > 0
        });
        if let Some((_, name)) = twice {
            return Err(format!(
                "two modes are called `{name}`; give each a name of its own"
            ));
        }
        Ok(())
    }
}

/// What is not restricted is for all.
fn admits(only: Option<&[Kind]>, kind: Option<Kind>) -> bool {
    only.is_none_or(|only| kind.is_some_and(|kind| only.contains(&kind)))
}

fn master() -> Whom {
    Whom::Master
}

fn signal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Signal>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse() {
        Ok(SignalArg::None) => Ok(None),
        Ok(SignalArg::Send(signal, None)) => Ok(Some(signal)),
        Ok(SignalArg::Send(_, Some(_))) => Err(D::Error::custom(format!(
            "`{text}` says when, which --at does; give the signal alone"
        ))),
        Err(error) => Err(D::Error::custom(error)),
    }
}

fn whom<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Whom, D::Error> {
    let text = String::deserialize(deserializer)?;
    Whom::ALL
        .into_iter()
        .find(|whom| whom.word() == text)
        .ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is nobody to signal; give master, tree or worker"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUNICORN: &str = r#"
        server = "Gunicorn"

        [[package]]
        debian = ["gunicorn"]
        version = ["gunicorn", "--version"]

        [[package]]
        pypi = ["gunicorn==23.0.0"]
        version = ["gunicorn", "--version"]

        [[mode]]
        name = "sync"
        start = ["gunicorn", "-b", "127.0.0.1:{port}"]

        [[mode]]
        name = "gthread"
        start = ["gunicorn", "-b", "127.0.0.1:{port}"]
        env = { THREADS = "2" }
        packages = ["pypi"]

        [[signal]]
        send = "TERM"
        what = "graceful stop"

        [[signal]]
        send = "KILL"
        to = "worker"
        what = "worker killed"
        modes = ["sync"]
        packages = ["debian"]
    "#;

    /// What is said of a file in which `from` reads `to`.
    fn refused(from: &str, to: &str) -> String {
        assert!(GUNICORN.contains(from), "{from}");
        Scenario::parse(&GUNICORN.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn a_file_says_what_is_done_to_which_build_in_which_mode() {
        let scenario = Scenario::parse(GUNICORN).unwrap();
        let sources: Vec<_> = scenario.packages.iter().map(Package::source).collect();
        assert_eq!(sources[1].unwrap().0, Kind::Pypi);
        assert!(!scenario.modes[1].is_for(Some(Kind::Debian)));
        let [stop, kill] = scenario.signals.as_slice() else {
            panic!("{:?}", scenario.signals);
        };
        assert_eq!((stop.send, stop.to), (Some(Signal::SIGTERM), Whom::Master));
        assert!(stop.is_for("gthread", Some(Kind::Pypi)));
        assert!(kill.is_for("sync", Some(Kind::Debian)));
        assert!(!kill.is_for("sync", Some(Kind::Pypi)));
        assert!(!kill.is_for("gthread", Some(Kind::Debian)));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_sentence_with_its_line_and_a_remedy() {
        for (from, to, sentence) in [
            (
                "server = \"Gunicorn\"",
                "server = \"Gunicorn\"\n        nme = 1",
                "line 3: unknown field `nme`, expected one of `server`, `package`, `mode`, `signal`; \
                 mend that (scenarios/README.md lists what there is)",
            ),
            (
                "\"TERM\"",
                "\"TREM\"",
                "line 23: `TREM` is no signal; give a name or number that `kill -l` lists, as in TERM \
                 or 15",
            ),
            (
                "\"worker\"",
                "\"workers\"",
                "line 28: `workers` is nobody to signal; give master, tree or worker",
            ),
            (
                "debian = [\"gunicorn\"]",
                "",
                "a [[package]] comes from one place; give debian, pypi or npm, with its packages",
            ),
            (
                "name = \"gthread\"",
                "name = \"sync\"",
                "two modes are called `sync`; give each a name of its own",
            ),
            (
                "{port}",
                "8000",
                "mode `sync` must say where it listens once; put {port} into `start` or `env`, or \
                 give `port`",
            ),
            (
                "modes = [\"sync\"]",
                "modes = [\"async\"]",
                "a [[signal]] is for mode `async`, which there is not; give one of the file's",
            ),
        ] {
            assert_eq!(refused(from, to), sentence);
        }
    }
}
