//! probe's own TCP: connections made segment by segment, without the kernel's sockets.

pub mod engine;
