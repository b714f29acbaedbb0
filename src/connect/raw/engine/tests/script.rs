//! Scripts of segments in virtual time. A line is a time (`0`, `10ms`, `1.2s`) and what happens then:
//!
//!     0     open                     a call: open, open half, write N, shutdown, close fin|rst|forget
//!     0     >S                       a segment that must be sent, at exactly that time
//!     10ms  <S.                      a segment of the server's that arrives
//!     10ms  ! connected              an event, or data handed on: ! data 0..5
//!     10ms  icmp 3 1                 an ICMP error about the SYN; also seq=, mtu=
//!
//! Numbers are relative to the initial ones. What a segment does not say is what a well-behaved sender
//! says: `seq=`, `ack=` and `win=` go on where the last segments left off, timestamps are the time.
//! Behind `>` also `sack=A..B,C..D`; behind `<` also `ts=MS`, `cut=BYTES`, and for a SYN-ACK
//! `opts=mss:N,sack,ts,ws:N`. What arrives and is called for at one time is one batch: what there is to
//! send is asked for at the next line with `>` or `batch`.
//!
//! Every segment that is sent is built, its checksums are verified, and it is parsed again; each is
//! compared whole. Every script is played over IPv4 and IPv6, and with sequence numbers that wrap.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::super::number::{Beginning, beginning, millis};
use super::super::*;
use crate::time::Stamp;
use crate::wire::{Flags, Packet, checksums_are_right, parse};

/// The window field of our segments behind the SYN: 64 KiB, in units of 1,024 bytes.
const WINDOW: u16 = 64;
/// What the server's timestamps are ahead of the time.
const SERVER_MS: u32 = 5_000;

/// How a script is played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) six: bool,
    /// Both initial sequence numbers.
    pub(super) first: u32,
}

pub(super) fn config(six: bool) -> Config {
    let server = if six {
        "[fd00::2]:9292"
    } else {
        "10.0.0.2:9292"
    };
    Config {
        server: server.parse().unwrap(),
        mss: 1460,
        receive_buffer: 65_536,
        window_scale: 10,
        seed: 7,
    }
}

pub(super) fn client(six: bool) -> SocketAddr {
    let client = if six {
        "[fd00::1]:40000"
    } else {
        "10.0.0.1:40000"
    };
    client.parse().unwrap()
}

/// A byte of what the client writes, or the server.
pub(super) fn byte(of_server: bool, offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9) >> 7 ^ u64::from(of_server);
    u8::try_from(mixed & 0xff).unwrap()
}

pub(super) fn bytes(of_server: bool, range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(|offset| byte(of_server, offset)).collect()
}

/// Plays a script in every setup.
pub(super) fn play(script: &str) {
    for six in [false, true] {
        for first in [1_000, u32::MAX - 2, u32::MAX - 40] {
            play_in(Setup { six, first }, script);
        }
    }
}

pub(super) fn play_in(setup: Setup, script: &str) {
    let mut stage = Stage::new(setup);
    for line in script.lines() {
        let line = line.split('#').next().unwrap().trim();
        if !line.is_empty() {
            stage.line = format!("{setup:?}: {line}");
            stage.act(line);
        }
    }
    stage.line = format!("{setup:?}: the end of the script");
    stage.settle();
    stage.expect_nothing();
}

/// What the engine did.
#[derive(Debug, PartialEq)]
enum Done {
    Sent(Transmit),
    Event(String),
}

struct Stage {
    setup: Setup,
    engine: Engine,
    id: Option<Id>,
    /// When the script begins, so that the first number comes out as wanted.
    start: Stamp,
    now: Stamp,
    done: VecDeque<(Stamp, Done)>,
    /// What arrived since we last asked what there is to send.
    is_batch_open: bool,
    sent: Side,
    came: Side,
    /// Whether timestamps are in use, and the server's last.
    timestamps: bool,
    recent: u32,
    /// Up to where the server's numbers were acknowledged.
    acked_to: u32,
    /// The last timestamp that the server got.
    value: u32,
    ip_id: Option<u16>,
    received: u64,
    line: String,
}

