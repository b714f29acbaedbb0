//! All flows of a vantage by their 4-tuple. A 4-tuple used again is a new flow.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::{Flow, Protocol};
use crate::time::Stamp;
use crate::wire::{Ends, IcmpError, Segment};

/// The flows between many clients and one server.
#[derive(Debug)]
pub struct FlowTable {
    server: SocketAddr,
    protocol: Protocol,
    keep: bool,
    /// How many flows there were.
    begun: u64,
    /// By client; the newest last.
    flows: HashMap<SocketAddr, Vec<Flow>>,
}

impl FlowTable {
    /// An empty table for what clients exchange with `server`. With `keep`, each flow lists its
    /// segments one by one too.
    pub fn new(server: SocketAddr, protocol: Protocol, keep: bool) -> FlowTable {
        FlowTable {
            server,
            protocol,
            keep,
            begun: 0,
            flows: HashMap::new(),
        }
    }

    /// Takes the next segment; returns the flow it belongs to, none where it is not the server's.
    pub fn push(&mut self, segment: &Segment) -> Option<&mut Flow> {
        let client = if segment.dst == self.server {
            segment.src
        } else if segment.src == self.server {
            segment.dst
        } else {
            return None;
        };
        let ends = Ends {
            client,
            server: self.server,
        };
        let flows = self.flows.entry(client).or_default();
        if !flows.last_mut().is_some_and(|flow| flow.push(segment)) {
            let mut flow = Flow::new(ends, self.protocol, self.keep, segment);
            flow.number = self.begun;
            self.begun += 1;
            flows.push(flow);
        }
        flows.last_mut()
    }

    /// Takes an ICMP error about a segment of a client's.
    pub fn push_icmp(&mut self, error: &IcmpError) -> Option<&mut Flow> {
        if error.dst != self.server {
            return None;
        }
        let flow = self.flows.get_mut(&error.src)?.last_mut()?;
        flow.push_icmp(error);
        Some(flow)
    }

    /// The first flow of `client` that began within `from..=to`, with a SYN if there is one.
    pub fn find(&self, client: SocketAddr, from: Stamp, to: Stamp) -> Option<&Flow> {
        self.position(client, from, to)
            .and_then(|i| self.flows.get(&client)?.get(i))
    }

    /// Like [`FlowTable::find`], and takes it out: it is settled then.
    pub fn take(&mut self, client: SocketAddr, from: Stamp, to: Stamp) -> Option<Flow> {
        let i = self.position(client, from, to)?;
        let flows = self.flows.get_mut(&client)?;
        let mut flow = flows.remove(i);
        flow.settle();
        if flows.is_empty() {
            self.flows.remove(&client);
        }
        Some(flow)
    }

    fn position(&self, client: SocketAddr, from: Stamp, to: Stamp) -> Option<usize> {
        let flows = self.flows.get(&client)?;
        // What has no SYN may be a straggler of the port's last connection.
        (0..flows.len())
            .filter(|&i| (from..=to).contains(&flows[i].began()))
            .min_by_key(|&i| (flows[i].flaws().began_inside, flows[i].began()))
    }

    /// Drops flows that nobody asks for: those that are over, or were begun before us, and are silent
    /// since `over`; all others silent since `open`.
    pub fn forget(&mut self, over: Stamp, open: Option<Stamp>) {
        self.flows.retain(|_, flows| {
            flows.retain(|flow| {
                if flow.is_over() || flow.flaws().began_inside {
                    flow.last() >= over
                } else {
                    open.is_none_or(|open| flow.last() >= open)
                }
            });
            !flows.is_empty()
        });
    }

    /// How many flows are held.
    pub fn len(&self) -> usize {
        self.flows.values().map(Vec::len).sum()
    }

    /// Whether no flow is held.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}
