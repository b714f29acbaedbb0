//! What the raw engine costs: handshakes a second against a listener with a deep backlog on loopback,
//! beside a bare loop of the kernel's sockets, both on one core and in turn; the same of its TCP alone
//! against a simulated server in memory; and the memory of a million connections held open. Needs root.
//!
//!     cargo bench --bench raw [-- ROUNDS [CONNECTIONS]]
//!
//! The bare loop is socket(), connect() and epoll, and nothing else; of the raw engine's connections the time from
//! the first SYN to the last SYN-ACK counts, its guards stand before. In memory each handshake is three
//! packets built with their checksums and parsed again by both ends, and a RST. Both must keep their
//! bounds, [`ON_LINK`] and [`IN_MEMORY`] of the bare loop's rate, and a million connections take less
//! than [`HELD_MIB`].
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads the clock, connects, starts a thread and divides"
)]

mod common;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use common::{enter_namespace, median, rate};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::Pid;
use probe::connect::raw::bench::handshakes;
use probe::connect::raw::engine::{
    Close, Config, Engine, Event, Handshake, Id, SendOptions, Transmit,
};
use probe::time::Clock;
use probe::wire::{Flags, Packet, Segment, parse};
use rustix::event::epoll;
use socket2::{Domain, SockAddr, Socket, Type};

/// The bound on the engine's rate on a real link, in rates of the bare loop.
const ON_LINK: f64 = 1.3;
/// The same for its TCP alone.
const IN_MEMORY: f64 = 3.0;
/// Connections of a round: each takes a descriptor of the bare loop's.
const CONNECTIONS: usize = 15_000;
/// Source addresses of the engine's: each guard's port serves once from each.
const SOURCES: u8 = 15;
/// The bound on what a million connections take, the process's own bookkeeping included.
const HELD_MIB: f64 = 400.0;
/// How many are held for that.
const HELD: usize = 1_000_000;
/// Handshakes under way at a time.
const BATCH: usize = 256;
/// Rounds are longer than for benchmarks of the kernel: a connection takes about a microsecond.
const PER_KERNEL_CONNECTION: usize = 10;

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9)), 9_292);

fn main() -> io::Result<()> {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let rounds = numbers.next().unwrap_or(9);
    let connections = numbers.next().unwrap_or(CONNECTIONS);
    enter_namespace()?;
    for (name, value) in [
        ("core/somaxconn", "1000000"),
        ("ipv4/tcp_max_syn_backlog", "1000000"),
        ("ipv4/tcp_syncookies", "0"),
    ] {
        fs::write(format!("/proc/sys/net/{name}"), value)?;
    }
    setrlimit(Resource::RLIMIT_NOFILE, 20_000, 20_000)?;
    one_core()?;
    let names = [
        "bare sockets",
        "raw engine, on loopback",
        "its TCP, in memory",
    ];
    let mut rates = [const { Vec::new() }; 3];
    let mut ratios = [const { Vec::new() }; 3];
    for round in 1..=rounds {
        let many = connections * PER_KERNEL_CONNECTION;
        let now = [
            rate(connections, bare_loop(connections)?),
            rate(connections, raw_loop(connections)?),
            rate(many, engine_loop(many)),
        ];
        eprintln!(
            "round {round}: {:.0} {:.0} {:.0} per second",
            now[0], now[1], now[2]
        );
        for (i, rate) in now.into_iter().enumerate() {
            rates[i].push(rate);
            ratios[i].push(rate / now[0]);
        }
    }
    println!("handshakes per second: {connections} connections, {rounds} rounds, medians");
    let mut times = [0.0; 3];
    for i in 0..3 {
        times[i] = median(&mut ratios[i]);
        let rate = median(&mut rates[i]);
        println!("{:<24} {rate:>9.0}  {:.2}", names[i], times[i]);
    }
    let held = hold(HELD)?;
    println!(
        "{HELD} connections held open in memory: {held:.1} MiB more, {:.0} bytes each",
        held * 1_048_576.0 / HELD as f64
    );
    assert!(
        times[1] >= ON_LINK,
        "{:.2} of the bare loop's rate on loopback",
        times[1]
    );
    assert!(
        times[2] >= IN_MEMORY,
        "{:.2} of the bare loop's rate in memory",
        times[2]
    );
    assert!(held < HELD_MIB, "{held:.1} MiB for {HELD} connections");
    Ok(())
}

/// Keeps this thread, and those that it starts, on the core it is on.
fn one_core() -> io::Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &here)?)
}

/// A listener that nobody accepts from.
fn listener() -> io::Result<(Socket, SocketAddr)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.listen(1_000_000)?;
    let target = listener.local_addr()?.as_socket();
    let target = target.ok_or_else(|| io::Error::other("no address"))?;
    Ok((listener, target))
}

/// Connects without waiting, and learns of each handshake by epoll, as whoever holds many must. To as
/// many listeners as the engine has addresses: to one alone the kernel would spend half its time looking
/// for free ports.
fn bare_loop(connections: usize) -> io::Result<Duration> {
    let listeners: io::Result<Vec<_>> = (0..SOURCES).map(|_| listener()).collect();
    let listeners = listeners?;
    let targets: Vec<SockAddr> = listeners.iter().map(|&(_, at)| at.into()).collect();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let nothing = epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    };
    let mut events = [nothing; BATCH];
    let mut open = Vec::with_capacity(connections);
    let mut connected = 0;
    let began = Instant::now();
    let mut next = targets.iter().cycle().take(connections);
    while connected < connections {
        for target in next.by_ref().take(BATCH) {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
            match socket.connect(target) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let interest = epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, &socket, epoll::EventData::new_u64(0), interest)?;
            open.push(socket);
        }
        connected += epoll::wait(&epoll, &mut events[..], None)?;
    }
    let took = began.elapsed();
    for socket in &open {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    drop((open, listeners));
    Ok(took)
}

