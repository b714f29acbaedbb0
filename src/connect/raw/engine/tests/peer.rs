//! Whole connections with a simple server in virtual time, over a network that loses, repeats and
//! reorders packets: both ends get everything, in order, and both close.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::number::{low, millis};
use super::super::*;
use super::script::{are_right, bytes, client, config};
use crate::wire::{Flags, Packet, parse};

/// What the network does with each packet in turn; to those behind the last nothing.
type Fates = Vec<u8>;

#[derive(Clone, Debug)]
struct Plan {
    fates: Fates,
    /// What the client writes, a part at a time, and what the server does.
    requests: Vec<u16>,
    response: u64,
    /// Who closes without waiting for the other.
    client_first: bool,
    server_first: bool,
    /// The server's windows, in turn.
    windows: Vec<u16>,
    server_isn: u32,
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let window = prop_oneof![Just(0_u16), Just(1), Just(20), 50_u16..512];
    (
        proptest::collection::vec(any::<u8>(), 0..120),
        proptest::collection::vec(1_u16..6_000, 1..4),
        0_u64..100_000,
        any::<(bool, bool)>(),
        proptest::collection::vec(window, 0..20),
        prop_oneof![any::<u32>(), Just(u32::MAX - 5_000)],
    )
        .prop_map(
            |(fates, requests, response, first, windows, server_isn)| Plan {
                fates,
                requests,
                response,
                client_first: first.0,
                // One of them has to.
                server_first: first.1 || !first.0,
                windows,
                server_isn,
            },
        )
}

/// A server that takes one connection: what comes out of order it drops, what is not acknowledged it
/// sends again every 300 ms.
struct Server {
    isn: u32,
    /// The client's initial number, once known.
    theirs: Option<u32>,
    established: bool,
    acked: u64,
    response: u64,
    /// Whether it closes, and whether that is acknowledged.
    closes: bool,
    got: Vec<u8>,
    got_fin: bool,
    over: bool,
    windows: std::vec::IntoIter<u16>,
    recent: u32,
}

impl Server {
    fn end(&self) -> u64 {
        self.response + u64::from(self.closes)
    }

    fn got_to(&self) -> u32 {
        low(self.got.len() as u64)
    }

    fn segment(&mut self, flags: Flags, from: u64, len: u64) -> Transmit {
        let expected = self.theirs.map_or(0, |isn| {
            isn.wrapping_add(1)
                .wrapping_add(self.got_to())
                .wrapping_add(u32::from(self.got_fin))
        });
        let syn = flags.syn();
        let mut options = SendOptions {
            timestamps: Some((self.recent, self.recent)),
            ..SendOptions::default()
        };
        if syn {
            options.window_scale = Some(7);
            options.mss = Some(1_000);
            options.sack_permitted = true;
        }
        Transmit {
            id: None,
            client: config(false).server,
            server: client(false),
            seq: if syn {
                self.isn
            } else {
                self.isn.wrapping_add(1).wrapping_add(low(from))
            },
            ack: expected,
            flags: flags.with(Flags::ACK),
            window: if syn {
                5_000
            } else {
                self.windows.next().unwrap_or(512)
            },
            options,
            ip_id: 0,
            flow_label: 0,
            payload: from..from + len,
        }
    }

    /// All that the client has not acknowledged, up to 20 segments.
    fn unacknowledged(&mut self) -> Vec<Transmit> {
        let mut segments = Vec::new();
        let mut from = self.acked;
        while from < self.end() && segments.len() < 20 {
            let len = self.response.saturating_sub(from).min(1_400);
            let fin = self.closes && from + len == self.response;
            let flags = if fin { Flags::FIN } else { Flags::default() };
            segments.push(self.segment(flags, from, len));
            from += len + u64::from(fin);
        }
        segments
    }

    fn receive(&mut self, segment: &Segment<'_>) -> Vec<Transmit> {
        if segment.flags.rst() {
            self.over = true;
            return Vec::new();
        }
        if segment.flags.syn() {
            assert!(self.theirs.is_none_or(|isn| isn == segment.seq));
            self.theirs = Some(segment.seq);
            return vec![self.segment(Flags::SYN, 0, 0)];
        }
        let first = self.theirs.expect("a SYN before all else").wrapping_add(1);
        let acked = u64::from(segment.ack.wrapping_sub(self.isn.wrapping_add(1)));
        assert!(acked <= self.end(), "only what was sent is acknowledged");
        let was_established = std::mem::replace(&mut self.established, true);
        let advanced = acked > self.acked || !was_established;
        self.acked = self.acked.max(acked);
        let offset = segment.seq.wrapping_sub(first);
        let known = self.got_to().wrapping_sub(offset);
        let mut reply = segment.len > 0 || segment.flags.fin() || known == 1;
        if known <= segment.len && segment.len > 0 && !self.got_fin {
            self.got.extend(&segment.payload[known as usize..]);
        }
        let end = offset.wrapping_add(segment.len);
        if segment.flags.fin() && end == self.got_to() {
            self.got_fin = true;
        }
        let mut out = Vec::new();
        if advanced {
            out = self.unacknowledged();
            reply &= out.is_empty();
        }
        if reply {
            out.push(self.segment(Flags::default(), self.end().min(self.acked), 0));
        }
        out
    }
}

