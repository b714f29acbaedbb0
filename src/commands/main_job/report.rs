//! What a finished run says: the table, whether a gate failed, and the exit code.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use super::measure::Ended;
use super::notes::Notes;
use super::one::StartedServer;
use super::remarks::describe;
use crate::commands::interrupt::Interrupt;
use crate::commands::outputs::OpenOutputs;
use crate::commands::say;
use crate::outcome::Outcome;
use crate::plan::Target;
use crate::report::table::{self, Setting};
use crate::sys::reason;
use crate::time::Clock;

/// Outputs that could not be written.
#[derive(Default)]
struct Failures {
    sentences: Vec<String>,
}

impl Failures {
    fn add(&mut self, name: &str, error: &io::Error) {
        // A reader that went away has what it wanted.
        if error.kind() == ErrorKind::BrokenPipe {
            return;
        }
        self.sentences.push(format!(
            "cannot write {name}: {}; make room or give another path (what was measured is in the \
             outputs that could be written)",
            reason(error)
        ));
    }
}

/// Prints to stdout, all of it or an error.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// What there is to report.
pub(super) struct Report<'a> {
    pub(super) run_id: &'a str,
    pub(super) words: &'a [OsString],
    pub(super) target: &'a Target,
    pub(super) clock: Clock,
    pub(super) max_lost: Option<u64>,
    pub(super) interrupt: &'a Interrupt,
    pub(super) server: Option<&'a StartedServer>,
    pub(super) ended: &'a Ended,
}

impl Report<'_> {
    /// Writes run.json and the table, and says how the run went: whatever cannot be written, the rest
    /// is.
    pub(super) fn write(&self, opened: OpenOutputs, mut notes: Notes) -> ExitCode {
        let mut failures = Failures::default();
        for failed in &self.ended.recorded.failed {
            failures.add(&failed.name, &failed.error);
        }
        if let Some(error) = self
            .server
            .and_then(|s| s.stop.as_ref()?.log_error.as_ref())
        {
            failures.add("server.log", error);
        }
        if let Some((path, file)) = &opened.run
            && let Err(error) = serde_json::to_writer_pretty(file, &self.run_json(&notes))
        {
            failures.add(&path.display().to_string(), &error.into());
        }
        if !notes.quiet {
            let text = table::render(&self.ended.recorded.summary, &self.setting());
            if opened.stdout_taken {
                say(&mut io::stderr(), &text);
            } else if let Err(error) = print(&text) {
                failures.add("the table to stdout", &error);
            }
        }
        // Even where nothing else is said.
        notes.quiet = false;
        for sentence in &failures.sentences {
            notes.tell(sentence.clone());
        }
        ExitCode::from(if !failures.sentences.is_empty() {
            2
        } else if let Some(code) = self.interrupt.exit_code() {
            code
        } else {
            self.gate()
        })
    }

    fn setting(&self) -> Setting {
        Setting {
            target: self.target_name(),
            took_ns: self.ended.took_ns,
            triggers: self.ended.log.fired.iter().map(describe).collect(),
            signal: self.ended.log.signal(),
            notes: self.remarks(),
        }
    }

    /// 1 where --max-lost is exceeded or nothing certain was measured, said on stderr.
    fn gate(&self) -> u8 {
        let Some(max_lost) = self.max_lost else {
            return 0;
        };
        let summary = &self.ended.recorded.summary;
        let uncertain = summary.count(Outcome::LocalError) + summary.count(Outcome::Unfinished);
        let why = if summary.lost > max_lost {
            format!("{} lost, at most {max_lost} allowed", summary.lost)
        } else if summary.count(Outcome::Served) == 0 {
            "nothing was served".to_owned()
        } else if uncertain > 0 {
            format!("{uncertain} local_error or unfinished")
        } else if self.ended.log.has_failed_trigger() {
            "a trigger failed".to_owned()
        } else {
            return 0;
        };
        say(&mut io::stderr(), &format!("probe: gate failed: {why}\n"));
        1
    }

    pub(super) fn target_name(&self) -> String {
        let address = self.target.address.to_string();
        if self.target.name == address {
            address
        } else {
            format!("{} ({address})", self.target.name)
        }
    }
}
