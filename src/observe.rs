//! Seeing: packets from a ring of our own and from capture files. What they mean is left to
//! [`wire`](crate::wire) and [`flow`](crate::flow).

pub(crate) mod capture;
mod filter;
mod order;
pub(crate) mod packet;
pub(crate) mod route;
