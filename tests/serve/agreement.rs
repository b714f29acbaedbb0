//! What the server's log must say of a connection for the probe's row to be true.
#![expect(clippy::panic, reason = "tests end at the first surprise")]

use crate::common::Row;
use crate::common::prefork::{CLOCKS, Event, Measured, time};

/// How much later than it happened an event may be in the log, in nanoseconds: a worker can lose the
/// processor between a call and its reading of the clock, to whatever else the machine is doing.
pub(crate) const LATE: i64 = 200_000_000;

/// What the log says of one client.
struct Traces<'a> {
    accepted: Option<&'a Event>,
    read: Option<&'a Event>,
    answered: Option<&'a Event>,
    closed: Option<&'a Event>,
}

impl Measured {
    /// Asserts that no row and no line of the log contradict each other.
    pub(crate) fn agrees(&self) {
        for row in &self.rows {
            let traces = self.traces(row);
            traces.agree_on_fate(row);
            traces.agree_on_times(row);
        }
        for event in self.log.of("accepted") {
            // It panics where there is none.
            self.row(event);
        }
    }

    fn traces(&self, row: &Row) -> Traces<'_> {
        let about = |name| self.event(name, row);
        Traces {
            accepted: about("accepted"),
            read: about("read"),
            answered: about("answered"),
            closed: about("closed"),
        }
    }
}

impl Traces<'_> {
    fn agree_on_fate(&self, row: &Row) {
        let known = [self.accepted, self.read, self.answered, self.closed].map(|e| e.is_some());
        let [accepted, read, answered, closed] = known;
        let fits = match row["outcome"].as_str() {
            "served" => accepted && read && answered && !closed,
            // FIN: a worker had it, and had read what there was to read.
            "closed_empty" => accepted && !answered && (read || closed),
            // RST: nobody had it, or its worker left it unread.
            "reset_empty" | "reset_on_connect" => !read && !answered,
            "refused" | "unanswered" => !accepted && !read && !answered && !closed,
            "hung" => !answered,
            other => panic!("{other}: {row:?}"),
        };
        let events = [self.accepted, self.read, self.answered, self.closed];
        assert!(fits, "{events:?} do not fit {row:?}");
    }

    fn agree_on_times(&self, row: &Row) {
        let not_before = |event: Option<&Event>, column: &str| {
            if let Some(event) = event {
                let early = time(row, column) - event.at;
                assert!(
                    early < CLOCKS,
                    "{early} ns before {column}: {event:?}, {row:?}"
                );
            }
        };
        // The SYN-ACK is sent between the SYN and the moment from which accept() can succeed.
        not_before(self.accepted, "syn_ack_us");
        not_before(self.read, "request_us");
        // The log is written once write() has returned, which sends the response on its way.
        not_before(self.answered, "first_byte_us");
        if let Some(answered) = self.answered {
            let late = answered.at - time(row, "first_byte_us");
            assert!(late < LATE, "{late} ns after: {answered:?}, {row:?}");
        }
    }
}
