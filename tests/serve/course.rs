//! What a run says of the server's course around the signal, held against what the server wrote.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests end at the first surprise"
)]

use std::collections::BTreeMap;

use nix::unistd::Pid;
use serde_json::Value;

use crate::agreement::LATE;
use crate::common::enter_namespace;
use crate::common::prefork::{CLOCKS, Event, Measured, measure, time};

/// 200 connections, 500 a second, and TERM half-way: two workers that take 20 ms each leave most of
/// them in the queue.
const LOAD: &str = "--count 200 --rate 500 --signal TERM@100 --observe socket,wire,diag,trace";

/// A moment of the time line.
#[derive(Clone, Copy, Debug)]
struct Moment<'a>(&'a Value);

impl Moment<'_> {
    fn at(self) -> i64 {
        self.0["at_unix_ns"].as_i64().unwrap()
    }

    fn pid(self) -> Pid {
        let pid = self.0["pid"].as_i64().unwrap();
        Pid::from_raw(pid.try_into().unwrap())
    }

    /// Asserts that it is what the server wrote afterwards.
    fn is(self, event: &Event) {
        assert_eq!(self.pid(), event.pid, "{self:?} {event:?}");
        let late = event.at - self.at();
        assert!((-CLOCKS..LATE).contains(&late), "{self:?} {event:?}");
    }
}

impl Measured {
    fn moments(&self, event: &str) -> Vec<Moment<'_>> {
        let moments = self.run["course"]["moments"].as_array().unwrap().iter();
        let named = moments.filter(|moment| moment["event"] == event);
        named.map(Moment).collect()
    }

    fn moment(&self, event: &str) -> Moment<'_> {
        let [moment] = self.moments(event)[..] else {
            panic!("{event}: {:?}", self.run["course"]);
        };
        moment
    }

    /// Asserts that what each worker accepted last, and how much in all, is what it wrote.
    fn has_each_workers_last_accept(&self) {
        let mut accepted: BTreeMap<Pid, Vec<&Event>> = BTreeMap::new();
        for event in self.log.of("accepted") {
            accepted.entry(event.pid).or_default().push(event);
        }
        let moments = self.moments("last_accept");
        assert_eq!(moments.len(), accepted.len(), "{:?}", self.run["course"]);
        for moment in moments {
            let of_pid = &accepted[&moment.pid()];
            moment.is(of_pid.last().unwrap());
            assert_eq!(moment.0["detail"], of_pid.len().to_string());
        }
    }

    /// Asserts that what the kernel took after the last accept() are the rows that say so.
    fn counts_what_was_taken_too_late(&self) {
        let accepts = self.moments("last_accept").into_iter();
        let last = accepts.map(Moment::at).max().unwrap();
        let taken = |row: &&crate::common::Row| !row["syn_ack_us"].is_empty();
        let taken = self.rows.iter().filter(taken);
        let late = taken.filter(|row| time(row, "syn_ack_us") > last).count();
        let said = self.run["course"]["taken_after_last_accept"].as_u64();
        // One may have been between SYN-ACK and ACK.
        let off = said.unwrap().abs_diff(late as u64);
        assert!(off <= 1, "{late}: {:?}", self.run["course"]);
    }
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn the_course_of_a_stop_is_what_the_server_wrote() {
    enter_namespace();
    for policy in ["close", "leave-open"] {
        let measured = measure(LOAD, &format!("--policy {policy}"));
        measured.has_each_workers_last_accept();
        measured.counts_what_was_taken_too_late();
        let sent = measured.moment("signal_sent");
        assert_eq!(sent.pid(), measured.log.master());
        assert_eq!(sent.at(), measured.signalled());
        let closed = measured.moment("listener_closed");
        closed.is(measured.log.last("listener_closed"));
        // The queue is reset in the close, and whoever comes next is refused.
        assert!(measured.moment("queue_reset").at() > closed.at());
        assert!(measured.moment("refused").at() > closed.at());
        let mut exits: Vec<Pid> = measured
            .moments("exiting")
            .into_iter()
            .map(Moment::pid)
            .collect();
        let mut ended: Vec<Pid> = measured
            .log
            .of("exit")
            .iter()
            .map(|event| event.pid)
            .collect();
        exits.sort();
        ended.sort();
        assert_eq!(exits, ended, "{:?}", measured.run["course"]);
        for exit in measured.moments("exiting") {
            let mut wrote = measured.log.of("exit").into_iter();
            let wrote = wrote.find(|event| event.pid == exit.pid()).unwrap();
            // It writes before it ends.
            let late = exit.at() - wrote.at;
            assert!((-CLOCKS..LATE).contains(&late), "{exit:?} {wrote:?}");
        }
        // The last look at the queue is a millisecond old, or older where the machine is busy: two
        // milliseconds for each that came since.
        let reset = measured.count("reset_empty") + measured.count("reset_on_connect");
        let queued = closed.0["queued"].as_u64().unwrap();
        assert!(queued.abs_diff(reset as u64) <= 20, "{reset} of {queued}");
        let longest = measured.run["course"]["longest_queue"].as_u64();
        assert!(longest >= Some(queued), "{:?}", measured.run["course"]);
    }
}

#[test]
#[ignore = "needs root, netns, tracefs"]
fn the_course_of_a_server_that_hangs_has_no_close() {
    enter_namespace();
    let options = format!("{LOAD} --timeout 500ms --stop-timeout 10ms");
    let measured = measure(&options, "--policy hang");
    measured.has_each_workers_last_accept();
    measured.counts_what_was_taken_too_late();
    assert!(measured.moments("refused").is_empty());
    // When it is killed it is the master that closed it.
    for closed in measured.moments("listener_closed") {
        assert_eq!(closed.pid(), measured.log.master());
    }
    let late = measured.run["course"]["taken_after_last_accept"].as_u64();
    assert!(late >= Some(100), "{:?}", measured.run["course"]);
}
