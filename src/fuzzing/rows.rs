//! What must hold of the rows that any frames amount to.

use std::collections::BTreeSet;

use super::file::{OwnContent, OwnFrame};
use super::pick;
use crate::cause::{self, Cause, Evidence};
use crate::outcome::Outcome;
use crate::record::{Reading, Record, ServerSide};
use crate::report::Context;
use crate::report::columns::COLUMNS;
use crate::report::csv::CsvReport;
use crate::report::events::EventsReport;
use crate::report::{heroku, ndjson};
use crate::sequence::Sequence;
use crate::summary::Summary;
use crate::time::Stamp;
use crate::wire::{self, Packet, Segment};

const PORT: u16 = 9292;

/// Reads frames as `probe read` does.
pub(super) fn check(frames: &[OwnFrame], choice: u64) {
    let side = match pick(choice, 4) {
        0 => ServerSide::Port(PORT),
        _ => ServerSide::FromSyns,
    };
    let signal = frames.first().and_then(|frame| frame.at).map(Stamp);
    let context = Context {
        run_id: "fuzz".to_owned(),
        signal: signal.filter(|_| choice.is_multiple_of(3)),
        ..Context::default()
    };
    let plain = Rows::of(frames, side, false);
    plain.check();
    let csv = plain.write(&context);
    let stepwise = Rows::of(frames, side, true);
    // Whether segments are listed one by one changes nothing of the rows.
    assert_eq!(stepwise.write(&context), csv);
    stepwise.events(&context);
}

/// Everything that reading gives.
struct Rows {
    records: Vec<Record>,
    /// Segments of the server's, as far as one can tell.
    segments: u64,
    /// Segments in no row: of servers that are not known, and of connections that were over long before.
    rowless: u64,
    conns: u64,
    /// No packet was stamped before the one that stands in front of it.
    in_order: bool,
}

impl Rows {
    fn of(frames: &[OwnFrame], side: ServerSide, keep_steps: bool) -> Rows {
        let mut reading = Reading::new(side, keep_steps);
        let mut rows = Rows {
            records: Vec::new(),
            segments: 0,
            rowless: 0,
            conns: 0,
            in_order: true,
        };
        let mut latest = i64::MIN;
        for frame in frames {
            let (OwnContent::Ip { bytes, len }, Some(at)) = (&frame.content, frame.at) else {
                continue;
            };
            rows.in_order &= at >= latest;
            latest = at;
            match wire::parse(Stamp(at), bytes, *len) {
                Ok(Packet::Segment(segment)) => {
                    rows.segments += u64::from(is_wanted(&segment, side));
                    reading.segment(&segment);
                }
                Ok(Packet::IcmpError(error)) => reading.icmp(&error),
                Ok(Packet::Fragment | Packet::Other) | Err(_) => {}
            }
            rows.take(&mut reading);
        }
        reading.finish();
        rows.take(&mut reading);
        rows.rowless = reading.unplaced() + reading.late();
        rows.conns = reading.servers().values().sum();
        rows
    }

    fn take(&mut self, reading: &mut Reading) {
        while let Some(mut ended) = reading.next_ended() {
            self.records.push(ended.record());
        }
    }

    fn check(&self) {
        let conns: BTreeSet<u64> = self.records.iter().map(|record| record.conn).collect();
        assert!(conns.into_iter().eq(1..=self.conns), "each once");
        assert_eq!(self.records.len() as u64, self.conns);
        let mut seen = 0;
        for record in &self.records {
            let sequence = record.sequence.as_ref().expect("segments");
            let text = sequence.to_string();
            assert_eq!(text.parse::<Sequence>().as_ref(), Ok(sequence));
            let times = sequence.steps().iter().map(|step| u64::from(step.times));
            seen += times.sum::<u64>();
            check_record(record, self.in_order);
        }
        assert_eq!(seen + self.rowless, self.segments, "none lost");
    }

