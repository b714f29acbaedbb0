//! What the user should know of a run, said on stderr as it comes up.

use std::io;

use crate::commands::say;

/// Things the user should know: said on stderr as they come up, and listed again in run.json.
pub(super) struct Notes {
    pub(super) quiet: bool,
    pub(super) lines: Vec<String>,
}

impl Notes {
    pub(super) fn new(quiet: bool) -> Notes {
        Notes {
            quiet,
            lines: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, line: String) {
        if !self.quiet {
            say(&mut io::stderr(), &format!("probe: {line}\n"));
        }
        self.lines.push(line);
    }

    pub(super) fn tell_all(&mut self, lines: &mut Vec<String>) {
        for line in lines.drain(..) {
            self.tell(line);
        }
    }
}
