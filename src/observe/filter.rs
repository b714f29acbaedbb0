//! The classic BPF program that lets through what concerns the target and nothing else: its TCP
//! segments both ways, and ICMP errors. It sees packets from the network header on.

use std::net::{IpAddr, SocketAddr};

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K,
    BPF_LD, BPF_LDX, BPF_MSH, BPF_RET, BPF_W, sock_filter,
};

const TCP: u32 = 6;
const ICMP: u32 = 1;
const ICMP_V6: u32 = 58;
/// IPv6 extension headers: hop-by-hop, routing, fragment, destination options.
const EXTENSIONS: [u32; 4] = [0, 43, 44, 60];

/// Where a branch goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goto {
    Next,
    Accept,
    Reject,
    Label(usize),
}

enum Line {
    Plain(sock_filter),
    Branch {
        code: u32,
        k: u32,
        yes: Goto,
        no: Goto,
    },
    Label(usize),
}

/// The program for `target`; of an accepted packet `snap` bytes are kept.
pub(crate) fn program(target: SocketAddr, snap: u32) -> Vec<sock_filter> {
    let mut lines = match target.ip() {
        IpAddr::V4(ip) => ipv4(u32::from(ip), target.port().into()),
        IpAddr::V6(ip) => ipv6(ip.octets(), target.port().into()),
    };
    assemble(&mut lines, snap)
}

fn ipv4(address: u32, port: u32) -> Vec<Line> {
    const TCP_PART: usize = 0;
    const WHOLE: usize = 1;
    const TO_SERVER: usize = 2;
    const FRAGMENT: usize = 3;
    vec![
        load(BPF_B, BPF_ABS, 0),
        and(0xf0),
        branch(BPF_JEQ, 0x40, Goto::Next, Goto::Reject),
        load(BPF_B, BPF_ABS, 9),
        branch(BPF_JEQ, TCP, Goto::Label(TCP_PART), Goto::Next),
        branch(BPF_JEQ, ICMP, Goto::Next, Goto::Reject),
        header_length(),
        load(BPF_B, BPF_IND, 0),
        // Errors: destination unreachable, source quench, time exceeded, parameter problem.
        branch(BPF_JEQ, 3, Goto::Accept, Goto::Next),
        branch(BPF_JEQ, 4, Goto::Accept, Goto::Next),
        branch(BPF_JEQ, 11, Goto::Accept, Goto::Next),
        branch(BPF_JEQ, 12, Goto::Accept, Goto::Reject),
        Line::Label(TCP_PART),
        load(BPF_H, BPF_ABS, 6),
        // Later fragments have no ports: the addresses must do.
        branch(BPF_JSET, 0x1fff, Goto::Label(FRAGMENT), Goto::Label(WHOLE)),
        Line::Label(FRAGMENT),
        load(BPF_W, BPF_ABS, 12),
        branch(BPF_JEQ, address, Goto::Accept, Goto::Next),
        load(BPF_W, BPF_ABS, 16),
        branch(BPF_JEQ, address, Goto::Accept, Goto::Reject),
        Line::Label(WHOLE),
        header_length(),
        load(BPF_W, BPF_ABS, 12),
        branch(BPF_JEQ, address, Goto::Next, Goto::Label(TO_SERVER)),
        load(BPF_H, BPF_IND, 0),
        branch(BPF_JEQ, port, Goto::Accept, Goto::Label(TO_SERVER)),
        Line::Label(TO_SERVER),
        load(BPF_W, BPF_ABS, 16),
        branch(BPF_JEQ, address, Goto::Next, Goto::Reject),
        load(BPF_H, BPF_IND, 2),
        branch(BPF_JEQ, port, Goto::Accept, Goto::Reject),
    ]
}

