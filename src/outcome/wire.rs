//! The facts as packets tell them.

use super::Facts;
use crate::flow::Flow;
use crate::time::Stamp;

/// What the watcher of a flow knew about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Our own connection: a FIN of the client is a half-close unless the deadline had passed.
    Live {
        /// When the probe gave the connection up.
        deadline: Option<Stamp>,
        /// When the run was interrupted under it.
        abandoned: Option<Stamp>,
        /// When the probe closed it, having meant to ask nothing.
        left: Option<Stamp>,
    },
    /// Somebody's connection in a capture: a client that ends first has given up, for all we know.
    Capture,
}

/// Reduces a flow to what bears on its outcome.
pub fn facts(flow: &Flow, watch: Watch) -> Facts {
    let times = flow.times();
    let exchange = flow.exchanges().times();
    let flaws = flow.flaws();
    let (deadline, abandoned, client_gone) = match watch {
        Watch::Live {
            deadline,
            abandoned,
            left,
        } => (deadline, abandoned, left),
        Watch::Capture => (None, None, given_up(flow)),
    };
    let end_unseen = match watch {
        // What is lost on its way to us does not reach our client either.
        Watch::Live { .. } => flow.is_end_unseen(),
        // Nobody knows on which side of a capture it was lost.
        Watch::Capture => flow.is_end_unseen() || flow.has_unfilled_gap(),
    };
    Facts {
        syn_ack: times.connected,
        request: exchange.request,
        first_byte: exchange.first_byte,
        malformed: exchange.malformed,
        complete: exchange.complete,
        server_fin: times.server_fin,
        server_rst: times.server_rst,
        refusal: times.icmp.filter(|_| times.icmp_refusal),
        unreachable: times.icmp.filter(|_| !times.icmp_refusal),
        deadline,
        abandoned,
        client_gone,
        local_error: None,
        blind: flow.exchanges().is_blind(),
        began_inside: flaws.began_inside,
        end_unseen,
        request_unseen: flaws.provocation_missed,
    }
}

/// Whether the server answered, and ended its side with FIN when the client had ended its own. Where
/// nobody knows where an answer ends, as in TLS, such a client had what it wanted for all we know.
fn is_ended_in_turn(flow: &Flow) -> bool {
    let times = flow.times();
    let answered = flow.exchanges().times().first_byte.is_some();
    answered && times.client_rst.is_none() && times.server_fin >= times.client_fin
}

/// When the client gave up: at its FIN, unless the server went on to send and the client took it (a
/// half-close), or at its RST.
fn given_up(flow: &Flow) -> Option<Stamp> {
    let times = flow.times();
    let last_byte = flow.exchanges().times().last_byte;
    if !flow.exchanges().is_http() && is_ended_in_turn(flow) {
        return None;
    }
    match (times.client_fin, times.client_rst) {
        // What came after its FIN it answered with RST: it had closed both ways.
        (Some(fin), Some(rst)) => Some(fin.min(rst)),
        (Some(fin), None) => Some(fin).filter(|&fin| last_byte.is_none_or(|last| last < fin)),
        (None, rst) => rst,
    }
}
