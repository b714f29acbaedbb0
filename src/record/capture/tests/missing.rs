//! What may be said of a connection of which a capture lost packets: each script is read once for each
//! packet, and once for each few packets in a row, without them.

use super::*;

/// Connections of every kind.
const SCRIPTS: &[&str] = &[
    ">S <R.",
    ">S >S~ <S. >. >P.[get] <. <P.[ok] >. <F. >F. <.",
    ">S <S. >. <R.",
    ">S <S. >. >P.[get] <. <R.",
    ">S <S. >. >P.[get] <R",
    ">S <S. >. >P.[get] >F. <. <R.",
    ">S <S. >. >FP.[get] <. <P.[ok] <F. >.",
    ">S <S. >. >P.[get] <. <F. >F. <.",
    ">S <S. >. >P.[get] <F. >F. <.",
    ">S <S. >. <F. >. >P.[get] <R",
    ">S <S. >. >P.[get] <. >F. <.",
    ">S <S. >. >P.[get] <. >F. <. <F. >.",
    ">S <S. >. >P.[get] <. >R.",
    ">S <S. >. >P.[get] >P.[get]~ >P.[get]~ >F.",
    SERVED,
    ">S <S. >P.[get] <FP.[ok] >F. <.",
    ">S <S. >. >P.[head] <. <P.[ok-head] >. <F. >F. <.",
    ">S <S. >. >P.[head] <. <P.[ok-head] >. >P.[get] <. <P.[ok] >. <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <P.[llo] >. <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[ok-head] >. <P.[he] >. <R.",
    ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <R.",
    ">S <S. >. >P.[get] <. <P.[ok-head] >. >R.",
    ">S <S. >. >P.[get] <. <P.[cut-head] >. <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[chunks] >. <P.[last-chunk] >. <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[chunks] >. <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[to-the-end] >. <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[to-the-end] >. <R.",
    ">S <S. >. >P.[get] <. <P.[to-the-end] >. >F. <.",
    ">S <S. >. >P.[post] <P.[busy] >. <R.",
    ">S <S. >. >P.[post] <P.[continue] >. <P.[ok] >. <F. >F. <.",
    ">S <S. >. >P.[get] <P.[ok] >. >P.[get] <P.[ok] >. >F. <F. >.",
    ">S <S. >. >P.[get] <P.[ok] >. >P.[get] <. <R.",
    ">S <S. >. >P.[get] <P.[ok] >. >P.[get] <. <P.[ok-head] >. <R.",
    ">S <S. >. >P.[get] <P.[ok] >. >P.[get] <. <F. >F. <.",
    ">S <S. >. >P.[get] <P.[ok] >. <F. >. >P.[get] <R",
    ">S <S. >. >P.[get] <. <P.[ssh] >. <F. >F. <.",
    ">S <S. >. >P.[tls] <. <P.[ssh] >. <F. >F. <.",
    ">S <S. >. >P.[tls] <. <P.[ssh] >. <R.",
    ">S <S. >. >P.[tls] <. <F. >F. <.",
    ">S <S. >. >P.[tls] <. <P.[ssh] >. >P.[tls] >F. <. <F. >.",
    ">S <S. >. >P.[tls] <. <P.[ssh] >. >P.[tls] >F. <P.[ssh] >R",
    ">S <S. >. >P.[tls] <. <P.[ssh] >. >P.[tls] >F. <R.",
    ">S <S. >. >P.[tls] <. >F. <. <F. >.",
    ">S <S. >. >P.[get] >P.[get] <. <P.[ok] >. <F. >F. <.",
    ">S <S. >. >P.[get] >P.[get] <. <P.[ok] >. <P.[ok-head] >. <R.",
    ">S <S. >. >P.[get] <. <P.[upgrade] >. <P.[ssh] >. >P.[tls] <. <R.",
    ">S <S. >. >P.[connect] <. <P.[tunnel] >. >P.[tls] <. <P.[ssh] >. <F. >F. <.",
    ">S <S. >. >P.[connect] <. <P.[tunnel] >. >P.[tls] <. <P.[ssh] >. <R.",
    ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <R. >. <R",
    ">S <S. >. >P.[get] >P.[get] <. <P.[ok-head] <R. >P.[tls] <R <R",
    ">S <S. >. >P.[get] <. <P.[ok-head] >R. <P.[he] <P.[llo] >R",
];

