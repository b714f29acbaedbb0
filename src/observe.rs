//! Seeing: packets from a ring of our own and from capture files, events from the kernel's
//! tracepoints. What they mean is left to [`wire`](crate::wire), [`flow`](crate::flow) and
//! [`kernel`](crate::kernel).

pub(crate) mod capture;
pub(crate) mod diag;
pub(crate) mod filter;
mod order;
pub(crate) mod packet;
pub(crate) mod route;
pub(crate) mod trace;
