//! Every `unsafe`, and every capability with what it buys. Safe, small wrappers around what no
//! library offers; policy is left to the rooms that call them.

pub(crate) mod capability;
pub(crate) mod host;
pub(crate) mod process;
pub(crate) mod ring;
pub(crate) mod socket;
