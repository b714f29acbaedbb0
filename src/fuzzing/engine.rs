//! What must hold of the raw engine's TCP, whatever arrives: a script, eight bytes a line, of calls and
//! of segments that have to do with a connection, or nearly. Beside the engine stands what an onlooker
//! can know of each connection, and every event must follow from that.

use std::net::{IpAddr, SocketAddr};

use crate::connect::raw::engine::{
    Chunk, Close, Config, Engine, Event, Handshake, Id, State, Transmit,
};
use crate::time::Stamp;
use crate::wire::{Flags, IcmpError, Packet, Segment, checksums_are_right, parse};

use super::script::{GAPS_NS, offset};

/// Connections at a time.
const CLIENTS: usize = 4;
const BUFFER: u32 = 20_000;

/// Option areas, some of them broken.
const OPTIONS: &[&[u8]] = &[
    &[],
    &[
        2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7,
    ],
    &[2, 4, 0, 0],
    &[2, 4, 255, 255, 3, 3, 255, 0],
    &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0],
    &[1, 1, 8, 10, 127, 255, 255, 255, 255, 255, 255, 255],
    &[1, 1, 8, 10, 128, 0, 0, 9, 0, 0, 0, 0],
    &[1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 0],
    &[8, 200, 0, 0],
    &[2, 0, 0, 0],
    &[4, 40, 1, 1],
    &[0, 0, 0, 0],
];

/// Takes a script: a byte that says how it is played, then its lines.
pub fn engine(data: &[u8]) {
    let Some((&setup, mut rest)) = data.split_first() else {
        return;
    };
    let mut stage = Stage::new(setup);
    while let Some((line, behind)) = rest.split_first_chunk() {
        stage.act(line);
        rest = behind;
    }
    stage.finish();
}

/// What can be known of a connection by watching.
#[derive(Debug)]
struct Watched {
    id: Id,
    half: bool,
    /// Our first sequence number, once the SYN was sent, and the server's, once it was taken.
    ours: Option<u32>,
    theirs: Option<u32>,
    connected: bool,
    written: u64,
    /// Whether a FIN of ours may go, and whether its reader is gone.
    may_fin: bool,
    deaf: bool,
    /// What of the server's was handed on, and whether its FIN was.
    received: u64,
    got_fin: bool,
    /// Where FINs of the server's stood, by their sequence numbers.
    fins: Vec<u32>,
    /// Something ended it: Gone may follow.
    over: bool,
}

impl Watched {
    /// The number that the server is to send next.
    fn expected(&self) -> Option<u32> {
        let next = self
            .theirs?
            .wrapping_add(1)
            .wrapping_add(low(self.received));
        Some(next.wrapping_add(u32::from(self.got_fin)))
    }
}

/// Why something happens.
#[derive(Clone, Copy)]
enum Trigger<'a> {
    Segment(&'a Segment<'a>),
    Icmp(&'a IcmpError),
    Time,
    Call,
}

struct Stage {
    engine: Engine,
    config: Config,
    now: Stamp,
    watched: [Option<Watched>; CLIENTS],
    /// The last connection of each client that is gone, of which a RST may still be under way.
    sent_to: [u32; CLIENTS],
    /// What the server would send next, were it honest.
    next: [u32; CLIENTS],
}

impl Stage {
    fn new(setup: u8) -> Stage {
        let server: IpAddr = if setup & 1 == 0 {
            [10, 0, 0, 2].into()
        } else {
            [0xfd00, 0, 0, 0, 0, 0, 0, 2].into()
        };
        let config = Config {
            server: SocketAddr::new(server, 9_292),
            mss: if setup & 2 == 0 { 1_460 } else { 100 },
            receive_buffer: BUFFER,
            window_scale: setup >> 4,
            seed: u64::from(setup >> 2),
        };
        Stage {
            engine: Engine::new(config),
            config,
            now: Stamp(1_700_000_000_000_000_000 + (i64::from(setup) << 36)),
            watched: std::array::from_fn(|_| None),
            sent_to: [0; CLIENTS],
            next: [u32::MAX - 1_000; CLIENTS],
        }
    }

