//! Packets byte by byte, beside recorded ones of Linux 6.18 (`tcpdump -X`; Python 3.11's
//! `socket.create_connection` and `close`, with SO_LINGER 0 for the RST).

use proptest::prelude::*;

use super::super::*;
use super::script::{are_right, bytes, client, config, read_back};
use crate::wire::{Flags, Options, Packet, parse};

/// Over veth with an MTU of 1500, tcp_rmem 4096 131072 33554432.
const SYN: &str = "4500003cef164000400637a30a0000010a000002b958244cc989d56a00000000a002faf014310000\
    020405b40402080a15621e2b000000000103030a";
/// Over loopback.
const SYN_LO: &str = "4500003cfb8f40004006412a7f0000017f000001bac8244c20d1721400000000a002ffd7fe300000\
    0204ffd70402080aff783086000000000103030a";
const ACK_LO: &str = "45000034fb904000400641317f0000017f000001bac8244c20d17215139a7c2680100040fe280000\
    0101080aff7830866398faad";
const DATA_LO: &str = "45000039fb9140004006412b7f0000017f000001bac8244c20d17215139a7c2680180040fe2d0000\
    0101080aff7830866398faad68656c6c6f";
const FIN_LO: &str = "45000034fb9340004006412e7f0000017f000001bac8244c20d1721a139a7c2980110040fe280000\
    0101080aff7830866398faad";
const RST_LO: &str = "4500003405d24000400636f07f0000017f000001bad6244cbe7db8525d72e10d80140040fe280000\
    0101080a3277feb2bbe1a67f";
const SYN_LO_V6: &str = "6003ed900028064000000000000000000000000000000001000000000000000000000000000000018cc2244c\
    934ab22800000000a002ffc4003000000204ffc40402080ae83549ca000000000103030a";
const DATA_LO_V6: &str = "6003ed900025064000000000000000000000000000000001000000000000000000000000000000018cc2244c\
    934ab229c05c820b80180040002d00000101080ae83549ca47afc52668656c6c6f";

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| c.is_ascii_hexdigit()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Checks that what the engine sends in the same place is the recorded packet, given the same random
/// numbers. Recorded on their way out, packets have TCP checksums that are yet to be filled in.
fn is_as_recorded(mss: u16, recorded: &str, does: impl FnOnce(&mut Engine, Id)) {
    let mut recorded = from_hex(recorded);
    let Ok(Packet::Segment(segment)) = parse(Stamp(0), &recorded, recorded.len()) else {
        panic!("no segment");
    };
    let server = segment.dst;
    let config = Config {
        server,
        mss,
        ..config(false)
    };
    let mut engine = Engine::new(config);
    let now = Stamp(1_000_000_000);
    let id = engine.open(now, segment.src, Handshake::Full).unwrap();
    let syn = engine.poll_transmit(now).unwrap();
    let mut sent = syn.clone();
    if !segment.flags.syn() {
        let answer = Segment {
            at: now,
            src: server,
            dst: segment.src,
            seq: 9,
            ack: syn.seq.wrapping_add(1),
            flags: Flags::SYN.with(Flags::ACK),
            window: 65_483,
            ip_id: None,
            options: Options {
                bytes: 20,
                timestamps: Some((9, 9)),
                window_scale: Some(10),
                mss: Some(mss),
                sack_permitted: true,
            },
            len: 0,
            payload: b"".into(),
        };
        engine.handle_segment(now, &answer, &mut |_, _| {});
        sent = engine.poll_transmit(now).unwrap();
        does(&mut engine, id);
        while let Some(next) = engine.poll_transmit(now) {
            sent = next;
        }
    }
    sent.seq = segment.seq;
    sent.ack = segment.ack;
    sent.options.timestamps = segment.options.timestamps;
    if let Some(ip_id) = segment.ip_id {
        sent.ip_id = ip_id;
    }
    if server.is_ipv6() {
        sent.flow_label = u32::from_be_bytes(recorded[..4].try_into().unwrap()) & 0xf_ffff;
    }
    let mut built = vec![0; sent.packet_len()];
    sent.write(&segment.payload, &mut built).unwrap();
    assert!(are_right(&built));
    let at = if server.is_ipv4() { 20 } else { 40 } + 16;
    recorded.splice(at..at + 2, built[at..at + 2].iter().copied());
    assert_eq!(built, recorded);
}

#[test]
fn a_syn_is_linuxs_byte_by_byte() {
    is_as_recorded(1460, SYN, |_, _| {});
    is_as_recorded(65_495, SYN_LO, |_, _| {});
    is_as_recorded(65_476, SYN_LO_V6, |_, _| {});
}

#[test]
fn what_follows_is_linuxs_byte_by_byte() {
    let now = Stamp(1_000_000_000);
    is_as_recorded(65_495, ACK_LO, |_, _| {});
    is_as_recorded(65_495, DATA_LO, |engine, id| engine.write(now, id, 5));
    is_as_recorded(65_495, FIN_LO, |engine, id| {
        engine.close(now, id, Close::Fin)
    });
    is_as_recorded(65_495, RST_LO, |engine, id| {
        engine.close(now, id, Close::Rst)
    });
    is_as_recorded(65_476, DATA_LO_V6, |engine, id| engine.write(now, id, 5));
}