/// What missing packets change without leaving a trace in the rest, and why: script, what is lost of
/// it at least, what is then said.
const UNKNOWABLE: &[(&str, &str, Outcome)] = &[
    // A RST without ACK answers the request, but for all we see the ACK before it: a full queue with
    // tcp_abort_on_overflow answers that so.
    (">S <S. >. >P.[get] <R", ">P.[get]", Outcome::ResetOnConnect),
    // The same, but for all we see the acknowledgment of the FIN: so answers a socket that was closed
    // with TCP_LINGER2 below 0.
    (
        ">S <S. >. >P.[get] <P.[ok] >. <F. >. >P.[get] <R",
        ">P.[get]",
        Outcome::Served,
    ),
    // Of several requests under way one was not seen: nobody knows how many there were.
    (
        ">S <S. >. >P.[get] >P.[get] <. <P.[ok] >. <F. >F. <.",
        ">P.[get]",
        Outcome::Served,
    ),
    (
        ">S <S. >. >P.[get] >P.[get] <. <P.[ok] >. <P.[ok-head] >. <R.",
        ">P.[get]",
        Outcome::Served,
    ),
    // The client had reset before all of the response was there; for all we see it did behind it.
    (
        ">S <S. >. >P.[get] <. <P.[ok-head] >R. <P.[he] <P.[llo] >R",
        ">R.",
        Outcome::Served,
    ),
    // A RST answers a SYN, for all we see.
    (">S <S. >. <R.", "<S. >.", Outcome::Refused),
];

/// Behind its end a capture may have lost another request, or the answer to a half-closed client:
/// `capture_end` says so.
fn may_go_on(said: &Record) -> bool {
    let open = matches!(said.outcome, Outcome::Served | Outcome::ClientClosed);
    open && said.caveats.capture_end
}

fn read_without(script: &str, from: usize, to: usize) -> Vec<Record> {
    read_segments_without(&segments(script), from, to)
}

fn read_segments_without(segments: &[Segment], from: usize, to: usize) -> Vec<Record> {
    let mut reading = Reading::new(ServerSide::Port(ends().server.port()), false);
    let kept = segments.iter().enumerate();
    for (_, segment) in kept.filter(|(i, _)| !(from..to).contains(i)) {
        reading.segment(segment);
    }
    records(reading)
}

/// Whether what is said without the packets `from..to` is as before, or says that it does not know; or
/// could not be otherwise.
fn is_right(script: &str, (from, to): (usize, usize), whole: Outcome, said: &Record) -> bool {
    let caveats = said.caveats;
    let marked = caveats.hole || caveats.capture_start || caveats.capture_end;
    if said.outcome == whole || said.outcome == Outcome::Unfinished && marked {
        return true;
    }
    let words: Vec<&str> = script.split_whitespace().collect();
    let lost = words[from..to].join(" ");
    let unknowable = |&(of, least, says): &(&str, &str, Outcome)| {
        of == script && lost.contains(least) && says == said.outcome
    };
    to == words.len() && may_go_on(said) || UNKNOWABLE.iter().any(unknowable)
}

#[test]
fn a_missing_packet_never_decides() {
    for script in SCRIPTS {
        let whole = only(script).outcome;
        let len = script.split_whitespace().count();
        for (from, run) in (0..len).flat_map(|from| (1..6).map(move |run| (from, run))) {
            let to = (from + run).min(len);
            for said in read_without(script, from, to) {
                assert!(
                    is_right(script, (from, to), whole, &said),
                    "{script} is {}, without {from}..{to} {} [{}]",
                    whole.word(),
                    said.outcome.word(),
                    said.caveats.words().collect::<Vec<_>>().join("+")
                );
            }
        }
    }
}

