use super::*;
use pnet_packet::icmp::MutableIcmpPacket;
use pnet_packet::ip::IpNextHeaderProtocols as Proto;
use pnet_packet::ipv4::MutableIpv4Packet;
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::MutableTcpPacket;
use proptest::prelude::*;

/// A TCP header with `options` bytes of padding behind it, then `payload`.
fn tcp(flags: Flags, options: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1; 20 + options];
    let mut packet = MutableTcpPacket::new(&mut bytes).unwrap();
    packet.set_source(40_000);
    packet.set_destination(9_292);
    packet.set_sequence(7);
    packet.set_acknowledgement(8);
    packet.set_flags(flags.0);
    packet.set_window(512);
    packet.set_data_offset(u8::try_from(5 + options / 4).unwrap());
    bytes.extend_from_slice(payload);
    bytes
}

fn ipv4(inner: &[u8], change: impl FnOnce(&mut MutableIpv4Packet<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes.extend_from_slice(inner);
    let total = u16::try_from(bytes.len()).unwrap();
    let mut packet = MutableIpv4Packet::new(&mut bytes).unwrap();
    packet.set_version(4);
    packet.set_header_length(5);
    packet.set_total_length(total);
    packet.set_identification(99);
    packet.set_next_level_protocol(Proto::Tcp);
    packet.set_source([10, 0, 0, 1].into());
    packet.set_destination([10, 0, 0, 2].into());
    change(&mut packet);
    bytes
}

fn ipv6(next: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    bytes.extend_from_slice(inner);
    let len = u16::try_from(inner.len()).unwrap();
    let mut packet = MutableIpv6Packet::new(&mut bytes).unwrap();
    packet.set_version(6);
    packet.set_payload_length(len);
    packet.set_next_header(pnet_packet::ip::IpNextHeaderProtocol(next));
    packet.set_source("fd00::1".parse().unwrap());
    packet.set_destination("fd00::2".parse().unwrap());
    bytes
}

fn read(bytes: &[u8]) -> Result<Packet<'_>, ParseError> {
    parse(Stamp(5), bytes, bytes.len())
}

fn segment(bytes: &[u8]) -> Segment<'static> {
    match read(bytes) {
        Ok(Packet::Segment(segment)) => segment.into_owned(),
        other => panic!("{other:?} is no segment"),
    }
}

#[test]
fn a_segment_over_ipv4_is_read() {
    let syn = segment(&ipv4(&tcp(Flags::SYN, 0, b""), |_| {}));
    assert_eq!(syn.src, "10.0.0.1:40000".parse().unwrap());
    assert_eq!(syn.dst, "10.0.0.2:9292".parse().unwrap());
    assert_eq!(
        (syn.seq, syn.ack, syn.window, syn.ip_id),
        (7, 8, 512, Some(99))
    );
    assert_eq!((syn.flags, syn.len, syn.at), (Flags::SYN, 0, Stamp(5)));
}

#[test]
fn a_segment_over_ipv6_is_read_behind_extension_headers() {
    let inner = tcp(Flags::ACK, 0, b"hello");
    let plain = segment(&ipv6(Proto::Tcp.0, &inner));
    assert_eq!((plain.len, plain.ip_id), (5, None));
    let mut extended = vec![Proto::Tcp.0, 1];
    extended.extend_from_slice(&[0; 14]);
    extended.extend_from_slice(&inner);
    assert_eq!(
        &*segment(&ipv6(Proto::Ipv6Opts.0, &extended)).payload,
        b"hello"
    );
}

#[test]
fn lengths_are_those_of_the_wire() {
    let whole = ipv4(&tcp(Flags::ACK, 12, b"0123456789"), |_| {});
    let cut = segment(&whole[..whole.len() - 4]);
    assert_eq!((cut.len, &*cut.payload, cut.cut()), (10, &b"012345"[..], 4));
    // Padding of short Ethernet frames is no payload.
    let mut padded = whole.clone();
    padded.extend_from_slice(&[0; 6]);
    assert_eq!(segment(&padded).len, 10);
    // BIG TCP leaves the IP length at 0.
    let big = ipv4(&tcp(Flags::ACK, 0, b"0123456789"), |p| {
        p.set_total_length(0)
    });
    assert_eq!(segment(&big).len, 10);
}

