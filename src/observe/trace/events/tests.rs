//! Records of this kernel's layout and of others', built by hand.

use super::*;

/// A format file: each field as (type and name, bytes), placed one behind the other and aligned as C
/// does, and the common ones before them.
fn format(id: u16, fields: &[(&str, usize)], print: &str) -> Format {
    let mut text = format!(
        "name: made_up\nID: {id}\nformat:\n\
         \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
         \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
         \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
         \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
    );
    let mut offset = 8;
    for (declaration, size) in fields {
        let align = if declaration.ends_with(']') { 1 } else { *size };
        offset = offset_of(offset, align);
        text += &format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:0;\n");
        offset += size;
    }
    text += &format!("\nprint fmt: {print}\n");
    Format::parse(&text).unwrap()
}

fn offset_of(offset: usize, align: usize) -> usize {
    offset.next_multiple_of(align)
}

/// A record of thread 42: named fields' values, as the kernel would write them.
fn record(format: &Format, flags: u8, values: &[(&str, &[u8])]) -> Vec<u8> {
    let mut record = vec![0; 128];
    let id = format.id.to_ne_bytes();
    let common = [
        ("common_type", &id[..]),
        ("common_flags", &[flags]),
        ("common_pid", &42_i32.to_ne_bytes()),
    ];
    for (name, value) in common.iter().chain(values) {
        let at = format.field(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(at.size, value.len(), "{name}");
        record[at.offset..at.offset + at.size].copy_from_slice(value);
    }
    record
}

fn wanted(name: &str) -> &'static Wanted {
    WANTED.iter().find(|wanted| wanted.name == name).unwrap()
}

/// A decoder for port 9292 that knows one event, and what that lacks.
fn learned(name: &str, format: &Format) -> (Decoder, Option<String>) {
    let mut decoder = Decoder::new(9292);
    let lacks = decoder.learn(wanted(name), format).unwrap();
    (decoder, lacks)
}

fn what(decoder: &Decoder, record: &[u8]) -> Option<TracedWhat> {
    match decoder.read(record)?.seen {
        Seen::Socket(what) => Some(what),
        other => panic!("{other:?}"),
    }
}

const SOCKET: &[(&str, usize)] = &[
    ("const void * skaddr", 8),
    ("__u16 sport", 2),
    ("__u16 dport", 2),
    ("__u16 family", 2),
    ("__u8 saddr[4]", 4),
    ("__u8 daddr[4]", 4),
    ("__u8 saddr_v6[16]", 16),
    ("__u8 daddr_v6[16]", 16),
];

fn ends(client: &str, server: &str) -> Ends {
    Ends {
        client: client.parse().unwrap(),
        server: server.parse().unwrap(),
    }
}

const POINTER: u64 = 0xffff_8880_0000_1234;

/// A read on a socket of `family` whose addresses are these.
fn read_event(format: &Format, family: u16, sport: u16, v4: [u8; 4], v6: &str) -> Vec<u8> {
    let v6: Ipv6Addr = v6.parse().unwrap();
    record(
        format,
        0,
        &[
            ("skaddr", &POINTER.to_ne_bytes()),
            ("sport", &sport.to_ne_bytes()),
            ("dport", &5555_u16.to_ne_bytes()),
            ("family", &family.to_ne_bytes()),
            ("saddr", &v4),
            ("daddr", &v4),
            ("saddr_v6", &v6.octets()),
            ("daddr_v6", &v6.octets()),
        ],
    )
}

#[test]
fn a_socket_is_known_by_its_ends_whatever_its_family() {
    let format = format(7, SOCKET, "\"\"");
    let (decoder, lacks) = learned("tcp_rcv_space_adjust", &format);
    assert_eq!(lacks, None);
    let read = |family, v4, v6| what(&decoder, &read_event(&format, family, 9292, v4, v6));
    let found = |client, server| {
        Some(TracedWhat::Read {
            ends: ends(client, server),
            socket: POINTER,
        })
    };
    let v4 = found("10.0.0.9:5555", "10.0.0.9:9292");
    assert_eq!(read(AF_INET, [10, 0, 0, 9], "::ffff:10.0.0.9"), v4);
    // A dual-stack server's.
    assert_eq!(read(AF_INET6, [10, 0, 0, 9], "::ffff:10.0.0.9"), v4);
    let v6 = found("[fd00::1]:5555", "[fd00::1]:9292");
    assert_eq!(read(AF_INET6, [0; 4], "fd00::1"), v6);
}