    fn client(&self, which: usize) -> SocketAddr {
        let host: IpAddr = match self.config.server {
            SocketAddr::V4(_) => [10, 0, 0, 1].into(),
            SocketAddr::V6(_) => [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
        };
        SocketAddr::new(host, 40_000 + u16::try_from(which).unwrap_or_default())
    }

    fn act(&mut self, line: &[u8; 8]) {
        let &[what, .., gap] = line;
        let which = usize::from(what >> 6);
        self.pass(GAPS_NS[usize::from(gap) % GAPS_NS.len()]);
        let id = self.watched[which].as_ref().map(|watched| watched.id);
        match (what & 0x0f, id) {
            (0, _) => self.open(which, what & 0x10 != 0),
            (1, Some(id)) => {
                let bytes = u64::from(line[1]) * u64::from(line[2]);
                self.engine.write(self.now, id, bytes);
                self.watch(which, |watched| {
                    watched.written += if watched.may_fin { 0 } else { bytes };
                });
            }
            (2, Some(id)) => {
                self.engine.shutdown_write(self.now, id);
                self.watch(which, |watched| watched.may_fin |= !watched.half);
            }
            (3, Some(id)) => self.close(which, id, line[1]),
            (4, _) => self.icmp(which, line),
            _ => self.arrive(which, line),
        }
        self.settle(Trigger::Call);
    }

    fn watch(&mut self, which: usize, change: impl FnOnce(&mut Watched)) {
        if let Some(watched) = &mut self.watched[which] {
            change(watched);
        }
    }

    /// Lets time go by; it never runs backwards.
    fn pass(&mut self, gap: i64) {
        let until = Stamp(self.now.0 + gap.max(0));
        while let Some(due) = self.engine.poll_timeout().filter(|&due| due <= until) {
            self.now = due.max(self.now);
            self.engine.handle_timeout(self.now);
            self.settle(Trigger::Time);
        }
        self.now = until;
    }

    fn open(&mut self, which: usize, half: bool) {
        let handshake = if half {
            Handshake::HalfOpen
        } else {
            Handshake::Full
        };
        let opened = self.engine.open(self.now, self.client(which), handshake);
        assert_eq!(opened.is_some(), self.watched[which].is_none());
        if let Some(id) = opened {
            self.watched[which] = Some(Watched {
                id,
                half,
                ours: None,
                theirs: None,
                connected: false,
                written: 0,
                may_fin: false,
                deaf: false,
                received: 0,
                got_fin: false,
                fins: Vec::new(),
                over: false,
            });
        }
    }

    fn close(&mut self, which: usize, id: Id, how: u8) {
        let how = [Close::Fin, Close::Fin, Close::Rst, Close::Forget][usize::from(how % 4)];
        self.engine.close(self.now, id, how);
        self.watch(which, |watched| {
            watched.may_fin = true;
            watched.deaf = true;
            watched.over = true;
        });
    }

    fn icmp(&mut self, which: usize, line: &[u8; 8]) {
        let ours = self.watched[which]
            .as_ref()
            .and_then(|watched| watched.ours);
        let error = IcmpError {
            at: self.now,
            from: self.config.server.ip(),
            src: self.client(which),
            dst: self.config.server,
            seq: ours.unwrap_or(0).wrapping_add(offset(line[1])),
            version: if self.config.server.is_ipv4() { 4 } else { 6 },
            kind: line[2] % 16,
            code: line[3] % 16,
            mtu: (line[4] & 1 != 0).then(|| u32::from(line[5]) * 8),
        };
        self.engine.handle_icmp(self.now, &error);
        self.settle(Trigger::Icmp(&error));
    }

    /// A segment of the server's: as it would send next, moved by what the line says.
    fn arrive(&mut self, which: usize, line: &[u8; 8]) {
        let &[what, flags, seq, ack, len, extra, window, _] = line;
        let near = self.next[which];
        let seq = near.wrapping_add(offset(seq));
        let ack = self.sent_to[which].wrapping_add(offset(ack));
        let flags = Flags(flags & 0x3f);
        let len = usize::from(len) * if what & 0x20 == 0 { 1 } else { 97 };
        if flags.0 & 0x04 == 0 && line[2] == 0 {
            let space = low(len as u64) + u32::from(flags.syn()) + u32::from(flags.fin());
            self.next[which] = near.wrapping_add(space);
        }
        let options = OPTIONS[usize::from(extra & 0x0f) % OPTIONS.len()];
        let mut packet = ip(
            self.config.server,
            self.client(which),
            20 + options.len() + len,
        );
        packet.extend(self.config.server.port().to_be_bytes());
        packet.extend(self.client(which).port().to_be_bytes());
        packet.extend(seq.to_be_bytes());
        packet.extend(ack.to_be_bytes());
        let words = u8::try_from(5 + options.len() / 4).unwrap_or_default();
        packet.extend([words << 4, flags.0, window, window, 0, 0, 0, 0]);
        packet.extend(options);
        let first = seq.wrapping_add(u32::from(flags.syn()));
        packet.extend((0..low(len as u64)).map(|i| byte_at(first.wrapping_add(i))));
        let cut = if extra & 0x80 != 0 { len / 2 } else { 0 };
        let captured = packet.len() - cut;
        let Ok(Packet::Segment(segment)) = parse(self.now, &packet[..captured], packet.len())
        else {
            unreachable!("a whole segment");
        };
        self.take(which, &segment);
    }

    fn take(&mut self, which: usize, segment: &Segment<'_>) {
        let state_before = self.state(which);
        if let Some(watched) = &mut self.watched[which]
            && segment.flags.fin()
        {
            let seq = segment.seq.wrapping_add(u32::from(segment.flags.syn()));
            watched.fins.push(seq.wrapping_add(segment.len));
        }
        if let Some(watched) = &mut self.watched[which]
            && state_before == Some(State::SynSent)
            && segment.flags.syn()
        {
            // It is the server's beginning, if it is taken.
            watched.theirs = Some(segment.seq);
        }
        let watched = self.watched[which].as_mut();
        let mut handed: Vec<(Id, u64, Vec<u8>, u32)> = Vec::new();
        let whose = self
            .engine
            .handle_segment(self.now, segment, &mut |id, chunk: Chunk<'_>| {
                handed.push((id, chunk.offset, chunk.bytes.to_vec(), chunk.unseen));
            });
        assert_eq!(whose, watched.as_ref().map(|watched| watched.id));
        if let Some(watched) = watched {
            let edge = watched.received + u64::from(BUFFER);
            for (id, offset, bytes, unseen) in handed {
                assert_eq!(id, watched.id);
                assert!(
                    !watched.got_fin && !watched.deaf && !watched.half,
                    "{watched:?}"
                );
                assert_eq!(offset, watched.received, "in order");
                let first = watched
                    .theirs
                    .map(|isn| isn.wrapping_add(1).wrapping_add(low(offset)));
                for (&byte, i) in bytes.iter().zip(0..) {
                    assert_eq!(
                        Some(byte),
                        first.map(|first| byte_at(first.wrapping_add(i)))
                    );
                }
                let len = bytes.len() as u64 + u64::from(unseen);
                assert!(len > 0);
                watched.received += len;
            }
            assert!(watched.received <= edge, "beyond the window");
        } else {
            assert!(handed.is_empty());
        }
        self.settle(Trigger::Segment(segment));
    }

