//! What the user should know of a run, said on stderr as it comes up.

use indicatif::ProgressBar;

use crate::commands::tell;

/// Things the user should know: each said on stderr once, however many runs it holds for, and listed
/// in the run.json of each of them.
pub(super) struct Notes {
    quiet: bool,
    said: Vec<String>,
    lines: Vec<String>,
    /// How many of the lines hold for every run.
    common: Option<usize>,
    /// Shown meanwhile; lines go above it.
    bar: ProgressBar,
}

impl Notes {
    pub(super) fn new(quiet: bool) -> Notes {
        Notes {
            quiet,
            said: Vec::new(),
            lines: Vec::new(),
            common: None,
            bar: ProgressBar::hidden(),
        }
    }

    /// Lines go above this bar from now on.
    pub(super) fn keep_above(&mut self, bar: ProgressBar) {
        self.bar = bar;
    }

    /// Another run begins: what was told of the one before it does not hold for it.
    pub(super) fn begin_run(&mut self) {
        let common = *self.common.get_or_insert(self.lines.len());
        self.lines.truncate(common);
    }

    /// What was told of the run, and before the first.
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(super) fn tell(&mut self, line: String) {
        if !self.said.contains(&line) {
            if !self.quiet {
                self.bar.suspend(|| tell(&line));
            }
            self.said.push(line.clone());
        }
        self.lines.push(line);
    }

    pub(super) fn tell_all(&mut self, lines: &mut Vec<String>) {
        for line in lines.drain(..) {
            self.tell(line);
        }
    }
}
