//! What the commands that measure have in common in the end: the table, outputs that failed, the gate.

use std::io::{self, ErrorKind, Write};

use super::{say, tell};
use crate::outcome::Outcome;
use crate::summary::Summary;
use crate::sys::reason;

/// Outputs that could not be written.
#[derive(Default)]
pub(super) struct Failures {
    sentences: Vec<String>,
}

impl Failures {
    /// Notes that `output` failed; `whose` goes before that, where there are several.
    pub(super) fn add(&mut self, whose: &str, output: &str, error: &io::Error) {
        // A reader that went away has what it wanted.
        if error.kind() == ErrorKind::BrokenPipe {
            return;
        }
        self.sentences.push(format!(
            "{whose}cannot write {output}: {}; make room or give another path (what was measured is \
             in the outputs that could be written)",
            reason(error)
        ));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// Says which, even where nothing else is said.
    pub(super) fn tell(&self) {
        self.sentences.iter().for_each(|line| tell(line));
    }
}

/// Prints the table: to stdout, or where rows go there to stderr.
pub(super) fn print_table(text: &str, stdout_taken: bool, failures: &mut Failures) {
    if stdout_taken {
        say(&mut io::stderr(), text);
        return;
    }
    let mut stdout = io::stdout();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    if let Err(error) = printed {
        failures.add("", "the table to stdout", &error);
    }
}

/// Why the gate fails, if it does: more were lost than may be, some were not served (`unserved` says
/// where), or not every end is certain.
pub(super) fn gate_failure(
    summary: &Summary,
    max_lost: u64,
    unserved: Option<String>,
) -> Option<String> {
    let uncertain = summary.count(Outcome::LocalError) + summary.count(Outcome::Unfinished);
    if summary.lost > max_lost {
        Some(format!("{} lost, at most {max_lost} allowed", summary.lost))
    } else if let Some(place) = unserved {
        Some(format!("nothing was served{place}"))
    } else {
        (uncertain > 0).then(|| format!("{uncertain} local_error or unfinished"))
    }
}