/// Plays a plan to its end; panics where an end does not get all.
fn play(plan: Plan) {
    let config = config(false);
    let mut now = Stamp(1_700_000_000_000_000_000);
    let mut engine = Engine::new(config);
    let id = engine.open(now, client(false), Handshake::Full).unwrap();
    let mut server = Server {
        isn: plan.server_isn,
        theirs: None,
        established: false,
        acked: 0,
        response: plan.response,
        closes: plan.server_first,
        got: Vec::new(),
        got_fin: false,
        over: false,
        windows: plan.windows.clone().into_iter(),
        recent: 0,
    };
    let total: u64 = plan.requests.iter().map(|&n| u64::from(n)).sum();
    let mut requests = plan.requests.iter();
    let mut fates = plan.fates.iter();
    // Packets under way, by when they arrive, and the order in which they were sent.
    let mut wire: BTreeMap<(Stamp, u64), (bool, Vec<u8>)> = BTreeMap::new();
    let mut sent = 0;
    let mut ticks = now;
    let mut got: Vec<u8> = Vec::new();
    let mut closed = [false; 2];
    let (mut connected, mut gone) = (false, false);
    for _ in 0..200_000 {
        let mut to_send: Vec<(bool, Vec<u8>)> = Vec::new();
        while let Some((whose, event)) = engine.poll_event() {
            assert_eq!(whose, id);
            match event {
                Event::Connected => connected = true,
                Event::PeerClosed => closed[1] = true,
                Event::Gone => gone = true,
                other => panic!("{other:?} in {plan:?}"),
            }
        }
        if connected && !gone {
            if let Some(&bytes) = requests.next() {
                engine.write(now, id, u64::from(bytes));
            } else if !closed[0] && (plan.client_first || closed[1]) {
                closed[0] = true;
                engine.shutdown_write(now, id);
            }
        }
        while let Some(transmit) = engine.poll_transmit(now) {
            assert!(transmit.payload.end <= total);
            let mut packet = vec![0; transmit.packet_len()];
            transmit
                .write(&bytes(false, transmit.payload.clone()), &mut packet)
                .unwrap();
            to_send.push((true, packet));
        }
        if now >= ticks {
            ticks = now + Duration::from_millis(300);
            // Who waits for the other to close does so by now.
            server.closes |= server.got_fin;
            if server.established && !server.over {
                to_send.extend(
                    server
                        .unacknowledged()
                        .into_iter()
                        .map(|t| (false, pack(&t))),
                );
            }
        }
        for (to_server, packet) in to_send {
            sent += 1;
            let fate = fates.next().copied().unwrap_or(0);
            // One in eight is lost, one in eight comes twice; each takes its time.
            let copies = match fate % 8 {
                _ if fate == 0 => 1,
                1 => 0,
                2 => 2,
                _ => 1,
            };
            for copy in 0..copies {
                let delay = Duration::from_millis(1 + u64::from(fate / 8) * (copy + 1));
                wire.insert((now + delay, sent * 2 + copy), (to_server, packet.clone()));
            }
        }
        let server_done =
            server.over || server.got_fin && server.acked == server.end() && server.closes;
        if gone && server_done {
            assert_eq!(server.got.len() as u64, total, "{plan:?}");
            assert_eq!(server.got, bytes(false, 0..total));
            assert_eq!(got, bytes(true, 0..plan.response));
            assert!(closed == [true; 2], "{plan:?}");
            assert!(engine.is_empty());
            return;
        }
        let arrival = wire.first_key_value().map(|((at, _), _)| *at);
        let next = [arrival, engine.poll_timeout(), Some(ticks)];
        now = next.into_iter().flatten().min().unwrap().max(now);
        while let Some(entry) = wire.first_entry().filter(|entry| entry.key().0 <= now) {
            let (to_server, packet) = entry.remove();
            let Ok(Packet::Segment(segment)) = parse(now, &packet, packet.len()) else {
                panic!("no segment");
            };
            if to_server {
                assert!(are_right(&packet));
                server.recent = millis(now);
                for reply in server.receive(&segment) {
                    wire.insert(
                        (now + Duration::from_millis(1), 1 << 60 | wire.len() as u64),
                        (false, pack(&reply)),
                    );
                }
            } else {
                engine.handle_segment(now, &segment, &mut |_, chunk| {
                    assert_eq!(chunk.offset, got.len() as u64);
                    assert_eq!(chunk.unseen, 0);
                    got.extend(chunk.bytes);
                });
            }
        }
        engine.handle_timeout(now);
    }
    panic!("no end: {plan:?}");
}

fn pack(transmit: &Transmit) -> Vec<u8> {
    let mut packet = vec![0; transmit.packet_len()];
    transmit
        .write(&bytes(true, transmit.payload.clone()), &mut packet)
        .unwrap();
    packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn both_ends_get_everything_whatever_the_network_does(plan in any_plan()) {
        play(plan);
    }
}