/// The numbers of one side, relative to its first.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    next: u32,
}

impl Stage {
    fn new(setup: Setup) -> Stage {
        let config = config(setup.six);
        let long_ago = Stamp(1_700_000_000_000_000_000);
        let first = beginning(config.seed, long_ago, client(setup.six), config.server).sequence;
        // A tick of the numbers is 64 ns.
        let ticks = setup.first.wrapping_sub(first);
        let start = Stamp(long_ago.0 + (i64::from(ticks) << 6));
        Stage {
            setup,
            engine: Engine::new(config),
            id: None,
            start,
            now: start,
            done: VecDeque::new(),
            is_batch_open: false,
            sent: Side::default(),
            came: Side::default(),
            timestamps: false,
            recent: 0,
            acked_to: 0,
            value: 0,
            ip_id: None,
            received: 0,
            line: String::new(),
        }
    }

    fn act(&mut self, line: &str) {
        let (time, what) = line.split_once(' ').unwrap_or((line, ""));
        let at = self.start + time_of(time);
        if at > self.now {
            self.go_to(at);
        }
        assert_eq!(self.now, at, "{}: times go forward", self.line);
        let what = what.trim();
        let (word, rest) = what.split_once(' ').unwrap_or((what, ""));
        let rest = rest.trim();
        if let Some(flags) = word.strip_prefix('<') {
            self.arrive(flags, rest);
            return;
        }
        match word {
            "open" => {
                let handshake = match rest {
                    "half" => Handshake::HalfOpen,
                    _ => Handshake::Full,
                };
                let opened = self
                    .engine
                    .open(self.now, client(self.setup.six), handshake);
                self.id = Some(opened.expect("a free place"));
                self.sent = Side::default();
                self.came = Side::default();
                self.ip_id = None;
                self.received = 0;
                self.acked_to = 0;
                self.recent = 0;
                self.timestamps = false;
                self.is_batch_open = true;
            }
            "in-use" => {
                let client = client(self.setup.six);
                assert_eq!(self.engine.open(self.now, client, Handshake::Full), None);
            }
            "write" => {
                let bytes = rest.parse().unwrap();
                self.engine.write(self.now, self.id(), bytes);
                self.is_batch_open = true;
            }
            "shutdown" => {
                self.engine.shutdown_write(self.now, self.id());
                self.is_batch_open = true;
            }
            "close" => {
                let how = match rest {
                    "fin" => Close::Fin,
                    "rst" => Close::Rst,
                    _ => Close::Forget,
                };
                self.engine.close(self.now, self.id(), how);
                self.is_batch_open = true;
            }
            "icmp" => self.icmp(rest),
            "batch" => self.settle(),
            "state" => {
                let state = self.engine.status(self.id()).map(|s| s.state);
                assert_eq!(
                    format!("{state:?}"),
                    format!("Some({rest})"),
                    "{}",
                    self.line
                );
            }
            "status" => {
                let status = self.engine.status(self.id()).expect("a connection");
                let text = format!(
                    "sent={} acked={} received={} retransmits={} in_flight={}",
                    status.sent,
                    status.acked,
                    status.received,
                    status.retransmits,
                    status.in_flight
                );
                assert_eq!(text, rest, "{}", self.line);
            }
            "!" => {
                self.take_events();
                let next = self.done.pop_front();
                let wanted = (self.now, Done::Event(rest.to_owned()));
                assert_eq!(next, Some(wanted), "{}", self.line);
            }
            _ => {
                let flags = word.strip_prefix('>').expect("a line of a script");
                self.settle();
                self.expect_sent(flags, rest);
            }
        }
    }

    fn id(&self) -> Id {
        self.id.expect("open comes first")
    }