    /// Writes every format of rows, and returns the CSV.
    fn write(&self, context: &Context) -> String {
        let mut summary = Summary::default();
        let mut csv = Vec::new();
        let mut report = CsvReport::new(&mut csv).expect("memory");
        for record in &self.records {
            summary.add(record);
            report.write(record, context).expect("memory");
            let mut line = Vec::new();
            ndjson::write(&mut line, record, context).expect("memory");
            serde_json::from_slice::<serde_json::Value>(&line).expect("JSON");
            heroku::write(&mut line, record, context).expect("memory");
        }
        report.flush().expect("memory");
        drop(report);
        let csv = String::from_utf8(csv).expect("text");
        self.check_csv(&csv);
        let lost = self.records.iter().filter_map(|r| r.outcome.is_lost());
        assert_eq!(summary.lost, lost.filter(|&lost| lost).count() as u64);
        csv
    }

    /// No cell has a comma in it: the lines can be taken apart without a parser, which would cost the
    /// fuzzer more than all that it is after.
    fn check_csv(&self, csv: &str) {
        let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let header = lines.next().expect("a header");
        let column = |name| header.iter().position(|cell| *cell == name).expect("it");
        let (outcome, lost) = (column("outcome"), column("lost"));
        let mut rows = 0;
        for (cells, record) in lines.zip(&self.records) {
            assert_eq!(cells.len(), COLUMNS.len(), "{cells:?}");
            assert_eq!(cells[outcome], record.outcome.word());
            let is_lost = record.outcome.is_lost().map(|lost| lost.to_string());
            assert_eq!(cells[lost], is_lost.unwrap_or_default());
            rows += 1;
        }
        assert_eq!(rows, self.records.len());
        assert_eq!(rows + 1, csv.lines().count());
    }

    fn events(&self, context: &Context) {
        let mut events = Vec::new();
        let mut report = EventsReport::new(&mut events).expect("memory");
        for record in &self.records {
            report.write(record, context).expect("memory");
        }
        report.flush().expect("memory");
        drop(report);
        let events = String::from_utf8(events).expect("text");
        let segments = events.lines().filter(|line| line.contains(",segment,"));
        assert_eq!(segments.count() as u64 + self.rowless, self.segments);
    }
}

fn is_wanted(segment: &Segment, side: ServerSide) -> bool {
    match side {
        ServerSide::Port(port) => segment.src.port() == port || segment.dst.port() == port,
        ServerSide::Address(at) => segment.src == at || segment.dst == at,
        ServerSide::FromSyns => true,
    }
}

fn check_record(record: &Record, in_order: bool) {
    let outcome = record.outcome;
    let times = &record.times;
    assert!(record.evidence.wire && !record.evidence.socket);
    // What a deadline decides, or the probe's own trouble, no capture can know.
    assert!(!matches!(
        outcome,
        Outcome::Hung | Outcome::Stalled | Outcome::Unanswered | Outcome::LocalError
    ));
    assert_eq!(times.end.is_none(), outcome == Outcome::Unfinished);
    if record.caveats.capture_start {
        let known = matches!(outcome, Outcome::Served | Outcome::Unfinished);
        assert!(known, "{record:#?}");
    }
    let partly = matches!(
        outcome,
        Outcome::Malformed | Outcome::Truncated | Outcome::ResetMidway
    );
    if partly {
        let answered = record.response_bytes > Some(0) && times.first_byte.is_some();
        assert!(answered, "{record:#?}");
    }
    if matches!(outcome, Outcome::ClosedEmpty | Outcome::ResetEmpty) {
        let before_the_end = times.first_byte.is_some_and(|at| Some(at) < times.end);
        assert!(!before_the_end, "{record:#?}");
    }
    let answered = record.responses.is_none_or(|responses| responses > 0);
    assert!(outcome != Outcome::Served || answered, "{record:#?}");
    let unsure = cause::retry_safe(outcome, &Evidence::default());
    assert_eq!(record.retry_safe, unsure);
    let unknown = record.cause == Some(Cause::Unknown);
    assert_eq!(unknown, !record.candidates.is_empty());
    if record.request_acked == Some(true) {
        assert!(record.request_bytes > Some(0), "{record:#?}");
    }
    if in_order {
        let later = [
            times.syn_ack,
            times.request,
            times.request_acked,
            times.first_byte,
            times.end,
        ];
        let after = later.iter().flatten().all(|&at| at >= times.opened);
        assert!(after, "{record:#?}");
    }
}
