//! Every `unsafe`, and every capability with what it buys. Safe, small wrappers around what no
//! library offers; policy is left to the rooms that call them.

pub(crate) mod batch;
pub(crate) mod capability;
pub(crate) mod host;
pub(crate) mod process;
pub(crate) mod ring;
pub(crate) mod socket;

use std::io;
use std::time::Duration;

use rustix::event::Timespec;

/// What the kernel said, in words and without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

/// A span as poll() and its kin take it.
pub(crate) fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}
