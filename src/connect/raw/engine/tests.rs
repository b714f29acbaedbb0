use super::*;
use crate::wire::{Flags, Options, Packet, parse};

#[test]
fn a_handshake_is_three_segments() {
    let config = Config {
        server: "10.0.0.2:9292".parse().unwrap(),
        mss: 1460,
        receive_buffer: 65_536,
        window_scale: 10,
        seed: 7,
    };
    let client = "10.0.0.1:40000".parse().unwrap();
    let mut engine = Engine::new(config);
    let now = Stamp(1_000_000_000);
    let id = engine.open(now, client, Handshake::Full).unwrap();
    assert_eq!(engine.open(now, client, Handshake::Full), None);
    let syn = engine.poll_transmit(now).unwrap();
    let mut bytes = [0; 100];
    let len = syn.write(b"", &mut bytes).unwrap();
    assert!(has_valid_checksums(&bytes[..len]));
    let Ok(Packet::Segment(syn)) = parse(now, &bytes[..len], len) else {
        panic!("no segment");
    };
    assert_eq!((syn.flags, syn.window), (Flags::SYN, 64_240));
    let answer = Segment {
        src: syn.dst,
        dst: syn.src,
        seq: 500,
        ack: syn.seq + 1,
        flags: Flags::SYN.with(Flags::ACK),
        options: Options {
            timestamps: Some((9, syn.options.timestamps.unwrap().0)),
            ..syn.options
        },
        ..syn.clone()
    };
    assert_eq!(
        engine.handle_segment(now, &answer, &mut |_, _| {}),
        Some(id)
    );
    assert_eq!(engine.poll_event(), Some((id, Event::Connected)));
    let ack = engine.poll_transmit(now).unwrap();
    assert_eq!(
        (ack.flags, ack.seq, ack.ack),
        (Flags::ACK, syn.seq + 1, 501)
    );
    assert_eq!(engine.poll_transmit(now), None);
    assert_eq!(engine.status(id).unwrap().state, State::Established);
}
