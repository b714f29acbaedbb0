//! The embedded server, live: what its log and the probe's rows say of the same connections, what
//! each policy does to clients, and that nothing a client, a signal or an option does to it makes it
//! hang, spin or leave a process.

mod common;

#[path = "serve/agreement.rs"]
mod agreement;
#[path = "serve/clients.rs"]
mod clients;
#[path = "serve/course.rs"]
mod course;
#[path = "serve/first_request.rs"]
mod first_request;
#[path = "serve/input.rs"]
mod input;
#[path = "serve/kernel.rs"]
mod kernel;
#[path = "serve/listeners.rs"]
mod listeners;
#[path = "serve/policies.rs"]
mod policies;
#[path = "serve/signals.rs"]
mod signals;