#[test]
fn fragments_are_not_guessed_at() {
    let first = ipv4(&tcp(Flags::ACK, 0, b"x"), |p| p.set_flags(0b001));
    let later = ipv4(b"xxxxxxxx", |p| p.set_fragment_offset(185));
    let v6 = ipv6(Proto::Ipv6Frag.0, &[Proto::Tcp.0, 0, 0, 1, 0, 0, 0, 1]);
    for bytes in [first, later, v6] {
        assert_eq!(read(&bytes), Ok(Packet::Fragment));
    }
    // An atomic fragment is whole (RFC 6946).
    let mut atomic = vec![Proto::Tcp.0, 0, 0, 0, 0, 0, 0, 1];
    atomic.extend_from_slice(&tcp(Flags::SYN, 0, b""));
    assert_eq!(segment(&ipv6(Proto::Ipv6Frag.0, &atomic)).flags, Flags::SYN);
}

#[test]
fn an_icmp_error_names_the_segment_it_quotes() {
    let quoted = ipv4(&tcp(Flags::SYN, 0, b""), |_| {});
    let mut icmp = vec![0; 8];
    icmp.extend_from_slice(&quoted[..28]);
    let mut packet = MutableIcmpPacket::new(&mut icmp).unwrap();
    packet.set_icmp_type(pnet_packet::icmp::IcmpType(3));
    packet.set_icmp_code(pnet_packet::icmp::IcmpCode(3));
    let bytes = ipv4(&icmp, |p| p.set_next_level_protocol(Proto::Icmp));
    let Ok(Packet::IcmpError(error)) = read(&bytes) else {
        panic!("no ICMP error");
    };
    assert_eq!(error.src, "10.0.0.1:40000".parse().unwrap());
    assert_eq!(error.seq, 7);
    assert!(error.is_refusal() && error.ends_connecting());
}

#[test]
fn an_icmpv6_error_names_the_segment_it_quotes() {
    let mut icmp = vec![1, 1, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(&ipv6(Proto::Tcp.0, &tcp(Flags::SYN, 0, b"")));
    let Ok(Packet::IcmpError(error)) = read(&ipv6(Proto::Icmpv6.0, &icmp)) else {
        panic!("no ICMP error");
    };
    assert_eq!(error.dst, "[fd00::2]:9292".parse().unwrap());
    // Administratively prohibited: EACCES, not refused.
    assert!(!error.is_refusal() && error.ends_connecting());
}

#[test]
fn broken_headers_are_errors() {
    assert_eq!(read(b""), Err(ParseError::Short("IP")));
    assert_eq!(read(&[0x50; 40]), Err(ParseError::Version(5)));
    assert_eq!(read(&[0x45; 10]), Err(ParseError::Short("IPv4")));
    let short = ipv4(&tcp(Flags::ACK, 0, b""), |p| p.set_header_length(4));
    assert_eq!(read(&short), Err(ParseError::Length("IPv4")));
    let mut overrun = tcp(Flags::ACK, 0, b"");
    overrun[12] = 0xf0;
    assert_eq!(
        read(&ipv4(&overrun, |_| {})),
        Err(ParseError::Length("TCP"))
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), len in 0_usize..200) {
        let _ = parse(Stamp(0), &bytes, len);
    }

    #[test]
    fn no_damage_to_a_packet_panics(
        at in any::<proptest::sample::Index>(),
        to in any::<u8>(),
        keep in any::<proptest::sample::Index>(),
        v6 in any::<bool>(),
    ) {
        let inner = tcp(Flags::ACK, 12, b"0123456789");
        let mut bytes = if v6 { ipv6(Proto::Tcp.0, &inner) } else { ipv4(&inner, |_| {}) };
        let at = at.index(bytes.len());
        bytes[at] = to;
        bytes.truncate(keep.index(bytes.len() + 1));
        if let Ok(Packet::Segment(segment)) = read(&bytes) {
            prop_assert!(segment.payload.len() <= segment.len as usize);
        }
    }
}