    /// Asks what there is to send, and what happened.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.is_batch_open) {
            return;
        }
        self.take_events();
        while let Some(transmit) = self.engine.poll_transmit(self.now) {
            self.done.push_back((self.now, Done::Sent(transmit)));
        }
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some((id, event)) = self.engine.poll_event() {
            assert_eq!(Some(id), self.id, "{}", self.line);
            let text = match event {
                Event::Connected => "connected".to_owned(),
                Event::PeerClosed => "peer-closed".to_owned(),
                Event::Reset { from } => format!("reset {from:?}"),
                Event::Unreachable(error) => format!("unreachable {}", error.code),
                Event::TimedOut => "timed-out".to_owned(),
                Event::Gone => "gone".to_owned(),
            };
            self.done.push_back((self.now, Done::Event(text)));
        }
    }

    fn go_to(&mut self, at: Stamp) {
        self.settle();
        while let Some(due) = self.engine.poll_timeout()
            && due <= at
        {
            assert!(due >= self.now, "{}: a timer in the past", self.line);
            self.now = due;
            self.engine.handle_timeout(due);
            self.is_batch_open = true;
            self.settle();
        }
        let late = self.done.front().filter(|(when, _)| *when < at);
        assert_eq!(
            late,
            None,
            "{}: unexpected, {:?} in",
            self.line,
            late.map(|(w, _)| w.since(self.start))
        );
        self.now = at;
    }

    fn expect_nothing(&self) {
        assert!(self.done.is_empty(), "{}: {:?}", self.line, self.done);
    }

    fn millis(&self) -> u32 {
        u32::try_from(self.now.since(self.start) / 1_000_000).unwrap()
    }

    fn arrive(&mut self, word: &str, rest: &str) {
        let (letters, len) = split_len(word);
        let flags = flags_of(letters);
        let words = Words(rest);
        let seq = words.number("seq").unwrap_or(self.came.next);
        let ack = words.number("ack").unwrap_or(self.sent.next);
        let mut options = SendOptions::default();
        let stamp = words.number("ts").unwrap_or_else(|| self.millis()) + SERVER_MS;
        let echo = self.value;
        if flags.syn() {
            for option in words
                .get("opts")
                .unwrap_or("mss:1460,sack,ts,ws:7")
                .split(',')
            {
                match option.split_once(':').unwrap_or((option, "")) {
                    ("mss", n) => options.mss = Some(n.parse().unwrap()),
                    ("ws", n) => options.window_scale = Some(n.parse().unwrap()),
                    ("sack", _) => options.sack_permitted = true,
                    ("ts", _) => options.timestamps = Some((stamp, echo)),
                    _ => {}
                }
            }
            if seq == 0 {
                self.timestamps = options.timestamps.is_some();
            }
        } else if self.timestamps && words.get("nots").is_none() && (!flags.rst() || flags.ack()) {
            options.timestamps = Some((stamp, echo));
        }
        let offset = u64::from(seq.wrapping_sub(1));
        let payload = bytes(true, offset..offset + u64::from(len));
        let server = config(self.setup.six).server;
        // Built as ours are, with the ends exchanged.
        let transmit = Transmit {
            id: None,
            client: server,
            server: client(self.setup.six),
            seq: self.setup.first.wrapping_add(seq),
            ack: if flags.ack() {
                self.setup.first.wrapping_add(ack)
            } else {
                0
            },
            flags,
            window: words
                .number("win")
                .map_or(if flags.syn() { 65_535 } else { 512 }, |w| {
                    u16::try_from(w).unwrap()
                }),
            options,
            ip_id: 0,
            flow_label: 0,
            payload: offset..offset + u64::from(len),
        };
        let mut packet = vec![0; transmit.packet_len()];
        transmit.write(&payload, &mut packet).expect("room");
        let captured = packet.len() - words.number("cut").unwrap_or(0) as usize;
        let Ok(Packet::Segment(segment)) = parse(self.now, &packet[..captured], packet.len())
        else {
            panic!("{}: no segment", self.line);
        };
        if words.get("seq").is_none() {
            self.came.next = seq + len + u32::from(flags.syn()) + u32::from(flags.fin());
        }
        let covers = seq.wrapping_sub(self.acked_to).cast_signed() <= 0 || flags.syn();
        if words.get("ts").is_none() && segment.options.timestamps.is_some() && covers {
            self.recent = stamp;
        }
        let mut told: Vec<String> = Vec::new();
        let id = self.id();
        let received = &mut self.received;
        self.engine
            .handle_segment(self.now, &segment, &mut |whose, chunk| {
                assert_eq!(whose, id);
                assert_eq!(chunk.offset, *received, "in order");
                let captured = chunk.bytes.len() as u64;
                assert_eq!(
                    chunk.bytes,
                    bytes(true, chunk.offset..chunk.offset + captured)
                );
                let unseen = match chunk.unseen {
                    0 => String::new(),
                    unseen => format!("+{unseen}"),
                };
                told.push(format!(
                    "data {}..{}{unseen}",
                    chunk.offset,
                    chunk.offset + captured
                ));
                *received = chunk.end();
            });
        for text in told {
            self.done.push_back((self.now, Done::Event(text)));
        }
        self.is_batch_open = true;
    }

    fn begin(&self) -> Beginning {
        let config = config(self.setup.six);
        beginning(
            config.seed,
            self.start,
            client(self.setup.six),
            config.server,
        )
    }

    fn icmp(&mut self, rest: &str) {
        let words = Words(rest);
        let mut numbers = rest.split(' ').filter_map(|word| word.parse().ok());
        let (kind, code) = (numbers.next().unwrap(), numbers.next().unwrap());
        let server = config(self.setup.six).server;
        let error = IcmpError {
            at: self.now,
            from: server.ip(),
            src: client(self.setup.six),
            dst: server,
            seq: self
                .setup
                .first
                .wrapping_add(words.number("seq").unwrap_or(0)),
            version: 4,
            kind,
            code,
            mtu: words.number("mtu"),
        };
        let whose = self.engine.handle_icmp(self.now, &error);
        assert_eq!(whose, self.id);
        self.is_batch_open = true;
    }

    fn expect_sent(&mut self, word: &str, rest: &str) {
        let (letters, len) = split_len(word);
        let flags = flags_of(letters);
        let words = Words(rest);
        let (at, done) = self
            .done
            .pop_front()
            .unwrap_or_else(|| panic!("{}: nothing was sent", self.line));
        let Done::Sent(sent) = done else {
            panic!("{}: {done:?}", self.line);
        };
        assert_eq!(at, self.now, "{}: at its time", self.line);
        let stray = flags == Flags::RST;
        let seq = words.number("seq").unwrap_or(self.sent.next);
        let ack = words.number("ack").unwrap_or(self.came.next);
        let value = millis(self.now).wrapping_add(self.begin().timestamp_offset);
        let mut options = SendOptions::default();
        if flags.syn() {
            options.mss = Some(1460);
            options.sack_permitted = true;
            options.window_scale = Some(10);
            options.timestamps = Some((value, if flags.ack() { self.recent } else { 0 }));
        } else if self.timestamps && !stray {
            let echo = words.number("ecr").map_or(self.recent, |ms| ms + SERVER_MS);
            options.timestamps = Some((value, echo));
        }
        for block in words
            .get("sack")
            .into_iter()
            .flat_map(|list| list.split(','))
        {
            let (from, to) = block.split_once("..").unwrap();
            let number = |text: &str| self.setup.first.wrapping_add(text.parse().unwrap());
            options.sack.push(number(from), number(to));
        }
        let window = if flags.syn() {
            64_240
        } else if stray {
            0
        } else {
            WINDOW
        };
        let offset = u64::from(seq.wrapping_sub(1));
        let start = if len > 0 { offset } else { sent.payload.start };
        let wanted = Transmit {
            id: sent.id,
            client: client(self.setup.six),
            server: config(self.setup.six).server,
            seq: self.setup.first.wrapping_add(seq),
            ack: if flags.ack() {
                self.setup.first.wrapping_add(ack)
            } else {
                0
            },
            flags,
            window: words
                .number("win")
                .map_or(window, |w| u16::try_from(w).unwrap()),
            options,
            ip_id: match self.ip_id {
                _ if stray => 0,
                Some(last) => last.wrapping_add(1),
                None => sent.ip_id,
            },
            flow_label: sent.flow_label,
            payload: start..start + u64::from(len),
        };
        assert_eq!(sent, wanted, "{}", self.line);
        if flags.ack() {
            self.acked_to = ack;
        }
        if !stray {
            self.ip_id = Some(sent.ip_id);
        }
        if words.get("seq").is_none() {
            self.sent.next = seq + len + u32::from(flags.syn()) + u32::from(flags.fin());
        }
        if let Some((value, _)) = sent.options.timestamps {
            self.value = value;
        }
        read_back(&sent);
    }
}

