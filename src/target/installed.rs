//! Which version of a program this host has, as a command of the program's own tells it.
#![expect(
    clippy::disallowed_types,
    reason = "a server's version is what its own command prints"
)]

use std::io;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::child::Invocation;
use super::process::Process;
use crate::sys::{self, reason, timespec};

/// How long a command may take to print a version: Ruby and Python on a busy machine take a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a version is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoVersion {
    /// There is no such program.
    #[error("not installed")]
    NotInstalled,
    /// There is, and it says something else.
    #[error(
        "`{command}` tells no version: {why}; mend the installation, or `version` in its scenario.toml"
    )]
    Untold {
        /// What was asked.
        command: String,
        /// What came of it.
        why: String,
    },
}

/// The version that a command prints, on either stream.
pub(crate) fn version(command: &Invocation) -> Result<String, NoVersion> {
    let untold = |why: String| {
        let words = command.words.join(" ".as_ref());
        let command = words.to_string_lossy().into_owned();
        NoVersion::Untold { command, why }
    };
    let output = match ask(command) {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(NoVersion::NotInstalled);
        }
        Err(error) => return Err(untold(reason(&error))),
    };
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    if !output.status.success() {
        let last = printed.lines().rfind(|line| !line.trim().is_empty());
        let last = last.map_or_else(String::new, |line| format!(", {}", line.trim()));
        return Err(untold(format!("{}{last}", output.status)));
    }
    match find(&printed) {
        Some(version) => Ok(version.to_owned()),
        None => Err(untold("nothing like 1.2 is in what it prints".to_owned())),
    }
}

fn ask(command: &Invocation) -> io::Result<Output> {
    let (program, arguments) = command.words.split_first().ok_or(io::ErrorKind::NotFound)?;
    let mut asked = Command::new(program);
    asked
        .args(arguments)
        .envs(command.env.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(folder) = &command.folder {
        asked.current_dir(folder);
    }
    let mut child = asked.spawn()?;
    if let Ok(process) = Process::open(sys::process::pid(child.id()))
        && let Some(exit) = process.exit_fd()
    {
        let mut fds = [PollFd::from_borrowed_fd(exit, PollFlags::IN)];
        if poll(&mut fds, Some(&timespec(PATIENCE)))? == 0 {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    child.wait_with_output()
}

/// The first thing like 1.2 or 1.2.3 in a text.
fn find(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|word| word.trim_matches('.'))
        .find(|word| word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_number_with_a_dot() {
        for (text, version) in [
            ("puma version 5.6.5", Some("5.6.5")),
            ("Server version: Apache/2.4.57 (Debian)\n", Some("2.4.57")),
            (
                "Running uvicorn 0.34.0 with CPython 3.11.2 on Linux",
                Some("0.34.0"),
            ),
            ("v20.20.2", Some("20.20.2")),
            ("version 7 of it. 2.0.21-debian", Some("2.0.21")),
            ("usage: server [OPTIONS]...", None),
        ] {
            assert_eq!(find(text), version, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_and_what_fails_are_told_apart() {
        let of = |words: &[&str]| {
            version(&Invocation {
                words: words.iter().map(Into::into).collect(),
                ..Invocation::default()
            })
        };
        assert_eq!(of(&["echo", "v1.2"]).unwrap(), "1.2");
        let missing = of(&["no-such-server", "--version"]).unwrap_err();
        assert_eq!(missing.to_string(), "not installed");
        let broken = of(&["sh", "-c", "echo no module >&2; exit 3"]).unwrap_err();
        assert!(
            broken
                .to_string()
                .contains("exit status: 3, no module; mend"),
            "{broken}"
        );
    }
}