#[test]
fn sockets_of_other_ports_are_left_out() {
    let format = format(7, SOCKET, "\"\"");
    let (decoder, _) = learned("tcp_rcv_space_adjust", &format);
    let other = read_event(&format, AF_INET, 9293, [10, 0, 0, 9], "::");
    assert_eq!(decoder.read(&other), None);
}

#[test]
fn a_kernel_without_ipv6_has_its_ipv4_addresses() {
    let format = format(7, &SOCKET[..6], "\"\"");
    let (decoder, _) = learned("tcp_receive_reset", &format);
    let record = record(
        &format,
        0,
        &[
            ("sport", &9292_u16.to_ne_bytes()),
            ("saddr", &[10, 0, 0, 9]),
        ],
    );
    let received = TracedWhat::ResetReceived {
        ends: ends("0.0.0.0:0", "10.0.0.9:9292"),
        socket: 0,
    };
    assert_eq!(what(&decoder, &record), Some(received));
}

/// As from 6.10 on.
const SEND_RESET: &[(&str, usize)] = &[
    ("const void * skbaddr", 8),
    ("const void * skaddr", 8),
    ("int state", 4),
    ("enum sk_rst_reason reason", 4),
    ("__u8 saddr[28]", 28),
    ("__u8 daddr[28]", 28),
];
const REASONS: &str = "\"reason=%s\", __print_symbolic(REC->reason, { 1, \"NO_SOCKET\" }, \
    { 14, \"TCP_STATE\" })";

fn sockaddr_bytes(address: &str) -> [u8; 28] {
    let address: SocketAddr = address.parse().unwrap();
    let mut bytes = [0; 28];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            bytes[4..8].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            bytes[8..24].copy_from_slice(&ip.octets());
        }
    }
    bytes
}

fn reset(format: &Format, socket: u64, reason: u32, src: &str, dst: &str) -> Vec<u8> {
    record(
        format,
        0,
        &[
            ("skaddr", &socket.to_ne_bytes()),
            ("state", &7_u32.to_ne_bytes()),
            ("reason", &reason.to_ne_bytes()),
            ("saddr", &sockaddr_bytes(src)),
            ("daddr", &sockaddr_bytes(dst)),
        ],
    )
}

#[test]
fn a_reset_has_its_reason_in_the_kernels_words() {
    let format = format(8, SEND_RESET, REASONS);
    let (decoder, lacks) = learned("tcp_send_reset", &format);
    assert_eq!(lacks, None);
    let sent = |socket: Option<u64>, reason: &str, ends: Ends| {
        Some(TracedWhat::ResetSent {
            ends,
            socket,
            state: Some(TcpState::Close),
            reason: Some(reason.into()),
        })
    };
    let v4 = ends("127.0.0.1:5555", "127.0.0.1:9292");
    let found = reset(&format, POINTER, 14, "127.0.0.1:9292", "127.0.0.1:5555");
    assert_eq!(what(&decoder, &found), sent(Some(POINTER), "TCP_STATE", v4));
    let found = reset(
        &format,
        0,
        99,
        "[::ffff:127.0.0.1]:9292",
        "[::ffff:127.0.0.1]:5555",
    );
    assert_eq!(what(&decoder, &found), sent(None, "99", v4));
    let v6 = ends("[::1]:5555", "[::1]:9292");
    let found = reset(&format, 0, 1, "[::1]:9292", "[::1]:5555");
    assert_eq!(what(&decoder, &found), sent(None, "NO_SOCKET", v6));
}

#[test]
fn a_reset_that_the_client_sends_is_not_the_servers() {
    let format = format(8, SEND_RESET, REASONS);
    let (decoder, _) = learned("tcp_send_reset", &format);
    let clients = reset(&format, POINTER, 14, "127.0.0.1:5555", "127.0.0.1:9292");
    assert_eq!(decoder.read(&clients), None);
}

