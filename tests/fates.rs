//! Each fate of a connection, carried out on purpose by a server that does nothing else, and what
//! the probe says of it: the whole table of outcomes, live.

mod common;

#[path = "fates/accepted.rs"]
mod accepted;
#[path = "fates/client.rs"]
mod client;
#[path = "fates/firewall.rs"]
mod firewall;
#[path = "fates/gateway.rs"]
mod gateway;
#[path = "fates/handshake.rs"]
mod handshake;
#[path = "fates/payload.rs"]
mod payload;
#[path = "fates/queue.rs"]
mod queue;
#[path = "fates/recordings.rs"]
mod recordings;
#[path = "fates/response.rs"]
mod response;

use common::{fate, fate_server, kernel};
