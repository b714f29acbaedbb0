//! The server under test: finding its processes and its listener, starting it, signalling it and
//! noting when each process ends. What its clients saw is left to the other rooms.

pub(crate) mod child;
pub(crate) mod holders;
pub(crate) mod installed;
pub(crate) mod listener;
pub(crate) mod process;
pub(crate) mod tree;
pub(crate) mod trigger;
pub(crate) mod watch;
