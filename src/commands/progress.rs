//! Progress bars: of a run's connections, of a series' runs, of a capture's bytes. Nothing is shown where stderr is no
//! terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the connections of a run.
pub(super) fn over_connections(count: u64) -> ProgressBar {
    bar(count, "{bar:40} {pos}/{len} ended, {msg}, {elapsed}")
}

/// A bar over the runs of a series; its message says which is being made.
pub(super) fn over_runs(runs: u64) -> ProgressBar {
    bar(runs, "{bar:40} {msg}, {elapsed}")
}

/// A bar over the bytes of a capture.
pub(super) fn over_bytes(size: u64) -> ProgressBar {
    bar(size, "{bar:40} {bytes}/{total_bytes} read, {elapsed}")
}

fn bar(count: u64, template: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(count), target);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
