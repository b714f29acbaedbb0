//! Making connections: what is sent, when each one is due, and the engine that carries it out with
//! the kernel's own sockets. What came of it is left to [`outcome`](crate::outcome).

pub(crate) mod request;
pub(crate) mod schedule;
pub(crate) mod socket;