/// A RST in the window and not at the next number only asks its receiver whether it is there (RFC 5961
/// 3.2): a blind attacker sends such ones, and whoever is left of a connection before.
#[test]
fn a_reset_that_is_outlived_ends_nothing() {
    for script in [
        ">S <S. >. >P.[get] <. <R. >. <P.[ok] >. <F. >F. <.",
        ">S <S. >. >P.[get] <. <R >. <P.[ok-head] <P.[he] >. <P.[llo] <F. >F. <.",
        ">S <S. >. >P.[get] <. >R. <. <P.[ok] >. <F. >F. <.",
        ">S <S. >. >R <. >P.[get] <. <P.[ok] >. <F. >F. <.",
        ">S <S. >. <R. >. >P.[get] <. <P.[ok] >. <F. >F. <.",
        ">S <S. >. >P.[get] <P.[ok] >. <R >. >P.[get] <. <P.[ok] >. <F. >F. <.",
    ] {
        let mut segments = segments(script);
        let reset = segments.iter().position(|s| s.flags.rst()).unwrap();
        segments[reset].seq += 100;
        let requests = u32::try_from(script.matches("get").count()).unwrap();
        let len = segments.len();
        let record = read_segments_without(&segments, len, len).remove(0);
        assert_eq!(record.outcome, Outcome::Served, "{script}");
        assert_eq!(record.caveats, Caveats::default(), "{script}");
        assert_eq!(record.missing, Some(0), "{script}");
        let counted = (record.requests, record.responses);
        assert_eq!(counted, (Some(requests), Some(requests)), "{script}");
        assert_eq!(record.rst_kind, None, "{script}");
        for (from, run) in (0..len).flat_map(|from| (1..6).map(move |run| (from, run))) {
            let to = (from + run).min(len);
            for said in read_segments_without(&segments, from, to) {
                assert!(
                    is_right(script, (from, to), Outcome::Served, &said),
                    "{script} without {from}..{to} is {}",
                    said.outcome.word()
                );
            }
        }
    }
}

/// What is said of a script of which the words in braces were not captured.
fn seen_of(script: &str) -> (Record, String) {
    let plain = script.replace(['{', '}'], "");
    let words: Vec<&str> = script.split_whitespace().collect();
    let lost = |word: &&str| word.starts_with('{');
    let from = words.iter().position(lost).expect("something is lost");
    let mut records = read_without(
        &plain,
        from,
        from + words.iter().filter(|w| lost(w)).count(),
    );
    assert_eq!(records.len(), 1);
    let record = records.remove(0);
    let caveats = record.caveats.words().collect::<Vec<_>>().join("+");
    (record, caveats)
}