#[test]
fn before_6_10_a_reset_has_no_reason() {
    // As DEFINE_EVENT(tcp_event_sk_skb, tcp_send_reset) had it.
    let fields = [
        &[
            ("const void * skbaddr", 8),
            ("const void * skaddr", 8),
            ("int state", 4),
        ],
        &SOCKET[1..],
    ]
    .concat();
    let format = format(8, &fields, "\"\"");
    let (decoder, lacks) = learned("tcp_send_reset", &format);
    assert_eq!(
        lacks.as_deref(),
        Some("tcp:tcp_send_reset has no reason in this kernel: why a reset was sent is not seen")
    );
    let record = record(
        &format,
        0,
        &[
            ("skaddr", &POINTER.to_ne_bytes()),
            ("state", &7_u32.to_ne_bytes()),
            ("sport", &9292_u16.to_ne_bytes()),
            ("dport", &5555_u16.to_ne_bytes()),
            ("family", &AF_INET.to_ne_bytes()),
            ("saddr", &[127, 0, 0, 1]),
            ("daddr", &[127, 0, 0, 1]),
        ],
    );
    let sent = TracedWhat::ResetSent {
        ends: ends("127.0.0.1:5555", "127.0.0.1:9292"),
        socket: Some(POINTER),
        state: Some(TcpState::Close),
        reason: None,
    };
    assert_eq!(what(&decoder, &record), Some(sent));
    let filter = wanted("tcp_send_reset").filter(&format, 9292);
    assert_eq!(filter.as_deref(), Some("sport == 9292"));
}

/// A listener that closes; `width` is that of the protocol, a byte before 5.6 and two since.
fn state_event(width: usize, protocol: &[u8]) -> Option<TracedWhat> {
    let name = if width == 1 {
        "__u8 protocol"
    } else {
        "__u16 protocol"
    };
    let fields = [
        &[SOCKET[0], ("int oldstate", 4), ("int newstate", 4)],
        &SOCKET[1..4],
        &[(name, width)],
        &SOCKET[4..],
    ]
    .concat();
    let format = format(9, &fields, "\"\"");
    let (decoder, _) = learned("inet_sock_set_state", &format);
    let filter = wanted("inet_sock_set_state").filter(&format, 9292);
    assert_eq!(filter.as_deref(), Some("sport == 9292 && protocol == 6"));
    let record = record(
        &format,
        0x80,
        &[
            ("skaddr", &POINTER.to_ne_bytes()),
            ("oldstate", &10_u32.to_ne_bytes()),
            ("newstate", &7_u32.to_ne_bytes()),
            ("sport", &9292_u16.to_ne_bytes()),
            ("family", &AF_INET6.to_ne_bytes()),
            ("protocol", protocol),
        ],
    );
    let held_off = Context::Thread { bh_off: true };
    assert!(
        decoder
            .read(&record)
            .is_none_or(|event| event.context == held_off)
    );
    what(&decoder, &record)
}

#[test]
fn a_state_is_read_with_a_protocol_of_either_width() {
    let closed = TracedWhat::State {
        ends: ends("[::]:0", "[::]:9292"),
        socket: POINTER,
        from: Some(TcpState::Listen),
        to: Some(TcpState::Close),
    };
    assert_eq!(state_event(1, &[6]), Some(closed.clone()));
    assert_eq!(state_event(2, &6_u16.to_ne_bytes()), Some(closed));
    assert_eq!(state_event(1, &[132]), None);
    // MPTCP's number does not fit into a byte.
    assert_eq!(state_event(2, &262_u16.to_ne_bytes()), None);
}

#[test]
fn interrupts_are_told_from_softirqs_held_off() {
    let format = format(7, SOCKET, "\"\"");
    let (decoder, _) = learned("tcp_rcv_space_adjust", &format);
    let context = |flags| {
        let mut record = read_event(&format, AF_INET, 9292, [10, 0, 0, 9], "::");
        record[2] = flags;
        decoder.read(&record).unwrap().context
    };
    let contexts = |all: [u8; 4]| all.map(context);
    let thread = |bh_off| [Context::Thread { bh_off }; 4];
    assert_eq!(contexts([0, 0x01, 0x04, 0x20]), thread(false));
    assert_eq!(contexts([0x80, 0x81, 0x84, 0xa0]), thread(true));
    assert_eq!(contexts([0x08, 0x10, 0x40, 0x91]), [Context::Interrupt; 4]);
}

