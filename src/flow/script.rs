//! Test scripts: a line in the sequence notation, with the payload's name in brackets, becomes the
//! segments of a well-behaved connection.
//!
//! `>S <S. >. >P.[get] <. <P.[ok] <F. >F. <.` A `~` behind a word sends the sender's last segment
//! of that kind again. Numbers and acknowledgments are kept as two TCPs would keep them.

use std::net::SocketAddr;

use super::{Flow, Protocol};
use crate::outcome::{Decision, Facts, Outcome, Watch, decide, wire_facts};
use crate::time::Stamp;
use crate::wire::{Direction, Ends, Flags, Options, Segment};

/// The time from one segment of a script to the next.
pub(crate) const TICK: i64 = 1_000;

/// What the names in brackets stand for.
const PAYLOADS: &[(&str, &str)] = &[
    ("get", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("half", "GET / HTTP/1.1\r\nHo"),
    ("head", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("post", "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"),
    ("ok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("busy", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
    ("continue", "HTTP/1.1 100 Continue\r\n\r\n"),
    ("cut-head", "HTTP/1.1 200 OK\r\nContent-Le"),
    ("ok-head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ("he", "he"),
    ("llo", "llo"),
    (
        "chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ),
    ("last-chunk", "0\r\n\r\n"),
    ("to-the-end", "HTTP/1.0 200 OK\r\n\r\nhello"),
    ("upgrade", "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ("connect", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("tunnel", "HTTP/1.1 200 OK\r\n\r\n"),
    ("ssh", "SSH-2.0-x\r\n"),
    ("x", "x"),
    ("tls", "\x16\x03\x01\x02"),
];

/// The ends of every script.
pub(crate) fn ends() -> Ends {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    Ends {
        client: address("10.0.0.1:40000"),
        server: address("10.0.0.2:9292"),
    }
}

/// The bytes that a name stands for.
pub(crate) fn payload(name: &str) -> &'static [u8] {
    let found = PAYLOADS.iter().find(|(n, _)| *n == name);
    found
        .unwrap_or_else(|| panic!("no payload {name}"))
        .1
        .as_bytes()
}

/// The segments of a script, both initial sequence numbers 1,000.
pub(crate) fn segments(script: &str) -> Vec<Segment<'static>> {
    segments_from(script, 1_000, 1_000)
}

/// The segments of a script, with the initial sequence numbers of client and server.
pub(crate) fn segments_from(
    script: &str,
    client_isn: u32,
    server_isn: u32,
) -> Vec<Segment<'static>> {
    let ends = ends();
    // Next number to send and next number expected, for the client and for the server.
    let mut next = [client_isn, server_isn];
    let mut seen: Vec<Segment<'static>> = Vec::new();
    for (i, word) in script.split_whitespace().enumerate() {
        let at = Stamp(i64::try_from(i).unwrap() * TICK);
        let (own, peer, src, dst) = if word.starts_with('>') {
            (0, 1, ends.client, ends.server)
        } else {
            (1, 0, ends.server, ends.client)
        };
        let again = word.ends_with('~');
        let word = word[1..].trim_end_matches('~');
        let (letters, name) = match word.split_once('[') {
            Some((letters, name)) => (letters, name.trim_end_matches(']')),
            None => (word, ""),
        };
        let flags = letters.chars().fold(Flags::default(), |flags, letter| {
            flags.with(Flags::from_letter(letter).unwrap())
        });
        let bytes: &[u8] = if name.is_empty() { b"" } else { payload(name) };
        if again {
            let like = |s: &&Segment| s.src == src && s.flags == flags && *s.payload == *bytes;
            let earlier = seen.iter().rev().find(like).expect("sent before").clone();
            seen.push(Segment { at, ..earlier });
            continue;
        }
        let segment = Segment {
            at,
            src,
            dst,
            seq: next[own],
            ack: if flags.ack() { next[peer] } else { 0 },
            flags,
            window: if flags.rst() { 0 } else { 512 },
            ip_id: Some(if flags.rst() { 0 } else { 7 }),
            options: Options::default(),
            len: u32::try_from(bytes.len()).unwrap(),
            payload: bytes.into(),
        };
        next[own] = segment.seq.wrapping_add(segment.space());
        seen.push(segment);
    }
    seen
}

/// The flow that segments make.
pub(crate) fn flow_of(segments: &[Segment]) -> Flow {
    flow_with(segments, Protocol::Http)
}

/// The flow that segments make, with a protocol.
pub(crate) fn flow_with(segments: &[Segment], protocol: Protocol) -> Flow {
    let mut flow = Flow::new(ends(), protocol, true, &segments[0]);
    for segment in &segments[1..] {
        assert!(flow.push(segment), "{segment:?} is of another flow");
    }
    flow.settle();
    flow
}

/// The flow of a script.
pub(crate) fn play(script: &str) -> Flow {
    flow_of(&segments(script))
}

/// What a flow amounts to on a live wire without a deadline.
pub(crate) fn live(flow: &Flow) -> Outcome {
    decision(flow, live_until(None)).outcome
}

/// What a flow amounts to.
pub(crate) fn decision(flow: &Flow, watch: Watch) -> Decision {
    let facts: Facts = wire_facts(flow, watch);
    decide(&facts)
}

/// The direction of a segment of a script.
pub(crate) fn direction(segment: &Segment) -> Direction {
    segment
        .direction(&ends())
        .expect("between the script's ends")
}

/// Our own connection, given up at `deadline`.
pub(crate) fn live_until(deadline: Option<Stamp>) -> Watch {
    Watch::Live {
        deadline,
        abandoned: None,
        left: None,
    }
}
