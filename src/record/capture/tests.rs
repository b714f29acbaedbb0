mod missing;

use super::*;
use crate::flow::script::{ends, segments, segments_from};
use crate::wire::Segment;

const SERVED: &str = ">S <S. >. >P.[get] <. <P.[ok] >. <F. >F. <.";

/// What a capture of these scripts amounts to, each an hour after the one before.
fn read(side: ServerSide, scripts: &[&str]) -> Vec<Record> {
    let mut reading = Reading::new(side, false);
    for (n, script) in scripts.iter().enumerate() {
        let hour = Duration::from_secs(3_600 * u64::try_from(n).unwrap());
        let isn = 1_000 + 50_000 * u32::try_from(n).unwrap();
        for segment in segments_from(script, isn, isn) {
            let at = segment.at + hour;
            reading.segment(&Segment { at, ..segment });
        }
    }
    records(reading)
}

fn records(mut reading: Reading) -> Vec<Record> {
    reading.finish();
    std::iter::from_fn(|| reading.next_ended().map(|mut ended| ended.record())).collect()
}

fn only(script: &str) -> Record {
    let mut records = read(ServerSide::FromSyns, &[script]);
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[test]
fn a_whole_connection_is_a_record_seen_by_the_wire_alone() {
    let record = only(SERVED);
    assert_eq!(record.outcome, Outcome::Served);
    assert_eq!((record.conn, record.dst), (1, ends().server));
    assert_eq!(record.src, Some(ends().client));
    assert_eq!((record.cohort, record.failure), (None, None));
    assert!(record.evidence.wire && !record.evidence.socket);
    assert_eq!(record.caveats, Caveats::default());
    assert_eq!(record.curl_exit, Some(0));
    assert_eq!(record.sequence.unwrap().to_string().matches('S').count(), 2);
}

#[test]
fn a_capture_that_ends_inside_says_so_and_does_not_call_silence_hung() {
    let record = only(">S <S. >. >P.[get] <.");
    assert_eq!(record.outcome, Outcome::Unfinished);
    assert!(record.caveats.capture_end);
    assert_eq!((record.cause, record.retry_safe), (None, None));
    let record = only(">S");
    assert_eq!(record.outcome, Outcome::Unfinished);
    // Its response is whole; what follows cannot change that.
    let record = only(">S <S. >. >P.[get] <. <P.[ok]");
    assert_eq!(record.outcome, Outcome::Served);
    assert!(record.caveats.capture_end);
}

#[test]
fn a_capture_that_begins_inside_says_so() {
    let side = ServerSide::Port(ends().server.port());
    let records = read(side, &["<. <R."]);
    assert_eq!(records[0].outcome, Outcome::Unfinished);
    assert!(records[0].caveats.capture_start);
}

#[test]
fn a_client_that_gives_up_has_closed_and_is_not_hung() {
    let record = only(">S <S. >. >P.[get] <. >F. <.");
    assert_eq!(record.outcome, Outcome::ClientClosed);
    let candidates: Vec<&str> = record.candidates.iter().map(|c| c.word()).collect();
    let queued = ["never_accepted", "accepted_unread", "read_unanswered"];
    assert_eq!(candidates, queued);
}

#[test]
fn a_header_block_that_a_fin_cuts_is_truncated_and_curl_takes_it_for_whole() {
    let record = only(">S <S. >. >P.[get] <. <P.[cut-head] >. <F. >F. <.");
    assert_eq!(record.outcome, Outcome::Truncated);
    assert_eq!(record.curl_exit, Some(0));
    let record = only(">S <S. >. >P.[get] <. <P.[ok-head] >. <F. >F. <.");
    assert_eq!(record.curl_exit, Some(18));
}

#[test]
fn a_4_tuple_used_again_is_another_connection() {
    let records = read(ServerSide::FromSyns, &[SERVED, ">S <R.", SERVED]);
    let outcomes: Vec<Outcome> = records.iter().map(|record| record.outcome).collect();
    let expected = [Outcome::Served, Outcome::Refused, Outcome::Served];
    assert_eq!(outcomes, expected);
    let conns: Vec<u64> = records.iter().map(|record| record.conn).collect();
    assert_eq!(conns, [1, 2, 3]);
}

#[test]
fn records_come_while_the_capture_is_read() {
    let mut reading = Reading::new(ServerSide::FromSyns, false);
    for segment in segments(SERVED) {
        reading.segment(&segment);
    }
    assert!(reading.next_ended().is_none());
    let mut other = segments(">S")[0].clone();
    other.src.set_port(40_001);
    other.at = other.at + SETTLE * 2;
    reading.segment(&other);
    assert_eq!(reading.next_ended().map(|ended| ended.conn), Some(1));
    assert_eq!(reading.open.len(), 1);
}

/// A reading of a connection that was reset, and of another long enough after it for the first to be
/// a record; and that other one's end.
fn one_that_is_over() -> (Reading, Stamp) {
    let mut reading = Reading::new(ServerSide::FromSyns, false);
    for segment in segments(">S <S. >. >P.[get] <. <R.") {
        reading.segment(&segment);
    }
    let mut other = segments(">S")[0].clone();
    other.src.set_port(40_001);
    other.at = other.at + SETTLE * 2;
    reading.segment(&other);
    assert_eq!(reading.open.len(), 1);
    (reading, other.at)
}

#[test]
fn a_late_segment_of_a_connection_that_is_over_is_no_connection() {
    let (mut reading, at) = one_that_is_over();
    for (wait, segment) in segments(">S <S. >. >P.[get] <. <R. >P.[get]~ <R. >.")
        .iter()
        .enumerate()
    {
        let wait = Duration::from_secs(3 + wait as u64);
        let late = Segment {
            at: at + wait,
            ..segment.clone()
        };
        if !late.flags.syn() {
            reading.segment(&late);
        }
    }
    assert_eq!(reading.late(), 7);
    assert_eq!(records(reading).len(), 2);
}

#[test]
fn a_4_tuple_used_again_without_its_syn_is_another_connection_all_the_same() {
    let (mut reading, at) = one_that_is_over();
    let again = segments_from(
        ">S <S. >. >P.[get] <. <P.[ok] <F. >F. <.",
        16_000_000,
        70_000,
    );
    for segment in &again[3..] {
        let at = at + Duration::from_secs(5);
        reading.segment(&Segment {
            at,
            ..segment.clone()
        });
    }
    assert_eq!(reading.late(), 0);
    let records = records(reading);
    assert_eq!(records.len(), 3);
    assert_eq!(records[2].outcome, Outcome::Served);
    assert!(records[2].caveats.capture_start);
}

#[test]
fn a_connection_that_is_over_is_forgotten_in_the_end() {
    let (mut reading, at) = one_that_is_over();
    let reset = segments(">S <S. >. >P.[get] <. <R.").remove(5);
    // Whoever ends later drives it out.
    for (n, port) in (1..=3_u64).zip(50_001..) {
        for segment in segments(">S <R.") {
            let mut segment = Segment {
                at: at + Duration::from_secs(70 * n),
                ..segment
            };
            let client = if segment.flags.ack() {
                &mut segment.dst
            } else {
                &mut segment.src
            };
            client.set_port(port);
            reading.segment(&segment);
        }
    }
    reading.segment(&Segment {
        at: at + Duration::from_secs(300),
        ..reset
    });
    assert_eq!(reading.late(), 0);
    assert_eq!(records(reading).len(), 6);
}

#[test]
fn the_server_is_where_syns_go() {
    let mut reading = Reading::new(ServerSide::FromSyns, false);
    // The end of a connection whose beginning is missing: nobody knows who is who.
    let stray = &segments(SERVED)[3];
    reading.segment(stray);
    assert_eq!(reading.unplaced(), 1);
    for segment in segments(SERVED) {
        let mut later = segment;
        let client = if later.dst == ends().server {
            &mut later.src
        } else {
            &mut later.dst
        };
        client.set_port(40_001);
        reading.segment(&later);
    }
    // Now it is known.
    reading.segment(stray);
    assert_eq!(reading.unplaced(), 1);
    let servers: Vec<_> = reading.servers().iter().collect();
    assert_eq!(servers, [(&ends().server, &2)]);
}

#[test]
fn other_servers_are_left_alone_where_one_is_named() {
    let mut other = ends().server;
    for (side, n) in [
        (ServerSide::Port(other.port()), 1),
        (ServerSide::Port(80), 0),
        (ServerSide::Address(other), 1),
        (ServerSide::FromSyns, 1),
    ] {
        assert_eq!(read(side, &[SERVED]).len(), n, "{side:?}");
    }
    other.set_port(9293);
    assert!(read(ServerSide::Address(other), &[SERVED]).is_empty());
}

mod of_a_run {
    use super::*;
    use crate::kernel::Sides;
    use crate::outcome::{Attempt, Cohort, Maker, Response, SocketEnd};
    use crate::record::account::of_socket;

    fn run(connections: u64) -> RunAccount {
        RunAccount {
            run_id: "run".to_owned(),
            server: ends().server,
            protocol: Protocol::Http,
            asked_nothing: false,
            connections,
            signal: None,
            target_dead: None,
        }
    }

    /// What the socket of a connection did that was given up `after` its last packet.
    fn given_up(conn: u64, last: Stamp, after: Duration) -> String {
        let attempt = Attempt {
            conn,
            maker: Maker::Socket,
            cohort: Cohort::Steady,
            local: Some(ends().client),
            peer: ends().server,
            due: None,
            opened: Stamp(0),
            connected: Some(Stamp(10)),
            request: Some(Stamp(20)),
            request_len: 27,
            written: 27,
            response: Response::default(),
            end: SocketEnd::Deadline,
            ended: last + after,
            info: None,
        };
        of_socket(&attempt, &Sides::default(), last)
    }

    /// Reads the segments of a script, the last with an account.
    fn take(reading: &mut Reading, segments: &[Segment], account: impl Fn(Stamp) -> String) {
        for (n, segment) in segments.iter().enumerate() {
            reading.segment(segment);
            if n + 1 == segments.len() {
                let packet = Packet::Segment(segment.clone());
                reading.account(&packet, &account(segment.at));
            }
        }
    }

    const SILENT: &str = ">S <S. >. >P.[get] <. >F. <.";

    #[test]
    fn a_deadline_is_told_from_an_abort() {
        let mut reading = Reading::new(ServerSide::FromSyns, false);
        reading.begin_section(Some(run(9)));
        let segments = segments(SILENT);
        // The deadline passed before the client's FIN.
        let before = Duration::from_nanos(u64::try_from(segments[1].at.0).unwrap());
        take(&mut reading, &segments, |last| {
            given_up(9, last - before, Duration::ZERO)
        });
        // Known without any wait: the run itself says that this was the last segment.
        let record = reading.next_ended().unwrap().record();
        assert_eq!((record.conn, record.outcome), (9, Outcome::Hung));
        assert!(record.evidence.socket && record.evidence.wire);
        assert_eq!(only(SILENT).outcome, Outcome::ClientClosed);
    }

    #[test]
    fn what_the_account_says_is_not_believed_of_the_wire() {
        // An account of a deadline, and a reset that came before it.
        let mut reading = Reading::new(ServerSide::FromSyns, false);
        reading.begin_section(Some(run(1)));
        let segments = segments(">S <S. >. >P.[get] <. <R.");
        take(&mut reading, &segments, |last| {
            given_up(1, last, Duration::from_secs(1))
        });
        let record = reading.next_ended().unwrap().record();
        assert_eq!(record.outcome, Outcome::ResetEmpty);
        assert_eq!(record.socket_outcome, Some(Outcome::Hung));
        assert!(record.caveats.vantages_differ);
    }

    #[test]
    fn a_repeated_syn_after_an_icmp_error_is_the_same_connections() {
        let mut reading = Reading::new(ServerSide::FromSyns, false);
        reading.begin_section(Some(run(1)));
        let syn = &segments(">S")[0];
        reading.segment(syn);
        reading.icmp(&IcmpError {
            at: syn.at,
            from: ends().server.ip(),
            src: ends().client,
            dst: ends().server,
            seq: syn.seq,
            version: 6,
            kind: 1,
            code: 4,
            mtu: None,
        });
        let again = [Segment {
            at: syn.at + Duration::from_secs(3),
            ..syn.clone()
        }];
        take(&mut reading, &again, |last| {
            given_up(1, last, Duration::ZERO).replace("written=27", "written=0")
        });
        let record = reading.next_ended().unwrap().record();
        assert_eq!(record.outcome, Outcome::Refused);
        assert_eq!(record.syn_retransmits, Some(1));
    }

    #[test]
    fn a_connection_without_its_account_is_anybodys_and_numbered_behind_the_others() {
        let mut reading = Reading::new(ServerSide::FromSyns, false);
        reading.begin_section(Some(run(9)));
        take(&mut reading, &segments(SILENT), |_| "of no form".to_owned());
        assert!(reading.next_ended().is_none());
        let record = &records(reading)[0];
        assert_eq!((record.conn, record.outcome), (10, Outcome::ClientClosed));
        assert!(!record.evidence.socket);
    }

    #[test]
    fn a_section_ends_what_the_one_before_left_open() {
        let mut reading = Reading::new(ServerSide::FromSyns, false);
        reading.begin_section(Some(run(9)));
        reading.segment(&segments(">S")[0]);
        reading.begin_section(None);
        assert!(reading.next_ended().is_some());
    }
}
