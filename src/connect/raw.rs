//! The raw engine: probe's own TCP, segment by segment, where every packet that leaves and arrives is
//! ours to see.

pub mod engine;
#[expect(dead_code, reason = "its driver is yet to come")]
pub(crate) mod link;
