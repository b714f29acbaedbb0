use super::csv::{MatrixCsv, header};
use super::*;
use crate::cause::Cause;
use crate::record::{Record, Vantages};
use crate::summary::Turns;
use crate::time::Stamp;

const SIGNAL: Stamp = Stamp(400_000_000);

/// A line that says nothing of any runs.
fn line(name: &'static str) -> Line<'static> {
    Line {
        name,
        scenario: "puma",
        server: "Puma",
        version: Some("5.6.5"),
        package: "debian puma",
        mode: "cluster",
        signal: Some("TERM"),
        whom: "master",
        what: "graceful stop",
        is_stop: true,
        runs: None,
        unmade: None,
    }
}

/// A record of a connection that was opened so long after the signal, in milliseconds.
fn record(outcome: Outcome, cause: Option<Cause>, opened: i64) -> Record {
    let mut record = Record::new(1, "127.0.0.1:80".parse().unwrap(), outcome);
    record.times.opened = Stamp(SIGNAL.0 + opened * 1_000_000);
    record.times.end = Some(Stamp(record.times.opened.0 + 100_000));
    record.times.syn_ack = (outcome != Outcome::Refused).then_some(record.times.opened);
    record.cause = cause;
    record.evidence = Vantages {
        trace: true,
        ..Vantages::default()
    };
    record
}

/// Runs that lost so many of the queue each, refused from 150 ms on, and were gone after 200 ms.
struct Measured {
    pool: Pool,
    stops: Stops,
}

fn measured(lost: &[u64]) -> Measured {
    let mut measured = Measured {
        pool: Pool::default(),
        stops: Stops::default(),
    };
    for &lost in lost {
        let mut run = Summary::default();
        run.add(&record(Outcome::Served, None, -100));
        for n in 0..lost {
            let at = i64::try_from(n).unwrap();
            run.add(&record(Outcome::ResetEmpty, Some(Cause::NeverAccepted), at));
        }
        run.add(&record(Outcome::Refused, Some(Cause::NotListening), 150));
        measured.pool.add(&run, Some(SIGNAL), true);
        let turns = Turns {
            signal: Some(SIGNAL),
            gone: Some(Stamp(SIGNAL.0 + 200_000_000)),
            ..Turns::default()
        };
        measured.stops.add(&run, &turns);
    }
    measured
}

impl Measured {
    fn runs(&self) -> Runs<'_> {
        Runs {
            pool: &self.pool,
            stops: &self.stops,
            killed: 0,
            left_behind: 0,
            ended_before: 0,
            unseen: &[],
        }
    }
}

#[test]
fn a_row_says_what_was_lost_and_when() {
    let (one, several) = (measured(&[17]), measured(&[15, 17, 16]));
    let lines = [
        Line {
            runs: Some(one.runs()),
            ..line("puma-5.6.5-cluster-TERM")
        },
        Line {
            runs: Some(several.runs()),
            whom: "tree",
            ..line("puma-5.6.5-cluster-tree-TERM")
        },
        Line {
            version: None,
            ..line("puma-single-TERM")
        },
        Line {
            unmade: Some(
                "run puma-5.6.5-single-TERM: the command ended (exit status 1) before it listened",
            ),
            ..line("puma-5.6.5-single-TERM")
        },
    ];
    insta::assert_snapshot!(
        render(&lines, &head(4, 1, "200 connections"), &["a remark".to_owned()]),
        @r"
    4 rows, 1 run each: 200 connections

     server              signal                           taken  served  lost in a run        lost: outcome, cause            loss window          refuses    gone       interleaved
     Puma 5.6.5 cluster  TERM: graceful stop                 18       1  17                   17 reset_empty, never_accepted  +0.0 ms to +16.0 ms  +150.1 ms  +200.0 ms  no
     Puma 5.6.5 cluster  TERM to the tree: graceful stop     51       3  16.0 (13.5 to 18.5)  48 reset_empty, never_accepted  +0.0 ms to +16.0 ms  +150.1 ms  +200.0 ms  no
     Puma cluster        TERM: graceful stop                                                  not installed (debian puma)
     Puma 5.6.5 cluster  TERM: graceful stop                                                  not measured

    puma-5.6.5-single-TERM: the command ended (exit status 1) before it listened
    a remark
    "
    );
}

