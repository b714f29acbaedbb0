//! Scripts of segments: what each is, [`script`] says.

mod closing;
mod handshake;
mod hostile;
mod loss;
mod packets;
mod peer;
mod script;
mod transfer;