fn raw_loop(connections: usize) -> io::Result<Duration> {
    let (_listener, target) = listener()?;
    handshakes(target, connections as u64, SOURCES)
}

/// Opens connections by the engine, a batch at a time, and resets each.
fn engine_loop(connections: usize) -> Duration {
    let clock = Clock::start();
    let mut world = World::new();
    let began = Instant::now();
    let mut opened = 0;
    while opened < connections {
        let now = clock.now();
        for _ in 0..BATCH.min(connections - opened) {
            world.open(&clock, opened % 400_000);
            opened += 1;
        }
        world.run(&clock);
        for id in std::mem::take(&mut world.established) {
            world.engine.close(now, id, Close::Rst);
        }
        world.run(&clock);
        world.engine.handle_timeout(now);
    }
    let span = began.elapsed();
    assert_eq!(world.accepted, connections);
    assert_eq!(world.reset, connections);
    assert!(world.engine.is_empty());
    span
}

/// Opens connections and keeps them; returns by how many MiB the process grew.
fn hold(connections: usize) -> io::Result<f64> {
    let clock = Clock::start();
    let before = resident_mib()?;
    let mut world = World::new();
    for i in 0..connections {
        world.open(&clock, i);
        if i % BATCH == BATCH - 1 {
            world.run(&clock);
            world.established.clear();
        }
    }
    world.run(&clock);
    assert_eq!(
        (world.accepted, world.engine.len()),
        (connections, connections)
    );
    Ok(resident_mib()? - before)
}

/// What the process has in memory.
fn resident_mib() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1_024.0)
        .ok_or_else(|| io::Error::other("no VmRSS in /proc/self/status"))
}

/// The engine, and a server that answers every SYN and keeps nothing.
struct World {
    engine: Engine,
    established: Vec<Id>,
    /// Handshakes that the server saw completed, and connections that it saw reset.
    accepted: usize,
    reset: usize,
}

impl World {
    fn new() -> World {
        let config = Config {
            server: SERVER,
            mss: 1460,
            receive_buffer: 65_536,
            window_scale: 10,
            seed: 1,
        };
        World {
            engine: Engine::new(config),
            established: Vec::new(),
            accepted: 0,
            reset: 0,
        }
    }

    /// Begins the connection of that number: each address has 50,000 ports.
    fn open(&mut self, clock: &Clock, number: usize) {
        let [host, port] = [number / 50_000, 10_000 + number % 50_000];
        let host = Ipv4Addr::new(10, 0, 0, u8::try_from(host).unwrap_or(u8::MAX));
        let client = SocketAddr::from((host, u16::try_from(port).unwrap_or(u16::MAX)));
        let opened = self.engine.open(clock.now(), client, Handshake::Full);
        assert!(opened.is_some(), "{client} is taken");
    }

    /// Lets packets go to and fro until both ends are quiet.
    fn run(&mut self, clock: &Clock) {
        let mut there = [0; 128];
        let mut back = [0; 128];
        loop {
            let now = clock.now();
            let mut answers = 0;
            while let Some(transmit) = self.engine.poll_transmit(now) {
                let len = transmit.write(b"", &mut there).unwrap_or(0);
                let Ok(Packet::Segment(segment)) = parse(now, &there[..len], len) else {
                    unreachable!("no segment: {transmit:?}");
                };
                let Some(answer) = self.serve(&segment) else {
                    continue;
                };
                let len = answer.write(b"", &mut back).unwrap_or(0);
                if let Ok(Packet::Segment(segment)) = parse(now, &back[..len], len) {
                    let whose = self.engine.handle_segment(now, &segment, &mut |_, _| {});
                    assert!(whose.is_some());
                    answers += 1;
                }
            }
            while let Some((id, event)) = self.engine.poll_event() {
                match event {
                    Event::Connected => self.established.push(id),
                    Event::Gone => {}
                    other => unreachable!("{other:?}"),
                }
            }
            if answers == 0 {
                return;
            }
        }
    }

    fn serve(&mut self, segment: &Segment<'_>) -> Option<Transmit> {
        if segment.flags.rst() {
            self.reset += 1;
        }
        if segment.flags == Flags::ACK {
            self.accepted += 1;
        }
        let (value, _) = segment
            .options
            .timestamps
            .filter(|_| segment.flags == Flags::SYN)?;
        Some(Transmit {
            id: None,
            client: segment.dst,
            server: segment.src,
            seq: value,
            ack: segment.seq.wrapping_add(1),
            flags: Flags::SYN.with(Flags::ACK),
            window: 65_535,
            options: SendOptions {
                mss: Some(1460),
                sack_permitted: true,
                timestamps: Some((value, value)),
                window_scale: Some(10),
                ..SendOptions::default()
            },
            ip_id: 0,
            flow_label: 0,
            payload: 0..0,
        })
    }
}