/// Builds a segment, verifies its checksums and reads it again.
pub(super) fn read_back(sent: &Transmit) {
    let payload = bytes(false, sent.payload.clone());
    let mut room = vec![0xaa; sent.packet_len() + 3];
    let len = sent.write(&payload, &mut room).expect("room");
    assert_eq!(room[len..], [0xaa; 3]);
    let packet = &room[..len];
    assert!(are_right(packet), "{sent:?}");
    let Ok(Packet::Segment(read)) = parse(Stamp(0), packet, len) else {
        panic!("no segment: {sent:?}");
    };
    assert_eq!((read.src, read.dst), (sent.client, sent.server));
    assert_eq!(
        (read.seq, read.ack, read.flags),
        (sent.seq, sent.ack, sent.flags)
    );
    assert_eq!(read.window, sent.window);
    assert_eq!(read.ip_id, sent.client.is_ipv4().then_some(sent.ip_id));
    assert_eq!(usize::from(read.options.bytes), sent.options.size());
    assert_eq!(read.options.timestamps, sent.options.timestamps);
    assert_eq!(read.options.mss, sent.options.mss);
    assert_eq!(read.options.window_scale, sent.options.window_scale);
    assert_eq!(read.options.sack_permitted, sent.options.sack_permitted);
    assert_eq!(
        sack_of(packet, sent.client.is_ipv4()),
        sent.options.sack.as_slice()
    );
    assert_eq!(
        (read.len as usize, &*read.payload),
        (payload.len(), &payload[..])
    );
}

