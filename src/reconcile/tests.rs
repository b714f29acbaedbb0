use std::time::Duration;

use super::*;
use crate::flow::Flow;
use crate::flow::script::{ends, flow_of, segments_from};
use crate::outcome::{Watch, decide, wire_facts};
use crate::wire::Ends;

const SERVED: &str = ">S <S. >. >P.[get] <. <P.[ok] >. <F. >F. <.";
const HUNG: &str = ">S <S. >. >P.[get] <. >F. <.";

/// A whole connection, from this client's port, so long after the epoch.
fn account(script: &str, port: u16, begins: Duration) -> Account {
    let mut segments = segments_from(script, 1_000, 5_000);
    for segment in &mut segments {
        segment.at = segment.at + begins;
    }
    let flow = flow_of(&segments);
    let trace = segments
        .iter()
        .filter_map(|segment| {
            let direction = segment.direction(&ends())?;
            Some(Noted::new(direction, segment, Digest::made_up(1, 1)))
        })
        .collect();
    told_by(&flow, port, trace)
}

fn told_by(flow: &Flow, port: u16, trace: Vec<Noted>) -> Account {
    let Ends { client, server } = ends();
    let decision = decide(&wire_facts(flow, Watch::Capture));
    let live = Watch::Live {
        deadline: None,
        abandoned: None,
        left: None,
    };
    Account {
        run_id: None,
        conn: port.into(),
        client: Some(SocketAddr::new(client.ip(), port)),
        server,
        opened: flow.began(),
        last: flow.last(),
        outcome: decision.outcome,
        decided: decision.at,
        facts: Some(wire_facts(flow, live)),
        caveats: Caveats::default(),
        trace: Trace::Segments(trace),
    }
}

/// A side that tells of these, in which watching began long before and went on for long.
fn told(accounts: Vec<Account>) -> Told {
    Told {
        accounts,
        span: Some((Stamp(i64::MIN / 4), Stamp(i64::MAX / 4))),
        source: Source::Capture,
        unjudged: false,
    }
}