#[test]
fn a_page_has_the_same_rows() {
    let several = measured(&[0, 2]);
    let lines = [Line {
        runs: Some(several.runs()),
        ..line("puma-5.6.5-cluster-TERM")
    }];
    insta::assert_snapshot!(
        markdown(&lines, "a head", &["`probe matrix`".to_owned()], &[]),
        @r"
    a head

    - `probe matrix`

    | server | signal | taken | served | lost in a run | lost: outcome, cause | loss window | refuses | gone | interleaved |
    | --- | --- | ---: | ---: | --- | --- | --- | --- | --- | --- |
    | Puma 5.6.5 cluster | TERM: graceful stop | 4 | 2 | 1.0 (0.0 to 13.7) | 2 reset_empty, never_accepted | +0.0 ms to +1.0 ms | +150.1 ms | +200.0 ms | no |
    "
    );
}

#[test]
fn a_server_that_does_not_stop_and_one_that_leaves_others_are_told() {
    let measured = measured(&[1, 1]);
    let lines = [
        Line {
            runs: Some(Runs {
                killed: 2,
                ..measured.runs()
            }),
            ..line("a")
        },
        Line {
            runs: Some(Runs {
                left_behind: 1,
                ended_before: 1,
                ..measured.runs()
            }),
            ..line("b")
        },
    ];
    assert_eq!(
        notes::notes(&lines),
        [
            "a: the server never stopped, and was killed after its deadline in 2 of 2 runs",
            "b: the server had ended before it was signalled in 1 of 2 runs",
            "b: the main process ended and left others behind, which were killed in 1 of 2 runs",
        ]
    );
    assert_eq!(lines[0].cells()[8], "killed");
}

#[test]
fn what_was_lost_without_proof_is_listed_with_what_fits() {
    let mut run = Summary::default();
    let mut unknown = record(Outcome::ResetEmpty, Some(Cause::Unknown), 1);
    unknown.candidates = vec![Cause::NeverAccepted, Cause::AcceptedUnread];
    let mut untraced = record(Outcome::ResetEmpty, Some(Cause::NeverAccepted), 2);
    untraced.evidence.trace = false;
    run.add(&unknown);
    run.add(&untraced);
    run.add(&record(Outcome::ResetEmpty, Some(Cause::NeverAccepted), 3));
    let mut measured = measured(&[]);
    measured.pool.add(&run, Some(SIGNAL), true);
    let unseen = ["trace: that needs root".to_owned()];
    let mut runs = measured.runs();
    runs.unseen = &unseen;
    let lines = [Line {
        runs: Some(runs),
        ..line("a")
    }];
    assert_eq!(
        notes::notes(&lines),
        [
            "a: 2 lost connections without a cause proven by tracepoints, which fits never_accepted \
             or accepted_unread",
            "trace: that needs root",
        ]
    );
}

#[test]
fn served_after_refused_is_interleaved() {
    let mut run = Summary::default();
    run.add(&record(Outcome::Served, None, 0));
    run.add(&record(Outcome::Refused, None, 10));
    assert!(!run.is_interleaved());
    run.add(&record(Outcome::Served, None, 20));
    assert!(run.is_interleaved());
}

#[test]
fn the_sheet_has_a_cell_of_every_column_and_none_for_what_was_not_measured() {
    let measured = measured(&[15, 17]);
    let mut bytes = Vec::new();
    let mut csv = MatrixCsv::new(&mut bytes).unwrap();
    csv.write(&Line {
        runs: Some(measured.runs()),
        ..line("puma-5.6.5-cluster-TERM")
    })
    .unwrap();
    csv.write(&Line {
        version: None,
        ..line("puma-cluster-TERM")
    })
    .unwrap();
    drop(csv);
    let mut read = ::csv::Reader::from_reader(bytes.as_slice());
    let rows: Vec<std::collections::HashMap<String, String>> =
        read.deserialize().map(Result::unwrap).collect();
    let of = |row: usize, column: &str| rows[row][column].as_str();
    assert_eq!(of(0, "lost"), "32");
    assert_eq!(of(0, "lost_per_run"), "16.000");
    assert_eq!(of(0, "lost_never_accepted"), "32");
    assert_eq!(of(0, "refused"), "2");
    assert_eq!(of(0, "refused_ms_median"), "150.100");
    assert_eq!(of(0, "gone_ms_max"), "200.000");
    assert_eq!(of(0, "last_accept_ms_min"), "");
    assert_eq!(of(1, "unmade"), "not installed");
    assert!(
        header()
            .iter()
            .skip(9)
            .all(|c| c == "unmade" || of(1, c).is_empty())
    );
}

#[test]
fn docs_list_the_columns_of_the_sheet() {
    let documented = crate::report::documented("## matrix.csv", "## The end");
    assert_eq!(documented, header());
}