    fn state(&self, which: usize) -> Option<State> {
        let id = self.watched[which].as_ref()?.id;
        Some(self.engine.status(id)?.state)
    }

    /// Takes what happened and what there is to send, and holds it to what is known.
    fn settle(&mut self, trigger: Trigger<'_>) {
        self.take_events(trigger);
        while let Some(transmit) = self.engine.poll_transmit(self.now) {
            self.check_sent(&transmit);
        }
        self.take_events(trigger);
        let open = self.watched.iter().flatten();
        assert_eq!(self.engine.len(), open.clone().count());
        for watched in open {
            let status = self.engine.status(watched.id).expect("it is not gone");
            assert_eq!(status.received, watched.received);
            assert!(status.acked <= status.sent && status.sent <= watched.written);
            let waits = status.in_flight || status.state == State::TimeWait;
            assert!(
                !waits || self.engine.poll_timeout().is_some(),
                "nothing would wake it"
            );
        }
    }

    fn take_events(&mut self, trigger: Trigger<'_>) {
        while let Some((id, event)) = self.engine.poll_event() {
            let slot = self
                .watched
                .iter_mut()
                .find(|w| w.as_ref().is_some_and(|w| w.id == id));
            let slot = slot.expect("an event of a connection that is there");
            let watched = slot.as_mut().expect("just found");
            match (event, trigger) {
                (Event::Connected, Trigger::Segment(segment)) => {
                    assert!(!watched.connected && segment.flags.ack() && !segment.flags.rst());
                    assert_eq!(
                        Some(segment.ack),
                        watched.ours.map(|isn| isn.wrapping_add(1))
                    );
                    watched.connected = true;
                }
                (
                    Event::Reset {
                        from: State::SynSent,
                    },
                    Trigger::Segment(segment),
                ) => {
                    assert!(segment.flags.rst() && segment.flags.ack());
                    assert_eq!(
                        Some(segment.ack),
                        watched.ours.map(|isn| isn.wrapping_add(1))
                    );
                    watched.over = true;
                }
                (Event::Reset { .. }, Trigger::Segment(segment)) => {
                    assert!(segment.flags.rst());
                    assert_eq!(Some(segment.seq), watched.expected());
                    watched.over = true;
                }
                (Event::PeerClosed, Trigger::Segment(_)) => {
                    assert!(watched.connected && !watched.got_fin);
                    let at = watched.expected().expect("it is connected");
                    assert!(watched.fins.contains(&at), "no FIN stood there");
                    watched.got_fin = true;
                }
                (Event::Unreachable(error), Trigger::Icmp(sent)) => {
                    assert_eq!(&error, sent);
                    assert!(!watched.connected && error.ends_connecting());
                    assert_eq!(Some(error.seq), watched.ours);
                    watched.over = true;
                }
                (Event::TimedOut, Trigger::Time) => watched.over = true,
                (Event::Gone, _) => {
                    let both = watched.may_fin && watched.got_fin;
                    assert!(watched.over || both, "nothing ended it");
                    assert_eq!(self.engine.status(id), None);
                    *slot = None;
                }
                (event, _) => unreachable!("{event:?} out of nothing"),
            }
        }
    }

