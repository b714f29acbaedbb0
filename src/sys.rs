//! Every `unsafe`, and every capability with what it buys. Safe, small wrappers around what no
//! library offers; policy is left to the rooms that call them.

pub(crate) mod capability;
pub(crate) mod host;
pub(crate) mod process;
pub(crate) mod ring;
pub(crate) mod socket;

use std::io;

/// What the kernel said, in words and without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}
