//! What the server's kernel proves of each fate of a connection: the fates are carried out on purpose
//! by this process, and each set of vantages has a table of what the rows must say.

mod common;

#[path = "causes/accepted.rs"]
mod accepted;
#[path = "causes/expectation.rs"]
mod expectation;
#[path = "causes/handover.rs"]
mod handover;
#[path = "causes/run.rs"]
mod run;
#[path = "causes/tables.rs"]
mod tables;
#[path = "causes/unaccepted.rs"]
mod unaccepted;

use common::fate_server;