    fn check_sent(&mut self, sent: &Transmit) {
        let payload = vec![0x55; sent.payload_len()];
        let mut packet = vec![0; sent.packet_len()];
        assert_eq!(sent.write(&payload, &mut packet), Some(packet.len()));
        assert_eq!(checksums_are_right(&packet, packet.len(), true), Some(true));
        let Ok(Packet::Segment(read)) = parse(self.now, &packet, packet.len()) else {
            unreachable!("a segment");
        };
        assert_eq!(
            (read.seq, read.ack, read.flags),
            (sent.seq, sent.ack, sent.flags)
        );
        assert_eq!((read.src, read.dst), (sent.client, self.config.server));
        let largest = usize::from(self.config.mss.max(48));
        assert!(sent.payload_len() + sent.options.size() <= largest.max(40));
        let which = usize::from(sent.client.port() - 40_000);
        if !sent.flags.rst() {
            let behind = sent.seq.wrapping_add(read.space());
            let newer = behind.wrapping_sub(self.sent_to[which]).cast_signed() > 0;
            if newer || sent.flags.syn() {
                self.sent_to[which] = behind;
            }
        }
        let Some(watched) = self.watched[which]
            .as_mut()
            .filter(|w| Some(w.id) == sent.id)
        else {
            // Its connection is gone, which a RST alone can say.
            assert!(sent.flags.rst() && sent.payload_len() == 0);
            return;
        };
        if sent.flags.syn() {
            assert_eq!(
                *watched.ours.get_or_insert(sent.seq),
                sent.seq,
                "one SYN, if often"
            );
            return;
        }
        if sent.flags == Flags::RST {
            return;
        }
        assert!(watched.connected && !watched.half);
        assert_eq!(
            Some(sent.ack),
            watched.expected(),
            "all that came is acknowledged"
        );
        assert!(sent.payload.end <= watched.written);
        let first = watched
            .ours
            .map(|isn| isn.wrapping_add(1).wrapping_add(low(sent.payload.start)));
        if !sent.payload.is_empty() {
            assert_eq!(Some(sent.seq), first);
        }
        if sent.flags.fin() {
            assert!(watched.may_fin && sent.payload.end == watched.written);
        }
    }