#[test]
fn processes_are_read_with_and_without_what_later_kernels_add() {
    let exit = |fields: &[(&str, usize)], values: &[(&str, &[u8])]| {
        let format = format(4, fields, "\"\"");
        let (decoder, lacks) = learned("sched_process_exit", &format);
        let seen = decoder.read(&record(&format, 0, values)).unwrap().seen;
        (seen, lacks.is_some())
    };
    let name = *b"puma\0\0\0\0\0\0\0\0\0\0\0\0";
    let comm = Some(Comm::new(b"puma"));
    let old = [("char comm[16]", 16), ("pid_t pid", 4), ("int prio", 4)];
    let last = None;
    assert_eq!(
        exit(&old, &[("comm", &name)]),
        (Seen::Exit { last, comm }, true)
    );
    let new = [&old[..], &[("bool group_dead", 1)]].concat();
    for dead in [false, true] {
        let values = [("comm", &name[..]), ("group_dead", &[u8::from(dead)])];
        let last = Some(dead);
        assert_eq!(exit(&new, &values), (Seen::Exit { last, comm }, false));
    }

    let fields = [
        ("pid_t pid", 4),
        ("char comm[16]", 16),
        ("unsigned long clone_flags", 8),
    ];
    let format = format(5, &fields, "\"\"");
    let (decoder, _) = learned("task_newtask", &format);
    for (flags, thread) in [(0x003d_0f00_u64, true), (0x0120_0000, false)] {
        let values = [
            ("pid", &43_u32.to_ne_bytes()[..]),
            ("clone_flags", &flags.to_ne_bytes()),
        ];
        let event = decoder.read(&record(&format, 0, &values)).unwrap();
        assert_eq!(event.tid, 42);
        assert_eq!(event.seen, Seen::Birth { tid: 43, thread });
    }
}

#[test]
fn calls_are_read_as_their_arguments_types() {
    let format = format(6, &[("int __syscall_nr", 4), ("long ret", 8)], "\"\"");
    let seen = |name, result: i64| {
        let (decoder, _) = learned(name, &format);
        let record = record(&format, 0, &[("ret", &result.to_ne_bytes())]);
        decoder.read(&record).map(|event| event.seen)
    };
    let again = Seen::AcceptLeft { result: -11 };
    assert_eq!(seen("sys_exit_accept4", -11), Some(again));
    assert_eq!(seen("sys_exit_shutdown", 0), Some(Seen::ShutDown));
    assert_eq!(seen("sys_exit_shutdown", -107), None);
}

#[test]
fn a_signal_that_was_ignored_was_not_sent() {
    let fields = [("int sig", 4), ("pid_t pid", 4), ("int result", 4)];
    let format = format(3, &fields, "\"\"");
    let (decoder, _) = learned("signal_generate", &format);
    let seen = |result: u32| {
        let values = [
            ("sig", &15_u32.to_ne_bytes()[..]),
            ("pid", &77_u32.to_ne_bytes()),
            ("result", &result.to_ne_bytes()),
        ];
        decoder.read(&record(&format, 0, &values)).map(|e| e.seen)
    };
    let (signal, tid) = (15, 77);
    assert_eq!(seen(0), Some(Seen::SignalSent { signal, tid }));
    assert_eq!(seen(1), None);
}

#[test]
fn an_event_without_a_field_that_it_needs_is_lacking() {
    let format = format(7, &SOCKET[1..], "\"\"");
    let lacks = Decoder::new(9292).learn(wanted("tcp_rcv_space_adjust"), &format);
    assert_eq!(
        lacks.unwrap_err(),
        "tcp:tcp_rcv_space_adjust has no field skaddr in this kernel: whether a process read a \
         request is not seen"
    );
}

#[test]
fn records_of_unknown_events_and_short_ones_say_nothing() {
    let format = format(7, SOCKET, "\"\"");
    let (decoder, _) = learned("tcp_rcv_space_adjust", &format);
    let whole = read_event(&format, AF_INET, 9292, [10, 0, 0, 9], "::");
    assert!(decoder.read(&whole).is_some());
    for len in 0..30 {
        assert_eq!(decoder.read(&whole[..len]), None, "{len}");
    }
    let mut unknown = whole;
    unknown[..2].copy_from_slice(&8_u16.to_ne_bytes());
    assert_eq!(decoder.read(&unknown), None);
}
