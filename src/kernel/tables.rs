//! Both vantages of the server's kernel beside each other.

use super::{DiagTable, Life, Sides, TraceTable};
use crate::event::Event;
use crate::time::Stamp;
use crate::wire::Ends;

/// What tracepoints and sock_diag tell, by connection; a vantage that is not there has no table.
#[derive(Debug, Default)]
pub struct Tables {
    /// Of tracepoints.
    pub trace: Option<TraceTable>,
    /// Of sock_diag.
    pub diag: Option<DiagTable>,
}

impl Tables {
    /// Whether all is known that they can tell of a connection that ended at `end`.
    pub fn know(&self, end: Stamp) -> bool {
        let trace = self.trace.as_ref().is_none_or(|table| table.knows(end));
        trace && self.diag.as_ref().is_none_or(|table| table.knows(end))
    }

    /// Gives away what is known of a connection between these ends, and what was seen of it.
    pub fn take(&mut self, ends: Ends, life: Life) -> (Sides, Vec<Event>) {
        let trace = self.trace.as_mut().and_then(|t| t.take(ends, life));
        let diag = self
            .diag
            .as_mut()
            .map(|table| table.take(ends.client, life));
        let (trace, mut events) = trace.map_or((None, Vec::new()), |(side, s)| (Some(side), s));
        let diag = diag.map(|(side, more)| {
            events.extend(more);
            side
        });
        (Sides { trace, diag }, events)
    }

    /// Lets go of connections of which nothing was seen since `at`.
    pub fn forget(&mut self, at: Stamp) {
        if let Some(table) = &mut self.trace {
            table.forget(at);
        }
        if let Some(table) = &mut self.diag {
            table.forget(at);
        }
    }
}
