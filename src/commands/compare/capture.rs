//! A capture as one side of a comparison: each of its connections with all of its segments.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::net::SocketAddr;

use anyhow::{Result, anyhow};

use crate::flow::Protocol;
use crate::observe::capture::{CaptureReader, Content, Copies, Frame, OfRun};
use crate::outcome::{Facts, Watch, wire_facts};
use crate::reconcile::{Account, Noted, Source, Strictness, Told, Trace};
use crate::record::account::RunAccount;
use crate::record::{Ended, Placed, Reading, ServerSide};
use crate::report::words::plural;
use crate::wire::{self, Digest, Ends, Packet, Segment};

/// One side, read.
pub(super) struct Taken {
    pub(super) told: Told,
    /// What its connections carried, where a run says so.
    pub(super) protocol: Option<Protocol>,
    /// What to know about it, a line each.
    pub(super) notes: Vec<String>,
    /// Why it was not read to its end.
    pub(super) error: Option<String>,
}

/// What is known of a capture's connections before it is read.
pub(super) struct Expected {
    /// Which end is the server.
    pub(super) side: ServerSide,
    /// Whom the run talked to; empty where anybody will do.
    pub(super) servers: BTreeSet<SocketAddr>,
    /// What is known of their clients.
    pub(super) watch: Watch,
    /// What the run said its connections carried.
    pub(super) protocol: Protocol,
    /// Whether segments may be cut up in another way on the other side.
    pub(super) strictness: Strictness,
}

/// Reads all of it.
pub(super) fn read(input: impl Read, name: &str, expected: &Expected) -> Result<Taken> {
    let mut reader = CaptureReader::open(input).map_err(|error| anyhow!("{name}: {error}"))?;
    let mut collector = Collector {
        expected,
        reading: Reading::new(expected.side, false).carrying(expected.protocol),
        copies: Copies::default(),
        run: None,
        section: None,
        own: 0,
        segments: HashMap::new(),
        told: Told::default(),
        over: HashMap::new(),
        left_out: 0,
    };
    for &server in &expected.servers {
        collector.reading.expect_server(server);
    }
    let error = loop {
        match reader.next_frame() {
            Ok(Some(frame)) => collector.frame(&frame),
            Ok(None) => break None,
            Err(error) => {
                break Some(format!(
                    "{name}: {error}; everything before it was compared"
                ));
            }
        }
    };
    let drops = reader.drops().unwrap_or(0);
    let cut_off = reader.cut_off();
    collector.reading.finish();
    collector.take_ended();
    let run = collector.run.take();
    let Collector {
        reading,
        mut told,
        left_out,
        own,
        ..
    } = collector;
    if own > 0 && own == told.accounts.len() {
        let connections = run.as_ref().map_or(0, |run| run.connections);
        told.source = Source::Run {
            complete: own as u64 == connections,
        };
    }
    let mut notes = Vec::new();
    let mut note = |n: u64, what: &str| {
        if n > 0 {
            notes.push(format!("{name}: {n} {} {what}", plural(n, "packet")));
        }
    };
    note(drops, "that the capture itself says it dropped");
    // Where the run says who the server is, they are others'.
    let unplaced = if expected.servers.is_empty() {
        reading.unplaced()
    } else {
        0
    };
    note(
        unplaced,
        "of connections whose beginning is missing; --port says which end is the server",
    );
    note(
        left_out,
        "without a time, in fragments, or cut inside their headers (tcpdump -s 96 holds those), left out",
    );
    if let Some(offset) = cut_off {
        notes.push(format!(
            "{name} is cut off in the middle of a packet, at byte {offset}: everything before it was \
             compared"
        ));
    }
    let protocol = run.map(|run| run.protocol);
    Ok(Taken {
        told,
        protocol,
        notes,
        error,
    })
}

struct Collector<'a> {
    expected: &'a Expected,
    reading: Reading,
    copies: Copies,
    /// The run that recorded it, and in which of the file's sections.
    run: Option<RunAccount>,
    section: Option<u32>,
    /// Accounts of that run's own connections, with what its sockets did.
    own: usize,
    /// Of connections that have not ended.
    segments: HashMap<u64, Vec<Noted>>,
    told: Told,
    /// Where the last connection between these ends is told of, once it is over.
    over: HashMap<Ends, usize>,
    /// Packets that cannot be compared.
    left_out: u64,
}