/// The SACK blocks of a packet, which [`parse`] leaves alone.
fn sack_of(packet: &[u8], four: bool) -> Vec<(u32, u32)> {
    let tcp = &packet[if four { 20 } else { 40 }..];
    let mut options = &tcp[20..usize::from(tcp[12] >> 4) * 4];
    while let [kind, rest @ ..] = options {
        match kind {
            1 => options = rest,
            5 => {
                let blocks = options[2..usize::from(options[1])].chunks(8);
                let number = |b: &[u8]| u32::from_be_bytes(b.try_into().unwrap());
                return blocks.map(|b| (number(&b[..4]), number(&b[4..]))).collect();
            }
            _ => options = &options[usize::from(options[1])..],
        }
    }
    Vec::new()
}

/// The words `key=value` behind a segment.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        let mut words = self.0.split_whitespace();
        words.find_map(|word| match word.split_once('=') {
            Some((k, value)) => (k == key).then_some(value),
            None => (word == key).then_some(""),
        })
    }

    /// A number, which may be negative.
    fn number(&self, key: &str) -> Option<u32> {
        let number: i64 = self.get(key)?.parse().expect("a number");
        Some(u32::try_from(number.rem_euclid(1 << 32)).unwrap())
    }
}

fn split_len(word: &str) -> (&str, u32) {
    match word.split_once('(') {
        Some((letters, len)) => (letters, len.trim_end_matches(')').parse().unwrap()),
        None => (word, 0),
    }
}

fn flags_of(letters: &str) -> Flags {
    letters.chars().fold(Flags::default(), |flags, letter| {
        flags.with(Flags::from_letter(letter).expect("a flag"))
    })
}

fn time_of(text: &str) -> std::time::Duration {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.trim_end_matches('s'), 1.0),
    };
    let seconds: f64 = number.parse().expect("a time");
    std::time::Duration::from_secs_f64(seconds * unit)
}

/// Whether a whole packet's checksums are right.
pub(super) fn are_right(packet: &[u8]) -> bool {
    checksums_are_right(packet, packet.len(), true) == Some(true)
}
