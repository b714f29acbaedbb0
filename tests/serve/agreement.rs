//! What the server's log must say of a connection for the probe's row to be true.
#![expect(clippy::panic, reason = "tests end at the first surprise")]

use crate::common::Row;
use crate::common::prefork::{CLOCKS, Event, Measured, time};

/// How much later than it happened an event may be in the log, in nanoseconds: a worker can lose the
/// processor between a call and its reading of the clock, to whatever else the machine is doing.
pub(crate) const LATE: i64 = 200_000_000;

/// What the log says of one client.
pub(crate) struct Traces<'a> {
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

    /// What the log says of a row's connection.
    pub(crate) fn traces(&self, row: &Row) -> Traces<'_> {
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
            // FIN: a worker had it, and had read what there was to read. One that ends at once does
            // not say what it leaves.
            "closed_empty" => {
                let nothing_to_read = row["request_acked"] != "true";
                accepted && !answered && (read || closed || nothing_to_read)
            }
            // RST: nobody had it, or its worker left it unread.
            "reset_empty" | "reset_on_connect" => !read && !answered,
            "refused" | "unanswered" => !accepted && !read && !answered && !closed,
            "hung" => !answered,
            other => panic!("{other}: {row:?}"),
        };
        let events = [self.accepted, self.read, self.answered, self.closed];
        assert!(fits, "{events:?} do not fit {row:?}");
    }

    /// Asserts that the kernel told by whom the connection was accepted and read, and when, and that
    /// what follows from it is what the row says.
    pub(crate) fn are_known_to_the_kernel(&self, row: &Row) {
        let taken = self.accepted.map(|event| event.pid.to_string());
        assert_eq!(taken.unwrap_or_default(), row["server_pid"], "{row:?}");
        self.was(self.accepted, row, "accepted_us");
        self.was(self.first_read(), row, "read_us");
        let (accepted, read) = (self.accepted.is_some(), self.first_read().is_some());
        let expected = match (row["outcome"].as_str(), accepted, read) {
            ("served", true, true) => ["", ""],
            ("refused", false, false) => ["not_listening", "yes"],
            ("reset_empty" | "reset_on_connect", false, false) => ["never_accepted", "yes"],
            ("reset_empty" | "reset_on_connect", true, false) => ["accepted_unread", "yes"],
            ("closed_empty", true, false) => ["accepted_unread", "unknown"],
            (_, true, true) => ["read_unanswered", "no"],
            // Behind a filter: nothing in the kernel says where its SYN went.
            ("unanswered", false, false) => ["unknown", "yes"],
            // Its client gave up: it may still be accepted.
            ("hung", false, false) => [row["cause"].as_str(), "unknown"],
            other => panic!("{other:?}: {row:?}"),
        };
        let found = ["cause", "retry_safe"].map(|column| row[column].as_str());
        assert_eq!(found, expected, "{row:?}");
    }

    /// The first event by which the worker shows that it had read from the connection.
    fn first_read(&self) -> Option<&Event> {
        let closed = || self.closed.filter(|event| event.number("bytes") > 0);
        self.read.or_else(closed)
    }

    /// Asserts that what the kernel saw, at the time in `column`, is what the worker wrote afterwards;
    /// or that there was neither.
    fn was(&self, event: Option<&Event>, row: &Row, column: &str) {
        let Some(event) = event else {
            assert_eq!(row[column], "", "{column}: {row:?}");
            return;
        };
        let late = event.at - time(row, column);
        assert!(
            late > -CLOCKS,
            "{late} ns before {column}: {event:?}, {row:?}"
        );
        assert!(late < LATE, "{late} ns after {column}: {event:?}, {row:?}");
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
