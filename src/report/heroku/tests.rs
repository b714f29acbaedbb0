use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::record::RecordTimes;

#[path = "../../../tests/common/logfmt.rs"]
mod logfmt;

/// 2019-05-10T18:41:06.859330999Z, when the connections below ended.
const END: i64 = 1_557_513_666_859_330_999;
const MS: i64 = 1_000_000;

/// A connection that took a millisecond and a half to open and ended five later, with that outcome.
fn record(outcome: Outcome) -> Record {
    let opened = END - 6 * MS - MS / 2;
    let server = SocketAddr::from(([10, 1, 2, 4], 9292));
    Record {
        src: Some(SocketAddr::from(([10, 1, 2, 3], 40_000))),
        response_bytes: Some(0),
        times: RecordTimes {
            opened: Stamp(opened),
            syn_ack: Some(Stamp(opened + MS + MS / 2)),
            end: Some(Stamp(END)),
            ..RecordTimes::default()
        },
        ..Record::new(6, server, outcome)
    }
}

/// One that was answered so far.
fn answered(outcome: Outcome, bytes: u64) -> Record {
    Record {
        http_status: Some(200),
        response_bytes: Some(bytes),
        ..record(outcome)
    }
}

/// One that was never connected.
fn unconnected(outcome: Outcome) -> Record {
    let mut record = record(outcome);
    record.times.syn_ack = None;
    record
}

fn head() -> Head {
    Head {
        method: "GET".to_owned(),
        path: "/?request_thread=6".to_owned(),
        host: "ruby-h13.herokuapp.com".to_owned(),
        request_id: "05696319-a6ff-4fad-b219-6dd043536314".to_owned(),
    }
}

fn alive() -> Context {
    Context::default()
}

fn dead() -> Context {
    Context {
        target_dead: Some(Stamp(0)),
        ..Context::default()
    }
}

/// What stands on each side of the request's part, which is the same in all of them.
fn around(record: &Record, run: &Context) -> [String; 2] {
    let line = line(record, run, &head());
    let start = "2019-05-10T18:41:06.859330+00:00 heroku[router]: ";
    let rest = line.strip_prefix(start).expect("time and sender");
    let (before, rest) = rest.split_once(" method=GET ").expect("a method");
    let (request, after) = rest.split_once(" dyno=web.1 ").expect("a dyno");
    assert_eq!(
        request,
        "path=\"/?request_thread=6\" host=ruby-h13.herokuapp.com \
         request_id=05696319-a6ff-4fad-b219-6dd043536314 fwd=\"10.1.2.3\""
    );
    [before, after].map(str::to_owned)
}

#[test]
fn a_whole_line_is_as_the_router_prints_it() {
    assert_eq!(
        line(&record(Outcome::ResetEmpty), &alive(), &head()),
        "2019-05-10T18:41:06.859330+00:00 heroku[router]: at=error code=H13 \
         desc=\"Connection closed without response\" method=GET path=\"/?request_thread=6\" \
         host=ruby-h13.herokuapp.com request_id=05696319-a6ff-4fad-b219-6dd043536314 \
         fwd=\"10.1.2.3\" dyno=web.1 connect=1ms service=5ms status=503 bytes=0 protocol=http\n"
    );
}

#[test]
fn what_was_served_has_its_own_status_and_no_code() {
    let [before, after] = around(&answered(Outcome::Served, 104), &alive());
    assert_eq!(before, "at=info");
    assert_eq!(
        after,
        "connect=1ms service=5ms status=200 bytes=104 protocol=http\n"
    );
}

#[test]
fn a_refusal_has_no_service_time_and_is_h10_once_the_server_is_dead() {
    let refused = unconnected(Outcome::Refused);
    let rest = "connect=6ms service= status=503 bytes= protocol=http\n";
    assert_eq!(
        around(&refused, &alive()),
        [
            "at=error code=H21 desc=\"Backend connection refused\"",
            rest
        ]
    );
    assert_eq!(
        around(&refused, &dead()),
        ["at=error code=H10 desc=\"App crashed\"", rest]
    );
}

#[test]
fn a_connection_that_nobody_answered_is_h19() {
    assert_eq!(
        around(&unconnected(Outcome::Unanswered), &alive()),
        [
            "at=error code=H19 desc=\"Backend connection timeout\"",
            "connect=6ms service= status=503 bytes= protocol=http\n"
        ]
    );
}