#[test]
fn what_must_have_been_and_was_not_seen_is_a_hole() {
    for (script, outcome, caveats, missing) in [
        // Something acknowledges it.
        (
            ">S <S. >. {>P.[get]} <. <P.[ok] >. <F. >F. <.",
            Outcome::Served,
            "hole",
            27,
        ),
        (
            ">S <S. >. >P.[get] <. {<P.[ok]} >. <F. >F. <.",
            Outcome::Unfinished,
            "hole",
            40,
        ),
        (
            ">S <S. >. >P.[get] <. <P.[ok] >. {<F.} >F. <.",
            Outcome::Served,
            "hole",
            1,
        ),
        (
            ">S <S. >. >P.[get] <. <P.[ok] >. <F. >. {>F.} <.",
            Outcome::Served,
            "hole",
            1,
        ),
        (
            ">S <S. >. >P.[get] <. {<F.} >F. <.",
            Outcome::Unfinished,
            "hole",
            1,
        ),
        (
            ">S {<S.} >. >P.[get] <. <R.",
            Outcome::Unfinished,
            "hole",
            0,
        ),
        (
            ">S {<S.} >. >P.[get] <. <P.[ok] >. <F. >F. <.",
            Outcome::Served,
            "hole",
            0,
        ),
        (
            "{>S} <S. >. >P.[get] <. <R.",
            Outcome::Unfinished,
            "capture_start+hole",
            0,
        ),
        // A RST's own number tells of it, or what it acknowledges.
        (
            ">S <S. >. >P.[get] <. {<P.[ok-head]} <R.",
            Outcome::Unfinished,
            "hole",
            38,
        ),
        (
            ">S <S. >. {>P.[get]} {<.} <R.",
            Outcome::Unfinished,
            "hole",
            27,
        ),
        // What comes behind it does.
        (
            ">S <S. >. >P.[get] <. {<P.[ok-head]} <P.[he] <R.",
            Outcome::Unfinished,
            "hole",
            38,
        ),
        // Nothing does.
        (
            ">S <S. >. >P.[get] {<.} <F. >F. <.",
            Outcome::ClosedEmpty,
            "",
            0,
        ),
        (
            ">S <S. >. >P.[get] <. <F. >F. {<.}",
            Outcome::ClosedEmpty,
            "capture_end",
            0,
        ),
    ] {
        let (record, said) = seen_of(script);
        assert_eq!(record.outcome, outcome, "{script}");
        assert_eq!(said, caveats, "{script}");
        assert_eq!(record.missing, Some(missing), "{script}");
    }
}

#[test]
fn what_is_seen_later_is_no_hole() {
    let mut late = segments(">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <P.[llo] >. <F. >F. <.");
    let first = late.remove(5);
    late.insert(7, first);
    let mut reading = Reading::new(ServerSide::FromSyns, false);
    for segment in &late {
        reading.segment(segment);
    }
    let record = records(reading).remove(0);
    assert_eq!(record.outcome, Outcome::Served);
    assert_eq!(
        (record.caveats, record.missing),
        (Caveats::default(), Some(0))
    );
}

#[test]
fn a_reset_that_answers_nothing_is_a_hole() {
    let after = |script: &str, wait: u64| {
        let mut reading = Reading::new(ServerSide::FromSyns, false);
        let mut segments = segments(script);
        let reset = segments.last_mut().unwrap();
        reset.at = reset.at + Duration::from_secs(wait);
        for segment in &segments {
            reading.segment(segment);
        }
        let record = records(reading).remove(0);
        (record.outcome, record.caveats.hole)
    };
    let overflow = ">S <S. >. <R";
    assert_eq!(after(overflow, 0), (Outcome::ResetOnConnect, false));
    assert_eq!(after(overflow, 5), (Outcome::Unfinished, true));
    // A socket resets of its own accord whenever it likes.
    let closed = ">S <S. >. <R.";
    assert_eq!(after(closed, 5), (Outcome::ResetOnConnect, false));
    let idle = ">S <S. >. >P.[get] <P.[ok] >. <F. >. <R";
    assert_eq!(after(idle, 5), (Outcome::Served, true));
}

#[test]
fn a_connection_whose_4_tuple_is_used_again_had_an_end() {
    let first = |script: &str| {
        let records = read(ServerSide::FromSyns, &[script, SERVED]);
        assert_eq!(records.len(), 2);
        let caveats = records[0].caveats.words().collect::<Vec<_>>().join("+");
        (records[0].outcome, caveats)
    };
    let hole = |outcome| (outcome, "hole".to_owned());
    assert_eq!(first(">S <S. >. >P.[get] <."), hole(Outcome::Unfinished));
    assert_eq!(
        first(">S <S. >. >P.[get] <. <F. >."),
        hole(Outcome::ClosedEmpty)
    );
    let open = |outcome| (outcome, "capture_end".to_owned());
    // It gave up a SYN, or FIN-WAIT-2, without a word.
    assert_eq!(first(">S >S~"), open(Outcome::Unfinished));
    assert_eq!(
        first(">S <S. >. >P.[get] <. >F. <."),
        open(Outcome::ClientClosed)
    );
}
