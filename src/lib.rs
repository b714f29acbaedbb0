//! probe opens connections to a prefork server while it is signalled and says what happened to each
//! one. The modules stand in the order in which data travels: connections are made and watched,
//! packets become flows, flows become outcomes, outcomes become records, records become bytes.

// What a user asks for, and the run it amounts to.
mod cli;
mod plan;

// The server, one of our own among them, is started and signalled; connections are made; both are
// watched.
pub mod connect;
mod observe;
mod prefork;
mod target;

// From here on pure: values in, values out.
pub mod wire;

pub mod flow;

pub mod http;

pub mod sequence;

pub mod outcome;

pub mod event;

pub mod kernel;

pub mod cause;

pub mod record;

pub mod reconcile;

pub mod summary;

// Records become bytes.
mod report;

// What wires the rooms together, and what they stand on.
mod commands;
mod recorded;
mod sys;
pub mod time;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

pub use commands::run;