#[test]
fn what_was_connected_and_not_served_has_the_bytes_that_came() {
    let whole = "connect=1ms service=5ms status=503 bytes=";
    for (record, before, bytes) in [
        (
            record(Outcome::Hung),
            "at=error code=H12 desc=\"Request timeout\"",
            0,
        ),
        (
            answered(Outcome::Stalled, 20),
            "at=error code=H12 desc=\"Request timeout\"",
            20,
        ),
        (
            record(Outcome::ClosedEmpty),
            "at=error code=H13 desc=\"Connection closed without response\"",
            0,
        ),
        (
            record(Outcome::ResetOnConnect),
            "at=error code=H13 desc=\"Connection closed without response\"",
            0,
        ),
        (
            answered(Outcome::Malformed, 9),
            "at=error code=H17 desc=\"Poorly formatted HTTP response\"",
            9,
        ),
        (
            answered(Outcome::Truncated, 70),
            "sock=backend at=error code=H18 desc=\"Server Request Interrupted\"",
            70,
        ),
        (
            answered(Outcome::ResetMidway, 71),
            "sock=backend at=error code=H18 desc=\"Server Request Interrupted\"",
            71,
        ),
    ] {
        let after = format!("{whole}{bytes} protocol=http\n");
        assert_eq!(around(&record, &alive()), [before, &after]);
    }
}

#[test]
fn a_client_that_went_away_is_a_warning_and_499() {
    assert_eq!(
        around(&record(Outcome::ClientClosed), &alive()),
        [
            "sock=client at=warning code=H27 desc=\"Client Request Interrupted\"",
            "connect=1ms service=5ms status=499 bytes=0 protocol=http\n"
        ]
    );
}

#[test]
fn what_the_router_has_no_word_for_has_ours_and_no_code() {
    for outcome in [
        Outcome::LocalError,
        Outcome::Unreachable,
        Outcome::Unfinished,
    ] {
        let before = format!("at=error code= desc=\"{}\"", outcome.word());
        assert_eq!(
            around(&record(outcome), &dead()),
            [&before, "connect= service= status= bytes= protocol=http\n"]
        );
    }
}

#[test]
fn a_reset_inside_connect_leaves_the_times_empty_that_it_hides() {
    let [_, after] = around(&unconnected(Outcome::ResetOnConnect), &alive());
    assert_eq!(
        after,
        "connect= service= status=503 bytes=0 protocol=http\n"
    );
}

#[test]
fn without_an_end_the_last_that_was_seen_is_the_time() {
    let mut record = record(Outcome::Unfinished);
    record.times.end = None;
    record.times.request = Some(Stamp(END - 1_000));
    let line = line(&record, &alive(), &head());
    assert!(
        line.starts_with("2019-05-10T18:41:06.859329+00:00 "),
        "{line}"
    );
}

#[test]
fn what_was_not_sent_and_not_seen_is_empty() {
    let mut record = record(Outcome::LocalError);
    record.src = None;
    let line = line(&record, &alive(), &Head::default());
    assert!(
        line.ends_with(
            " method= path=\"\" host= request_id= fwd=\"\" dyno=web.1 connect= service= status= \
             bytes= protocol=http\n"
        ),
        "{line}"
    );
}

#[test]
fn no_path_or_header_breaks_out_of_its_place() {
    let hostile = Head {
        method: "GET".to_owned(),
        path: "/\" status=200 \\\n2019 heroku[router]: \u{85}\u{2028}\0é".to_owned(),
        host: "a b".to_owned(),
        request_id: "x=\"1\"".to_owned(),
    };
    let line = line(&record(Outcome::Hung), &alive(), &hostile);
    assert!(
        line.contains(
            " path=\"/\\\" status=200 \\\\\\n2019 heroku[router]: \\u0085\\u2028\\u0000é\" \
             host=\"a b\" request_id=\"x=\\\"1\\\"\" fwd="
        ),
        "{line}"
    );
}

/// Any text, and often what means something in a line.
fn text() -> impl Strategy<Value = String> {
    let sign = prop_oneof![
        any::<char>(),
        proptest::sample::select(
            "\"\\= \n\r\t\0\u{7f}\u{85}\u{2028}\u{2029}nu0"
                .chars()
                .collect::<Vec<_>>()
        ),
    ];
    proptest::collection::vec(sign, 0..20).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn any_request_is_one_line_that_reads_back(
        method in text(),
        path in text(),
        host in text(),
        request_id in text(),
        outcome in proptest::sample::select(&Outcome::ALL[..]),
    ) {
        let head = Head { method, path, host, request_id };
        let line = line(&answered(outcome, 5), &alive(), &head);
        let line = line.strip_suffix('\n').expect("an end");
        let ends = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        prop_assert!(!line.contains(ends), "{line:?}");

        let (_, said) = line.split_once("heroku[router]: ").expect("a sender");
        let pairs = logfmt::pairs(said);
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        let from = keys.iter().position(|key| *key == "method").expect("a method");
        prop_assert_eq!(
            &keys[from..],
            [
                "method", "path", "host", "request_id", "fwd", "dyno", "connect", "service",
                "status", "bytes", "protocol",
            ]
        );
        let values: Vec<&str> = pairs[from..].iter().map(|(_, value)| value.as_str()).collect();
        let Head { method, path, host, request_id } = &head;
        prop_assert_eq!(&values[..4], [method, path, host, request_id]);
    }
}