fn run(accounts: Vec<Account>, complete: bool) -> Told {
    Told {
        source: Source::Run { complete },
        ..told(accounts)
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn trace(account: &mut Account) -> &mut Vec<Noted> {
    match &mut account.trace {
        Trace::Segments(segments) => segments,
        Trace::Nothing | Trace::Sequence { .. } => unreachable!("made with segments"),
    }
}

/// What becomes of a connection when the capture's account of it is changed.
fn after(script: &str, change: impl FnOnce(&mut Vec<Noted>)) -> Pair {
    let mut changed = account(script, 1, at(100));
    change(trace(&mut changed));
    let mine = told(vec![account(script, 1, at(100))]);
    only(compare(
        &mine,
        &told(vec![changed]),
        Strictness::SameInterface,
    ))
}

fn only(mut compared: Comparison) -> Pair {
    assert_eq!(compared.pairs.len(), 1);
    compared.pairs.remove(0)
}

fn segment(kind: Kind, run: usize, capture: usize) -> What {
    What::Segment(Difference { kind, run, capture })
}

fn first(pair: &Pair) -> (What, Option<Reason>) {
    let finding = pair.first().expect("a difference");
    (finding.what, finding.reason)
}

#[test]
fn the_same_segments_are_the_same() {
    let pair = after(SERVED, |_| {});
    assert_eq!(pair.verdict(), Verdict::Same);
    assert_eq!(
        (pair.matched, pair.crossed, pair.apart_ns),
        (10, 0, Some(0))
    );
}

#[test]
fn bytes_that_were_acknowledged_and_not_seen_are_a_hole() {
    for missing in [0, 1, 3, 5, 7, 8] {
        let pair = after(SERVED, |trace| {
            trace.remove(missing);
        });
        let hole = Some(Reason::Hole(Side::Capture));
        assert_eq!(
            first(&pair),
            (segment(Kind::OnlyRun, missing, missing), hole)
        );
        assert_eq!(pair.verdict(), Verdict::Explained);
    }
}

#[test]
fn a_missing_acknowledgment_is_nothing_that_a_capture_can_prove() {
    for missing in [2, 4, 6, 9] {
        let pair = after(SERVED, |trace| {
            trace.remove(missing);
        });
        assert_eq!(
            first(&pair),
            (segment(Kind::OnlyRun, missing, missing), None)
        );
        assert_eq!(pair.verdict(), Verdict::Differs);
    }
}

#[test]
fn a_segment_sent_twice_and_seen_once_is_no_hole() {
    let twice = ">S <S. >. >P.[get] >P.[get]~ <. <R.";
    for missing in [3, 4] {
        let pair = after(twice, |trace| {
            trace.remove(missing);
        });
        assert_eq!(pair.verdict(), Verdict::Differs);
    }
}

#[test]
fn what_a_hole_does_not_explain_stays_a_difference_beside_it() {
    let pair = after(SERVED, |trace| {
        trace.remove(9);
        trace.remove(5);
    });
    assert_eq!(pair.findings.len(), 2);
    assert_eq!(first(&pair), (segment(Kind::OnlyRun, 9, 8), None));
    assert_eq!(
        pair.reasons().into_iter().collect::<Vec<_>>(),
        [Reason::Hole(Side::Capture)]
    );
}

#[test]
fn other_content_is_told_from_a_missing_segment() {
    for (header, payload, kind) in [(2, 1, Kind::Header), (1, 2, Kind::Payload)] {
        let pair = after(SERVED, |trace| {
            trace[5].digest = Digest::made_up(header, payload)
        });
        assert_eq!(first(&pair), (segment(kind, 5, 5), None));
        assert_eq!(pair.matched, 10);
    }
}

#[test]
fn a_segment_in_another_place_differs() {
    // The response and its acknowledgment.
    let pair = after(SERVED, |trace| trace.swap(5, 6));
    assert_eq!(first(&pair), (segment(Kind::Order, 6, 5), None));
}

#[test]
fn segments_that_cross_each_other_closely_may_change_places() {
    // The client's acknowledgment and the server's FIN; a microsecond apart in the run.
    let crossed = |ns: u64| {
        after(SERVED, |trace| {
            trace[6].at = trace[7].at + Duration::from_nanos(ns);
            trace.swap(6, 7);
        })
    };
    for ns in [0, 999, 1_000] {
        let pair = crossed(ns);
        assert_eq!((pair.verdict(), pair.crossed), (Verdict::Same, 1));
    }
    assert_eq!(crossed(1_001).verdict(), Verdict::Differs);
    // Two of one sender do not cross.
    let same_sender = after(SERVED, |trace| trace.swap(4, 5));
    assert_eq!(same_sender.verdict(), Verdict::Differs);
}

#[test]
fn the_clocks_are_put_together_by_the_connections_that_both_saw() {
    let mine = told((1..=5).map(|n| account(SERVED, n, at(n.into()))).collect());
    let hour = |n: u16| at(u64::from(n) + 3_600) + Duration::from_nanos(u64::from(n));
    let theirs = told((1..=5).map(|n| account(SERVED, n, hour(n))).collect());
    let compared = compare(&mine, &theirs, Strictness::SameInterface);
    let (ns, measured_by) = (3_600_000_000_003, 5);
    assert_eq!(compared.offset, Offset { ns, measured_by });
    assert!(
        compared
            .pairs
            .iter()
            .all(|pair| pair.verdict() == Verdict::Same)
    );
    assert_eq!(
        (compared.apart_ns.first(), compared.apart_ns.last()),
        (Some(&0), Some(&2))
    );
}

#[test]
fn a_port_that_comes_back_is_another_connection() {
    let twice = || vec![account(SERVED, 1, at(10)), account(HUNG, 1, at(20))];
    let swapped = twice().into_iter().rev().collect();
    let compared = compare(&told(twice()), &told(swapped), Strictness::SameInterface);
    let pairs: Vec<_> = compared.pairs.iter().map(|p| (p.run, p.capture)).collect();
    assert_eq!(pairs, [(Some(0), Some(1)), (Some(1), Some(0))]);
    assert!(
        compared
            .pairs
            .iter()
            .all(|pair| pair.verdict() == Verdict::Same)
    );
}

#[test]
fn a_connection_whose_first_syn_one_side_missed_is_the_same_connection() {
    let mut mine = account(">S >S~ <S. >. >P.[get] <. <R.", 1, at(100));
    for noted in &mut trace(&mut mine)[1..] {
        noted.at = noted.at + Duration::from_secs(1);
    }
    let mut theirs = account(">S >S~ <S. >. >P.[get] <. <R.", 1, at(101));
    trace(&mut theirs).remove(0);
    theirs.opened = trace(&mut theirs)[0].at;
    let pair = only(compare(
        &told(vec![mine]),
        &told(vec![theirs]),
        Strictness::SameInterface,
    ));
    // Which of the two is missing nobody can tell: they are alike.
    assert_eq!(first(&pair), (segment(Kind::OnlyRun, 1, 1), None));
    assert_eq!(pair.matched, 6);
}

#[test]
fn clocks_are_put_together_by_segments_where_both_began_in_the_middle() {
    let cut = |begins: u64| {
        let mut account = account(SERVED, 1, at(begins));
        trace(&mut account).drain(..4);
        account.opened = trace(&mut account)[0].at;
        account.caveats.capture_start = true;
        told(vec![account])
    };
    let compared = compare(&cut(100), &cut(105), Strictness::SameInterface);
    assert_eq!(compared.offset.ns, 5_000_000_000);
    assert_eq!(only(compared).verdict(), Verdict::Same);
}

/// A capture in which nothing was watched but this long.
fn watched(accounts: Vec<Account>, from: Duration, to: Duration) -> Told {
    Told {
        span: Some((Stamp(0) + from, Stamp(0) + to)),
        ..told(accounts)
    }
}

#[test]
fn what_a_capture_began_too_late_for_or_ended_too_early_is_explained() {
    let three = || (1..=3).map(|n| account(SERVED, n, at(n.into()))).collect();
    let second = vec![account(SERVED, 2, at(2))];
    let theirs = watched(second, at(2), at(2) + Duration::from_micros(9));
    let compared = compare(&told(three()), &theirs, Strictness::SameInterface);
    let reasons: Vec<_> = compared
        .pairs
        .iter()
        .map(|pair| pair.first().and_then(|f| f.reason))
        .collect();
    let (before, after) = (Reason::Before(Side::Capture), Reason::After(Side::Capture));
    assert_eq!(reasons, [Some(before), None, Some(after)]);
    // Gone from the middle.
    let theirs = told(vec![account(SERVED, 1, at(1)), account(SERVED, 3, at(3))]);
    let compared = compare(&told(three()), &theirs, Strictness::SameInterface);
    assert_eq!(first(&compared.pairs[1]), (What::Only(Side::Run), None));
}

#[test]
fn a_connection_cut_by_an_edge_is_joined_and_explained() {
    let mut cut = account(SERVED, 1, at(100));
    trace(&mut cut).drain(..4);
    cut.opened = trace(&mut cut)[0].at;
    cut.caveats.capture_start = true;
    cut.outcome = Outcome::Served;
    let (from, to) = (cut.opened, Stamp(0) + at(200));
    let theirs = Told {
        span: Some((from, to)),
        ..told(vec![cut])
    };
    let mine = told(vec![account(SERVED, 1, at(100))]);
    let pair = only(compare(&mine, &theirs, Strictness::SameInterface));
    assert_eq!(pair.findings.len(), 4);
    assert_eq!(pair.verdict(), Verdict::Explained);
    assert_eq!(
        pair.reasons().into_iter().collect::<Vec<_>>(),
        [Reason::Before(Side::Capture)]
    );
}

#[test]
fn other_peoples_connections_are_no_difference_where_the_run_lists_all_of_its_own() {
    let both = || told(vec![account(SERVED, 1, at(1)), account(SERVED, 2, at(2))]);
    let reason = |complete| {
        let mine = run(vec![account(SERVED, 1, at(1))], complete);
        let compared = compare(&mine, &both(), Strictness::SameInterface);
        first(&compared.pairs[1])
    };
    assert_eq!(
        reason(true),
        (What::Only(Side::Capture), Some(Reason::OtherTraffic))
    );
    assert_eq!(reason(false), (What::Only(Side::Capture), None));
    // A capture lists whoever passed.
    let mine = told(vec![account(SERVED, 1, at(1))]);
    let compared = compare(&mine, &both(), Strictness::SameInterface);
    assert_eq!(first(&compared.pairs[1]), (What::Only(Side::Capture), None));
}

#[test]
fn another_server_is_other_traffic() {
    let mut elsewhere = account(SERVED, 2, at(2));
    elsewhere.server.set_port(80);
    let theirs = told(vec![account(SERVED, 1, at(1)), elsewhere]);
    let own = || vec![account(SERVED, 1, at(1))];
    let reason = |mine: Told| {
        let compared = compare(&mine, &theirs, Strictness::SameInterface);
        first(&compared.pairs[1]).1
    };
    assert_eq!(reason(run(own(), false)), Some(Reason::OtherTraffic));
    // Of another capture nobody knows what it left out.
    assert_eq!(reason(told(own())), None);
}

#[test]
fn a_connection_that_failed_before_its_first_packet_is_in_no_capture() {
    let mut failed = account(SERVED, 1, at(1));
    (failed.trace, failed.outcome) = (Trace::Nothing, Outcome::LocalError);
    let pair = only(compare(
        &run(vec![failed], true),
        &told(vec![]),
        Strictness::SameInterface,
    ));
    assert_eq!(
        first(&pair),
        (What::Only(Side::Run), Some(Reason::NoPackets))
    );
}

/// The run's own row for a script that it gave up on, so long after its SYN.
fn gave_up(script: &str, outcome: Outcome, after: Duration) -> Told {
    let mut mine = account(script, 1, at(100));
    mine.outcome = outcome;
    mine.decided = Some(mine.opened + after);
    run(vec![mine], true)
}

#[test]
fn a_deadline_that_no_packet_shows_is_the_runs_to_know() {
    let tick = Duration::from_nanos(1_000);
    let pair = |script: &str, outcome, ticks| {
        let mine = gave_up(script, outcome, tick * ticks);
        let theirs = told(vec![account(script, 1, at(100))]);
        only(compare(&mine, &theirs, Strictness::SameInterface))
    };
    let hung = pair(HUNG, Outcome::Hung, 5);
    assert_eq!(
        (hung.verdict(), hung.capture_outcome),
        (Verdict::Same, Some(Outcome::Hung))
    );
    let unanswered = pair(">S >S~", Outcome::Unanswered, 5);
    assert_eq!(unanswered.capture_outcome, Some(Outcome::Unanswered));
    let left = pair(">S <S. >. >F. <F. >.", Outcome::ClientClosed, 3);
    assert_eq!(left.capture_outcome, Some(Outcome::ClientClosed));
    // The server was first: whoever says that the client was is wrong.
    let closed = pair(">S <S. >. <F. >F. <.", Outcome::ClientClosed, 4);
    assert_eq!(closed.capture_outcome, Some(Outcome::ClosedEmpty));
    // The whole answer came before: whoever says hung is wrong.
    let answered = pair(SERVED, Outcome::Hung, 8);
    assert_eq!(first(&answered), (What::Outcome, None));
    assert_eq!(answered.capture_outcome, Some(Outcome::Served));
}

#[test]
fn a_run_that_was_interrupted_says_no_more_of_what_was_open() {
    let mine = gave_up(HUNG, Outcome::Unfinished, at(0));
    let theirs = told(vec![account(SERVED, 1, at(100))]);
    let pair = only(compare(&mine, &theirs, Strictness::SameInterface));
    let outcome = pair
        .findings
        .iter()
        .find(|found| found.what == What::Outcome);
    assert_eq!(
        outcome.and_then(|found| found.reason),
        Some(Reason::After(Side::Run))
    );
}

#[test]
fn what_came_long_after_a_runs_connection_was_over_it_need_not_have_watched() {
    let late = |ms: u64| {
        let mut theirs = account(SERVED, 1, at(100));
        let last = *trace(&mut theirs).last().unwrap();
        let at = last.at + Duration::from_millis(ms);
        trace(&mut theirs).push(Noted { at, ..last });
        let mine = run(vec![account(SERVED, 1, Duration::from_secs(100))], true);
        only(compare(
            &mine,
            &told(vec![theirs]),
            Strictness::SameInterface,
        ))
    };
    assert_eq!(
        first(&late(11)),
        (segment(Kind::OnlyCapture, 10, 10), Some(Reason::Settled))
    );
    assert_eq!(first(&late(9)), (segment(Kind::OnlyCapture, 10, 10), None));
}

/// The run's account reduced to what a row holds.
fn row(script: &str) -> Told {
    let mut mine = account(script, 1, at(100));
    mine.trace = Trace::Sequence {
        sequence: mine.trace.sequence().unwrap(),
        marks: [Some(mine.opened), None, None, None],
    };
    run(vec![mine], true)
}

#[test]
fn a_rows_sequence_is_held_against_the_segments() {
    let pair = |change: &dyn Fn(&mut Vec<Noted>)| {
        let mut theirs = account(SERVED, 1, at(100));
        change(trace(&mut theirs));
        only(compare(
            &row(SERVED),
            &told(vec![theirs]),
            Strictness::SameInterface,
        ))
    };
    assert_eq!(pair(&|_| {}).verdict(), Verdict::Same);
    let hole = pair(&|trace| {
        trace.remove(5);
    });
    let proven = Some(Reason::Hole(Side::Capture));
    assert_eq!(first(&hole), (segment(Kind::OnlyRun, 5, 5), proven));
    let acknowledgment = pair(&|trace| {
        trace.remove(4);
    });
    assert_eq!(first(&acknowledgment), (segment(Kind::OnlyRun, 4, 4), None));
    let longer = pair(&|trace| trace[5].len += 1);
    assert_eq!(longer.verdict(), Verdict::Differs);
    assert_eq!(pair(&|trace| trace.swap(5, 6)).verdict(), Verdict::Differs);
    let crossed = pair(&|trace| trace.swap(6, 7));
    assert_eq!((crossed.verdict(), crossed.crossed), (Verdict::Same, 1));
}

#[test]
fn across_interfaces_segments_may_be_cut_up_and_bytes_may_not_be_missing() {
    let pair = |change: &dyn Fn(&mut Vec<Noted>)| {
        let mut theirs = account(SERVED, 1, at(100));
        change(trace(&mut theirs));
        let mine = told(vec![account(SERVED, 1, at(100))]);
        only(compare(
            &mine,
            &told(vec![theirs]),
            Strictness::AcrossInterfaces,
        ))
    };
    let cut_up = |trace: &mut Vec<Noted>| {
        let mut second = trace[5];
        trace[5].len = 10;
        second.seq += 10;
        second.len -= 10;
        trace.insert(6, second);
        trace.remove(4);
    };
    assert_eq!(pair(&cut_up).verdict(), Verdict::Same);
    let lost = pair(&|trace| {
        cut_up(trace);
        trace.remove(5);
    });
    let What::Bytes(missing) = first(&lost).0 else {
        panic!("{lost:?}");
    };
    assert_eq!((missing.lacking, missing.from), (Side::Capture, 11));
    assert_eq!(first(&lost).1, Some(Reason::Hole(Side::Capture)));
    let reset = pair(&|trace| {
        let flags = Flags::RST;
        trace[9].flags = flags;
    });
    assert_eq!(first(&reset), (What::Marks, None));
}

#[test]
fn across_interfaces_a_hole_excuses_the_bytes_that_it_lacks_and_nothing_else() {
    let reset = ">S <S. >. >P.[get] <. <P.[ok] >. <R.";
    let pair = |missing: &[usize]| {
        let mut theirs = account(reset, 1, at(100));
        for &at in missing.iter().rev() {
            trace(&mut theirs).remove(at);
        }
        let mine = told(vec![account(reset, 1, at(100))]);
        only(compare(
            &mine,
            &told(vec![theirs]),
            Strictness::AcrossInterfaces,
        ))
    };
    assert_eq!(pair(&[5]).verdict(), Verdict::Explained);
    assert_eq!(first(&pair(&[5, 7])), (What::Marks, None));
    // A FIN is a byte of the sequence space.
    assert_eq!(pair(&[1]).verdict(), Verdict::Explained);
}

#[test]
fn across_interfaces_the_same_bytes_have_the_same_content() {
    let with = |content: u64| {
        let mut account = account(SERVED, 1, at(100));
        for noted in trace(&mut account).iter_mut().filter(|noted| noted.len > 0) {
            noted.content = Some(content);
        }
        told(vec![account])
    };
    let pair = |theirs: Told| only(compare(&with(7), &theirs, Strictness::AcrossInterfaces));
    assert_eq!(pair(with(7)).verdict(), Verdict::Same);
    assert_eq!(
        first(&pair(with(8))),
        (What::Content(Direction::ToServer), None)
    );
    // Not captured on one side: nothing is said of it.
    let unseen = pair(told(vec![account(SERVED, 1, at(100))]));
    assert_eq!((unseen.verdict(), unseen.in_part), (Verdict::Same, 2));
    assert_eq!(
        ranges::content_of(5, b"GET ").wrapping_add(ranges::content_of(9, b"/")),
        ranges::content_of(5, b"GET /")
    );
}

#[test]
fn fins_that_are_sent_again_at_once_may_cross() {
    let both = ">S <S. >. >P.[get] <. <P.[ok] >. <F. >F. <F.~ >F.~ <.";
    let pair = after(both, |trace| trace.swap(9, 10));
    assert_eq!((pair.verdict(), pair.crossed), (Verdict::Same, 1));
    // The first ones: one acknowledges the other.
    assert_eq!(
        after(both, |trace| trace.swap(7, 8)).verdict(),
        Verdict::Differs
    );
}

#[test]
fn a_row_tells_no_time_of_its_last_steps_and_an_end_explains_them_only_at_the_very_end() {
    let pair = |last: Duration| {
        let mut theirs = account(SERVED, 1, at(100));
        trace(&mut theirs).pop();
        let ends = trace(&mut theirs).last().unwrap().at;
        let theirs = Told {
            span: Some((Stamp(0), ends + last)),
            ..told(vec![theirs])
        };
        first(&only(compare(
            &row(SERVED),
            &theirs,
            Strictness::SameInterface,
        )))
        .1
    };
    assert_eq!(pair(Duration::ZERO), Some(Reason::After(Side::Capture)));
    assert_eq!(pair(Duration::from_millis(1)), None);
}
