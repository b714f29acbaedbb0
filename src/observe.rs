//! Seeing: packets from a ring of our own. What they mean is left to [`wire`](crate::wire) and
//! [`flow`](crate::flow).

mod filter;
mod order;
pub(crate) mod packet;
pub(crate) mod route;
