//! What the benchmarks share: a network namespace, a bare client that records nothing, nginx to hold
//! it against, and medians.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each benchmark uses its own part"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "benchmarks start processes, connect, read the clock and divide"
)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::epoll;
use socket2::{Domain, Socket, Type};

pub(crate) const TARGET: &str = "127.0.0.1:8088";
pub(crate) const CONCURRENCY: usize = 64;
/// What the probe sends, but for its X-Request-Id.
pub(crate) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nUser-Agent: bare\r\n\
    Accept: */*\r\nX-Request-Id: 20261122T234816-6775-12345\r\nConnection: close\r\n\r\n";

/// Rounds and connections, as the command line has them behind `--`.
pub(crate) fn rounds_and_connections() -> (usize, usize) {
    // Cargo hands `--bench` on.
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    (
        numbers.next().unwrap_or(7),
        numbers.next().unwrap_or(30_000),
    )
}

/// Moves into a network namespace of our own, with its loopback up.
pub(crate) fn enter_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    run("ip", &["link", "set", "lo", "up"])
}

/// The loop that records nothing: connect, write, read until the end, close.
pub(crate) fn bare_loop(connections: usize) -> io::Result<Duration> {
    let target: SocketAddr = TARGET.parse().map_err(io::Error::other)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut open: Vec<Option<(TcpStream, bool)>> = (0..CONCURRENCY).map(|_| None).collect();
    let mut events = vec![
        epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        256
    ];
    let mut buffer = vec![0; 64 * 1024];
    let interest = epoll::EventFlags::IN
        | epoll::EventFlags::OUT
        | epoll::EventFlags::RDHUP
        | epoll::EventFlags::ET;
    let connect = |slot: usize| -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let stream = TcpStream::from(socket);
        epoll::add(
            &epoll,
            &stream,
            epoll::EventData::new_u64(slot as u64),
            interest,
        )?;
        Ok(stream)
    };
    let began = Instant::now();
    let mut started = 0;
    let mut ended = 0;
    for (slot, entry) in open.iter_mut().enumerate().take(connections) {
        *entry = Some((connect(slot)?, false));
        started += 1;
    }
    while ended < connections {
        let ready = epoll::wait(&epoll, &mut events[..], None)?;
        for event in &events[..ready] {
            let slot = usize::try_from(event.data.u64()).unwrap_or(0);
            let Some((stream, asked)) = &mut open[slot] else {
                continue;
            };
            if !*asked {
                stream.write_all(REQUEST)?;
                *asked = true;
            }
            let flags = event.flags;
            let over = loop {
                if !flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP) {
                    break false;
                }
                match stream.read(&mut buffer) {
                    Ok(0) => break true,
                    Ok(n) if n < buffer.len() && !flags.contains(epoll::EventFlags::RDHUP) => {
                        break false;
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                    Err(error) => return Err(error),
                }
            };
            if over {
                ended += 1;
                open[slot] = None;
                if started < connections {
                    open[slot] = Some((connect(slot)?, false));
                    started += 1;
                }
            }
        }
    }
    Ok(began.elapsed())
}

pub(crate) fn rate(connections: usize, span: Duration) -> f64 {
    connections as f64 / span.as_secs_f64()
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn run(tool: &str, args: &[&str]) -> io::Result<()> {
    let status = Command::new(tool).args(args).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{tool} {args:?}: {status}")))
    }
}

pub(crate) struct Nginx(Child);

impl Nginx {
    pub(crate) fn start(folder: &Path) -> io::Result<Nginx> {
        let path = folder.join("nginx.conf");
        let at = folder.display();
        fs::write(
            &path,
            format!(
                "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{ access_log off; server {{ listen {TARGET} backlog=4096;\n\
                 location / {{ return 200 'ok\\n'; }} }} }}\n"
            ),
        )?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()?;
        while TcpStream::connect(TARGET).is_err() {
            std::thread::yield_now();
        }
        Ok(Nginx(child))
    }

    pub(crate) fn stop(mut self) -> io::Result<()> {
        terminate(&self.0, Signal::SIGTERM);
        self.0.wait().map(drop)
    }
}

pub(crate) fn terminate(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    // It may have ended by itself; waiting shows that.
    let _ = kill(pid, signal);
}