impl Collector<'_> {
    fn frame(&mut self, frame: &Frame<'_>) {
        // Whatever it is, the capture was taken then.
        if let Some(at) = frame.at {
            let (first, last) = self.told.span.unwrap_or((at, at));
            self.told.span = Some((first.min(at), last.max(at)));
        }
        let Content::Ip { bytes, len } = frame.content else {
            return;
        };
        let Some(at) = frame.at else {
            self.left_out += 1;
            return;
        };
        self.begin_section(frame.run);
        let Ok(packet) = wire::parse(at, bytes, len) else {
            self.left_out += 1;
            return;
        };
        match &packet {
            Packet::Segment(segment) => {
                let point = frame.point;
                // Each interface that it crosses shows it.
                if !point.is_some_and(|point| self.copies.is_copy(segment, point)) {
                    self.segment(segment, Digest::of(bytes, len));
                }
            }
            Packet::IcmpError(error) => self.reading.icmp(error),
            Packet::Other => {}
            Packet::Fragment => self.left_out += 1,
        }
        if let Some(account) = frame.run.and_then(|run| run.socket) {
            self.reading.account(&packet, account);
        }
    }

    /// Whose the packets are that follow, where that changes.
    fn begin_section(&mut self, of: Option<OfRun<'_>>) {
        let section = of.map(|of| of.section);
        if section == self.section {
            return;
        }
        self.section = section;
        let run: Option<RunAccount> = of.and_then(|of| of.run.parse().ok());
        self.reading.begin_section(run.clone());
        self.take_ended();
        self.run = run;
    }

    fn segment(&mut self, segment: &Segment, digest: Option<Digest>) {
        let Some(placed) = self.reading.segment(segment) else {
            return;
        };
        self.take_ended();
        let direction = segment.direction(&placed.ends);
        if !self.is_wanted(placed.ends.server) {
            return;
        }
        if let (Some(direction), Some(digest)) = (direction, digest) {
            let noted = Noted::new(direction, segment, digest);
            let noted = match self.expected.strictness {
                Strictness::SameInterface => noted,
                Strictness::AcrossInterfaces => noted.with_content(segment),
            };
            self.note(placed, noted);
        }
    }

    /// Adds a segment to its connection, which may long be over.
    fn note(&mut self, placed: Placed, noted: Noted) {
        if let Some(conn) = placed.conn {
            self.segments.entry(conn).or_default().push(noted);
        } else if let Some(&at) = self.over.get(&placed.ends)
            && let Some(account) = self.told.accounts.get_mut(at)
            && let Trace::Segments(segments) = &mut account.trace
        {
            account.last = account.last.max(noted.at);
            segments.push(noted);
        }
    }

    fn is_wanted(&self, server: SocketAddr) -> bool {
        self.expected.servers.is_empty() || self.expected.servers.contains(&server)
    }

    fn take_ended(&mut self) {
        while let Some(ended) = self.reading.next_ended() {
            let facts = wire_facts(ended.flow(), self.expected.watch);
            let segments = self.segments.remove(&ended.conn());
            let ends = ended.flow().ends();
            self.over.insert(ends, self.told.accounts.len());
            let segments = segments.unwrap_or_default();
            let account = account(ended, facts, segments, self.run.as_ref());
            self.own += usize::from(account.run_id.is_some());
            self.told.accounts.push(account);
        }
    }
}

fn account(
    mut ended: Ended,
    facts: Facts,
    segments: Vec<Noted>,
    run: Option<&RunAccount>,
) -> Account {
    let last = ended.flow().last();
    let record = ended.record();
    // Of a run's own connection its socket tells too.
    let run = run.filter(|_| record.evidence.socket);
    Account {
        run_id: run.map(|run| run.run_id.as_str().into()),
        conn: record.conn,
        client: record.src,
        server: record.dst,
        opened: record.times.opened,
        last,
        outcome: record.outcome,
        decided: record.times.end,
        facts: Some(facts),
        caveats: record.caveats,
        trace: Trace::Segments(segments),
    }
}