fn ipv6(address: [u8; 16], port: u32) -> Vec<Line> {
    const TCP_PART: usize = 0;
    const TO_SERVER: usize = 1;
    const EXTENDED: usize = 2;
    const EXTENDED_TO_SERVER: usize = 3;
    let mut lines = vec![
        load(BPF_B, BPF_ABS, 0),
        and(0xf0),
        branch(BPF_JEQ, 0x60, Goto::Next, Goto::Reject),
        load(BPF_B, BPF_ABS, 6),
        branch(BPF_JEQ, TCP, Goto::Label(TCP_PART), Goto::Next),
    ];
    for header in EXTENSIONS {
        lines.push(branch(BPF_JEQ, header, Goto::Label(EXTENDED), Goto::Next));
    }
    lines.push(branch(BPF_JEQ, ICMP_V6, Goto::Next, Goto::Reject));
    lines.push(load(BPF_B, BPF_ABS, 40));
    // Types from 128 on inform, those below are errors (RFC 4443 2.1).
    lines.push(branch(BPF_JGE, 128, Goto::Reject, Goto::Accept));
    lines.push(Line::Label(TCP_PART));
    lines.extend(same_address(8, address, Goto::Label(TO_SERVER)));
    lines.push(load(BPF_H, BPF_ABS, 40));
    lines.push(branch(BPF_JEQ, port, Goto::Accept, Goto::Label(TO_SERVER)));
    lines.push(Line::Label(TO_SERVER));
    lines.extend(same_address(24, address, Goto::Reject));
    lines.push(load(BPF_H, BPF_ABS, 42));
    lines.push(branch(BPF_JEQ, port, Goto::Accept, Goto::Reject));
    // Behind extension headers the ports are left to the parser.
    lines.push(Line::Label(EXTENDED));
    lines.extend(same_address(8, address, Goto::Label(EXTENDED_TO_SERVER)));
    lines.push(ret_accept());
    lines.push(Line::Label(EXTENDED_TO_SERVER));
    lines.extend(same_address(24, address, Goto::Reject));
    lines.push(ret_accept());
    lines
}

/// Falls through where the sixteen bytes at `offset` are `address`.
fn same_address(offset: u32, address: [u8; 16], otherwise: Goto) -> Vec<Line> {
    let (words, _) = address.as_chunks::<4>();
    let mut lines = Vec::new();
    for (at, word) in (offset..).step_by(4).zip(words) {
        lines.push(load(BPF_W, BPF_ABS, at));
        lines.push(branch(
            BPF_JEQ,
            u32::from_be_bytes(*word),
            Goto::Next,
            otherwise,
        ));
    }
    lines
}

fn load(size: u32, mode: u32, k: u32) -> Line {
    Line::Plain(instruction(BPF_LD | size | mode, 0, 0, k))
}

/// X = the IPv4 header's length.
fn header_length() -> Line {
    Line::Plain(instruction(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0))
}

fn and(k: u32) -> Line {
    Line::Plain(instruction(BPF_ALU | BPF_AND | BPF_K, 0, 0, k))
}

fn branch(test: u32, k: u32, yes: Goto, no: Goto) -> Line {
    let code = BPF_JMP | test | BPF_K;
    Line::Branch { code, k, yes, no }
}

/// Always accept, whatever was compared last.
fn ret_accept() -> Line {
    branch(BPF_JGE, 0, Goto::Accept, Goto::Accept)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    let code = u16::try_from(code).unwrap_or(u16::MAX);
    sock_filter { code, jt, jf, k }
}

/// Resolves branches to forward distances, accept and reject standing at the end.
fn assemble(lines: &mut Vec<Line>, snap: u32) -> Vec<sock_filter> {
    let mut labels = Vec::new();
    let mut at = 0;
    for line in lines.iter() {
        match line {
            Line::Label(label) => labels.push((*label, at)),
            Line::Plain(_) | Line::Branch { .. } => at += 1,
        }
    }
    let (accept, reject) = (at, at + 1);
    let mut program = Vec::with_capacity(reject + 1);
    for line in lines.drain(..) {
        let here = program.len();
        let distance = |goto: Goto| {
            let to = match goto {
                Goto::Next => here + 1,
                Goto::Accept => accept,
                Goto::Reject => reject,
                Goto::Label(label) => labels
                    .iter()
                    .find(|(l, _)| *l == label)
                    .map_or(reject, |&(_, at)| at),
            };
            u8::try_from(to - here - 1).unwrap_or(u8::MAX)
        };
        match line {
            Line::Plain(instruction) => program.push(instruction),
            Line::Branch { code, k, yes, no } => {
                program.push(instruction(code, distance(yes), distance(no), k));
            }
            Line::Label(_) => {}
        }
    }
    program.push(instruction(BPF_RET | BPF_K, 0, 0, snap));
    program.push(instruction(BPF_RET | BPF_K, 0, 0, 0));
    program
}