#[test]
fn a_changed_byte_shows_in_the_checksum() {
    for six in [false, true] {
        let mut engine = Engine::new(config(six));
        engine.open(Stamp(0), client(six), Handshake::Full);
        let syn = engine.poll_transmit(Stamp(0)).unwrap();
        let mut packet = vec![0; syn.packet_len()];
        syn.write(b"", &mut packet).unwrap();
        assert!(are_right(&packet));
        // Traffic class, flow label and hop limit are in no checksum of IPv6.
        let covered = if six {
            8..packet.len()
        } else {
            0..packet.len()
        };
        for at in covered {
            packet[at] ^= 0x10;
            assert!(!are_right(&packet), "byte {at}");
            packet[at] ^= 0x10;
        }
        assert!(!are_right(&packet[..packet.len() - 1]));
        assert!(!are_right(b""));
    }
}

#[test]
fn a_packet_that_does_not_fit_is_not_written() {
    let mut engine = Engine::new(config(false));
    engine.open(Stamp(0), client(false), Handshake::Full);
    let syn = engine.poll_transmit(Stamp(0)).unwrap();
    assert_eq!(syn.packet_len(), 60);
    assert_eq!(syn.write(b"", &mut [0; 59]), None);
    assert_eq!(syn.write(b"x", &mut [0; 99]), None);
    assert_eq!(syn.write(b"", &mut [0; 99]), Some(60));
}

#[test]
fn a_port_used_again_goes_on_where_it_stopped() {
    let mut engine = Engine::new(config(false));
    let mut earlier: Option<(u32, u32)> = None;
    for i in 0..5_000_i64 {
        // A connection of 20 microseconds and 100 bytes.
        let now = Stamp(1_700_000_000_000_000_000 + i * 20_000);
        let id = engine.open(now, client(false), Handshake::Full).unwrap();
        let syn = engine.poll_transmit(now).unwrap();
        let (value, _) = syn.options.timestamps.unwrap();
        if let Some((seq, stamp)) = earlier {
            assert!(syn.seq.wrapping_sub(seq).cast_signed() > 100);
            assert!(value.wrapping_sub(stamp) < 2);
        }
        earlier = Some((syn.seq, value));
        engine.close(now, id, Close::Forget);
        assert_eq!(engine.poll_event(), Some((id, Event::Gone)));
        assert_eq!(engine.status(id), None);
    }
}

#[test]
fn ports_begin_at_numbers_that_have_nothing_to_do_with_each_other() {
    let mut engine = Engine::new(config(false));
    let now = Stamp(1_700_000_000_000_000_000);
    let mut seen = std::collections::HashSet::new();
    for port in 1_000..2_000 {
        let mut from = client(false);
        from.set_port(port);
        engine.open(now, from, Handshake::Full).unwrap();
        let syn = engine.poll_transmit(now).unwrap();
        let (value, _) = syn.options.timestamps.unwrap();
        assert!(
            seen.insert(syn.seq >> 8) && seen.insert(value),
            "port {port}"
        );
    }
    let mut other = Engine::new(Config {
        seed: 8,
        ..config(false)
    });
    other.open(now, client(false), Handshake::Full);
    let mut same = Engine::new(config(false));
    same.open(now, client(false), Handshake::Full);
    let (other, same) = (
        other.poll_transmit(now).unwrap(),
        same.poll_transmit(now).unwrap(),
    );
    assert_ne!(other.seq, same.seq);
}

fn any_options() -> impl Strategy<Value = SendOptions> {
    (
        any::<Option<u16>>(),
        any::<bool>(),
        any::<Option<(u32, u32)>>(),
        proptest::option::of(0_u8..=14),
        proptest::collection::vec(any::<(u32, u32)>(), 0..4),
    )
        .prop_map(|(mss, sack_permitted, timestamps, window_scale, blocks)| {
            let mut sack = SackBlocks::default();
            // A SYN has none; with everything else they would not fit.
            if mss.is_none() && window_scale.is_none() {
                blocks.iter().for_each(|&(from, to)| sack.push(from, to));
            }
            SendOptions {
                mss,
                sack_permitted: sack_permitted && sack.as_slice().is_empty(),
                timestamps,
                window_scale,
                sack,
            }
        })
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(
        six in any::<bool>(),
        numbers in any::<(u32, u32, u16, u16, u8)>(),
        options in any_options(),
        start in 0_u64..u64::MAX / 2,
        len in 0_u64..3_000,
    ) {
        let (seq, ack, window, ip_id, flags) = numbers;
        let transmit = Transmit {
            id: None,
            client: client(six),
            server: config(six).server,
            seq,
            ack,
            flags: Flags(flags),
            window,
            options,
            ip_id,
            flow_label: seq & 0xf_ffff,
            payload: start..start + len,
        };
        read_back(&transmit);
        let mut packet = vec![0; transmit.packet_len()];
        transmit.write(&bytes(false, start..start + len), &mut packet).unwrap();
        if six {
            prop_assert_eq!(u32::from_be_bytes(packet[..4].try_into().unwrap()), 0x6000_0000 | seq & 0xf_ffff);
        } else {
            prop_assert_eq!(&packet[6..9], &[0x40, 0, 64]);
        }
    }
}