    /// Nobody answers any more: everything comes to an end by itself, or by a RST.
    fn finish(&mut self) {
        for _ in 0..1_000 {
            let Some(due) = self.engine.poll_timeout() else {
                break;
            };
            self.now = due.max(self.now);
            self.engine.handle_timeout(self.now);
            self.settle(Trigger::Time);
        }
        assert_eq!(self.engine.poll_timeout(), None, "it waits for ever");
        for which in 0..CLIENTS {
            if let Some(id) = self.watched[which].as_ref().map(|watched| watched.id) {
                self.close(which, id, 2);
                self.settle(Trigger::Call);
            }
        }
        assert!(self.engine.is_empty());
        self.pass(600_000_000_000);
    }
}

/// A byte of the server's, by its sequence number: wherever it comes from, it is the same.
fn byte_at(seq: u32) -> u8 {
    (seq.wrapping_mul(0x9e37_79b1) >> 24).to_le_bytes()[0]
}

/// Modulo 2^32, as sequence numbers count.
fn low(n: u64) -> u32 {
    u32::try_from(n & 0xffff_ffff).unwrap_or_default()
}

fn ip(from: SocketAddr, to: SocketAddr, inner: usize) -> Vec<u8> {
    let len = u16::try_from(inner).unwrap_or(u16::MAX);
    let mut packet = Vec::new();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0]);
            packet.extend((len + 20).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(len.to_be_bytes());
            packet.extend([6, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        _ => {}
    }
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Lines that keep to the matter more often than bytes at random do.
    fn line() -> impl Strategy<Value = [u8; 8]> {
        let what = prop_oneof![
            2 => Just(0_u8), 1 => Just(0x10), 2 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(4),
            10 => Just(8), 2 => Just(0x28),
        ];
        let near = || prop_oneof![6 => Just(0_u8), 1 => Just(1_u8), 1 => any::<u8>()];
        let flags = prop_oneof![
            3 => Just(0x12_u8), 6 => Just(0x10), 2 => Just(0x18), 2 => Just(0x11), 1 => Just(0x04),
            1 => Just(0x14), 1 => any::<u8>(),
        ];
        let options = prop_oneof![3 => Just(1_u8), 3 => Just(4), 1 => any::<u8>()];
        let len = prop_oneof![2 => Just(0_u8), 2 => any::<u8>()];
        (
            what,
            flags,
            near(),
            near(),
            len,
            options,
            any::<u8>(),
            0_u8..8,
            0_u8..2,
        )
            .prop_map(
                |(what, flags, seq, ack, len, options, window, gap, client)| {
                    let client = client << 6;
                    // Calls take their arguments where segments have their flags.
                    [what | client, flags, seq, ack, len, options, window, gap]
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn nothing_follows_from_segments_that_prove_nothing(
            setup in any::<u8>(),
            lines in proptest::collection::vec(line(), 0..60),
        ) {
            let mut data = vec![setup];
            data.extend(lines.into_iter().flatten());
            super::engine(&data);
        }
    }
}
